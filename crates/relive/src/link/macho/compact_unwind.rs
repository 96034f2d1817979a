//! Compact unwind information: read from objects, written as an image's `__TEXT,__unwind_info`.
//!
//! Takes the entries of `__LD,__compact_unwind` sections, and functions with final addresses; gives the section's bytes,
//! which are looked up again before they are given. Does not decide which rule a function has, does not write
//! `__eh_frame`, and does not pad: between two functions that do not touch, nothing has a rule. Whoever wants padding
//! covered, as one rule for two neighbours needs it, gives lengths with padding.
//!
//! `unwind_info` has the format, and the reader. An encoding is 32 bits (`<mach-o/compact_unwind_encoding.h>`): from the
//! top "not a function's start", "has an LSDA", two bits for the number of the personality function, four bits for the
//! mode, 24 bits that depend on it. In the mode "DWARF" they are the offset of the function's FDE in `__eh_frame`.

use rustc_hash::FxHashMap;

use super::unwind_info::{
    COMPRESSED, COMPRESSED_ENTRY_SIZE, COMPRESSED_HEADER_SIZE, DISTANCE_MASK, ENCODING_SHIFT, Found, HEADER_SIZE,
    INDEX_ENTRY_SIZE, LSDA_ROW_SIZE, REGULAR, REGULAR_ENTRY_SIZE, REGULAR_HEADER_SIZE, UnwindInfo, VERSION,
};
use super::{ImageOffset, double, word};
use crate::binary::address::LinkAddr;
use crate::link::LinkError;

/// `UNWIND_X86_64_MODE_DWARF`: the mode in which an x86-64 encoding leads to an FDE.
pub const DWARF_MODE_X86_64: u8 = 4;
/// `UNWIND_ARM64_MODE_DWARF`.
pub const DWARF_MODE_ARM64: u8 = 3;

/// Size of an entry of `__LD,__compact_unwind`, in bytes.
pub const INPUT_ENTRY_SIZE: usize = 32;
/// Where in an entry the function's address is; the relocation there names a section.
pub const FUNCTION_FIELD: u64 = 0;
/// Where in an entry the personality function's address is; the relocation there names a symbol.
pub const PERSONALITY_FIELD: u64 = 16;
/// Where in an entry the LSDA's address is; the relocation there names a section.
pub const LSDA_FIELD: u64 = 24;

const NOT_FUNCTION_START: u32 = 0x8000_0000;
const HAS_LSDA: u32 = 0x4000_0000;
const PERSONALITY_MASK: u32 = 0x3000_0000;
const PERSONALITY_SHIFT: u32 = 28;
const MODE_SHIFT: u32 = 24;
const RULE_MASK: u32 = 0x0fff_ffff;
const FDE_MASK: u32 = 0x00ff_ffff;

const MAX_PERSONALITIES: usize = 3;
const MAX_COMMON: usize = 127;
const MAX_ENCODINGS: usize = 256;
const PAGE_SIZE: usize = 4096;
const REGULAR_ENTRIES: usize = (PAGE_SIZE - REGULAR_HEADER_SIZE) / REGULAR_ENTRY_SIZE;

/// The rule by which an unwinder leaves a function's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Encoding(pub u32);

impl Encoding {
    /// No rule: frames here cannot be left.
    pub const NONE: Encoding = Encoding(0);

    /// The mode, bits 24 to 27; what it means depends on the machine.
    #[must_use]
    pub const fn mode(self) -> u8 {
        (self.0 >> MODE_SHIFT & 0xf) as u8
    }

    /// Without what the linker adds to it: the personality function's number, and that there is an LSDA.
    #[must_use]
    pub const fn rule(self) -> Encoding {
        Encoding(self.0 & RULE_MASK)
    }

    /// Whether the function has language-specific data.
    #[must_use]
    pub const fn has_lsda(self) -> bool {
        self.0 & HAS_LSDA != 0
    }

    /// Which personality function it has, counted from 1; 0 stands for none.
    #[must_use]
    pub const fn personality_number(self) -> u8 {
        ((self.0 & PERSONALITY_MASK) >> PERSONALITY_SHIFT) as u8
    }

    /// The same encoding, in mode DWARF, with its FDE's offset in `__eh_frame`.
    ///
    /// # Errors
    /// If the offset has more than 24 bits.
    pub fn with_fde(self, offset: u32) -> Result<Encoding, LinkError> {
        if offset > FDE_MASK {
            return Err(LinkError(format!(
                "the unwind entry at {offset:#x} lies beyond the first 16 MiB of __eh_frame"
            )));
        }
        Ok(Encoding(self.0 & !FDE_MASK | offset))
    }
}

/// An entry of an object, its fields as they are in the section: before relocation, addresses of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputEntry {
    /// The function.
    pub function: LinkAddr,
    /// Its size in bytes, without padding.
    pub length: u32,
    /// Its rule.
    pub encoding: Encoding,
    /// What is in the personality's place: 0 without a relocation there.
    pub personality: LinkAddr,
    /// What is in the LSDA's place: 0 without a relocation there.
    pub lsda: LinkAddr,
}

/// The entries of `section`, the bytes of an object's `__LD,__compact_unwind`.
///
/// # Errors
/// With the offset, if the last entry is cut off, or an encoding has bits that only a linker sets.
pub fn read_input(section: &[u8]) -> Result<Vec<InputEntry>, LinkError> {
    let entries = section.chunks(INPUT_ENTRY_SIZE).enumerate();
    entries.map(|(index, entry)| read_input_entry(entry, index * INPUT_ENTRY_SIZE)).collect()
}

fn read_input_entry(entry: &[u8], at: usize) -> Result<InputEntry, LinkError> {
    let fields = || {
        Some(InputEntry {
            function: LinkAddr(double(entry, FUNCTION_FIELD as usize)?),
            length: word(entry, 8)?,
            encoding: Encoding(word(entry, 12)?),
            personality: LinkAddr(double(entry, PERSONALITY_FIELD as usize)?),
            lsda: LinkAddr(double(entry, LSDA_FIELD as usize)?),
        })
    };
    let entry =
        fields().ok_or_else(|| LinkError(format!("__compact_unwind: the entry at offset {at:#x} is cut off")))?;
    if entry.encoding.0 & (NOT_FUNCTION_START | PERSONALITY_MASK) != 0 {
        let raw = entry.encoding.0;
        return Err(LinkError(format!("__compact_unwind: the encoding {raw:#x} at offset {at:#x} is a linker's")));
    }
    Ok(entry)
}

/// A function of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnwindEntry {
    /// Where it begins.
    pub function: ImageOffset,
    /// How many bytes from there on have its rule.
    pub length: u32,
    /// Its rule; what else is in the encoding is replaced. In mode DWARF with the FDE's offset, and then without
    /// personality and LSDA, which unwinders take from the FDE.
    pub encoding: Encoding,
    /// The pointer to its personality function (a slot of the GOT).
    pub personality: Option<ImageOffset>,
    /// Its language-specific data.
    pub lsda: Option<ImageOffset>,
}

impl UnwindEntry {
    fn end(&self) -> Result<u32, LinkError> {
        let end = self.function.0.checked_add(self.length);
        end.ok_or_else(|| LinkError(format!("the function at {} does not end within 4 GiB", self.function)))
    }
}

/// The bytes of `__TEXT,__unwind_info` for functions in any order. No bytes, and so no section, for no functions.
///
/// # Errors
/// With image offsets: if functions overlap or have more than three personality functions among them, or the section
/// does not fit its own 32-bit offsets.
pub fn write(entries: &[UnwindEntry]) -> Result<Vec<u8>, LinkError> {
    let mut entries: Vec<UnwindEntry> = entries.iter().copied().filter(|entry| entry.length > 0).collect();
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    entries.sort_unstable_by_key(|entry| entry.function);
    let table = Table::of(&entries)?;
    let bytes = table.bytes(&table.pages()?)?;
    read_back(&bytes, &entries)?;
    Ok(bytes)
}

/// Looks every function up again.
fn read_back(bytes: &[u8], entries: &[UnwindEntry]) -> Result<(), LinkError> {
    let written = UnwindInfo::parse(bytes)?;
    for entry in entries {
        let found = written.lookup(entry.function)?;
        let found = found.map(|Found { encoding, personality, lsda, .. }| (encoding.rule(), personality, lsda));
        let none = entry.encoding.rule() == Encoding::NONE && entry.personality.is_none() && entry.lsda.is_none();
        if found != (!none).then_some((entry.encoding.rule(), entry.personality, entry.lsda)) {
            let function = entry.function;
            return Err(LinkError(format!("the unwind rule of the function at {function} does not read back")));
        }
    }
    Ok(())
}

/// From here on, up to the next row, this rule holds.
#[derive(Clone, Copy)]
struct Row {
    start: u32,
    encoding: u32,
}

/// What the section says, before it is cut into pages.
struct Table {
    rows: Vec<Row>,
    end: u32,
    /// Sorted by function.
    lsdas: Vec<(u32, ImageOffset)>,
    personalities: Vec<ImageOffset>,
    common: Vec<u32>,
    common_numbers: FxHashMap<u32, u32>,
}

impl Table {
    /// Of functions that are sorted.
    fn of(entries: &[UnwindEntry]) -> Result<Table, LinkError> {
        let personalities = personalities(entries)?;
        let mut rows: Vec<Row> = Vec::with_capacity(entries.len());
        let mut lsdas = Vec::new();
        let mut end = None;
        for entry in entries {
            let start = entry.function.0;
            match end {
                Some(end) if end > start => {
                    return Err(LinkError(format!("another function reaches into the one at {}", entry.function)));
                }
                Some(end) if end < start => push(&mut rows, Row { start: end, encoding: Encoding::NONE.0 }),
                Some(_) | None => {}
            }
            let number = entry.personality.and_then(|at| personalities.iter().position(|known| *known == at));
            let mut encoding = entry.encoding.rule().0 | number.map_or(0, |at| (at as u32 + 1) << PERSONALITY_SHIFT);
            if let Some(lsda) = entry.lsda {
                encoding |= HAS_LSDA;
                lsdas.push((start, lsda));
            }
            push(&mut rows, Row { start, encoding });
            end = Some(entry.end()?);
        }
        let common = common(&rows);
        let common_numbers = (0..).zip(&common).map(|(number, encoding)| (*encoding, number)).collect();
        Ok(Table { rows, end: end.unwrap_or_default(), lsdas, personalities, common, common_numbers })
    }

    fn pages(&self) -> Result<Vec<Page>, LinkError> {
        let mut pages = Vec::new();
        let mut first = 0;
        while let Some(rest) = self.rows.get(first..).filter(|rest| !rest.is_empty()) {
            let page = self.page(rest);
            if page.rows == 0 {
                return Err(LinkError("a page of the unwind table that holds nothing".into()));
            }
            first += page.rows;
            pages.push(page);
        }
        Ok(pages)
    }

    /// As many rows as a page takes, in the kind that takes more.
    fn page(&self, rest: &[Row]) -> Page {
        let base = rest.first().map_or(0, |row| row.start);
        let mut own = OwnEncodings::default();
        let mut size = COMPRESSED_HEADER_SIZE;
        let mut rows = 0;
        for row in rest {
            let is_new = !self.common_numbers.contains_key(&row.encoding) && !own.numbers.contains_key(&row.encoding);
            size += if is_new { COMPRESSED_ENTRY_SIZE + 4 } else { COMPRESSED_ENTRY_SIZE };
            let is_numbered = !is_new || self.common.len() + own.list.len() < MAX_ENCODINGS;
            if size > PAGE_SIZE || !is_numbered || row.start - base > DISTANCE_MASK {
                break;
            }
            if is_new {
                own.numbers.insert(row.encoding, (self.common.len() + own.list.len()) as u32);
                own.list.push(row.encoding);
            }
            rows += 1;
        }
        if rows < rest.len().min(REGULAR_ENTRIES) {
            return Page { rows: rest.len().min(REGULAR_ENTRIES), own: None };
        }
        Page { rows, own: Some(own) }
    }

    fn bytes(&self, pages: &[Page]) -> Result<Vec<u8>, LinkError> {
        let personalities = HEADER_SIZE + self.common.len() * 4;
        let index = personalities + self.personalities.len() * 4;
        let lsdas = index + (pages.len() + 1) * INDEX_ENTRY_SIZE;
        let first_page = lsdas + self.lsdas.len() * LSDA_ROW_SIZE;
        let end = pages.iter().fold(first_page, |at, page| at + page.size());
        if u32::try_from(end).is_err() {
            return Err(LinkError(format!("an unwind table of {end} bytes")));
        }
        let mut out = Vec::with_capacity(end);
        put(&mut out, [VERSION, HEADER_SIZE as u32, self.common.len() as u32]);
        put(&mut out, [personalities as u32, self.personalities.len() as u32, index as u32, pages.len() as u32 + 1]);
        put(&mut out, self.common.iter().copied());
        put(&mut out, self.personalities.iter().map(|at| at.0));
        self.put_index(&mut out, pages, lsdas, first_page);
        put(&mut out, self.lsdas.iter().flat_map(|(function, lsda)| [*function, lsda.0]));
        let mut rest = self.rows.as_slice();
        for page in pages {
            let (rows, after) = rest.split_at_checked(page.rows).unwrap_or((rest, &[]));
            self.put_page(&mut out, page, rows);
            rest = after;
        }
        Ok(out)
    }

    fn put_index(&self, out: &mut Vec<u8>, pages: &[Page], lsdas: usize, first_page: usize) {
        let (mut row, mut at) = (0, first_page);
        for page in pages {
            let start = self.rows.get(row).map_or(self.end, |row| row.start);
            let before = self.lsdas.partition_point(|(function, _)| *function < start);
            put(out, [start, at as u32, (lsdas + before * LSDA_ROW_SIZE) as u32]);
            row += page.rows;
            at += page.size();
        }
        put(out, [self.end, 0, first_page as u32]);
    }

    fn put_page(&self, out: &mut Vec<u8>, page: &Page, rows: &[Row]) {
        let Some(own) = &page.own else {
            put(out, [REGULAR]);
            put_halves(out, [REGULAR_HEADER_SIZE, rows.len()]);
            put(out, rows.iter().flat_map(|row| [row.start, row.encoding]));
            return;
        };
        let base = rows.first().map_or(0, |row| row.start);
        let encodings = COMPRESSED_HEADER_SIZE + rows.len() * COMPRESSED_ENTRY_SIZE;
        put(out, [COMPRESSED]);
        put_halves(out, [COMPRESSED_HEADER_SIZE, rows.len(), encodings, own.list.len()]);
        let number = |encoding: u32| self.common_numbers.get(&encoding).or_else(|| own.numbers.get(&encoding));
        let entry = |row: &Row| (row.start - base) | (number(row.encoding).unwrap_or(&0) << ENCODING_SHIFT);
        put(out, rows.iter().map(entry));
        put(out, own.list.iter().copied());
    }
}

/// A run of rows.
struct Page {
    rows: usize,
    /// Of a compressed page.
    own: Option<OwnEncodings>,
}

impl Page {
    fn size(&self) -> usize {
        match &self.own {
            Some(own) => COMPRESSED_HEADER_SIZE + self.rows * COMPRESSED_ENTRY_SIZE + own.list.len() * 4,
            None => REGULAR_HEADER_SIZE + self.rows * REGULAR_ENTRY_SIZE,
        }
    }
}

/// Encodings that are not common, numbered from the count of those on.
#[derive(Default)]
struct OwnEncodings {
    list: Vec<u32>,
    numbers: FxHashMap<u32, u32>,
}

/// Adds `row`, unless the one before says the same. Not where the rule looks into the function's own bytes (x86-64's
/// `STACK_IND`, mode 3), and not where it has an LSDA, which is found by the function's start.
fn push(rows: &mut Vec<Row>, row: Row) {
    const STACK_IND: u8 = 3;
    let stands_alone = Encoding(row.encoding).has_lsda() || Encoding(row.encoding).mode() == STACK_IND;
    if stands_alone || rows.last().is_none_or(|last| last.encoding != row.encoding) {
        rows.push(row);
    }
}

fn personalities(entries: &[UnwindEntry]) -> Result<Vec<ImageOffset>, LinkError> {
    let mut all: Vec<ImageOffset> = Vec::new();
    for personality in entries.iter().filter_map(|entry| entry.personality) {
        if !all.contains(&personality) {
            all.push(personality);
        }
        if all.len() > MAX_PERSONALITIES {
            let list: Vec<String> = all.iter().map(ToString::to_string).collect();
            let list = list.join(", ");
            return Err(LinkError(format!(
                "more personality functions than the 3 that compact unwind can name: {list}"
            )));
        }
    }
    Ok(all)
}

/// The encodings that most rows share, the most frequent ones first. One that a single row has costs as much in its page.
fn common(rows: &[Row]) -> Vec<u32> {
    let mut counts: FxHashMap<u32, usize> = FxHashMap::default();
    for row in rows {
        *counts.entry(row.encoding).or_default() += 1;
    }
    let mut shared: Vec<(usize, u32)> =
        counts.into_iter().filter(|(_, count)| *count > 1).map(|(encoding, count)| (count, encoding)).collect();
    shared.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    shared.into_iter().take(MAX_COMMON).map(|(_, encoding)| encoding).collect()
}

fn put(out: &mut Vec<u8>, words: impl IntoIterator<Item = u32>) {
    out.extend(words.into_iter().flat_map(u32::to_le_bytes));
}

/// Offsets and counts in a page, which has at most 4096 bytes.
fn put_halves(out: &mut Vec<u8>, halves: impl IntoIterator<Item = usize>) {
    out.extend(halves.into_iter().flat_map(|half| (half as u16).to_le_bytes()));
}
