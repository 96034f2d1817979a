//! How an index is laid out: one contiguous little-endian byte image, written once and read in place.
//!
//! ```text
//! header      512 bytes, see `Header`
//! segments    5 × u64 each: address, size, offset in the file, size in the file, access
//! addresses   u64 per symbol   functions by address, then data by address, then thread-locals by offset
//! sizes       u64 per symbol
//! names       u32 per symbol   offsets in the binary's own table of names
//! tags        u32 per symbol   kind, binding, unit
//! units       u32 per unit     offsets in the same table
//! imports     u32 per import   offsets in the table of imports' names, in the order of the names
//! heads       u32 per bucket and one more: where the bucket begins among the items
//! items       u32 per symbol   numbers of symbols, bucket by bucket
//! ```
//!
//! A name is in the bucket `hash × buckets / 2^32`. Names and code stay in the binary: an index is of use only together
//! with the file it was made of, which its key, size and headers tell. This module converts and checks; it reads no
//! binaries.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use super::facts::{About, Format, Identity, KEY_MAX, Key, Kind, Machine, TlsBlock};
use crate::binary::address::LinkAddr;
use crate::binary::object::ObjectError;

/// The first bytes of an index.
const MAGIC: [u8; 8] = *b"RELIVEIX";

/// Raised with every change of this layout or of what readers of binaries make of them.
pub(super) const VERSION: u32 = 1;

/// Bytes of the header.
pub(super) const HEADER: usize = 512;

/// Where the part begins that the checksum is of; before it stand magic, version, header size, total size, checksum.
const CHECKED: usize = 32;

/// Bytes of a segment.
pub(super) const SEGMENT: usize = 40;

/// Stands for no address.
const NOWHERE: u64 = u64::MAX;

/// How many of everything there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) segments: u32,
    pub(super) functions: u32,
    pub(super) data: u32,
    pub(super) thread_locals: u32,
    pub(super) units: u32,
    pub(super) imports: u32,
    pub(super) buckets: u32,
}

impl Counts {
    /// Symbols of all three groups.
    pub(super) fn symbols(&self) -> u64 {
        u64::from(self.functions) + u64::from(self.data) + u64::from(self.thread_locals)
    }
}

/// Where everything is in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) segments: Range<usize>,
    pub(super) addresses: Range<usize>,
    pub(super) sizes: Range<usize>,
    pub(super) names: Range<usize>,
    pub(super) tags: Range<usize>,
    pub(super) units: Range<usize>,
    pub(super) imports: Range<usize>,
    pub(super) heads: Range<usize>,
    pub(super) items: Range<usize>,
}

impl Layout {
    /// `None` if it would be larger than memory.
    pub(super) fn of(counts: &Counts) -> Option<Layout> {
        let mut end = HEADER as u64;
        let mut next = |count: u64, width: u64| {
            let start = end;
            end = start.checked_add(count.checked_mul(width)?)?;
            Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
        };
        let symbols = counts.symbols();
        Some(Layout {
            segments: next(counts.segments.into(), SEGMENT as u64)?,
            addresses: next(symbols, 8)?,
            sizes: next(symbols, 8)?,
            names: next(symbols, 4)?,
            tags: next(symbols, 4)?,
            units: next(counts.units.into(), 4)?,
            imports: next(counts.imports.into(), 4)?,
            heads: next(u64::from(counts.buckets) + 1, 4)?,
            items: next(symbols, 4)?,
        })
    }

    /// Bytes of the image.
    pub(super) fn total(&self) -> usize {
        self.items.end
    }
}

/// What the first bytes of an index say.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) about: About,
    pub(super) counts: Counts,
}

impl Header {
    /// Writes the header into the first bytes of `image`, and last the checksum of all that follows it.
    pub(super) fn seal(&self, image: &mut [u8]) {
        let mut out = Writer { image, at: CHECKED };
        let About { identity, kind, stripped, tls, strings, import_strings } = &self.about;
        let (key_kind, key) = match &identity.key {
            Key::BuildId(id) => (0, id.clone()),
            Key::Uuid(uuid) => (1, uuid.to_vec()),
            Key::Contents(_) => (2, identity.key.bytes()),
        };
        out.u32(key_kind);
        out.u32(key.len() as u32);
        let mut field = [0; KEY_MAX];
        field.iter_mut().zip(&key).for_each(|(place, byte)| *place = *byte);
        out.bytes(&field);
        out.u64(identity.key_at.map_or(NOWHERE, |at| at.0));
        out.u64(identity.size);
        out.u64(identity.headers);
        out.u32(match identity.format {
            Format::Elf => 0,
            Format::MachO => 1,
        });
        out.u32(match identity.machine {
            Machine::X86_64 => 0,
            Machine::Aarch64 => 1,
        });
        out.u32(match kind {
            Kind::FixedExecutable => 0,
            Kind::Executable => 1,
            Kind::SharedLibrary => 2,
        });
        out.u32(u32::from(*stripped));
        [tls.size, tls.align, tls.start.0].into_iter().for_each(|number| out.u64(number));
        [strings, import_strings].into_iter().flat_map(|range| [range.start, range.end]).for_each(|at| out.u64(at));
        let Counts { segments, functions, data, thread_locals, units, imports, buckets } = self.counts;
        [segments, functions, data, thread_locals, units, imports, buckets].into_iter().for_each(|n| out.u32(n));
        let total = out.image.len() as u64;
        out.at = 0;
        out.bytes(&MAGIC);
        out.u32(VERSION);
        out.u32(HEADER as u32);
        out.u64(total);
        let checksum = checksum(out.image);
        out.u64(checksum);
    }

    /// Reads the header of a whole index from somewhere else.
    ///
    /// # Errors
    /// If it is no index, one of another version, cut off, or damaged.
    pub(super) fn open(image: &[u8]) -> Result<(Header, Layout), ObjectError> {
        let read = Header::read(image)?;
        let stated = Reader { image, at: CHECKED - size_of::<u64>() }.u64();
        if stated == checksum(image) { Ok(read) } else { Err(ObjectError("index: its checksum is another".into())) }
    }

    /// The same for an index that was just made: its bytes are what was written.
    pub(super) fn read(image: &[u8]) -> Result<(Header, Layout), ObjectError> {
        let wrong = |what: &str| Err(ObjectError(format!("index: {what}")));
        let mut read = Reader { image, at: 0 };
        if read.bytes() != MAGIC {
            return wrong("it does not begin as an index does");
        }
        let (version, header, total) = (read.u32(), read.u32(), read.u64());
        if version != VERSION || header != HEADER as u32 {
            return wrong(&format!("it is of version {version}, and this is version {VERSION}"));
        }
        if total != image.len() as u64 || image.len() < HEADER {
            return wrong(&format!("it has {} bytes and says {total}", image.len()));
        }
        let _checksum = read.u64();
        let Some(header) = Header::decode(read) else { return wrong("its header is not understood") };
        let layout = Layout::of(&header.counts).filter(|layout| layout.total() == image.len());
        match layout {
            Some(layout) => Ok((header, layout)),
            None => wrong("it has not the size that its parts have"),
        }
    }

    fn decode(mut read: Reader<'_>) -> Option<Header> {
        let (key_kind, key_len) = (read.u32(), read.u32() as usize);
        let field: [u8; KEY_MAX] = read.bytes();
        let key = field.get(..key_len)?;
        let key = match key_kind {
            0 => Key::BuildId(key.to_vec()),
            1 => Key::Uuid(key.try_into().ok()?),
            2 => Key::Contents(u128::from_be_bytes(key.try_into().ok()?)),
            _ => return None,
        };
        let (key_at, size, headers) = (read.u64(), read.u64(), read.u64());
        let format = [Format::Elf, Format::MachO].get(read.u32() as usize).copied()?;
        let machine = [Machine::X86_64, Machine::Aarch64].get(read.u32() as usize).copied()?;
        let kind = [Kind::FixedExecutable, Kind::Executable, Kind::SharedLibrary].get(read.u32() as usize).copied()?;
        let stripped = read.u32() != 0;
        let tls = TlsBlock { size: read.u64(), align: read.u64(), start: LinkAddr(read.u64()) };
        if !tls.is_possible() {
            return None;
        }
        let strings = read.u64()..read.u64();
        let import_strings = read.u64()..read.u64();
        let counts = Counts {
            segments: read.u32(),
            functions: read.u32(),
            data: read.u32(),
            thread_locals: read.u32(),
            units: read.u32(),
            imports: read.u32(),
            buckets: read.u32(),
        };
        let key_at = (key_at != NOWHERE).then_some(LinkAddr(key_at));
        let identity = Identity { format, machine, key, key_at, size, headers };
        Some(Header { about: About { identity, kind, stripped, tls, strings, import_strings }, counts })
    }
}

/// XXH3-64 of all that follows the checksum.
fn checksum(image: &[u8]) -> u64 {
    xxh3_64(image.get(CHECKED..).unwrap_or_default())
}

/// Puts numbers one after the other.
struct Writer<'a> {
    image: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        let place = self.image.iter_mut().skip(self.at);
        place.zip(bytes).for_each(|(place, byte)| *place = *byte);
        self.at += bytes.len();
    }

    fn u32(&mut self, number: u32) {
        self.bytes(&number.to_le_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }
}

/// Takes numbers one after the other; what lies behind the end is zero.
struct Reader<'a> {
    image: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let bytes = self.image.get(self.at..).and_then(|rest| rest.first_chunk()).copied();
        self.at += N;
        bytes.unwrap_or([0; N])
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }
}

/// The `at`-th word of a part of the image.
pub(super) fn u32_at(image: &[u8], part: &Range<usize>, at: usize) -> Option<u32> {
    let start = part.start.checked_add(at.checked_mul(4)?)?;
    image.get(start..part.end)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// The `at`-th double word of a part of the image.
pub(super) fn u64_at(image: &[u8], part: &Range<usize>, at: usize) -> Option<u64> {
    let start = part.start.checked_add(at.checked_mul(8)?)?;
    image.get(start..part.end)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// The bucket that names of a hash are in.
pub(super) fn bucket(hash: u32, buckets: u32) -> usize {
    ((u64::from(hash) * u64::from(buckets)) >> 32) as usize
}
