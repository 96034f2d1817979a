//! Stage 5, what was accepted to an `Image`: final bytes, addresses, unwind information, symbols.
//!
//! The image is prelinked: every address in it is final. It has no file of its own but is written into the free part of an
//! arena, a shared object that many images share (`arena`). Contents and sizes first (`Layout`), then addresses (`place`),
//! then bytes (`relocate`, `unwind`, `symbols`, `debug`); the result is read again and compared with the plan (`recheck`).

pub mod apply;
pub mod buffer;
pub mod jump;
pub mod shared;
pub mod update;

mod arena;
mod debug;
mod frame_writer;
mod globals;
mod host;
mod layout;
pub mod macho;
mod recheck;
mod relocate;
mod symbols;
mod unwind;

use relive_wire::LiveAddr;

use crate::arch::EntryPlan;
use crate::binary::object::NameId;
use crate::diff::reach::Reach;
use crate::diff::running::Body;
use crate::diff::threads::{PlannedThreadLocal, ThreadRoom};

pub use arena::{Addition, ArenaFile, FileStep, Used};
pub use layout::{Extent, Layout, Needs, Placement};

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

/// Code, data and what describes them, with the addresses that they are written to.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its code.
    pub text: Part,
    /// What the program does not write.
    pub constants: Part,
    /// Variables that do not begin as zeroes.
    pub variables: Part,
    /// Unwind entries.
    pub frames: Part,
    /// Entries of the arena's search table.
    pub search: Vec<u8>,
    /// What is appended to sections of the arena's file.
    pub additions: Vec<Addition>,
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

/// Bytes and the address that they are written to.
#[derive(Clone, Debug)]
pub struct Part {
    /// Of the first byte.
    pub addr: LiveAddr,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Image {
    /// The parts that are written to memory.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        [&self.text, &self.constants, &self.variables, &self.frames].into_iter().filter(|part| !part.bytes.is_empty())
    }
}

/// What a block of new thread-locals begins with, in every thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstValue {
    /// Its distance from the thread pointer.
    pub offset: i64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// How many bytes of debug information come with `reach`, at most.
#[must_use]
pub fn debug_size(reach: &Reach) -> u64 {
    debug::size(reach)
}

/// Gives everything in `reach` its place and its final bytes. `entries` has a plan for each body of each function that is
/// redirected for the first time.
///
/// # Errors
/// With the relocation, if something cannot be expressed at these addresses.
pub fn place(reach: &Reach, layout: &Layout, entries: &[EntryPlan], placement: &Placement) -> Result<Image, LinkError> {
    let map = layout.place(reach, entries, placement)?;
    let contents = relocate::contents(reach, &map)?;
    let mut additions = debug::additions(reach, &map);
    additions.extend(symbols::additions(reach, &map));
    let part = |addr, bytes| Part { addr, bytes };
    let image = Image {
        text: part(map.at.text.start, contents.text),
        constants: part(map.at.constants.start, contents.constants),
        variables: part(map.at.data.start, contents.data),
        frames: part(map.at.frames.start, contents.frames),
        search: contents.search,
        additions,
        stubs: (map.stubs.start, map.stubs.end()),
        functions: map.functions.clone(),
        data: map.data_items.clone(),
        library_functions: map.library_functions.clone(),
        thread_locals: reach.threads.thread_locals.clone(),
        first_values: contents.first_values,
        thread_room: reach.threads.room,
    };
    recheck::recheck(&image, &map)?;
    Ok(image)
}
