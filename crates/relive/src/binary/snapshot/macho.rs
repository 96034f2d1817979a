//! Linked Mach-O files: executables, libraries and bundles, x86-64 and arm64, and those inside universal files.
//!
//! Takes the bytes of one, gives what [`facts`](super::facts) has words for. Formats: Apple's `<mach-o/loader.h>`,
//! `<mach-o/nlist.h>`, `<mach-o/stab.h>`, `<mach-o/fat.h>`. Symbols state no size: one reaches to the next of its section,
//! the last to the section's end. What the linker says about units (`N_SO`, `N_OSO`) stands apart from the symbols, and
//! a symbol belongs to the unit in which its address is named (`N_FUN`, `N_STSYM`). Symbols lose the underscore that
//! compilers put before every name.

use std::ops::Range;

use object::macho;
use object::read::macho::{FatArch, MachHeader, MachOFatFile32, MachOFatFile64, Nlist, Section, Segment as _};
use xxhash_rust::xxh3::xxh3_64;

use super::facts::{
    About, Access, Entry, Format, Found, Identity, Key, Kind, Machine, Segment, Tag, TlsBlock, UNITS_MAX, name_at,
};
use super::gather::{self, Unnamed};
use super::several;
use crate::binary::address::LinkAddr;
use crate::binary::object::{Binding, ObjectError, SymbolKind, bad};

type Header = macho::MachHeader64<object::LittleEndian>;
type Symbol = macho::Nlist64<object::LittleEndian>;
const LE: object::LittleEndian = object::LittleEndian;

/// Whether the bytes begin as a little-endian Mach-O file of 64 bits does.
pub(super) fn is_macho(data: &[u8]) -> bool {
    data.starts_with(&macho::MH_MAGIC_64.to_le_bytes())
}

/// Whether the bytes begin as a universal file does.
pub(super) fn is_universal(data: &[u8]) -> bool {
    data.starts_with(&macho::FAT_MAGIC.to_be_bytes()) || data.starts_with(&macho::FAT_MAGIC_64.to_be_bytes())
}

/// A slice of a universal file: what it is for, if we know it, and where it is.
pub(super) type Slice = (Option<Machine>, Range<u64>);

/// The slices of a universal file.
pub(super) fn slices(data: &[u8]) -> Result<Vec<Slice>, ObjectError> {
    if data.starts_with(&macho::FAT_MAGIC_64.to_be_bytes()) {
        let file = MachOFatFile64::parse(data).map_err(bad("universal header"))?;
        file.arches().iter().map(|arch| slice(arch, data)).collect()
    } else {
        let file = MachOFatFile32::parse(data).map_err(bad("universal header"))?;
        file.arches().iter().map(|arch| slice(arch, data)).collect()
    }
}

fn slice(arch: &impl FatArch, data: &[u8]) -> Result<Slice, ObjectError> {
    let (start, size) = arch.file_range();
    match start.checked_add(size).filter(|end| *end <= data.len() as u64) {
        Some(end) => Ok((machine(arch.cputype()), start..end)),
        None => Err(ObjectError(format!("universal header: the slice at {start:#x} does not lie within the file"))),
    }
}

fn machine(cputype: u32) -> Option<Machine> {
    match cputype {
        macho::CPU_TYPE_X86_64 => Some(Machine::X86_64),
        macho::CPU_TYPE_ARM64 => Some(Machine::Aarch64),
        _ => None,
    }
}

/// What tells the file from others.
pub(super) fn identity(data: &[u8]) -> Result<Identity, ObjectError> {
    let header = header(data)?;
    let cputype = header.cputype(LE);
    let machine = machine(cputype).ok_or_else(|| {
        ObjectError(format!("file header: it is for processor type {cputype:#x}, not x86-64 or arm64"))
    })?;
    let size = size_of::<Header>() as u64 + u64::from(header.sizeofcmds(LE));
    let headers = data
        .get(..size as usize)
        .ok_or_else(|| ObjectError(format!("file header: {size} bytes of load commands do not lie within the file")))?;
    let (key, key_at) = match uuid(header, data)? {
        Some((uuid, offset)) => (Key::Uuid(uuid), loaded(&segments(header, data)?, offset, uuid.len() as u64)),
        None => (Key::of_contents(data), None),
    };
    let size = data.len() as u64;
    Ok(Identity { format: Format::MachO, machine, key, key_at, size, headers: xxh3_64(headers) })
}

fn header(data: &[u8]) -> Result<&Header, ObjectError> {
    Header::parse(data, 0).map_err(bad("file header"))
}

/// The UUID and its offset in the file.
fn uuid(header: &Header, data: &[u8]) -> Result<Option<([u8; 16], u64)>, ObjectError> {
    let mut commands = header.load_commands(LE, data, 0).map_err(bad("load commands"))?;
    while let Some(command) = commands.next().map_err(bad("load commands"))? {
        if let Some(uuid) = command.uuid().map_err(bad("LC_UUID"))? {
            // The command is a part of `data`, so the difference of the two places is its offset in the file.
            let offset = (uuid.uuid.as_ptr() as u64).wrapping_sub(data.as_ptr() as u64);
            return Ok(Some((uuid.uuid, offset)));
        }
    }
    Ok(None)
}

/// Where `len` bytes at `offset` of the file are once it is loaded.
fn loaded(segments: &[Segment], offset: u64, len: u64) -> Option<LinkAddr> {
    let end = offset.checked_add(len)?;
    let holds = |segment: &&Segment| {
        segment.file_offset <= offset && end <= segment.file_offset.saturating_add(segment.file_size)
    };
    let segment = segments.iter().find(holds)?;
    segment.start.0.checked_add(offset - segment.file_offset).map(LinkAddr)
}

/// The loaded segments; one that may not be touched and holds nothing (`__PAGEZERO`) is none.
fn segments(header: &Header, data: &[u8]) -> Result<Vec<Segment>, ObjectError> {
    let mut out = Vec::new();
    let mut commands = header.load_commands(LE, data, 0).map_err(bad("load commands"))?;
    while let Some(command) = commands.next().map_err(bad("load commands"))? {
        let Some((segment, _)) = command.segment_64().map_err(bad("segment"))? else { continue };
        let has = |flag: u32| segment.initprot(LE) & flag != 0;
        let access = Access {
            read: has(macho::VM_PROT_READ),
            write: has(macho::VM_PROT_WRITE),
            execute: has(macho::VM_PROT_EXECUTE),
        };
        if access == Access::default() && segment.filesize(LE) == 0 {
            continue;
        }
        out.push(Segment {
            start: LinkAddr(segment.vmaddr(LE)),
            size: segment.vmsize(LE),
            file_offset: segment.fileoff(LE),
            file_size: segment.filesize(LE),
            access,
        });
    }
    if out.is_empty() {
        return Err(ObjectError("load commands: no loaded segment".into()));
    }
    out.sort_by_key(|segment| segment.start);
    Ok(out)
}

/// What the symbols of a section are.
#[derive(Clone, Copy, Debug)]
struct Part {
    start: u64,
    end: u64,
    kind: SymbolKind,
    /// Alignment if it is a part of the thread-local block.
    block_align: Option<u64>,
}

/// The sections in the order of their numbers, which begin at one.
fn parts(header: &Header, data: &[u8]) -> Result<Vec<Part>, ObjectError> {
    let mut out = Vec::new();
    let mut commands = header.load_commands(LE, data, 0).map_err(bad("load commands"))?;
    while let Some(command) = commands.next().map_err(bad("load commands"))? {
        let Some((segment, rest)) = command.segment_64().map_err(bad("segment"))? else { continue };
        for section in segment.sections(LE, rest).map_err(bad("section headers"))? {
            let flags = section.flags(LE);
            let code = flags & (macho::S_ATTR_PURE_INSTRUCTIONS | macho::S_ATTR_SOME_INSTRUCTIONS) != 0;
            let kind = match flags & macho::SECTION_TYPE {
                macho::S_THREAD_LOCAL_VARIABLES => SymbolKind::Tls,
                _ if code => SymbolKind::Function,
                _ => SymbolKind::Object,
            };
            let in_block =
                matches!(flags & macho::SECTION_TYPE, macho::S_THREAD_LOCAL_REGULAR | macho::S_THREAD_LOCAL_ZEROFILL);
            let align = 1_u64.checked_shl(section.align(LE)).unwrap_or(u64::MAX);
            let start = section.addr(LE);
            let end = start.saturating_add(section.size(LE));
            out.push(Part { start, end, kind, block_align: in_block.then_some(align) });
        }
    }
    Ok(out)
}

fn tls_block(parts: &[Part]) -> Result<TlsBlock, ObjectError> {
    let block = || parts.iter().filter_map(|part| Some((part.start, part.end, part.block_align?)));
    let Some(start) = block().map(|part| part.0).min() else { return Ok(TlsBlock::default()) };
    let end = block().map(|part| part.1).max().unwrap_or(start);
    let align = block().map(|part| part.2).max().unwrap_or(1);
    let size = end.saturating_sub(start);
    let block = TlsBlock { size, align, start: LinkAddr(start) };
    let why = || ObjectError(format!("sections: a thread-local block of {size} bytes aligned to {align}"));
    block.is_possible().then_some(block).ok_or_else(why)
}

/// Reads the whole file.
pub(super) fn read(data: &[u8]) -> Result<Found, ObjectError> {
    let header = header(data)?;
    let identity = identity(data)?;
    let kind = match header.filetype(LE) {
        macho::MH_EXECUTE if header.flags(LE) & macho::MH_PIE == 0 => Kind::FixedExecutable,
        macho::MH_EXECUTE => Kind::Executable,
        macho::MH_DYLIB | macho::MH_BUNDLE => Kind::SharedLibrary,
        other => return Err(ObjectError(format!("file header: type {other} is no executable and no library"))),
    };
    let segments = segments(header, data)?;
    let parts = parts(header, data)?;
    let tls = tls_block(&parts)?;
    let (table, strings) = symbol_table(header, data)?;
    let names = data.get(strings.start as usize..strings.end as usize).unwrap_or_default();
    let units = Units::read(table, names)?;
    let symbols = symbols(table, &parts, &units, names, data.len() as u64)?;
    let stripped = !symbols.iter().any(|entry| entry.tag != Tag::GONE && entry.tag.binding() == Binding::Local);
    let is_import = |symbol: &&Symbol| !symbol.is_stab() && symbol.n_type & macho::N_TYPE == macho::N_UNDF;
    let imports = table.iter().filter(is_import).map(|symbol| without_underscore(names, symbol.n_strx.get(LE)));
    let imports = gather::sorted_names(imports, names, data.len() as u64)?;
    let about = About { identity, kind, stripped, tls, import_strings: strings.clone(), strings };
    Ok(Found { about, segments, symbols, units: units.names, imports })
}

fn symbol_table<'d>(header: &Header, data: &'d [u8]) -> Result<(&'d [Symbol], Range<u64>), ObjectError> {
    let mut commands = header.load_commands(LE, data, 0).map_err(bad("load commands"))?;
    while let Some(command) = commands.next().map_err(bad("load commands"))? {
        let Some(table) = command.symtab().map_err(bad("LC_SYMTAB"))? else { continue };
        let (at, count) = (u64::from(table.symoff.get(LE)), table.nsyms.get(LE) as usize);
        let symbols = data.get(at as usize..).and_then(|rest| object::slice_from_bytes(rest, count).ok());
        let (symbols, _) = symbols.ok_or_else(|| {
            ObjectError(format!("LC_SYMTAB: {count} symbols at offset {at:#x} do not lie within the file"))
        })?;
        let start = u64::from(table.stroff.get(LE));
        let end = start + u64::from(table.strsize.get(LE));
        if end > data.len() as u64 {
            return Err(ObjectError(format!("LC_SYMTAB: names at offset {start:#x} do not lie within the file")));
        }
        return Ok((symbols, start..end));
    }
    Ok((&[], 0..0))
}

/// Where a name begins behind the underscore that stands before it.
fn without_underscore(names: &[u8], at: u32) -> u32 {
    if names.get(at as usize) == Some(&b'_') { at.saturating_add(1) } else { at }
}

/// What the linker says about the object files.
#[derive(Debug, Default)]
struct Units {
    /// Offsets of their names.
    names: Vec<u32>,
    /// Addresses that it names in a unit, ascending, and the units' numbers.
    members: Vec<(u64, u32)>,
}

impl Units {
    /// A unit is `N_SO` (folder), `N_SO` (source), `N_OSO` (object), its members, and an `N_SO` without a name. It is
    /// called after its object; after its source where no object is named.
    fn read(table: &[Symbol], names: &[u8]) -> Result<Units, ObjectError> {
        let mut units = Units::default();
        let mut source = None;
        let mut unit = 0;
        for symbol in table.iter().filter(|symbol| symbol.is_stab()) {
            let at = symbol.n_strx.get(LE);
            match symbol.n_type {
                macho::N_SO if name_at(names, at).is_empty() => (source, unit) = (None, 0),
                macho::N_SO => (source, unit) = (Some(at), 0),
                macho::N_OSO => (source, unit) = (None, units.add(at)?),
                macho::N_FUN | macho::N_STSYM if !name_at(names, at).is_empty() => {
                    if let Some(source) = source.take() {
                        unit = units.add(source)?;
                    }
                    units.members.push((symbol.n_value.get(LE), unit));
                }
                _ => {} // ranges and lines of the debug map, which name no unit
            }
        }
        units.members.sort_unstable();
        Ok(units)
    }

    fn add(&mut self, name: u32) -> Result<u32, ObjectError> {
        if self.names.len() >= UNITS_MAX {
            return Err(ObjectError(format!("symbol table: it has more than {UNITS_MAX} units")));
        }
        self.names.push(name);
        Ok(self.names.len() as u32)
    }

    fn of(&self, addr: u64) -> u32 {
        let at = self.members.partition_point(|member| member.0 < addr);
        self.members.get(at).filter(|member| member.0 == addr).map_or(0, |member| member.1)
    }
}

fn symbols(
    table: &[Symbol],
    parts: &[Part],
    units: &Units,
    names: &[u8],
    file_size: u64,
) -> Result<Vec<Entry>, ObjectError> {
    let part_of = |symbol: &Symbol| {
        let defined = !symbol.is_stab() && symbol.n_type & macho::N_TYPE == macho::N_SECT;
        let number = usize::from(symbol.n_sect).checked_sub(1).filter(|_| defined)?;
        parts.get(number)
    };
    let mut starts: Vec<u64> =
        table.iter().filter(|symbol| part_of(symbol).is_some()).map(|symbol| symbol.n_value.get(LE)).collect();
    several::sort(&mut starts);
    let describe = |_: usize, symbol: &Symbol, _: u32| {
        let part = part_of(symbol)?;
        let addr = symbol.n_value.get(LE);
        let next = starts.get(starts.partition_point(|start| *start <= addr)).copied().unwrap_or(u64::MAX);
        // The name of the header itself (`__mh_execute_header`) is said to be in the first section and lies before it.
        let inside = part.start <= addr && addr < part.end;
        let (kind, size) = if inside { (part.kind, next.min(part.end) - addr) } else { (SymbolKind::Object, 0) };
        let binding = match symbol.n_type & macho::N_EXT != 0 {
            _ if symbol.n_desc.get(LE) & macho::N_WEAK_DEF != 0 => Binding::Weak,
            true if symbol.n_type & macho::N_PEXT == 0 => Binding::Global,
            _ => Binding::Local,
        };
        let name = without_underscore(names, symbol.n_strx.get(LE));
        Some(Unnamed { addr, size, name, tag: Tag::new(kind, binding, units.of(addr)) })
    };
    gather::entries(table, names, file_size, describe, |_| false)
}
