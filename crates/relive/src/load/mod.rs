//! Stage 6, an `Image` to a `Loaded`: in the process, reachable from nowhere.
//!
//! Also the questions about the process that linking needs answered before: what the entries to be redirected look like
//! today, and where there is room, near the code and in every thread. The agent in the process does the opening; everything it says is checked.

mod entries;
mod room;
mod threads;

use std::path::Path;
use std::time::Duration;

use relive_process::agent::AgentLink;
use relive_process::memory::Memory;
use relive_wire::near::IMAGE_BIAS;

use crate::Error;
use crate::link::Image;

pub use entries::{Entries, examine};
pub use room::{Reserved, Room};
pub use threads::ThreadReserve;

/// How long the agent may take to open an image.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// An image that is in the process.
#[derive(Debug)]
pub struct Loaded {
    /// What was loaded.
    pub image: Image,
}

/// Writes the image's file and has the agent open it; checks that it is where it must be, byte for byte.
///
/// # Errors
/// `Gone` if the program ended meanwhile, otherwise what failed. The program is unchanged but for memory it does not use.
pub fn load(
    image: Image,
    reserved: &Reserved,
    folder: &Path,
    agent: &mut AgentLink,
    memory: &Memory,
    alive: &dyn Fn() -> bool,
) -> Result<Loaded, Error> {
    let path = reserved.write(&image.file, folder)?;
    let bias = agent.open(&path, OPEN_TIMEOUT, alive)?;
    if bias.0 != IMAGE_BIAS {
        return Err(Error::Fatal(format!(
            "the loader placed the image {bias} beside its addresses instead of {IMAGE_BIAS:#x}"
        )));
    }
    let (start, offset, size) = image.text;
    let there = memory.read_vec(start, size as usize)?;
    let here = image.file.get(offset as usize..(offset + size) as usize).unwrap_or_default();
    if there != here {
        return Err(Error::Fatal("the loaded code differs from the image".into()));
    }
    Ok(Loaded { image })
}
