//! The fingerprint of a section: what it does, apart from where anything lies.
//!
//! Takes an object and a section and gives a `Print`: a hash of the bytes between relocated fields, of each relocation's
//! kind and addend, and of the content of what has no name of its own (constants, strings, jump tables, LSDA),
//! recursively; and beside the hash the list of named things it refers to, so that names can be translated when they are
//! compared. Source lines in `core::panic::Location`s are kept apart: moving a function down a file changes no code.

use std::hash::Hash;
use std::rc::Rc;

use rustc_hash::FxHashMap;
use xxhash_rust::xxh3::Xxh3;

use crate::arch::RelocKind;
use crate::arch::reloc::{Field, Form, Operand};
use crate::arch::x86_64;
use crate::binary::object::{Object, Place, Reloc, Role, SectionId, SymbolId};

/// The fingerprint of a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Print {
    /// Hash of everything but names and locations.
    pub own: u128,
    /// The named things referred to, each once, in order of first appearance; the hash has which of them is where.
    pub refs: Vec<SymbolId>,
    /// The `Location`s referred to from the section itself.
    pub locations: Vec<LocationRef>,
}

/// A reference to a `core::panic::Location`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocationRef {
    /// Offset of the relocated field that leads to it.
    pub offset: u64,
    /// The relocation's addend.
    pub addend: i64,
    /// Line in the source file.
    pub line: u32,
    /// Column.
    pub column: u32,
}

/// Size of a `core::panic::Location`: pointer and length of the file name, line, column.
pub const LOCATION_SIZE: u64 = 24;
/// Offset of line and column (two `u32`) in a `Location`.
pub const LOCATION_LINE: u64 = 16;

/// What a relocation refers to.
enum Target {
    /// A named item, and how far from its beginning.
    Named(SymbolId, i64),
    /// A place in a section without a name of its own.
    Anonymous(SectionId, i64),
    /// A number.
    Absolute(u64),
    /// Not understood; the linker refuses it.
    Unknown(u16),
}

/// Computes prints of one object's sections, remembering constants that several of them share.
pub struct Printer<'o> {
    object: &'o Object,
    known: FxHashMap<(SectionId, u64), Rc<Print>>,
    /// Where the instructions of one section end.
    instructions: (SectionId, Vec<u64>),
}

/// What a relocation comes to in a print.
enum Meaning {
    Named(SymbolId, i64),
    /// A place that is only told by its offset: in the section itself, or in code.
    Place(i64),
    /// A `Location`: line and column; its file's name is bytes of the section, here.
    Location(u32, u32, SectionId, std::ops::Range<usize>),
    /// Bytes without a name of their own, and how far behind their beginning.
    Inner(Inner, i64),
    Absolute(u64),
    Unknown(u16),
}

/// Bytes of a section that are compared by content.
#[derive(Clone)]
struct Inner {
    section: SectionId,
    range: std::ops::Range<u64>,
}

impl Inner {
    fn key(&self) -> (SectionId, u64) {
        (self.section, self.range.start)
    }
}

impl<'o> Printer<'o> {
    /// A printer for `object`.
    #[must_use]
    pub fn new(object: &'o Object) -> Printer<'o> {
        Printer { object, known: FxHashMap::default(), instructions: (SectionId(0), Vec::new()) }
    }

    /// The print of a whole section, its function's LSDA included.
    pub fn section(&mut self, section: SectionId) -> Print {
        let size = self.object.section(section).size;
        let mut print = Draft::new();
        self.range(&mut print, &Inner { section, range: 0..size }, true);
        for frame in self.object.frames.of.get(&section).map_or(&[][..], Vec::as_slice) {
            if let Some(lsda) = frame.lsda {
                let size = self.object.section(lsda).size;
                print.word(7);
                self.range(&mut print, &Inner { section: lsda, range: 0..size }, false);
            }
        }
        print.finish()
    }

    fn range(&mut self, print: &mut Draft, what: &Inner, outermost: bool) {
        let object = self.object;
        let (section, range) = (what.section, &what.range);
        let bytes = object.bytes(section);
        let mut at = range.start;
        print.word(range.end - range.start);
        print.word(object.section(section).role as u64);
        for reloc in relocs(object, what) {
            print.bytes(bytes.get(at as usize..reloc.offset as usize).unwrap_or_default());
            at = reloc.offset + reloc.kind.width();
            print.word(reloc.offset - range.start);
            self.reloc(print, section, reloc, outermost);
        }
        print.bytes(bytes.get(at as usize..range.end as usize).unwrap_or_default());
    }

    fn reloc(&mut self, print: &mut Draft, from: SectionId, reloc: &Reloc, outermost: bool) {
        reloc.kind.hash(&mut print.hash);
        let behind = if outermost { self.behind_field(from, reloc) } else { 0 };
        match meaning(self.object, from, reloc, outermost, behind) {
            Meaning::Named(symbol, distance) => {
                print.word(1);
                print.word(distance as u64);
                print.name(symbol);
            }
            Meaning::Place(offset) => {
                print.word(2);
                print.word(offset as u64);
            }
            Meaning::Location(line, column, section, file) => {
                print.word(3);
                print.bytes(self.object.bytes(section).get(file).unwrap_or_default());
                print.locations.push(LocationRef { offset: reloc.offset, addend: reloc.addend, line, column });
            }
            Meaning::Inner(inner, rest) => {
                print.word(4);
                print.word(rest as u64);
                let known = self.inner(inner);
                print.word(known.own as u64);
                print.word((known.own >> 64) as u64);
                for symbol in &known.refs {
                    print.name(*symbol);
                }
            }
            Meaning::Absolute(value) => {
                print.word(5);
                print.word(value);
            }
            Meaning::Unknown(raw) => {
                print.word(6);
                print.word(u64::from(raw));
            }
        }
    }

    /// The print of bytes without a name. Those that they refer to come first: constants can be nested deeper than the
    /// stack of a thread.
    fn inner(&mut self, inner: Inner) -> Rc<Print> {
        if let Some(known) = self.known.get(&inner.key()) {
            return Rc::clone(known);
        }
        let key = inner.key();
        let mut open = vec![(self.begin(inner), 0)];
        while let Some((inner, looked_at)) = open.pop() {
            let left = relocs(self.object, &inner).iter().enumerate().skip(looked_at);
            let mut next = left.filter_map(|(at, reloc)| {
                let meaning = meaning(self.object, inner.section, reloc, false, 0);
                if let Meaning::Inner(next, _) = meaning { Some((at, next)) } else { None }
            });
            match next.find(|(_, next)| !self.known.contains_key(&next.key())) {
                Some((at, next)) => {
                    open.push((inner, at + 1));
                    open.push((self.begin(next), 0));
                }
                None => {
                    let mut draft = Draft::new();
                    self.range(&mut draft, &inner, false);
                    self.known.insert(inner.key(), Rc::new(draft.finish()));
                }
            }
        }
        self.known.get(&key).map_or_else(|| Rc::new(Draft::new().finish()), Rc::clone)
    }

    /// Should a constant come back to itself, it meets its own size there instead of going round for ever.
    fn begin(&mut self, inner: Inner) -> Inner {
        let size = Print { own: u128::from(inner.range.end), refs: Vec::new(), locations: Vec::new() };
        self.known.insert(inner.key(), Rc::new(size));
        inner
    }

    /// How many bytes of its instruction lie behind a field in code that refers to merged elements: which one is meant is
    /// told by the byte.
    fn behind_field(&mut self, from: SectionId, reloc: &Reloc) -> u64 {
        let object = self.object;
        let merged = match object.symbol(reloc.symbol).place {
            Place::In(section, _) => object.section(section).merge_size > 0,
            Place::Undefined | Place::Absolute(_) | Place::Unknown(_) => false,
        };
        let code = object.bytes(from);
        let counts = merged && field_to_end(reloc.kind) != 0 && object.section(from).role == Role::Text;
        if !counts || x86_64::is_address_field(code, reloc.offset) {
            return 0;
        }
        if self.instructions.0 != from {
            self.instructions = (from, x86_64::instruction_ends(code));
        }
        let end = reloc.offset + reloc.kind.width();
        let ends = &self.instructions.1;
        ends.get(ends.partition_point(|other| *other < end)).map_or(0, |found| found - end)
    }
}

/// The relocations of fields that begin in a range.
fn relocs<'o>(object: &'o Object, what: &Inner) -> &'o [Reloc] {
    let relocs = &object.section(what.section).relocs;
    let before = |end: u64| relocs.partition_point(|reloc| reloc.offset < end);
    relocs.get(before(what.range.start)..before(what.range.end)).unwrap_or_default()
}

/// `behind`: how many bytes of its instruction lie behind the field.
fn meaning(object: &Object, from: SectionId, reloc: &Reloc, outermost: bool, behind: u64) -> Meaning {
    match target(object, reloc, behind) {
        Target::Named(symbol, distance) => Meaning::Named(symbol, distance),
        Target::Absolute(value) => Meaning::Absolute(value),
        Target::Unknown(raw) => Meaning::Unknown(raw),
        Target::Anonymous(section, offset) if section == from || object.section(section).role == Role::Text => {
            Meaning::Place(offset)
        }
        Target::Anonymous(section, offset) => {
            let in_code = outermost && reloc.kind == RelocKind::PC32 && object.section(from).role == Role::Text;
            if let Some((line, column, names, file)) =
                Some(()).filter(|()| in_code).and_then(|()| location(object, section, offset))
            {
                return Meaning::Location(line, column, names, file);
            }
            let (range, rest) = element(object, section, offset);
            Meaning::Inner(Inner { section, range }, rest)
        }
    }
}

struct Draft {
    hash: Xxh3,
    refs: Vec<SymbolId>,
    places: FxHashMap<SymbolId, usize>,
    locations: Vec<LocationRef>,
}

impl Draft {
    fn new() -> Draft {
        Draft { hash: Xxh3::new(), refs: Vec::new(), places: FxHashMap::default(), locations: Vec::new() }
    }

    fn word(&mut self, word: u64) {
        self.hash.update(&word.to_le_bytes());
    }

    /// A reference to a name, by its place in the list. Constants refer to constants that refer to the same names again:
    /// without the list, what a function refers to would grow with the paths that lead there.
    fn name(&mut self, symbol: SymbolId) {
        let next = self.refs.len();
        let at = *self.places.entry(symbol).or_insert(next);
        if at == next {
            self.refs.push(symbol);
        }
        self.word(at as u64);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        self.hash.update(bytes);
    }

    fn finish(self) -> Print {
        Print { own: self.hash.digest128(), refs: self.refs, locations: self.locations }
    }
}

fn target(object: &Object, reloc: &Reloc, behind: u64) -> Target {
    let symbol = object.symbol(reloc.symbol);
    // The same for a name that is defined elsewhere and for one that happens to be defined here.
    let distance = reloc.addend.wrapping_add(field_to_end(reloc.kind));
    let (section, value) = match symbol.place {
        Place::Undefined => return Target::Named(reloc.symbol, distance),
        Place::Absolute(value) => return Target::Absolute(value.wrapping_add(reloc.addend as u64)),
        Place::Unknown(raw) => return Target::Unknown(raw),
        Place::In(section, value) => (section, value),
    };
    if object.is_item(symbol) {
        return Target::Named(reloc.symbol, distance);
    }
    let offset = (value as i64).wrapping_add(distance).wrapping_add(behind as i64);
    // A section symbol or private label: the item whose bytes contain the place, if there is one.
    let inside = object.defined_in(section).iter().rev().find(|id| {
        let candidate = object.symbol(**id);
        match candidate.place {
            Place::In(_, start) => {
                object.is_item(candidate) && (offset as u64).wrapping_sub(start) < candidate.size.max(1)
            }
            Place::Undefined | Place::Absolute(_) | Place::Unknown(_) => false,
        }
    });
    match inside {
        Some(id) => {
            let start = match object.symbol(*id).place {
                Place::In(_, start) => start as i64,
                Place::Undefined | Place::Absolute(_) | Place::Unknown(_) => 0,
            };
            Target::Named(*id, offset.wrapping_sub(start))
        }
        // The entries of a jump table count from the table, so a label's place can seem to lie behind its function.
        None => match object.function_of(section) {
            Some(function) => Target::Named(function, offset),
            None => Target::Anonymous(section, offset),
        },
    }
}

/// How far the end of the instruction lies behind the beginning of the field: PC-relative addends are counted from there.
/// At least for instructions without a trailing immediate: elsewhere than in merged elements, a distance that is off by its
/// length is off on both sides.
fn field_to_end(kind: RelocKind) -> i64 {
    let counted = |operand| {
        matches!(
            operand,
            Operand::Symbol | Operand::Branch | Operand::Got | Operand::GotLoad | Operand::GotThreadOffset
        )
    };
    match kind {
        RelocKind::Of(operand, Form::Relative, Field::Int(4, _)) if counted(operand) => 4,
        RelocKind::Of(..) | RelocKind::Unknown(_) => 0,
    }
}

/// The bytes that a reference to `offset` of a section means, and the distance of the reference from their beginning:
/// one string or element of a section of merged ones, else the whole section.
fn element(object: &Object, section: SectionId, offset: i64) -> (std::ops::Range<u64>, i64) {
    let data = object.section(section);
    let inside = u64::try_from(offset).ok().filter(|offset| *offset < data.size);
    match inside {
        Some(offset) if data.merge_size == 1 && data.strings => {
            let bytes = object.bytes(section);
            let rest = bytes.get(offset as usize..).unwrap_or_default();
            let len = rest.iter().position(|byte| *byte == 0).map_or(rest.len(), |at| at + 1);
            (offset..offset + len as u64, 0)
        }
        Some(at) if data.merge_size > 1 && !data.strings => {
            let start = at - at % data.merge_size;
            (start..start.saturating_add(data.merge_size).min(data.size), offset - start as i64)
        }
        _ => (0..data.size, offset),
    }
}

/// Line, column and the place of the file name if the place is a `core::panic::Location`: 24 bytes of relocated constant data that begin
/// with the address of a NUL-terminated `.rs` name in a section of merged strings, which is how rustc writes only these.
fn location(object: &Object, section: SectionId, offset: i64) -> Option<(u32, u32, SectionId, std::ops::Range<usize>)> {
    let data = object.section(section);
    if offset != 0 || data.role != Role::RelRo || data.size != LOCATION_SIZE {
        return None;
    }
    let [reloc] = data.relocs.as_slice() else { return None };
    if reloc.offset != 0 || reloc.kind != RelocKind::ABS64 {
        return None;
    }
    let Target::Anonymous(names, at) = target(object, reloc, 0) else { return None };
    if !object.section(names).strings {
        return None;
    }
    let bytes = object.bytes(section);
    let len = usize::try_from(u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?)).ok()?;
    let at = usize::try_from(at).ok()?;
    let file = at..at.checked_add(len)?;
    let name = object.bytes(names).get(file.clone())?;
    let ends = object.bytes(names).get(file.end) == Some(&0);
    if !ends || !name.ends_with(b".rs") || name.contains(&0) {
        return None;
    }
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    Some((word(16)?, word(20)?, names, file))
}
