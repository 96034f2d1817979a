//! Reads the finished image again and compares it with the plan.
//!
//! Takes the image's bytes and the map it was made from. A difference is a defect of the linker, found before the process
//! sees it.

use gimli::{BaseAddresses, CieOrFde, EhFrame, LittleEndian, UnwindSection};
use relive_wire::LiveAddr;
use relive_wire::near::IMAGE_BIAS;
use rustc_hash::FxHashSet;

use crate::link::arena::SYMTAB;
use crate::link::layout::{Map, Span};
use crate::link::symbols::SYMBOL_LEN;
use crate::link::{Image, LinkError};

/// Compares `image` with `map`.
pub(super) fn recheck(image: &Image, map: &Map) -> Result<(), LinkError> {
    sizes(image, map)?;
    unwind_entries(image, map)?;
    symbols(image, map)
}

fn bad(what: &str) -> LinkError {
    LinkError(format!("the image differs from its plan: {what}"))
}

fn sizes(image: &Image, map: &Map) -> Result<(), LinkError> {
    for (part, span, name) in [
        (&image.text, map.at.text, "code"),
        (&image.constants, map.at.constants, "constants"),
        (&image.variables, map.at.data, "variables"),
        (&image.frames, map.at.frames, "unwind entries"),
    ] {
        if part.addr != span.start || part.bytes.len() as u64 != span.size {
            return Err(bad(&format!("its {name} are not where they should be")));
        }
    }
    Ok(())
}

/// Every entry of the search table leads to an unwind entry that is for the function at hand, in the order of addresses.
fn unwind_entries(image: &Image, map: &Map) -> Result<(), LinkError> {
    let frames = EhFrame::new(&image.frames.bytes, LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(image.frames.addr.0);
    let mut found = FxHashSet::default();
    let mut entries = frames.entries(&bases);
    while let Some(entry) = entries.next().map_err(|error| bad(&error.to_string()))? {
        if let CieOrFde::Fde(partial) = entry {
            let fde = partial.parse(EhFrame::cie_from_offset).map_err(|error| bad(&error.to_string()))?;
            let (start, size) = (LiveAddr(fde.initial_address()), fde.len());
            if !is_inside(map.at.text, start, size) {
                return Err(bad(&format!("an unwind entry is for code at {start}, outside it")));
            }
            found.insert((start, image.frames.addr.plus(fde.offset() as u64)));
        }
    }
    let mut before = LiveAddr(0);
    let words = image.search.chunks_exact(4).map(|word| i32::from_le_bytes([word[0], word[1], word[2], word[3]]));
    let places: Vec<_> = words.map(|distance| map.placement.search.plus(i64::from(distance) as u64)).collect();
    for entry in places.chunks_exact(2) {
        if entry[0] < before || !found.remove(&(entry[0], entry[1])) {
            return Err(bad("its search table leads astray"));
        }
        before = entry[0];
    }
    if found.is_empty() { Ok(()) } else { Err(bad("an unwind entry is missing in its search table")) }
}

/// Every function lies in the code and has a symbol.
fn symbols(image: &Image, map: &Map) -> Result<(), LinkError> {
    let table = image.additions.iter().find(|addition| addition.section == SYMTAB);
    let table = table.ok_or_else(|| bad("no symbols"))?;
    let word = |symbol: &[u8], at: usize| symbol.get(at..)?.first_chunk().map(|word| u64::from_le_bytes(*word));
    let there: FxHashSet<_> = table
        .bytes
        .chunks_exact(SYMBOL_LEN as usize)
        .filter_map(|symbol| Some((word(symbol, 8)?.wrapping_add(IMAGE_BIAS), word(symbol, 16)?)))
        .collect();
    for function in &map.functions {
        if !there.contains(&(function.body.addr.0, function.body.size)) {
            return Err(bad(&format!("`{}` has no symbol", function.text)));
        }
        if !is_inside(map.at.text, function.body.addr, function.body.size) {
            return Err(bad(&format!("`{}` lies outside the code", function.text)));
        }
    }
    Ok(())
}

fn is_inside(span: Span, start: LiveAddr, size: u64) -> bool {
    span.start <= start && start.0.saturating_add(size) <= span.end().0
}
