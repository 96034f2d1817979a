//! relive and the program under it, seen from outside: beats, events, threads, the end.
//!
//! This process is made the reaper of its descendants before the first start: a program whose relive was killed is then
//! its child, and says its exit code.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::subject::Subject;
use super::trace::What;
use crate::events::Events;
use crate::files::context;
use crate::patch::Patch;

/// Longest wait for a build and a start.
const START: Duration = Duration::from_secs(120);
/// Longest wait for anything else.
const SOON: Duration = Duration::from_secs(10);
/// Pause between two looks.
const GLANCE: Duration = Duration::from_millis(2);
/// Beats after the kill in which calls may end that were begun before.
const SETTLING: usize = 3;
/// Beats that are looked at after that.
const WATCHED: usize = 5;

/// A started relive, and its program once it runs. Whatever still lives is killed when it is dropped.
pub(crate) struct Session<'a> {
    subject: &'a Subject,
    pub(crate) relive: Pid,
    program: Option<Pid>,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    events: Events,
}

/// A line of the program.
struct Beat {
    /// The generations returned since the line before.
    generations: BTreeSet<u32>,
    /// Workers that did nothing since the line before.
    idle: u32,
}

impl Session<'_> {
    /// Starts relive and waits until the program beats. At most one rustc call is allowed for that.
    pub(crate) fn start(subject: &Subject, rustc_calls: usize) -> Result<Session<'_>, String> {
        let mut session = spawn(subject)?;
        let until = Instant::now() + START;
        let relive = session.relive;
        session.program = Some(session.events.started(START, || ended(relive))?);
        session.beat(until)?;
        let calls = session.stderr().lines().filter(|line| line.trim_start().starts_with("Compiling ")).count();
        if calls > rustc_calls {
            return Err(format!("the start took {calls} rustc calls instead of {rustc_calls}"));
        }
        Ok(session)
    }

    /// Waits for the answer to the edit, which must be that it was applied, to the executable as well if it is kept up to date.
    pub(crate) fn applied(&mut self) -> Result<(), String> {
        let relive = self.relive;
        let patch = self.events.wait(SOON, || ended(relive), Patch::parse)??;
        if patch.outcome != "applied" {
            return Err(format!("not applied: {}", patch.line));
        }
        if self.subject.what == What::Executable {
            let executable = |line: &str| line.starts_with("{\"event\":\"executable\"").then(|| line.to_owned());
            let line = self.events.wait(SOON, || ended(relive), executable)?;
            if !line.contains("\"outcome\":\"updated\"") {
                return Err(format!("the executable: {line}"));
            }
        }
        Ok(())
    }

    /// Looks whether the program does what it should from now on: all threads run, and all calls return one generation.
    pub(crate) fn settled(&mut self) -> Result<u32, String> {
        while self.lines.try_recv().is_ok() {}
        let until = Instant::now() + SOON;
        self.free()?;
        for _ in 0..SETTLING {
            self.beat(until)?;
        }
        let mut seen = BTreeSet::new();
        let (mut beats, mut all_worked) = (0, false);
        while beats < WATCHED || !all_worked {
            let beat = self.beat(until).map_err(|why| format!("{why}; all workers worked: {all_worked}"))?;
            seen.extend(beat.generations);
            all_worked |= beat.idle == 0;
            beats += 1;
        }
        self.free()?;
        match seen.first() {
            Some(only) if seen.len() == 1 => Ok(*only),
            _ => Err(format!("a mix of generations: {seen:?}")),
        }
    }

    /// Closes the program's stdin, and waits until it ended with exit code 0, in `generation` to the end.
    pub(crate) fn end(mut self, generation: u32, relive_lives: bool) -> Result<(), String> {
        self.stdin = None;
        let waited = if relive_lives { self.relive } else { self.program.unwrap_or(self.relive) };
        let status = reap(waited, SOON).ok_or("it does not end when its stdin is closed")?;
        while let Ok(line) = self.lines.recv() {
            let beat = parse(&line)?;
            if beat.generations.iter().any(|seen| *seen != generation) {
                return Err(format!("another generation than {generation} at the end: {line}"));
            }
        }
        if status == WaitStatus::Exited(waited, 0) { Ok(()) } else { Err(format!("it ended badly: {status:?}")) }
    }

    /// relive's own text.
    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.subject.path("relive.err")).unwrap_or_default()
    }

    /// Whether no thread of the program is stopped or traced.
    fn free(&self) -> Result<(), String> {
        let tasks = format!("/proc/{}/task", self.program.unwrap_or(self.relive));
        for task in fs::read_dir(&tasks).map_err(|why| format!("the program is gone: {why}"))?.flatten() {
            let Ok(status) = fs::read_to_string(task.path().join("status")) else { continue }; // it ended
            let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map_or("", str::trim);
            let (state, tracer) = (field("State:"), field("TracerPid:"));
            if state.starts_with(['t', 'T', 'Z', 'X']) || tracer != "0" {
                return Err(format!("thread {:?} is in state {state}, traced by {tracer}", task.file_name()));
            }
        }
        Ok(())
    }

    fn beat(&self, until: Instant) -> Result<Beat, String> {
        let left = until.saturating_duration_since(Instant::now());
        let line = self.lines.recv_timeout(left).map_err(|why| format!("the program beats no more ({why})"))?;
        parse(&line)
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        for pid in [Some(self.relive), self.program].into_iter().flatten() {
            // Only what is still there, and a child or a child's child: an unreaped number is nobody else's.
            if fs::exists(format!("/proc/{pid}")).unwrap_or(false) {
                let _ = kill(pid, Signal::SIGKILL);
                let _ = reap(pid, SOON);
            }
        }
    }
}

fn spawn(subject: &Subject) -> Result<Session<'_>, String> {
    let err = subject.path("relive.err");
    let events = subject.path("events");
    let reader = Events::at(events.clone());
    let mut command = Command::new(&subject.relive);
    command.arg("run").arg("--manifest-path").arg(subject.path("Cargo.toml")).arg("--events").arg(&events);
    if subject.what == What::Executable {
        command.arg("--update-binary");
    }
    command.env("CARGO_TARGET_DIR", subject.path("target")).current_dir(subject.path(""));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(File::create(&err).map_err(context("create", &err))?);
    crate::steps::without_cargos_variables(&mut command);
    let mut child = command.spawn().map_err(context("start", &subject.relive))?;
    let (sender, lines) = mpsc::channel();
    let stdout = child.stdout.take();
    thread::spawn(move || {
        let lines = stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines().map_while(Result::ok));
        lines.map(|line| sender.send(line)).take_while(Result::is_ok).for_each(drop);
    });
    let relive = Pid::from_raw(child.id().cast_signed());
    Ok(Session { subject, relive, program: None, stdin: child.stdin.take(), lines, events: reader })
}

/// Starts the executable on disk, and gives the generation that all its calls return.
pub(crate) fn start_executable(subject: &Subject) -> Result<u32, String> {
    let exe = subject.path("target/debug/kill-grid-program");
    let mut child =
        Command::new(&exe).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(context("start", &exe))?;
    let (mut stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let lines = stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines().map_while(Result::ok));
    let mut seen = BTreeSet::new();
    for line in lines {
        seen.extend(parse(&line)?.generations);
        if !seen.is_empty() {
            stdin = None; // it ends
        }
    }
    drop(stdin);
    let status = child.wait().map_err(context("wait for", &exe))?;
    match seen.first() {
        Some(only) if seen.len() == 1 && status.success() => Ok(*only),
        _ => Err(format!("the executable ends with {status}, after {seen:?}")),
    }
}

/// What to say when relive has ended.
fn ended(relive: Pid) -> Option<String> {
    reap(relive, Duration::ZERO).map(|status| format!("relive ended: {status:?}"))
}

/// Waits for the end of a child, at most so long.
fn reap(pid: Pid, limit: Duration) -> Option<WaitStatus> {
    let until = Instant::now() + limit;
    loop {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(_) if Instant::now() < until => thread::sleep(GLANCE),
            Ok(WaitStatus::StillAlive) | Err(_) => return None,
            Ok(status) => return Some(status),
        }
    }
}

fn parse(line: &str) -> Result<Beat, String> {
    let fields = || -> Option<Beat> {
        let (_, rest) = line.strip_prefix("beat=")?.split_once(" gens=")?;
        let (generations, idle) = rest.split_once(" idle=")?;
        let generations = generations.split('+').filter(|text| !text.is_empty());
        let generations = generations.map(|text| text.parse().ok()).collect::<Option<_>>()?;
        Some(Beat { generations, idle: idle.parse().ok()? })
    };
    fields().ok_or_else(|| format!("the program says: {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_is_told_from_anything_else() {
        let beat = parse("beat=12 gens=1+2 idle=3").expect("a beat");
        assert_eq!((beat.generations, beat.idle), ([1, 2].into(), 3));
        assert!(parse("beat=12 gens= idle=4").expect("a beat").generations.is_empty());
        assert!(parse("CORRUPT function 3").is_err());
        assert!(parse("beat=12 gens=1+x idle=0").is_err());
    }
}
