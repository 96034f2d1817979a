//! A finished `__TEXT,__unwind_info` section, looked up as an unwinder does.
//!
//! Takes the section's bytes, of relive's own making or of any linker's; gives the unwind rule of an address. Does not
//! interpret the rule, and takes no memory: whatever the bytes say, a look-up is three binary searches.
//!
//! The format is that of `<mach-o/compact_unwind_encoding.h>`, version 1. All numbers are little-endian `u32`, function
//! addresses count from the mach header, and the other offsets from the start of the section:
//!
//! ```text
//! header         version, then offset and count of common encodings, of personalities, of the index
//! common         encodings that compressed pages share, at most 127
//! personalities  image offsets of the pointers to personality functions, at most 3
//! index          per page: first function, offset of the page, offset of its first LSDA row; the last is a sentinel
//! LSDA rows      function, LSDA; sorted by function
//! pages          of at most 4096 bytes: kind (2 regular, 3 compressed), u16 offset and u16 count of the entries;
//!                compressed: u16 offset and u16 count of encodings of its own
//!   regular      entries of function, encoding
//!   compressed   entries of 24 bits (distance from the page's first function) and, above them, 8 bits (an encoding: a
//!                common one, or from their count on one of the page's own)
//! ```

use super::compact_unwind::Encoding;
use super::{ImageOffset, half, word};
use crate::link::LinkError;

pub(super) const VERSION: u32 = 1;
pub(super) const HEADER_SIZE: usize = 28;
pub(super) const INDEX_ENTRY_SIZE: usize = 12;
pub(super) const LSDA_ROW_SIZE: usize = 8;
pub(super) const REGULAR: u32 = 2;
pub(super) const REGULAR_HEADER_SIZE: usize = 8;
pub(super) const REGULAR_ENTRY_SIZE: usize = 8;
pub(super) const COMPRESSED: u32 = 3;
pub(super) const COMPRESSED_HEADER_SIZE: usize = 12;
pub(super) const COMPRESSED_ENTRY_SIZE: usize = 4;
/// Of a compressed entry: the distance from the page's first function.
pub(super) const DISTANCE_MASK: u32 = 0x00ff_ffff;
/// Of a compressed entry: how far up its encoding's number is.
pub(super) const ENCODING_SHIFT: u32 = 24;

/// How a frame is left in which the program stands at some address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where the function begins, or the first of several neighbours with one rule.
    pub function: ImageOffset,
    /// The rule, with the bits that the linker set.
    pub encoding: Encoding,
    /// The pointer to the personality function.
    pub personality: Option<ImageOffset>,
    /// The function's language-specific data.
    pub lsda: Option<ImageOffset>,
}

/// The section, its tables found but not checked.
#[derive(Clone, Copy, Debug)]
pub struct UnwindInfo<'a> {
    bytes: &'a [u8],
    common: &'a [u8],
    personalities: &'a [u8],
    index: &'a [u8],
}

impl<'a> UnwindInfo<'a> {
    /// The tables in `bytes`, all of the section.
    ///
    /// # Errors
    /// With the offset, if the version is not 1 or a table lies outside the section.
    pub fn parse(bytes: &'a [u8]) -> Result<UnwindInfo<'a>, LinkError> {
        let version = read_word(bytes, 0, "version")?;
        if version != VERSION {
            return Err(LinkError(format!("__unwind_info: version {version} is unknown")));
        }
        let table = |field: usize, size: usize, what: &str| {
            let at = read_word(bytes, field, what)?;
            let count = read_word(bytes, field + 4, what)?;
            let range = (count as usize).checked_mul(size).and_then(|len| (at as usize).checked_add(len));
            range.and_then(|end| bytes.get(at as usize..end)).ok_or_else(|| {
                LinkError(format!("__unwind_info: {count} {what} at offset {at:#x} do not lie in the section"))
            })
        };
        Ok(UnwindInfo {
            bytes,
            common: table(4, 4, "common encodings")?,
            personalities: table(12, 4, "personalities")?,
            index: table(20, INDEX_ENTRY_SIZE, "index entries")?,
        })
    }

    /// The rule for the instruction at `at`; `None` where no function is or where it has no rule.
    ///
    /// # Errors
    /// With the offset in the section, if something that the rule needs is not there or of an unknown kind.
    pub fn lookup(&self, at: ImageOffset) -> Result<Option<Found>, LinkError> {
        let pages = (self.index.len() / INDEX_ENTRY_SIZE).saturating_sub(1);
        let Some(page) = last_not_after(at, pages, |page| word(self.index, page * INDEX_ENTRY_SIZE)) else {
            return Ok(None);
        };
        let end = read_word(self.index, (page + 1) * INDEX_ENTRY_SIZE, "index entry")?;
        if at.0 >= end {
            return Ok(None);
        }
        let Some((function, encoding)) = self.row(page, at)? else { return Ok(None) };
        if encoding == Encoding::NONE {
            return Ok(None);
        }
        let lsda = if encoding.has_lsda() { Some(self.lsda(page, function)?) } else { None };
        Ok(Some(Found { function, encoding, personality: self.personality(encoding)?, lsda }))
    }

    /// The entry of page number `page` for `at`.
    fn row(&self, page: usize, at: ImageOffset) -> Result<Option<(ImageOffset, Encoding)>, LinkError> {
        let offset = read_word(self.index, page * INDEX_ENTRY_SIZE + 4, "index entry")? as usize;
        let bytes = self.bytes.get(offset..).unwrap_or_default();
        let in_page = |why: LinkError| LinkError(format!("{why}, in the page at {offset:#x}"));
        match read_word(bytes, 0, "page").map_err(in_page)? {
            REGULAR => regular_row(bytes, at).map_err(in_page),
            COMPRESSED => {
                let base = read_word(self.index, page * INDEX_ENTRY_SIZE, "index entry")?;
                self.compressed_row(bytes, base, at).map_err(in_page)
            }
            kind => Err(LinkError(format!("__unwind_info: the page at {offset:#x} is of the unknown kind {kind}"))),
        }
    }

    fn compressed_row(
        &self,
        page: &[u8],
        base: u32,
        at: ImageOffset,
    ) -> Result<Option<(ImageOffset, Encoding)>, LinkError> {
        let entries = page.get(usize::from(read_half(page, 4, "entries")?)..).unwrap_or_default();
        let count = usize::from(read_half(page, 6, "entries")?);
        let entry = |row: usize| word(entries, row * COMPRESSED_ENTRY_SIZE);
        let start = |row: usize| base.checked_add(entry(row)? & DISTANCE_MASK);
        let Some(row) = last_not_after(at, count, start) else { return Ok(None) };
        let function = start(row).ok_or_else(|| missing("entry", row * COMPRESSED_ENTRY_SIZE))?;
        let number = entry(row).ok_or_else(|| missing("entry", row * COMPRESSED_ENTRY_SIZE))? >> ENCODING_SHIFT;
        let encoding = self.encoding(page, number as usize)?;
        Ok(Some((ImageOffset(function), encoding)))
    }

    fn encoding(&self, page: &[u8], number: usize) -> Result<Encoding, LinkError> {
        let common = self.common.len() / 4;
        let Some(own) = number.checked_sub(common) else {
            return read_word(self.common, number * 4, "common encoding").map(Encoding);
        };
        let at = usize::from(read_half(page, 8, "encodings")?);
        if own >= usize::from(read_half(page, 10, "encodings")?) {
            return Err(LinkError(format!("__unwind_info: there is no encoding number {number}")));
        }
        read_word(page, at + own * 4, "encoding").map(Encoding)
    }

    fn personality(&self, encoding: Encoding) -> Result<Option<ImageOffset>, LinkError> {
        let Some(number) = encoding.personality_number().checked_sub(1) else { return Ok(None) };
        let at = usize::from(number) * 4;
        read_word(self.personalities, at, "personality").map(|at| Some(ImageOffset(at)))
    }

    /// The row for `function` among those of page number `page`.
    fn lsda(&self, page: usize, function: ImageOffset) -> Result<ImageOffset, LinkError> {
        let bound = |page: usize| read_word(self.index, page * INDEX_ENTRY_SIZE + 8, "index entry");
        let (first, end) = (bound(page)? as usize, bound(page + 1)? as usize);
        let rows = self.bytes.get(first..end).ok_or_else(|| missing("LSDA row", first))?;
        let found =
            last_not_after(function, rows.len() / LSDA_ROW_SIZE, |row| word(rows, row * LSDA_ROW_SIZE)).unwrap_or(0);
        if word(rows, found * LSDA_ROW_SIZE) != Some(function.0) {
            return Err(LinkError(format!("__unwind_info: the function at {function} has no LSDA row")));
        }
        read_word(rows, found * LSDA_ROW_SIZE + 4, "LSDA row").map(ImageOffset)
    }
}

fn regular_row(page: &[u8], at: ImageOffset) -> Result<Option<(ImageOffset, Encoding)>, LinkError> {
    let entries = page.get(usize::from(read_half(page, 4, "entries")?)..).unwrap_or_default();
    let count = usize::from(read_half(page, 6, "entries")?);
    let Some(row) = last_not_after(at, count, |row| word(entries, row * REGULAR_ENTRY_SIZE)) else { return Ok(None) };
    let function = read_word(entries, row * REGULAR_ENTRY_SIZE, "entry")?;
    let encoding = read_word(entries, row * REGULAR_ENTRY_SIZE + 4, "entry")?;
    Ok(Some((ImageOffset(function), Encoding(encoding))))
}

/// The last of `count` ascending rows that does not begin after `at`. Rows that are not there count as lying after it.
fn last_not_after(at: ImageOffset, count: usize, start: impl Fn(usize) -> Option<u32>) -> Option<usize> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if start(middle).is_some_and(|start| start <= at.0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low.checked_sub(1)
}

fn missing(what: &str, at: usize) -> LinkError {
    LinkError(format!("__unwind_info: {what} at offset {at:#x} is cut off"))
}

fn read_word(bytes: &[u8], at: usize, what: &str) -> Result<u32, LinkError> {
    word(bytes, at).ok_or_else(|| missing(what, at))
}

fn read_half(bytes: &[u8], at: usize, what: &str) -> Result<u16, LinkError> {
    half(bytes, at).ok_or_else(|| missing(what, at))
}
