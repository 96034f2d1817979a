//! Questions about an ELF file that take no index: whether a loader starts it, and what it exports.

use object::elf;
use object::read::elf::{FileHeader, ProgramHeader, Sym};

use crate::binary::object::{NameId, ObjectError, bad};

type Header = elf::FileHeader64<object::LittleEndian>;
const LE: object::LittleEndian = object::LittleEndian;

/// Whether an executable asks for a dynamic loader (`PT_INTERP`).
///
/// # Errors
/// If it is not a well-formed ELF64 little-endian file.
pub fn has_loader(data: &[u8]) -> Result<bool, ObjectError> {
    let header = Header::parse(data).map_err(bad("file header"))?;
    let segments = header.program_headers(LE, data).map_err(bad("program headers"))?;
    Ok(segments.iter().any(|segment| segment.p_type(LE) == elf::PT_INTERP))
}

/// Names that a shared object exports; empty if the bytes are none.
#[must_use]
pub fn exports(data: &[u8]) -> Vec<NameId> {
    let Ok(header) = Header::parse(data) else { return Vec::new() };
    let Ok(sections) = header.sections(LE, data) else { return Vec::new() };
    let Ok(table) = sections.symbols(LE, data, elf::SHT_DYNSYM) else { return Vec::new() };
    let defined = table.iter().filter(|symbol| symbol.st_shndx.get(LE) != elf::SHN_UNDEF);
    let name = |symbol: &elf::Sym64<object::LittleEndian>| symbol.name(LE, table.strings()).ok();
    defined.filter_map(name).filter_map(|name| std::str::from_utf8(name).ok()).map(NameId::of).collect()
}
