//! What the loader reads: relocations, and the dynamic symbols if there are new ones.
//!
//! Takes the executable's tables and what the image adds; gives whole tables for the end of the image, and the dynamic entries
//! that say where they are (System V gABI, "Dynamic Linking").

use std::ops::Range;

use object::LittleEndian as LE;
use object::elf;
use object::pod::{bytes_of, bytes_of_slice};
use object::read::elf::ProgramHeader as _;
use object::{I64, U16, U32, U64};

use super::Draft;
use super::exe::{Rela, Symbol};
use super::image::Image;
use crate::link::LinkError;
use crate::link::host::Imports;

/// See the module.
pub(super) struct Tables {
    pub(super) at: u64,
    pub(super) bytes: Vec<u8>,
    /// Dynamic entries with their new values.
    pub(super) entries: Vec<(u32, u64)>,
    /// Sections that are elsewhere now.
    pub(super) moved: Vec<Moved>,
}

/// A section of the executable whose contents are part of the image now.
pub(super) struct Moved {
    pub(super) kind: u32,
    /// Its address in the executable.
    pub(super) from: Option<u64>,
    pub(super) to: Range<u64>,
}

impl Tables {
    /// The tables, to lie at `at`.
    pub(super) fn make(draft: &Draft, image: &Image, at: u64) -> Result<Tables, LinkError> {
        let mut out = Tables { at: at.next_multiple_of(16), bytes: Vec::new(), entries: Vec::new(), moved: Vec::new() };
        if !draft.new_imports.is_empty() {
            out.symbols(draft)?;
        }
        let (relative, others) = relocations(draft, image)?;
        let all = [&*relative, &*others].concat();
        let size = out.replace(draft, elf::SHT_RELA, elf::DT_RELA, bytes_of_slice(&all));
        out.entries.push((elf::DT_RELASZ, size));
        if draft.exe.value(elf::DT_RELACOUNT).is_some() {
            out.entries.push((elf::DT_RELACOUNT, relative.len() as u64));
        }
        Ok(out)
    }

    /// Has `bytes` take the place of the section of a type that a dynamic entry leads to; gives their number.
    fn replace(&mut self, draft: &Draft, kind: u32, tag: u32, bytes: &[u8]) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(16), 0);
        let (start, size) = (self.at + self.bytes.len() as u64, bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
        self.entries.push((tag, start));
        self.moved.push(Moved { kind, from: draft.exe.value(tag), to: start..start + size });
        size
    }

    /// Dynamic symbols with new imports behind the old ones. Nobody looks an undefined symbol up by its hash, so the hash table
    /// stays as it is.
    fn symbols(&mut self, draft: &Draft) -> Result<(), LinkError> {
        let exe = draft.exe;
        let strings = exe.data.get(exe.strings.start as usize..exe.strings.end as usize).unwrap_or_default();
        let mut strings = strings.to_vec();
        let mut symbols: Vec<Symbol> = exe.symbols.to_vec();
        let at = exe.value(elf::DT_VERSYM).and_then(|at| exe.loaded(at, symbols.len() as u64 * 2));
        let mut versions = at.ok_or_else(|| LinkError("the executable has no symbol versions".into()))?.to_vec();
        for (import, version) in &draft.new_imports {
            let name = draft.imports.0.get(*import).map_or(&[][..], |name| name.as_bytes());
            symbols.push(Symbol {
                st_name: U32::new(LE, strings.len() as u32),
                st_info: elf::STB_GLOBAL << 4 | elf::STT_NOTYPE,
                st_other: elf::STV_DEFAULT,
                st_shndx: U16::new(LE, elf::SHN_UNDEF),
                st_value: U64::new(LE, 0),
                st_size: U64::new(LE, 0),
            });
            strings.extend_from_slice(name);
            strings.push(0);
            versions.extend(version.to_le_bytes());
        }
        self.replace(draft, elf::SHT_DYNSYM, elf::DT_SYMTAB, bytes_of_slice(&symbols));
        let size = self.replace(draft, elf::SHT_STRTAB, elf::DT_STRTAB, &strings);
        self.entries.push((elf::DT_STRSZ, size));
        self.replace(draft, elf::SHT_GNU_VERSYM, elf::DT_VERSYM, &versions);
        Ok(())
    }
}

/// The number of an import's dynamic symbol.
fn symbol_number(draft: &Draft, import: usize) -> Option<u32> {
    match draft.new_imports.keys().position(|new| *new == import) {
        Some(position) => u32::try_from(draft.exe.symbols.len() + position).ok(),
        None => draft.exe.import(draft.imports.0.get(import)?),
    }
}

/// Relocations of addresses in the program, which come first, and all others.
fn relocations(draft: &Draft, image: &Image) -> Result<(Vec<Rela>, Vec<Rela>), LinkError> {
    let is_void = |at: u64| image.rewritten.iter().any(|range| range.contains(&at));
    let (mut relative, mut others) = (Vec::new(), Vec::new());
    let mut add = |rela: Rela| {
        if rela.r_type(LE, false) == elf::R_X86_64_RELATIVE { relative.push(rela) } else { others.push(rela) }
    };
    let old_block = draft.exe.segment(elf::PT_TLS).map(|old| old.p_vaddr(LE)..old.p_vaddr(LE) + old.p_filesz(LE));
    for rela in draft.exe.relocations {
        let at = rela.r_offset.get(LE);
        if !is_void(at) {
            add(*rela);
        }
        // The copy of the thread-local block has the same addresses in it.
        if let (Some(old), Some(block)) = (&old_block, &image.threads)
            && old.contains(&at)
        {
            let at = block.at + block.file_size - (old.end - at);
            if !is_void(at) {
                add(Rela { r_offset: U64::new(LE, at), ..*rela });
            }
        }
    }
    for (at, value) in image.pointers.iter().filter(|(_, value)| *value != 0) {
        let nowhere = || LinkError(format!("an address that is nowhere: {value:#x}"));
        let (number, kind, addend) = if Imports::is_beyond(*value) {
            let (import, addend) = draft.imports.find(*value).ok_or_else(nowhere)?;
            (symbol_number(draft, import).ok_or_else(nowhere)?, elf::R_X86_64_64, addend)
        } else if *value < image.search.at {
            (0, elf::R_X86_64_RELATIVE, *value as i64)
        } else {
            return Err(nowhere());
        };
        add(Rela {
            r_offset: U64::new(LE, *at),
            r_info: U64::new(LE, u64::from(number) << 32 | u64::from(kind)),
            r_addend: I64::new(LE, addend),
        });
    }
    Ok((relative, others))
}

/// A structure's bytes as they lie in the file.
pub(super) fn raw<T: object::Pod>(value: &T) -> Vec<u8> {
    bytes_of(value).to_vec()
}
