//! The files whose change only cargo can follow: manifests, and what build scripts, proc macros and the libraries they use
//! are made from. Takes cargo's messages and the records, gives the files that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::arguments::Role;
use super::cargo::CargoRun;
use super::cargo_messages::{Artifact, Script};
use super::dep_info;
use super::outputs::{Known, Records};
use super::project::Project;

/// What only cargo can follow.
#[derive(Debug, Default)]
pub(crate) struct CargoInputs {
    /// Files that somebody named.
    pub(crate) named: Vec<PathBuf>,
    /// All files of packages whose build script named none.
    pub(crate) unnamed: Vec<PathBuf>,
}

/// The files for a program that is linked from the crates `linked`.
pub(crate) fn find(run: &CargoRun, records: &Records, project: &Project, linked: &[&Known]) -> CargoInputs {
    let known: Vec<&Known> = run
        .artifacts
        .iter()
        .filter_map(|artifact| artifact.filenames.iter().find_map(|file| records.of(file)))
        .collect();
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
    let mut unnamed = BTreeSet::new();
    for script in run.scripts.iter().filter(|script| script.is_local()) {
        let package = run.artifacts.iter().find(|artifact| artifact.package_id == script.package_id);
        let Some(folder) = package.and_then(|package| package.manifest_path.parent()) else { continue };
        match asked_for(script) {
            Some(names) => all.extend(names.iter().flat_map(|name| files_below(&folder.join(name)))),
            None => unnamed.extend(package_files(folder)),
        }
    }
    all.insert(project.lock_file.clone());
    let there = |files: BTreeSet<PathBuf>| files.into_iter().filter(|path| path.is_file()).collect();
    unnamed.retain(|path| !all.contains(path));
    CargoInputs { named: there(all), unnamed: there(unnamed) }
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

/// The inputs of a crate that cargo built without relive, from the dep-info beside it.
fn beside(artifact: &Artifact) -> Vec<PathBuf> {
    let Some(package) = artifact.manifest_path.parent() else { return Vec::new() };
    let mut found = Vec::new();
    for file in &artifact.filenames {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let dep_infos = match artifact.target.kind.iter().any(|kind| kind == "custom-build") {
            // cargo shows a build script by another name than rustc's, in a folder of its own.
            true => files_below(file.parent().unwrap_or(package)),
            false => vec![file.with_file_name(format!("{}.d", stem.strip_prefix("lib").unwrap_or(&stem)))],
        };
        for path in dep_infos.iter().filter(|path| path.extension().is_some_and(|end| end == "d")) {
            found.extend(dep_info::existing(&fs::read_to_string(path).unwrap_or_default(), package));
        }
    }
    found
}

/// What a build script asked cargo to watch; cargo keeps its output beside the output folder. One that asked for nothing
/// at all is run again for every file of its package.
fn asked_for(script: &Script) -> Option<Vec<PathBuf>> {
    let output = fs::read(script.out_dir.with_file_name("output")).unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    let keys = text.lines().filter_map(|line| line.strip_prefix("cargo:")).map(|key| key.trim_start_matches(':'));
    let asked: Vec<&str> = keys.filter(|key| key.starts_with("rerun-if-")).collect();
    let names = asked.iter().filter_map(|key| key.strip_prefix("rerun-if-changed="));
    (!asked.is_empty()).then(|| names.map(PathBuf::from).collect())
}

/// The files of a package but for Rust sources: the crates made from these are compiled again for an edit anyway, and
/// scripts that read them say so. Hidden folders, build output and packages inside are no part of it.
fn package_files(package: &Path) -> Vec<PathBuf> {
    let part = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let other = path.join("Cargo.toml").is_file() || path.join("CACHEDIR.TAG").is_file();
        !name.starts_with('.') && !other
    };
    let entries = fs::read_dir(package).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut open: Vec<PathBuf> = entries.filter(part).collect();
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() && !path.is_symlink() {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path());
            open.extend(entries.filter(part));
        } else if path.extension().is_none_or(|end| end != "rs") {
            found.push(path);
        }
    }
    found
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
