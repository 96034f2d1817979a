//! Snapshots of binaries, with their indexes kept in files.
//!
//! Takes the path of a binary and a folder, gives the binary's [`Snapshot`]. An index that was kept before is mapped and
//! checked; one that is missing, damaged or of another binary is built anew and put in the folder: written under another
//! name, then renamed, so that a reader sees a whole one or none. A folder that cannot be written costs time and nothing
//! else. What an index says is not decided here.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::Error;
use crate::binary::bytes::Bytes;
use crate::binary::object::ObjectError;
use crate::binary::snapshot::{self, Identity, Machine, Snapshot};
use crate::compile::files;

/// Indexes that a folder keeps; older ones go.
const KEPT: usize = 8;

/// A snapshot and where it comes from.
#[derive(Debug)]
pub struct Opened {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Where its index comes from.
    pub source: Source,
    /// How long it took, from opening the binary on.
    pub took: Duration,
}

/// Where an index comes from.
#[derive(Debug)]
pub enum Source {
    /// It was kept in this file.
    Kept(PathBuf),
    /// It was built, and is kept in this file from now on.
    Built(PathBuf),
    /// It was built and is not kept, for this reason.
    Lost(String),
}

/// The snapshot of `binary`, whose index is kept in `folder`; with `machine`, of that slice of a universal file.
///
/// # Errors
/// If the binary cannot be read or is not well-formed. Nothing that is wrong with the folder is an error.
pub fn open(binary: &Path, machine: Option<Machine>, folder: Option<&Path>) -> Result<Opened, Error> {
    let began = Instant::now();
    let unreadable = |why: ObjectError| Error::file(binary, "read the symbols of", why);
    let data = snapshot::slice(&files::map(binary)?, machine).map_err(unreadable)?;
    let done = |snapshot, source| Opened { snapshot, source, took: began.elapsed() };
    let Some(folder) = folder else {
        let snapshot = Snapshot::read(data).map_err(unreadable)?;
        return Ok(done(snapshot, Source::Lost("there is no folder for it".into())));
    };
    let path = folder.join(file_name(&snapshot::identity(&data).map_err(unreadable)?));
    if let Some(snapshot) = kept(&path, &data) {
        return Ok(done(snapshot, Source::Kept(path)));
    }
    let snapshot = Snapshot::read(data).map_err(unreadable)?;
    let source = match keep(&snapshot, folder, &path) {
        Ok(()) => Source::Built(path),
        Err(why) => Source::Lost(why.to_string()),
    };
    Ok(done(snapshot, source))
}

/// Key and size: a binary and its stripped copy have one key.
fn file_name(identity: &Identity) -> String {
    format!("{}-{:x}.index", identity.key, identity.size)
}

/// The snapshot with the index in `path`, if it is whole and of this binary.
fn kept(path: &Path, data: &Bytes) -> Option<Snapshot> {
    Snapshot::open(files::map(path).ok()?, data.clone()).ok()
}

fn keep(snapshot: &Snapshot, folder: &Path, path: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(|why| Error::file(folder, "write", why))?;
    files::replace(path, snapshot.index())?;
    forget(folder);
    Ok(())
}

/// Removes all but the newest; what cannot be removed stays.
fn forget(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let ours = |path: &PathBuf| path.extension().is_some_and(|end| end == "index" || end == files::UNFINISHED);
    let time = |path: &PathBuf| fs::metadata(path).and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut files: Vec<_> =
        entries.flatten().map(|entry| entry.path()).filter(ours).map(|path| (time(&path), path)).collect();
    files.sort();
    for (_, path) in files.iter().rev().skip(KEPT) {
        let _ = fs::remove_file(path);
    }
}
