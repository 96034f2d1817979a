//! Stage 5, what was accepted to an `Image`: final bytes, addresses, unwind information, symbols.
//!
//! The image is a small prelinked shared object: every address in it is final, but for the words that ld.so fills with the
//! addresses of shared objects' symbols. Contents and sizes first (`Layout`), then addresses (`place`), then bytes
//! (`relocate`, `unwind`, `debug`, `elf`); the result is parsed again and compared with the plan (`recheck`).

mod debug;
mod elf;
mod layout;
mod recheck;
mod relocate;
mod unwind;

use relive_wire::LiveAddr;

use crate::arch::EntryPlan;
use crate::binary::object::NameId;
use crate::diff::reach::Reach;
use crate::diff::running::Body;
use crate::diff::threads::{PlannedThreadLocal, ThreadRoom};

pub use layout::{Layout, Placement};

/// Why what was accepted cannot be expressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkError(pub String);

impl std::fmt::Display for LinkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LinkError {}

/// How one entry that runs today is led to the image.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// The old entry.
    pub entry: EntryPlan,
    /// The stub it will jump to.
    pub stub: LiveAddr,
    /// The old body's first instructions, moved: how the old body is entered from then on.
    pub trampoline: LiveAddr,
}

/// A function in the image.
#[derive(Clone, Debug)]
pub struct LinkedFunction {
    /// Its name.
    pub name: NameId,
    /// Its linkage name.
    pub text: String,
    /// Its entry in the table.
    pub index: u32,
    /// Where it is called from now on.
    pub stub: LiveAddr,
    /// What pointers to it hold.
    pub canonical: LiveAddr,
    /// Its code.
    pub body: Body,
    /// Old entries that lead nowhere else yet.
    pub redirects: Vec<Redirect>,
    /// The old bodies.
    pub older: Vec<Body>,
}

/// Something in the image that later patches bind to by name.
#[derive(Clone, Debug)]
pub struct LinkedItem {
    /// Its name.
    pub name: NameId,
    /// Where it is.
    pub addr: LiveAddr,
    /// Its size in bytes.
    pub size: u64,
}

/// A prelinked shared object.
#[derive(Clone, Debug)]
pub struct Image {
    /// The file.
    pub file: Vec<u8>,
    /// First loaded byte.
    pub base: LiveAddr,
    /// End of the loaded bytes.
    pub end: LiveAddr,
    /// Where its code is, and the offset of the code in the file.
    pub text: (LiveAddr, u64, u64),
    /// First and end address of its stubs.
    pub stubs: (LiveAddr, LiveAddr),
    /// Functions with an entry in the table.
    pub functions: Vec<LinkedFunction>,
    /// Variables.
    pub data: Vec<LinkedItem>,
    /// Functions from libraries.
    pub library_functions: Vec<LinkedItem>,
    /// New thread-locals.
    pub thread_locals: Vec<PlannedThreadLocal>,
    /// What their storage begins with.
    pub first_values: Vec<FirstValue>,
    /// The reserve as it is once they have it.
    pub thread_room: ThreadRoom,
}

/// What a block of new thread-locals begins with, in every thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstValue {
    /// Its distance from the thread pointer.
    pub offset: i64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Gives everything in `reach` its place and its final bytes. `entries` has a plan for each body of each function that is
/// redirected for the first time.
///
/// # Errors
/// With the relocation, if something cannot be expressed at these addresses.
pub fn place(reach: &Reach, layout: &Layout, entries: &[EntryPlan], placement: &Placement) -> Result<Image, LinkError> {
    let map = layout.place(reach, entries, placement)?;
    let loaded = relocate::contents(reach, &map)?;
    let image = elf::write(reach, &map, loaded)?;
    recheck::recheck(&image, &map)?;
    Ok(image)
}
