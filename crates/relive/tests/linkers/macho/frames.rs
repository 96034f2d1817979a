//! `__eh_frame`: lld keeps the entries of functions whose compact unwind entry says too little, in an order of its own.
//!
//! Each entry of an input is looked up by the function it is for, relocated for the place where lld has it, and compared;
//! so is the common entry that both refer to.

use std::collections::{HashMap, HashSet};

use relive::binary::object::{Place, Reloc, SectionId};

use super::Links;
use crate::compare::{DISCARDED, Piece};
use crate::ld64::Linked;
use crate::report::Report;

const DROPPED: &str = "call frame information of functions whose compact unwind entry says enough, or that lld dropped";

/// Compares the entries of the current input.
pub(super) fn compare(links: &mut Links<'_>, id: SectionId, report: &mut Report) {
    let bytes = links.object().bytes(id);
    let records: Vec<Record> = records(bytes).collect();
    let mut done = HashSet::new();
    for record in &records {
        let Some(distance) = record.common else { continue };
        let count = within(&links.object().section(id).relocs, *record).len() as u64;
        let found = match function(links, id, *record) {
            Ok(function) => links.frames.get(&function).copied(),
            Err(why) if why == DISCARDED => None,
            Err(why) => {
                report.unexplained(format!("{}+{:#x}: {why}", links.name(id), record.start));
                continue;
            }
        };
        let Some(found) = found else {
            report.explained(DROPPED, count);
            continue;
        };
        let start = (record.start + 4).wrapping_sub(u64::from(distance));
        let Ok(first) = records.binary_search_by_key(&start, |record| record.start) else {
            report.unexplained(format!("{}+{:#x}: no common entry", links.name(id), record.start));
            continue;
        };
        one(links, id, *record, found.at, report);
        if done.insert(start) {
            one(links, id, records[first], found.at + 4 - u64::from(found.distance), report);
        }
    }
}

/// The address of the function that an entry is for.
fn function(links: &Links<'_>, id: SectionId, record: Record) -> Result<u64, String> {
    let object = links.object();
    let field = record.start + 8;
    let relocs = within(&object.section(id).relocs, record);
    let reloc = relocs.iter().find(|reloc| reloc.offset == field).ok_or("an entry for no function")?;
    let at = links.address(links.key(reloc.symbol), 0)?.wrapping_add_signed(reloc.addend);
    // With a symbol of the section subtracted, the addend says where the field is.
    match reloc.minus.map(|minus| object.symbol(minus).place) {
        None => Ok(at),
        Some(Place::In(section, offset)) if section == id => Ok(at.wrapping_add(field).wrapping_sub(offset)),
        Some(_) => Err("an entry that counts from elsewhere".into()),
    }
}

/// A record: its place in the section, and for an entry of a function the distance of its common entry.
#[derive(Clone, Copy)]
struct Record {
    start: u64,
    size: u64,
    common: Option<u32>,
}

/// An entry of lld's.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    at: u64,
    distance: u32,
}

/// Length, then zero or the distance of the common entry (Linux Standard Base, 10.6.1).
fn records(bytes: &[u8]) -> impl Iterator<Item = Record> {
    let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let mut at = 0;
    std::iter::from_fn(move || {
        let len = word(at).filter(|len| *len != 0)?;
        let distance = word(at + 4)?;
        let record = Record { start: at as u64, size: u64::from(len) + 4, common: (distance != 0).then_some(distance) };
        at += len as usize + 4;
        Some(record)
    })
}

/// lld's entries by the address of their function.
pub(super) fn theirs(linked: &Linked) -> HashMap<u64, Entry> {
    let Some(section) = linked.section("__TEXT,__eh_frame") else { return HashMap::new() };
    let bytes = linked.bytes(section.at, section.size).unwrap_or_default();
    let entry = |record: Record| {
        let at = section.at + record.start;
        let field = bytes.get(record.start as usize + 8..)?.first_chunk()?;
        Some(((at + 8).wrapping_add_signed(i64::from_le_bytes(*field)), Entry { at, distance: record.common? }))
    };
    records(bytes).filter_map(entry).collect()
}

fn within(relocs: &[Reloc], record: Record) -> &[Reloc] {
    let index = |offset: u64| relocs.partition_point(|reloc| reloc.offset < offset);
    &relocs[index(record.start)..index(record.start + record.size)]
}

/// Relocates one record for the place `at`, and compares.
fn one(links: &mut Links<'_>, id: SectionId, record: Record, at: u64, report: &mut Report) {
    let object = links.object();
    let Some(theirs) = links.linked.bytes(at, record.size) else {
        report.unexplained(format!("{}+{:#x}: lld's entry is shorter", links.name(id), record.start));
        return;
    };
    let range = record.start as usize..(record.start + record.size) as usize;
    let mut ours = object.bytes(id)[range].to_vec();
    if record.common.is_some() {
        // Where the common entry is has been found out already.
        ours[4..8].copy_from_slice(&theirs[4..8]);
    }
    (links.section, links.at, links.theirs) = (id, at, theirs);
    links.frame_base = Some(at.wrapping_sub(record.start));
    let relocs: Vec<Reloc> = within(&object.section(id).relocs, record)
        .iter()
        .map(|reloc| Reloc { offset: reloc.offset - record.start, ..*reloc })
        .collect();
    let mut piece = Piece { object, name: links.name(id), debug: false, at, ours, theirs };
    piece.compare(links, &relocs, report);
    links.frame_base = None;
}
