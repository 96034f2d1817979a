//! Which bytes a relocation may change: what is restored before it is computed again.

use crate::arch::reloc::Operand;
use crate::arch::x86_64::is_address_field;
use crate::arch::{Machine, RelocKind};
use crate::binary::object::Reloc;

/// The bytes of `code` that a relocation may change: its field, or the instructions around it that are rewritten with it.
pub(super) fn footprint(machine: Machine, kind: RelocKind, offset: u64, code: &[u8]) -> std::ops::Range<usize> {
    let len = code.len();
    let (before, behind) = match (machine, kind.operand()) {
        (Machine::X86_64, Some(Operand::GeneralDynamic)) => (4, 12),
        (Machine::X86_64, Some(Operand::LocalDynamic)) => (3, 10),
        (Machine::X86_64, Some(Operand::TlsDescriptor | Operand::GotThreadOffset)) => (3, 4),
        (Machine::X86_64, Some(Operand::GotLoad | Operand::Tlv)) => (2, 4),
        // The address that `lea` makes may come from a word instead.
        (Machine::X86_64, Some(Operand::Symbol)) if kind == RelocKind::PC32 && is_address_field(code, offset) => (2, 4),
        (Machine::X86_64, Some(Operand::TlsDescriptorCall)) => (0, 2),
        // Every instruction of a sequence has a relocation of its own.
        (Machine::Aarch64, Some(Operand::TlsDescriptorCall)) => (0, 4),
        _ => (0, kind.width()),
    };
    let start = usize::try_from(offset.saturating_sub(before)).unwrap_or(len).min(len);
    start..usize::try_from(offset.saturating_add(behind)).unwrap_or(len).min(len).max(start)
}

/// Where the sequence ends that is rewritten together with a relocation's own instruction.
pub(super) fn sequence_end(reloc: &Reloc) -> u64 {
    match reloc.kind.operand() {
        Some(Operand::GeneralDynamic) => reloc.offset + 12,
        Some(Operand::LocalDynamic) => reloc.offset + 10,
        _ => reloc.offset,
    }
}
