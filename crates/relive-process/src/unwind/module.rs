//! The unwind tables of one mapped object, read from the program's memory.
//!
//! Takes the address of an ELF header or of an `.eh_frame_hdr`, gives the search table and the frames it leads to. Only
//! the one encoding of the search table that linkers write is understood; an object with another has no usable table.

use std::ops::Range;

use relive_wire::LiveAddr;

use super::rule::{self, Context, Rule, Section};
use crate::memory::Memory;
use crate::{Error, Result};

/// Largest part of a program's tables that is read, as a guard against garbage.
const TABLE_MAX: u64 = 1 << 30;
/// Version 1; frames as a distance from here, count as a number, table as distances from the header, 4 bytes each.
const HEADER_FORM: [u8; 4] = [1, 0x1b, 0x03, 0x3b];
const HEADER_LEN: u64 = 12;
const ENTRY_LEN: u64 = 8;
const PT_LOAD: u32 = 1;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
const PROGRAM_HEADER_LEN: usize = 56;
const ELF_HEADER_LEN: usize = 64;
/// 64 bits, little-endian, version 1.
const ELF_IDENT: [u8; 7] = [0x7f, b'E', b'L', b'F', 2, 1, 1];

/// First code address and frame description of each function, both relative to the header, in address order.
type SearchTable = Vec<(i32, i32)>;

/// One object's tables.
#[derive(Debug)]
pub(super) struct Module {
    code: Range<LiveAddr>,
    table: SearchTable,
    header: LiveAddr,
    section: Section,
}

impl Module {
    /// The tables of the object whose ELF header is at `start`; `None` if there is no ELF header or no usable table.
    pub(super) fn of_object(memory: &Memory, start: LiveAddr) -> Result<Option<Module>> {
        match object_places(memory, start) {
            Ok(Some((code, header))) => Module::of_table(memory, code, header),
            Ok(None) => Ok(None),
            Err(why) => not_gone(why),
        }
    }

    /// The tables that the `.eh_frame_hdr` at `header` leads to, for code in `code`.
    pub(super) fn of_table(memory: &Memory, code: Range<LiveAddr>, header: LiveAddr) -> Result<Option<Module>> {
        match read_table(memory, header) {
            Ok(Some((table, section))) => Ok(Some(Module { code, table, header, section })),
            Ok(None) => Ok(None),
            Err(why) => not_gone(why),
        }
    }

    /// Where the object is.
    pub(super) fn code(&self) -> &Range<LiveAddr> {
        &self.code
    }

    /// Its frame descriptions.
    pub(super) fn section(&self) -> &Section {
        &self.section
    }

    /// The rule that holds at code address `addr`.
    pub(super) fn rule(&self, addr: u64, context: &mut Context) -> Option<Rule> {
        let distance = i32::try_from(addr.wrapping_sub(self.header.0).cast_signed()).ok()?;
        let next = self.table.partition_point(|(function, _)| *function <= distance);
        let (_, description) = self.table.get(next.checked_sub(1)?)?;
        rule::at(&self.section, relative(self.header, *description), addr, context)
    }
}

/// Memory that is not there makes a table unusable; only the end of the program is an error.
fn not_gone(why: Error) -> Result<Option<Module>> {
    if matches!(why, Error::Gone(_)) { Err(why) } else { Ok(None) }
}

/// Where the object's segments and its `.eh_frame_hdr` are.
fn object_places(memory: &Memory, start: LiveAddr) -> Result<Option<(Range<LiveAddr>, LiveAddr)>> {
    let elf = memory.read_vec(start, ELF_HEADER_LEN)?;
    let (Some(at), Some(size), Some(count)) = (u64_at(&elf, 32), u16_at(&elf, 54), u16_at(&elf, 56)) else {
        return Ok(None);
    };
    if !elf.starts_with(&ELF_IDENT) || usize::from(size) != PROGRAM_HEADER_LEN || at > TABLE_MAX {
        return Ok(None);
    }
    let headers = memory.read_vec(start.plus(at), PROGRAM_HEADER_LEN * usize::from(count))?;
    let (mut lowest, mut highest, mut table, mut bias) = (u64::MAX, 0, None, None);
    for header in headers.chunks_exact(PROGRAM_HEADER_LEN) {
        let (Some(kind), Some(offset), Some(link_addr), Some(size)) =
            (u32_at(header, 0), u64_at(header, 8), u64_at(header, 16), u64_at(header, 40))
        else {
            return Ok(None);
        };
        match kind {
            PT_LOAD => {
                (lowest, highest) = (lowest.min(link_addr), highest.max(link_addr.saturating_add(size)));
                // The header that we read is at offset 0 of the file.
                if bias.is_none() && offset == 0 {
                    bias = Some(start.0.wrapping_sub(link_addr));
                }
            }
            PT_GNU_EH_FRAME => table = Some(link_addr),
            _ => {}
        }
    }
    let (Some(bias), Some(table)) = (bias, table) else { return Ok(None) };
    let [lowest, highest, table] = [lowest, highest, table].map(|addr| LiveAddr(bias.wrapping_add(addr)));
    Ok((lowest < highest).then_some((lowest..highest, table)))
}

/// The search table at `header`, and the frame descriptions as far as the table refers to them.
fn read_table(memory: &Memory, header: LiveAddr) -> Result<Option<(SearchTable, Section)>> {
    let head = memory.read_vec(header, HEADER_LEN as usize)?;
    let (Some(distance), Some(count)) = (u32_at(&head, 4), u32_at(&head, 8)) else { return Ok(None) };
    let len = u64::from(count) * ENTRY_LEN;
    if !head.starts_with(&HEADER_FORM) || len > TABLE_MAX {
        return Ok(None);
    }
    let frames = relative(header.plus(4), distance.cast_signed());
    let bytes = memory.read_vec(header.plus(HEADER_LEN), len as usize)?;
    let entry = |entry: &[u8]| Some((u32_at(entry, 0)?.cast_signed(), u32_at(entry, 4)?.cast_signed()));
    let table: SearchTable = bytes.chunks_exact(ENTRY_LEN as usize).filter_map(entry).collect();
    let Some(last) = table.iter().map(|(_, description)| relative(header, *description)).max() else { return Ok(None) };
    // Descriptions refer backwards only, so everything needed lies before the end of the last one.
    let mut last_len = [0; 4];
    memory.read(last, &mut last_len)?;
    let end = last.plus(4 + u64::from(u32::from_le_bytes(last_len)));
    match u64::try_from(end.minus(frames)) {
        Ok(len) if len <= TABLE_MAX => {
            Ok(Some((table, Section { start: frames, bytes: memory.read_vec(frames, len as usize)?, header })))
        }
        Ok(_) | Err(_) => Ok(None),
    }
}

/// The address `distance` bytes from `base`.
fn relative(base: LiveAddr, distance: i32) -> LiveAddr {
    base.plus(i64::from(distance).cast_unsigned())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}
