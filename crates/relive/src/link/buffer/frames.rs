//! Unwind entries of a buffer's functions, for the place where they will lie.

use rustc_hash::FxHashMap;

use super::{Buffer, Links, key};
use crate::arch::RelocKind;
use crate::arch::reloc::{Field, Fits, Form, Operand};
use crate::binary::frames::Record;
use crate::binary::object::{Object, Place, Reloc, Role, SectionId};
use crate::link::LinkError;
use crate::link::apply::{Target, apply};

/// Unwind entries (`.eh_frame`, `__eh_frame`).
#[derive(Clone, Debug, Default)]
pub struct Frames {
    /// The entries, with nothing behind the last.
    pub bytes: Vec<u8>,
    /// The address of each function and of its entry, by function: what a search table is made of.
    pub table: Vec<(u64, u64)>,
}

impl Frames {
    /// The search table for a header at `header` (LSB Core, ".eh_frame_hdr"), for entries that begin at `entries`.
    ///
    /// # Errors
    /// If something is out of reach of the header.
    pub fn header(&self, header: u64, entries: u64) -> Result<Vec<u8>, LinkError> {
        let relative = |to: u64, from: u64| {
            let distance = i32::try_from(i128::from(to) - i128::from(from));
            distance.map_err(|_| LinkError("unwind entries out of reach of their table".into()))
        };
        // Version; how the next is written: distance from itself, count, distances from the header.
        let mut out = vec![1, 0x1b, 0x03, 0x3b];
        out.extend(relative(entries, header + 4)?.to_le_bytes());
        out.extend((self.table.len() as u32).to_le_bytes());
        for (function, entry) in &self.table {
            out.extend(relative(*function, header)?.to_le_bytes());
            out.extend(relative(*entry, header)?.to_le_bytes());
        }
        Ok(out)
    }
}

impl Buffer {
    /// The unwind entries of all functions that have an address, to be written to `at`.
    ///
    /// # Errors
    /// If one refers to what has no address.
    pub fn frames(&mut self, at: u64) -> Result<Frames, LinkError> {
        let mut out = Frames::default();
        let mut cies: FxHashMap<(usize, usize), usize> = FxHashMap::default();
        for index in 0..self.atoms.len() {
            let Some(atom) = self.atoms.get(index).filter(|atom| !atom.foreign) else { continue };
            let (object, section) = (atom.object, atom.section);
            let (Some(_), Some(of)) = (atom.at, self.objects.get(object).cloned()) else { continue };
            let Some(from) = of.frames.section else { continue };
            for frame in of.frames.of.get(&section).map_or(&[][..], Vec::as_slice) {
                let cie = match cies.get(&(object, frame.cie)) {
                    Some(cie) => *cie,
                    None => {
                        let record = of.frames.cies.get(frame.cie);
                        let record = record.ok_or_else(|| LinkError("an unwind entry without common entry".into()))?;
                        let start = self.record(&mut out.bytes, at, object, &of, from, record)?;
                        cies.insert((object, frame.cie), start);
                        start
                    }
                };
                let start = self.record(&mut out.bytes, at, object, &of, from, &frame.fde)?;
                let distance = ((start + 4 - cie) as u32).to_le_bytes();
                let field = out.bytes.get_mut(start + 4..start + 8);
                field.ok_or_else(|| LinkError("an unwind entry that is too short".into()))?.copy_from_slice(&distance);
                // Not the atom's address: there can be several functions in it.
                let function = frame.fde.relocs.iter().find(|reloc| reloc.offset == frame.fde.range.start + 8);
                let function = function.map(|reloc| moved(&of, reloc, frame.fde.range.start)).and_then(|reloc| {
                    let base = self.key_address(key(&of, object, reloc.symbol))?;
                    Some(base.wrapping_add(reloc.addend as u64))
                });
                let function = function.ok_or_else(|| LinkError("an unwind entry for no function".into()))?;
                out.table.push((function, at + start as u64));
            }
        }
        out.table.sort_unstable();
        Ok(out)
    }

    /// Appends a record that will lie behind `at`; gives where it begins in `bytes`.
    fn record(
        &mut self,
        bytes: &mut Vec<u8>,
        at: u64,
        object: usize,
        of: &Object,
        section: SectionId,
        record: &Record,
    ) -> Result<usize, LinkError> {
        let start = bytes.len();
        let range = record.range.start as usize..record.range.end as usize;
        let source = of.bytes(section).get(range);
        bytes.extend_from_slice(source.ok_or_else(|| LinkError("an unwind entry outside its section".into()))?);
        let mut links = Links { buffer: self, object, of };
        let place = at + start as u64;
        let mut target =
            Target { machine: of.machine, code: true, at: place, bytes: bytes.get_mut(start..).unwrap_or_default() };
        for reloc in &record.relocs {
            let reloc = moved(of, reloc, record.range.start);
            apply(&mut links, &mut target, &reloc)
                .map_err(|why| LinkError(format!("unwind entry for `{}`: {why}", of.name(of.symbol(reloc.symbol)))))?;
        }
        Ok(start)
    }
}

/// The relocation of a record that is taken out of its section. Mach-O counts distances from a symbol of the section; they
/// are distances from the field.
fn moved(of: &Object, reloc: &Reloc, start: u64) -> Reloc {
    let mut out = *reloc;
    out.offset = reloc.offset.wrapping_sub(start);
    let from = reloc.minus.map(|symbol| of.symbol(symbol).place);
    if let (Some(Place::In(section, offset)), RelocKind::Of(Operand::Symbol, _, field)) = (from, reloc.kind)
        && of.section(section).role == Role::EhFrame
    {
        let field = if field == Field::Int(4, Fits::Either) { Field::Int(4, Fits::Signed) } else { field };
        out.kind = RelocKind::Of(Operand::Symbol, Form::Relative, field);
        out.minus = None;
        out.addend = reloc.addend.wrapping_add(reloc.offset.wrapping_sub(offset) as i64);
    }
    out
}
