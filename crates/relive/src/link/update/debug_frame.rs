//! The unwind entries of the image once more, as debuggers take them (`.debug_frame`): they look at one `.eh_frame` of a file,
//! the executable's own.
//!
//! Takes entries as `.eh_frame` has them (LSB Core, "Exception Frames"), gives them in the form of DWARF 4, section 6.4.1: call
//! frame instructions are the same, addresses are whole, and what only unwinding at run time wants is left out.

use object::read::ReadRef;
use rustc_hash::FxHashMap;

/// Length and kind of a record.
const HEAD: usize = 8;
/// The kind of a common entry here; in `.eh_frame` it is 0.
const COMMON: u32 = u32::MAX;
/// Distance from the field, in 4 bytes: how addresses are written that can be read here.
const PC_RELATIVE: u8 = 0x1b;

/// The entries in `frames`, which lie at `at`, for a section that has `before` bytes already. An entry that is not understood is
/// left out: nothing but a debugger depends on it.
pub(super) fn debug_frame(frames: &[u8], at: u64, before: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut common: FxHashMap<usize, usize> = FxHashMap::default();
    let mut start = 0;
    while let Some(record) = record(frames, start) {
        let kind = u32::from_le_bytes([record[4], record[5], record[6], record[7]]);
        let mut body = Vec::new();
        if kind == 0 {
            if let Some(new) = common_entry(record) {
                common.insert(start, before + out.len());
                body = [&COMMON.to_le_bytes(), &*new].concat();
            }
        } else if let Some(of) = (start + 4).checked_sub(kind as usize).and_then(|cie| common.get(&cie)) {
            let place = at + (start + HEAD) as u64;
            body = function_entry(record, place)
                .map_or_else(Vec::new, |new| [&(*of as u32).to_le_bytes(), &*new].concat());
        }
        if !body.is_empty() {
            body.resize(body.len().next_multiple_of(8) + 4, 0); // DW_CFA_nop; with the length a multiple of 8
            out.extend((body.len() as u32).to_le_bytes());
            out.extend(body);
        }
        start += record.len();
    }
    out
}

/// The record at `start`, its length included.
fn record(frames: &[u8], start: usize) -> Option<&[u8]> {
    let len = u32::from_le_bytes(*frames.get(start..)?.first_chunk()?) as usize;
    frames.get(start..start.checked_add(len)?.checked_add(4)?).filter(|record| record.len() >= HEAD)
}

/// Version, no augmentation, alignments, return address, instructions.
fn common_entry(record: &[u8]) -> Option<Vec<u8>> {
    let version = *record.get(HEAD)?;
    let augmentation = record.read_bytes_at_until(HEAD as u64 + 1..record.len() as u64, 0).ok()?;
    let numbers = HEAD + 1 + augmentation.len() + 1;
    let mut at = numbers;
    number(record, &mut at)?;
    number(record, &mut at)?;
    at += 1; // The return address's column: one byte in version 1.
    let heads = record.get(numbers..at)?;
    let len = number(record, &mut at)?;
    let data = record.get(at..at.checked_add(len)?)?;
    let understood = version == 1 && augmentation.first() == Some(&b'z') && is_pc_relative(augmentation, data);
    understood.then(|| [&[1, 0], heads, record.get(at + len..).unwrap_or_default()].concat())
}

/// Whether addresses are distances from their field. `P` has a byte and, as written here, 4 bytes; the others have a byte.
fn is_pc_relative(augmentation: &[u8], data: &[u8]) -> bool {
    let mut at = 0;
    for letter in augmentation.iter().skip(1) {
        match letter {
            b'R' => return data.get(at) == Some(&PC_RELATIVE),
            b'P' => at += 5,
            b'L' => at += 1,
            _ => return false,
        }
    }
    false
}

/// Address, size, instructions; `place` is where the first field lies.
fn function_entry(record: &[u8], place: u64) -> Option<Vec<u8>> {
    let begin = i32::from_le_bytes(*record.get(HEAD..)?.first_chunk()?);
    let size = u32::from_le_bytes(*record.get(HEAD + 4..)?.first_chunk()?);
    let mut at = HEAD + 8;
    let len = number(record, &mut at)?;
    let instructions = record.get(at.checked_add(len)?..)?;
    let begin = place.wrapping_add_signed(begin.into());
    Some([&begin.to_le_bytes(), &u64::from(size).to_le_bytes(), instructions].concat())
}

/// A LEB128 number; of a signed one only its length counts.
fn number(record: &[u8], at: &mut usize) -> Option<usize> {
    let (mut value, mut shift) = (0_usize, 0);
    loop {
        let byte = *record.get(*at)?;
        *at += 1;
        value |= usize::from(byte & 0x7f).checked_shl(shift)?;
        shift += 7;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
}
