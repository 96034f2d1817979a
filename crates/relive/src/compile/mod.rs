//! Stage 2, a `Change` to a `Build`: the first build remembered, its rustc commands replayed, the objects kept.
//!
//! The first build is the user's own `cargo run` with relive as rustc's wrapper, as the linker of executables and as the
//! runner. It leaves a record and hard links of the objects below `target/relive/` for each crate whose sources are the
//! user's, so the next session needs no build. A rebuild runs rustc alone, with its outputs beside cargo's, never over
//! them. What changed in an object is not looked at here.

mod arguments;
mod baseline;
mod cargo;
mod cargo_inputs;
pub mod cargo_messages;
mod config;
pub mod dep_info;
pub mod diagnostics;
pub(crate) mod files;
mod foreign;
mod identity;
mod link_line;
mod mirror;
mod newest;
mod objects;
mod outputs;
mod project;
mod rebuild;
mod record;
mod replay;
pub mod roles;
mod times;
mod wrapped;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use baseline::{Baseline, Unit, first_build};
pub use diagnostics::FirstError;
pub use objects::ObjectFile;
pub use rebuild::{rebuild, rebuild_with_cargo};

use crate::Error;

/// What a first build is started with.
#[derive(Clone, Debug)]
pub struct BuildSettings {
    /// cargo's executable.
    pub cargo: PathBuf,
    /// Our own executable; it must call [`roles::role`] before anything else.
    pub self_exe: PathBuf,
    /// The user's flags for `cargo run`, as given, without what follows `--`.
    pub cargo_run_args: Vec<OsString>,
    /// The program's arguments.
    pub program_args: Vec<OsString>,
    /// Where the user stands.
    pub cwd: PathBuf,
    /// Whether cargo's and rustc's text keeps its colours.
    pub colour: bool,
}

/// What is known of a project before it is built.
#[derive(Clone, Debug)]
pub struct ProjectFacts {
    /// relive's own folder; it need not be there.
    pub relive_dir: PathBuf,
    /// The workspace's folder.
    pub root: PathBuf,
    /// The machine that rustc runs on, as it names it.
    pub host: Option<String>,
    /// What the program is built for, if that was chosen.
    pub target: Option<String>,
}

/// The facts of the project that `cargo_args` select, from where the user stands. What cargo says against it is given to `say`.
///
/// # Errors
/// If cargo knows no such project, or cannot be asked.
pub fn project_facts(
    cargo: PathBuf,
    cwd: PathBuf,
    cargo_args: Vec<OsString>,
    say: &mut dyn FnMut(String),
) -> Result<ProjectFacts, FirstBuildError> {
    let target = config::read(&cwd, &cargo_args).target;
    let settings = BuildSettings {
        cargo,
        self_exe: PathBuf::new(),
        cargo_run_args: cargo_args,
        program_args: Vec::new(),
        cwd,
        colour: false,
    };
    let project::Project { relive_dir, root, mut triples, .. } = project::Project::find(&settings, say)?;
    // The host comes behind those that flags name.
    let host = triples.pop();
    Ok(ProjectFacts { relive_dir, root, host, target: triples.pop().or(target) })
}

/// relive's own folder for the project that `cargo_args` select, from where the user stands; it need not be there.
///
/// # Errors
/// With what cargo says, if there is no such project.
pub fn relive_dir(cargo: PathBuf, cwd: PathBuf, cargo_args: Vec<OsString>) -> Result<PathBuf, Error> {
    let mut said = Vec::new();
    match project_facts(cargo, cwd, cargo_args, &mut |line| said.push(line)) {
        Ok(facts) => Ok(facts.relive_dir),
        Err(FirstBuildError::CargoFailed(_)) => Err(Error::Denied(said.join("\n"))),
        Err(FirstBuildError::Own(error)) => Err(error),
    }
}

/// Why there is no first build.
#[derive(Debug)]
pub enum FirstBuildError {
    /// cargo or rustc said no, with this exit code; what they said was relayed.
    CargoFailed(i32),
    /// relive's own failure.
    Own(Error),
}

impl From<Error> for FirstBuildError {
    fn from(error: Error) -> FirstBuildError {
        FirstBuildError::Own(error)
    }
}

/// How `cargo run` would start the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The program as cargo names it (possibly relative to `cwd`), and its arguments.
    pub argv: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its working folder.
    pub cwd: PathBuf,
}

impl Launch {
    /// The started file, absolute.
    pub(crate) fn program(&self) -> PathBuf {
        self.cwd.join(self.argv.first().cloned().unwrap_or_default())
    }
}

/// New objects for a change.
#[derive(Debug)]
pub struct Build {
    /// The crates that were compiled, dependencies first.
    pub units: Vec<RebuiltUnit>,
    /// What this build is linked from and relive does not compile, as far as the running program has another one of it:
    /// names of crates, of native libraries, or `native code of CRATE`. While there is any, nothing of the build can run
    /// in the program.
    pub uncaptured: Vec<String>,
    /// rustc's warnings, as it renders them.
    pub rendered: Vec<String>,
    /// Wall time of rustc (or of cargo).
    pub compile: Duration,
}

/// One crate that was compiled again.
#[derive(Debug)]
pub struct RebuiltUnit {
    /// Index in [`Baseline::units`].
    pub unit: usize,
    /// All its objects, sorted by codegen unit; those with a known `id` did not change.
    pub objects: Vec<ObjectFile>,
}

/// How a rebuild ended.
#[derive(Debug)]
pub enum Rebuilt {
    /// Everything compiled.
    Built(Build),
    /// rustc said no.
    CompileError {
        /// All messages as rustc renders them, in order.
        rendered: Vec<String>,
        /// The first error.
        first: FirstError,
    },
    /// The caller wanted it no longer; rustc was ended.
    Cancelled,
}

/// The library file itself where cargo names its metadata: both lie side by side under one name.
fn as_rlib(path: &Path) -> PathBuf {
    path.with_extension("rlib")
}
