//! One rustc run without cargo: takes a unit's recorded command, runs it with its outputs in relive's folder and with a
//! linker that links nothing, gives the objects, the new inputs and what rustc said. cargo's outputs stay as they are;
//! only the incremental folder is shared, which rustc keeps consistent by itself.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::arguments::{self, Rewrite};
use super::baseline::{Baseline, Unit};
use super::diagnostics::{Diagnostics, FirstError};
use super::newest::Fresh;
use super::{ObjectFile, dep_info, mirror, objects, roles};
use crate::Error;

/// How often a running rustc is interrupted to ask whether its result is still wanted.
const POLL: Duration = Duration::from_millis(4);

/// How one rustc run ended.
pub(crate) enum Replayed {
    Built(NewBuild),
    Failed(Failure),
    Cancelled,
}

/// What a rustc run said that made nothing.
pub(crate) struct Failure {
    pub(crate) first: FirstError,
    pub(crate) rendered: Vec<String>,
    /// Files that it spoke of, and its sources as far as it came.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) started: SystemTime,
}

/// What one rustc run made.
pub(crate) struct NewBuild {
    pub(crate) objects: Vec<ObjectFile>,
    pub(crate) inputs: Vec<PathBuf>,
    pub(crate) rendered: Vec<String>,
    pub(crate) fresh: Fresh,
    pub(crate) took: Duration,
}

/// Compiles unit `index` again.
pub(crate) fn replay(
    baseline: &Baseline,
    index: usize,
    cancelled: &mut dyn FnMut() -> bool,
) -> Result<Replayed, Error> {
    let Some(unit) = baseline.units.get(index) else {
        return Err(Error::Fatal(format!("there is no unit {index}")));
    };
    if !unit.known.folder.is_dir() {
        let why = "it was removed, by `cargo clean` perhaps; start relive again";
        return Err(Error::file(&unit.known.folder, "keep objects in", why));
    }
    let out_dir = PathBuf::from(&unit.known.record.out_dir.0);
    let kept = objects::next_folder(&unit.known.folder);
    let mut rustc = command(baseline, unit, &out_dir, &kept)?;
    let (started, clock) = (SystemTime::now(), Instant::now());
    let child = rustc.spawn().map_err(|why| Error::file(rustc.get_program(), "start", why))?;
    let mut said = Diagnostics::default();
    let Some(status) = attend(child, &mut said, Path::new(&unit.known.record.cwd.0), cancelled)? else {
        discard(&kept);
        return Ok(Replayed::Cancelled);
    };
    let took = clock.elapsed();
    if !status.success() {
        discard(&kept);
        let mut files: Vec<PathBuf> = inputs(unit, &out_dir).unwrap_or_default();
        let first = said.first(&status.to_string());
        files.extend(said.files);
        if said.rendered.is_empty() {
            // It was killed, or could not even say that it cannot write.
            said.rendered.push(format!("error: {}", first.message));
        }
        return Ok(Replayed::Failed(Failure { first, rendered: said.rendered, files, started }));
    }
    if unit.is_lib {
        let since = started.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        objects::keep_rlib(&unit.known.parsed.output(&out_dir), &unit.known.parsed, since, &kept)?;
    }
    Ok(Replayed::Built(NewBuild {
        objects: objects::list(&kept)?,
        inputs: inputs(unit, &out_dir)?,
        rendered: said.rendered,
        fresh: Fresh { objects: kept, said: said.raw, started },
        took,
    }))
}

fn command(baseline: &Baseline, unit: &Unit, out_dir: &Path, kept: &Path) -> Result<Command, Error> {
    let record = &unit.known.record;
    let cwd = Path::new(&record.cwd.0);
    let linker = roles::stand_in(&baseline.relive_dir, &unit.known.parsed.linker_or_default())?;
    let args: Vec<_> = record.args.iter().map(|arg| arg.0.clone()).collect();
    let ours = |path: &Path| mirror::ours(out_dir, path);
    let changed = Rewrite { out_dir, linker: Some(&linker), ours: &ours, colour: baseline.settings.colour };
    let mut program = record.program.iter().map(|word| &word.0);
    let missing = || Error::Fatal(format!("the record of `{}` names no rustc", unit.key));
    let mut rustc = Command::new(program.next().ok_or_else(missing)?);
    rustc.args(program).args(arguments::rewritten(&args, &changed)).current_dir(cwd);
    rustc.env_clear().envs(record.env.iter().map(|(key, value)| (&key.0, &value.0)));
    rustc.env(roles::ROLE, roles::FOR_RUSTC);
    if !unit.is_lib {
        rustc.env(roles::OBJECTS, kept);
    }
    // A group of its own, so that all of it can be ended at once and the terminal's signals do not reach it.
    rustc.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    Ok(rustc)
}

/// Reads what rustc says until it ends; `None` when it was cancelled and ended for that.
fn attend(
    mut child: Child,
    said: &mut Diagnostics,
    cwd: &Path,
    cancelled: &mut dyn FnMut() -> bool,
) -> Result<Option<ExitStatus>, Error> {
    let (sender, lines) = mpsc::channel();
    let stderr = child.stderr.take();
    let reader = thread::spawn(move || {
        for line in stderr.map(BufReader::new).into_iter().flat_map(|stderr| stderr.split(b'\n')) {
            if line.is_err() || line.is_ok_and(|line| sender.send(line).is_err()) {
                return;
            }
        }
    });
    let stopped = loop {
        if cancelled() {
            break true;
        }
        match lines.recv_timeout(POLL) {
            Ok(line) => said.line(&String::from_utf8_lossy(&line), cwd),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break false,
        }
    };
    if stopped && let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL).ok();
    }
    let status = child.wait().map_err(|why| Error::Fatal(format!("cannot wait for rustc: {why}")))?;
    reader.join().ok();
    Ok((!stopped).then_some(status))
}

fn inputs(unit: &Unit, out_dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let path = out_dir.join(format!("{}.d", unit.known.parsed.stem()));
    let text = fs::read_to_string(&path).map_err(|why| Error::file(&path, "read", why))?;
    Ok(dep_info::existing(&text, Path::new(&unit.known.record.cwd.0)))
}

/// The objects of a rustc run that came to nothing.
fn discard(kept: &Path) {
    fs::remove_dir_all(kept).ok();
}
