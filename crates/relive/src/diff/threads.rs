//! New thread-locals, and room for them in the reserve that every thread has.
//!
//! Takes where the reserve is and how much of it is in use; gives places, one behind the other, or why there is none. It
//! only counts: nothing is taken in the process until a switch is done, and then for good.

use relive_wire::reserve::{RESERVE_ALIGN, RESERVE_MARK, RESERVE_SIZE};

use crate::binary::object::{NameId, Section};
use crate::diff::reach::PieceIndex;

/// The reserve of a program, as far as it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadRoom {
    /// Distance of its first byte from the thread pointer; `None` if the program's threads have no reserve.
    start: Option<i64>,
    /// Bytes from its beginning that are in use, the mark included.
    used: u64,
}

/// Why there is no place for a thread-local.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoThreadRoom {
    /// It is aligned more strictly than the reserve: to so many bytes.
    Aligned(u64),
    /// The reserve is too full.
    Full {
        /// Bytes that it takes.
        size: u64,
        /// Bytes of the reserve that others have.
        used: u64,
    },
    /// The program's threads have no reserve.
    Absent,
}

/// Bytes of the reserve that thread-locals can have.
pub const THREAD_ROOM: u64 = (RESERVE_SIZE - RESERVE_MARK.len()) as u64;

impl ThreadRoom {
    /// An unused reserve, so far from the thread pointer.
    #[must_use]
    pub fn at(start: i64) -> ThreadRoom {
        ThreadRoom { start: Some(start), used: RESERVE_MARK.len() as u64 }
    }

    /// Distance of the reserve from the thread pointer.
    #[must_use]
    pub fn start(&self) -> Option<i64> {
        self.start
    }

    /// Bytes from the reserve's beginning that are in use.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Gives `size` bytes away: their distance from the thread pointer.
    ///
    /// # Errors
    /// If there is no room for them.
    pub fn take(&mut self, size: u64, align: u64) -> Result<i64, NoThreadRoom> {
        let start = self.start.ok_or(NoThreadRoom::Absent)?;
        if align > RESERVE_ALIGN {
            return Err(NoThreadRoom::Aligned(align));
        }
        let at = self.used.next_multiple_of(align.max(1));
        let end = at.checked_add(size).filter(|end| *end <= RESERVE_SIZE as u64);
        let full = NoThreadRoom::Full { size, used: self.used - RESERVE_MARK.len() as u64 };
        self.used = end.ok_or(full)?;
        Ok(start + at as i64)
    }
}

/// Storage in every thread for a section of new thread-locals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadBlock {
    /// The section. It takes no room in the image: it holds what the storage begins with.
    pub piece: PieceIndex,
    /// Distance of its first byte from the thread pointer.
    pub offset: i64,
    /// Its size in bytes.
    pub size: u64,
}

/// A new thread-local.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedThreadLocal {
    /// Its name.
    pub name: NameId,
    /// Its distance from the thread pointer.
    pub offset: i64,
}

/// The new thread-locals of one change.
#[derive(Clone, Debug, Default)]
pub struct ThreadPlan {
    /// Those that later patches bind to.
    pub thread_locals: Vec<PlannedThreadLocal>,
    /// Their storage.
    pub blocks: Vec<ThreadBlock>,
    /// The reserve as it is once they have it.
    pub room: ThreadRoom,
}

impl ThreadPlan {
    /// The distance of `piece` from the thread pointer, which is `section`; the first time it is given its place.
    ///
    /// # Errors
    /// If there is no room for it.
    pub fn place(&mut self, piece: PieceIndex, section: &Section) -> Result<i64, NoThreadRoom> {
        if let Some(known) = self.blocks.iter().find(|block| block.piece == piece) {
            return Ok(known.offset);
        }
        let offset = self.room.take(section.size, section.align)?;
        self.blocks.push(ThreadBlock { piece, offset, size: section.size });
        Ok(offset)
    }

    /// The piece that has the byte at `offset` from the thread pointer.
    #[must_use]
    pub fn piece_at(&self, offset: i64) -> Option<PieceIndex> {
        let holds = |block: &&ThreadBlock| (offset.wrapping_sub(block.offset) as u64) < block.size.max(1);
        self.blocks.iter().find(holds).map(|block| block.piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_aligned_and_never_overlap() {
        let mut room = ThreadRoom::at(-0x4000);
        let places = [(1, 1), (8, 8), (100, 64), (4, 4), (0, 1), (128, 128)].map(|(size, align)| {
            let at = room.take(size, align).expect("there is room");
            assert_eq!(at.rem_euclid(align as i64), 0);
            (at, at + size as i64)
        });
        assert!(places[0].0 >= -0x4000 + RESERVE_MARK.len() as i64);
        assert!(places.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{places:?}");
    }

    #[test]
    fn what_does_not_fit_takes_nothing() {
        let mut room = ThreadRoom::at(-0x4000);
        room.take(40, 8).expect("there is room");
        let before = room;
        assert_eq!(room.take(u64::MAX, 8), Err(NoThreadRoom::Full { size: u64::MAX, used: 40 }));
        assert_eq!(room.take(THREAD_ROOM - 39, 1), Err(NoThreadRoom::Full { size: THREAD_ROOM - 39, used: 40 }));
        assert_eq!(room.take(8, 256), Err(NoThreadRoom::Aligned(256)));
        assert_eq!(room, before);
        room.take(THREAD_ROOM - 40, 1).expect("exactly what is left");
        assert_eq!(ThreadRoom::default().take(0, 1), Err(NoThreadRoom::Absent));
    }
}
