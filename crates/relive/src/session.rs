//! The page: one line per step, in order.
//!
//! Builds and starts the program, then answers every change of its sources with exactly one event. All state of a session
//! is here; the stages hold none.

mod adopt;
mod end;
mod facts;
mod history;
mod inbox;
mod known;
mod ledger;
mod lines;
mod liveness;
mod opaque;
mod patch;
mod pending;
mod places;
mod program;
mod update;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::Error;
use crate::change::{self, Watcher};
use crate::compile::{self, BuildSettings, FirstBuildError};
use crate::control::{Answer, Server};
use crate::tell::{Event, Outcome};
use inbox::{Inbox, Message};
use patch::Patcher;
use program::{Program, Started};

/// What a session is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// cargo's executable.
    pub cargo: PathBuf,
    /// Our own executable, which plays the rustc wrapper, the linker stand-in and the runner.
    pub self_exe: PathBuf,
    /// The user's flags for `cargo run`, as given.
    pub cargo_run_args: Vec<OsString>,
    /// What came after `--`.
    pub program_args: Vec<OsString>,
    /// Where the user stands.
    pub cwd: PathBuf,
    /// Whether relayed output keeps its colours.
    pub colour: bool,
    /// The agent, a shared object.
    pub agent: &'static [u8],
    /// Start the program anew instead of leaving it alone when an edit is refused.
    pub restart_on_refusal: bool,
    /// Bring the executable on disk up to date after every switch.
    pub update_binary: bool,
}

/// Why a session ended without the program's own exit code.
#[derive(Debug)]
pub enum SessionError {
    /// The first build failed; its output was relayed.
    BuildFailed,
    /// relive's own failure.
    Own(Error),
}

impl From<Error> for SessionError {
    fn from(error: Error) -> SessionError {
        SessionError::Own(error)
    }
}

/// How one run of the program ended.
enum Ended {
    /// By itself, with this code.
    Exited(i32),
    /// By us, to take a refused edit.
    Restart,
}

/// What is said when a file that was mapped turns out to be shorter than it was. Build tools replace files as a whole.
const SHORTENED: &str = "relive: error: a file that relive has open was shortened, by something that writes into the target \
directory perhaps\n\n  help: the program runs on; start relive again to change it\n";

/// Has this process end with `code`, and say why, when a file that it reads is shortened meanwhile.
///
/// # Errors
/// What the system says.
pub fn end_when_shortened(code: u8) -> std::io::Result<()> {
    relive_process::end_when_shortened(SHORTENED, code.into())
}

/// Builds, starts, watches and patches until the program ends; gives its exit code.
///
/// # Errors
/// If the first build fails, or relive itself.
pub fn run(settings: Settings, tell: &mut dyn FnMut(&Event)) -> Result<i32, SessionError> {
    loop {
        match run_once(&settings, tell)? {
            Ended::Exited(code) => return Ok(code),
            Ended::Restart => tell(&Event::Note("the program is started again with the refused edit".into())),
        }
    }
}

fn run_once(settings: &Settings, tell: &mut dyn FnMut(&Event)) -> Result<Ended, SessionError> {
    let began = Instant::now();
    let mut baseline = first_build(settings, tell)?;
    let folder = program::session_folder(&baseline.relive_dir)?;
    let mut inbox = Inbox::new();
    // Nothing that only relive needs may keep the program from running.
    let _server = Server::start(&folder, inbox.requests())
        .map_err(|why| tell(&Event::Note(format!("the session cannot be asked from other terminals: {why}"))));
    tell(&Event::Starting);
    let started = Program::start(&baseline, &folder, settings.agent, &mut |pid| tell(&Event::Spawned { pid }))?;
    let child = started.child();
    inbox.await_exit(Arc::clone(&child));
    let watcher = Watcher::new(baseline.inputs().files(), inbox.saves())?;
    let build_ms = began.elapsed().as_secs_f64() * 1000.0;
    tell(&Event::Started { pid: child.pid(), build_ms });
    inbox.saved_before(baseline.newer_inputs(&change::Inputs::default()));
    let mut patcher = match started {
        Started::Ready(program) => Ok(Patcher::new(&baseline, *program, settings.update_binary)),
        Started::Blind(child, why) => {
            if child.is_alive() {
                tell(&Event::Note(format!("the program runs, but its code cannot be changed: {why}")));
            }
            Err(why)
        }
    };
    let mut id = 0;
    // Files of a change that gave way to a later one: they are part of that one, whatever it turns out to be.
    let mut owed: Vec<PathBuf> = Vec::new();
    loop {
        let saved = match inbox.next()? {
            Message::Exited(code) => {
                let live_edits = patcher.as_ref().map_or(0, |patcher| patcher.generation().number);
                finish(patcher, &mut inbox, tell);
                tell(&Event::Exited { code, live_edits });
                return Ok(Ended::Exited(code));
            }
            Message::Asked(asked) => {
                let answer = match &mut patcher {
                    Ok(patcher) => patcher.asked(asked.request, &baseline, &mut inbox, tell),
                    Err(why) => Answer::Impossible { why: why.clone() },
                };
                asked.answer(answer);
                continue;
            }
            Message::Told(event) => {
                tell(&event);
                continue;
            }
            Message::Saved(saved) => saved,
        };
        let mut files = saved.files;
        if !change::classify(&baseline.inputs(), &owed).is_empty() {
            files.append(&mut owed);
        }
        let change = change::classify(&baseline.inputs(), &files);
        if change.is_empty() {
            continue;
        }
        id += 1;
        tell(&Event::Change { id, files: change.files.clone() });
        let watched = baseline.inputs();
        let report = match &mut patcher {
            Ok(patcher) => patcher.answer(id, &change, saved.at, &mut baseline, &mut inbox, tell),
            Err(why) => patch::unreachable(id, why),
        };
        let outcome = report.outcome;
        baseline.note_effect(&change.files, !matches!(outcome, Outcome::Unchanged | Outcome::Superseded));
        owed = if outcome == Outcome::Superseded { change.files } else { Vec::new() };
        watcher.set(baseline.inputs().files())?;
        inbox.saved_before(baseline.newer_inputs(&watched));
        tell(&Event::Patch(report));
        baseline.keep_newest().unwrap_or_else(|error| tell(&Event::Note(error.to_string())));
        if outcome == Outcome::Refused && settings.restart_on_refusal {
            patch::end_program(&child)?;
            finish(patcher, &mut inbox, tell);
            return Ok(Ended::Restart);
        }
    }
}

/// Lets what goes on beside the program come to its end.
fn finish(patcher: Result<Patcher, String>, inbox: &mut Inbox, tell: &mut dyn FnMut(&Event)) {
    if let Ok(patcher) = patcher {
        patcher.finish();
    }
    inbox.told().iter().for_each(tell);
}

fn first_build(settings: &Settings, tell: &mut dyn FnMut(&Event)) -> Result<compile::Baseline, SessionError> {
    let build = BuildSettings {
        cargo: settings.cargo.clone(),
        self_exe: settings.self_exe.clone(),
        cargo_run_args: settings.cargo_run_args.clone(),
        program_args: settings.program_args.clone(),
        cwd: settings.cwd.clone(),
        colour: settings.colour,
    };
    match compile::first_build(&build, &mut |line| tell(&Event::Relayed(line))) {
        Ok(baseline) => Ok(baseline),
        Err(FirstBuildError::CargoFailed(code)) => {
            tell(&Event::BuildFailed { message: format!("cargo ended with exit code {code}") });
            Err(SessionError::BuildFailed)
        }
        Err(FirstBuildError::Own(error)) => Err(SessionError::Own(error)),
    }
}
