//! The snapshot of a linked binary: its symbols by name and by address, its units, segments, thread-local block, imports.
//!
//! Takes the bytes of an executable or shared library, ELF or Mach-O, x86-64 or aarch64, and gives a `Snapshot`, which
//! answers from two byte images: the binary itself, where names and code stay, and an index, which is built from it once
//! and read in place from then on. [`Snapshot::index`] is that image; who keeps it in a file opens it again with
//! [`Snapshot::open`], which refuses one that is damaged, cut off, or of another binary. Addresses are those stated in the
//! file; [`Slide`] converts them. Reads no files itself and changes no binary.

mod elf;
mod facts;
mod formats;
mod gather;
mod layout;
mod macho;
mod several;
mod write;

use std::ops::Range;

use relive_wire::LiveAddr;

pub use facts::{Access, Format, Identity, Key, Kind, Machine, Segment, TlsBlock};
pub use formats::{identity, slice};

use crate::binary::address::{LinkAddr, Slide};
use crate::binary::bytes::Bytes;
use crate::binary::object::{Binding, ObjectError, SymbolKind};
use facts::{About, Tag, hash, name_at};
use layout::{Header, Layout, SEGMENT, bucket, u32_at, u64_at};

/// One defined symbol of a binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BinarySymbol {
    /// Where it is. For a thread-local of an ELF file: its offset in the thread-local block; of a Mach-O file: where its
    /// descriptor is.
    pub addr: LinkAddr,
    /// Its size in bytes, as the file states it (ELF), or up to the next symbol of its section (Mach-O).
    pub size: u64,
    /// What it stands for.
    pub kind: SymbolKind,
    /// How widely it was seen after linking.
    pub binding: Binding,
    /// The unit that a local symbol comes from, 0 if none is named; see [`Snapshot::unit_name`].
    pub unit: u32,
    /// Offset of its name; see [`Snapshot::name`].
    name: u32,
}

/// What can be said of a function's entry without its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryShape {
    /// Bytes up to the next function, or to the end of the segment if none follows.
    pub room: u64,
    /// Whether several functions of different names share the code.
    pub shared: bool,
}

/// The symbols and facts of one binary.
#[derive(Debug)]
pub struct Snapshot {
    binary: Bytes,
    index: Bytes,
    about: About,
    layout: Layout,
    segments: Vec<Segment>,
    functions: usize,
    /// Functions and data.
    addressed: usize,
    symbols: usize,
    buckets: u32,
    first_page: LinkAddr,
}

impl Snapshot {
    /// Reads the binary in `data` and builds its index.
    ///
    /// # Errors
    /// If it is not a well-formed executable or shared library; the error names the step.
    pub fn read(data: Bytes) -> Result<Snapshot, ObjectError> {
        let index = Bytes::new(write::image(formats::read(&data)?)?);
        let (header, layout) = Header::read(&index)?;
        Ok(Snapshot::new(data, index, header, layout))
    }

    /// The binary in `data` with an index that was built from it before.
    ///
    /// # Errors
    /// If the index is damaged, cut off, of another version or of another binary, or the binary is none.
    pub fn open(index: Bytes, data: Bytes) -> Result<Snapshot, ObjectError> {
        let (header, layout) = Header::open(&index)?;
        let (stated, identity) = (&header.about.identity, identity(&data)?);
        if *stated != identity {
            let (stated, is) = (&stated.key, &identity.key);
            return Err(ObjectError(format!("index: it is of the binary {stated}, not of this one, which is {is}")));
        }
        Ok(Snapshot::new(data, index, header, layout))
    }

    fn new(binary: Bytes, index: Bytes, header: Header, layout: Layout) -> Snapshot {
        let Header { about, counts } = header;
        let segments: Vec<_> = (0..counts.segments as usize).map(|at| segment_at(&index, &layout, at)).collect();
        let first = segments.iter().map(|segment| segment.start).min().unwrap_or_default();
        let functions = counts.functions as usize;
        Snapshot {
            binary,
            index,
            about,
            layout,
            segments,
            functions,
            addressed: functions + counts.data as usize,
            symbols: counts.symbols() as usize,
            buckets: counts.buckets,
            first_page: LinkAddr(first.0 & !0xfff),
        }
    }

    /// The binary itself.
    #[must_use]
    pub fn data(&self) -> &Bytes {
        &self.binary
    }

    /// The index, to keep in a file.
    #[must_use]
    pub fn index(&self) -> &[u8] {
        &self.index
    }

    /// What tells the binary from others.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.about.identity
    }

    /// What the system makes of it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.about.kind
    }

    /// Whether its own symbol table was removed, so that only what it exports is known.
    #[must_use]
    pub fn is_stripped(&self) -> bool {
        self.about.stripped
    }

    /// What of it is loaded, by address.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The thread-local block of its threads.
    #[must_use]
    pub fn tls(&self) -> TlsBlock {
        self.about.tls
    }

    /// The address of its first loaded page.
    #[must_use]
    pub fn first_page(&self) -> LinkAddr {
        self.first_page
    }

    /// How far it is moved when its first page is loaded at `live`.
    #[must_use]
    pub fn slide_at(&self, live: LiveAddr) -> Slide {
        Slide::between(self.first_page, live)
    }

    /// All defined symbols called `name`.
    pub fn symbols<'a>(&'a self, name: &'a str) -> impl Iterator<Item = BinarySymbol> + 'a {
        let index: &[u8] = &self.index;
        let at = bucket(hash(name.as_bytes()), self.buckets);
        let head = |at: usize| u32_at(index, &self.layout.heads, at).unwrap_or_default() as usize;
        let items = (head(at)..head(at + 1)).map_while(move |at| u32_at(index, &self.layout.items, at));
        let symbols = items.filter_map(move |symbol| symbol_at(index, &self.layout, symbol as usize));
        let strings = self.strings();
        symbols.filter(move |symbol| is_named(strings, symbol.name, name.as_bytes()))
    }

    /// All defined symbols: functions by address, data by address, thread-locals.
    pub fn all(&self) -> impl Iterator<Item = BinarySymbol> + '_ {
        let index: &[u8] = &self.index;
        (0..self.symbols).filter_map(move |at| symbol_at(index, &self.layout, at))
    }

    /// The name of a symbol, empty if it is no UTF-8.
    #[must_use]
    pub fn name(&self, symbol: &BinarySymbol) -> &str {
        std::str::from_utf8(name_at(self.strings(), symbol.name)).unwrap_or_default()
    }

    /// The name that a [`BinarySymbol::unit`] stands for, empty if none.
    #[must_use]
    pub fn unit_name(&self, unit: u32) -> &str {
        let at = (unit as usize).checked_sub(1).and_then(|at| u32_at(&self.index, &self.layout.units, at));
        at.and_then(|at| std::str::from_utf8(name_at(self.strings(), at)).ok()).unwrap_or_default()
    }

    /// How many units the binary names.
    #[must_use]
    pub fn units(&self) -> u32 {
        (self.layout.units.len() / 4) as u32
    }

    /// The function whose code, as far as its size is known, `addr` lies in.
    #[must_use]
    pub fn function_at(&self, addr: LinkAddr) -> Option<BinarySymbol> {
        let after = self.functions_until(addr);
        let symbol = symbol_at(&self.index, &self.layout, after.checked_sub(1)?)?;
        let inside = addr.0.checked_sub(symbol.addr.0)?;
        (inside == 0 || inside < symbol.size).then_some(symbol)
    }

    /// The variables that begin at `addr`.
    pub fn data_at(&self, addr: LinkAddr) -> impl Iterator<Item = BinarySymbol> {
        let first = self.position(self.functions, self.addressed, |start| start < addr.0);
        let symbols = (first..self.addressed).map_while(|at| symbol_at(&self.index, &self.layout, at));
        let here = symbols.take_while(move |symbol| symbol.addr == addr);
        here.filter(|symbol| symbol.kind == SymbolKind::Object && symbol.size > 0)
    }

    /// How many functions begin at `addr` or before it.
    fn functions_until(&self, addr: LinkAddr) -> usize {
        self.position(0, self.functions, |start| start <= addr.0)
    }

    /// The first symbol from `low` on, at most `high`, whose address is not before what is looked for.
    fn position(&self, mut low: usize, mut high: usize, is_before: impl Fn(u64) -> bool) -> usize {
        while low < high {
            let middle = low + (high - low) / 2;
            match u64_at(&self.index, &self.layout.addresses, middle) {
                Some(start) if is_before(start) => low = middle + 1,
                Some(_) | None => high = middle,
            }
        }
        low
    }

    /// Whether several functions of different names share the code at `addr`.
    #[must_use]
    pub fn is_shared(&self, addr: LinkAddr) -> bool {
        let before = self.functions_until(addr).checked_sub(2);
        before.and_then(|at| u64_at(&self.index, &self.layout.addresses, at)) == Some(addr.0)
    }

    /// Where the function after the one at `addr` begins; the end of the text segment if none follows.
    #[must_use]
    pub fn next_function(&self, addr: LinkAddr) -> Option<LinkAddr> {
        let end = self.text(addr)?.end();
        let after = self.functions_until(addr);
        let next = u64_at(&self.index, &self.layout.addresses, after).filter(|_| after < self.functions);
        // An index that was made to deceive may have them in any order.
        Some(next.map_or(end, |next| LinkAddr(next.clamp(addr.0, end.0))))
    }

    /// The shape of a function's entry at `addr`; `None` outside of code.
    #[must_use]
    pub fn entry_shape(&self, addr: LinkAddr) -> Option<EntryShape> {
        Some(EntryShape { room: self.next_function(addr)?.0.saturating_sub(addr.0), shared: self.is_shared(addr) })
    }

    fn text(&self, addr: LinkAddr) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.access.execute && segment.contains(addr))
    }

    /// Whether the binary imports `name` from another.
    #[must_use]
    pub fn imports(&self, name: &str) -> bool {
        let (mut low, mut high) = (0, self.import_count());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.import_at(middle).cmp(name.as_bytes()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return true,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        false
    }

    /// The names of all imports, in their order; those that are no UTF-8 are left out.
    pub fn import_names(&self) -> impl Iterator<Item = &str> {
        (0..self.import_count()).filter_map(|at| std::str::from_utf8(self.import_at(at)).ok())
    }

    fn import_count(&self) -> usize {
        self.layout.imports.len() / 4
    }

    fn import_at(&self, at: usize) -> &[u8] {
        let at = u32_at(&self.index, &self.layout.imports, at).unwrap_or(u32::MAX);
        name_at(self.part(&self.about.import_strings), at)
    }

    /// What the file holds for `len` bytes of code at `addr`.
    #[must_use]
    pub fn code(&self, addr: LinkAddr, len: u64) -> Option<&[u8]> {
        let segment = self.text(addr)?;
        self.loaded(segment, addr, len)
    }

    /// What the file holds for `len` bytes of a loaded segment at `addr`.
    pub(crate) fn loaded(&self, segment: &Segment, addr: LinkAddr, len: u64) -> Option<&[u8]> {
        let inside = addr.0.checked_sub(segment.start.0)?;
        let start = segment.file_offset.checked_add(inside)?;
        let end =
            start.checked_add(len).filter(|_| inside.checked_add(len).is_some_and(|end| end <= segment.file_size))?;
        self.binary.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }

    /// Offset of a thread-local from the thread pointer, of an ELF executable, whose block has a fixed place. x86-64 has it
    /// end at the thread pointer (psABI, TLS variant II), aarch64 has it begin 16 bytes after, aligned (variant I).
    #[must_use]
    pub fn tp_offset(&self, offset_in_block: u64) -> i64 {
        let TlsBlock { size, align, .. } = self.about.tls;
        let align = align.max(1);
        match self.about.identity.machine {
            Machine::X86_64 => offset_in_block.wrapping_sub(size.next_multiple_of(align)) as i64,
            Machine::Aarch64 => offset_in_block.wrapping_add(16_u64.next_multiple_of(align)) as i64,
        }
    }

    /// How many functions it defines.
    #[must_use]
    pub fn functions(&self) -> usize {
        self.functions
    }

    /// How many symbols it defines that have an address of their own, not one in each thread.
    #[must_use]
    pub fn addressed(&self) -> usize {
        self.addressed
    }

    /// How many symbols it defines.
    #[must_use]
    pub fn len(&self) -> usize {
        self.symbols
    }

    /// Whether it defines none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.symbols == 0
    }

    fn strings(&self) -> &[u8] {
        self.part(&self.about.strings)
    }

    fn part(&self, range: &Range<u64>) -> &[u8] {
        self.binary.get(range.start as usize..range.end as usize).unwrap_or_default()
    }
}

fn is_named(strings: &[u8], at: u32, name: &[u8]) -> bool {
    let rest = strings.get(at as usize..).and_then(|rest| rest.strip_prefix(name));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(0)))
}

fn symbol_at(index: &[u8], layout: &Layout, at: usize) -> Option<BinarySymbol> {
    let tag = Tag(u32_at(index, &layout.tags, at)?);
    Some(BinarySymbol {
        addr: LinkAddr(u64_at(index, &layout.addresses, at)?),
        size: u64_at(index, &layout.sizes, at)?,
        kind: tag.kind(),
        binding: tag.binding(),
        unit: tag.unit(),
        name: u32_at(index, &layout.names, at)?,
    })
}

fn segment_at(index: &[u8], layout: &Layout, at: usize) -> Segment {
    let word = |nth: usize| u64_at(index, &layout.segments, at * (SEGMENT / 8) + nth).unwrap_or_default();
    let bits = word(4);
    Segment {
        start: LinkAddr(word(0)),
        size: word(1),
        file_offset: word(2),
        file_size: word(3),
        access: Access { read: bits & 1 != 0, write: bits & 2 != 0, execute: bits & 4 != 0 },
    }
}
