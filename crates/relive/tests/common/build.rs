//! Programs for tests and benches, built by the real compiler below the target directory and kept from run to run.
//!
//! Takes the source texts of one crate in successive states, gives the linked output and the objects of each. The states
//! share one incremental directory, so that a codegen unit keeps its name, as it does when a program is edited.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the compiler made of one state of a crate.
pub(crate) struct State {
    /// The executable or rlib.
    pub(crate) output: PathBuf,
    /// The objects by the name of their codegen unit, sorted.
    pub(crate) objects: Vec<(String, PathBuf)>,
}

/// Builds the crate `name` in each of `states`, with `flags` for rustc, unless an earlier run has.
pub(crate) fn build(name: &str, flags: &[&str], states: &[String]) -> Vec<State> {
    let mut hasher = DefaultHasher::new();
    (flags, states, output_of(rustc().arg("-vV"))).hash(&mut hasher);
    let parent = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("built");
    let folder = parent.join(format!("{name}-{:016x}", hasher.finish()));
    if !folder.exists() {
        let work = parent.join(format!("{name}-{}", std::process::id()));
        for (at, text) in states.iter().enumerate() {
            compile(&work, &state_folder(&work, at), name, flags, text);
        }
        fs::remove_dir_all(work.join("incremental")).unwrap();
        forget(&parent, name, &folder);
        // Another process may have been as fast; then its folder stays.
        if fs::rename(&work, &folder).is_err() {
            fs::remove_dir_all(&work).unwrap();
        }
    }
    (0..states.len()).map(|at| list(&state_folder(&folder, at), name)).collect()
}

/// Removes what was built from other texts or by another compiler: it is large.
fn forget(parent: &Path, name: &str, but: &Path) {
    let key = |file: &str| Some(file.strip_prefix(name)?.strip_prefix('-')?.len());
    for (_, path) in files(parent).filter(|(file, path)| key(file) == Some(16) && path != but) {
        fs::remove_dir_all(path).unwrap();
    }
}

fn rustc() -> Command {
    Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}

fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn state_folder(folder: &Path, at: usize) -> PathBuf {
    folder.join(format!("state-{at}"))
}

fn compile(work: &Path, out: &Path, name: &str, flags: &[&str], text: &str) {
    fs::create_dir_all(out).unwrap();
    let source = work.join(format!("{name}.rs"));
    fs::write(&source, text).unwrap();
    let mut command = rustc();
    command.arg(&source).arg("--out-dir").arg(out).arg("-Cincremental=incremental").current_dir(work);
    command.args(["--edition=2024", "--crate-name", name, "-Cdebuginfo=2", "-Csave-temps", "-Awarnings"]).args(flags);
    output_of(&mut command);
    for (_, path) in files(out) {
        if path.extension().is_some_and(|extension| extension == "bc") {
            fs::remove_file(path).unwrap();
        }
    }
}

fn files(folder: &Path) -> impl Iterator<Item = (String, PathBuf)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
}

/// Objects are called `crate.CGU.RUN.rcgu.o`.
fn list(folder: &Path, name: &str) -> State {
    let rlib = folder.join(format!("lib{name}.rlib"));
    let output = if rlib.exists() { rlib } else { folder.join(name) };
    let objects = files(folder).filter(|(file, _)| file.ends_with(".rcgu.o"));
    let mut objects: Vec<_> =
        objects.map(|(file, path)| (file.split('.').nth(1).unwrap_or_default().to_owned(), path)).collect();
    objects.sort();
    assert!(!objects.is_empty(), "no objects in {}", folder.display());
    State { output, objects }
}
