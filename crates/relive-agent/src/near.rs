//! The control block: mapped near the executable, with the first table in force.
//!
//! Takes the executable's first page, gives the layout if the block could be mapped at its place. The arenas
//! are not reserved; whoever opens one there finds out.

use relive_wire::near::{CONTROL_SIZE, CONTROL_TABLE_WORD};
use relive_wire::{LiveAddr, NearLayout};

use crate::sys;

/// The layout of this process, after its control block was mapped; `None` if the place is taken.
pub(crate) fn map_control(exe_start: LiveAddr) -> Option<NearLayout> {
    let layout = NearLayout::below(exe_start)?;
    sys::map_zeroed_at(layout.control, CONTROL_SIZE)?.store(CONTROL_TABLE_WORD, layout.table(0).0);
    Some(layout)
}
