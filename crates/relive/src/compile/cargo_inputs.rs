//! The files whose change only cargo can follow: manifests, and what build scripts, proc macros and path dependencies
//! outside the workspace are made from. Takes cargo's messages and the records, gives the files that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::arguments::Role;
use super::cargo::{Artifact, CargoRun, Script};
use super::dep_info;
use super::outputs::Records;
use super::project::Project;

/// All of them.
pub(crate) fn find(run: &CargoRun, records: &Records, project: &Project) -> Vec<PathBuf> {
    let mut all: BTreeSet<PathBuf> = project.manifests.iter().cloned().collect();
    for artifact in &run.artifacts {
        match artifact.filenames.iter().find_map(|file| records.of(file)) {
            Some(known) if known.parsed.role() == Role::Other => {
                all.extend(known.record.inputs.iter().map(|path| PathBuf::from(&path.0)));
            }
            // A unit's own files are followed by rustc alone.
            Some(_) => {}
            None if artifact.package_id.starts_with("path+") => all.extend(beside(artifact)),
            None => {}
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

/// The inputs of a library that cargo built without relive, from the dep-info beside it, and its manifest.
fn beside(artifact: &Artifact) -> Vec<PathBuf> {
    let mut found = vec![artifact.manifest_path.clone()];
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
