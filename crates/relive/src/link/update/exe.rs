//! The executable's own tables, as far as a copy of it has other ones.
//!
//! Takes the bytes of an ELF executable (System V gABI, chapters 4 and 5); gives segments, dynamic entries, relocations and
//! dynamic symbols with checked places in the file. Changes nothing.

use std::ops::Range;

use object::LittleEndian as LE;
use object::elf;
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _, SectionHeader as _, SectionTable, Sym as _};
use object::read::{ReadRef, SymbolIndex};
use rustc_hash::FxHashMap;

use crate::binary::bytes::Bytes;
use crate::link::LinkError;

pub(super) type Header = elf::FileHeader64<LE>;
pub(super) type Segment = elf::ProgramHeader64<LE>;
pub(super) type Rela = elf::Rela64<LE>;
pub(super) type Symbol = elf::Sym64<LE>;

/// No executable reaches as far, in bytes: sums of two such numbers are numbers.
const LIMIT: u64 = 1 << 40;

/// See the module.
pub(super) struct Exe<'d> {
    pub(super) data: &'d [u8],
    pub(super) header: &'d Header,
    pub(super) segments: &'d [Segment],
    pub(super) sections: SectionTable<'d, Header>,
    /// What its loader writes, but for lazily bound calls.
    pub(super) relocations: &'d [Rela],
    /// Dynamic symbols, the null symbol included.
    pub(super) symbols: &'d [Symbol],
    /// Where names of dynamic symbols are in the file.
    pub(super) strings: Range<u64>,
    imports: FxHashMap<&'d [u8], u32>,
    /// Names that others can find in it, and whether it is a thread-local.
    exports: FxHashMap<&'d [u8], bool>,
    dynamic: Range<u64>,
}

fn bad<T>(step: &str, result: Result<T, impl std::fmt::Display>) -> Result<T, LinkError> {
    result.map_err(|why| LinkError(format!("{step}: {why}")))
}

/// Checks what the rest counts with: places in the file and in memory, and the alignment of the thread-local block.
fn check(segment: &Segment, len: u64) -> Result<(), LinkError> {
    let end = |start: u64, size: u64| start.checked_add(size).filter(|end| *end < LIMIT);
    let (file, memory) = (
        end(segment.p_offset(LE), segment.p_filesz(LE)),
        end(segment.p_vaddr(LE), segment.p_memsz(LE)).filter(|_| segment.p_filesz(LE) <= segment.p_memsz(LE)),
    );
    let is_aligned = segment.p_align(LE) == 0 || segment.p_align(LE).is_power_of_two() && segment.p_align(LE) < LIMIT;
    if file.is_some_and(|end| end <= len) && memory.is_some() && is_aligned {
        return Ok(());
    }
    Err(LinkError(format!("program header {:#x}: out of the file or of memory", segment.p_type(LE))))
}

fn missing(what: &str) -> LinkError {
    LinkError(format!("the executable has no {what}"))
}

impl<'d> Exe<'d> {
    pub(super) fn read(data: &'d [u8]) -> Result<Exe<'d>, LinkError> {
        let header = bad("file header", Header::parse(data))?;
        let segments = bad("program headers", header.program_headers(LE, data))?;
        segments.iter().try_for_each(|segment| check(segment, data.len() as u64))?;
        let sections = bad("section headers", header.sections(LE, data))?;
        let dynamic = segments.iter().find(|one| one.p_type(LE) == elf::PT_DYNAMIC);
        let dynamic = dynamic.ok_or_else(|| missing("dynamic section"))?;
        let (offset, size) = dynamic.file_range(LE);
        let mut exe = Exe {
            data,
            header,
            segments,
            sections,
            relocations: &[],
            symbols: &[],
            strings: 0..0,
            imports: FxHashMap::default(),
            exports: FxHashMap::default(),
            dynamic: offset..offset.saturating_add(size),
        };
        exe.relocations = exe.table(elf::DT_RELA, elf::DT_RELASZ, "relocations")?;
        let symbols = exe.sections.symbols(LE, data, elf::SHT_DYNSYM);
        let symbols = bad("dynamic symbols", symbols)?;
        for (index, symbol) in symbols.enumerate() {
            let name = bad("dynamic symbol names", symbol.name(LE, symbols.strings()))?;
            if symbol.st_shndx.get(LE) != elf::SHN_UNDEF {
                exe.exports.insert(name, symbol.st_type() == elf::STT_TLS);
            } else if index.0 > 0 {
                exe.imports.entry(name).or_insert(index.0 as u32);
            }
        }
        exe.symbols = symbols.symbols();
        let address = exe.value(elf::DT_STRTAB).ok_or_else(|| missing("dynamic strings"))?;
        let len = exe.value(elf::DT_STRSZ).ok_or_else(|| missing("size of dynamic strings"))?;
        let start = exe.offset_of(address, len).ok_or_else(|| missing("dynamic strings in the file"))?;
        exe.strings = start..start + len;
        if exe.value(elf::DT_SYMTAB) != exe.sections.iter().find(is_dynsym).map(|one| one.sh_addr(LE)) {
            return Err(LinkError("the executable's dynamic symbols are not where its section headers say".into()));
        }
        Ok(exe)
    }

    fn dynamics(&self) -> &'d [elf::Dyn64<LE>] {
        let count = ((self.dynamic.end - self.dynamic.start) / 16) as usize;
        self.data.read_slice_at(self.dynamic.start, count).unwrap_or_default()
    }

    /// The value of a dynamic entry.
    pub(super) fn value(&self, tag: u32) -> Option<u64> {
        Some(self.entry(tag)?.1)
    }

    /// Where the value of a dynamic entry is in the file, and the value.
    pub(super) fn entry(&self, tag: u32) -> Option<(u64, u64)> {
        let mut all = self.dynamics().iter().take_while(|entry| entry.d_tag(LE) != u64::from(elf::DT_NULL)).enumerate();
        let (at, entry) = all.find(|(_, entry)| entry.d_tag(LE) == u64::from(tag))?;
        Some((self.dynamic.start + at as u64 * 16 + 8, entry.d_val(LE)))
    }

    fn table<T: object::Pod>(&self, at: u32, size: u32, what: &str) -> Result<&'d [T], LinkError> {
        let (Some(at), Some(size)) = (self.value(at), self.value(size)) else { return Err(missing(what)) };
        let offset = self.offset_of(at, size).ok_or_else(|| missing(what))?;
        let count = size as usize / size_of::<T>();
        self.data.read_slice_at(offset, count).map_err(|()| missing(what))
    }

    pub(super) fn loads(&self) -> impl Iterator<Item = &'d Segment> {
        self.segments.iter().filter(|one| one.p_type(LE) == elf::PT_LOAD)
    }

    pub(super) fn segment(&self, kind: u32) -> Option<&'d Segment> {
        self.segments.iter().find(|one| one.p_type(LE) == kind)
    }

    /// Where the file has `len` bytes that are loaded at `addr`.
    pub(super) fn offset_of(&self, addr: u64, len: u64) -> Option<u64> {
        self.loads().find_map(|one| {
            let inside = addr.checked_sub(one.p_vaddr(LE))?;
            (inside.checked_add(len)? <= one.p_filesz(LE)).then(|| one.p_offset(LE).checked_add(inside))?
        })
    }

    /// The bytes that are loaded at `addr`.
    pub(super) fn loaded(&self, addr: u64, len: u64) -> Option<&'d [u8]> {
        let start = usize::try_from(self.offset_of(addr, len)?).ok()?;
        self.data.get(start..start.checked_add(usize::try_from(len).ok()?)?)
    }

    /// Where what is loaded ends: in memory, and in the file.
    pub(super) fn ends(&self) -> Option<(u64, u64)> {
        self.loads().try_fold((0, 0), |(memory, file): (u64, u64), one| {
            let memory = memory.max(one.p_vaddr(LE).checked_add(one.p_memsz(LE))?);
            Some((memory, file.max(one.p_offset(LE).checked_add(one.p_filesz(LE))?)))
        })
    }

    /// The number of the dynamic symbol that stands for an imported name.
    pub(super) fn import(&self, name: &str) -> Option<u32> {
        self.imports.get(name.as_bytes()).copied()
    }

    /// Whether others can find a name in it.
    pub(super) fn exports(&self, name: &str) -> bool {
        self.exports.contains_key(name.as_bytes())
    }

    /// Whether others can find a thread-local in it.
    pub(super) fn exports_thread_locals(&self) -> bool {
        self.exports.values().any(|is_thread_local| *is_thread_local)
    }

    /// The flags of the segment that is loaded at `addr` (`PF_R` ..), and whether it is made read-only once it is relocated.
    pub(super) fn access(&self, addr: u64) -> Option<(u32, bool)> {
        let has = |one: &&Segment| addr.checked_sub(one.p_vaddr(LE)).is_some_and(|inside| inside < one.p_memsz(LE));
        let sealed = self.segments.iter().filter(|one| one.p_type(LE) == elf::PT_GNU_RELRO).any(|one| has(&one));
        Some((self.loads().find(has)?.p_flags(LE), sealed))
    }

    /// The names of the libraries that it asks for.
    pub(super) fn needed(&self) -> Vec<&'d [u8]> {
        let needed = self.dynamics().iter().filter(|entry| entry.d_tag(LE) == u64::from(elf::DT_NEEDED));
        let name = |entry: &elf::Dyn64<LE>| {
            let at = self.strings.start.checked_add(entry.d_val(LE))?;
            self.data.read_bytes_at_until(at..self.strings.end, 0).ok()
        };
        needed.filter_map(name).collect()
    }

    /// The number by which the executable asks for `version` of the library `file`.
    pub(super) fn version(&self, file: &[u8], version: &[u8]) -> Option<u16> {
        let (mut needs, strings) = self.sections.gnu_verneed(LE, self.data).ok()??;
        let strings = self.sections.strings(LE, self.data, strings).ok()?;
        while let Some((need, mut versions)) = needs.next().ok()? {
            if need.file(LE, strings).ok()? != file {
                continue;
            }
            while let Some(one) = versions.next().ok()? {
                if one.name(LE, strings).ok()? == version {
                    return Some(one.vna_other.get(LE));
                }
            }
        }
        None
    }
}

fn is_dynsym(section: &&elf::SectionHeader64<LE>) -> bool {
    section.sh_type(LE) == elf::SHT_DYNSYM
}

/// The library that exports `name`, by the name that others ask for it by, and the version that is meant by the plain name.
pub(super) fn exporter(library: &Bytes, name: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let data: &[u8] = library;
    let sections = Header::parse(data).ok()?.sections(LE, data).ok()?;
    let symbols = sections.symbols(LE, data, elf::SHT_DYNSYM).ok()?;
    let versions = sections.versions(LE, data).ok()??;
    let is_it = |index: SymbolIndex, symbol: &Symbol| {
        symbol.st_shndx.get(LE) != elf::SHN_UNDEF
            && symbol.name(LE, symbols.strings()).ok() == Some(name.as_bytes())
            && !versions.version_index(LE, index).is_hidden()
    };
    let (index, _) = symbols.enumerate().find(|(index, symbol)| is_it(*index, symbol))?;
    let version = versions.version(versions.version_index(LE, index)).ok()??;
    let (dynamic, strings) = sections.dynamic(LE, data).ok()??;
    let strings = sections.strings(LE, data, strings).ok()?;
    let soname = dynamic.iter().find(|entry| entry.d_tag(LE) == u64::from(elf::DT_SONAME))?;
    let soname = strings.get(u32::try_from(soname.d_val(LE)).ok()?).ok()?;
    Some((soname.to_vec(), version.name().to_vec()))
}
