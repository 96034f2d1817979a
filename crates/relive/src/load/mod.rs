//! Stage 6, an `Image` to a `Loaded`: in the process, reachable from nowhere.
//!
//! Also the questions about the process that linking needs answered before: what the entries to be redirected look like
//! today, where there is room, near the code and in every thread, and where imports are. The agent in the process opens
//! arenas and looks names up; everything it says is checked. Images are written from outside, into memory that nothing in
//! the program refers to.

pub mod anchor;
mod arena;
mod entries;
mod room;
mod threads;

use std::time::Duration;

use relive_process::agent::AgentLink;
use relive_process::memory::Memory;
use relive_wire::LiveAddr;

use crate::Error;
use crate::link::Image;

pub use arena::Arena;
pub(crate) use arena::perform;
pub use entries::{Entries, examine};
pub use room::{Reserved, Room};
pub use threads::ThreadReserve;

/// How long the agent may take to look a name up.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// An image that is in the process.
#[derive(Debug)]
pub struct Loaded {
    /// What was loaded.
    pub image: Image,
}

/// The addresses of what comes from shared objects.
///
/// # Errors
/// `Gone` if the program ended meanwhile, `Fatal` for a name that none of its objects has.
pub fn imports(names: &[String], agent: &mut AgentLink, alive: &dyn Fn() -> bool) -> Result<Vec<LiveAddr>, Error> {
    names.iter().map(|name| Ok(agent.resolve(name, RESOLVE_TIMEOUT, alive)?)).collect()
}

/// Brings `image` into the arena's file, for tools, and then into memory; checks that it is there, byte for byte.
///
/// # Errors
/// `Gone` if the program ended meanwhile, otherwise what failed. The program is unchanged but for memory it does not use.
pub fn load(image: Image, reserved: &Reserved, arena: &mut Arena, memory: &Memory) -> Result<Loaded, Error> {
    arena.add(&image, reserved)?;
    for part in image.parts() {
        put(memory, part.addr, &part.bytes)?;
    }
    // Whoever unwinds meanwhile sees the table without the new entries, or with them: the count is one word.
    put(memory, reserved.search_entries(), &image.search)?;
    put(memory, reserved.search_count(), &(reserved.used.searched as u32).to_le_bytes())?;
    Ok(Loaded { image })
}

fn put(memory: &Memory, addr: LiveAddr, bytes: &[u8]) -> Result<(), Error> {
    memory.write(addr, bytes)?;
    if memory.read_vec(addr, bytes.len())? == bytes {
        return Ok(());
    }
    Err(Error::Fatal(format!("what was written to {addr} is not there")))
}
