//! Slots below the executable: who has which, and the files that stand for them.
//!
//! Gives consecutive free slots for an image of a given size, lowest distance to the code first, and writes the image's
//! file under the name that the agent announced for each of them. Nothing is ever given back: old code may be on a stack.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use relive_wire::near::{IMAGE_ALIGN, SLOT_COUNT, SLOT_SIZE};
use relive_wire::{LiveAddr, NearLayout};

use crate::Error;

/// The free slots of a process.
#[derive(Clone, Debug)]
pub struct Room {
    near: NearLayout,
    /// Slots below this index are free.
    free: u64,
}

/// Slots for one image.
#[derive(Clone, Copy, Debug)]
pub struct Reserved {
    /// First byte.
    pub base: LiveAddr,
    /// Bytes.
    pub size: u64,
    first: u64,
    count: u64,
}

impl Room {
    /// All slots of `near` are free.
    #[must_use]
    pub fn new(near: NearLayout) -> Room {
        Room { near, free: SLOT_COUNT }
    }

    /// Room for `size` bytes; `None` if there is not enough left. Taken for good by [`Room::take`].
    #[must_use]
    pub fn find(&self, size: u64) -> Option<Reserved> {
        // The loader maps up to one alignment unit more than it keeps.
        let count = (size + 2 * IMAGE_ALIGN).div_ceil(SLOT_SIZE);
        let first = self.free.checked_sub(count)?;
        Some(Reserved {
            base: self.near.slot(first).plus(IMAGE_ALIGN),
            size: count * SLOT_SIZE - 2 * IMAGE_ALIGN,
            first,
            count,
        })
    }

    /// Takes the room: whatever happens from here on, it is not used again.
    pub fn take(&mut self, reserved: &Reserved) {
        self.free = self.free.min(reserved.first);
    }

    /// How many slots are left.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.free
    }
}

impl Reserved {
    /// Writes the image's file under its slots' names; gives the first.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, file: &[u8], folder: &Path) -> Result<PathBuf, Error> {
        let name = |slot: u64| folder.join(format!("{slot:04}.so"));
        let path = name(self.first);
        fs::write(&path, file).map_err(|error| {
            let why = if error.kind() == ErrorKind::NotFound {
                "its folder was removed, by `cargo clean` perhaps; start relive again".to_owned()
            } else {
                error.to_string()
            };
            Error::file(&path, "write the image to", why)
        })?;
        for slot in self.first + 1..self.first + self.count {
            let other = name(slot);
            match fs::remove_file(&other) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(Error::file(&other, "replace", error)),
            }
            fs::hard_link(&path, &other).map_err(|error| Error::file(&other, "link the image to", error))?;
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_taken_from_the_top_and_run_out() {
        let near = NearLayout::below(LiveAddr(0x5555_5555_4000)).unwrap();
        let mut room = Room::new(near);
        let small = room.find(1000).unwrap();
        room.take(&small);
        let large = room.find(3 * SLOT_SIZE).unwrap();
        assert!(large.base.plus(large.size) <= small.base);
        assert_eq!(large.base.0 % IMAGE_ALIGN, 0);
        room.take(&large);
        assert_eq!(room.left(), SLOT_COUNT - 5);
        assert!(room.find(SLOT_COUNT * SLOT_SIZE).is_none());
    }
}
