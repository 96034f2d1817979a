//! Objects that keep every rule of the format and still ask for too much: tables that overlap, names without end,
//! constants that go round in circles, everything in one section.
//!
//! Takes a real object and changes fields of its section table, symbols and relocations, by their places in ELF64.

use object::LittleEndian as LE;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, SectionHeader};

use super::mutate::Random;

const SECTION: usize = 64;
const SYMBOL: usize = 24;
const RELOCATION: usize = 24;

/// The tables of an object that the attacks write to.
struct Tables {
    /// Where each section header is, and its type, flags, offset in the file and size.
    sections: Vec<(usize, u32, u64, usize, usize)>,
    symbols: (usize, usize),
    names: (usize, usize),
}

type Attack = fn(&Tables, &mut [u8]);

/// Every attack, with what it does.
pub(crate) fn attacks(object: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let tables = Tables::of(object);
    let attacks: [(&'static str, Attack); 6] = [
        ("every relocation table is the largest one", one_relocation_table),
        ("every symbol has the same endless name", endless_symbol_names),
        ("every section has the same endless name", endless_section_names),
        ("constants refer to each other in circles", circles),
        ("all symbols are functions of one section", one_section),
        ("zeroed sections are code of two gibibytes", zeroed_code),
    ];
    let attacked = attacks.map(|(name, attack)| {
        let mut bytes = object.to_vec();
        attack(&tables, &mut bytes);
        (name, bytes)
    });
    attacked.into()
}

impl Tables {
    fn of(object: &[u8]) -> Tables {
        let header = FileHeader64::<LE>::parse(object).unwrap();
        let table = header.sections(LE, object).unwrap();
        let place = header.e_shoff(LE) as usize;
        let section = |(at, section): (usize, &elf::SectionHeader64<LE>)| {
            let (start, len) = section.file_range(LE).unwrap_or_default();
            (place + at * SECTION, section.sh_type(LE), section.sh_flags(LE), start as usize, len as usize)
        };
        let sections: Vec<_> = table.iter().enumerate().map(section).collect();
        let symbols = sections.iter().find(|section| section.1 == elf::SHT_SYMTAB).unwrap();
        let link = table.symbols(LE, object, elf::SHT_SYMTAB).unwrap().string_section();
        let names = sections[link.0];
        Tables { symbols: (symbols.3, symbols.4 / SYMBOL), names: (names.3, names.4), sections }
    }

    fn of_type(&self, kind: u32) -> impl Iterator<Item = &(usize, u32, u64, usize, usize)> {
        self.sections.iter().filter(move |section| section.1 == kind)
    }

    fn each_symbol(&self) -> impl Iterator<Item = usize> {
        let (start, count) = self.symbols;
        (1..count).map(move |at| start + at * SYMBOL)
    }
}

fn put(bytes: &mut [u8], at: usize, part: &[u8]) {
    bytes[at..at + part.len()].copy_from_slice(part);
}

fn one_relocation_table(tables: &Tables, bytes: &mut [u8]) {
    let largest = tables.of_type(elf::SHT_RELA).max_by_key(|section| section.4).unwrap().0;
    let header = bytes[largest..largest + SECTION].to_vec();
    for section in tables.of_type(elf::SHT_RELA) {
        put(bytes, section.0, &header);
    }
}

fn endless(tables: &Tables, bytes: &mut [u8]) {
    let (start, len) = tables.names;
    bytes[start + 1..start + len - 1].fill(b'a');
}

fn endless_symbol_names(tables: &Tables, bytes: &mut [u8]) {
    endless(tables, bytes);
    for symbol in tables.each_symbol() {
        put(bytes, symbol, &1u32.to_le_bytes());
    }
}

fn endless_section_names(tables: &Tables, bytes: &mut [u8]) {
    endless(tables, bytes);
    for section in &tables.sections {
        put(bytes, section.0, &1u32.to_le_bytes());
    }
}

/// Every relocation of data means the beginning of another section of constants.
fn circles(tables: &Tables, bytes: &mut [u8]) {
    let loaded = |info: usize| tables.sections.get(info).is_some_and(|section| section.2 == 2 || section.2 == 3);
    let constants: Vec<u16> = (1..tables.sections.len()).filter(|at| loaded(*at)).map(|at| at as u16).collect();
    let mut random = Random(1);
    for symbol in tables.each_symbol() {
        let section = constants[random.below(constants.len())];
        put(bytes, symbol + 4, &[elf::STT_SECTION, 0]);
        put(bytes, symbol + 6, &section.to_le_bytes());
        put(bytes, symbol + 8, &[0; 16]);
    }
    for section in tables.of_type(elf::SHT_RELA) {
        for at in (section.3..section.3 + section.4).step_by(RELOCATION) {
            put(bytes, at + 16, &[0; 8]);
        }
    }
}

fn one_section(tables: &Tables, bytes: &mut [u8]) {
    let code = tables.sections.iter().position(|section| section.2 == 6 && section.4 > 0).unwrap() as u16;
    let mut random = Random(1);
    for symbol in tables.each_symbol() {
        put(bytes, symbol + 4, &[elf::STB_GLOBAL << 4 | elf::STT_FUNC, 0]);
        put(bytes, symbol + 6, &code.to_le_bytes());
        put(bytes, symbol + 8, &(random.below(64) as u64).to_le_bytes());
    }
}

fn zeroed_code(tables: &Tables, bytes: &mut [u8]) {
    for section in tables.sections.iter().filter(|section| section.2 == 6) {
        put(bytes, section.0 + 4, &elf::SHT_NOBITS.to_le_bytes());
        put(bytes, section.0 + 32, &(1u64 << 31).to_le_bytes());
    }
}
