//! What the image contains, how large it is, and where each part goes.
//!
//! Takes what must come along and the plans of the entries to be redirected; gives sizes first, and addresses once the
//! room is known. Three segments: constants (`R`), code (`RX`), variables and words for ld.so (`RW`), each beginning on a
//! page of its own.

use relive_wire::LiveAddr;
use relive_wire::near::{IMAGE_ALIGN, IMAGE_BIAS};
use rustc_hash::FxHashMap;

use crate::arch::x86_64::{FAR_JUMP_LEN, STUB_LEN};
use crate::arch::{EntryPlan, RelocKind};
use crate::binary::object::Role;
use crate::diff::reach::{PieceIndex, Reach, Referent};
use crate::diff::running::Body;
use crate::link::{LinkError, LinkedFunction, LinkedItem, Redirect, unwind};

pub(super) const PAGE: u64 = 0x1000;
/// The address of a piece that is no part of the image. Images begin above it.
const NOWHERE: LiveAddr = LiveAddr(0);

/// A word of the image that holds an address or an offset.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Word {
    /// The address that a pointer to the referent holds.
    Pointer(Referent),
    /// A thread-local's offset from the thread pointer.
    ThreadOffset(i64),
    /// An import, filled by ld.so.
    Import(usize),
}

/// Contents and sizes.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Offsets of pieces in their class.
    pieces: Vec<u64>,
    classes: Vec<Class>,
    pub(super) words: Vec<Word>,
    pub(super) word_at: FxHashMap<Word, usize>,
    stubs: usize,
    trampolines: Vec<u64>,
    /// Bytes of each class.
    sizes: [u64; CLASSES],
    pub(super) unwind_room: unwind::Room,
}

/// Where an image goes.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    /// Its first byte, aligned to [`IMAGE_ALIGN`].
    pub base: LiveAddr,
    /// Bytes available from there.
    pub room: u64,
    /// The word that holds the current table's address.
    pub table_word: LiveAddr,
    /// First unused entry of the table.
    pub first_index: u32,
}

/// Which segment and part a piece goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    ReadOnly,
    Text,
    RelRo,
    Data,
    Bss,
    /// No part of the image: storage in every thread.
    Thread,
}

const CLASSES: usize = 6;

/// Parts of the image with their addresses.
#[derive(Clone, Debug)]
pub(super) struct Map {
    pub(super) base: LiveAddr,
    pub(super) dynamic_names: Span,
    pub(super) unwind: Span,
    pub(super) unwind_header: Span,
    pub(super) read_only: Span,
    pub(super) text: Span,
    pub(super) rel_ro: Span,
    pub(super) dynamic: Span,
    pub(super) words_at: Span,
    pub(super) data: Span,
    pub(super) bss: Span,
    pub(super) end: LiveAddr,
    pub(super) pieces: Vec<LiveAddr>,
    pub(super) words: Vec<Word>,
    pub(super) word_at: FxHashMap<Word, usize>,
    pub(super) functions: Vec<LinkedFunction>,
    pub(super) stubs: Span,
    pub(super) far_stubs: Span,
    pub(super) table_word: LiveAddr,
    pub(super) data_items: Vec<LinkedItem>,
    pub(super) library_functions: Vec<LinkedItem>,
}

/// A range of the image.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    pub(super) start: LiveAddr,
    pub(super) size: u64,
}

impl Span {
    pub(super) fn end(self) -> LiveAddr {
        self.start.plus(self.size)
    }
}

fn class(role: Role) -> Option<Class> {
    match role {
        Role::Text => Some(Class::Text),
        Role::ReadOnly | Role::Lsda => Some(Class::ReadOnly),
        Role::RelRo => Some(Class::RelRo),
        Role::Data => Some(Class::Data),
        Role::Bss => Some(Class::Bss),
        Role::TlsData | Role::TlsBss => Some(Class::Thread),
        Role::EhFrame | Role::Debug | Role::Ignored => None,
    }
}

impl Layout {
    /// Sizes everything up.
    ///
    /// # Errors
    /// If a piece is of a kind that cannot be part of an image.
    pub fn new(reach: &Reach, entries: &[EntryPlan]) -> Result<Layout, LinkError> {
        let mut layout = Layout {
            pieces: Vec::with_capacity(reach.pieces.len()),
            classes: Vec::with_capacity(reach.pieces.len()),
            words: Vec::new(),
            word_at: FxHashMap::default(),
            stubs: reach.functions.iter().filter(|function| index_of(function).is_none()).count(),
            trampolines: Vec::new(),
            sizes: [0; CLASSES],
            unwind_room: unwind::room(reach),
        };
        let heads = (layout.stubs * STUB_LEN + reach.imports.len() * FAR_JUMP_LEN) as u64;
        let mut text = heads.next_multiple_of(16);
        for entry in entries {
            layout.trampolines.push(text);
            text += entry.trampoline_room().next_multiple_of(16);
        }
        layout.sizes[Class::Text as usize] = text;
        for piece in &reach.pieces {
            let object = reach.object(piece.object).ok_or_else(|| LinkError("a piece without object".into()))?;
            let section = object.section(piece.section);
            let class = class(section.role)
                .ok_or_else(|| LinkError(format!("section `{}` cannot be part of an image", section.name)))?;
            if class == Class::Thread {
                layout.pieces.push(0);
                layout.classes.push(class);
                continue;
            }
            let align = if class == Class::Text { section.align.max(16) } else { section.align };
            if align > PAGE {
                return Err(LinkError(format!("section `{}` is aligned to {align} bytes", section.name)));
            }
            let size = &mut layout.sizes[class as usize];
            let offset = size.next_multiple_of(align);
            *size = offset + section.size;
            layout.pieces.push(offset);
            layout.classes.push(class);
        }
        layout.collect_words(reach);
        Ok(layout)
    }

    fn collect_words(&mut self, reach: &Reach) {
        for import in 0..reach.imports.len() {
            self.word(Word::Import(import));
        }
        for piece in &reach.pieces {
            let Some(object) = reach.object(piece.object) else { continue };
            let frames = object.frames.of.get(&piece.section).map_or(&[][..], Vec::as_slice);
            let unwind = frames.iter().flat_map(|frame| {
                let cie = object.frames.cies.get(frame.cie).map_or(&[][..], |cie| cie.relocs.as_slice());
                frame.fde.relocs.iter().chain(cie)
            });
            for reloc in object.section(piece.section).relocs.iter().chain(unwind) {
                let referent = reach.referent(piece.object, reloc.symbol);
                match (reloc.kind, referent) {
                    (_, Referent::WordOf(inner)) => self.word(pointer_word(inner)),
                    (RelocKind::GotPcRel, referent) => self.word(pointer_word(referent)),
                    (RelocKind::GotTpOff, Referent::ThreadLocal(offset)) => self.word(Word::ThreadOffset(*offset)),
                    _ => {}
                }
            }
        }
    }

    fn word(&mut self, word: Word) {
        let next = self.words.len();
        let words = &mut self.words;
        self.word_at.entry(word).or_insert_with_key(|word| {
            words.push(word.clone());
            next
        });
    }

    /// How many new entries of the table the image needs.
    #[must_use]
    pub fn new_entries(&self) -> usize {
        self.stubs
    }

    /// Bytes of memory the image needs, at most.
    #[must_use]
    pub fn size(&self, reach: &Reach) -> u64 {
        let names: usize = reach.imports.iter().map(|name| name.len() + 1).sum();
        let fixed = names as u64 + (reach.imports.len() as u64 + 1) * (24 + 24) + self.unwind_room.total() + 0x400;
        let sum: u64 = self.sizes.iter().sum();
        sum + fixed + self.words.len() as u64 * 8 + 8 * PAGE
    }

    pub(super) fn place(&self, reach: &Reach, entries: &[EntryPlan], placement: &Placement) -> Result<Map, LinkError> {
        if !placement.base.0.is_multiple_of(IMAGE_ALIGN) || placement.base.0 <= IMAGE_BIAS {
            return Err(LinkError(format!("an image cannot be placed at {}", placement.base)));
        }
        let mut map = self.spans(reach, placement);
        if map.end.minus(placement.base) as u64 > placement.room {
            return Err(LinkError("the image is larger than the room reserved for it".into()));
        }
        for (offset, class) in self.pieces.iter().zip(&self.classes) {
            let span = match class {
                Class::ReadOnly => map.read_only,
                Class::Text => map.text,
                Class::RelRo => map.rel_ro,
                Class::Data => map.data,
                Class::Bss => map.bss,
                Class::Thread => {
                    map.pieces.push(NOWHERE);
                    continue;
                }
            };
            map.pieces.push(span.start.plus(*offset));
        }
        self.place_functions(reach, entries, placement, &mut map)?;
        let item = |planned: &crate::diff::reach::PlannedData| {
            let (piece, offset) = planned.at;
            map.pieces.get(piece.0).map(|start| LinkedItem {
                name: planned.name,
                addr: start.plus(offset),
                size: planned.size,
            })
        };
        let data_items = reach.data.iter().filter_map(item).collect();
        let library_functions = reach.library_functions.iter().filter_map(item).collect();
        map.data_items = data_items;
        map.library_functions = library_functions;
        Ok(map)
    }

    fn spans(&self, reach: &Reach, placement: &Placement) -> Map {
        let mut at = placement.base;
        let mut take = |size: u64, align: u64| {
            let start = LiveAddr(at.0.next_multiple_of(align));
            at = start.plus(size);
            Span { start, size }
        };
        let names: usize = reach.imports.iter().map(|name| name.len() + 1).sum();
        let imports = reach.imports.len() as u64;
        // Symbol table (24 bytes each), relocations (24 bytes each), then the strings.
        let dynamic_names = take((imports + 1) * 24 + imports * 24 + names as u64 + 1, 8);
        let unwind_header = take(self.unwind_room.header, 8);
        let unwind = take(self.unwind_room.entries, 8);
        let read_only = take(self.sizes[Class::ReadOnly as usize], 64);
        let text = take(self.sizes[Class::Text as usize], PAGE);
        let rel_ro = take(self.sizes[Class::RelRo as usize], PAGE);
        let dynamic = take(12 * 16, 16);
        let words_at = take(self.words.len() as u64 * 8, 8);
        let data = take(self.sizes[Class::Data as usize], PAGE);
        let bss = take(self.sizes[Class::Bss as usize], 64);
        let end = LiveAddr(bss.end().0.next_multiple_of(PAGE));
        let stubs = Span { start: text.start, size: (self.stubs * STUB_LEN) as u64 };
        let far_stubs = Span { start: stubs.end(), size: imports * FAR_JUMP_LEN as u64 };
        Map {
            base: placement.base,
            dynamic_names,
            unwind,
            unwind_header,
            read_only,
            text,
            rel_ro,
            dynamic,
            words_at,
            data,
            bss,
            end,
            pieces: Vec::with_capacity(self.pieces.len()),
            words: self.words.clone(),
            word_at: self.word_at.clone(),
            functions: Vec::with_capacity(reach.functions.len()),
            stubs,
            far_stubs,
            table_word: placement.table_word,
            data_items: Vec::new(),
            library_functions: Vec::new(),
        }
    }

    fn place_functions(
        &self,
        reach: &Reach,
        entries: &[EntryPlan],
        placement: &Placement,
        map: &mut Map,
    ) -> Result<(), LinkError> {
        let mut next = 0;
        for function in &reach.functions {
            let addr = piece_addr(map, function.piece)?;
            let piece = reach.pieces[function.piece.0];
            let size = reach.object(piece.object).map_or(0, |object| object.section(piece.section).size);
            let (index, stub) = match (index_of(function), &function.live) {
                (Some(index), Some(live)) => (index, live.call),
                (Some(_), None) | (None, _) => {
                    let stub = map.stubs.start.plus((next * STUB_LEN) as u64);
                    next += 1;
                    (placement.first_index + next as u32 - 1, stub)
                }
            };
            let live = function.live.as_ref();
            let mut redirects = Vec::new();
            if let Some(live) = live.filter(|live| live.index.is_none()) {
                for body in &live.bodies {
                    redirects.push(self.redirect(entries, body, stub, map)?);
                }
            }
            let older = live.map_or(Vec::new(), |live| live.older.iter().chain(&live.bodies).copied().collect());
            map.functions.push(LinkedFunction {
                name: function.name,
                text: function.text.clone(),
                index,
                stub,
                canonical: live.map_or(stub, |live| live.canonical),
                body: Body { addr, size },
                redirects,
                older,
            });
        }
        Ok(())
    }

    fn redirect(&self, entries: &[EntryPlan], body: &Body, stub: LiveAddr, map: &Map) -> Result<Redirect, LinkError> {
        let found = entries.iter().position(|entry| entry.at == body.addr);
        let Some(at) = found else { return Err(LinkError(format!("the entry at {} was not examined", body.addr))) };
        let trampoline = map.text.start.plus(self.trampolines.get(at).copied().unwrap_or(0));
        Ok(Redirect { entry: entries[at].clone(), stub, trampoline })
    }
}

fn index_of(function: &crate::diff::reach::PlannedFunction) -> Option<u32> {
    function.live.as_ref().and_then(|live| live.index)
}

pub(super) fn pointer_word(referent: &Referent) -> Word {
    if let Referent::Import(import) = referent { Word::Import(*import) } else { Word::Pointer(referent.clone()) }
}

pub(super) fn piece_addr(map: &Map, piece: PieceIndex) -> Result<LiveAddr, LinkError> {
    let addr = map.pieces.get(piece.0).copied().filter(|addr| *addr != NOWHERE);
    addr.ok_or_else(|| LinkError("a piece without address".into()))
}
