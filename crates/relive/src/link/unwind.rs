//! What the image adds to the `.eh_frame` and the search table of its arena.
//!
//! Takes the unwind entries of the pieces and has them copied (`frame_writer`), with one for the stubs before them.

use relive_wire::LiveAddr;
use rustc_hash::FxHashMap;

use crate::binary::object::{Object, Place, Reloc, Role};
use crate::diff::reach::{ObjectIndex, Reach};
use crate::link::LinkError;
use crate::link::frame_writer::{FrameWriter, search_entries};
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
    let mut out = FrameWriter::new(map.at.frames.start.0);
    stubs(map, &mut out);
    for (piece, addr) in reach.pieces.iter().zip(&map.pieces) {
        let object = object(reach, piece.object)?;
        for frame in object.frames.of.get(&piece.section).map_or(&[][..], Vec::as_slice) {
            let (index, role) = (piece.object, Role::EhFrame);
            // `pc_begin` is the body at hand even where others would be sent to a stub.
            let function = frame.fde.relocs.iter().find(|reloc| reloc.offset == frame.fde.range.start + 8);
            let body = function.and_then(|reloc| body(reach, map, object, index, reloc)).map(|body| (8, body));
            let mut links = Links { reach, map, object, index, role, source: &[], body };
            out.frame(index.0, object, frame, addr.0, &mut links)?;
        }
    }
    if out.bytes.len() as u64 != map.at.frames.size || !map.at.frames.size.is_multiple_of(ALIGN) {
        return Err(LinkError("the unwind entries have another size than planned".into()));
    }
    Ok((search_entries(out.table, map.placement.search.0)?, out.bytes))
}

fn stubs(map: &Map, out: &mut FrameWriter) {
    out.bytes.extend(STUB_CIE);
    let fde = out.bytes.len();
    let start = map.at.text.start;
    let end = map.far_stubs.end();
    let place = map.at.frames.start.plus(fde as u64 + 8);
    out.bytes.extend((STUB_FDE_LEN as u32 - 4).to_le_bytes());
    out.bytes.extend((fde as u32 + 4).to_le_bytes());
    out.bytes.extend((start.minus(place) as i32).to_le_bytes());
    out.bytes.extend((end.minus(start) as u32).to_le_bytes());
    out.bytes.extend([0; 8]);
    out.table.push((start.0, map.at.frames.start.plus(fde as u64).0));
}

fn body(reach: &Reach, map: &Map, object: &Object, index: ObjectIndex, reloc: &Reloc) -> Option<LiveAddr> {
    let Place::In(section, offset) = object.symbol(reloc.symbol).place else { return None };
    let piece = reach.piece_of(index, section)?;
    (object.section(section).role == Role::Text).then_some(())?;
    Some(piece_addr(map, piece).ok()?.plus(offset))
}
