//! Rule `no-agent`: the running program cannot be reached.

use super::rule::{Reason, Rule};
use super::{DeltaFacts, Item};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "no-agent",
    title: "The running program cannot be reached",
    what: "relive's agent does not answer in the running program, so nothing can be loaded into it.",
    why: "Patches are opened by the agent, a small library that is preloaded at the start. It is missing in \
          statically linked programs, where the system does not preload, and when the program was replaced or \
          cut off from it. Where a program restricts the system calls of all its threads (seccomp), the agent \
          is not asked either: what it does could be the program's end.",
    example: "> the program cannot be reached: the agent of process 4711 does not answer",
    fix: "Build the program as an ordinary dynamically linked executable for glibc, without `setuid` bits, and \
          start it with `cargo relive run`.",
};

pub(super) fn check(delta: &DeltaFacts, reasons: &mut Vec<Reason>) {
    if let Some(why) = &delta.no_agent {
        let message = format!("the program cannot be reached: {why}");
        let help =
            "Only a dynamically linked program for glibc can be reached, and no seccomp filter may be on all threads.";
        reasons.push(RULE.refuse(&Item::named("the running program"), message, help));
    }
}

#[cfg(test)]
mod tests {
    use super::super::DeltaFacts;
    use super::super::tests::told;

    #[test]
    fn it_says_why() {
        let delta =
            DeltaFacts { no_agent: Some("the agent of process 4711 does not answer".into()), ..DeltaFacts::default() };
        assert_eq!(
            told(delta),
            [
                "no-agent: `the running program`: the program cannot be reached: the agent of process 4711 does not answer",
            ]
        );
    }
}
