//! Files as relive reads and leaves them: mapped, and replaced as a whole. Knows no format.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use relive_process::MappedFile;

use crate::Error;
use crate::binary::bytes::Bytes;

/// Ending of a file that is being written.
pub(crate) const UNFINISHED: &str = "unfinished";

/// The bytes of the file at `path`, for as long as somebody has them.
pub(crate) fn map(path: &Path) -> Result<Bytes, Error> {
    MappedFile::open(path).map(Bytes::new).map_err(|why| Error::file(path, "map", why))
}

/// Writes `bytes` to `path` so that a reader sees all of it or the old file. Threads and processes that do so at once do not
/// get in each other's way: each writes a file of its own, and the later name wins.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let unfinished = path.with_extension(format!("{}-{number}.{UNFINISHED}", std::process::id()));
    let written = fs::write(&unfinished, bytes)
        .map_err(|why| Error::file(&unfinished, "write", why))
        .and_then(|()| fs::rename(&unfinished, path).map_err(|why| Error::file(path, "put in place", why)));
    if written.is_err() {
        let _ = fs::remove_file(&unfinished); // What cannot be written may not be there either.
    }
    written
}
