//! The debug sections of one object file with their relocations applied, so that a DWARF reader sees final offsets.
//!
//! Takes the bytes of a relocatable 64-bit ELF object, gives the sections the type reader needs and, for fields that
//! hold the address of code or data, which place they mean. Addresses themselves are not computed: an object has none.

use std::borrow::Cow;

use gimli::SectionId;
use object::elf::{Rela64, SHF_ALLOC, SHT_PROGBITS, SHT_REL, SHT_RELA, SectionHeader64};
use object::read::elf::{ElfFile64, ElfSection64, FileHeader, SectionHeader};
use object::{LittleEndian, Object, ObjectSection, ObjectSymbol, SectionKind, SymbolIndex};

use super::TypesError;

/// The place in the object that an address field of the debug sections means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of the section in the object file.
    pub section: usize,
    /// Offset in that section, in bytes.
    pub offset: u64,
}

pub(super) type File<'data> = ElfFile64<'data, LittleEndian>;
type Section<'data, 'file> = ElfSection64<'data, 'file, LittleEndian>;

/// Sections and address fields of one object.
pub(super) struct Sections<'data> {
    pub(super) dwarf: gimli::DwarfSections<Cow<'data, [u8]>>,
    /// Address fields of `.debug_info`, sorted by where they stand.
    pub(super) info_addresses: Vec<(u64, Place)>,
    /// Address fields of `.debug_addr`, sorted by where they stand.
    pub(super) pool_addresses: Vec<(u64, Place)>,
    /// The object defines functions that need describing.
    pub(super) has_code: bool,
}

/// The sections of DWARF 4 and 5 that names, types and files are read from.
const WANTED: [SectionId; 7] = [
    SectionId::DebugInfo,
    SectionId::DebugAbbrev,
    SectionId::DebugStr,
    SectionId::DebugStrOffsets,
    SectionId::DebugLine,
    SectionId::DebugLineStr,
    SectionId::DebugAddr,
];

/// Reads and relocates the wanted sections.
pub(super) fn load<'data>(file: &File<'data>) -> Result<Sections<'data>, TypesError> {
    let found = Found::in_file(file);
    let symbols = Symbols::of(file);
    let machine = file.elf_header().e_machine(LittleEndian);
    let mut info_addresses = Vec::new();
    let mut pool_addresses = Vec::new();
    let dwarf = gimli::DwarfSections::load(|id| -> Result<Cow<'data, [u8]>, TypesError> {
        let Some(section) = found.wanted(id) else { return Ok(Cow::Borrowed(&[][..])) };
        let data = section.uncompressed_data().map_err(|why| TypesError::section(id.name(), why))?;
        let relocations = found.relocations(file, id, section)?;
        if relocations.is_empty() {
            return Ok(data);
        }
        let mut data = data.into_owned();
        let addresses = relocate(id.name(), &mut data, relocations, machine, &symbols)?;
        if id == SectionId::DebugInfo {
            info_addresses = addresses;
        } else if id == SectionId::DebugAddr {
            pool_addresses = addresses;
        }
        Ok(Cow::Owned(data))
    })?;
    Ok(Sections { dwarf, info_addresses, pool_addresses, has_code: found.has_code })
}

/// The sections that count, found in one pass: an object has one or two sections for each of its functions.
struct Found<'data, 'file> {
    wanted: [Option<Section<'data, 'file>>; WANTED.len()],
    relocations: Vec<&'data SectionHeader64<LittleEndian>>,
    has_code: bool,
}

impl<'data, 'file> Found<'data, 'file> {
    fn in_file(file: &'file File<'data>) -> Found<'data, 'file> {
        let mut found = Found { wanted: Default::default(), relocations: Vec::new(), has_code: false };
        for section in file.sections() {
            let header = section.elf_section_header();
            match header.sh_type.get(LittleEndian) {
                SHT_REL | SHT_RELA => found.relocations.push(header),
                SHT_PROGBITS if header.sh_flags.get(LittleEndian) & u64::from(SHF_ALLOC) == 0 => {
                    let name = section.name().unwrap_or("");
                    let place = WANTED.iter().position(|id| id.name() == name);
                    if let Some(place) = place.and_then(|place| found.wanted.get_mut(place)) {
                        *place = Some(section);
                    }
                }
                _ => found.has_code |= section.kind() == SectionKind::Text && section.size() > 0,
            }
        }
        found
    }

    fn wanted(&self, id: SectionId) -> Option<&Section<'data, 'file>> {
        let place = WANTED.iter().position(|wanted| *wanted == id)?;
        self.wanted.get(place)?.as_ref()
    }

    /// The relocations of a section; `object` knows them too, but costs ten times as much for each.
    fn relocations(
        &self,
        file: &File<'data>,
        id: SectionId,
        section: &Section<'data, 'file>,
    ) -> Result<&'data [Rela64<LittleEndian>], TypesError> {
        let number = section.index().0 as u32;
        let header = self.relocations.iter().find(|header| header.sh_info.get(LittleEndian) == number);
        let Some(header) = header else { return Ok(&[]) };
        let found: Option<(&[Rela64<LittleEndian>], _)> =
            header.rela(LittleEndian, file.data()).map_err(|why| TypesError::section(id.name(), why))?;
        match found {
            Some((relocations, _)) => Ok(relocations),
            None => Err(TypesError::relocation(id.name(), 0, "relocations without addends")),
        }
    }
}

/// Value and section of each symbol, by its index.
struct Symbols(Vec<(u64, Option<usize>)>);

impl Symbols {
    fn of(file: &File) -> Symbols {
        let count = file.symbols().map(|symbol| symbol.index().0 + 1).max().unwrap_or(0);
        let mut table = vec![(0, None); count];
        for symbol in file.symbols() {
            if let Some(entry) = table.get_mut(symbol.index().0) {
                *entry = (symbol.address(), symbol.section_index().map(|section| section.0));
            }
        }
        Symbols(table)
    }

    fn get(&self, index: SymbolIndex) -> Option<(u64, Option<usize>)> {
        self.0.get(index.0).copied()
    }
}

/// How a relocation of a debug section is applied.
enum Field {
    /// Write the sum of symbol and addend in so many bytes.
    Absolute(usize),
    /// An offset in thread-local storage, which only a linker can fill in.
    ThreadLocal,
    Unknown,
}

impl Field {
    fn of(machine: u16, raw: u32) -> Field {
        match (machine, raw) {
            (object::elf::EM_X86_64, object::elf::R_X86_64_64) => Field::Absolute(8),
            (object::elf::EM_X86_64, object::elf::R_X86_64_32) => Field::Absolute(4),
            (object::elf::EM_X86_64, object::elf::R_X86_64_DTPOFF64 | object::elf::R_X86_64_DTPOFF32) => {
                Field::ThreadLocal
            }
            (object::elf::EM_AARCH64, object::elf::R_AARCH64_ABS64) => Field::Absolute(8),
            (object::elf::EM_AARCH64, object::elf::R_AARCH64_ABS32) => Field::Absolute(4),
            (object::elf::EM_AARCH64, object::elf::R_AARCH64_TLS_DTPREL) => Field::ThreadLocal,
            _ => Field::Unknown,
        }
    }
}

fn relocate(
    name: &str,
    data: &mut [u8],
    relocations: &[Rela64<LittleEndian>],
    machine: u16,
    symbols: &Symbols,
) -> Result<Vec<(u64, Place)>, TypesError> {
    let mut addresses = Vec::new();
    for relocation in relocations {
        let at = relocation.r_offset.get(LittleEndian);
        let info = relocation.r_info.get(LittleEndian);
        let (symbol, raw) = (SymbolIndex((info >> 32) as usize), info as u32);
        let width = match Field::of(machine, raw) {
            Field::Absolute(width) => width,
            Field::ThreadLocal => continue,
            Field::Unknown => return Err(TypesError::relocation(name, at, &format!("type {raw}"))),
        };
        let Some((base, section)) = symbols.get(symbol) else {
            return Err(TypesError::relocation(name, at, "a symbol that is not there"));
        };
        let value = base.wrapping_add_signed(relocation.r_addend.get(LittleEndian));
        let field = usize::try_from(at).ok().and_then(|at| data.get_mut(at..at.checked_add(width)?));
        let bytes = value.to_le_bytes();
        match (field, bytes.get(..width)) {
            (Some(field), Some(bytes)) => field.copy_from_slice(bytes),
            _ => return Err(TypesError::relocation(name, at, "outside of the section")),
        }
        if let (8, Some(section)) = (width, section) {
            addresses.push((at, Place { section, offset: value }));
        }
    }
    addresses.sort_unstable_by_key(|(at, _)| *at);
    Ok(addresses)
}

/// Reads the file headers.
pub(super) fn open(object_bytes: &[u8]) -> Result<File<'_>, TypesError> {
    ElfFile64::<LittleEndian>::parse(object_bytes).map_err(TypesError::Object)
}
