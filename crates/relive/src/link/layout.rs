//! What the image contains, how large it is, and where each part goes.
//!
//! Takes what must come along and the plans of the entries to be redirected; gives sizes first, and addresses once the
//! room in an arena is known: one range each for constants, code, variables and unwind entries. What the program itself
//! never writes is a constant, relocated data and words for addresses included.

use relive_wire::LiveAddr;
use rustc_hash::FxHashMap;

use crate::arch::EntryPlan;
use crate::arch::reloc::Operand;
use crate::arch::x86_64::{FAR_JUMP_LEN, STUB_LEN};
use crate::binary::object::Role;
use crate::diff::reach::{PieceIndex, Reach, Referent};
use crate::diff::running::Body;
use crate::link::{ArenaFile, LinkError, LinkedFunction, LinkedItem, Redirect, unwind};

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
    /// An import: where the program's loader finds it.
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
    /// Bytes of each class, and what its beginning is aligned to.
    sizes: [u64; CLASSES],
    aligns: [u64; CLASSES],
    pub(super) unwind_room: unwind::Room,
}

/// Room that an image takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Code.
    pub text: Extent,
    /// What the program does not write.
    pub constants: Extent,
    /// What it writes.
    pub variables: Extent,
    /// Unwind entries.
    pub frames: Extent,
    /// How many functions the unwind entries are for.
    pub searched: u64,
}

/// A number of bytes, and what the first of them is aligned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes.
    pub size: u64,
    /// A power of two, at most a page.
    pub align: u64,
}

/// Where an image goes: the beginnings of the room that it [needs](Layout::needs).
#[derive(Clone, Copy, Debug)]
pub struct Placement<'a> {
    /// Of its code, on a page.
    pub text: LiveAddr,
    /// Of its constants.
    pub constants: LiveAddr,
    /// Of its variables.
    pub variables: LiveAddr,
    /// Of its unwind entries.
    pub frames: LiveAddr,
    /// The arena's `.eh_frame_hdr`, which its search table's distances count from.
    pub search: LiveAddr,
    /// The arena's file.
    pub file: &'a ArenaFile,
    /// The addresses of [`Reach::imports`].
    pub imports: &'a [LiveAddr],
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
pub(super) struct Map<'a> {
    pub(super) placement: Placement<'a>,
    pub(super) at: Parts,
    pub(super) pieces: Vec<LiveAddr>,
    pub(super) words: Vec<Word>,
    pub(super) word_at: FxHashMap<Word, usize>,
    pub(super) functions: Vec<LinkedFunction>,
    pub(super) stubs: Span,
    pub(super) far_stubs: Span,
    pub(super) data_items: Vec<LinkedItem>,
    pub(super) library_functions: Vec<LinkedItem>,
}

/// The ranges that an image takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    pub(super) text: Span,
    /// The next three.
    pub(super) constants: Span,
    pub(super) read_only: Span,
    pub(super) rel_ro: Span,
    pub(super) words_at: Span,
    /// The next two.
    pub(super) variables: Span,
    pub(super) data: Span,
    pub(super) bss: Span,
    pub(super) frames: Span,
}

/// A range of addresses.
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
        Role::EhFrame | Role::CompactUnwind | Role::Debug | Role::Ignored => None,
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
            aligns: [16; CLASSES],
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
            let strictest = &mut layout.aligns[class as usize];
            *strictest = align.max(*strictest);
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
            for reloc in object.section(piece.section).relocs.iter().chain(object.frames.relocs(piece.section)) {
                let referent = reach.referent(piece.object, reloc.symbol);
                match (reloc.kind.operand(), referent) {
                    (_, Referent::WordOf(inner)) => self.word(pointer_word(inner)),
                    (Some(Operand::Got | Operand::GotLoad), referent) => self.word(pointer_word(referent)),
                    (Some(Operand::GotThreadOffset), Referent::ThreadLocal(offset)) => {
                        self.word(Word::ThreadOffset(*offset));
                    }
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

    /// The room that the image needs.
    #[must_use]
    pub fn needs(&self) -> Needs {
        // Every part begins at what is aligned for it, so sizes do not depend on where.
        let at = self.parts([LiveAddr(0); 4]);
        let strictest = |classes: &[Class]| classes.iter().map(|class| self.aligns[*class as usize]).max().unwrap_or(1);
        Needs {
            text: Extent { size: at.text.size, align: PAGE },
            constants: Extent { size: at.constants.size, align: strictest(&[Class::ReadOnly, Class::RelRo]) },
            variables: Extent { size: at.variables.size, align: strictest(&[Class::Data, Class::Bss]) },
            frames: Extent { size: at.frames.size, align: unwind::ALIGN },
            searched: self.unwind_room.count,
        }
    }

    pub(super) fn place<'a>(
        &self,
        reach: &Reach,
        entries: &[EntryPlan],
        placement: &Placement<'a>,
    ) -> Result<Map<'a>, LinkError> {
        let needs = self.needs();
        for (start, align) in [
            (placement.text, PAGE),
            (placement.constants, needs.constants.align),
            (placement.variables, needs.variables.align),
            (placement.frames, needs.frames.align),
        ] {
            if start.0 == 0 || !start.0.is_multiple_of(align) {
                return Err(LinkError(format!("a part aligned to {align} bytes cannot be placed at {start}")));
            }
        }
        if placement.imports.len() != reach.imports.len() {
            return Err(LinkError("not every import has an address".into()));
        }
        let at = self.parts([placement.text, placement.constants, placement.variables, placement.frames]);
        let imports = reach.imports.len();
        let stubs = Span { start: at.text.start, size: (self.stubs * STUB_LEN) as u64 };
        let far_stubs = Span { start: stubs.end(), size: (imports * FAR_JUMP_LEN) as u64 };
        let mut map = Map {
            placement: *placement,
            at,
            stubs,
            far_stubs,
            pieces: Vec::with_capacity(self.pieces.len()),
            words: self.words.clone(),
            word_at: self.word_at.clone(),
            functions: Vec::with_capacity(reach.functions.len()),
            data_items: Vec::new(),
            library_functions: Vec::new(),
        };
        for (offset, class) in self.pieces.iter().zip(&self.classes) {
            let span = match class {
                Class::ReadOnly => at.read_only,
                Class::Text => at.text,
                Class::RelRo => at.rel_ro,
                Class::Data => at.data,
                Class::Bss => at.bss,
                Class::Thread => {
                    map.pieces.push(NOWHERE);
                    continue;
                }
            };
            map.pieces.push(span.start.plus(*offset));
        }
        self.place_functions(reach, entries, &mut map)?;
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

    /// Every part, from the beginnings of code, constants, variables and unwind entries on.
    fn parts(&self, [text, constants, variables, frames]: [LiveAddr; 4]) -> Parts {
        let part = |start: LiveAddr, class: Class| Span {
            start: LiveAddr(start.0.next_multiple_of(self.aligns[class as usize])),
            size: self.sizes[class as usize],
        };
        let read_only = part(constants, Class::ReadOnly);
        let rel_ro = part(read_only.end(), Class::RelRo);
        let words_at = Span { start: LiveAddr(rel_ro.end().0.next_multiple_of(8)), size: self.words.len() as u64 * 8 };
        let data = part(variables, Class::Data);
        let bss = part(data.end(), Class::Bss);
        let between = |start: LiveAddr, end: LiveAddr| Span { start, size: end.minus(start) as u64 };
        Parts {
            text: part(text, Class::Text),
            constants: between(constants, words_at.end()),
            read_only,
            rel_ro,
            words_at,
            variables: between(variables, bss.end()),
            data,
            bss,
            frames: Span { start: frames, size: self.unwind_room.entries },
        }
    }

    fn place_functions(&self, reach: &Reach, entries: &[EntryPlan], map: &mut Map) -> Result<(), LinkError> {
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
                    (map.placement.first_index + next as u32 - 1, stub)
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
        let trampoline = map.at.text.start.plus(self.trampolines.get(at).copied().unwrap_or(0));
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
