//! Symbols of the image, for debuggers, profilers and Rust's own backtraces.

use object::elf;
use relive_wire::LiveAddr;
use relive_wire::near::IMAGE_BIAS;

use crate::binary::names;
use crate::binary::object::{Place, Role};
use crate::diff::reach::Reach;
use crate::link::Addition;
use crate::link::arena::{STRTAB, SYMTAB, TEXT_INDEX};
use crate::link::layout::Map;

/// Bytes of one symbol.
pub(super) const SYMBOL_LEN: u64 = 24;

/// What is appended to the symbol table and to its strings.
pub(super) fn additions(reach: &Reach, map: &Map) -> [Addition; 2] {
    let first_string = map.placement.file.size(STRTAB);
    let mut strings = Vec::new();
    let mut symbols = Vec::new();
    for (name, addr, size) in all(reach, map) {
        symbols.extend((first_string as u32 + strings.len() as u32).to_le_bytes());
        symbols.extend([elf::STB_LOCAL << 4 | elf::STT_FUNC, 0]);
        symbols.extend(TEXT_INDEX.to_le_bytes());
        symbols.extend(addr.0.wrapping_sub(IMAGE_BIAS).to_le_bytes());
        symbols.extend(size.to_le_bytes());
        strings.extend(name.as_bytes());
        strings.push(0);
    }
    [Addition { section: STRTAB.into(), bytes: strings }, Addition { section: SYMTAB.into(), bytes: symbols }]
}

/// Name, address and size of every function, and of every stub.
fn all(reach: &Reach, map: &Map) -> Vec<(String, LiveAddr, u64)> {
    let mut out: Vec<_> =
        map.functions.iter().map(|function| (function.text.clone(), function.body.addr, function.body.size)).collect();
    for (piece, addr) in reach.pieces.iter().zip(&map.pieces) {
        let Some(object) = reach.object(piece.object) else { continue };
        let planned = reach.piece_of(piece.object, piece.section).and_then(|piece| reach.function_of(piece));
        if object.section(piece.section).role == Role::Text && planned.is_none() {
            for id in object.defined_in(piece.section) {
                let symbol = object.symbol(*id);
                if let (true, Place::In(_, offset)) = (object.is_item(symbol), symbol.place) {
                    out.push((object.name(symbol).to_owned(), addr.plus(offset), symbol.size));
                }
            }
        }
    }
    let new = map.functions.iter().filter(|one| map.stubs.start <= one.stub && one.stub < map.stubs.end());
    out.extend(new.map(|one| (format!("relive stub of {}", names::readable(&one.text)), one.stub, 14)));
    out
}
