//! 64-bit Mach-O, little-endian, x86-64 and AArch64: the twin of `elf`.
//!
//! A file with `MH_SUBSECTIONS_VIA_SYMBOLS` promises that its sections may be cut at their symbols (`<mach-o/loader.h>`);
//! each part becomes a section of its own here. Sections of merged strings and literals stay whole, as ELF's do. Symbols
//! lose their leading underscore and get a size: up to the next symbol. Addresses of the object, which relocations without
//! symbol and call frame information count with, become references to parts.

mod frames;
mod relocs;

use object::macho;
use object::read::macho::{MachHeader, Nlist, Section as _, Segment as _, SymbolTable};

use super::{
    Binding, Format, NameId, Names, ObjectError, Parts, Place, Role, Section, SectionId, Symbol, SymbolId, SymbolKind,
    bad, outside,
};
use crate::arch::Machine;
use crate::binary::bytes::Bytes;

type Header = macho::MachHeader64<object::LittleEndian>;
type RawSection = macho::Section64<object::LittleEndian>;
type RawSymbols<'d> = SymbolTable<'d, Header, &'d [u8]>;
const LE: object::LittleEndian = object::LittleEndian;

/// ELF's number of a symbol without storage yet (`SHN_COMMON`), for symbols of that kind here too.
const COMMON: u16 = 0xfff2;

/// Reads a Mach-O object.
pub(super) fn read(data: &Bytes) -> Result<Parts, ObjectError> {
    let header = Header::parse(&**data, 0).map_err(bad("file header"))?;
    let machine = match (header.cputype(LE), header.filetype(LE)) {
        (macho::CPU_TYPE_X86_64, macho::MH_OBJECT) => Machine::X86_64,
        (macho::CPU_TYPE_ARM64, macho::MH_OBJECT) => Machine::Aarch64,
        (cpu, kind) => {
            return Err(ObjectError(format!(
                "not a relocatable object for x86-64 or AArch64 (CPU type {cpu:#x}, file type {kind})"
            )));
        }
    };
    let mut raw = Vec::new();
    let mut symtab: RawSymbols<'_> = SymbolTable::default();
    let mut strings = 0..0;
    let mut commands = header.load_commands(LE, &**data, 0).map_err(bad("load commands"))?;
    while let Some(command) = commands.next().map_err(bad("load commands"))? {
        // Other commands do not change what sections and symbols mean.
        if let Some((segment, rest)) = command.segment_64().map_err(bad("load commands: segment"))? {
            raw.extend(segment.sections(LE, rest).map_err(bad("section table"))?);
        } else if let Some(command) = command.symtab().map_err(bad("symbol table"))? {
            symtab = command.symbols::<Header, _>(LE, &**data).map_err(bad("symbol table"))?;
            let start = u64::from(command.stroff.get(LE));
            strings = start..start.saturating_add(u64::from(command.strsize.get(LE)));
        }
    }
    let cut = header.flags(LE) & macho::MH_SUBSECTIONS_VIA_SYMBOLS != 0;
    let mut layout = Layout::new(&raw, &symtab, data, cut)?;
    let mut symbols = read_symbols(&symtab, &raw, &layout, data, strings.clone())?;
    layout.first_section_symbol = symbols.len() as u32;
    symbols.extend((0..layout.parts.len()).map(|index| section_symbol(layout.id(index))));
    let mut sections = layout.sections(&raw)?;
    let file = File { data, machine, layout: &layout, named: symtab.len() };
    relocs::read(&file, &raw, &mut sections)?;
    frames::complete(&file, &mut sections)?;
    Ok(Parts { machine, format: Format::MachO, strings, sections, symbols })
}

/// What readers of relocations need of the rest.
struct File<'f> {
    data: &'f Bytes,
    machine: Machine,
    layout: &'f Layout,
    /// How many symbols the file's own table has; their ids are one higher than their index there.
    named: usize,
}

/// A range of a section that is a section of its own for us.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// Index of the section in the file, from 0.
    section: u32,
    /// Address in the object.
    start: u64,
    end: u64,
}

/// How the sections of the file are cut; parts are in the order of sections, then addresses.
struct Layout {
    parts: Vec<Part>,
    /// For each section, the index of its first part, and behind the last section the number of parts.
    first: Vec<usize>,
    first_section_symbol: u32,
    /// Parts that are not empty, by their addresses: sections need not be in that order.
    by_address: Vec<u32>,
}

impl Layout {
    fn new(raw: &[&RawSection], symtab: &RawSymbols<'_>, data: &Bytes, cut: bool) -> Result<Layout, ObjectError> {
        let mut cuts: Vec<Vec<u64>> = vec![Vec::new(); raw.len()];
        for symbol in symtab.iter() {
            let in_section = !symbol.is_stab() && symbol.n_type() & macho::N_TYPE == macho::N_SECT;
            let is_start = symbol.n_desc(LE) & macho::N_ALT_ENTRY == 0;
            if cut
                && in_section
                && is_start
                && let Some(list) = usize::from(symbol.n_sect()).checked_sub(1).and_then(|index| cuts.get_mut(index))
            {
                list.push(symbol.n_value(LE));
            }
        }
        let mut layout =
            Layout { parts: Vec::new(), first: Vec::new(), first_section_symbol: 0, by_address: Vec::new() };
        for (index, (section, cuts)) in raw.iter().zip(&mut cuts).enumerate() {
            let (start, size) = (section.addr(LE), section.size(LE));
            let name = full_name(section);
            let end = start.checked_add(size).filter(|_| size <= 1 << 31);
            let end = end.ok_or_else(|| ObjectError(format!("section `{name}` has size {size:#x} at {start:#x}")))?;
            if !is_zeroed(section) && section.data(LE, &**data).is_err() {
                return Err(outside(&format!("section `{name}`"), section.offset(LE).into()));
            }
            layout.first.push(layout.parts.len());
            if !may_be_cut(section) {
                cuts.clear();
            }
            cuts.retain(|at| start < *at && *at < end);
            cuts.push(start);
            cuts.sort_unstable();
            cuts.dedup();
            let ends = cuts.iter().skip(1).copied().chain([end]);
            layout.parts.extend(cuts.iter().zip(ends).map(|(start, end)| Part {
                section: index as u32,
                start: *start,
                end,
            }));
        }
        layout.first.push(layout.parts.len());
        let has_bytes = |part: &Part| part.start < part.end;
        let parts = layout.parts.iter().enumerate().filter(|(_, part)| has_bytes(part));
        let mut by_address: Vec<(u64, u32)> = parts.map(|(index, part)| (part.start, index as u32)).collect();
        by_address.sort_unstable();
        layout.by_address = by_address.into_iter().map(|(_, index)| index).collect();
        Ok(layout)
    }

    /// The id of a part; 0 is the null section's.
    fn id(&self, part: usize) -> SectionId {
        SectionId(part as u32 + 1)
    }

    /// The symbol that stands for a part.
    fn section_symbol(&self, part: usize) -> SymbolId {
        SymbolId(self.first_section_symbol + part as u32)
    }

    /// The part of section `section` (from 0) that holds `addr`, and the distance from its start. The end of a section
    /// belongs to its last part.
    fn find(&self, section: usize, addr: u64) -> Option<(usize, u64)> {
        let first = *self.first.get(section)?;
        let parts = self.parts.get(first..*self.first.get(section + 1)?)?;
        let index = parts.partition_point(|part| part.start <= addr).checked_sub(1)?;
        let part = parts.get(index)?;
        let inside = addr < part.end || index + 1 == parts.len() && addr == part.end;
        inside.then(|| (first + index, addr - part.start))
    }

    /// The part that holds `addr`, whichever section it is of.
    fn find_anywhere(&self, addr: u64) -> Option<(usize, u64)> {
        let start = |at: &u32| self.parts.get(*at as usize).map_or(u64::MAX, |part| part.start);
        let last = self.by_address.partition_point(|at| start(at) <= addr).checked_sub(1)?;
        let index = *self.by_address.get(last)? as usize;
        let part = self.parts.get(index).filter(|part| addr < part.end)?;
        Some((index, addr - part.start))
    }

    fn sections(&self, raw: &[&RawSection]) -> Result<Vec<Section>, ObjectError> {
        let mut out = vec![Section {
            name: "".into(),
            role: Role::Ignored,
            file_range: 0..0,
            size: 0,
            align: 1,
            merge_size: 0,
            strings: false,
            relocs: Vec::new(),
        }];
        for part in &self.parts {
            let section = raw.get(part.section as usize).ok_or_else(|| ObjectError("a part without section".into()))?;
            let (offset, log2) = (part.start - section.addr(LE), section.align(LE));
            if log2 > 16 {
                return Err(ObjectError(format!("section `{}` has alignment 2^{log2}", full_name(section))));
            }
            let size = part.end - part.start;
            let start = u64::from(section.offset(LE)) + offset;
            let merge_size = match section.flags(LE) & macho::SECTION_TYPE {
                macho::S_CSTRING_LITERALS => 1,
                macho::S_4BYTE_LITERALS => 4,
                macho::S_8BYTE_LITERALS => 8,
                macho::S_16BYTE_LITERALS => 16,
                _ => 0,
            };
            out.push(Section {
                name: full_name(section).into(),
                role: role(section),
                file_range: if is_zeroed(section) { 0..0 } else { start..start + size },
                size,
                // A part is where its address in the object says it may be.
                align: 1 << offset.trailing_zeros().min(log2),
                merge_size,
                strings: merge_size == 1,
                relocs: Vec::new(),
            });
        }
        Ok(out)
    }
}

/// `__TEXT,__text`: sections of one name in two segments are the rule.
fn full_name(section: &RawSection) -> String {
    format!("{},{}", String::from_utf8_lossy(section.segment_name()), String::from_utf8_lossy(section.name()))
}

fn is_zeroed(section: &RawSection) -> bool {
    matches!(
        section.flags(LE) & macho::SECTION_TYPE,
        macho::S_ZEROFILL | macho::S_GB_ZEROFILL | macho::S_THREAD_LOCAL_ZEROFILL
    )
}

/// Whether symbols cut a section: not where equal elements are merged, nor where records are found by their lengths.
fn may_be_cut(section: &RawSection) -> bool {
    let merged = matches!(
        section.flags(LE) & macho::SECTION_TYPE,
        macho::S_CSTRING_LITERALS | macho::S_4BYTE_LITERALS | macho::S_8BYTE_LITERALS | macho::S_16BYTE_LITERALS
    );
    !merged && !matches!(role(section), Role::EhFrame | Role::CompactUnwind | Role::Debug | Role::Ignored)
}

fn role(section: &RawSection) -> Role {
    let flags = section.flags(LE);
    match (section.segment_name(), section.name(), flags & macho::SECTION_TYPE) {
        (_, _, macho::S_THREAD_LOCAL_REGULAR) => Role::TlsData,
        (_, _, macho::S_THREAD_LOCAL_ZEROFILL) => Role::TlsBss,
        (_, _, macho::S_ZEROFILL | macho::S_GB_ZEROFILL) => Role::Bss,
        (b"__LD", b"__compact_unwind", _) => Role::CompactUnwind,
        (b"__DWARF", ..) => Role::Debug,
        (b"__LLVM" | b"__LD", ..) => Role::Ignored,
        (b"__TEXT", b"__eh_frame", _) => Role::EhFrame,
        (b"__TEXT", b"__gcc_except_tab", _) => Role::Lsda,
        _ if flags & macho::S_ATTR_DEBUG != 0 => Role::Ignored,
        _ if flags & (macho::S_ATTR_PURE_INSTRUCTIONS | macho::S_ATTR_SOME_INSTRUCTIONS) != 0 => Role::Text,
        (b"__TEXT", ..) => Role::ReadOnly,
        (b"__DATA_CONST", ..) | (b"__DATA", b"__const", _) => Role::RelRo,
        _ => Role::Data,
    }
}

fn section_symbol(section: SectionId) -> Symbol {
    Symbol {
        name: 0..0,
        id: NameId::of(""),
        binding: Binding::Local,
        kind: SymbolKind::Section,
        place: Place::In(section, 0),
        size: 0,
    }
}

fn read_symbols(
    table: &RawSymbols<'_>,
    raw: &[&RawSection],
    layout: &Layout,
    data: &Bytes,
    strings: std::ops::Range<u64>,
) -> Result<Vec<Symbol>, ObjectError> {
    let bytes = data.slice(strings.clone()).ok_or_else(|| outside("string table", strings.start))?;
    let mut names = Names::of(&bytes);
    // The null symbol, as in ELF.
    let mut out = vec![Symbol {
        name: 0..0,
        id: NameId::of(""),
        binding: Binding::Local,
        kind: SymbolKind::Unsaid,
        place: Place::Undefined,
        size: 0,
    }];
    for (index, symbol) in table.iter().enumerate() {
        let start = symbol.n_strx(LE);
        let nameless = || ObjectError(format!("symbol {index}: its name at {start:#x} is out of the string table"));
        let rest = bytes.get(start as usize..).ok_or_else(nameless)?;
        let len = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        names.take(&rest[..len])?;
        let full = std::str::from_utf8(&rest[..len])
            .map_err(|_| ObjectError(format!("symbol {index}: its name at {start:#x} is not UTF-8")))?;
        // A name of the source has an underscore before it; names without are private to assembler and linker.
        let name = full.strip_prefix('_');
        let cut = u32::from(name.is_some());
        let place = symbol_place(symbol, layout, index)?;
        let section = match place {
            Place::In(id, _) => layout.parts.get(id.0 as usize - 1).and_then(|part| raw.get(part.section as usize)),
            Place::Undefined | Place::Absolute(_) | Place::Unknown(_) => None,
        };
        let size = match place {
            Place::In(id, offset) => {
                layout.parts.get(id.0 as usize - 1).map_or(0, |part| part.end - part.start - offset)
            }
            Place::Unknown(COMMON) => symbol.n_value(LE),
            Place::Undefined | Place::Absolute(_) | Place::Unknown(_) => 0,
        };
        out.push(Symbol {
            name: start + cut..start + len as u32,
            id: NameId::of(name.unwrap_or(full)),
            binding: match (symbol.n_type() & macho::N_EXT != 0, symbol.n_desc(LE) & macho::N_WEAK_DEF != 0) {
                (false, _) => Binding::Local,
                (true, true) => Binding::Weak,
                (true, false) => Binding::Global,
            },
            kind: if name.is_some() { symbol_kind(section) } else { SymbolKind::Unsaid },
            place,
            size,
        });
    }
    Ok(out)
}

fn symbol_kind(section: Option<&&RawSection>) -> SymbolKind {
    let Some(section) = section else { return SymbolKind::Unsaid };
    if section.flags(LE) & macho::SECTION_TYPE == macho::S_THREAD_LOCAL_VARIABLES {
        return SymbolKind::Tls;
    }
    match role(section) {
        Role::Text => SymbolKind::Function,
        Role::TlsData | Role::TlsBss => SymbolKind::Tls,
        Role::ReadOnly | Role::RelRo | Role::Data | Role::Bss | Role::Lsda => SymbolKind::Object,
        Role::EhFrame | Role::CompactUnwind | Role::Debug | Role::Ignored => SymbolKind::Unsaid,
    }
}

fn symbol_place(
    symbol: &macho::Nlist64<object::LittleEndian>,
    layout: &Layout,
    index: usize,
) -> Result<Place, ObjectError> {
    let value = symbol.n_value(LE);
    if symbol.is_stab() {
        return Ok(Place::Unknown(u16::from(symbol.n_type())));
    }
    match symbol.n_type() & macho::N_TYPE {
        macho::N_UNDF if value == 0 => Ok(Place::Undefined),
        macho::N_UNDF => Ok(Place::Unknown(COMMON)),
        macho::N_ABS => Ok(Place::Absolute(value)),
        macho::N_SECT => {
            let section = usize::from(symbol.n_sect()).checked_sub(1);
            let found = section.and_then(|section| layout.find(section, value));
            let (part, offset) = found.ok_or_else(|| {
                ObjectError(format!("symbol {index} lies outside section {} at {value:#x}", symbol.n_sect()))
            })?;
            Ok(Place::In(layout.id(part), offset))
        }
        other => Ok(Place::Unknown(u16::from(other))),
    }
}
