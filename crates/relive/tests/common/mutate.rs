//! Damaged copies of real input: every cut, flipped bits, foreign bytes, giant numbers, tables mixed up, words exchanged.
//!
//! Takes bytes and where the tables are in them, so that damage falls on what parsers believe as often as on what they
//! carry along. Everything follows from a seed number: run twice, it gives the same bytes.

use std::ops::Range;

/// Real input and where its tables are.
pub(crate) struct Seed {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    /// By kind of content; none is empty.
    groups: Vec<Vec<Table>>,
    /// Whether it is text, in which words are exchanged as well.
    is_text: bool,
}

/// A part of the input that is an array of equal entries, as far as one knows.
#[derive(Clone)]
pub(crate) struct Table {
    pub(crate) range: Range<usize>,
    pub(crate) entry: usize,
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

/// What text is made of that relive reads, and what it should not be made of.
const WORDS: [&str; 30] = [
    "",
    "null",
    "true",
    "-1",
    "0",
    "0.5",
    "4294967296",
    "18446744073709551616",
    "1e999",
    "\"\"",
    "\"x\"",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "\0",
    "{",
    "}",
    "[",
    "]",
    "{}",
    "[]",
    ":",
    ",",
    "\n",
    "\r\n",
    "\\ ",
    ": ",
    "--> ",
    "\u{1b}[",
    "\u{2028}",
    "../é",
];

/// Between these one word of text ends and another begins.
const BETWEEN: &[u8] = b"{}[]:,=` \"\n\\/.";

/// Longer than this no text becomes because parts of it are repeated.
const REPEATED_MAX: usize = 1 << 15;

impl Seed {
    /// Records of words of four bytes, which all may say where something is or how much of it there is.
    pub(crate) fn records(name: impl Into<String>, bytes: Vec<u8>) -> Seed {
        let whole = Table { range: 0..bytes.len(), entry: bytes.len() };
        Seed::with_tables(name, bytes, vec![vec![whole]])
    }

    /// Text.
    pub(crate) fn text(name: impl Into<String>, text: impl Into<Vec<u8>>) -> Seed {
        Seed { is_text: true, ..Seed::with_tables(name, text.into(), Vec::new()) }
    }

    /// A file with tables in it; of those that say where others are, an entry has more than 24 bytes.
    pub(crate) fn with_tables(name: impl Into<String>, bytes: Vec<u8>, mut groups: Vec<Vec<Table>>) -> Seed {
        groups.push(vec![Table { range: 0..bytes.len(), entry: 8 }]);
        for group in &mut groups {
            group.retain(|table| table.range.end <= bytes.len() && table.range.len() >= table.entry);
        }
        groups.retain(|group| !group.is_empty());
        Seed { name: name.into(), bytes, groups, is_text: false }
    }

    /// The file, cut after each of its first bytes and after some of the others.
    pub(crate) fn prefixes(&self, count: usize) -> impl Iterator<Item = Vec<u8>> + '_ {
        let dense = (count / 2).min(self.bytes.len());
        let step = ((self.bytes.len() - dense) / (count - dense).max(1)).max(1);
        (0..dense).chain((dense..self.bytes.len()).step_by(step)).map(|end| self.bytes[..end].to_vec())
    }

    /// Each number of [`NUMBERS`] in each word of the tables that say where other tables are, and in each field of symbols and
    /// relocations; `count` of each of the two at most.
    pub(crate) fn giants(&self, count: usize) -> Vec<Vec<u8>> {
        let tables = |is_it: fn(usize) -> bool| {
            self.groups.iter().take(self.groups.len() - 1).flatten().filter(move |table| is_it(table.entry))
        };
        let of_others = tables(|entry| entry > 24).flat_map(|table| table.range.clone().step_by(4));
        let of_symbols = tables(|entry| entry == 24).flat_map(|table| table.range.clone().step_by(8));
        [of_others.collect::<Vec<_>>(), of_symbols.collect()]
            .iter()
            .flat_map(|words| self.giants_at(words, count))
            .collect()
    }

    fn giants_at(&self, words: &[usize], count: usize) -> Vec<Vec<u8>> {
        let all: Vec<_> = words.iter().flat_map(|at| NUMBERS.map(|number| (*at, number))).collect();
        let step = all.len().div_ceil(count.max(1)).max(1);
        let mutant = |(at, number): &(usize, u64)| {
            let mut bytes = self.bytes.clone();
            write(&mut bytes, *at, 8, *number);
            bytes
        };
        // A step that has no part in common with the count of numbers, so that each of them has its turn.
        let step = (step..).find(|step| step % 2 == 1 && step % 3 != 0).unwrap_or(step);
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
        if self.is_text && random.below(3) > 0 {
            return reword(random, bytes);
        }
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

/// Puts a word in the place of another, or says a part many times, or leaves it out.
fn reword(random: &mut Random, bytes: &mut Vec<u8>) {
    let ends: Vec<usize> = (0..bytes.len()).filter(|at| BETWEEN.contains(&bytes[*at])).collect();
    let nth = random.below(ends.len());
    let Some(from) = ends.get(nth).copied() else { return };
    let many = if random.below(2) == 0 { 1 } else { 1 + random.below(12) };
    let from = from + random.below(2);
    let to = ends.get(nth + many).copied().unwrap_or(bytes.len()).max(from);
    let part = bytes[from..to].to_vec();
    let new = match random.below(4) {
        0 | 1 => WORDS[random.below(WORDS.len())].as_bytes().to_vec(),
        2 => part.repeat(1 + random.below((REPEATED_MAX / part.len().max(1)).min(256))),
        _ => Vec::new(),
    };
    if bytes.len() + new.len() <= 2 * REPEATED_MAX {
        bytes.splice(from..to, new);
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
