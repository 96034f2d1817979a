//! Reads the finished image again and compares it with the plan.
//!
//! Takes the file's bytes and the map it was made from. A difference is a defect of the linker, found before the process
//! sees it.

use object::read::elf::{FileHeader, ProgramHeader};
use object::{Object, ObjectSection, ObjectSymbol, elf};
use relive_wire::LiveAddr;
use relive_wire::near::IMAGE_BIAS;

use crate::link::layout::Map;
use crate::link::{Image, LinkError};

const LE: object::LittleEndian = object::LittleEndian;

/// Compares `image` with `map`.
pub(super) fn recheck(image: &Image, map: &Map) -> Result<(), LinkError> {
    let bad = |what: &str| LinkError(format!("the image differs from its plan: {what}"));
    let header =
        elf::FileHeader64::<object::LittleEndian>::parse(&*image.file).map_err(|error| bad(&error.to_string()))?;
    let mut end = 0;
    for segment in header.program_headers(LE, &*image.file).map_err(|error| bad(&error.to_string()))? {
        if segment.p_type(LE) != elf::PT_LOAD {
            continue;
        }
        let start = segment.p_vaddr(LE);
        if start < end || start % 0x1000 != segment.p_offset(LE) % 0x1000 {
            return Err(bad("its segments overlap or are not aligned"));
        }
        if segment.p_offset(LE).saturating_add(segment.p_filesz(LE)) > image.file.len() as u64 {
            return Err(bad("a segment ends beyond the file"));
        }
        end = start.saturating_add(segment.p_memsz(LE));
    }
    if end > map.end.0 - IMAGE_BIAS {
        return Err(bad("it is larger than planned"));
    }
    let file = object::File::parse(&*image.file).map_err(|error| bad(&error.to_string()))?;
    let text = file.section_by_name(".text").ok_or_else(|| bad("no code"))?;
    if text.address() != map.text.start.0 - IMAGE_BIAS || text.size() != map.text.size {
        return Err(bad("its code is elsewhere"));
    }
    let mut symbols: Vec<_> =
        file.symbols().map(|symbol| (LiveAddr(symbol.address() + IMAGE_BIAS), symbol.size())).collect();
    symbols.sort_unstable();
    for function in &map.functions {
        if symbols.binary_search(&(function.body.addr, function.body.size)).is_err() {
            return Err(bad(&format!("`{}` has no symbol", function.text)));
        }
        let inside =
            map.text.start <= function.body.addr && function.body.addr.plus(function.body.size).0 <= map.text.end().0;
        if !inside {
            return Err(bad(&format!("`{}` lies outside the code", function.text)));
        }
    }
    Ok(())
}
