//! The executable that runs: its symbols by name, its segments, its thread-local block, its build-id.
//!
//! Takes the bytes of an ELF64 position-independent executable and gives a `Snapshot`: an index from name to symbols that
//! is built once per session. Names stay in the file's own string table. Addresses are those stated in the file
//! (`LinkAddr`); `Snapshot::live` is the only conversion to the running program's.

use std::hash::Hasher;

use object::elf;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, SectionTable, Sym};
use relive_wire::LiveAddr;
use rustc_hash::{FxHashMap, FxHashSet, FxHasher};

use crate::binary::bytes::Bytes;
use crate::binary::object::{Binding, NameId, Names, ObjectError, SymbolKind};

type Header = elf::FileHeader64<object::LittleEndian>;
const LE: object::LittleEndian = object::LittleEndian;

/// An address as the executable's file states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkAddr(pub u64);

/// One defined symbol of the executable.
#[derive(Clone, Copy, Debug)]
pub struct ExeSymbol {
    /// Where it is. For a thread-local: its offset in the thread-local block.
    pub addr: LinkAddr,
    /// Its size in bytes.
    pub size: u64,
    /// What it stands for.
    pub kind: SymbolKind,
    /// How widely it was seen after linking.
    pub binding: Binding,
    /// The `STT_FILE` symbol before it (the codegen unit that a local symbol comes from); see [`Snapshot::file_name`].
    pub file: u32,
}

/// The thread-local block of the executable (module 1).
#[derive(Clone, Copy, Debug, Default)]
pub struct TlsBlock {
    /// Size in bytes.
    pub size: u64,
    /// Alignment.
    pub align: u64,
}

/// The symbols and facts of one executable.
#[derive(Debug)]
pub struct Snapshot {
    data: Bytes,
    strings: Bytes,
    entries: Vec<Entry>,
    /// Hash of a name to the last entry with it; entries chain by `next`.
    heads: FxHashMap<u64, u32>,
    /// First page stated in the file.
    first_page: LinkAddr,
    text: Vec<CodeSegment>,
    tls: TlsBlock,
    build_id: Vec<u8>,
    /// Names that the executable imports from shared objects.
    imports: Vec<Box<str>>,
    /// Function addresses, ascending, to find what follows a function.
    function_starts: Vec<u64>,
    /// Addresses that functions of different names share.
    shared: FxHashSet<u64>,
}

#[derive(Debug)]
struct CodeSegment {
    start: LinkAddr,
    end: LinkAddr,
    /// Where it is in the file.
    offset: u64,
}

#[derive(Debug)]
struct Entry {
    name: u32,
    next: u32,
    symbol: ExeSymbol,
}

const END: u32 = u32::MAX;

fn bad(step: &str) -> impl Fn(object::read::Error) -> ObjectError + '_ {
    move |error| ObjectError(format!("{step}: {error}"))
}

impl Snapshot {
    /// Reads the executable in `data`.
    ///
    /// # Errors
    /// If it is not a well-formed position-independent x86-64 executable with a symbol table.
    pub fn read(data: Bytes) -> Result<Snapshot, ObjectError> {
        let header = Header::parse(&*data).map_err(bad("file header"))?;
        if header.e_machine.get(LE) != elf::EM_X86_64 {
            return Err(ObjectError("not an x86-64 executable".into()));
        }
        if header.e_type.get(LE) != elf::ET_DYN {
            return Err(ObjectError("not a position-independent executable (relocation-model = \"static\"?)".into()));
        }
        let mut snapshot = Snapshot {
            strings: data.slice(0..0).unwrap_or_else(|| data.clone()),
            entries: Vec::new(),
            heads: FxHashMap::default(),
            first_page: LinkAddr(0),
            text: Vec::new(),
            tls: TlsBlock::default(),
            build_id: Vec::new(),
            imports: Vec::new(),
            function_starts: Vec::new(),
            shared: FxHashSet::default(),
            data: data.clone(),
        };
        snapshot.read_segments(header)?;
        let sections = header.sections(LE, &*data).map_err(bad("section table"))?;
        if let Some((_, note)) = sections.section_by_name(LE, b".note.gnu.build-id") {
            snapshot.build_id = note.data(LE, &*data).map_err(bad("build-id"))?.get(16..).unwrap_or_default().to_vec();
        }
        snapshot.read_imports(&sections, &data)?;
        snapshot.read_symbols(&sections, &data)?;
        Ok(snapshot)
    }

    fn read_segments(&mut self, header: &Header) -> Result<(), ObjectError> {
        let mut first = None;
        for segment in header.program_headers(LE, &*self.data).map_err(bad("program headers"))? {
            let start = segment.p_vaddr(LE);
            let end = start.saturating_add(segment.p_memsz(LE));
            match segment.p_type(LE) {
                elf::PT_LOAD => {
                    first = Some(first.map_or(start, |old: u64| old.min(start)));
                    if segment.p_flags(LE) & elf::PF_X != 0 {
                        let offset = segment.p_offset(LE);
                        self.text.push(CodeSegment { start: LinkAddr(start), end: LinkAddr(end), offset });
                    }
                }
                elf::PT_TLS => self.tls = tls_block(segment.p_memsz(LE), segment.p_align(LE))?,
                _ => {}
            }
        }
        self.first_page = LinkAddr(first.ok_or_else(|| ObjectError("no loaded segment".into()))? & !0xfff);
        Ok(())
    }

    fn read_imports<'d>(&mut self, sections: &SectionTable<'d, Header>, data: &'d [u8]) -> Result<(), ObjectError> {
        let dynamic = sections.symbols(LE, data, elf::SHT_DYNSYM).map_err(bad("dynamic symbols"))?;
        let mut names = Names::of(data);
        for symbol in dynamic.iter().filter(|symbol| symbol.st_shndx.get(LE) == elf::SHN_UNDEF) {
            let name = symbol.name(LE, dynamic.strings()).map_err(bad("dynamic symbol name"))?;
            names.take(name)?;
            if let Ok(name) = std::str::from_utf8(name) {
                self.imports.push(name.into());
            }
        }
        self.imports.sort();
        Ok(())
    }

    fn read_symbols<'d>(&mut self, sections: &SectionTable<'d, Header>, data: &'d [u8]) -> Result<(), ObjectError> {
        let table = sections.symbols(LE, data, elf::SHT_SYMTAB).map_err(bad("symbol table"))?;
        if table.is_empty() {
            return Err(ObjectError(
                "it has no symbol table; set `strip = false` in the profile and start anew".into(),
            ));
        }
        let string_section = sections.section(table.string_section()).map_err(bad("string table"))?;
        let start = string_section.sh_offset(LE);
        let end = start.saturating_add(string_section.sh_size(LE));
        self.strings =
            self.data.slice(start..end).ok_or_else(|| ObjectError("string table: out of the file".into()))?;
        self.entries.reserve(table.len());
        self.heads.reserve(table.len());
        let mut names = Names::of(data);
        let mut file = 0;
        for symbol in table.iter() {
            let kind = match symbol.st_type() {
                elf::STT_FILE => {
                    file = symbol.st_name.get(LE);
                    continue;
                }
                elf::STT_SECTION => continue,
                elf::STT_FUNC | elf::STT_GNU_IFUNC => SymbolKind::Function,
                elf::STT_OBJECT => SymbolKind::Object,
                elf::STT_TLS => SymbolKind::Tls,
                elf::STT_NOTYPE => SymbolKind::Unsaid,
                other => SymbolKind::Unknown(other),
            };
            let shndx = symbol.st_shndx.get(LE);
            if shndx == elf::SHN_UNDEF || shndx == elf::SHN_ABS {
                continue;
            }
            let binding = match symbol.st_bind() {
                elf::STB_LOCAL => Binding::Local,
                elf::STB_WEAK => Binding::Weak,
                _ => Binding::Global,
            };
            let name = name_at(&self.strings, symbol.st_name.get(LE));
            names.take(name)?;
            let key = hash(name);
            let addr = LinkAddr(symbol.st_value(LE));
            if kind == SymbolKind::Function {
                self.function_starts.push(addr.0);
            }
            self.insert(key, symbol.st_name.get(LE), ExeSymbol { addr, size: symbol.st_size(LE), kind, binding, file });
        }
        self.function_starts.sort_unstable();
        self.shared = self.function_starts.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
        self.function_starts.dedup();
        Ok(())
    }

    fn insert(&mut self, key: u64, name: u32, symbol: ExeSymbol) {
        let index = self.entries.len() as u32;
        let next = self.heads.insert(key, index).unwrap_or(END);
        self.entries.push(Entry { name, next, symbol });
    }

    /// All defined symbols called `name`.
    pub fn symbols<'a>(&'a self, name: &'a str) -> impl Iterator<Item = ExeSymbol> + 'a {
        let mut at = self.heads.get(&hash(name.as_bytes())).copied().unwrap_or(END);
        std::iter::from_fn(move || {
            while let Some(entry) = self.entries.get(at as usize) {
                at = entry.next;
                if name_at(&self.strings, entry.name) == name.as_bytes() {
                    return Some(entry.symbol);
                }
            }
            None
        })
    }

    /// The name that an [`ExeSymbol::file`] stands for, empty if none.
    #[must_use]
    pub fn file_name(&self, file: u32) -> &str {
        std::str::from_utf8(name_at(&self.strings, file)).unwrap_or_default()
    }

    /// Whether several functions of different names share the code at `addr`.
    #[must_use]
    pub fn is_shared(&self, addr: LinkAddr) -> bool {
        self.shared.contains(&addr.0)
    }

    /// Whether the executable imports `name` from a shared object.
    #[must_use]
    pub fn imports(&self, name: &str) -> bool {
        self.imports.binary_search_by(|entry| (**entry).cmp(name)).is_ok()
    }

    /// Where the function after the one at `addr` begins; the end of the text segment if none follows.
    #[must_use]
    pub fn next_function(&self, addr: LinkAddr) -> Option<LinkAddr> {
        let index = self.function_starts.partition_point(|start| *start <= addr.0);
        let segment_end = self.text.iter().find(|segment| segment.start <= addr && addr < segment.end)?.end;
        let next = self.function_starts.get(index).copied().unwrap_or(segment_end.0);
        Some(LinkAddr(next.min(segment_end.0)))
    }

    /// The running program's address for one stated in the file, when the first page is loaded at `exe_start`.
    #[must_use]
    pub fn live(&self, addr: LinkAddr, exe_start: LiveAddr) -> LiveAddr {
        exe_start.plus(addr.0.wrapping_sub(self.first_page.0))
    }

    /// The address stated in the file for one of the running program; the inverse of [`Snapshot::live`].
    #[must_use]
    pub fn link(&self, addr: LiveAddr, exe_start: LiveAddr) -> LinkAddr {
        LinkAddr(addr.0.wrapping_sub(exe_start.0).wrapping_add(self.first_page.0))
    }

    /// The code that the file holds for `len` bytes at `addr`.
    #[must_use]
    pub fn code(&self, addr: LinkAddr, len: u64) -> Option<&[u8]> {
        let segment = self.text.iter().find(|segment| segment.start <= addr && addr < segment.end)?;
        let start = segment.offset.checked_add(addr.0 - segment.start.0)?;
        let inside = addr.0.checked_add(len).is_some_and(|end| end <= segment.end.0);
        let end = start.checked_add(len).filter(|_| inside)?;
        self.data.get(start as usize..end as usize)
    }

    /// Offset of a thread-local from the thread pointer (psABI TLS variant II: the block ends at the thread pointer).
    #[must_use]
    pub fn tp_offset(&self, offset_in_block: u64) -> i64 {
        let block = self.tls.size.next_multiple_of(self.tls.align.max(1));
        offset_in_block.wrapping_sub(block) as i64
    }

    /// The build-id, empty if the linker wrote none.
    #[must_use]
    pub fn build_id(&self) -> &[u8] {
        &self.build_id
    }

    /// How many symbols the index holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the index is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

fn tls_block(size: u64, align: u64) -> Result<TlsBlock, ObjectError> {
    let align = align.max(1);
    if !align.is_power_of_two() || align > 1 << 16 || size > 1 << 31 {
        return Err(ObjectError(format!("the thread-local block has alignment {align} and size {size}")));
    }
    Ok(TlsBlock { size, align })
}

fn hash(name: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(name);
    hasher.finish()
}

fn name_at(strings: &[u8], at: u32) -> &[u8] {
    let rest = strings.get(at as usize..).unwrap_or_default();
    let len = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    &rest[..len]
}

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
