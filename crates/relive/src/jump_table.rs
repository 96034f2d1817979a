//! A jump table for a program that has the subsecond runtime: the library call behind `cargo relive jump-table`.
//!
//! Takes the program that runs and objects of its new code; writes a shared object and gives the table that the runtime's
//! `apply_patch` takes, in the published type. What the patch may not do is said by `link::jump`.

use std::path::Path;
use std::sync::Arc;

use subsecond_types::JumpTable;

use crate::Error;
use crate::binary::archive::ArchiveIndex;
use crate::binary::object::Object;
use crate::binary::snapshot::Snapshot;
use crate::compile::files;
use crate::link::jump::{self, JumpPatch};

/// What was made.
#[derive(Debug)]
pub struct Made {
    /// The table.
    pub table: JumpTable,
    /// Variables that the program does not have.
    pub new_variables: Vec<String>,
    /// Local functions that are not replaced, because the program has several by that name.
    pub ambiguous: Vec<String>,
}

/// Links `objects` for the program whose executable is at `old`, writes the library to `library`. Of the objects, archives
/// (`.rlib`, `.a`) only supply what is missing.
///
/// # Errors
/// If a file cannot be read or written, or the patch cannot be made, with the reason.
pub fn make(old: &Path, objects: &[impl AsRef<Path>], library: &Path) -> Result<Made, Error> {
    let data = files::map(old)?;
    let host = Snapshot::read(data.clone()).map_err(|why| Error::file(old, "read", why))?;
    let (mut whole, mut archives) = (Vec::new(), ArchiveIndex::default());
    for path in objects.iter().map(AsRef::as_ref) {
        let data = files::map(path)?;
        if data.starts_with(b"!<arch>\n") {
            archives.add(data).map_err(|why| Error::file(path, "read", why))?;
        } else {
            let object = Object::parse(data).map_err(|why| Error::file(path, "read", why))?;
            whole.push(Arc::new(object));
        }
    }
    let patch = jump::patch(&host, &data, whole, &archives);
    let patch = patch.map_err(|why| Error::file(old, "make a patch for", why))?;
    // A program may have an older one open.
    files::replace(library, &patch.library)?;
    // The loader looks a path without a slash up elsewhere.
    let library = library.canonicalize().map_err(|why| Error::file(library, "find", why))?;
    let JumpPatch { map, old_anchor, new_anchor, new_variables, ambiguous, .. } = patch;
    let table = JumpTable {
        lib: library,
        map: map.into_iter().map(|(old, new)| (old.0, new)).collect(),
        aslr_reference: old_anchor.0,
        new_base_address: new_anchor,
        ifunc_count: 0,
    };
    Ok(Made { table, new_variables, ambiguous })
}
