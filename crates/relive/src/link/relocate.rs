//! The bytes of every part of the image, with each relocation computed and range-checked.
//!
//! `apply` does the work; where things are is said here. Two rules are ours: a *call* of a function that patches may replace goes to its
//! stub; a *pointer* to it is its canonical entry, so that pointers to one function are equal in old and new code. A label
//! inside a function (a jump table's target) is always the body at hand.

use relive_wire::LiveAddr;

use crate::arch::RelocKind;
use crate::arch::x86_64::{self, FAR_JUMP_LEN};
use crate::binary::object::{Object, Place, Reloc, Role, SymbolId};
use crate::diff::reach::{ObjectIndex, Piece, Reach, Referent};
use crate::link::apply::{Linkage, Target, WordKind, apply};
use crate::link::layout::{Map, Span, Word, piece_addr, pointer_word};
use crate::link::{FirstValue, LinkError, unwind};

/// The bytes of the image's parts, and of the storage that is none of them.
pub(super) struct Contents {
    pub(super) frames: Vec<u8>,
    /// Entries of the search table: distances of function and unwind entry from its header.
    pub(super) search: Vec<u8>,
    pub(super) constants: Vec<u8>,
    pub(super) text: Vec<u8>,
    pub(super) data: Vec<u8>,
    pub(super) first_values: Vec<FirstValue>,
}

pub(super) fn contents(reach: &Reach, map: &Map) -> Result<Contents, LinkError> {
    let mut out = Contents {
        frames: Vec::new(),
        search: Vec::new(),
        constants: filled(map.at.constants, 0),
        text: filled(map.at.text, 0xcc),
        data: filled(map.at.data, 0),
        first_values: first_values(reach, map)?,
    };
    stubs(map, &mut out.text)?;
    let words_at = map.at.words_at.start.minus(map.at.constants.start) as usize;
    out.constants.get_mut(words_at..).unwrap_or_default().copy_from_slice(&words(map)?);
    for (piece, addr) in reach.pieces.iter().zip(&map.pieces) {
        let object = object(reach, piece.object)?;
        let section = object.section(piece.section);
        let (span, bytes) = match section.role {
            Role::Text => (map.at.text, &mut out.text),
            Role::ReadOnly | Role::Lsda | Role::RelRo => (map.at.constants, &mut out.constants),
            Role::Data => (map.at.data, &mut out.data),
            Role::Bss | Role::TlsData | Role::TlsBss => continue,
            Role::EhFrame | Role::CompactUnwind | Role::Debug | Role::Ignored => {
                return Err(LinkError(format!("section `{}` cannot be part of an image", section.name)));
            }
        };
        let start = addr.minus(span.start) as usize;
        let source = object.bytes(piece.section);
        let field = bytes
            .get_mut(start..start + source.len())
            .ok_or_else(|| LinkError("a piece outside its segment".into()))?;
        field.copy_from_slice(source);
        relocate_piece(reach, map, object, piece, *addr, field)?;
    }
    (out.search, out.frames) = unwind::write(reach, map)?;
    Ok(out)
}

/// What new thread-locals begin with, their storage block by block.
fn first_values(reach: &Reach, map: &Map) -> Result<Vec<FirstValue>, LinkError> {
    let mut out = Vec::with_capacity(reach.threads.blocks.len());
    for block in &reach.threads.blocks {
        let piece = reach.pieces.get(block.piece.0).ok_or_else(|| LinkError("a block without piece".into()))?;
        let object = object(reach, piece.object)?;
        let source = object.bytes(piece.section);
        let mut bytes = vec![0; block.size as usize];
        let field = bytes.get_mut(..source.len()).ok_or_else(|| LinkError("a block that is too small".into()))?;
        field.copy_from_slice(source);
        // There is one such block in every thread, so nothing in it can be relative to where it is.
        let relative = |reloc: &&Reloc| !matches!(reloc.kind, RelocKind::ABS64 | RelocKind::NONE);
        if let Some(reloc) = object.section(piece.section).relocs.iter().find(relative) {
            return Err(at(object, piece, reloc, "not expected in a thread-local"));
        }
        relocate_piece(reach, map, object, piece, LiveAddr(0), field)?;
        out.push(FirstValue { offset: block.offset, bytes });
    }
    Ok(out)
}

fn filled(span: Span, fill: u8) -> Vec<u8> {
    vec![fill; span.size as usize]
}

pub(super) fn object(reach: &Reach, index: ObjectIndex) -> Result<&Object, LinkError> {
    reach.object(index).map(|object| &**object).ok_or_else(|| LinkError("a piece without object".into()))
}

fn words(map: &Map) -> Result<Vec<u8>, LinkError> {
    let mut out = Vec::with_capacity(map.words.len() * 8);
    for word in &map.words {
        let value = match word {
            Word::Pointer(referent) => pointer(map, referent).ok_or_else(|| broken(referent))?.0,
            Word::ThreadOffset(offset) => *offset as u64,
            Word::Import(import) => {
                map.placement.imports.get(*import).copied().ok_or_else(|| broken_import(*import))?.0
            }
        };
        out.extend(value.to_le_bytes());
    }
    Ok(out)
}

fn broken_import(import: usize) -> LinkError {
    LinkError(format!("import number {import} has no address"))
}

fn broken(referent: &Referent) -> LinkError {
    LinkError(format!("a word for {referent:?} cannot be made"))
}

fn stubs(map: &Map, text: &mut [u8]) -> Result<(), LinkError> {
    let far = || LinkError("the table is out of reach of the image".into());
    let mut put = |at: LiveAddr, bytes: &[u8]| -> Result<(), LinkError> {
        let start = at.minus(map.at.text.start) as usize;
        let field =
            text.get_mut(start..start + bytes.len()).ok_or_else(|| LinkError("a stub outside the code".into()))?;
        field.copy_from_slice(bytes);
        Ok(())
    };
    for function in &map.functions {
        if map.stubs.start <= function.stub && function.stub < map.stubs.end() {
            put(
                function.stub,
                &x86_64::stub(function.stub, map.placement.table_word, function.index).ok_or_else(far)?,
            )?;
        }
        for redirect in &function.redirects {
            let code = redirect.entry.trampoline(redirect.trampoline).map_err(LinkError)?;
            if code.len() as u64 > redirect.entry.trampoline_room() {
                return Err(LinkError("a trampoline is longer than its room".into()));
            }
            put(redirect.trampoline, &code)?;
        }
    }
    for (at, word) in map.words.iter().enumerate() {
        if let Word::Import(import) = word {
            let stub = far_stub(map, *import);
            let pointer = map.at.words_at.start.plus(at as u64 * 8);
            put(stub, &x86_64::far_jump(stub, pointer).ok_or_else(far)?)?;
        }
    }
    Ok(())
}

fn far_stub(map: &Map, import: usize) -> LiveAddr {
    map.far_stubs.start.plus((import * FAR_JUMP_LEN) as u64)
}

/// The address that a pointer to `referent` holds; `None` if it is no constant of the image.
pub(super) fn pointer(map: &Map, referent: &Referent) -> Option<LiveAddr> {
    match referent {
        Referent::Piece(piece, offset) => Some(piece_addr(map, *piece).ok()?.plus(*offset)),
        Referent::Function(function) => Some(map.functions.get(function.0)?.canonical),
        Referent::LiveFunction { canonical, .. } => Some(*canonical),
        Referent::LiveData(addr) => Some(*addr),
        Referent::Absolute(value) => Some(LiveAddr(*value)),
        Referent::Null => Some(LiveAddr(0)),
        Referent::WordOf(inner) => {
            let index = map.word_at.get(&pointer_word(inner))?;
            Some(map.at.words_at.start.plus(*index as u64 * 8))
        }
        Referent::ThreadLocal(_) | Referent::Import(_) | Referent::Broken => None,
    }
}

/// Where a call of `referent` goes.
fn callee(map: &Map, referent: &Referent) -> Option<LiveAddr> {
    match referent {
        Referent::Function(function) => Some(map.functions.get(function.0)?.stub),
        Referent::LiveFunction { call, .. } => Some(*call),
        Referent::Import(import) => Some(far_stub(map, *import)),
        Referent::Piece(..)
        | Referent::LiveData(_)
        | Referent::ThreadLocal(_)
        | Referent::WordOf(_)
        | Referent::Absolute(_)
        | Referent::Null
        | Referent::Broken => pointer(map, referent),
    }
}

fn relocate_piece(
    reach: &Reach,
    map: &Map,
    object: &Object,
    piece: &Piece,
    addr: LiveAddr,
    bytes: &mut [u8],
) -> Result<(), LinkError> {
    let section = object.section(piece.section);
    let source = object.bytes(piece.section);
    let mut links = Links { reach, map, object, index: piece.object, role: section.role, source, body: None };
    let mut target = links.target(addr, bytes);
    let mut skip_until = 0;
    for reloc in section.relocs.iter() {
        if reloc.offset < skip_until {
            continue;
        }
        skip_until = apply(&mut links, &mut target, reloc).map_err(|why| at(object, piece, reloc, &why))?;
    }
    Ok(())
}

fn at(object: &Object, piece: &Piece, reloc: &Reloc, why: &str) -> LinkError {
    LinkError(format!(
        "{:?} relocation at {:#x} in `{}` against `{}`: {why}",
        reloc.kind,
        reloc.offset,
        object.section(piece.section).name,
        object.name(object.symbol(reloc.symbol)),
    ))
}

/// Where things are, for the relocations of one piece or unwind entry.
pub(super) struct Links<'a> {
    pub(super) reach: &'a Reach,
    pub(super) map: &'a Map<'a>,
    pub(super) object: &'a Object,
    pub(super) index: ObjectIndex,
    pub(super) role: Role,
    /// The bytes of code in its object, which tell branches from other instructions.
    pub(super) source: &'a [u8],
    /// The body at hand, which the relocation at this offset means even where others would be sent to a stub.
    pub(super) body: Option<(u64, LiveAddr)>,
}

impl Links<'_> {
    pub(super) fn target<'b>(&self, at: LiveAddr, bytes: &'b mut [u8]) -> Target<'b> {
        Target { machine: self.object.machine, code: true, at: at.0, bytes }
    }

    fn referent(&self, reloc: &Reloc) -> &Referent {
        self.reach.referent(self.index, reloc.symbol)
    }

    fn unknown(&self, reloc: &Reloc) -> String {
        format!("its target ({:?}) has no address", self.referent(reloc))
    }

    /// The address of a relocation's symbol, where `branch` says whether it is called or jumped to.
    fn address(&self, reloc: &Reloc, branch: bool) -> Result<u64, String> {
        if let Some((offset, body)) = self.body
            && offset == reloc.offset
        {
            return Ok(body.0);
        }
        let code = self.role == Role::Text;
        let inside = if reloc.kind.is_relative() { !code || reloc.addend != -4 } else { reloc.addend != 0 };
        let referent = self.referent(reloc);
        let found = match label(self.reach, self.map, self.object, referent, reloc, inside) {
            Some(body) => Some(body),
            None if branch && code => callee(self.map, referent),
            None => pointer(self.map, referent),
        };
        found.map(|addr| addr.0).ok_or_else(|| self.unknown(reloc))
    }
}

impl Linkage for Links<'_> {
    fn symbol(&mut self, reloc: &Reloc) -> Result<u64, String> {
        let branch = reloc.kind.is_relative() && x86_64::is_branch_field(self.source, reloc.offset);
        self.address(reloc, branch)
    }

    fn minus(&mut self, _: SymbolId) -> Result<u64, String> {
        Err("a difference of symbols".into())
    }

    fn branch(&mut self, reloc: &Reloc, _: u64) -> Result<u64, String> {
        self.address(reloc, true)
    }

    fn word(&mut self, reloc: &Reloc, kind: WordKind) -> Result<u64, String> {
        let word = match (kind, self.referent(reloc)) {
            (WordKind::Address, referent) => pointer_word(referent),
            (WordKind::ThreadOffset, Referent::ThreadLocal(offset)) => Word::ThreadOffset(*offset),
            (WordKind::ThreadOffset | WordKind::Descriptor, _) => return Err(self.unknown(reloc)),
        };
        let index = self.map.word_at.get(&word).ok_or_else(|| self.unknown(reloc))?;
        Ok(self.map.at.words_at.start.plus(*index as u64 * 8).0)
    }

    /// Never: what a word holds can be changed later, what an instruction holds cannot.
    fn relaxes(&mut self, _: &Reloc, _: WordKind) -> bool {
        false
    }

    fn thread_offset(&mut self, reloc: &Reloc) -> Result<i64, String> {
        let Referent::ThreadLocal(offset) = self.referent(reloc) else { return Err(self.unknown(reloc)) };
        Ok(*offset)
    }
}

/// The function's own body, where a section symbol with an offset means a place *inside* it.
fn label(
    reach: &Reach,
    map: &Map,
    object: &Object,
    referent: &Referent,
    reloc: &Reloc,
    inside: bool,
) -> Option<LiveAddr> {
    let Referent::Function(function) = referent else { return None };
    let symbol = object.symbol(reloc.symbol);
    if !inside || object.is_item(symbol) || !matches!(symbol.place, Place::In(..)) {
        return None;
    }
    piece_addr(map, reach.functions.get(function.0)?.piece).ok()
}
