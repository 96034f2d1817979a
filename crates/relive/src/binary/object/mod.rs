//! One relocatable object as sections with relocations, symbols and unwind entries.
//!
//! Takes the bytes of a relocatable file, ELF or Mach-O, and gives tables with checked indices that are the same for both.
//! rustc puts every function and every datum into an ELF section of its own, and a Mach-O section may be cut at its
//! symbols, so *the section is the atom* that is compared and linked. It does not interpret instructions or debug
//! information.

mod elf;
mod macho;

use std::ops::Range;

use crate::arch::{Machine, RelocKind};
use crate::binary::bytes::Bytes;
use crate::binary::frames::{self, FrameTable};

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
    /// Compact unwind entries (Mach-O `__LD,__compact_unwind`).
    CompactUnwind,
    /// Debug information.
    Debug,
    /// Not part of the running program.
    Ignored,
}

impl Role {
    /// Whether the section occupies memory of the running program.
    #[must_use]
    pub fn is_loaded(self) -> bool {
        !matches!(self, Role::Debug | Role::CompactUnwind | Role::Ignored)
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
    /// What is subtracted (Mach-O).
    pub minus: Option<SymbolId>,
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

/// The format of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// ELF64.
    Elf,
    /// 64-bit Mach-O.
    MachO,
}

/// What a format's reader gives.
struct Parts {
    machine: Machine,
    format: Format,
    /// Where names are in the file.
    strings: Range<u64>,
    sections: Vec<Section>,
    symbols: Vec<Symbol>,
}

/// A parsed object.
#[derive(Clone, Debug)]
pub struct Object {
    /// The machine it is made for.
    pub machine: Machine,
    /// The format it was read from.
    pub format: Format,
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

/// What a reader of ours says of an error of the `object` crate's in `step`.
pub(crate) fn bad(step: &str) -> impl Fn(object::read::Error) -> ObjectError + '_ {
    move |error| ObjectError(format!("{step}: {error}"))
}

/// What is at `offset` of the file does not end in it.
fn outside(what: &str, offset: u64) -> ObjectError {
    ObjectError(format!("{what} at {offset:#x}: it ends beyond the file"))
}

impl Object {
    /// Parses an object that a patch can be made of.
    ///
    /// # Errors
    /// If it is not a well-formed ELF64 little-endian x86-64 relocatable file.
    pub fn parse(data: Bytes) -> Result<Object, ObjectError> {
        let object = Object::parse_any(data)?;
        if (object.format, object.machine) == (Format::Elf, Machine::X86_64) {
            return Ok(object);
        }
        Err(ObjectError(format!("not an ELF object for x86-64 but {:?} for {:?}", object.format, object.machine)))
    }

    /// Parses an object of any machine and format that is understood.
    ///
    /// # Errors
    /// If it is not a well-formed relocatable file: ELF64 or Mach-O, little-endian, for x86-64 or AArch64.
    pub fn parse_any(data: Bytes) -> Result<Object, ObjectError> {
        let parts = match data.first_chunk() {
            Some([0x7f, b'E', b'L', b'F']) => elf::read(&data)?,
            Some([0xcf, 0xfa, 0xed, 0xfe]) => macho::read(&data)?,
            Some(_) | None => return Err(ObjectError("file header: neither ELF nor 64-bit Mach-O".into())),
        };
        let mut defined = vec![Vec::new(); parts.sections.len()];
        for (index, symbol) in parts.symbols.iter().enumerate() {
            if let Place::In(section, _) = symbol.place
                && let Some(list) = defined.get_mut(section.0 as usize)
            {
                list.push(SymbolId(index as u32));
            }
        }
        let Parts { machine, format, strings, sections, symbols } = parts;
        let mut object =
            Object { machine, format, data, strings, sections, symbols, frames: FrameTable::default(), defined };
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

/// Counts the bytes of names. They may share their ends, but in a damaged file all of them may be all of the file.
pub(crate) struct Names(usize);

impl Names {
    /// For names that lie in `data`.
    pub(crate) fn of(data: &[u8]) -> Names {
        Names(data.len().saturating_mul(16))
    }

    /// One more name.
    pub(crate) fn take(&mut self, name: &[u8]) -> Result<(), ObjectError> {
        let overlap = || {
            let (start, len) = (name.get(..32).unwrap_or(name), name.len());
            ObjectError(format!("its names overlap, up to `{}`, of {len} bytes", String::from_utf8_lossy(start)))
        };
        self.0 = self.0.checked_sub(name.len()).ok_or_else(overlap)?;
        Ok(())
    }
}
