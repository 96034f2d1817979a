//! `doctor`: what of this machine and project will not work, before it is needed.

use std::env;
use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use relive::doctor::{self, Examination, Finding, State};

use super::{fail, print};
use crate::exit::Exit;
use crate::flags;
use crate::signals::Relay;

/// How long the patient lives if nobody ends it.
const LIFE: Duration = Duration::from_secs(60);

/// Looks, and says what was found: exit code 1 if relive cannot work here.
#[must_use]
pub fn run(flags: &flags::Doctor) -> Exit {
    if flags.patient {
        thread::sleep(LIFE);
        return Exit::Done;
    }
    // A file that would become too large is a finding, and no end.
    let _relay = Relay::start();
    let own = env::current_exe().map_err(|why| relive::Error::file("relive", "find the executable of", why));
    let (cwd, own) = match (super::cwd(), own) {
        (Ok(cwd), Ok(own)) => (cwd, own),
        (Err(why), _) | (_, Err(why)) => return fail(&why),
    };
    let findings = doctor::examine(&Examination {
        cargo: super::cargo(),
        cwd,
        cargo_args: flags.session.cargo_args(),
        agent: crate::AGENT,
        patient: (own, ["doctor", "--patient"].map(Into::into).to_vec()),
    });
    let exit = print(page(&findings).as_bytes());
    let bad = findings.iter().any(|finding| finding.state == State::Bad);
    if exit == Exit::Done && bad { Exit::No } else { exit }
}

fn page(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let state = match finding.state {
            State::Good => "ok",
            State::Limited => "limited",
            State::Bad => "BAD",
        };
        let what = finding.what.replace('\n', "\n                     ");
        let _ = writeln!(out, "{state:8} {:11} {what}", finding.subject);
        if !finding.help.is_empty() {
            let _ = writeln!(out, "{:20} = help: {}", "", finding.help);
        }
    }
    let last = match findings.iter().map(|finding| finding.state).max() {
        Some(State::Bad) => "relive cannot work here as things are.",
        Some(State::Limited) => "relive works here, with what is said above missing.",
        Some(State::Good) | None => "Everything is as it should be.",
    };
    out + last + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(state: State, subject: &'static str, what: &str, help: &str) -> Finding {
        Finding { subject, state, what: what.into(), help: help.into() }
    }

    #[test]
    fn the_worst_is_what_it_comes_to() {
        let good = finding(State::Good, "disk", "there is room", "");
        let limited = finding(State::Limited, "priority", "it is not permitted", "permit it");
        let bad = finding(State::Bad, "ptrace", "no\nway", "find one");
        assert_eq!(
            page(std::slice::from_ref(&good)),
            "ok       disk        there is room\nEverything is as it should be.\n"
        );
        assert_eq!(
            page(&[limited, bad, good]),
            "limited  priority    it is not permitted\n                     = help: permit it\n\
             BAD      ptrace      no\n                     way\n                     = help: find one\n\
             ok       disk        there is room\nrelive cannot work here as things are.\n"
        );
    }
}
