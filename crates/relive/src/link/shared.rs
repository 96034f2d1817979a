//! An ELF shared object made of finished parts: for a dynamic loader, debuggers and unwinders.
//!
//! Takes the parts' addresses and bytes, counted from 0, and what the loader must write where; gives the file. Everything in
//! the file lies at the offset that is its address, zeroed variables included, so that there is one number for both. The
//! writer is the `object` crate's.

use std::ops::Range;

use object::write::StringId;
use object::write::elf::{ProgramHeader, Rel, SectionHeader, SectionIndex, Sym, Writer};
use object::{Endianness, elf};

use crate::arch::Machine;
use crate::link::LinkError;

/// Segments begin at multiples of this, in bytes: the largest page of both machines.
pub const SEGMENT_ALIGN: u64 = 0x1_0000;
/// Where the first part may begin: behind the file's headers.
pub const FIRST: u64 = 0x1000;

/// A part that is loaded.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// Its address.
    pub at: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What the loader writes into the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dynamic {
    /// The address of a place of this object.
    Own(u64),
    /// The address of a symbol, by its number in [`SharedObject::imports`], and an addend.
    Import(usize, i64),
    /// The address of the exported symbol as a *search by name* finds it, which may be another object's, and an addend.
    Exported(i64),
}

/// A function or variable that tools know by its name.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its address.
    pub at: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Whether it is code.
    pub is_code: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct SharedObject {
    /// The machine.
    pub machine: Machine,
    /// Constants.
    pub constants: Part,
    /// Unwind entries and their search table; both lie in the segment of the constants.
    pub frames: Part,
    /// The search table.
    pub search: Part,
    /// Code.
    pub text: Part,
    /// Variables, and constants that the loader writes to.
    pub data: Part,
    /// The one symbol that others find here.
    pub export: Named,
    /// Names that others define.
    pub imports: Vec<String>,
    /// What the loader writes, by address.
    pub relocations: Vec<(u64, Dynamic)>,
    /// All functions and variables, for tools.
    pub symbols: Vec<Named>,
}

impl SharedObject {
    /// The file.
    ///
    /// # Errors
    /// If the parts overlap or are not in their order.
    pub fn write(&self) -> Result<Vec<u8>, LinkError> {
        let mut buffer = Vec::new();
        let mut file = File::reserve(self, &mut buffer);
        file.check(self)?;
        file.headers(self)?;
        file.loaded(self);
        file.tables(self);
        file.sections();
        Ok(buffer)
    }
}

/// Numbers of dynamic relocations that the psABIs give: an address of the object, the address of a symbol.
fn relocation_numbers(machine: Machine) -> (u16, u32, u32) {
    match machine {
        Machine::X86_64 => (elf::EM_X86_64, elf::R_X86_64_RELATIVE, elf::R_X86_64_64),
        Machine::Aarch64 => (elf::EM_AARCH64, elf::R_AARCH64_RELATIVE, elf::R_AARCH64_ABS64),
    }
}

/// A section header to be.
struct Section {
    name: StringId,
    kind: u32,
    flags: u32,
    at: u64,
    size: u64,
}

struct File<'a> {
    writer: Writer<'a>,
    sections: Vec<Section>,
    export_name: StringId,
    import_names: Vec<StringId>,
    symbol_names: Vec<StringId>,
    tables: Range<u64>,
    rela: u64,
    dynamic: u64,
    dynsym: u64,
    dynstr: u64,
    hash: u64,
    text_index: SectionIndex,
}

const DYNAMICS: usize = 9;
const SEGMENTS: u32 = 7;

impl<'a> File<'a> {
    /// Sets aside everything, in the order in which it is written.
    fn reserve(of: &'a SharedObject, buffer: &'a mut Vec<u8>) -> File<'a> {
        let mut writer = Writer::new(Endianness::Little, true, buffer);
        writer.reserve_file_header();
        writer.reserve_program_headers(SEGMENTS);
        for part in [&of.constants, &of.search, &of.frames, &of.text, &of.data] {
            writer.reserve_until((part.at + part.bytes.len() as u64) as usize);
        }
        writer.reserve_until(writer.reserved_len().next_multiple_of(SEGMENT_ALIGN as usize));
        let start = writer.reserved_len() as u64;
        writer.reserve_null_dynamic_symbol_index();
        let export_name = writer.add_dynamic_string(of.export.name.as_bytes());
        writer.reserve_dynamic_symbol_index();
        let mut import_names = Vec::new();
        for name in &of.imports {
            import_names.push(writer.add_dynamic_string(name.as_bytes()));
            writer.reserve_dynamic_symbol_index();
        }
        let dynsym = writer.reserve_dynsym() as u64;
        let dynstr = writer.reserve_dynstr() as u64;
        let count = writer.dynamic_symbol_count();
        let hash = writer.reserve_hash(1, count) as u64;
        let rela = writer.reserve_relocations(of.relocations.len(), true) as u64;
        let dynamic = writer.reserve_dynamic(DYNAMICS) as u64;
        let tables = start..writer.reserved_len() as u64;
        writer.reserve_null_section_index();
        let (sections, text_index) = Self::reserve_sections(of, &mut writer);
        writer.reserve_dynsym_section_index();
        writer.reserve_dynstr_section_index();
        writer.reserve_dynamic_section_index();
        writer.reserve_symtab_section_index();
        writer.reserve_strtab_section_index();
        writer.reserve_shstrtab_section_index();
        let mut symbol_names = Vec::new();
        writer.reserve_null_symbol_index();
        for symbol in &of.symbols {
            symbol_names.push(writer.add_string(symbol.name.as_bytes()));
            writer.reserve_symbol_index(Some(text_index));
        }
        writer.reserve_symtab();
        writer.reserve_strtab();
        writer.reserve_shstrtab();
        writer.reserve_section_headers();
        File {
            writer,
            sections,
            export_name,
            import_names,
            symbol_names,
            tables,
            rela,
            dynamic,
            dynsym,
            dynstr,
            hash,
            text_index,
        }
    }

    fn reserve_sections(of: &SharedObject, writer: &mut Writer<'a>) -> (Vec<Section>, SectionIndex) {
        let alloc = elf::SHF_ALLOC;
        let parts: [(&'static [u8], &Part, u32); 5] = [
            (b".rodata", &of.constants, alloc),
            (b".eh_frame_hdr", &of.search, alloc),
            (b".eh_frame", &of.frames, alloc),
            (b".text", &of.text, alloc | elf::SHF_EXECINSTR),
            (b".data", &of.data, alloc | elf::SHF_WRITE),
        ];
        let mut text_index = SectionIndex(0);
        let mut out = Vec::new();
        for (name, part, flags) in parts {
            let index = writer.reserve_section_index();
            if flags & elf::SHF_EXECINSTR != 0 {
                text_index = index;
            }
            let name = writer.add_section_name(name);
            out.push(Section { name, kind: elf::SHT_PROGBITS, flags, at: part.at, size: part.bytes.len() as u64 });
        }
        (out, text_index)
    }

    fn check(&self, of: &SharedObject) -> Result<(), LinkError> {
        let mut end = FIRST;
        for part in [&of.constants, &of.search, &of.frames, &of.text, &of.data] {
            let is_segment = std::ptr::eq(part, &of.text) || std::ptr::eq(part, &of.data);
            if part.at < end || is_segment && !part.at.is_multiple_of(SEGMENT_ALIGN) {
                return Err(LinkError(format!("a part of the shared object at {:#x} is out of order", part.at)));
            }
            end = part.at + part.bytes.len() as u64;
        }
        Ok(())
    }

    fn headers(&mut self, of: &SharedObject) -> Result<(), LinkError> {
        let (e_machine, ..) = relocation_numbers(of.machine);
        let header = object::write::elf::FileHeader {
            os_abi: elf::ELFOSABI_NONE,
            abi_version: 0,
            e_type: elf::ET_DYN,
            e_machine,
            e_entry: 0,
            e_flags: 0,
        };
        self.writer.write_file_header(&header).map_err(|error| LinkError(format!("shared object: {error}")))?;
        self.writer.write_align_program_headers();
        let end = |part: &Part| part.at + part.bytes.len() as u64;
        let read = elf::PF_R;
        let segments = [
            (elf::PT_LOAD, read, 0..end(&of.frames), SEGMENT_ALIGN),
            (elf::PT_LOAD, read | elf::PF_X, of.text.at..end(&of.text), SEGMENT_ALIGN),
            (elf::PT_LOAD, read | elf::PF_W, of.data.at..end(&of.data), SEGMENT_ALIGN),
            (elf::PT_LOAD, read | elf::PF_W, self.tables.clone(), SEGMENT_ALIGN),
            (elf::PT_DYNAMIC, read | elf::PF_W, self.dynamic..self.tables.end, 8),
            (elf::PT_GNU_EH_FRAME, read, of.search.at..end(&of.search), 4),
            (elf::PT_GNU_STACK, read | elf::PF_W, 0..0, 16),
        ];
        for (p_type, p_flags, range, p_align) in segments {
            let len = range.end - range.start;
            self.writer.write_program_header(&ProgramHeader {
                p_type,
                p_flags,
                p_offset: range.start,
                p_vaddr: range.start,
                p_paddr: range.start,
                p_filesz: len,
                p_memsz: len,
                p_align,
            });
        }
        Ok(())
    }

    fn loaded(&mut self, of: &SharedObject) {
        for part in [&of.constants, &of.search, &of.frames, &of.text, &of.data] {
            self.writer.pad_until(part.at as usize);
            self.writer.write(&part.bytes);
        }
    }

    fn tables(&mut self, of: &SharedObject) {
        self.writer.pad_until(self.tables.start as usize);
        self.writer.write_null_dynamic_symbol();
        let global = elf::STB_GLOBAL << 4;
        let kind = |is_code| if is_code { elf::STT_FUNC } else { elf::STT_OBJECT };
        self.writer.write_dynamic_symbol(&Sym {
            name: Some(self.export_name),
            section: Some(self.text_index),
            st_info: global | kind(of.export.is_code),
            st_other: elf::STV_DEFAULT,
            st_shndx: 0,
            st_value: of.export.at,
            st_size: of.export.size,
        });
        for name in &self.import_names {
            self.writer.write_dynamic_symbol(&Sym {
                name: Some(*name),
                section: None,
                st_info: global | elf::STT_NOTYPE,
                st_other: elf::STV_DEFAULT,
                st_shndx: elf::SHN_UNDEF,
                st_value: 0,
                st_size: 0,
            });
        }
        self.writer.write_dynstr();
        let names: Vec<&[u8]> =
            std::iter::once(&of.export.name).chain(&of.imports).map(|name| name.as_bytes()).collect();
        let hash = |index: u32| names.get((index as usize).checked_sub(1)?).map(|name| elf::hash(name));
        self.writer.write_hash(1, names.len() as u32 + 1, hash);
        self.writer.write_align_relocation();
        let (_, own, symbol) = relocation_numbers(of.machine);
        for (at, what) in &of.relocations {
            let (r_type, r_sym, r_addend) = match what {
                Dynamic::Own(addr) => (own, 0, *addr as i64),
                Dynamic::Exported(addend) => (symbol, 1, *addend),
                Dynamic::Import(index, addend) => (symbol, *index as u32 + 2, *addend),
            };
            self.writer.write_relocation(true, &Rel { r_offset: *at, r_sym, r_type, r_addend });
        }
        self.dynamics(of);
        self.writer.write_null_symbol();
        for (symbol, name) in of.symbols.iter().zip(&self.symbol_names) {
            self.writer.write_symbol(&Sym {
                name: Some(*name),
                section: Some(self.text_index),
                st_info: elf::STB_LOCAL << 4 | kind(symbol.is_code),
                st_other: elf::STV_DEFAULT,
                st_shndx: 0,
                st_value: symbol.at,
                st_size: symbol.size,
            });
        }
        self.writer.write_strtab();
        self.writer.write_shstrtab();
    }

    fn dynamics(&mut self, of: &SharedObject) {
        self.writer.write_align_dynamic();
        let rela_size = of.relocations.len() as u64 * 24;
        let strings = self.writer.dynstr_len() as u64;
        let entries = [
            (elf::DT_HASH, self.hash),
            (elf::DT_SYMTAB, self.dynsym),
            (elf::DT_SYMENT, 24),
            (elf::DT_STRTAB, self.dynstr),
            (elf::DT_STRSZ, strings),
            (elf::DT_RELA, self.rela),
            (elf::DT_RELASZ, rela_size),
            (elf::DT_RELAENT, 24),
            (elf::DT_NULL, 0),
        ];
        for (tag, value) in entries {
            self.writer.write_dynamic(tag, value);
        }
    }

    fn sections(&mut self) {
        self.writer.write_null_section_header();
        for section in &self.sections {
            self.writer.write_section_header(&SectionHeader {
                name: Some(section.name),
                sh_type: section.kind,
                sh_flags: u64::from(section.flags),
                sh_addr: section.at,
                sh_offset: section.at,
                sh_size: section.size,
                sh_link: 0,
                sh_info: 0,
                sh_addralign: 16,
                sh_entsize: 0,
            });
        }
        self.writer.write_dynsym_section_header(self.dynsym, 1);
        self.writer.write_dynstr_section_header(self.dynstr);
        self.writer.write_dynamic_section_header(self.dynamic);
        self.writer.write_symtab_section_header(self.symbol_names.len() as u32 + 1);
        self.writer.write_strtab_section_header();
        self.writer.write_shstrtab_section_header();
    }
}
