//! relive and the program under it: started, edited, ended as by a user.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::http::Connection;
use super::source::{Edit, Source};
use crate::events::Events;
use crate::files::context;
use crate::patch::Patch;
use crate::usage::{Usage, ended};

/// Longest wait for a build and a start.
const START: Duration = Duration::from_secs(30 * 60);
/// Longest wait for the answer to an edit.
const ANSWER: Duration = Duration::from_secs(180);
/// Longest wait for anything else.
const SOON: Duration = Duration::from_secs(20);
/// relive's exit code when Ctrl-C ended the program.
const INTERRUPTED: i32 = 130;
/// Pause between two looks.
const GLANCE: Duration = Duration::from_millis(2);
/// After how long Ctrl-C is pressed again.
const AGAIN: Duration = Duration::from_secs(2);

/// A running relive with its program; both are killed when it is dropped.
pub(crate) struct Session<'a> {
    source: &'a Source,
    relive: Child,
    program: Option<Pid>,
    pub(crate) port: u16,
    events: Events,
    /// Seconds until the program was started.
    pub(crate) start_seconds: f64,
}

impl Session<'_> {
    /// Starts relive, and waits until the program answers.
    pub(crate) fn start<'a>(source: &'a Source, relive: &Path) -> Result<Session<'a>, String> {
        let start = Instant::now();
        let mut session = spawn(source, relive)?;
        let (events, relive) = (&mut session.events, &mut session.relive);
        let started = events.started(START, || ended(relive));
        session.program = Some(started.map_err(|why| format!("{why}\n{}", session.stderr()))?);
        session.start_seconds = start.elapsed().as_secs_f64();
        let until = Instant::now() + SOON;
        while let Err(why) = Connection::open(session.port) {
            if Instant::now() > until {
                return Err(format!("the program does not listen: {why}\n{}", session.stderr()));
            }
            thread::sleep(GLANCE);
        }
        Ok(session)
    }

    /// Saves an edit, and waits for the answer to it.
    pub(crate) fn edit(&mut self, edit: &Edit) -> Result<Patch, String> {
        self.source.save(edit)?;
        let answer = self.events.wait(
            ANSWER,
            || ended(&mut self.relive),
            |line| {
                let patch = Patch::parse(line)?;
                // The answer to a save that another one took over comes with that.
                patch.map_or_else(|why| Some(Err(why)), |patch| (patch.outcome != "superseded").then_some(Ok(patch)))
            },
        );
        let patch = answer.map_err(|why| format!("{why}\n{}", self.stderr()))??;
        let right = patch.outcome == "applied" || (patch.outcome == "unchanged" && !edit.changes_code());
        if right { Ok(patch) } else { Err(format!("`{}` was not applied: {}", edit.name, patch.line)) }
    }

    /// The page, once.
    pub(crate) fn page(&self) -> Result<Vec<u8>, String> {
        Connection::open(self.port)?.get_last()
    }

    /// relive's process number.
    pub(crate) fn relive_id(&self) -> String {
        self.relive.id().to_string()
    }

    /// What the program and relive hold.
    pub(crate) fn usage(&self) -> Result<String, String> {
        let of = |pid: Pid| Usage::of(pid).map(|usage| usage.to_string());
        let relive = Pid::from_raw(self.relive.id().cast_signed());
        Ok(format!("program {}; relive {}", of(self.program.unwrap_or(relive))?, of(relive)?))
    }

    /// The packages that cargo compiled, in its words.
    pub(crate) fn compiled(&self) -> Vec<String> {
        super::builds::compiled(&self.stderr())
    }

    /// Ends it as Ctrl-C in a terminal does. The program ends with exit code 0, or by the signal if it was not yet ready. Its
    /// library has a moment between taking the signal over and listening for it, in which one is lost: like a user, this
    /// presses again.
    pub(crate) fn quit(mut self) -> Result<(), String> {
        let group = Pid::from_raw(self.relive.id().cast_signed());
        let until = Instant::now() + SOON;
        let mut press = Instant::now();
        while Instant::now() < until {
            if Instant::now() >= press {
                killpg(group, Signal::SIGINT).map_err(|why| format!("cannot send Ctrl-C: {why}"))?;
                press += AGAIN;
            }
            if let Some(status) = self.relive.try_wait().map_err(|why| format!("cannot wait for relive: {why}"))? {
                self.program = None;
                return if matches!(status.code(), Some(0 | INTERRUPTED)) {
                    Ok(())
                } else {
                    Err(format!("relive ended: {status}\n{}", self.stderr()))
                };
            }
            thread::sleep(GLANCE);
        }
        Err(format!("it does not end at Ctrl-C\n{}", self.stderr()))
    }

    fn stderr(&self) -> String {
        fs::read_to_string(self.source.path("relive.err")).unwrap_or_default()
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if self.relive.try_wait().is_ok_and(|status| status.is_some()) && self.program.is_none() {
            return;
        }
        let program = self.program.filter(|pid| fs::exists(format!("/proc/{pid}")).unwrap_or(false));
        let _ = killpg(Pid::from_raw(self.relive.id().cast_signed()), Signal::SIGKILL);
        if let Some(program) = program {
            let _ = kill(program, Signal::SIGKILL);
        }
        let _ = self.relive.wait();
    }
}

fn spawn<'a>(source: &'a Source, relive: &Path) -> Result<Session<'a>, String> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let port = port.map_err(|why| format!("cannot find a port: {why}"))?.port();
    let (events, err) = (source.path("events"), source.path("relive.err"));
    let reader = Events::at(events.clone());
    let mut command = Command::new(relive);
    command.arg("run").arg("--offline").arg("--locked").arg("--manifest-path").arg(source.manifest());
    command.arg("--events").arg(&events).arg("--");
    command.args(["--interfaces", "127.0.0.1", "--port"]).arg(port.to_string()).arg(source.path("served"));
    command.env("CARGO_TARGET_DIR", source.path("target")).current_dir(source.path("package"));
    command.env("RUSTC_WRAPPER", source.counter());
    command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
    command.stderr(File::create(&err).map_err(context("create", &err))?);
    crate::steps::without_cargos_variables(&mut command);
    let relive = command.spawn().map_err(context("start", relive))?;
    Ok(Session { source, relive, program: None, port, events: reader, start_seconds: 0.0 })
}
