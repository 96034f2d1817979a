//! Functions that cannot lie in a library, because an instruction of theirs must be near a variable of the program, and that
//! need not, because they are what the program has already.
//!
//! Takes a function of an object and the program's by the same name. Bytes are compared outside of fields; a field's target is
//! compared by address where the program has it, and by its bytes where it is a nameless constant. When in doubt, it changed.

use std::collections::BTreeMap;

use object::RelocationFlags;
use object::read::{Object as _, ObjectSymbol as _, ObjectSymbolTable as _, RelocationTarget};

use crate::arch::RelocKind;
use crate::arch::reloc::{Field, Form, Operand};
use crate::arch::x86_64::{is_address_field, is_branch_field};
use crate::binary::address::LinkAddr;
use crate::binary::object::{Binding, Object, Place, Reloc, Role, SectionId, SymbolKind};
use crate::binary::snapshot::Snapshot;

use super::{Draft, host_variable, is_variable, only};

impl Draft {
    /// The program's function that stands for the one in `section`, if it must.
    pub(super) fn unchanged(&self, host: &Snapshot, index: usize, section: SectionId) -> Option<LinkAddr> {
        let object = self.objects.get(index)?;
        if object.section(section).role != Role::Text || !self.must_be_near(host, object, section) {
            return None;
        }
        let symbol = object.symbol(object.function_of(section)?);
        let old = only(host, object.name(symbol), Some(object)).ok()??;
        let (new, size) = (object.bytes(section), object.section(section).size);
        let old_bytes = host.code(old.addr, size).filter(|_| old.size == symbol.size)?;
        let mut at = 0;
        for reloc in &object.section(section).relocs {
            let (start, end) = (reloc.offset as usize, (reloc.offset + reloc.kind.width()) as usize);
            if new.get(at..start)? != old_bytes.get(at..start)? || !self.same(host, object, reloc, old.addr, old_bytes)
            {
                return None;
            }
            at = end;
        }
        (new.get(at..)? == old_bytes.get(at..)?).then_some(old.addr)
    }

    /// Whether an instruction reads or writes a variable of the program directly.
    fn must_be_near(&self, host: &Snapshot, object: &Object, section: SectionId) -> bool {
        let code = object.bytes(section);
        object.section(section).relocs.iter().any(|reloc| {
            let direct = matches!(reloc.kind, RelocKind::Of(Operand::Symbol, Form::Relative, Field::Int(4, _)));
            let can_be_far =
                is_branch_field(code, reloc.offset) || is_address_field(code, reloc.offset) && reloc.addend == -4;
            direct && !can_be_far && self.is_host_variable(host, object, reloc)
        })
    }

    fn is_host_variable(&self, host: &Snapshot, object: &Object, reloc: &Reloc) -> bool {
        let symbol = object.symbol(reloc.symbol);
        match symbol.place {
            Place::In(at, _) => {
                is_variable(object.section(at)) && host_variable(host, object, at).is_ok_and(|found| found.is_some())
            }
            Place::Undefined => only(host, object.name(symbol), None).is_ok_and(|found| found.is_some()),
            Place::Absolute(_) | Place::Unknown(_) => false,
        }
    }

    /// Whether a field of the old function leads where the new one's will.
    fn same(&self, host: &Snapshot, object: &Object, reloc: &Reloc, old: LinkAddr, old_bytes: &[u8]) -> bool {
        let RelocKind::Of(operand, form, field) = reloc.kind else { return false };
        let number = old_bytes.get(reloc.offset as usize..).and_then(|bytes| field.read(bytes));
        let Some(number) = number.filter(|_| form == Form::Relative) else { return false };
        let place = old.0.wrapping_add(reloc.offset);
        let target = place.wrapping_add(number as u64).wrapping_sub(reloc.addend as u64);
        let symbol = object.symbol(reloc.symbol);
        match (operand, symbol.place) {
            (Operand::Got | Operand::GotLoad, _) if symbol.binding != Binding::Local => {
                self.words.holds(target, host, object.name(symbol))
            }
            (Operand::Symbol | Operand::Branch, Place::In(section, offset)) => {
                let is_constant = matches!(object.section(section).role, Role::ReadOnly | Role::RelRo);
                if is_constant {
                    return same_constant(host, object, section, offset, reloc, target);
                }
                let name = object.named_at(section, 0).map_or("", |id| object.name(object.symbol(id)));
                let found = only(host, name, Some(object)).ok().flatten();
                found.is_some_and(|found| found.kind != SymbolKind::Tls && found.addr.0 + offset == target)
            }
            (Operand::Symbol | Operand::Branch, Place::Undefined) => {
                let name = object.name(symbol);
                let found = only(host, name, None).ok().flatten();
                let through = || far_jump_word(host, target).is_some_and(|word| self.words.holds(word, host, name));
                found.is_some_and(|found| found.addr.0 == target) || through()
            }
            _ => false,
        }
    }
}

/// What the loader writes into the program's words.
#[derive(Default)]
pub(super) struct Words(BTreeMap<u64, Held>);

enum Held {
    /// An address of the program itself.
    Address(u64),
    /// The address of a name that is imported.
    Name(String),
}

impl Words {
    /// Those of the executable in `data`.
    pub(super) fn read(data: &[u8]) -> Result<Words, object::Error> {
        let file = object::read::elf::ElfFile64::<object::LittleEndian>::parse(data)?;
        let symbols = file.dynamic_symbol_table();
        let mut out = BTreeMap::new();
        for (at, reloc) in file.dynamic_relocations().into_iter().flatten() {
            let symbol = if let RelocationTarget::Symbol(index) = reloc.target() { Some(index) } else { None };
            let symbol = symbol.zip(symbols.as_ref()).and_then(|(index, table)| table.symbol_by_index(index).ok());
            let name = symbol.and_then(|symbol| symbol.name().ok().map(str::to_owned));
            let is_relative = matches!(reloc.flags(), RelocationFlags::Elf { r_type: object::elf::R_X86_64_RELATIVE });
            match name {
                Some(name) if !name.is_empty() => out.insert(at, Held::Name(name)),
                _ if is_relative => out.insert(at, Held::Address(reloc.addend() as u64)),
                _ => None,
            };
        }
        Ok(Words(out))
    }

    /// Whether the word at `at` holds the address that `name` stands for.
    fn holds(&self, at: u64, host: &Snapshot, name: &str) -> bool {
        match self.0.get(&at) {
            Some(Held::Address(addr)) => {
                only(host, name, None).ok().flatten().is_some_and(|found| found.addr.0 == *addr)
            }
            Some(Held::Name(held)) => held == name,
            None => false,
        }
    }
}

/// The word that a jump at `addr`, an entry of a procedure linkage table, goes through.
fn far_jump_word(host: &Snapshot, addr: u64) -> Option<u64> {
    let code = host.code(LinkAddr(addr), 16)?;
    let decoder = iced_x86::Decoder::with_ip(64, code, addr, iced_x86::DecoderOptions::NONE);
    let jump = decoder.into_iter().find(|instruction| instruction.mnemonic() != iced_x86::Mnemonic::Endbr64)?;
    let through_word = jump.code() == iced_x86::Code::Jmp_rm64 && jump.is_ip_rel_memory_operand();
    through_word.then(|| jump.ip_rel_memory_address())
}

/// Whether a constant without a name, or what is behind the place in it that is meant, has the same bytes in the program.
fn same_constant(
    host: &Snapshot,
    object: &Object,
    section: SectionId,
    offset: u64,
    reloc: &Reloc,
    target: u64,
) -> bool {
    let data = object.section(section);
    // The addend also counts to the end of the instruction.
    let start = i64::try_from(offset).unwrap_or(i64::MAX).saturating_add(reloc.addend).saturating_add(4);
    let Ok(start) = usize::try_from(start) else { return false };
    let bytes = object.bytes(section).get(start..).unwrap_or_default();
    // Where constants are merged, the next one is another.
    let bytes = match (data.merge_size, data.strings) {
        (1, true) => bytes.split_inclusive(|byte| *byte == 0).next().unwrap_or_default(),
        (size, false) if size > 0 => bytes.get(..size as usize).unwrap_or_default(),
        _ => bytes,
    };
    // `target` is where the symbol lies; what is meant lies behind it by as much.
    let addr = LinkAddr(target.wrapping_add(start as u64).wrapping_sub(offset));
    let old = host.segments().iter().find(|segment| segment.contains(addr));
    let old = old.and_then(|segment| host.loaded(segment, addr, bytes.len() as u64));
    let fields = || data.relocs.iter().filter(|field| field.offset as usize >= start);
    let Some(old) = old.filter(|_| !bytes.is_empty()) else { return false };
    let is_field = |at: usize| {
        fields().any(|field| (field.offset..field.offset + field.kind.width()).contains(&((start + at) as u64)))
    };
    old.iter().zip(bytes).enumerate().all(|(at, (old, new))| old == new || is_field(at))
}
