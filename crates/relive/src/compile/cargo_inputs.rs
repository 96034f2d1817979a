//! The files whose change only cargo can follow: manifests, and what build scripts, proc macros and the libraries they use
//! are made from. Takes cargo's messages and the records, gives the files that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::arguments::Role;
use super::cargo::{Artifact, CargoRun, Script};
use super::dep_info;
use super::outputs::{Known, Records};
use super::project::Project;

/// All of them, for a program that is linked from the crates `linked`.
pub(crate) fn find(run: &CargoRun, records: &Records, project: &Project, linked: &[&Known]) -> Vec<PathBuf> {
    let known: Vec<&Known> =
        run.artifacts.iter().filter_map(|artifact| artifact.filenames.iter().find_map(|file| records.of(file))).collect();
    let at_build_time = at_build_time(&known, records);
    let only_cargo = |known: &Known| {
        let is = |other: &&Known| other.folder == known.folder;
        at_build_time.iter().any(is) || !linked.iter().any(is)
    };
    let mut all: BTreeSet<PathBuf> = project.manifests.iter().cloned().collect();
    for known in known.iter().filter(|known| only_cargo(known)) {
        all.extend(known.record.inputs.iter().map(|path| PathBuf::from(&path.0)));
    }
    for artifact in run.artifacts.iter().filter(|artifact| artifact.is_local()) {
        all.insert(artifact.manifest_path.clone());
        if !artifact.filenames.iter().any(|file| records.of(file).is_some()) {
            all.extend(beside(artifact));
        }
    }
    for script in &run.scripts {
        let package = run.artifacts.iter().find(|artifact| artifact.package_id == script.package_id);
        let folder = package.and_then(|package| package.manifest_path.parent());
        all.extend(folder.into_iter().flat_map(|folder| script_inputs(script, folder)));
    }
    all.insert(project.lock_file.clone());
    all.into_iter().filter(|path| path.is_file()).collect()
}

/// The crates among `known` that build scripts and proc macros run, and all that these use: an edit of one can change
/// what others are made from, whether the program is linked with it or not.
fn at_build_time<'a>(known: &[&'a Known], records: &'a Records) -> Vec<&'a Known> {
    let mut found: Vec<&Known> = Vec::new();
    let mut open: Vec<&Known> = known.iter().copied().filter(|known| known.parsed.role() == Role::Other).collect();
    while let Some(known) = open.pop() {
        if found.iter().any(|other| other.folder == known.folder) {
            continue;
        }
        let cwd = Path::new(&known.record.cwd.0);
        open.extend(known.parsed.externs.iter().filter_map(|(_, path)| records.of(&cwd.join(path))));
        found.push(known);
    }
    found
}

/// The inputs of a library that cargo built without relive, from the dep-info beside it, and its manifest.
fn beside(artifact: &Artifact) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Some(package) = artifact.manifest_path.parent() else { return found };
    for file in &artifact.filenames {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let name = format!("{}.d", stem.strip_prefix("lib").unwrap_or(&stem));
        let text = fs::read_to_string(file.with_file_name(name)).unwrap_or_default();
        found.extend(dep_info::existing(&text, package));
    }
    found
}

/// What a build script asked cargo to watch; cargo keeps its output beside the output folder.
fn script_inputs(script: &Script, package: &Path) -> Vec<PathBuf> {
    let output = fs::read(script.out_dir.with_file_name("output")).unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    let asked = |line: &str| -> Option<PathBuf> {
        let key = line.strip_prefix("cargo:").or_else(|| line.strip_prefix("cargo::"))?;
        Some(package.join(key.trim_start_matches(':').strip_prefix("rerun-if-changed=")?))
    };
    text.lines().filter_map(asked).flat_map(|path| files_below(&path)).collect()
}

/// The file itself, or all files of a folder as cargo looks at them.
fn files_below(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![path.to_owned()];
    while let Some(path) = open.pop() {
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => {
                open.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
            }
            Ok(_) => found.push(path),
            Err(_) => {}
        }
    }
    found
}
