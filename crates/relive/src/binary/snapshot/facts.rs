//! What is known of a linked binary, whatever its format: the words that the readers of ELF and Mach-O, the writer of the
//! index and its reader share. Reads nothing itself.

use std::fmt;
use std::ops::Range;

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

pub use crate::arch::Machine;
use crate::binary::address::LinkAddr;
pub use crate::binary::object::Format;
use crate::binary::object::{Binding, SymbolKind};

/// Bytes of a build-id that an index can hold. A linker's own have 8 to 32; a longer one is treated as absent.
pub(super) const KEY_MAX: usize = 64;

/// What the system makes of a binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A program that can only be loaded where it says.
    FixedExecutable,
    /// A program that can be loaded anywhere.
    Executable,
    /// Code that programs load.
    SharedLibrary,
}

/// What tells a binary from all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// ELF: the contents of the note `NT_GNU_BUILD_ID`.
    BuildId(Vec<u8>),
    /// Mach-O: the contents of `LC_UUID`.
    Uuid([u8; 16]),
    /// XXH3-128 of the whole file, of one that has neither.
    Contents(u128),
}

impl Key {
    pub(super) fn of_contents(data: &[u8]) -> Key {
        Key::Contents(xxh3_128(data))
    }

    /// The bytes of the key; those of [`Key::Contents`] are big-endian.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Key::BuildId(id) => id.clone(),
            Key::Uuid(uuid) => uuid.to_vec(),
            Key::Contents(hash) => hash.to_be_bytes().to_vec(),
        }
    }

    /// What the key is called.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Key::BuildId(_) => "build-id",
            Key::Uuid(_) => "UUID",
            Key::Contents(_) => "contents",
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.bytes())
    }
}

/// Two hexadecimal digits for each byte.
pub(super) fn hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// What a loaded segment allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Can be read.
    pub read: bool,
    /// Can be written.
    pub write: bool,
    /// Can be executed.
    pub execute: bool,
}

/// A part of a binary that is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where the file says it is.
    pub start: LinkAddr,
    /// Bytes in memory.
    pub size: u64,
    /// Where it begins in the file, in bytes.
    pub file_offset: u64,
    /// Bytes of it that the file holds; the rest is zero.
    pub file_size: u64,
    /// What it allows when the program runs.
    pub access: Access,
}

impl Segment {
    /// The address after its last byte.
    #[must_use]
    pub fn end(&self) -> LinkAddr {
        LinkAddr(self.start.0.saturating_add(self.size))
    }

    /// Whether `addr` lies in it.
    #[must_use]
    pub fn contains(&self, addr: LinkAddr) -> bool {
        self.start <= addr && addr < self.end()
    }
}

/// The thread-local block that each thread has a copy of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsBlock {
    /// Size in bytes; 0 if there is none.
    pub size: u64,
    /// Alignment in bytes, a power of two.
    pub align: u64,
    /// Where the file says its first values are.
    pub start: LinkAddr,
}

impl TlsBlock {
    /// Whether a system could give each thread one: what is larger is damaged, and is not calculated with.
    pub(super) fn is_possible(&self) -> bool {
        let aligned = self.align.is_power_of_two() && self.align <= 1 << 16;
        *self == TlsBlock::default() || (aligned && self.size <= 1 << 31)
    }
}

/// What tells a binary from others, and how it is laid out, without its symbols.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// How it is written.
    pub format: Format,
    /// What it is for.
    pub machine: Machine,
    /// What tells it from others.
    pub key: Key,
    /// Where the bytes of the key are in memory once it is loaded; `None` if they are not loaded.
    pub key_at: Option<LinkAddr>,
    /// Bytes of the file, or of the slice of a universal file.
    pub size: u64,
    /// XXH3-64 of its headers: those of the file, the segments and the sections.
    pub headers: u64,
}

/// All that a reader of a format finds besides the symbols.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub(super) identity: Identity,
    pub(super) kind: Kind,
    /// Whether the symbols are only those that others can link to.
    pub(super) stripped: bool,
    pub(super) tls: TlsBlock,
    /// Where the names of symbols and units are in the file.
    pub(super) strings: Range<u64>,
    /// Where the names of imports are in the file.
    pub(super) import_strings: Range<u64>,
}

/// What a reader of a format finds.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) about: About,
    pub(super) segments: Vec<Segment>,
    /// In the order of the file.
    pub(super) symbols: Vec<Entry>,
    /// Offsets of the units' names; a unit's number is its place here plus one.
    pub(super) units: Vec<u32>,
    /// Offsets of the imports' names, in the order of the names.
    pub(super) imports: Vec<u32>,
}

/// One symbol, or none where the file has one that is not of interest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) addr: u64,
    pub(super) size: u64,
    /// Offset of its name.
    pub(super) name: u32,
    /// [`hash`] of its name.
    pub(super) hash: u32,
    pub(super) tag: Tag,
}

/// Kind, binding and unit of a symbol in one number: five bits, two bits, and 24 from the eighth on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag(pub(super) u32);

/// The numbers of units end here; 0 is none.
pub(super) const UNITS_MAX: usize = (1 << 24) - 1;

/// In which part of the index a symbol stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    Functions,
    Data,
    ThreadLocals,
    /// In none.
    Gone,
}

impl Tag {
    /// Stands for no symbol.
    pub(super) const GONE: Tag = Tag(0x1f);

    pub(super) fn new(kind: SymbolKind, binding: Binding, unit: u32) -> Tag {
        let kind = match kind {
            SymbolKind::Function => 0,
            SymbolKind::Object => 1,
            SymbolKind::Tls => 2,
            SymbolKind::Unsaid => 3,
            SymbolKind::Section | SymbolKind::File => return Tag::GONE,
            SymbolKind::Unknown(raw) => 0x10 | u32::from(raw.min(0xe)),
        };
        let binding = match binding {
            Binding::Local => 0,
            Binding::Global => 1,
            Binding::Weak => 2,
        };
        Tag(unit << 8 | binding << 6 | kind)
    }

    pub(super) fn kind(self) -> SymbolKind {
        match self.0 & 0x1f {
            0 => SymbolKind::Function,
            1 => SymbolKind::Object,
            2 => SymbolKind::Tls,
            3 => SymbolKind::Unsaid,
            other => SymbolKind::Unknown(other as u8 & 0xf),
        }
    }

    pub(super) fn binding(self) -> Binding {
        match self.0 >> 6 & 3 {
            0 => Binding::Local,
            1 => Binding::Global,
            _ => Binding::Weak,
        }
    }

    pub(super) fn unit(self) -> u32 {
        self.0 >> 8
    }

    pub(super) fn group(self) -> Group {
        if self == Tag::GONE {
            return Group::Gone;
        }
        match self.kind() {
            SymbolKind::Function => Group::Functions,
            SymbolKind::Tls => Group::ThreadLocals,
            SymbolKind::Object
            | SymbolKind::Unsaid
            | SymbolKind::Unknown(_)
            | SymbolKind::Section
            | SymbolKind::File => Group::Data,
        }
    }
}

impl Entry {
    pub(super) const GONE: Entry = Entry { addr: 0, size: 0, name: 0, hash: 0, tag: Tag::GONE };
}

/// What names are looked up by.
pub(super) fn hash(name: &[u8]) -> u32 {
    (xxh3_64(name) >> 32) as u32
}

/// The name at an offset of a table of names; empty where there is none.
pub(super) fn name_at(strings: &[u8], at: u32) -> &[u8] {
    let rest = strings.get(at as usize..).unwrap_or_default();
    let len = memchr::memchr(0, rest).unwrap_or(rest.len());
    rest.get(..len).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_gives_back_what_it_was_made_of() {
        let kinds = [SymbolKind::Function, SymbolKind::Object, SymbolKind::Tls, SymbolKind::Unsaid];
        let unknown = (4..15).map(SymbolKind::Unknown);
        for kind in kinds.into_iter().chain(unknown) {
            for binding in [Binding::Local, Binding::Global, Binding::Weak] {
                for unit in [0, 1, UNITS_MAX as u32] {
                    let tag = Tag::new(kind, binding, unit);
                    assert_eq!((tag.kind(), tag.binding(), tag.unit()), (kind, binding, unit));
                    assert_ne!(tag.group(), Group::Gone);
                }
            }
        }
        assert_eq!(Tag::GONE.group(), Group::Gone);
    }

    #[test]
    fn a_name_ends_with_its_nul_or_the_table() {
        assert_eq!(name_at(b"\0ab\0cd", 1), b"ab");
        assert_eq!(name_at(b"\0ab\0cd", 2), b"b");
        assert_eq!(name_at(b"\0ab\0cd", 4), b"cd");
        assert_eq!(name_at(b"\0ab\0cd", 6), b"");
        assert_eq!(name_at(b"\0ab\0cd", u32::MAX), b"");
    }
}
