//! Debug information of the image: that of every codegen unit that contributes code to it.
//!
//! Takes the `.debug_*` sections of those objects, puts each kind behind what a file has of it, an arena's or an executable's,
//! and resolves their relocations to *file* addresses (in an arena: live address minus bias). What did not come along gets
//! the tombstone that linkers use: 1 in range and location lists, where 0 would end the list, 0 elsewhere. Sections are not
//! merged: strings may occur twice.

use std::hash::Hash;

use relive_wire::near::IMAGE_BIAS;
use rustc_hash::FxHashMap;

use crate::arch::RelocKind;
use crate::binary::object::{Object, Place, Reloc, Role, SectionId};
use crate::diff::reach::{ObjectIndex, Reach};
use crate::link::Addition;
use crate::link::layout::{Map, piece_addr};

/// What is appended to the debug sections. What cannot be expressed is left out section by section: code never depends on
/// it.
pub(super) fn additions(reach: &Reach, map: &Map) -> Vec<Addition> {
    let objects = contributing(reach).into_iter().filter_map(|index| Some((index, &**reach.object(index)?))).collect();
    let address = |index: ObjectIndex, section| {
        let addr = piece_addr(map, reach.piece_of(index, section)?).ok()?;
        Some(addr.0.wrapping_sub(IMAGE_BIAS))
    };
    Debug { objects, before: &|name| map.placement.file.size(name), address: &address }.additions()
}

/// Debug information that is put behind other debug information. `I` tells objects apart.
pub(super) struct Debug<'a, I> {
    /// The objects.
    pub(super) objects: Vec<(I, &'a Object)>,
    /// The size of what is there of a section.
    pub(super) before: &'a dyn Fn(&str) -> u64,
    /// The file address of a section that came along.
    pub(super) address: &'a dyn Fn(I, SectionId) -> Option<u64>,
}

impl<I: Copy + Eq + Hash> Debug<'_, I> {
    /// What is appended to each section.
    pub(super) fn additions(&self) -> Vec<Addition> {
        let mut out: Vec<Addition> = Vec::new();
        let mut bases: FxHashMap<(I, SectionId), u64> = FxHashMap::default();
        for (index, object) in &self.objects {
            for (section, data) in debug_sections(object) {
                let at = out.iter().position(|addition| *addition.section == *data.name).unwrap_or_else(|| {
                    out.push(Addition { section: data.name.to_string(), bytes: Vec::new() });
                    out.len() - 1
                });
                let before = (self.before)(&data.name);
                let bytes = &mut out[at].bytes;
                let base = (before + bytes.len() as u64).next_multiple_of(data.align.max(1));
                bytes.resize((base - before) as usize, 0);
                bases.insert((*index, section), base);
                bytes.extend_from_slice(object.bytes(section));
            }
        }
        for (index, object) in &self.objects {
            for (section, data) in debug_sections(object) {
                let Some(base) = bases.get(&(*index, section)).copied() else { continue };
                let Some(found) = out.iter_mut().find(|addition| *addition.section == *data.name) else { continue };
                let start = base - (self.before)(&data.name);
                for reloc in &data.relocs {
                    let value = self.field(&bases, *index, object, &data.name, reloc);
                    put(&mut found.bytes, start + reloc.offset, reloc.kind.width(), value);
                }
            }
        }
        out
    }

    fn field(
        &self,
        bases: &FxHashMap<(I, SectionId), u64>,
        index: I,
        object: &Object,
        name: &str,
        reloc: &Reloc,
    ) -> u64 {
        let lists = matches!(name, ".debug_ranges" | ".debug_loc");
        let tombstone = u64::from(lists);
        let Place::In(section, offset) = object.symbol(reloc.symbol).place else { return tombstone };
        let addend = reloc.addend as u64;
        if object.section(section).role == Role::Debug {
            let base = bases.get(&(index, section)).copied().unwrap_or(0);
            return base.wrapping_add(offset).wrapping_add(addend);
        }
        if reloc.kind != RelocKind::ABS64 {
            return 0;
        }
        (self.address)(index, section).map_or(tombstone, |addr| addr.wrapping_add(offset).wrapping_add(addend))
    }
}

/// How many bytes are appended, at most.
pub(super) fn size(reach: &Reach) -> u64 {
    let objects = contributing(reach).into_iter().filter_map(|index| reach.object(index));
    objects.flat_map(|object| debug_sections(object)).map(|(_, section)| section.size + section.align).sum()
}

fn contributing(reach: &Reach) -> Vec<ObjectIndex> {
    let mut out: Vec<_> = reach
        .functions
        .iter()
        .filter_map(|function| reach.pieces.get(function.piece.0))
        .map(|piece| piece.object)
        .collect();
    out.sort_unstable();
    out.dedup();
    out
}

fn debug_sections(object: &Object) -> impl Iterator<Item = (SectionId, &crate::binary::object::Section)> {
    let known = |name: &str| !matches!(name, ".debug_gdb_scripts" | ".debug_macro" | ".debug_macinfo");
    object
        .sections
        .iter()
        .enumerate()
        .filter(move |(_, section)| section.role == Role::Debug && known(&section.name) && section.size < 1 << 28)
        .map(|(at, section)| (SectionId(at as u32), section))
}

fn put(bytes: &mut [u8], at: u64, width: u64, value: u64) {
    let start = at as usize;
    if let Some(field) = bytes.get_mut(start..start.saturating_add(width as usize)) {
        field.copy_from_slice(&value.to_le_bytes()[..width as usize]);
    }
}
