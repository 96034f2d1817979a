//! What the image adds to the `.eh_frame` and the search table of its arena.
//!
//! Takes the unwind entries of the pieces, copies each with the common entry it needs, adds one for the stubs, and makes
//! sorted entries of the search table (LSB Core, "Exception Frame Header"). Call frame instructions are copied, not
//! interpreted.

use relive_wire::LiveAddr;
use rustc_hash::FxHashMap;

use crate::binary::frames::Record;
use crate::binary::object::{Object, Role, SectionId};
use crate::diff::reach::{ObjectIndex, Reach};
use crate::link::LinkError;
use crate::link::apply::apply;
use crate::link::layout::{Map, piece_addr};
use crate::link::relocate::{Links, object};

/// Bytes that the unwind information takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Room {
    /// Entries of the search table.
    pub(super) count: u64,
    /// Bytes of unwind entries.
    pub(super) entries: u64,
}

/// Of the first unwind entry. Entries are whole numbers of it, so that those of two images follow each other without a gap,
/// which would be the end for whoever reads them one by one.
pub(super) const ALIGN: u64 = 4;

/// A common entry: version 1, augmentation `zR` with PC-relative 4-byte pointers, CFA = rsp + 8, return address at
/// CFA - 8: a function's state at its entry, and a stub's throughout.
const STUB_CIE: [u8; 24] = [
    20, 0, 0, 0, // length
    0, 0, 0, 0, // this is a common entry
    1, b'z', b'R', 0, 1, 0x78, 16, // version, augmentation, code and data alignment, return address column
    1, 0x1b, // augmentation data: pcrel | sdata4
    0x0c, 7, 8, // DW_CFA_def_cfa rsp, 8
    0x90, 1, // DW_CFA_offset rip, 1 * -8
    0, 0, // DW_CFA_nop
];
const STUB_FDE_LEN: u64 = 24;

pub(super) fn room(reach: &Reach) -> Room {
    let mut entries = STUB_CIE.len() as u64 + STUB_FDE_LEN;
    let mut count = 1;
    let mut cies = FxHashMap::default();
    for piece in &reach.pieces {
        let Some(object) = reach.object(piece.object) else { continue };
        for frame in object.frames.of.get(&piece.section).map_or(&[][..], Vec::as_slice) {
            entries += frame.fde.range.end - frame.fde.range.start;
            count += 1;
            if let (Some(cie), None) = (object.frames.cies.get(frame.cie), cies.insert((piece.object, frame.cie), ())) {
                entries += cie.range.end - cie.range.start;
            }
        }
    }
    Room { count, entries }
}

/// Entries of the search table, and unwind entries.
pub(super) fn write(reach: &Reach, map: &Map) -> Result<(Vec<u8>, Vec<u8>), LinkError> {
    let mut out = Writer { reach, map, bytes: Vec::new(), table: Vec::new(), cies: FxHashMap::default() };
    out.stubs();
    for (piece, addr) in reach.pieces.iter().zip(&map.pieces) {
        let object = object(reach, piece.object)?;
        let Some(section) = object.frames.section else { continue };
        for frame in object.frames.of.get(&piece.section).map_or(&[][..], Vec::as_slice) {
            let cie = out.cie(object, piece.object, section, frame.cie)?;
            let fde = out.bytes.len();
            out.record(object, piece.object, section, &frame.fde)?;
            let distance = (fde + 4 - cie) as u32;
            out.bytes[fde + 4..fde + 8].copy_from_slice(&distance.to_le_bytes());
            out.table.push((*addr, map.at.frames.start.plus(fde as u64)));
        }
    }
    if out.bytes.len() as u64 != map.at.frames.size || !map.at.frames.size.is_multiple_of(ALIGN) {
        return Err(LinkError("the unwind entries have another size than planned".into()));
    }
    Ok((search_entries(map, out.table)?, out.bytes))
}

struct Writer<'a> {
    reach: &'a Reach,
    map: &'a Map<'a>,
    bytes: Vec<u8>,
    table: Vec<(LiveAddr, LiveAddr)>,
    cies: FxHashMap<(ObjectIndex, usize), usize>,
}

impl Writer<'_> {
    fn stubs(&mut self) {
        self.bytes.extend(STUB_CIE);
        let fde = self.bytes.len();
        let start = self.map.at.text.start;
        let end = self.map.far_stubs.end();
        let place = self.map.at.frames.start.plus(fde as u64 + 8);
        self.bytes.extend((STUB_FDE_LEN as u32 - 4).to_le_bytes());
        self.bytes.extend((fde as u32 + 4).to_le_bytes());
        self.bytes.extend((start.minus(place) as i32).to_le_bytes());
        self.bytes.extend((end.minus(start) as u32).to_le_bytes());
        self.bytes.extend([0; 8]);
        self.table.push((start, self.map.at.frames.start.plus(fde as u64)));
    }

    fn cie(&mut self, object: &Object, index: ObjectIndex, section: SectionId, cie: usize) -> Result<usize, LinkError> {
        if let Some(at) = self.cies.get(&(index, cie)) {
            return Ok(*at);
        }
        let record =
            object.frames.cies.get(cie).ok_or_else(|| LinkError("an unwind entry without common entry".into()))?;
        let at = self.bytes.len();
        self.record(object, index, section, record)?;
        self.cies.insert((index, cie), at);
        Ok(at)
    }

    fn record(
        &mut self,
        object: &Object,
        index: ObjectIndex,
        section: SectionId,
        record: &Record,
    ) -> Result<(), LinkError> {
        let at = self.bytes.len();
        let range = record.range.start as usize..record.range.end as usize;
        let source =
            object.bytes(section).get(range).ok_or_else(|| LinkError("an unwind entry outside its section".into()))?;
        self.bytes.extend_from_slice(source);
        let (reach, map, role) = (self.reach, self.map, Role::EhFrame);
        let mut links = Links { reach, map, object, index, role, source, body: None };
        for reloc in &record.relocs {
            let mut reloc = *reloc;
            reloc.offset -= record.range.start;
            // `pc_begin` is the body at hand even where others would be sent to a stub.
            links.body = self.body(object, index, &reloc).filter(|_| reloc.offset == 8).map(|body| (8, body));
            let field = self.bytes.get_mut(at..).unwrap_or_default();
            let mut target = links.target(self.map.at.frames.start.plus(at as u64), field);
            apply(&mut links, &mut target, &reloc).map_err(|why| {
                LinkError(format!("unwind entry for `{}`: {why}", object.name(object.symbol(reloc.symbol))))
            })?;
        }
        Ok(())
    }

    fn body(&self, object: &Object, index: ObjectIndex, reloc: &crate::binary::object::Reloc) -> Option<LiveAddr> {
        let crate::binary::object::Place::In(section, offset) = object.symbol(reloc.symbol).place else { return None };
        let piece = self.reach.piece_of(index, section)?;
        (object.section(section).role == Role::Text).then_some(())?;
        Some(piece_addr(self.map, piece).ok()?.plus(offset))
    }
}

fn search_entries(map: &Map, mut table: Vec<(LiveAddr, LiveAddr)>) -> Result<Vec<u8>, LinkError> {
    let relative = |addr: LiveAddr| {
        let distance = i32::try_from(addr.minus(map.placement.search));
        distance.map_err(|_| LinkError("unwind entries out of reach of their table".into()))
    };
    let mut out = Vec::with_capacity(table.len() * 8);
    table.sort_unstable();
    for (function, entry) in table {
        out.extend(relative(function)?.to_le_bytes());
        out.extend(relative(entry)?.to_le_bytes());
    }
    Ok(out)
}
