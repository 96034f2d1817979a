//! Unwind entries copied behind each other for the place where they will lie, and the search table over them.
//!
//! Takes entries of objects with whatever says where things are; copies each common entry once per object. Call frame
//! instructions are copied, not interpreted.

use rustc_hash::FxHashMap;

use crate::arch::RelocKind;
use crate::arch::reloc::{Field, Fits, Form, Operand};
use crate::binary::frames::{Frame, Record};
use crate::binary::object::{Object, Place, Reloc, Role};
use crate::link::LinkError;
use crate::link::apply::{Linkage, Target, apply};

/// See the module.
pub(super) struct FrameWriter {
    /// Where the entries will lie.
    at: u64,
    pub(super) bytes: Vec<u8>,
    /// The address of each function and of its entry.
    pub(super) table: Vec<(u64, u64)>,
    /// Where common entries are in `bytes`, by the number of their object.
    cies: FxHashMap<(usize, usize), usize>,
}

impl FrameWriter {
    /// Entries that will lie at `at`.
    pub(super) fn new(at: u64) -> FrameWriter {
        FrameWriter { at, bytes: Vec::new(), table: Vec::new(), cies: FxHashMap::default() }
    }

    /// Appends the entry of the function at `function`, of object number `index`.
    ///
    /// # Errors
    /// If it is damaged or refers to what has no address.
    pub(super) fn frame(
        &mut self,
        index: usize,
        object: &Object,
        frame: &Frame,
        function: u64,
        linkage: &mut impl Linkage,
    ) -> Result<(), LinkError> {
        let cie = match self.cies.get(&(index, frame.cie)) {
            Some(cie) => *cie,
            None => {
                let record = object.frames.cies.get(frame.cie);
                let record = record.ok_or_else(|| LinkError("an unwind entry without common entry".into()))?;
                let start = self.record(object, record, linkage)?;
                self.cies.insert((index, frame.cie), start);
                start
            }
        };
        let start = self.record(object, &frame.fde, linkage)?;
        let distance = ((start + 4 - cie) as u32).to_le_bytes();
        let field = self.bytes.get_mut(start + 4..start + 8);
        field.ok_or_else(|| LinkError("an unwind entry that is too short".into()))?.copy_from_slice(&distance);
        self.table.push((function, self.at + start as u64));
        Ok(())
    }

    /// Appends a record; gives where it begins in `bytes`.
    fn record(&mut self, object: &Object, record: &Record, linkage: &mut impl Linkage) -> Result<usize, LinkError> {
        let start = self.bytes.len();
        let source = object.frames.section.map_or(&[][..], |section| object.bytes(section));
        let source = source.get(record.range.start as usize..record.range.end as usize);
        self.bytes.extend_from_slice(source.ok_or_else(|| LinkError("an unwind entry outside its section".into()))?);
        let mut target = Target {
            machine: object.machine,
            code: true,
            at: self.at + start as u64,
            bytes: self.bytes.get_mut(start..).unwrap_or_default(),
        };
        for reloc in &record.relocs {
            let reloc = moved(object, reloc, record.range.start);
            apply(linkage, &mut target, &reloc).map_err(|why| {
                LinkError(format!("unwind entry for `{}`: {why}", object.name(object.symbol(reloc.symbol))))
            })?;
        }
        Ok(start)
    }
}

/// The relocation of a record that is taken out of its section. Mach-O counts distances from a symbol of the section; they
/// are distances from the field.
pub(super) fn moved(object: &Object, reloc: &Reloc, start: u64) -> Reloc {
    let mut out = *reloc;
    out.offset = reloc.offset.wrapping_sub(start);
    let from = reloc.minus.map(|symbol| object.symbol(symbol).place);
    if let (Some(Place::In(section, offset)), RelocKind::Of(Operand::Symbol, _, field)) = (from, reloc.kind)
        && object.section(section).role == Role::EhFrame
    {
        let field = if field == Field::Int(4, Fits::Either) { Field::Int(4, Fits::Signed) } else { field };
        out.kind = RelocKind::Of(Operand::Symbol, Form::Relative, field);
        out.minus = None;
        out.addend = reloc.addend.wrapping_add(reloc.offset.wrapping_sub(offset) as i64);
    }
    out
}

/// Sorted entries of a search table whose header is at `header`: distances of function and unwind entry from it (LSB Core,
/// "Exception Frame Header").
pub(super) fn search_entries(mut table: Vec<(u64, u64)>, header: u64) -> Result<Vec<u8>, LinkError> {
    let mut out = Vec::with_capacity(table.len() * 8);
    table.sort_unstable();
    for (function, entry) in table {
        out.extend(distance(function, header)?.to_le_bytes());
        out.extend(distance(entry, header)?.to_le_bytes());
    }
    Ok(out)
}

/// How far `to` is from `from`, in 32 bits.
pub(super) fn distance(to: u64, from: u64) -> Result<i32, LinkError> {
    let distance = i32::try_from(i128::from(to) - i128::from(from));
    distance.map_err(|_| LinkError("unwind entries out of reach of their table".into()))
}
