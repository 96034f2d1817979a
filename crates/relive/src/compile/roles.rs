//! The three parts relive plays inside somebody else's process tree, each chosen by the environment key `RELIVE_ROLE`
//! that relive itself sets: rustc's wrapper and the program's runner for cargo, the linker for rustc. They take their
//! command line, keep what a session needs below `target/relive/`, and answer as the real tool would: what cannot be
//! kept is said on stderr and found missing later, it never breaks the user's build.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use super::arguments::{self, Arguments, Rewrite, Role as CrateRole};
use super::objects::{self, LinkLine};
use super::record::{self, Identity, LaunchRecord, Raw, Record, lasting_env};
use super::wrapped::Wrapped;
use super::{dep_info, diagnostics, link_line, mirror, newest, times};
use crate::Error;

/// Environment key that says which part to play.
pub(crate) const ROLE: &str = "RELIVE_ROLE";
/// relive's folder below the target directory, for the wrapper.
pub(crate) const DIR: &str = "RELIVE_DIR";
/// File for the runner to write.
pub(crate) const LAUNCH: &str = "RELIVE_LAUNCH";
/// The user's own rustc wrapper, if there is one.
pub(crate) const USER_WRAPPER: &str = "RELIVE_USER_WRAPPER";
/// The user's own rustc workspace wrapper, if there is one.
pub(crate) const USER_WORKSPACE_WRAPPER: &str = "RELIVE_USER_WORKSPACE_WRAPPER";
/// The linker that the stand-in stands for; without it the stand-in links nothing.
pub(crate) const REAL_LINKER: &str = "RELIVE_REAL_LINKER";
/// Folder in which the stand-in keeps the objects.
pub(crate) const OBJECTS: &str = "RELIVE_OBJECTS";

/// What a program that plays no part must not see.
pub(crate) const KEYS: [&str; 3] = [ROLE, OBJECTS, REAL_LINKER];

/// `RELIVE_ROLE` for cargo, which starts wrappers and runners.
pub(crate) const FOR_CARGO: &str = "cargo";
/// `RELIVE_ROLE` for rustc, which starts linkers.
pub(crate) const FOR_RUSTC: &str = "rustc";
/// First argument of the runner; what cargo starts without it is a wrapper.
pub(crate) const RUNNER_FLAG: &str = "--relive-runner";

/// A part to play instead of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `wrapper RUSTC ARGS..`: runs rustc and keeps a record of it.
    RustcWrapper,
    /// The linker: keeps the objects, then links (or not, in a replay).
    Linker,
    /// `runner PROGRAM ARGS..`: notes how cargo starts the program.
    Runner,
}

/// The part this process is to play, if it was started by relive's own cargo or rustc.
pub fn role() -> Option<Role> {
    match std::env::var_os(ROLE)?.to_str()? {
        FOR_CARGO if std::env::args_os().nth(1).is_some_and(|arg| arg == RUNNER_FLAG) => Some(Role::Runner),
        FOR_CARGO => Some(Role::RustcWrapper),
        FOR_RUSTC => Some(Role::Linker),
        _ => None,
    }
}

/// Plays `role` with this process's command line and environment.
pub fn play(role: Role) -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let done = match role {
        Role::RustcWrapper => rustc_wrapper(&args),
        Role::Linker => linker(&args),
        Role::Runner => runner(args.get(1..).unwrap_or_default()),
    };
    done.unwrap_or_else(|error| {
        complain(&error);
        ExitCode::FAILURE
    })
}

fn rustc_wrapper(command: &[OsString]) -> Result<ExitCode, Error> {
    let missing = || Error::Fatal(format!("`{DIR}` is not set for the rustc wrapper"));
    let relive = PathBuf::from(std::env::var_os(DIR).ok_or_else(missing)?);
    let wrapped = Wrapped::parse(command, &relive)?;
    if !wrapped.is_kept(&relive) {
        return Err(exec(&wrapped.program, &wrapped.given));
    }
    let (program, given) = (wrapped.program.clone(), wrapped.given.clone());
    let compilation = match Compilation::prepare(wrapped, relive) {
        Ok(compilation) => compilation,
        Err(error) => {
            complain(&error);
            return Err(exec(&program, &given));
        }
    };
    compilation.run()
}

/// One crate that rustc makes for cargo. rustc leaves the outputs of a crate that can be patched in a folder of ours,
/// where replays will leave theirs, and cargo gets hard links; other crates are made where cargo wants them.
struct Compilation {
    program: Vec<OsString>,
    args: Vec<OsString>,
    parsed: Arguments,
    relive: PathBuf,
    cwd: PathBuf,
    /// Where rustc leaves the outputs.
    out: PathBuf,
    /// Where cargo wants the outputs.
    cargo_dir: PathBuf,
    unit: PathBuf,
    objects: Option<PathBuf>,
    started_ns: u128,
}

impl Compilation {
    fn prepare(wrapped: Wrapped, relive: PathBuf) -> Result<Compilation, Error> {
        let Wrapped { program, args, parsed, .. } = wrapped;
        let unit = relive.join("units").join(parsed.key());
        let cwd = current_dir()?;
        let cargo_dir = cwd.join(parsed.out_dir.clone().unwrap_or_default());
        let patchable = parsed.role() != CrateRole::Other;
        let out = if patchable { mirror::folder(&relive, &cargo_dir) } else { cargo_dir.clone() };
        for folder in [&unit, &out] {
            fs::create_dir_all(folder).map_err(|why| Error::file(folder, "create", why))?;
        }
        let objects = patchable.then(|| objects::next_folder(&unit));
        let started_ns = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        // A linker that writes in place must not write into the executable of a session or of cargo.
        fs::remove_file(parsed.output(&out)).ok();
        Ok(Compilation { program, args, parsed, relive, cwd, out, cargo_dir, unit, objects, started_ns })
    }

    fn run(self) -> Result<ExitCode, Error> {
        let question = newest::Question {
            program: &self.program,
            args: &self.args,
            parsed: &self.parsed,
            cwd: &self.cwd,
            out: &self.out,
            unit: &self.unit,
        };
        if let Some(answer) = self.objects.as_ref().and_then(|_| newest::answer(&question)) {
            self.relay(answer.said.as_slice());
            self.publish_all()?;
            self.keep(Some(answer.objects), answer.started_ns).unwrap_or_else(|error| complain(&error));
            return Ok(ExitCode::SUCCESS);
        }
        let mut rustc = self.command()?;
        let mut child = rustc.spawn().map_err(|why| Error::file(rustc.get_program(), "start", why))?;
        if let Some(stderr) = child.stderr.take() {
            self.relay(stderr);
        }
        let status = child.wait().map_err(|why| Error::file(rustc.get_program(), "wait for", why))?;
        if status.success() {
            self.publish_all()?;
            let objects = self.objects.as_deref().map(|folder| self.keep_objects(folder)).transpose();
            let kept = objects.and_then(|objects| self.keep(objects, self.started_ns));
            kept.unwrap_or_else(|error| complain(&error));
        } else if let Some(folder) = &self.objects {
            // Half of a build is no build; the next one begins its own folder.
            fs::remove_dir_all(folder).ok();
        }
        Ok(pass_on(status))
    }

    fn command(&self) -> Result<Command, Error> {
        let real = self.parsed.linker_or_default();
        let linked = (self.parsed.role() == CrateRole::Bin).then(|| stand_in(&self.relive, &real)).transpose()?;
        let ours = |path: &Path| mirror::linked(&self.out, &self.cwd.join(path));
        let rewrite = Rewrite { out_dir: &self.out, linker: linked.as_deref(), ours: &ours, colour: true };
        let patchable = self.objects.is_some();
        let args = if patchable { arguments::rewritten(&self.args, &rewrite) } else { self.args.clone() };
        let mut rustc = command(&self.program, &args)?;
        rustc.env(ROLE, FOR_RUSTC).env(REAL_LINKER, real).stderr(Stdio::piped());
        if let (true, Some(objects)) = (linked.is_some(), &self.objects) {
            rustc.env(OBJECTS, objects);
        }
        Ok(rustc)
    }

    /// Passes rustc's messages on line by line. A file that rustc announces is put where cargo looks for it first:
    /// dependents start as soon as cargo hears of a library's metadata.
    fn relay(&self, stderr: impl Read) {
        let quoted = |path: &Path| serde_json::to_string(&path.to_string_lossy()).unwrap_or_default();
        let (ours, theirs) = (quoted(&self.out), quoted(&self.cargo_dir));
        let (ours, theirs) = (ours.trim_matches('"'), theirs.trim_matches('"'));
        for line in BufReader::new(stderr).split(b'\n') {
            let Ok(mut line) = line else { return };
            if let Some(file) = diagnostics::announced(&line) {
                self.publish(&file).unwrap_or_else(|error| complain(&error));
                line = String::from_utf8_lossy(&line).replace(ours, theirs).into_bytes();
            }
            line.push(b'\n');
            // Nobody listens any more: rustc's own end will say why.
            io::stderr().write_all(&line).ok();
        }
    }

    /// Gives cargo every file of the crate, however it is called.
    fn publish_all(&self) -> Result<(), Error> {
        let (stem, library) = (self.parsed.stem(), format!("lib{}", self.parsed.stem()));
        let files = fs::read_dir(&self.out).map_err(|why| Error::file(&self.out, "list", why))?;
        for file in files.flatten().map(|entry| entry.path()) {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // Split debug info stays: executables name it by its place.
            let of_crate = name.starts_with(&stem) || name.starts_with(&library);
            if of_crate && !name.contains(".rcgu.") {
                self.publish(&file)?;
            }
        }
        Ok(())
    }

    fn publish(&self, file: &Path) -> Result<(), Error> {
        let Some(name) = file.file_name().filter(|_| self.out != self.cargo_dir) else { return Ok(()) };
        let to = self.cargo_dir.join(name);
        if file.extension().is_some_and(|end| end == "d") {
            // rustc writes dep-info in place, so a link would change with the next replay.
            return fs::copy(file, &to).map(|_| ()).map_err(|why| Error::file(&to, "write", why));
        }
        if matches!((Identity::of(file), Identity::of(&to)), (Ok(ours), Ok(theirs)) if ours == theirs) {
            return Ok(());
        }
        record::link_or_copy(file, &to)
    }

    fn keep(&self, objects: Option<(String, usize)>, started_ns: u128) -> Result<(), Error> {
        let output = self.parsed.output(&self.cargo_dir);
        if self.parsed.role() == CrateRole::Bin {
            record::link_or_copy(&self.parsed.output(&self.out), &self.unit.join("exe"))?;
        }
        let dep_info = self.out.join(format!("{}.d", self.parsed.stem()));
        let text = fs::read_to_string(&dep_info).map_err(|why| Error::file(&dep_info, "read", why))?;
        let inputs = dep_info::existing(&text, &self.cwd);
        times::restore(&self.relive, &[output.clone(), output.with_extension("rmeta")], &inputs)?;
        let raw = |words: &[OsString]| words.iter().cloned().map(Raw).collect();
        let record = Record {
            version: record::VERSION,
            program: raw(&self.program),
            args: raw(&self.args),
            env: lasting_env(),
            inputs: inputs.into_iter().map(Raw::from).collect(),
            cwd: self.cwd.clone().into(),
            started_ns,
            identity: Identity::of(&output)?,
            output: output.into(),
            out_dir: self.out.clone().into(),
            objects,
        };
        record::write_json(&self.unit.join("record.json"), &record)
    }

    fn keep_objects(&self, folder: &Path) -> Result<(String, usize), Error> {
        let output = self.parsed.output(&self.out);
        if self.parsed.role() == CrateRole::Lib {
            objects::keep_rlib(&output, &self.parsed, self.started_ns / 1000, folder)?;
        }
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((name, objects::list(folder)?.len()))
    }
}

/// Our executable under the real linker's file name: rustc infers from the name how to talk to a linker.
pub(crate) fn stand_in(relive: &Path, real: &Path) -> Result<PathBuf, Error> {
    let folder = relive.join("tool").join("linker");
    let path = folder.join(real.file_name().unwrap_or(OsStr::new("cc")));
    let this = fs::read_link(super::project::wrapper_path(relive))
        .map_err(|why| Error::file(relive, "look up tool in", why))?;
    super::project::point(&path, &this)?;
    Ok(path)
}

fn linker(args: &[OsString]) -> Result<ExitCode, Error> {
    if let Some(folder) = std::env::var_os(OBJECTS).map(PathBuf::from) {
        let expanded = link_line::expand(args)?;
        let args = expanded.into_iter().map(Raw).collect();
        let path = std::env::var_os("PATH").map(Raw);
        let kept = objects::keep_linked(&LinkLine { args, cwd: current_dir()?.into(), path }, &folder);
        if let Err(error) = kept {
            complain(&error);
        }
    }
    let Some(real) = std::env::var_os(REAL_LINKER) else { return Ok(ExitCode::SUCCESS) };
    Err(exec(&[real], args))
}

fn runner(argv: &[OsString]) -> Result<ExitCode, Error> {
    let missing = || Error::Fatal(format!("`{LAUNCH}` is not set for the runner"));
    let file = PathBuf::from(std::env::var_os(LAUNCH).ok_or_else(missing)?);
    let env = std::env::vars_os().map(|(key, value)| (Raw(key), Raw(value))).collect();
    let argv = argv.iter().cloned().map(Raw).collect();
    record::write_json(&file, &LaunchRecord { argv, env, cwd: current_dir()?.into() })?;
    Ok(ExitCode::SUCCESS)
}

fn command(program: &[OsString], args: &[OsString]) -> Result<Command, Error> {
    let Some((first, more)) = program.split_first() else {
        return Err(Error::Fatal("there is no program to start".to_owned()));
    };
    let mut command = Command::new(first);
    command.args(more).args(args);
    Ok(command)
}

/// Becomes `program`; what is given back is why that failed.
fn exec(program: &[OsString], args: &[OsString]) -> Error {
    let run = |program: &[OsString]| -> Result<io::Error, Error> {
        let mut command = command(program, args)?;
        for key in KEYS {
            command.env_remove(key);
        }
        Ok(command.exec())
    };
    match run(program) {
        Ok(why) => Error::file(program.first().map(PathBuf::from).unwrap_or_default(), "start", why),
        Err(error) => error,
    }
}

/// Ends as `status` did: with its code, or by its signal.
fn pass_on(status: ExitStatus) -> ExitCode {
    if let Some(signal) = status.signal().and_then(rustix::process::Signal::from_named_raw) {
        rustix::process::kill_process(rustix::process::getpid(), signal).ok();
    }
    let code = status.code().or_else(|| status.signal().map(|signal| signal.saturating_add(128)));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

fn current_dir() -> Result<PathBuf, Error> {
    std::env::current_dir().map_err(|why| Error::file(".", "find the current folder of", why))
}

/// One line to cargo, which shows it among rustc's own.
fn complain(error: &Error) {
    eprintln!("relive: {error}");
}
