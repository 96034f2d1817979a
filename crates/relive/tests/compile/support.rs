//! Small packages to build, and what builds them: relive's first build and the user's own `cargo build`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use relive::change::{Change, classify};
use relive::compile::{Baseline, Build, BuildSettings, ObjectFile, Rebuilt, first_build};

/// A workspace of a library and a package with library and executable.
pub(crate) fn workspace(name: &str) -> PathBuf {
    let folder = scratch(name);
    write(&folder.join("Cargo.toml"), "[workspace]\nmembers = [\"app\", \"base\"]\nresolver = \"2\"\n");
    write(&folder.join("base/Cargo.toml"), &package("base"));
    write(&folder.join("base/src/lib.rs"), "pub fn value() -> u32 {\n    3\n}\n");
    let uses = format!("{}[dependencies]\nbase = {{ path = \"../base\" }}\n", package("app"));
    write(&folder.join("app/Cargo.toml"), &uses);
    write(
        &folder.join("app/src/lib.rs"),
        "pub fn show(text: &str) {\n    println!(\"{text} {}\", base::value());\n}\n",
    );
    write(&folder.join("app/src/main.rs"), "fn main() {\n    if base::value() > 0 { app::show(\"one\"); }\n}\n");
    folder
}

/// A program below `.cargo` that does what `command` does and notes how it was called, in a file of its name.
pub(crate) fn logged_tool(folder: &Path, name: &str, command: &str) {
    let path = folder.join(".cargo").join(name);
    let log = folder.join(name).display().to_string();
    write(&path, &format!("#!/bin/sh\necho \"$@\" >> '{log}'\nexec {command} \"$@\"\n"));
    assert!(Command::new("chmod").arg("+x").arg(&path).status().expect("runs").success());
}

/// Has every call of rustc counted; what is given tells how many crates were compiled since it was last asked.
pub(crate) fn counted(folder: &Path) -> impl Fn() -> usize {
    logged_tool(folder, "rustc-calls", "");
    write(&folder.join(".cargo/config.toml"), "[build]\nrustc-wrapper = \".cargo/rustc-calls\"\n");
    let log = folder.join("rustc-calls");
    move || {
        let calls = fs::read_to_string(&log).unwrap_or_default();
        write(&log, "");
        calls.lines().filter(|call| call.contains("--emit")).count()
    }
}

/// A manifest's beginning.
pub(crate) fn package(name: &str) -> String {
    format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n")
}

pub(crate) fn scratch(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("compile-{}", std::process::id()));
    let folder = root.join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).expect("removes");
    }
    fs::create_dir_all(&folder).expect("creates");
    folder
}

pub(crate) fn settings(folder: &Path) -> BuildSettings {
    BuildSettings {
        cargo: std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from),
        self_exe: std::env::current_exe().expect("has a path"),
        cargo_run_args: Vec::new(),
        program_args: Vec::new(),
        cwd: folder.to_owned(),
        colour: false,
    }
}

pub(crate) fn build(folder: &Path) -> (Baseline, Vec<String>) {
    let mut said = Vec::new();
    let baseline = first_build(&settings(folder), &mut |line| said.push(line));
    (baseline.unwrap_or_else(|error| panic!("{error:?}\n{}", said.join("\n"))), said)
}

pub(crate) fn built(rebuilt: Result<Rebuilt, relive::Error>) -> Build {
    match rebuilt {
        Ok(Rebuilt::Built(build)) => build,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn change(baseline: &Baseline, folder: &Path, file: &str) -> Change {
    let change = classify(&baseline.inputs(), &[folder.join(file)]);
    assert!(!change.is_empty(), "{file} is an input");
    change
}

pub(crate) fn objects(baseline: &Baseline) -> BTreeSet<(u64, u64)> {
    baseline.units.iter().flat_map(|unit| ids(&unit.objects)).collect()
}

pub(crate) fn ids(objects: &[ObjectFile]) -> BTreeSet<(u64, u64)> {
    objects.iter().map(|object| object.id).collect()
}

pub(crate) fn old_and_new_exist(baseline: &Baseline, new: &[ObjectFile]) -> bool {
    baseline.units.iter().flat_map(|unit| &unit.objects).chain(new).all(|object| object.path.is_file())
}

pub(crate) fn cargo_build(folder: &Path) -> String {
    let cargo = settings(folder).cargo;
    let output = Command::new(cargo).arg("build").current_dir(folder).stdin(Stdio::null()).output().expect("starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

pub(crate) fn output_of(exe: &Path) -> String {
    String::from_utf8(Command::new(exe).output().expect("starts").stdout).expect("is text")
}

pub(crate) fn inode(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).expect("exists"))
}

pub(crate) fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("has a folder")).expect("creates");
    fs::write(path, text).expect("writes");
}

pub(crate) fn append(path: &Path, text: &str) {
    let before = fs::read_to_string(path).expect("reads");
    write(path, &(before + text));
}

pub(crate) fn edit(path: &Path, from: &str, to: &str) {
    let before = fs::read_to_string(path).expect("reads");
    assert!(before.contains(from), "`{from}` is not in {}", path.display());
    write(path, &before.replace(from, to));
}
