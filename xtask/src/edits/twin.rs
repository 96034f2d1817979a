//! The twin: the program built by cargo alone from the same sources, run without relive, and asked the same lines.
//!
//! A twin stays right as long as edits change no answer. After others a new one is built, and loads the state of the
//! patched program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::process::Process;
use super::session::environment;
use super::subject::Subject;
use crate::files::context;

/// Where twins are built, and where the executables of the last two are kept.
const TARGET: &str = "target-twin";
const KEPT: &str = "twins";

/// A running twin.
pub(crate) struct Twin {
    pub(crate) program: Process,
    /// Its executable. It stays when the next one is built.
    pub(crate) executable: PathBuf,
}

impl Twin {
    /// Builds the sources as they are; gives the executable under a name of its own. `Err` is cargo's text.
    pub(crate) fn build(subject: &Subject, name: &str) -> Result<PathBuf, String> {
        let mut command = Command::new("cargo");
        command.args(["build", "--offline", "--quiet", "--manifest-path"]).arg(subject.manifest());
        environment(&mut command, subject, TARGET);
        let output = command.stdin(Stdio::null()).output().map_err(|why| format!("cannot start cargo: {why}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let built = subject.path(TARGET).join("debug/edits-program");
        let folder = subject.path(KEPT);
        fs::create_dir_all(&folder).map_err(context("create", &folder))?;
        let kept = folder.join(name);
        let _ = fs::remove_file(&kept); // it may run: then it lives on without a name
        fs::copy(&built, &kept).map_err(context("copy", &built))?;
        Ok(kept)
    }

    /// What rustc says it read for the last build.
    pub(crate) fn dep_info(subject: &Subject) -> Result<String, String> {
        let folder = subject.path(TARGET).join("debug/deps");
        let entries = fs::read_dir(&folder).map_err(context("list", &folder))?.flatten().map(|entry| entry.path());
        let files = entries.filter(|path| path.extension().is_some_and(|extension| extension == "d"));
        Ok(files.filter_map(|path| fs::read_to_string(path).ok()).collect())
    }

    /// Starts an executable.
    pub(crate) fn start(executable: &Path) -> Result<Twin, String> {
        let mut command = Command::new(executable);
        command.stderr(Stdio::null());
        Ok(Twin { program: Process::start(command)?, executable: executable.to_owned() })
    }

    /// Starts an executable with the state of another program.
    pub(crate) fn loaded(executable: &Path, dump: &str) -> Result<Twin, String> {
        let mut twin = Twin::start(executable)?;
        match twin.program.ask_one(&format!("load {dump}"))?.as_str() {
            "loaded" => Ok(twin),
            other => Err(format!("the state cannot be loaded: {other}")),
        }
    }
}
