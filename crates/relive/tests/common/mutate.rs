//! Damaged copies of real files: every cut, flipped bits, foreign bytes, giant numbers, tables mixed up.
//!
//! Takes the bytes of an ELF file or an archive and finds the tables in it, so that damage falls on what parsers believe
//! as often as on what they carry along. Everything follows from a seed number: run twice, it gives the same bytes.

use std::ops::Range;

use object::LittleEndian as LE;
use object::elf::{self, FileHeader64};
use object::read::archive::ArchiveFile;
use object::read::elf::{FileHeader, SectionHeader};

/// A real file and where its tables are.
pub(crate) struct Seed {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    /// By kind of content; none is empty.
    groups: Vec<Vec<Table>>,
}

/// A part of the file that is an array of equal entries, as far as one knows.
#[derive(Clone)]
struct Table {
    range: Range<usize>,
    entry: usize,
}

/// Numbers that overflow, wrap, or promise more than there is.
const NUMBERS: [u64; 12] = [
    0,
    1,
    0xff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 40,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_fff0,
    u64::MAX,
];

impl Seed {
    pub(crate) fn new(name: impl Into<String>, bytes: Vec<u8>) -> Seed {
        let mut groups = elf_tables(&bytes).or_else(|| archive_tables(&bytes)).unwrap_or_default();
        groups.push(vec![Table { range: 0..bytes.len(), entry: 8 }]);
        for group in &mut groups {
            group.retain(|table| table.range.end <= bytes.len() && table.range.len() >= table.entry);
        }
        groups.retain(|group| !group.is_empty());
        Seed { name: name.into(), bytes, groups }
    }

    /// The file, cut after each of its first bytes and after some of the others.
    pub(crate) fn prefixes(&self, count: usize) -> impl Iterator<Item = Vec<u8>> + '_ {
        let dense = (count / 2).min(self.bytes.len());
        let step = ((self.bytes.len() - dense) / (count - dense).max(1)).max(1);
        (0..dense).chain((dense..self.bytes.len()).step_by(step)).map(|end| self.bytes[..end].to_vec())
    }

    /// Each number of [`NUMBERS`] in each word of the tables that say where other tables are, `count` of them in all.
    pub(crate) fn giants(&self, count: usize) -> Vec<Vec<u8>> {
        let tables = self.groups.iter().take(self.groups.len() - 1).flatten().filter(|table| table.entry > 24);
        let words = tables.flat_map(|table| table.range.clone().step_by(4));
        let all: Vec<_> = words.flat_map(|at| NUMBERS.map(|number| (at, number))).collect();
        let step = all.len().div_ceil(count.max(1)).max(1);
        let mutant = |(at, number): &(usize, u64)| {
            let mut bytes = self.bytes.clone();
            write(&mut bytes, *at, 8, *number);
            bytes
        };
        all.iter().step_by(step).map(mutant).collect()
    }

    /// The file with one to four damages that follow from `number`.
    pub(crate) fn mutant(&self, number: u64) -> Vec<u8> {
        let mut random = Random(number ^ self.bytes.len() as u64);
        let mut bytes = self.bytes.clone();
        let count = if random.below(3) == 0 { 2 + random.below(3) } else { 1 };
        for _ in 0..count {
            self.damage(&mut random, &mut bytes);
        }
        bytes
    }

    fn damage(&self, random: &mut Random, bytes: &mut Vec<u8>) {
        let table = self.table(random);
        let at = table.range.start + random.below(table.range.len());
        let width = 1 << random.below(4);
        let aligned = at / width * width;
        match random.below(8) {
            0 | 1 => flip(bytes, at, random.below(8)),
            2 => (0..1 + random.below(16)).for_each(|next| write(bytes, at + next, 1, random.next())),
            3 => write(bytes, aligned, width, NUMBERS[random.below(NUMBERS.len())]),
            4 => write(bytes, aligned, width, random.below(2 * self.bytes.len()) as u64),
            5 => {
                let from = self.table(random);
                let len = table.entry * (1 + random.below(4));
                let source = random.entry(&from);
                let part = self.bytes[source..(source + len).min(self.bytes.len())].to_vec();
                put(bytes, random.entry(&table), &part);
            }
            6 => self.shuffle(random, &table, bytes),
            _ => {
                let end = (at + 1 + random.below(64)).min(bytes.len());
                if at < end {
                    drop(bytes.drain(at..end));
                }
            }
        }
    }

    /// Fills many entries of a table with others of the same table.
    fn shuffle(&self, random: &mut Random, table: &Table, bytes: &mut [u8]) {
        let field = (8 * random.below(table.entry.div_ceil(8)), if random.below(2) == 0 { 8 } else { table.entry });
        for _ in 0..random.below(200) {
            let (from, to) = (random.entry(table) + field.0, random.entry(table) + field.0);
            let part = self.bytes.get(from..from + field.1).unwrap_or_default().to_vec();
            put(bytes, to, &part);
        }
    }

    fn table(&self, random: &mut Random) -> Table {
        let group = &self.groups[random.below(self.groups.len())];
        group[random.below(group.len())].clone()
    }
}

/// A generator of numbers (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut out = self.0;
        out = (out ^ (out >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        out = (out ^ (out >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        out ^ (out >> 31)
    }

    /// A number below `end`; 0 if there is none.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % (end.max(1) as u64)) as usize
    }

    fn entry(&mut self, table: &Table) -> usize {
        table.range.start + table.entry * self.below(table.range.len() / table.entry)
    }
}

fn flip(bytes: &mut [u8], at: usize, bit: usize) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << bit;
    }
}

fn write(bytes: &mut [u8], at: usize, width: usize, number: u64) {
    put(bytes, at, &number.to_le_bytes()[..width]);
}

fn put(bytes: &mut [u8], at: usize, part: &[u8]) {
    for (place, byte) in bytes.iter_mut().skip(at).zip(part) {
        *place = *byte;
    }
}

fn elf_tables(bytes: &[u8]) -> Option<Vec<Vec<Table>>> {
    let header = FileHeader64::<LE>::parse(bytes).ok()?;
    let array = |start: u64, count: u16, entry: usize| {
        let start = start as usize;
        vec![Table { range: start..start + entry * usize::from(count), entry }]
    };
    let mut groups = vec![
        array(0, 1, 64),
        array(header.e_phoff(LE), header.e_phnum(LE), 56),
        array(header.e_shoff(LE), header.e_shnum(LE), 64),
    ];
    let sections = header.sections(LE, bytes).ok()?;
    let mut kinds: Vec<(u32, bool, Vec<Table>)> = Vec::new();
    for section in sections.iter() {
        let Some((start, len)) = section.file_range(LE) else { continue };
        let name = sections.section_name(LE, section).unwrap_or_default();
        let entry = match section.sh_type(LE) {
            elf::SHT_SYMTAB | elf::SHT_DYNSYM | elf::SHT_RELA => 24,
            _ if name == b".eh_frame" => 4,
            _ => 1,
        };
        let table = Table { range: start as usize..(start + len) as usize, entry };
        let special = name.starts_with(b".debug_") || name == b".eh_frame";
        if special {
            groups.push(vec![table]);
            continue;
        }
        let kind = (section.sh_type(LE), section.sh_flags(LE) & u64::from(elf::SHF_EXECINSTR) != 0);
        match kinds.iter_mut().find(|known| (known.0, known.1) == kind) {
            Some(known) => known.2.push(table),
            None => kinds.push((kind.0, kind.1, vec![table])),
        }
    }
    groups.extend(kinds.into_iter().map(|kind| kind.2));
    Some(groups)
}

fn archive_tables(bytes: &[u8]) -> Option<Vec<Vec<Table>>> {
    const HEADER: usize = 60;
    let archive = ArchiveFile::parse(bytes).ok()?;
    let members = archive.members().filter_map(|member| Some(member.ok()?.file_range().0 as usize));
    let mut headers: Vec<_> = members.map(|start| Table { range: start - HEADER..start, entry: HEADER }).collect();
    // The table of symbols comes first: its header, how many there are, where each one's member is, their names.
    let end = headers.first()?.range.start;
    headers.push(Table { range: 8..8 + HEADER, entry: HEADER });
    let table = Table { range: 8 + HEADER..end, entry: 4 };
    Some(vec![headers, vec![table]])
}
