//! The entries of `LC_DATA_IN_CODE`: which bytes of a code section are tables and not instructions.
//!
//! Takes an object, or the command's data in it, and where each of the object's addresses went; gives the command's data in an
//! image. Does not look at the tables themselves. The format is `data_in_code_entry` of `<mach-o/loader.h>`: offset
//! (`u32`), length (`u16`), kind (`u16`). In an object the offset is an address (all its sections count from 0), in an
//! image a file offset, and `__TEXT` begins both the file and the image.

use object::LittleEndian as LE;
use object::macho::{LC_DATA_IN_CODE, MachHeader64};
use object::read::ReadRef;
use object::read::macho::{LoadCommandVariant, MachHeader as _};

use super::{ImageOffset, half, word};
use crate::binary::address::LinkAddr;
use crate::link::LinkError;

const ENTRY_SIZE: usize = 8;

/// What lies there: `DICE_KIND_*` of `<mach-o/loader.h>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataKind {
    /// Anything.
    Data,
    /// Distances of one byte.
    JumpTable8,
    /// Distances of two bytes.
    JumpTable16,
    /// Distances of four bytes.
    JumpTable32,
    /// Addresses of four bytes.
    AbsoluteJumpTable32,
}

impl DataKind {
    const ALL: [DataKind; 5] = [
        DataKind::Data,
        DataKind::JumpTable8,
        DataKind::JumpTable16,
        DataKind::JumpTable32,
        DataKind::AbsoluteJumpTable32,
    ];

    const fn raw(self) -> u16 {
        match self {
            DataKind::Data => 1,
            DataKind::JumpTable8 => 2,
            DataKind::JumpTable16 => 3,
            DataKind::JumpTable32 => 4,
            DataKind::AbsoluteJumpTable32 => 5,
        }
    }
}

/// One run of data in an object's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataInCode {
    /// Its first byte, as an address of the object.
    pub start: LinkAddr,
    /// Its size in bytes.
    pub length: u16,
    /// What it is.
    pub kind: DataKind,
}

/// The data of the command in a thin Mach-O file; empty if it has none.
///
/// # Errors
/// If the file's load commands are damaged, or what the command names does not lie in the file, with the offset.
pub fn of_file(file: &[u8]) -> Result<&[u8], LinkError> {
    let bad = |why: object::read::Error| LinkError(format!("data in code: load commands: {why}"));
    let header = MachHeader64::<object::LittleEndian>::parse(file, 0).map_err(bad)?;
    let mut commands = header.load_commands(LE, file, 0).map_err(bad)?;
    while let Some(command) = commands.next().map_err(bad)? {
        let LoadCommandVariant::LinkeditData(found) = command.variant().map_err(bad)? else { continue };
        if found.cmd.get(LE) == LC_DATA_IN_CODE {
            let (offset, size) = (found.dataoff.get(LE), found.datasize.get(LE));
            let bytes = file.read_bytes_at(offset.into(), size.into());
            return bytes
                .map_err(|()| LinkError(format!("data in code: {size} bytes at {offset:#x} end beyond the file")));
        }
    }
    Ok(&[])
}

/// The entries in `bytes`, the data of an object's `LC_DATA_IN_CODE`.
///
/// # Errors
/// With the offset, if an entry is cut off or its kind is none of `<mach-o/loader.h>`.
pub fn read(bytes: &[u8]) -> Result<Vec<DataInCode>, LinkError> {
    bytes.chunks(ENTRY_SIZE).enumerate().map(|(index, entry)| read_entry(entry, index * ENTRY_SIZE)).collect()
}

fn read_entry(entry: &[u8], at: usize) -> Result<DataInCode, LinkError> {
    let fields = word(entry, 0).zip(half(entry, 4)).zip(half(entry, 6));
    let ((start, length), kind) =
        fields.ok_or_else(|| LinkError(format!("data in code: the entry at offset {at:#x} is cut off")))?;
    let known = DataKind::ALL.into_iter().find(|known| known.raw() == kind);
    let kind = known.ok_or_else(|| LinkError(format!("data in code: kind {kind} at offset {at:#x} is unknown")))?;
    Ok(DataInCode { start: LinkAddr(u64::from(start)), length, kind })
}

/// The same entries for an image. `place` says where a byte of the object lies in it; entries whose code is not in the
/// image are left out.
///
/// # Errors
/// With the address, if one run of data would be torn apart.
pub fn rebase(
    entries: &[DataInCode],
    place: impl Fn(LinkAddr) -> Option<ImageOffset>,
) -> Result<Vec<(ImageOffset, DataInCode)>, LinkError> {
    let mut placed = Vec::with_capacity(entries.len());
    for entry in entries {
        let Some(last) = entry.length.checked_sub(1) else { continue };
        let end = entry.start.0.checked_add(u64::from(last)).and_then(|end| place(LinkAddr(end)));
        match (place(entry.start), end) {
            (None, None) => {}
            (Some(start), Some(end)) if end.0.checked_sub(start.0) == Some(u32::from(last)) => {
                placed.push((start, *entry));
            }
            (Some(_) | None, Some(_) | None) => {
                let DataInCode { start, length, .. } = entry;
                return Err(LinkError(format!("{length} bytes of data in code at {:#x} would be torn apart", start.0)));
            }
        }
    }
    placed.sort_by_key(|(start, _)| *start);
    Ok(placed)
}

/// The data of an image's `LC_DATA_IN_CODE`; `placed` is what [`rebase`] gave for all its objects.
#[must_use]
pub fn write(placed: &[(ImageOffset, DataInCode)]) -> Vec<u8> {
    let mut placed = placed.to_vec();
    placed.sort_by_key(|(start, _)| *start);
    let mut bytes = Vec::with_capacity(placed.len() * ENTRY_SIZE);
    for (start, entry) in placed {
        bytes.extend(start.0.to_le_bytes());
        bytes.extend(entry.length.to_le_bytes());
        bytes.extend(entry.kind.raw().to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What clang 14 wrote for a switch of ten cases: 40 bytes at 0xcc.
    const OBJECT: [u8; 8] = [0xcc, 0, 0, 0, 40, 0, 4, 0];

    fn moved(by: u32) -> impl Fn(LinkAddr) -> Option<ImageOffset> {
        move |addr| Some(ImageOffset(addr.0 as u32 + by))
    }

    #[test]
    fn entries_move_with_their_code() {
        let entries = read(&OBJECT).unwrap();
        assert_eq!(entries, [DataInCode { start: LinkAddr(0xcc), length: 40, kind: DataKind::JumpTable32 }]);
        let placed = rebase(&entries, moved(0x850)).unwrap();
        assert_eq!(write(&placed), [0x1c, 9, 0, 0, 40, 0, 4, 0]);
        assert_eq!(read(&write(&placed)).unwrap()[0].start, LinkAddr(0x91c));
    }

    #[test]
    fn entries_of_what_is_left_out_are_left_out() {
        assert_eq!(rebase(&read(&OBJECT).unwrap(), |_| None), Ok(vec![]));
    }

    #[test]
    fn a_table_that_would_be_torn_apart_is_refused() {
        let entries = read(&OBJECT).unwrap();
        let torn = rebase(&entries, |addr| Some(ImageOffset(if addr.0 < 0xd0 { 0 } else { 0x100 })));
        assert_eq!(torn, Err(LinkError("40 bytes of data in code at 0xcc would be torn apart".into())));
        let half_gone = rebase(&entries, |addr| (addr.0 < 0xd0).then_some(ImageOffset(0)));
        assert!(half_gone.is_err());
    }

    #[test]
    fn damaged_entries_are_named() {
        assert_eq!(
            read(&[OBJECT, [0, 0, 0, 0, 4, 0, 9, 0]].concat()),
            Err(LinkError("data in code: kind 9 at offset 0x8 is unknown".into()))
        );
        assert_eq!(read(&OBJECT[..7]), Err(LinkError("data in code: the entry at offset 0x0 is cut off".into())));
    }

    #[test]
    fn entries_of_several_objects_are_in_order() {
        let entry = DataInCode { start: LinkAddr(0), length: 4, kind: DataKind::Data };
        let bytes = write(&[(ImageOffset(9), entry), (ImageOffset(3), entry)]);
        assert_eq!((bytes[0], bytes[8]), (3, 9));
    }
}
