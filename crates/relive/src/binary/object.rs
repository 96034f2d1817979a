//! One relocatable object as sections with relocations, symbols and unwind entries.
//!
//! Takes the bytes of an ELF64 little-endian relocatable file and gives tables with checked indices. rustc puts every
//! function and every datum into a section of its own, so *the section is the atom* that is compared and linked.
//! It does not interpret instructions or debug information.

use std::ops::Range;

use object::elf;
use object::read::elf::{FileHeader, Rela, SectionHeader, Sym};

use crate::arch::RelocKind;
use crate::binary::bytes::Bytes;
use crate::binary::frames::{self, FrameTable};

type Header = elf::FileHeader64<object::LittleEndian>;
const LE: object::LittleEndian = object::LittleEndian;

/// Index of a section in its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SectionId(pub u32);

/// Index of a symbol in its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SymbolId(pub u32);

/// A name, by the hash of its bytes: 128 bits, so that two names with one id do not occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameId(pub u128);

impl NameId {
    /// The id of `name`.
    #[must_use]
    pub fn of(name: &str) -> NameId {
        NameId(xxhash_rust::xxh3::xxh3_128(name.as_bytes()))
    }
}

/// What a section holds, as far as the linker cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Executable code.
    Text,
    /// Constants without relocations.
    ReadOnly,
    /// Constants with relocations (`.data.rel.ro`).
    RelRo,
    /// Initialised variables.
    Data,
    /// Zeroed variables.
    Bss,
    /// Initial image of thread-locals.
    TlsData,
    /// Zeroed thread-locals.
    TlsBss,
    /// Unwind entries.
    EhFrame,
    /// Language-specific data of a function's unwind entry.
    Lsda,
    /// Debug information.
    Debug,
    /// Not part of the running program.
    Ignored,
}

impl Role {
    /// Whether the section occupies memory of the running program.
    #[must_use]
    pub fn is_loaded(self) -> bool {
        !matches!(self, Role::Debug | Role::Ignored)
    }

    /// Whether the section is storage of thread-locals.
    #[must_use]
    pub fn is_tls(self) -> bool {
        matches!(self, Role::TlsData | Role::TlsBss)
    }

    /// Whether the section is storage that the program may write.
    #[must_use]
    pub fn is_mutable(self) -> bool {
        matches!(self, Role::Data | Role::Bss) || self.is_tls()
    }
}

/// One relocation.
#[derive(Clone, Copy, Debug)]
pub struct Reloc {
    /// Offset of the field in its section.
    pub offset: u64,
    /// What is computed.
    pub kind: RelocKind,
    /// What it refers to.
    pub symbol: SymbolId,
    /// The constant added.
    pub addend: i64,
}

/// One section.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its name.
    pub name: Box<str>,
    /// What it holds.
    pub role: Role,
    /// Where its bytes are in the file; empty for zeroed sections.
    pub file_range: Range<u64>,
    /// Its size in memory, in bytes.
    pub size: u64,
    /// Its alignment, a power of two.
    pub align: u64,
    /// Size of an element if equal elements may be merged (`SHF_MERGE`), else 0.
    pub merge_size: u64,
    /// Whether merged elements are terminated strings.
    pub strings: bool,
    /// Its relocations, by offset.
    pub relocs: Vec<Reloc>,
}

/// How widely a symbol is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// In its object only.
    Local,
    /// In the whole program.
    Global,
    /// In the whole program, unless defined elsewhere.
    Weak,
}

/// What a symbol stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SymbolKind {
    /// A function.
    Function,
    /// A variable or constant.
    Object,
    /// A thread-local.
    Tls,
    /// A section as a whole.
    Section,
    /// The name of a source file or codegen unit.
    File,
    /// Not said.
    Unsaid,
    /// Something else, by its raw number.
    Unknown(u8),
}

/// Where a symbol is defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Elsewhere.
    Undefined,
    /// In a section, at an offset.
    In(SectionId, u64),
    /// At a fixed number.
    Absolute(u64),
    /// Not understood (common, reserved): refused where it is used.
    Unknown(u16),
}

/// One symbol.
#[derive(Clone, Debug)]
pub struct Symbol {
    name: Range<u32>,
    /// The id of its name.
    pub id: NameId,
    /// How widely it is seen.
    pub binding: Binding,
    /// What it stands for.
    pub kind: SymbolKind,
    /// Where it is defined.
    pub place: Place,
    /// Its size in bytes, 0 if not said.
    pub size: u64,
}

/// A parsed object.
#[derive(Clone, Debug)]
pub struct Object {
    data: Bytes,
    strings: Range<u64>,
    /// Sections by index; index 0 is the null section.
    pub sections: Vec<Section>,
    /// Symbols by index; index 0 is the null symbol.
    pub symbols: Vec<Symbol>,
    /// Unwind entries by function section.
    pub frames: FrameTable,
    /// For each section, the symbols defined in it, by offset.
    defined: Vec<Vec<SymbolId>>,
}

/// Why bytes are not an object we understand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectError(pub String);

impl std::fmt::Display for ObjectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ObjectError {}

fn bad(step: &str) -> impl Fn(object::read::Error) -> ObjectError + '_ {
    move |error| ObjectError(format!("{step}: {error}"))
}

impl Object {
    /// Parses `data`.
    ///
    /// # Errors
    /// If it is not a well-formed ELF64 little-endian x86-64 relocatable file.
    pub fn parse(data: Bytes) -> Result<Object, ObjectError> {
        let header = Header::parse(&*data).map_err(bad("file header"))?;
        if header.e_machine.get(LE) != elf::EM_X86_64 || header.e_type.get(LE) != elf::ET_REL {
            return Err(ObjectError(format!(
                "not an x86-64 relocatable object (machine {}, type {})",
                header.e_machine.get(LE),
                header.e_type.get(LE)
            )));
        }
        let table = header.sections(LE, &*data).map_err(bad("section table"))?;
        let symtab = table.symbols(LE, &*data, elf::SHT_SYMTAB).map_err(bad("symbol table"))?;
        let strings = match symtab.string_section().0 {
            0 => 0..0,
            index => {
                let section = table.section(object::SectionIndex(index)).map_err(bad("string table"))?;
                let start = section.sh_offset(LE);
                start..start.saturating_add(section.sh_size(LE))
            }
        };
        let string_bytes =
            data.slice(strings.clone()).ok_or_else(|| ObjectError("string table: out of the file".into()))?;
        let mut sections = read_sections(&table, &data)?;
        let symbols = read_symbols(&symtab, &string_bytes, sections.len())?;
        read_relocations(&table, &data, &mut sections, symbols.len())?;
        let mut defined = vec![Vec::new(); sections.len()];
        for (index, symbol) in symbols.iter().enumerate() {
            if let Place::In(section, _) = symbol.place
                && let Some(list) = defined.get_mut(section.0 as usize)
            {
                list.push(SymbolId(index as u32));
            }
        }
        let mut object = Object { data, strings, sections, symbols, frames: FrameTable::default(), defined };
        for list in &mut object.defined {
            list.sort_by_key(|id| match object.symbols[id.0 as usize].place {
                Place::In(_, offset) => offset,
                Place::Undefined | Place::Absolute(_) | Place::Unknown(_) => 0,
            });
        }
        object.frames = frames::read(&object)?;
        Ok(object)
    }

    /// The section with index `id`; the null section if there is none.
    #[must_use]
    pub fn section(&self, id: SectionId) -> &Section {
        self.sections.get(id.0 as usize).unwrap_or(&self.sections[0])
    }

    /// The symbol with index `id`; the null symbol if there is none.
    #[must_use]
    pub fn symbol(&self, id: SymbolId) -> &Symbol {
        self.symbols.get(id.0 as usize).unwrap_or(&self.symbols[0])
    }

    /// The bytes of a section; empty for zeroed ones.
    #[must_use]
    pub fn bytes(&self, id: SectionId) -> &[u8] {
        let range = &self.section(id).file_range;
        self.data.get(range.start as usize..range.end as usize).unwrap_or_default()
    }

    /// The whole file.
    #[must_use]
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The name of a symbol; for a section symbol without name, empty.
    #[must_use]
    pub fn name(&self, symbol: &Symbol) -> &str {
        let start = self.strings.start as usize;
        let range = start + symbol.name.start as usize..start + symbol.name.end as usize;
        self.data.get(range).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// The symbols defined in a section, by offset, section symbols included.
    #[must_use]
    pub fn defined_in(&self, id: SectionId) -> &[SymbolId] {
        self.defined.get(id.0 as usize).map_or(&[], Vec::as_slice)
    }

    /// The symbol that names the bytes at `offset` of a section: a function, variable or thread-local that begins
    /// there and is not a private label of the compiler (`.L...`). Global ones are preferred.
    #[must_use]
    pub fn named_at(&self, section: SectionId, offset: u64) -> Option<SymbolId> {
        let begins = |id: &&SymbolId| {
            let symbol = self.symbol(**id);
            symbol.place == Place::In(section, offset) && self.is_item(symbol)
        };
        let list = self.defined_in(section);
        list.iter()
            .filter(begins)
            .find(|id| self.symbol(**id).binding != Binding::Local)
            .or_else(|| list.iter().find(begins))
            .copied()
    }

    /// Whether a symbol names an item of the program: not a section, file, or private label.
    #[must_use]
    pub fn is_item(&self, symbol: &Symbol) -> bool {
        let kind = matches!(symbol.kind, SymbolKind::Function | SymbolKind::Object | SymbolKind::Tls)
            || (symbol.kind == SymbolKind::Unsaid && symbol.binding != Binding::Local);
        kind && !self.name(symbol).starts_with(".L") && !symbol.name.is_empty()
    }

    /// The function symbol of a text section that holds exactly one function, at its beginning.
    #[must_use]
    pub fn function_of(&self, section: SectionId) -> Option<SymbolId> {
        if self.section(section).role != Role::Text {
            return None;
        }
        let single = self.defined_in(section).iter().all(|id| {
            let symbol = self.symbol(*id);
            !self.is_item(symbol) || symbol.place == Place::In(section, 0)
        });
        let named = self.named_at(section, 0).filter(|id| self.symbol(*id).kind == SymbolKind::Function);
        if single { named } else { None }
    }
}

fn read_sections(
    table: &object::read::elf::SectionTable<'_, Header>,
    data: &Bytes,
) -> Result<Vec<Section>, ObjectError> {
    let mut out = Vec::with_capacity(table.len());
    let mut names = Names::of(data);
    for section in table.iter() {
        let name = table.section_name(LE, section).map_err(bad("section name"))?;
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
            return Err(ObjectError(format!("section `{name}` ends beyond the file")));
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
        return Err(ObjectError("no sections".into()));
    }
    Ok(out)
}

/// Counts the bytes of names. They may share their ends, but in a damaged file all of them may be all of the file.
pub(crate) struct Names(usize);

impl Names {
    /// For names that lie in `data`.
    pub(crate) fn of(data: &[u8]) -> Names {
        Names(data.len().saturating_mul(16))
    }

    /// One more name.
    pub(crate) fn take(&mut self, name: &[u8]) -> Result<(), ObjectError> {
        self.0 = self.0.checked_sub(name.len()).ok_or_else(|| ObjectError("its names overlap".into()))?;
        Ok(())
    }
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
        let rest =
            strings.get(start as usize..).ok_or_else(|| ObjectError(format!("symbol {} has no name", index.0)))?;
        let len = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        names.take(&rest[..len])?;
        let name = std::str::from_utf8(&rest[..len])
            .map_err(|_| ObjectError(format!("the name of symbol {} is not UTF-8", index.0)))?;
        out.push(Symbol {
            name: start..start + len as u32,
            id: NameId::of(name),
            binding: match symbol.st_bind() {
                elf::STB_LOCAL => Binding::Local,
                elf::STB_WEAK => Binding::Weak,
                _ => Binding::Global,
            },
            kind: symbol_kind(symbol.st_type()),
            place: symbol_place(symbol, table.shndx(LE, index).unwrap_or(0), sections)?,
            size: symbol.st_size(LE),
        });
    }
    if out.is_empty() {
        return Err(ObjectError("no symbol table".into()));
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

fn symbol_place(
    symbol: &elf::Sym64<object::LittleEndian>,
    extended: u32,
    sections: usize,
) -> Result<Place, ObjectError> {
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
        return Err(ObjectError(format!("a symbol lies in section {index} of {sections}")));
    }
    Ok(Place::In(SectionId(index), value))
}

fn read_relocations(
    table: &object::read::elf::SectionTable<'_, Header>,
    data: &Bytes,
    sections: &mut [Section],
    symbols: usize,
) -> Result<(), ObjectError> {
    let mut most = data.len() / size_of::<elf::Rela64<object::LittleEndian>>();
    for section in table.iter() {
        if section.sh_type(LE) == elf::SHT_REL {
            return Err(ObjectError("REL relocations (x86-64 uses RELA)".into()));
        }
        let Some((relas, _)) = section.rela(LE, &**data).map_err(bad("relocations"))? else { continue };
        let Some(target) = sections.get_mut(section.sh_info(LE) as usize) else {
            return Err(ObjectError("relocations of a section that does not exist".into()));
        };
        most = most.checked_sub(relas.len()).ok_or_else(|| ObjectError("relocation tables overlap".into()))?;
        target.relocs.reserve(relas.len());
        for rela in relas {
            let symbol = rela.r_sym(LE, false);
            let kind = RelocKind::from_elf(rela.r_type(LE, false));
            let offset = rela.r_offset(LE);
            if symbol as usize >= symbols || offset.saturating_add(kind.width()) > target.size {
                return Err(ObjectError(format!("a relocation of `{}` lies outside it", target.name)));
            }
            target.relocs.push(Reloc { offset, kind, symbol: SymbolId(symbol), addend: rela.r_addend(LE) });
        }
        if !target.relocs.is_sorted_by_key(|reloc| reloc.offset) {
            target.relocs.sort_by_key(|reloc| reloc.offset);
        }
    }
    Ok(())
}
