//! ELF64, little-endian, x86-64 and AArch64: the twin of `macho`.

use object::elf;
use object::read::elf::{FileHeader, Rela, SectionHeader, Sym};

use super::{Binding, Names, ObjectError, Parts, Place, Reloc, Role, Section, SectionId, Symbol, SymbolId, SymbolKind};
use super::{Format, NameId, bad, outside};
use crate::arch::{Machine, RelocKind, aarch64, x86_64};
use crate::binary::bytes::Bytes;

type Header = elf::FileHeader64<object::LittleEndian>;
const LE: object::LittleEndian = object::LittleEndian;

/// Reads an ELF object.
pub(super) fn read(data: &Bytes) -> Result<Parts, ObjectError> {
    let header = Header::parse(&**data).map_err(bad("file header"))?;
    let machine = match (header.e_machine.get(LE), header.e_type.get(LE)) {
        (elf::EM_X86_64, elf::ET_REL) => Machine::X86_64,
        (elf::EM_AARCH64, elf::ET_REL) => Machine::Aarch64,
        (machine, kind) => {
            return Err(ObjectError(format!(
                "not a relocatable object for x86-64 or AArch64 (machine {machine}, type {kind})"
            )));
        }
    };
    let table = header.sections(LE, &**data).map_err(bad("section table"))?;
    let symtab = table.symbols(LE, &**data, elf::SHT_SYMTAB).map_err(bad("symbol table"))?;
    let strings = match symtab.string_section().0 {
        0 => 0..0,
        index => {
            let section = table.section(object::SectionIndex(index)).map_err(bad("string table"))?;
            let start = section.sh_offset(LE);
            start..start.saturating_add(section.sh_size(LE))
        }
    };
    let names = data.slice(strings.clone()).ok_or_else(|| outside("string table", strings.start))?;
    let mut sections = read_sections(&table, data)?;
    let symbols = read_symbols(&symtab, &names, sections.len())?;
    read_relocations(&table, data, machine, &mut sections, symbols.len())?;
    Ok(Parts { machine, format: Format::Elf, strings, sections, symbols })
}

fn read_sections(
    table: &object::read::elf::SectionTable<'_, Header>,
    data: &Bytes,
) -> Result<Vec<Section>, ObjectError> {
    let mut out = Vec::with_capacity(table.len());
    let mut names = Names::of(data);
    for (number, section) in table.iter().enumerate() {
        let name = table.section_name(LE, section).map_err(bad(&format!("name of section {number}")))?;
        names.take(name)?;
        let name = String::from_utf8_lossy(name);
        let flags = section.sh_flags(LE);
        let kind = section.sh_type(LE);
        if flags & u64::from(elf::SHF_COMPRESSED) != 0 && flags & u64::from(elf::SHF_ALLOC) != 0 {
            return Err(ObjectError(format!("section `{name}` is compressed and loaded")));
        }
        let size = section.sh_size(LE);
        let file_range = match section.file_range(LE) {
            Some((start, len)) if kind != elf::SHT_NULL => start..start.saturating_add(len),
            _ => 0..0,
        };
        if file_range.end > data.len() as u64 {
            return Err(outside(&format!("section `{name}`"), file_range.start));
        }
        let align = section.sh_addralign(LE).max(1);
        if !align.is_power_of_two() || align > 1 << 16 || size > 1 << 31 {
            return Err(ObjectError(format!("section `{name}` has alignment {align} and size {size}")));
        }
        let merge = flags & u64::from(elf::SHF_MERGE) != 0;
        let role = role(&name, kind, flags);
        let must_have_bytes = role.is_loaded() && !matches!(role, Role::Bss | Role::TlsBss);
        if kind == elf::SHT_NOBITS && must_have_bytes && size > 0 {
            return Err(ObjectError(format!("section `{name}` has no bytes in the file")));
        }
        out.push(Section {
            role,
            name: name.into(),
            file_range,
            size,
            align,
            merge_size: if merge { section.sh_entsize(LE) } else { 0 },
            strings: flags & u64::from(elf::SHF_STRINGS) != 0,
            relocs: Vec::new(),
        });
    }
    if out.is_empty() {
        return Err(ObjectError("section table: it is empty".into()));
    }
    Ok(out)
}

fn role(name: &str, kind: u32, flags: u64) -> Role {
    let has = |flag: u32| flags & u64::from(flag) != 0;
    let zeroed = kind == elf::SHT_NOBITS;
    if kind == elf::SHT_NULL {
        return Role::Ignored;
    }
    if !has(elf::SHF_ALLOC) {
        return if name.starts_with(".debug_") && name != ".debug_gdb_scripts" { Role::Debug } else { Role::Ignored };
    }
    if has(elf::SHF_TLS) {
        return if zeroed { Role::TlsBss } else { Role::TlsData };
    }
    if has(elf::SHF_EXECINSTR) {
        return Role::Text;
    }
    if name == ".eh_frame" {
        return Role::EhFrame;
    }
    if name.starts_with(".gcc_except_table") {
        return Role::Lsda;
    }
    if name.starts_with(".note") || name == ".debug_gdb_scripts" || name.starts_with(".llvm_addrsig") {
        return Role::Ignored;
    }
    if has(elf::SHF_WRITE) {
        return match (zeroed, name.starts_with(".data.rel.ro")) {
            (true, _) => Role::Bss,
            (false, true) => Role::RelRo,
            (false, false) => Role::Data,
        };
    }
    Role::ReadOnly
}

fn read_symbols(
    table: &object::read::elf::SymbolTable<'_, Header>,
    strings: &Bytes,
    sections: usize,
) -> Result<Vec<Symbol>, ObjectError> {
    let mut out = Vec::with_capacity(table.len().max(1));
    let mut names = Names::of(strings);
    for (index, symbol) in table.enumerate() {
        let start = symbol.st_name.get(LE);
        let nameless = || ObjectError(format!("symbol {}: its name at {start:#x} is out of the string table", index.0));
        let rest = strings.get(start as usize..).ok_or_else(nameless)?;
        let len = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        names.take(&rest[..len])?;
        let name = std::str::from_utf8(&rest[..len])
            .map_err(|_| ObjectError(format!("symbol {}: its name at {start:#x} is not UTF-8", index.0)))?;
        out.push(Symbol {
            name: start..start + len as u32,
            id: NameId::of(name),
            binding: match symbol.st_bind() {
                elf::STB_LOCAL => Binding::Local,
                elf::STB_WEAK => Binding::Weak,
                _ => Binding::Global,
            },
            kind: symbol_kind(symbol.st_type()),
            place: symbol_place(symbol, table.shndx(LE, index).unwrap_or(0), sections).map_err(|section| {
                ObjectError(format!("symbol {} lies in section {section} of {sections}", index.0))
            })?,
            size: symbol.st_size(LE),
        });
    }
    if out.is_empty() {
        return Err(ObjectError("symbol table: there is none".into()));
    }
    Ok(out)
}

fn symbol_kind(raw: u8) -> SymbolKind {
    match raw {
        elf::STT_FUNC => SymbolKind::Function,
        elf::STT_OBJECT => SymbolKind::Object,
        elf::STT_TLS => SymbolKind::Tls,
        elf::STT_SECTION => SymbolKind::Section,
        elf::STT_FILE => SymbolKind::File,
        elf::STT_NOTYPE => SymbolKind::Unsaid,
        other => SymbolKind::Unknown(other),
    }
}

/// An error is the number of a section that is not there.
fn symbol_place(symbol: &elf::Sym64<object::LittleEndian>, extended: u32, sections: usize) -> Result<Place, u32> {
    let raw = symbol.st_shndx.get(LE);
    let value = symbol.st_value(LE);
    let index = match raw {
        elf::SHN_UNDEF => return Ok(Place::Undefined),
        elf::SHN_ABS => return Ok(Place::Absolute(value)),
        elf::SHN_XINDEX => extended,
        other if other >= elf::SHN_LORESERVE => return Ok(Place::Unknown(other)),
        other => u32::from(other),
    };
    if index as usize >= sections {
        return Err(index);
    }
    Ok(Place::In(SectionId(index), value))
}

fn read_relocations(
    table: &object::read::elf::SectionTable<'_, Header>,
    data: &Bytes,
    machine: Machine,
    sections: &mut [Section],
    symbols: usize,
) -> Result<(), ObjectError> {
    let kind_of: fn(u32) -> RelocKind = match machine {
        Machine::X86_64 => x86_64::from_elf,
        Machine::Aarch64 => aarch64::from_elf,
    };
    let mut most = data.len() / size_of::<elf::Rela64<object::LittleEndian>>();
    for (number, section) in table.iter().enumerate() {
        let at = section.sh_offset(LE);
        let wrong = |what: &str| ObjectError(format!("relocations in section {number} at {at:#x}: {what}"));
        if section.sh_type(LE) == elf::SHT_REL {
            return Err(wrong("of the kind REL (x86-64 and AArch64 use RELA)"));
        }
        let relas = section.rela(LE, &**data).map_err(|error| wrong(&error.to_string()))?;
        let Some((relas, _)) = relas else { continue };
        let Some(target) = sections.get_mut(section.sh_info(LE) as usize) else {
            return Err(wrong(&format!("they are of section {}, which does not exist", section.sh_info(LE))));
        };
        most = most.checked_sub(relas.len()).ok_or_else(|| wrong("they overlap with others"))?;
        target.relocs.reserve(relas.len());
        for rela in relas {
            let symbol = rela.r_sym(LE, false);
            let kind = kind_of(rela.r_type(LE, false));
            let offset = rela.r_offset(LE);
            let why = if offset.saturating_add(kind.width()) > target.size {
                Some(format!("it lies outside, the section has {:#x} bytes", target.size))
            } else {
                (symbol as usize >= symbols).then(|| format!("it refers to symbol {symbol} of {symbols}"))
            };
            if let Some(why) = why {
                return Err(ObjectError(format!("relocation at {offset:#x} of `{}`: {why}", target.name)));
            }
            target.relocs.push(Reloc {
                offset,
                kind,
                symbol: SymbolId(symbol),
                minus: None,
                addend: rela.r_addend(LE),
            });
        }
        if !target.relocs.is_sorted_by_key(|reloc| reloc.offset) {
            target.relocs.sort_by_key(|reloc| reloc.offset);
        }
    }
    Ok(())
}
