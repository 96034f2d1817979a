//! Where a binary is loaded: every copy of it among the mappings of a process, each with its own slide.
//!
//! Takes a snapshot, the mappings of files, and a way to read memory; gives the copies. The anchor is the place where the
//! first segment is mapped, never a symbol: a program may have any number of `main`s. What fits the layout of the segments
//! is checked against a second fact, the bytes of the build-id or UUID as they stand in memory; of a binary without
//! either, the start of what it loads. A mapping of the binary's own file that fails the check is an error which names
//! both values; one of another file is another binary. Knows no process and reads no files.

use std::fmt;

use relive_wire::LiveAddr;

use super::address::{LinkAddr, Slide};
use super::snapshot::{Key, Kind, Segment, Snapshot};

/// Sizes of pages: mappings begin at a multiple of the smaller and may begin at one of the larger (16 KiB, macOS on arm64).
const PAGES: [u64; 2] = [0x1000, 0x4000];

/// Bytes of the second fact where there is neither build-id nor UUID.
const SAMPLE: u64 = 0x400;

/// A part of a file in the memory of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// First byte.
    pub start: LiveAddr,
    /// The address after its last byte.
    pub end: LiveAddr,
    /// Where it is in the file, in bytes.
    pub offset: u64,
    /// Which file: device and number.
    pub file: (u64, u64),
    /// Whether the file is the snapshot's own, as far as the system says.
    pub is_own: bool,
    /// What the file is called.
    pub name: String,
}

/// One copy of a binary in a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// How far it is moved.
    pub slide: Slide,
    /// Where its first page is.
    pub start: LiveAddr,
    /// What the mapped file is called.
    pub name: String,
}

/// Why a binary is not found at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnchorError {
    /// It is not loaded.
    Absent,
    /// Several copies are; each is named with its place.
    Several(Vec<Loaded>),
    /// What lies at its place is not it.
    Mismatch {
        /// What was compared: `build-id`, `UUID`, `contents`.
        what: &'static str,
        /// Where.
        at: LiveAddr,
        /// What the mapped file is called.
        name: String,
        /// What the file states, in hexadecimal digits.
        stated: String,
        /// What is in memory; empty if it cannot be read.
        found: String,
    },
}

impl fmt::Display for AnchorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AnchorError::Absent => f.write_str("it is not loaded"),
            AnchorError::Several(all) => {
                write!(f, "{} copies are loaded:", all.len())?;
                all.iter().try_for_each(|one| write!(f, " `{}` at {}", one.name, one.start))
            }
            AnchorError::Mismatch { what, at, name, stated, found } if found.is_empty() => {
                write!(f, "the {what} of `{name}` is {stated}, and the memory at {at} cannot be read")
            }
            AnchorError::Mismatch { what, at, name, stated, found } => {
                write!(f, "the {what} of `{name}` is {stated}, and in memory at {at} it is {found}")
            }
        }
    }
}

impl std::error::Error for AnchorError {}

/// Fills bytes from an address of the process and says whether all could be read.
pub type Read<'a> = dyn FnMut(LiveAddr, &mut [u8]) -> bool + 'a;

/// Every copy of the binary, lowest address first.
///
/// # Errors
/// If its own file is mapped as it would be loaded, and is another in memory.
pub fn find(binary: &Snapshot, mapped: &[Mapped], read: &mut Read<'_>) -> Result<Vec<Loaded>, AnchorError> {
    let Some(first) = binary.segments().first() else { return Ok(Vec::new()) };
    let mut found: Vec<Loaded> = Vec::new();
    for anchor in mapped {
        for page in PAGES {
            let link = LinkAddr(floor(first.start.0, page));
            let slide = Slide::between(link, anchor.start);
            let base = anchor.offset.wrapping_sub(floor(first.file_offset, page));
            let known = found.iter().any(|loaded| loaded.slide == slide);
            let movable = binary.kind() != Kind::FixedExecutable || slide.is_zero();
            if known || !movable || !fits(binary, slide, base, anchor, mapped) {
                continue;
            }
            match check(binary, slide, &anchor.name, read) {
                Ok(()) => found.push(Loaded { slide, start: anchor.start, name: anchor.name.clone() }),
                Err(mismatch) if anchor.is_own && base == 0 => return Err(mismatch),
                Err(_) => {} // another binary with segments of the same shape
            }
        }
    }
    found.sort_by_key(|loaded| loaded.start);
    Ok(found)
}

/// The one copy of the binary.
///
/// # Errors
/// As [`find`], and if it is not loaded or several times.
pub fn find_one(binary: &Snapshot, mapped: &[Mapped], read: &mut Read<'_>) -> Result<Loaded, AnchorError> {
    let mut all = find(binary, mapped, read)?;
    match (all.pop(), all.is_empty()) {
        (Some(one), true) => Ok(one),
        (None, _) => Err(AnchorError::Absent),
        (Some(last), false) => {
            all.push(last);
            Err(AnchorError::Several(all))
        }
    }
}

/// The slide of the binary whose first page, with its header, is known to be at `first_page`.
///
/// # Errors
/// If what is there is not the binary.
pub fn at(binary: &Snapshot, first_page: LiveAddr, name: &str, read: &mut Read<'_>) -> Result<Slide, AnchorError> {
    let slide = binary.slide_at(first_page);
    check(binary, slide, name, read).map(|()| slide)
}

/// Whether every segment that the file holds is mapped from the same file, at its place.
fn fits(binary: &Snapshot, slide: Slide, base: u64, anchor: &Mapped, mapped: &[Mapped]) -> bool {
    binary.segments().iter().filter(|segment| segment.file_size > 0 && segment.access != Default::default()).all(
        |segment| {
            let live = slide.live(segment.start);
            let offset = base.wrapping_add(segment.file_offset);
            let holds = |part: &&Mapped| part.file == anchor.file && part.start <= live && live < part.end;
            let part = mapped.iter().find(holds);
            part.is_some_and(|part| part.offset.wrapping_add(live.0 - part.start.0) == offset)
        },
    )
}

/// Compares the second fact.
fn check(binary: &Snapshot, slide: Slide, name: &str, read: &mut Read<'_>) -> Result<(), AnchorError> {
    let identity = binary.identity();
    let (what, link, stated) = match identity.key_at {
        Some(at) => (identity.key.name(), at, identity.key.bytes()),
        None => match sample(binary) {
            Some((at, bytes)) => (Key::Contents(0).name(), at, bytes.to_vec()),
            None => return Err(mismatch("contents", slide.live(LinkAddr(0)), name, &[], &[])),
        },
    };
    let live = slide.live(link);
    let mut found = vec![0; stated.len()];
    if !read(live, &mut found) {
        found.clear();
    }
    if found == stated { Ok(()) } else { Err(mismatch(what, live, name, &stated, &found)) }
}

fn mismatch(what: &'static str, at: LiveAddr, name: &str, stated: &[u8], found: &[u8]) -> AnchorError {
    let digits = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    AnchorError::Mismatch { what, at, name: name.to_owned(), stated: digits(stated), found: digits(found) }
}

/// The first bytes that the file loads and nothing writes to.
fn sample(binary: &Snapshot) -> Option<(LinkAddr, &[u8])> {
    let fixed = |segment: &&Segment| segment.access.read && !segment.access.write && segment.file_size > 0;
    let segment = binary.segments().iter().find(fixed)?;
    Some((segment.start, binary.loaded(segment, segment.start, segment.file_size.min(SAMPLE))?))
}

fn floor(addr: u64, page: u64) -> u64 {
    addr & !(page - 1)
}
