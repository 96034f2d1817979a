//! Where things are for the relocations of one atom of a buffer.

use super::{Buffer, Key, key};
use crate::arch::x86_64::is_address_field;
use crate::arch::{Machine, RelocKind};
use crate::binary::object::{Object, Reloc, SymbolId};
use crate::link::apply::{Linkage, Target, WordKind};

pub(super) struct Links<'b> {
    pub(super) buffer: &'b mut Buffer,
    pub(super) object: usize,
    pub(super) of: &'b Object,
}

impl Links<'_> {
    fn key(&self, symbol: SymbolId) -> Key {
        key(self.of, self.object, symbol)
    }

    /// What is out of reach of `lea` is loaded from a word: `lea reg, [rip+x]` becomes `mov reg, [rip+word]`.
    pub(super) fn through_word(&mut self, target: &mut Target<'_>, reloc: &Reloc) -> Option<u64> {
        let is_lea = self.of.machine == Machine::X86_64
            && reloc.kind == RelocKind::PC32
            && reloc.addend == -4
            && is_address_field(target.bytes, reloc.offset);
        if !is_lea {
            return None;
        }
        let word = self.buffer.word(self.key(reloc.symbol), WordKind::Address).ok()?;
        let place = target.at.wrapping_add(reloc.offset);
        let distance = i128::from(word) - 4 - i128::from(place);
        let at = usize::try_from(reloc.offset).ok()?;
        let RelocKind::Of(_, _, field) = reloc.kind else { return None };
        field.write(target.bytes.get_mut(at..)?, distance).ok()?;
        *target.bytes.get_mut(at.checked_sub(2)?)? = 0x8b;
        Some(reloc.offset + 4)
    }

    fn address(&self, symbol: SymbolId) -> Result<u64, String> {
        let found = self.buffer.key_address(self.key(symbol));
        found.ok_or_else(|| format!("`{}` has no address", self.of.name(self.of.symbol(symbol))))
    }
}

impl Linkage for Links<'_> {
    fn symbol(&mut self, reloc: &Reloc) -> Result<u64, String> {
        self.address(reloc.symbol)
    }

    fn minus(&mut self, symbol: SymbolId) -> Result<u64, String> {
        self.address(symbol)
    }

    /// The symbol itself where the branch reaches it, else a stub.
    fn branch(&mut self, reloc: &Reloc, place: u64) -> Result<u64, String> {
        let direct = self.address(reloc.symbol)?;
        let RelocKind::Of(_, _, field) = reloc.kind else { return Ok(direct) };
        let distance = i128::from(direct) + i128::from(reloc.addend) - i128::from(place);
        if field.write(&mut [0; 8], distance).is_ok() {
            return Ok(direct);
        }
        // A branch with a distance from its symbol leads into the middle of something, where no stub leads.
        let to_end = if self.of.machine == Machine::X86_64 { -4 } else { 0 };
        if reloc.addend != to_end {
            return Err(format!("{direct:#x} is out of reach"));
        }
        let word = self.buffer.word(self.key(reloc.symbol), WordKind::Address)?;
        self.buffer.room.stub_for(self.of.machine, word)
    }

    fn word(&mut self, reloc: &Reloc, kind: WordKind) -> Result<u64, String> {
        self.buffer.word(self.key(reloc.symbol), kind)
    }

    fn relaxes(&mut self, _: &Reloc, kind: WordKind) -> bool {
        self.buffer.relax && kind != WordKind::ThreadOffset
    }

    fn thread_offset(&mut self, reloc: &Reloc) -> Result<i64, String> {
        Ok(self.address(reloc.symbol)?.wrapping_sub(self.buffer.thread_pointer) as i64)
    }

    fn size(&mut self, reloc: &Reloc) -> Result<u64, String> {
        Ok(self.of.symbol(reloc.symbol).size)
    }

    fn got(&self) -> Result<u64, String> {
        Ok(self.buffer.room.table())
    }
}
