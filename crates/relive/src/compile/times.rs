//! The age of libraries that are made once more: what relive builds again only to see how it is made is no newer than it
//! was, and cargo must not build the user's own dependents again for it. Takes what cargo had before, gives the new files
//! the old times. A source that changed in between is noticed, and then the new file is new.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::cargo_messages::Artifact;
use super::{as_rlib, record};
use crate::Error;
use crate::compile::record::Raw;

/// Notes the times of all libraries among `artifacts`, for the wrappers of one cargo run.
pub(crate) fn note(relive: &Path, artifacts: &[Artifact]) -> Result<(), Error> {
    let named = artifacts.iter().flat_map(|artifact| &artifact.filenames);
    let files = named.flat_map(|path| [as_rlib(path), path.clone()]);
    let timed = files.filter_map(|path| Some((Raw::from(path.clone()), modified(&path)?)));
    record::write_json(&list(relive), &timed.collect::<Vec<_>>())
}

/// Forgets them again; a list left by a killed session is of no use.
pub(crate) fn forget(relive: &Path) {
    fs::remove_file(list(relive)).ok();
}

/// Gives each of `outputs` the time it had, unless one of `inputs` is as young.
pub(crate) fn restore(relive: &Path, outputs: &[PathBuf], inputs: &[PathBuf]) -> Result<(), Error> {
    let path = list(relive);
    if !path.is_file() {
        return Ok(());
    }
    let noted: Vec<(Raw, SystemTime)> = record::read_json(&path)?;
    let noted: HashMap<PathBuf, SystemTime> = noted.into_iter().map(|(path, time)| (path.0.into(), time)).collect();
    for output in outputs.iter().filter(|output| output.is_file()) {
        let Some(before) = noted.get(output) else { continue };
        if inputs.iter().all(|input| modified(input).is_some_and(|time| time < *before)) {
            let file = File::options().append(true).open(output).map_err(|why| Error::file(output, "open", why))?;
            file.set_modified(*before).map_err(|why| Error::file(output, "date", why))?;
        }
    }
    Ok(())
}

fn list(relive: &Path) -> PathBuf {
    relive.join("times.json")
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|meta| meta.modified()).ok()
}
