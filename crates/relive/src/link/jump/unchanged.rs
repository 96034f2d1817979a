//! Functions that cannot lie in a library, because an instruction of theirs must be near a variable of the program, and that
//! need not, because they are what the program has already.
//!
//! Takes a function of an object and the program's by the same name. Bytes are compared outside of fields; a field's target is
//! compared by address where the program has it, and by its bytes where it is a nameless constant. When in doubt, it changed.

use std::collections::{BTreeMap, BTreeSet};

use object::RelocationFlags;
use object::read::{Object as _, ObjectSymbol as _, ObjectSymbolTable as _, RelocationTarget};

use crate::arch::RelocKind;
use crate::arch::reloc::{Field, Form, Operand};
use crate::arch::x86_64::{is_address_field, is_branch_field};
use crate::binary::address::LinkAddr;
use crate::binary::object::{Binding, Object, Place, Reloc, Role, SectionId, SymbolKind};
use crate::binary::snapshot::Snapshot;
use crate::link::LinkError;

use super::Draft;
use crate::link::host::{host_variable, is_variable, item_name, only};

/// How many constants may lead to each other.
const DEEPEST: usize = 16;

impl Draft {
    /// The program's function that stands for the one in `section`, if it must.
    pub(super) fn unchanged(&self, host: &Snapshot, index: usize, section: SectionId) -> Option<LinkAddr> {
        let object = self.objects.get(index)?;
        if object.section(section).role != Role::Text || !self.must_be_near(host, object, section) {
            return None;
        }
        self.equal(host, index, section)
    }

    /// Refuses a function that is left to the program, is called by the library, and itself leads to a function that changed:
    /// the program's calls the old one. (What nothing in the library calls, such as `main`, goes on as it does.)
    pub(super) fn check_left(&self, host: &Snapshot) -> Result<(), LinkError> {
        for place in self.left.keys().filter(|place| self.referred.contains(place)) {
            let mut seen = BTreeSet::new();
            if let Some(changed) = self.changed_callee(host, *place, &mut seen) {
                let name = |(index, section): (usize, SectionId)| {
                    self.objects.get(index).map_or("", |object| item_name(object, section))
                };
                return Err(LinkError(format!(
                    "`{}` would have to be near the program, where no library is; the program's own serves instead, but leads \
                     to the old `{}`",
                    name(*place),
                    name(changed)
                )));
            }
        }
        Ok(())
    }

    /// A function that is reached from `place` and is not as the program has it.
    fn changed_callee(
        &self,
        host: &Snapshot,
        place: (usize, SectionId),
        seen: &mut BTreeSet<(usize, SectionId)>,
    ) -> Option<(usize, SectionId)> {
        let mut next = vec![place];
        while let Some((index, section)) = next.pop() {
            let Some(object) = self.objects.get(index) else { continue };
            if !seen.insert((index, section)) || object.section(section).role != Role::Text {
                continue;
            }
            if self.equal(host, index, section).is_none() {
                return Some((index, section));
            }
            let relocs = &object.section(section).relocs;
            next.extend(relocs.iter().filter_map(|reloc| self.definition(index, reloc.symbol)));
        }
        None
    }

    /// The program's function that the one in `section` is equal to.
    fn equal(&self, host: &Snapshot, index: usize, section: SectionId) -> Option<LinkAddr> {
        let object = self.objects.get(index)?;
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
                    // The addend also counts to the end of the instruction.
                    let start =
                        i64::try_from(offset).unwrap_or(i64::MAX).saturating_add(reloc.addend).saturating_add(4);
                    // `target` is where the symbol lies; what is meant lies behind it by as much.
                    let addr = target.wrapping_add(start as u64).wrapping_sub(offset);
                    return self.same_constant(host, object, section, start, addr, DEEPEST);
                }
                let found = only(host, item_name(object, section), Some(object)).ok().flatten();
                found.is_some_and(|found| found.kind != SymbolKind::Tls && found.addr.0.wrapping_add(offset) == target)
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

    /// Whether a constant without a name has from `start` on what the program has at `addr`, and leads to the same.
    fn same_constant(
        &self,
        host: &Snapshot,
        object: &Object,
        section: SectionId,
        start: i64,
        addr: u64,
        depth: usize,
    ) -> bool {
        let data = object.section(section);
        let Ok(first) = usize::try_from(start) else { return false };
        let bytes = object.bytes(section).get(first..).unwrap_or_default();
        // Where constants are merged, the next one is another.
        let bytes = match (data.merge_size, data.strings) {
            (1, true) => bytes.split_inclusive(|byte| *byte == 0).next().unwrap_or_default(),
            (size, false) if size > 0 => bytes.get(..size as usize).unwrap_or_default(),
            _ => bytes,
        };
        let old = host.segments().iter().find(|segment| segment.contains(LinkAddr(addr)));
        let old = old.and_then(|segment| host.loaded(segment, LinkAddr(addr), bytes.len() as u64));
        let Some(old) = old.filter(|_| !bytes.is_empty() && depth > 0) else { return false };
        let end = first as u64 + bytes.len() as u64;
        let mut at = first;
        for field in data.relocs.iter().filter(|field| (first as u64..end).contains(&field.offset)) {
            let (from, to) = (field.offset as usize, (field.offset + field.kind.width()) as usize);
            let range = |from: usize| from.wrapping_sub(first);
            let same_before = at <= from && old.get(range(at)..range(from)) == bytes.get(range(at)..range(from));
            if !same_before || !self.same_pointer(host, object, field, addr.wrapping_add(range(from) as u64), depth - 1)
            {
                return false;
            }
            at = to;
        }
        let rest = at.saturating_sub(first);
        old.get(rest..) == bytes.get(rest..)
    }

    /// Whether a pointer in a constant leads where the program's at `word` does.
    fn same_pointer(&self, host: &Snapshot, object: &Object, field: &Reloc, word: u64, depth: usize) -> bool {
        if field.kind != RelocKind::ABS64 {
            return false;
        }
        let symbol = object.symbol(field.symbol);
        let held = self.words.0.get(&word);
        match (symbol.place, held) {
            (Place::In(section, offset), Some(Held::Address(addr))) => {
                let start = i64::try_from(offset).unwrap_or(i64::MAX).saturating_add(field.addend);
                if matches!(object.section(section).role, Role::ReadOnly | Role::RelRo) {
                    return self.same_constant(host, object, section, start, *addr, depth);
                }
                let found = only(host, item_name(object, section), Some(object)).ok().flatten();
                found.is_some_and(|found| found.addr.0.wrapping_add(start as u64) == *addr)
            }
            (Place::Undefined, Some(_)) => field.addend == 0 && self.words.holds(word, host, object.name(symbol)),
            (Place::In(..) | Place::Undefined | Place::Absolute(_) | Place::Unknown(_), _) => false,
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
