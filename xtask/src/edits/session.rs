//! relive and the program under it: files saved, verdicts waited for, lines asked.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::process::Process;
use super::subject::Subject;
use crate::events::Events;
use crate::files::context;
use crate::patch::Patch;

/// Longest wait for a build and a start.
const START: Duration = Duration::from_secs(600);
/// Longest wait for the answer to an edit.
const VERDICT: Duration = Duration::from_secs(60);

/// A running relive. Its program is killed with it when it is dropped.
pub(crate) struct Session<'a> {
    subject: &'a Subject,
    pub(crate) program: Process,
    events: Events,
    /// The program's own number; `program` is relive, whose stdin and stdout the program has.
    pid: Option<Pid>,
    /// Switches so far.
    switches: u64,
    /// What was said last about the executable on disk.
    executable: Option<Executable>,
}

/// Up to which switch the executable on disk was brought, or why not.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Executable {
    switch: u64,
    kept: Option<String>,
}

impl Executable {
    /// Reads a line of the event file; `None` if it is about something else.
    fn parse(line: &str) -> Option<Executable> {
        let rest = line.strip_prefix("{\"event\":\"executable\",\"generation\":")?;
        let (switch, rest) = rest.split_once(',')?;
        let reason = rest.rsplit_once(",\"reason\":\"").and_then(|(_, reason)| reason.rsplit_once("\",\"ms\":"));
        Some(Executable { switch: switch.parse().ok()?, kept: reason.map(|(reason, _)| reason.to_owned()) })
    }
}

impl Session<'_> {
    /// Starts relive on the sources as they are, and waits until the program runs.
    pub(crate) fn start(subject: &Subject) -> Result<Session<'_>, String> {
        let (events, err) = (subject.path("events"), subject.path("relive.err"));
        let reader = Events::at(events.clone());
        let mut command = Command::new(&subject.relive);
        command
            .args(["run", "--update-binary", "--offline", "--manifest-path"])
            .arg(subject.manifest())
            .arg("--events")
            .arg(events);
        command.stderr(File::create(&err).map_err(context("create", &err))?);
        environment(&mut command, subject, "target");
        let mut session = Session {
            subject,
            program: Process::start(command)?,
            events: reader,
            pid: None,
            switches: 0,
            executable: None,
        };
        let program = &mut session.program;
        let started = session.events.started(START, || program.ended());
        session.pid = Some(started.map_err(|why| format!("{why}\n{}", stderr(subject)))?);
        Ok(session)
    }

    /// Saves files, and waits for the verdict on all of them.
    pub(crate) fn save(&mut self, files: &[(String, String)]) -> Result<Patch, String> {
        let read = files.iter().filter(|(path, _)| self.subject.is_read(path));
        let last = read.map(|(path, _)| self.subject.path(path)).next_back().unwrap_or_default();
        self.subject.save(files)?;
        // The first of several files may become a change of its own; the one that counts has the last.
        let (last, mut seen) = (format!("\"{}\"", last.display()), false);
        let (program, executable) = (&mut self.program, &mut self.executable);
        let verdict = self.events.wait(
            VERDICT,
            || program.ended().map(|status| format!("relive ended: {status}")),
            |line| {
                *executable = Executable::parse(line).or_else(|| executable.take());
                seen |= line.starts_with("{\"event\":\"change\"") && line.contains(&last);
                let patch = Patch::parse(line).filter(|_| seen)?;
                patch.map_or_else(|why| Some(Err(why)), |patch| (patch.outcome != "superseded").then_some(Ok(patch)))
            },
        );
        let patch: Patch = verdict.map_err(|why| format!("{why}\n{}", stderr(self.subject)))??;
        self.switches += u64::from(patch.outcome == "applied");
        Ok(patch)
    }

    /// The executable on disk, once it is what the switches so far made of the program; or why it is not.
    pub(crate) fn executable(&mut self) -> Result<Result<PathBuf, String>, String> {
        let (switches, program) = (self.switches, &mut self.program);
        let mut now = self.executable.take().filter(|now| now.switch == switches);
        if now.is_none() && switches > 0 {
            let ended = || program.ended().map(|status| format!("relive ended: {status}"));
            let wanted = |line: &str| Executable::parse(line).filter(|now| now.switch == switches);
            let found = self.events.wait(VERDICT, ended, wanted);
            now = Some(found.map_err(|why| format!("the executable on disk: {why}\n{}", stderr(self.subject)))?);
        }
        self.executable.clone_from(&now);
        let kept = now.and_then(|now| now.kept);
        Ok(kept.map_or_else(|| Ok(self.subject.path("target/debug/edits-program")), Err))
    }

    /// Closes the program's stdin; it and relive have to end well.
    pub(crate) fn end(&mut self) -> Result<(), String> {
        self.program.end()?;
        self.pid = None;
        Ok(())
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let program = self.pid.filter(|pid| parent(*pid) == Some(self.program.id()));
        if let Some(program) = program {
            let _ = kill(program, Signal::SIGKILL); // relive ends after its program
        }
    }
}

/// The environment of every build and start: one target directory, no warnings.
pub(crate) fn environment(command: &mut Command, subject: &Subject, target: &str) {
    command.env("CARGO_TARGET_DIR", subject.path(target)).env("RUSTFLAGS", "--cap-lints=allow");
    command.current_dir(subject.path("program"));
    crate::steps::without_cargos_variables(command);
}

fn stderr(subject: &Subject) -> String {
    let text = fs::read_to_string(subject.path("relive.err")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.split_at(lines.len().saturating_sub(30)).1.join("\n")
}

/// The parent of a process, if it is there.
fn parent(pid: Pid) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::Executable;

    #[test]
    fn what_became_of_the_executable_is_read() {
        let line =
            |outcome: &str| format!("{{\"event\":\"executable\",\"generation\":3,\"outcome\":{outcome},\"ms\":1.5}}");
        let updated = Executable::parse(&line("\"updated\",\"file\":\"/x\",\"reason\":null"));
        assert_eq!(updated, Some(Executable { switch: 3, kept: None }));
        let kept = Executable::parse(&line("\"kept\",\"file\":\"/x\",\"reason\":\"no `a`\""));
        assert_eq!(kept, Some(Executable { switch: 3, kept: Some("no `a`".to_owned()) }));
        assert_eq!(Executable::parse("{\"event\":\"patch\"}"), None);
    }
}
