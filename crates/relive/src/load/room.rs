//! Arenas below the executable: what of them is in use, and where an image goes.
//!
//! Gives room in the newest arena, or in a new one when that is full, lowest distance to the code first. Nothing is ever
//! given back: old code may be on a stack.

use relive_wire::near::{
    ARENA_CONSTANTS, ARENA_COUNT, ARENA_END, ARENA_FRAMES, ARENA_SEARCH, ARENA_TEXT, ARENA_VARIABLES, GRANULE_SIZE,
    GRANULES,
};
use relive_wire::{LiveAddr, NearLayout};

use crate::link::{ArenaFile, Extent, Needs, Placement, Used};

/// Bytes of the header before the search table, and of one of its entries.
const SEARCH_HEADER_LEN: u64 = 12;
const SEARCH_ENTRY_LEN: u64 = 8;
/// What the frames keep free for the zeroes that end them.
const TERMINATOR_LEN: u64 = 4;

/// What is in use in the arenas of a process.
#[derive(Clone, Debug)]
pub struct Room {
    near: NearLayout,
    /// The newest arena, and what of it is in use.
    newest: Option<(u64, Used)>,
}

/// Room for one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// The arena's number.
    pub arena: u64,
    /// Its first byte.
    pub start: LiveAddr,
    /// Whether it has to be made first.
    pub is_new: bool,
    /// First byte for the code.
    pub text: LiveAddr,
    /// First byte for constants.
    pub constants: LiveAddr,
    /// First byte for variables.
    pub variables: LiveAddr,
    /// First byte for unwind entries.
    pub frames: LiveAddr,
    /// Entries that the search table has before.
    pub searched: u64,
    /// What is in use with it.
    pub used: Used,
}

impl Room {
    /// All arenas of `near` are free.
    #[must_use]
    pub fn new(near: NearLayout) -> Room {
        Room { near, newest: None }
    }

    /// Room for what `needs` says; `None` if there is not enough left. Taken for good by [`Room::take`].
    #[must_use]
    pub fn find(&self, needs: &Needs) -> Option<Reserved> {
        let in_newest = self.newest.as_ref().and_then(|(arena, used)| self.reserve(*arena, used, needs));
        in_newest.or_else(|| self.find_new(needs))
    }

    /// The same in an arena of its own.
    #[must_use]
    pub fn find_new(&self, needs: &Needs) -> Option<Reserved> {
        let next = self.left().checked_sub(1)?;
        Some(Reserved { is_new: true, ..self.reserve(next, &Used::default(), needs)? })
    }

    fn reserve(&self, arena: u64, used: &Used, needs: &Needs) -> Option<Reserved> {
        let granules = Extent { align: GRANULE_SIZE, ..needs.text };
        let text = fit(used.text, granules, GRANULE_SIZE * GRANULES)?;
        let constants = fit(used.constants, needs.constants, ARENA_TEXT - ARENA_CONSTANTS)?;
        let variables = fit(used.variables, needs.variables, ARENA_END - ARENA_VARIABLES)?;
        let frames = fit(used.frames, needs.frames, ARENA_CONSTANTS - ARENA_FRAMES - TERMINATOR_LEN)?;
        let searched = used.searched + needs.searched;
        if SEARCH_HEADER_LEN + SEARCH_ENTRY_LEN * searched > ARENA_FRAMES - ARENA_SEARCH {
            return None;
        }
        let start = self.near.arena(arena);
        Some(Reserved {
            arena,
            start,
            is_new: false,
            text: start.plus(ARENA_TEXT + text),
            constants: start.plus(ARENA_CONSTANTS + constants),
            variables: start.plus(ARENA_VARIABLES + variables),
            frames: start.plus(ARENA_FRAMES + frames),
            searched: used.searched,
            used: Used {
                text: text + needs.text.size,
                constants: constants + needs.constants.size,
                variables: variables + needs.variables.size,
                frames: frames + needs.frames.size,
                searched,
            },
        })
    }

    /// Takes the room: whatever happens from here on, it is not used again.
    pub fn take(&mut self, reserved: &Reserved) {
        self.newest = Some((reserved.arena, reserved.used));
    }

    /// How many arenas were never used.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.newest.as_ref().map_or(ARENA_COUNT, |(arena, _)| *arena)
    }
}

impl Reserved {
    /// The room as the place of an image in the arena's `file`, with the addresses of its imports, the word that holds the
    /// current table's address, and the first unused entry of the table.
    #[must_use]
    pub fn placement<'a>(
        &self,
        file: &'a ArenaFile,
        imports: &'a [LiveAddr],
        table_word: LiveAddr,
        first_index: u32,
    ) -> Placement<'a> {
        let Reserved { text, constants, variables, frames, .. } = *self;
        Placement { text, constants, variables, frames, search: self.search(), file, imports, table_word, first_index }
    }

    /// Where the arena's `.eh_frame_hdr` is.
    #[must_use]
    pub fn search(&self) -> LiveAddr {
        self.start.plus(ARENA_SEARCH)
    }

    /// Where the word is that says how many entries the search table has.
    #[must_use]
    pub fn search_count(&self) -> LiveAddr {
        self.search().plus(SEARCH_HEADER_LEN - 4)
    }

    /// Where the first entry of the search table goes.
    #[must_use]
    pub fn search_entries(&self) -> LiveAddr {
        self.search().plus(SEARCH_HEADER_LEN + SEARCH_ENTRY_LEN * self.searched)
    }

    /// Numbers of the granules that the code lies in.
    #[must_use]
    pub fn granules(&self) -> std::ops::Range<u64> {
        let first = self.arena * GRANULES + self.text.minus(self.start.plus(ARENA_TEXT)) as u64 / GRANULE_SIZE;
        first..self.arena * GRANULES + self.used.text.div_ceil(GRANULE_SIZE)
    }
}

/// Where `extent` goes behind `used` bytes; `None` if that is more than `room`.
fn fit(used: u64, extent: Extent, room: u64) -> Option<u64> {
    let start = used.checked_next_multiple_of(extent.align)?;
    (start.checked_add(extent.size)? <= room).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(text: u64, constants: u64) -> Needs {
        let extent = |size| Extent { size, align: 16 };
        let (text, constants) = (extent(text), extent(constants));
        Needs { text, constants, variables: extent(8), frames: Extent { size: 20, align: 4 }, searched: 2 }
    }

    fn room() -> Room {
        Room::new(NearLayout::below(LiveAddr(0x5555_5555_4000)).unwrap())
    }

    #[test]
    fn images_follow_each_other_in_one_arena() {
        let mut room = room();
        let first = room.find(&needs(100, 1000)).unwrap();
        assert!(first.is_new);
        assert_eq!(first.arena, ARENA_COUNT - 1);
        room.take(&first);
        let second = room.find(&needs(GRANULE_SIZE + 1, 10)).unwrap();
        assert!(!second.is_new);
        assert_eq!(second.text, first.text.plus(GRANULE_SIZE));
        assert_eq!(second.constants, first.constants.plus(1008));
        assert_eq!(second.variables, first.variables.plus(16));
        assert_eq!(second.frames, first.frames.plus(20));
        assert_eq!(second.search_entries(), first.search_entries().plus(16));
        let start = first.arena * GRANULES;
        assert_eq!((first.granules(), second.granules()), (start..start + 1, start + 1..start + 3));
    }

    #[test]
    fn a_full_arena_is_followed_by_the_one_below_until_none_is_left() {
        let mut room = room();
        let half = needs(GRANULE_SIZE * GRANULES / 2 + 1, 10);
        for arena in (0..ARENA_COUNT).rev() {
            let reserved = room.find(&half).unwrap();
            assert_eq!((reserved.arena, reserved.is_new, room.left()), (arena, true, arena + 1));
            room.take(&reserved);
        }
        assert_eq!(room.find(&half), None);
        assert!(room.find(&needs(1, 1)).is_some_and(|reserved| reserved.arena == 0));
    }

    #[test]
    fn what_no_arena_can_hold_has_no_room() {
        assert_eq!(room().find(&needs(GRANULE_SIZE * GRANULES + 1, 1)), None);
        assert_eq!(room().find(&needs(1, ARENA_TEXT)), None);
    }
}
