//! Unwind entries of one object: which function section has which frame description entry and which LSDA.
//!
//! Takes the `.eh_frame` section of a relocatable object (LSB Core, "Exception Frames": length, CIE pointer, then for an
//! FDE `pc_begin`), gives the records cut out with their relocations. It does not interpret call frame instructions.

use std::ops::Range;

use rustc_hash::FxHashMap;

use crate::binary::object::{Object, ObjectError, Place, Reloc, Role, SectionId};

/// One record of `.eh_frame`, its length field included.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its bytes in the section.
    pub range: Range<u64>,
    /// Its relocations, offsets counted from the section's beginning.
    pub relocs: Vec<Reloc>,
}

/// The unwind entry of one function.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The frame description entry.
    pub fde: Record,
    /// Index of its common information entry in [`FrameTable::cies`].
    pub cie: usize,
    /// The section with the function's LSDA, if it has one.
    pub lsda: Option<SectionId>,
}

/// The unwind entries of an object.
#[derive(Clone, Debug, Default)]
pub struct FrameTable {
    /// The `.eh_frame` section; `None` if there is none.
    pub section: Option<SectionId>,
    /// The common information entries.
    pub cies: Vec<Record>,
    /// The entries of each text section.
    pub of: FxHashMap<SectionId, Vec<Frame>>,
}

impl FrameTable {
    /// The relocations of the unwind entries of a text section, those of their common entries included.
    pub fn relocs(&self, section: SectionId) -> impl Iterator<Item = &Reloc> {
        let frames = self.of.get(&section).map_or(&[][..], Vec::as_slice);
        frames.iter().flat_map(|frame| {
            let cie = self.cies.get(frame.cie).map_or(&[][..], |cie| cie.relocs.as_slice());
            frame.fde.relocs.iter().chain(cie)
        })
    }
}

/// Cuts the unwind entries of `object` apart.
pub(crate) fn read(object: &Object) -> Result<FrameTable, ObjectError> {
    let mut table = FrameTable::default();
    let found = object.sections.iter().enumerate().filter(|(_, section)| section.role == Role::EhFrame);
    for (index, _) in found {
        if table.section.is_some() {
            return Err(ObjectError(format!("two `.eh_frame` sections, the second is section {index}")));
        }
        table.section = Some(SectionId(index as u32));
    }
    let Some(section) = table.section else { return Ok(table) };
    let mut cie_at = FxHashMap::default();
    let bytes = object.bytes(section);
    let relocs = &object.section(section).relocs;
    let mut at = 0;
    let mut next_reloc = 0;
    while let Some(length) = u32_at(bytes, at) {
        if length == 0 {
            break;
        }
        let end = at + 4 + u64::from(length);
        if length == u32::MAX || length < 4 || end > bytes.len() as u64 {
            return Err(ObjectError(format!("`.eh_frame` record at {at:#x} has length {length:#x}")));
        }
        let first = next_reloc;
        while relocs.get(next_reloc).is_some_and(|reloc| reloc.offset < end) {
            next_reloc += 1;
        }
        let record = Record { range: at..end, relocs: relocs[first..next_reloc].to_vec() };
        let pointer = u32_at(bytes, at + 4).unwrap_or(0);
        if pointer == 0 {
            cie_at.insert(at, table.cies.len());
            table.cies.push(record);
        } else {
            add_fde(object, &mut table, &cie_at, record, pointer)?;
        }
        at = end;
    }
    Ok(table)
}

fn add_fde(
    object: &Object,
    table: &mut FrameTable,
    cie_at: &FxHashMap<u64, usize>,
    fde: Record,
    pointer: u32,
) -> Result<(), ObjectError> {
    let at = fde.range.start;
    let cie = (at + 4).checked_sub(u64::from(pointer)).and_then(|start| cie_at.get(&start));
    let Some(cie) = cie else {
        return Err(ObjectError(format!("`.eh_frame` entry at {at:#x} has no common entry")));
    };
    let place = |reloc: &Reloc| object.symbol(reloc.symbol).place;
    let mut function = None;
    let mut lsda = None;
    for reloc in &fde.relocs {
        if let Place::In(section, _) = place(reloc) {
            if reloc.offset == at + 8 {
                function = Some(section);
            } else if object.section(section).role == Role::Lsda {
                lsda = Some(section);
            }
        }
    }
    let Some(function) = function else {
        return Err(ObjectError(format!("`.eh_frame` entry at {at:#x} belongs to no function")));
    };
    table.of.entry(function).or_default().push(Frame { fde, cie: *cie, lsda });
    Ok(())
}

fn u32_at(bytes: &[u8], at: u64) -> Option<u32> {
    let at = usize::try_from(at).ok()?;
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}
