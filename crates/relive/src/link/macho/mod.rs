//! What a Mach-O image has besides code and data: compact unwind information, and where data lies among code.
//!
//! Takes and gives values and bytes of single sections. Knows nothing of load commands, symbols or relocations: whoever
//! lays an image out calls this with addresses that are final.

pub mod compact_unwind;
pub mod data_in_code;
pub mod eh_frame;
pub mod unwind_info;

use std::fmt;

use relive_wire::LiveAddr;

use super::LinkError;

/// How many bytes something lies behind its image's mach header: what `__unwind_info` has instead of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageOffset(pub u32);

impl ImageOffset {
    /// Of `addr` in the image whose mach header is at `base`.
    ///
    /// # Errors
    /// With both addresses, if `addr` lies below `base` or 4 GiB and more above it.
    pub fn of(addr: LiveAddr, base: LiveAddr) -> Result<ImageOffset, LinkError> {
        let offset = u32::try_from(addr.minus(base)).map(ImageOffset);
        offset.map_err(|_| LinkError(format!("{addr} is out of reach of the unwind table of the image at {base}")))
    }
}

impl fmt::Display for ImageOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "image offset {:#x}", self.0)
    }
}

/// The four bytes at `at`, as a little-endian number.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    field.try_into().ok().map(u32::from_le_bytes)
}

/// The two bytes at `at`, as a little-endian number.
fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..at.checked_add(2)?)?;
    field.try_into().ok().map(u16::from_le_bytes)
}

/// The eight bytes at `at`, as a little-endian number.
fn double(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(8)?)?;
    field.try_into().ok().map(u64::from_le_bytes)
}
