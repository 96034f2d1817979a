//! Linked ELF files: executables and shared libraries, x86-64 and aarch64.
//!
//! Takes the bytes of one, gives what [`facts`](super::facts) has words for. Formats: the System V gABI, chapters 4 and 5;
//! `NT_GNU_BUILD_ID` and `DF_1_PIE` as binutils define them; mapping symbols as in AAELF64, "Mapping symbols". Sections
//! are asked for the symbol table only; everything that is loaded is taken from the program headers.

use std::ops::Range;

use object::elf;
use object::read::elf::{Dyn, FileHeader, ProgramHeader, SectionHeader, SectionTable, Sym, SymbolTable};
use xxhash_rust::xxh3::Xxh3;

use super::facts::Tag;
use super::facts::{
    About, Access, Entry, Format, Found, Identity, KEY_MAX, Key, Kind, Machine, Segment, TlsBlock, UNITS_MAX,
};
use super::gather::{self, Unnamed};
use crate::binary::address::LinkAddr;
use crate::binary::object::{Binding, ObjectError, SymbolKind, bad};

type Header = elf::FileHeader64<object::LittleEndian>;
type Symbol = elf::Sym64<object::LittleEndian>;
type Sections<'d> = SectionTable<'d, Header>;
type Symbols<'d> = SymbolTable<'d, Header>;
const LE: object::LittleEndian = object::LittleEndian;

/// Whether the bytes begin as an ELF file does.
pub(super) fn is_elf(data: &[u8]) -> bool {
    data.starts_with(&elf::ELFMAG)
}

/// What tells the file from others.
pub(super) fn identity(data: &[u8]) -> Result<Identity, ObjectError> {
    let header = header(data)?;
    let machine = match header.e_machine.get(LE) {
        elf::EM_X86_64 => Machine::X86_64,
        elf::EM_AARCH64 => Machine::Aarch64,
        other => return Err(ObjectError(format!("file header: it is for machine {other}, not x86-64 or aarch64"))),
    };
    let (key, key_at) = match build_id(header, data)? {
        Some((id, at)) => (Key::BuildId(id.to_vec()), at),
        None => (Key::of_contents(data), None),
    };
    let headers = headers(header, data)?;
    Ok(Identity { format: Format::Elf, machine, key, key_at, size: data.len() as u64, headers })
}

fn header(data: &[u8]) -> Result<&Header, ObjectError> {
    let header = Header::parse(data).map_err(bad("file header"))?;
    if header.is_big_endian() {
        return Err(ObjectError("file header: it is big-endian".into()));
    }
    Ok(header)
}

/// A build-id and where it is loaded, if it is.
type Note<'d> = (&'d [u8], Option<LinkAddr>);

fn build_id<'d>(header: &Header, data: &'d [u8]) -> Result<Option<Note<'d>>, ObjectError> {
    let segments = header.program_headers(LE, data).map_err(bad("program headers"))?;
    for segment in segments {
        let Some(mut notes) = segment.notes(LE, data).map_err(bad("notes"))? else { continue };
        while let Some(note) = notes.next().map_err(bad("notes"))? {
            let is_id = note.name() == elf::ELF_NOTE_GNU && note.n_type(LE) == elf::NT_GNU_BUILD_ID;
            let id = note.desc();
            if is_id && !id.is_empty() && id.len() <= KEY_MAX {
                // The note is a part of `data`, so the difference of the two places is its offset in the file.
                let offset = (id.as_ptr() as u64).wrapping_sub(data.as_ptr() as u64);
                let inside = offset.checked_sub(segment.p_offset(LE));
                let at = inside.and_then(|inside| segment.p_vaddr(LE).checked_add(inside)).map(LinkAddr);
                return Ok(Some((id, at.filter(|at| is_loaded(segments, *at, id.len() as u64)))));
            }
        }
    }
    Ok(None)
}

fn is_loaded(segments: &[elf::ProgramHeader64<object::LittleEndian>], at: LinkAddr, len: u64) -> bool {
    let mut loads = segments.iter().filter(|segment| segment.p_type(LE) == elf::PT_LOAD);
    loads.any(|segment| {
        let start = segment.p_vaddr(LE);
        let end = start.saturating_add(segment.p_filesz(LE));
        start <= at.0 && at.0.checked_add(len).is_some_and(|last| last <= end)
    })
}

/// XXH3-64 of the file's, the segments' and the sections' headers.
fn headers(header: &Header, data: &[u8]) -> Result<u64, ObjectError> {
    let segments = header.program_headers(LE, data).map_err(bad("program headers"))?;
    let sections = header.sections(LE, data).map_err(bad("section table"))?;
    let mut hash = Xxh3::new();
    hash.update(object::bytes_of(header));
    hash.update(object::bytes_of_slice(segments));
    sections.iter().for_each(|section| hash.update(object::bytes_of(section)));
    Ok(hash.digest())
}

/// Reads the whole file.
pub(super) fn read(data: &[u8]) -> Result<Found, ObjectError> {
    let header = header(data)?;
    let identity = identity(data)?;
    let kind = kind(header, data)?;
    let segments = segments(header, data)?;
    let tls = tls_block(header, data)?;
    let sections = header.sections(LE, data).map_err(bad("section table"))?;
    let dynamic = sections.symbols(LE, data, elf::SHT_DYNSYM).map_err(bad("dynamic symbols"))?;
    let full = sections.symbols(LE, data, elf::SHT_SYMTAB).map_err(bad("symbol table"))?;
    let stripped = full.is_empty();
    let table = if stripped { &dynamic } else { &full };
    let strings = string_range(&sections, table, data)?;
    let import_strings = string_range(&sections, &dynamic, data)?;
    let files = gather::positions(table.symbols(), |symbol| symbol.st_type() == elf::STT_FILE);
    if files.len() > UNITS_MAX {
        return Err(ObjectError(format!("symbol table: it has {} units, more than {UNITS_MAX}", files.len())));
    }
    let symbols = symbols(table, &files, part(data, &strings), data.len() as u64, identity.machine)?;
    let unit = |at: &u32| table.symbols().get(*at as usize).map_or(0, |symbol| symbol.st_name.get(LE));
    let units = files.iter().map(unit).collect();
    let imports = imports(&dynamic, part(data, &import_strings), data.len() as u64)?;
    let about = About { identity, kind, stripped, tls, strings, import_strings };
    Ok(Found { about, segments, symbols, units, imports })
}

fn part<'d>(data: &'d [u8], range: &Range<u64>) -> &'d [u8] {
    data.get(range.start as usize..range.end as usize).unwrap_or_default()
}

/// An executable that can be loaded anywhere and a shared library have one type; `DF_1_PIE` tells them apart, or where an
/// old linker does not set it, that programs are started by a loader and have no name that libraries are found by.
fn kind(header: &Header, data: &[u8]) -> Result<Kind, ObjectError> {
    match header.e_type.get(LE) {
        elf::ET_EXEC => return Ok(Kind::FixedExecutable),
        elf::ET_DYN => {}
        other => return Err(ObjectError(format!("file header: type {other} is no executable and no shared library"))),
    }
    let (mut has_loader, mut has_name, mut says_pie) = (false, false, false);
    for segment in header.program_headers(LE, data).map_err(bad("program headers"))? {
        has_loader |= segment.p_type(LE) == elf::PT_INTERP;
        for entry in segment.dynamic(LE, data).map_err(bad("dynamic section"))?.unwrap_or_default() {
            let tag = entry.d_tag.get(LE);
            has_name |= tag == u64::from(elf::DT_SONAME);
            says_pie |= tag == u64::from(elf::DT_FLAGS_1) && entry.d_val(LE) & u64::from(elf::DF_1_PIE) != 0;
        }
    }
    Ok(if says_pie || (has_loader && !has_name) { Kind::Executable } else { Kind::SharedLibrary })
}

fn segments(header: &Header, data: &[u8]) -> Result<Vec<Segment>, ObjectError> {
    let all = header.program_headers(LE, data).map_err(bad("program headers"))?;
    let mut out = Vec::new();
    for segment in all.iter().filter(|segment| segment.p_type(LE) == elf::PT_LOAD) {
        let has = |flag: u32| segment.p_flags(LE) & flag != 0;
        out.push(Segment {
            start: LinkAddr(segment.p_vaddr(LE)),
            size: segment.p_memsz(LE),
            file_offset: segment.p_offset(LE),
            file_size: segment.p_filesz(LE),
            access: Access { read: has(elf::PF_R), write: has(elf::PF_W), execute: has(elf::PF_X) },
        });
    }
    if out.is_empty() {
        return Err(ObjectError("program headers: no loaded segment".into()));
    }
    out.sort_by_key(|segment| segment.start);
    Ok(out)
}

fn tls_block(header: &Header, data: &[u8]) -> Result<TlsBlock, ObjectError> {
    let all = header.program_headers(LE, data).map_err(bad("program headers"))?;
    let Some(segment) = all.iter().find(|segment| segment.p_type(LE) == elf::PT_TLS) else {
        return Ok(TlsBlock::default());
    };
    let (size, align, start) = (segment.p_memsz(LE), segment.p_align(LE).max(1), LinkAddr(segment.p_vaddr(LE)));
    let block = TlsBlock { size, align, start };
    let why = || ObjectError(format!("program headers: a thread-local block of {size} bytes aligned to {align}"));
    block.is_possible().then_some(block).ok_or_else(why)
}

fn string_range(sections: &Sections<'_>, table: &Symbols<'_>, data: &[u8]) -> Result<Range<u64>, ObjectError> {
    if table.is_empty() {
        return Ok(0..0);
    }
    let section = sections.section(table.string_section()).map_err(bad("string table"))?;
    let start = section.sh_offset(LE);
    let end = start.checked_add(section.sh_size(LE)).filter(|end| *end <= data.len() as u64);
    match end {
        Some(end) => Ok(start..end),
        None => Err(ObjectError(format!("string table: at offset {start:#x} it does not lie within the file"))),
    }
}

/// All that the table defines. Local symbols belong to the unit whose `STT_FILE` symbol comes before them; the others
/// come after all units and belong to none.
fn symbols(
    table: &Symbols<'_>,
    files: &[u32],
    strings: &[u8],
    file_size: u64,
    machine: Machine,
) -> Result<Vec<Entry>, ObjectError> {
    let describe = |number: usize, symbol: &Symbol, near: u32| {
        let kind = match symbol.st_type() {
            elf::STT_FILE | elf::STT_SECTION => return None,
            elf::STT_FUNC | elf::STT_GNU_IFUNC => SymbolKind::Function,
            elf::STT_OBJECT => SymbolKind::Object,
            elf::STT_TLS => SymbolKind::Tls,
            elf::STT_NOTYPE => SymbolKind::Unsaid,
            other => SymbolKind::Unknown(other),
        };
        let place = symbol.st_shndx.get(LE);
        if place == elf::SHN_UNDEF || place == elf::SHN_ABS {
            return None;
        }
        let (binding, unit) = match symbol.st_bind() {
            elf::STB_LOCAL => (Binding::Local, unit(files, number, near)),
            elf::STB_WEAK => (Binding::Weak, 0),
            _ => (Binding::Global, 0),
        };
        let tag = Tag::new(kind, binding, unit);
        Some(Unnamed { addr: symbol.st_value(LE), size: symbol.st_size(LE), name: symbol.st_name.get(LE), tag })
    };
    let is_noise = |name: &[u8]| machine == Machine::Aarch64 && is_mapping_symbol(name);
    gather::entries(table.symbols(), strings, file_size, describe, is_noise)
}

/// The unit of a local symbol: how many of `files` come before it. Neighbours are of one unit, mostly, so `near` is tried first.
fn unit(files: &[u32], number: usize, near: u32) -> u32 {
    let is_before = |file: &u32| (*file as usize) < number;
    let (before, after) = files.split_at(files.len().min(near as usize));
    if before.last().is_none_or(is_before) && !after.first().is_some_and(is_before) {
        return before.len() as u32;
    }
    files.partition_point(is_before) as u32
}

/// AAELF64: `$x` and `$d`, alone or before a dot, say where instructions and data begin.
fn is_mapping_symbol(name: &[u8]) -> bool {
    matches!(name, [b'$', b'x' | b'd'] | [b'$', b'x' | b'd', b'.', ..])
}

fn imports(dynamic: &Symbols<'_>, strings: &[u8], file_size: u64) -> Result<Vec<u32>, ObjectError> {
    let undefined = dynamic.iter().filter(|symbol| symbol.st_shndx.get(LE) == elf::SHN_UNDEF);
    let names = undefined.map(|symbol| symbol.st_name.get(LE)).filter(|name| *name != 0);
    gather::sorted_names(names, strings, file_size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_the_same_wherever_it_is_looked_for_first() {
        let files = [1, 4, 5, 9];
        let expected = [0, 0, 1, 1, 1, 2, 3, 3, 3, 3, 4];
        for (number, expected) in expected.into_iter().enumerate() {
            for near in 0..7 {
                assert_eq!(unit(&files, number, near), expected, "of {number}, near {near}");
            }
        }
        assert_eq!(unit(&[], 3, 2), 0);
    }
}
