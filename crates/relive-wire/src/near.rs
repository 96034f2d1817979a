//! The memory just below the executable: one control block, and below it the arenas that images are put into.
//!
//! ```text
//! low                                                                          high
//! | arena 0 | arena 1 | ... | arena N-1 |  control block  | gap | the executable |
//!
//! one arena, from ARENA_FIRST to ARENA_END:
//! | search table | frames | constants |   code   | variables |
//!        R           R          R         R X        R W
//! ```
//!
//! An arena is a shared object that is opened empty; images are written into its free parts one behind the other, so that
//! mappings and objects do not grow with the number of patches.
//!
//! Everything is within 2 GiB of the code, so a `rel32` reaches it. Both sides compute the same layout from the
//! address of the executable's first page; nothing about it is negotiated.

use crate::LiveAddr;

/// Size of one arena in bytes.
pub const ARENA_SIZE: u64 = 32 << 20;
/// Number of arenas.
pub const ARENA_COUNT: u64 = 30;
/// Offset in an arena of the first byte that is loaded: the loader maps up to one alignment unit more than it keeps.
pub const ARENA_FIRST: u64 = IMAGE_ALIGN;
/// Offset of the `.eh_frame_hdr`: 12 bytes, then the search table.
pub const ARENA_SEARCH: u64 = ARENA_FIRST + 0x1000;
/// Offset of the `.eh_frame`.
pub const ARENA_FRAMES: u64 = 1 << 20;
/// Offset of the constants.
pub const ARENA_CONSTANTS: u64 = 4 << 20;
/// Offset of the code.
pub const ARENA_TEXT: u64 = 11 << 20;
/// Offset of the page that the loader keeps its dynamic section in; the variables follow it.
pub const ARENA_DYNAMIC: u64 = ARENA_TEXT + GRANULE_SIZE * GRANULES;
/// Offset of the variables.
pub const ARENA_VARIABLES: u64 = ARENA_DYNAMIC + 0x1000;
/// Offset behind the last byte that is loaded.
pub const ARENA_END: u64 = ARENA_SIZE - IMAGE_ALIGN;

/// The unit in which room for code is given away, in bytes: each is announced to the program as an object of its own.
pub const GRANULE_SIZE: u64 = 32 << 10;
/// Granules in the code of one arena.
pub const GRANULES: u64 = 512;

/// Load bias of every arena, in bytes. Not zero: Rust's symboliser takes an object with bias zero for a statically
/// linked main program and opens the executable in its place.
///
/// glibc maps a first `PT_LOAD` with `p_align` = 2 * [`IMAGE_BIAS`] and `p_vaddr` = target - [`IMAGE_BIAS`] at the next
/// aligned address, which is the target.
pub const IMAGE_BIAS: u64 = 0x1000;
/// Alignment of the first segment of every arena.
pub const IMAGE_ALIGN: u64 = 2 * IMAGE_BIAS;

/// Entries in each of the two tables of the control block.
pub const TABLE_ENTRIES: u64 = 1 << 16;
/// Offset of the word that holds the address of the current table, the word a commit writes.
pub const CONTROL_TABLE_WORD: u64 = 0;
/// Offset of the first table. The second follows it.
pub const CONTROL_TABLES: u64 = 0x1000;
/// Size of the control block in bytes.
pub const CONTROL_SIZE: u64 = CONTROL_TABLES + 2 * TABLE_ENTRIES * 8;

const ALIGN: u64 = 2 << 20;

/// Where the control block and the arenas of one process are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NearLayout {
    /// First byte of the control block.
    pub control: LiveAddr,
    /// First byte of arena 0.
    pub arenas: LiveAddr,
}

impl NearLayout {
    /// The layout for an executable whose first page is at `exe_start`; `None` if there is no room below it (a
    /// position-dependent executable).
    #[must_use]
    pub const fn below(exe_start: LiveAddr) -> Option<NearLayout> {
        let top = exe_start.0 & !(ALIGN - 1);
        let need = 2 * ALIGN + ARENA_SIZE * ARENA_COUNT;
        if top < need + ALIGN {
            return None;
        }
        let control = top - 2 * ALIGN;
        Some(NearLayout { control: LiveAddr(control), arenas: LiveAddr(control - ARENA_SIZE * ARENA_COUNT) })
    }

    /// First byte of arena `index`.
    #[must_use]
    pub const fn arena(&self, index: u64) -> LiveAddr {
        LiveAddr(self.arenas.0 + ARENA_SIZE * index)
    }

    /// First byte of granule `index`, counted through all arenas.
    #[must_use]
    pub const fn granule(&self, index: u64) -> LiveAddr {
        LiveAddr(self.arena(index / GRANULES).0 + ARENA_TEXT + GRANULE_SIZE * (index % GRANULES))
    }

    /// Whether `addr` lies in an arena.
    #[must_use]
    pub const fn in_arenas(&self, addr: LiveAddr) -> bool {
        self.arenas.0 <= addr.0 && addr.0 < self.control.0
    }

    /// Address of table 0 or 1.
    #[must_use]
    pub const fn table(&self, which: u64) -> LiveAddr {
        LiveAddr(self.control.0 + CONTROL_TABLES + (which & 1) * TABLE_ENTRIES * 8)
    }
}
