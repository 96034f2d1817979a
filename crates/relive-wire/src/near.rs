//! The memory just below the executable: one control block, and below it the slots that images are loaded into.
//!
//! ```text
//! low                                                                       high
//! | slot 0 | slot 1 | ... | slot N-1 |  control block  | gap | the executable |
//! ```
//!
//! Everything is within 2 GiB of the code, so a `rel32` reaches it. Both sides compute the same layout from the
//! address of the executable's first page; nothing about it is negotiated.

use crate::LiveAddr;

/// Size of one slot in bytes. An image takes as many consecutive slots as it needs.
pub const SLOT_SIZE: u64 = 512 << 10;
/// Number of slots.
pub const SLOT_COUNT: u64 = 1920;
/// Load bias of every image, in bytes. Not zero: Rust's symboliser takes an object with bias zero for a statically
/// linked main program and opens the executable in its place.
///
/// glibc maps a first `PT_LOAD` with `p_align` = 2 * [`IMAGE_BIAS`] and `p_vaddr` = target - [`IMAGE_BIAS`] at the next
/// aligned address, which is the target.
pub const IMAGE_BIAS: u64 = 0x1000;
/// Alignment of the first segment of every image.
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

/// Where the control block and the slots of one process are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NearLayout {
    /// First byte of the control block.
    pub control: LiveAddr,
    /// First byte of slot 0.
    pub slots: LiveAddr,
}

impl NearLayout {
    /// The layout for an executable whose first page is at `exe_start`; `None` if there is no room below it (a
    /// position-dependent executable).
    #[must_use]
    pub const fn below(exe_start: LiveAddr) -> Option<NearLayout> {
        let top = exe_start.0 & !(ALIGN - 1);
        let need = 2 * ALIGN + SLOT_SIZE * SLOT_COUNT;
        if top < need + ALIGN {
            return None;
        }
        let control = top - 2 * ALIGN;
        Some(NearLayout { control: LiveAddr(control), slots: LiveAddr(control - SLOT_SIZE * SLOT_COUNT) })
    }

    /// First byte of slot `index`; higher indices lie higher, so an image that spans slots k, k+1, .. is contiguous.
    #[must_use]
    pub const fn slot(&self, index: u64) -> LiveAddr {
        LiveAddr(self.slots.0 + SLOT_SIZE * index)
    }

    /// Address of table 0 or 1.
    #[must_use]
    pub const fn table(&self, which: u64) -> LiveAddr {
        LiveAddr(self.control.0 + CONTROL_TABLES + (which & 1) * TABLE_ENTRIES * 8)
    }
}
