//! Unwind entries of a buffer's functions, for the place where they will lie.

use super::{Buffer, Links, key};
use crate::link::LinkError;
use crate::link::frame_writer::{FrameWriter, distance, moved, search_entries};

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
        // Version; how the next is written: distance from itself, count, distances from the header.
        let mut out = vec![1, 0x1b, 0x03, 0x3b];
        out.extend(distance(entries, header + 4)?.to_le_bytes());
        out.extend((self.table.len() as u32).to_le_bytes());
        out.extend(search_entries(self.table.clone(), header)?);
        Ok(out)
    }
}

impl Buffer {
    /// The unwind entries of all functions that have an address, to be written to `at`.
    ///
    /// # Errors
    /// If one refers to what has no address.
    pub fn frames(&mut self, at: u64) -> Result<Frames, LinkError> {
        let mut out = FrameWriter::new(at);
        for index in 0..self.atoms.len() {
            let is_ours = |atom: &&super::Atom| !atom.foreign && atom.at.is_some();
            let Some(atom) = self.atoms.get(index).filter(is_ours) else { continue };
            let (object, section) = (atom.object, atom.section);
            let Some(of) = self.objects.get(object).cloned() else { continue };
            for frame in of.frames.of.get(&section).map_or(&[][..], Vec::as_slice) {
                // Not the atom's address: there can be several functions in it.
                let start = frame.fde.range.start;
                let function = frame.fde.relocs.iter().find(|reloc| reloc.offset == start + 8);
                let function = function.map(|reloc| moved(&of, reloc, start)).and_then(|reloc| {
                    let base = self.key_address(key(&of, object, reloc.symbol))?;
                    Some(base.wrapping_add(reloc.addend as u64))
                });
                let function = function.ok_or_else(|| LinkError("an unwind entry for no function".into()))?;
                let mut links = Links { buffer: self, object, of: &of };
                out.frame(object, &of, frame, function, &mut links)?;
            }
        }
        out.table.sort_unstable();
        Ok(Frames { bytes: out.bytes, table: out.table })
    }
}
