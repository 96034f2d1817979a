//! The bytes of every part of the image, with each relocation computed and range-checked.
//!
//! Formulas are those of [`RelocKind`]. Two rules are ours: a *call* of a function that patches may replace goes to its
//! stub; a *pointer* to it is its canonical entry, so that pointers to one function are equal in old and new code. A label
//! inside a function (a jump table's target) is always the body at hand.

use relive_wire::LiveAddr;

use crate::arch::RelocKind;
use crate::arch::x86_64::{self, FAR_JUMP_LEN};
use crate::binary::object::{Object, Place, Reloc, Role};
use crate::diff::reach::{ObjectIndex, Piece, Reach, Referent};
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
            Role::EhFrame | Role::Debug | Role::Ignored => {
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
        let relative = |reloc: &&Reloc| !matches!(reloc.kind, RelocKind::Abs64 | RelocKind::None);
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
    let mut skip_until = 0;
    for reloc in &section.relocs {
        if reloc.offset < skip_until {
            continue;
        }
        if matches!(reloc.kind, RelocKind::TlsGd | RelocKind::TlsLd) {
            let referent = reach.referent(piece.object, reloc.symbol);
            skip_until = rewrite_tls(bytes, reloc, referent).map_err(|why| at(object, piece, reloc, &why))?;
            continue;
        }
        let role = section.role;
        let value = value(reach, map, object, piece.object, role, bytes, reloc, addr.plus(reloc.offset))
            .map_err(|why| at(object, piece, reloc, &why))?;
        write_field(bytes, reloc, value).map_err(|why| at(object, piece, reloc, &why))?;
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

/// The value of a relocation's field as a signed number; the caller checks that it fits.
#[expect(clippy::too_many_arguments, reason = "the operands of one formula")]
pub(super) fn value(
    reach: &Reach,
    map: &Map,
    object: &Object,
    index: ObjectIndex,
    role: Role,
    bytes: &[u8],
    reloc: &Reloc,
    place: LiveAddr,
) -> Result<i128, String> {
    let referent = reach.referent(index, reloc.symbol);
    let addend = i128::from(reloc.addend);
    let relative = |target: LiveAddr| i128::from(target.0) + addend - i128::from(place.0);
    let unknown = || format!("its target ({referent:?}) has no address");
    match reloc.kind {
        RelocKind::None => Ok(0),
        RelocKind::Abs64 => {
            let target = match label(reach, map, object, referent, reloc, reloc.addend != 0) {
                Some(body) => body,
                None => pointer(map, referent).ok_or_else(unknown)?,
            };
            Ok(i128::from(target.0) + addend)
        }
        RelocKind::Pc32 | RelocKind::Plt32 | RelocKind::Pc64 => {
            let branch =
                role == Role::Text && (reloc.kind == RelocKind::Plt32 || x86_64::is_branch_field(bytes, reloc.offset));
            let inside = role != Role::Text || reloc.addend != -4;
            let target = match label(reach, map, object, referent, reloc, inside) {
                Some(body) => body,
                None if branch => callee(map, referent).ok_or_else(unknown)?,
                None => pointer(map, referent).ok_or_else(unknown)?,
            };
            Ok(relative(target))
        }
        RelocKind::GotPcRel => {
            let word = map.word_at.get(&pointer_word(referent)).ok_or_else(unknown)?;
            Ok(relative(map.at.words_at.start.plus(*word as u64 * 8)))
        }
        RelocKind::GotTpOff => {
            let Referent::ThreadLocal(offset) = referent else { return Err(unknown()) };
            let word = map.word_at.get(&Word::ThreadOffset(*offset)).ok_or_else(unknown)?;
            Ok(relative(map.at.words_at.start.plus(*word as u64 * 8)))
        }
        RelocKind::TpOff32 | RelocKind::TpOff64 | RelocKind::DtpOff32 | RelocKind::DtpOff64 => {
            let Referent::ThreadLocal(offset) = referent else { return Err(unknown()) };
            Ok(i128::from(*offset) + addend)
        }
        RelocKind::Abs32 | RelocKind::TlsGd | RelocKind::TlsLd => Err("not expected in loaded code".into()),
        RelocKind::Unknown(raw) => Err(format!("relocation number {raw} is not understood")),
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

pub(super) fn write_field(bytes: &mut [u8], reloc: &Reloc, value: i128) -> Result<(), String> {
    let start = reloc.offset as usize;
    let width = reloc.kind.width() as usize;
    let field = bytes.get_mut(start..start + width).ok_or("the field lies outside its section")?;
    match width {
        0 => {}
        4 => {
            let value = i32::try_from(value).map_err(|_| format!("{value:#x} does not fit 32 bits"))?;
            field.copy_from_slice(&value.to_le_bytes());
        }
        _ => field.copy_from_slice(&(value as u64).to_le_bytes()),
    }
    Ok(())
}

/// Rewrites a general-dynamic or local-dynamic access to local-exec (ELF TLS specification, section 5). The sequences
/// are fixed; anything else is refused. Gives the offset up to which relocations belong to the old sequence.
fn rewrite_tls(bytes: &mut [u8], reloc: &Reloc, referent: &Referent) -> Result<u64, String> {
    const READ_THREAD_POINTER: [u8; 9] = [0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0];
    let at = reloc.offset as usize;
    let unexpected = || "the instructions around it are not the known sequence".to_owned();
    if reloc.kind == RelocKind::TlsGd {
        let Referent::ThreadLocal(offset) = referent else { return Err("not a thread-local of the process".into()) };
        let start = at.checked_sub(4).ok_or_else(unexpected)?;
        let code = bytes.get_mut(start..start + 16).ok_or_else(unexpected)?;
        let call = [code[8], code[9], code[10], code[11]];
        // data16 lea rdi,[rip+x]; data16 data16 rex.W call __tls_get_addr, directly or through the GOT
        if code[..4] != [0x66, 0x48, 0x8d, 0x3d] || !matches!(call, [0x66, 0x66, 0x48, 0xe8] | [0x66, 0x48, 0xff, 0x15])
        {
            return Err(unexpected());
        }
        let offset = i32::try_from(*offset).map_err(|_| "its offset does not fit 32 bits")?;
        code[..9].copy_from_slice(&READ_THREAD_POINTER);
        code[9..12].copy_from_slice(&[0x48, 0x8d, 0x80]);
        code[12..].copy_from_slice(&offset.to_le_bytes());
        return Ok(start as u64 + 16);
    }
    let start = at.checked_sub(3).ok_or_else(unexpected)?;
    let code = bytes.get_mut(start..start + 12).ok_or_else(unexpected)?;
    if code[..3] != [0x48, 0x8d, 0x3d] {
        return Err(unexpected());
    }
    // lea rdi,[rip+x]; call __tls_get_addr (12 bytes), or through the GOT (13 bytes)
    let len = match [code[7], code[8]] {
        [0xe8, _] => 12,
        [0xff, 0x15] => 13,
        _ => return Err(unexpected()),
    };
    let code = bytes.get_mut(start..start + len).ok_or_else(unexpected)?;
    code.fill(0x66);
    code[len - 9..].copy_from_slice(&READ_THREAD_POINTER);
    Ok((start + len) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binary::object::SymbolId;

    fn reloc(kind: RelocKind, offset: u64) -> Reloc {
        Reloc { offset, kind, symbol: SymbolId(1), addend: -4 }
    }

    #[test]
    fn general_dynamic_becomes_local_exec() {
        let mut code = vec![0x66, 0x48, 0x8d, 0x3d, 0, 0, 0, 0, 0x66, 0x66, 0x48, 0xe8, 0, 0, 0, 0, 0xc3];
        let end = rewrite_tls(&mut code, &reloc(RelocKind::TlsGd, 4), &Referent::ThreadLocal(-16)).unwrap();
        assert_eq!(end, 16);
        assert_eq!(code, [0x64, 0x48, 0x8b, 4, 0x25, 0, 0, 0, 0, 0x48, 0x8d, 0x80, 0xf0, 0xff, 0xff, 0xff, 0xc3]);
    }

    #[test]
    fn local_dynamic_becomes_local_exec_in_both_lengths() {
        let mut code = vec![0x48, 0x8d, 0x3d, 0, 0, 0, 0, 0xe8, 0, 0, 0, 0, 0xc3];
        assert_eq!(rewrite_tls(&mut code, &reloc(RelocKind::TlsLd, 3), &Referent::Null).unwrap(), 12);
        assert_eq!(code, [0x66, 0x66, 0x66, 0x64, 0x48, 0x8b, 4, 0x25, 0, 0, 0, 0, 0xc3]);
        let mut code = vec![0x48, 0x8d, 0x3d, 0, 0, 0, 0, 0xff, 0x15, 0, 0, 0, 0, 0xc3];
        assert_eq!(rewrite_tls(&mut code, &reloc(RelocKind::TlsLd, 3), &Referent::Null).unwrap(), 13);
        assert_eq!(code[12..], [0, 0xc3]);
    }

    #[test]
    fn another_sequence_is_refused() {
        let mut code = vec![0x90; 16];
        assert!(rewrite_tls(&mut code, &reloc(RelocKind::TlsGd, 4), &Referent::ThreadLocal(-16)).is_err());
        assert!(rewrite_tls(&mut code, &reloc(RelocKind::TlsLd, 3), &Referent::Null).is_err());
    }

    #[test]
    fn a_field_that_does_not_fit_is_an_error() {
        let mut bytes = [0; 8];
        assert!(write_field(&mut bytes, &reloc(RelocKind::Pc32, 0), i128::from(i32::MAX)).is_ok());
        assert!(write_field(&mut bytes, &reloc(RelocKind::Pc32, 0), i128::from(i32::MAX) + 1).is_err());
        assert!(write_field(&mut bytes, &reloc(RelocKind::Pc32, 0), i128::from(i32::MIN) - 1).is_err());
    }
}
