//! Where a binary is loaded in a process: the system's list of mappings and the process's memory, for
//! [`binary::anchor`](crate::binary::anchor), which decides.

use std::path::Path;

use relive_process::maps::{Mapping, MemoryMap};
use relive_process::memory::Memory;
use relive_process::{FileId, LiveAddr};

use crate::Error;
use crate::binary::address::Slide;
use crate::binary::anchor::{self, AnchorError, Loaded, Mapped};
use crate::binary::snapshot::Snapshot;

/// Every copy of the binary in the process, lowest address first. `file` is where the snapshot was read.
///
/// # Errors
/// If the mappings cannot be read, or what is mapped from `file` is another binary: then both are named.
pub fn find(binary: &Snapshot, file: &Path, memory: &Memory) -> Result<Vec<Loaded>, Error> {
    let mapped = mapped(file, memory)?;
    anchor::find(binary, &mapped, &mut reader(memory)).map_err(|why| wrong(file, memory, &why))
}

/// The one copy of the binary in the process.
///
/// # Errors
/// As [`find`], and if there is none or several; then all are named.
pub fn find_one(binary: &Snapshot, file: &Path, memory: &Memory) -> Result<Loaded, Error> {
    let mapped = mapped(file, memory)?;
    anchor::find_one(binary, &mapped, &mut reader(memory)).map_err(|why| wrong(file, memory, &why))
}

/// The slide of the binary whose first page is at `first_page`.
///
/// # Errors
/// If what is there is another binary.
pub fn at(binary: &Snapshot, file: &Path, first_page: LiveAddr, memory: &Memory) -> Result<Slide, Error> {
    if memory.read_some(first_page, &mut [0]).is_err() {
        return Ok(binary.slide_at(first_page)); // the program has ended: nothing will be done with it
    }
    let name = file.to_string_lossy();
    anchor::at(binary, first_page, &name, &mut reader(memory)).map_err(|why| wrong(file, memory, &why))
}

fn reader(memory: &Memory) -> impl FnMut(LiveAddr, &mut [u8]) -> bool {
    |addr, bytes| memory.read(addr, bytes).is_ok()
}

fn wrong(file: &Path, memory: &Memory, why: &AnchorError) -> Error {
    Error::file(file, "find in the process", format!("process {}: {why}", memory.pid()))
}

/// The mappings of files. A file that was replaced keeps its path in the list, marked as deleted; it is the snapshot's own
/// as far as the list says, and the build-id tells. Some file systems state another device here than elsewhere.
fn mapped(file: &Path, memory: &Memory) -> Result<Vec<Mapped>, Error> {
    let map = MemoryMap::read(memory.pid())?;
    let own = FileId::of(file).map_err(|why| Error::file(file, "look at", why))?;
    let path = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let is_own = |entry: &Mapping| {
        let name = entry.path.to_string_lossy();
        let name = Path::new(name.strip_suffix(" (deleted)").unwrap_or(&name));
        name == path || (entry.dev, entry.ino) == (own.dev, own.ino)
    };
    let files = map.entries().iter().filter(|entry| entry.ino != 0);
    Ok(files
        .map(|entry| Mapped {
            start: entry.start,
            end: entry.end,
            offset: entry.offset,
            file: (entry.dev, entry.ino),
            is_own: is_own(entry),
            name: entry.path.to_string_lossy().into_owned(),
        })
        .collect())
}
