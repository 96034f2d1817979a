//! x86-64: what its relocations compute, the bytes of entry jumps and stubs, and what a function's first bytes allow.

pub mod relax;

use relive_wire::LiveAddr;

use crate::arch::reloc::{Field, Fits, Form, Operand, RelocKind};

const S32: Field = Field::Int(4, Fits::Signed);
const I64: Field = Field::Int(8, Fits::All);

/// The kind of an ELF relocation number (System V psABI for x86-64, section 4.4 and, for the large code model, 3.5.4). What
/// only a dynamic loader sees (`COPY`, `RELATIVE` ..) is unknown here.
#[must_use]
pub fn from_elf(raw: u32) -> RelocKind {
    use Form::{Absolute, FromGot, Relative};
    use Operand::{Branch, Got, GotBase, GotLoad, GotThreadOffset, ModuleOffset, Size, Symbol, ThreadOffset};
    use object::elf;
    let (operand, form, field) = match raw {
        elf::R_X86_64_NONE => return RelocKind::NONE,
        elf::R_X86_64_64 => (Symbol, Absolute, I64),
        elf::R_X86_64_32 => (Symbol, Absolute, Field::Int(4, Fits::Unsigned)),
        elf::R_X86_64_32S => (Symbol, Absolute, S32),
        elf::R_X86_64_16 => (Symbol, Absolute, Field::Int(2, Fits::Either)),
        elf::R_X86_64_8 => (Symbol, Absolute, Field::Int(1, Fits::Either)),
        elf::R_X86_64_PC64 => (Symbol, Relative, I64),
        elf::R_X86_64_PC32 => (Symbol, Relative, S32),
        elf::R_X86_64_PC16 => (Symbol, Relative, Field::Int(2, Fits::Signed)),
        elf::R_X86_64_PC8 => (Symbol, Relative, Field::Int(1, Fits::Signed)),
        elf::R_X86_64_PLT32 => (Branch, Relative, S32),
        elf::R_X86_64_PLTOFF64 => (Branch, FromGot, I64),
        elf::R_X86_64_GOTPCREL => (Got, Relative, S32),
        elf::R_X86_64_GOTPCRELX | elf::R_X86_64_REX_GOTPCRELX => (GotLoad, Relative, S32),
        elf::R_X86_64_GOTPCREL64 => (Got, Relative, I64),
        elf::R_X86_64_GOT32 => (Got, FromGot, S32),
        elf::R_X86_64_GOT64 => (Got, FromGot, I64),
        elf::R_X86_64_GOTOFF64 => (Symbol, FromGot, I64),
        elf::R_X86_64_GOTPC32 => (GotBase, Relative, S32),
        elf::R_X86_64_GOTPC64 => (GotBase, Relative, I64),
        elf::R_X86_64_SIZE32 => (Size, Absolute, Field::Int(4, Fits::Unsigned)),
        elf::R_X86_64_SIZE64 => (Size, Absolute, I64),
        elf::R_X86_64_TPOFF32 => (ThreadOffset, Absolute, S32),
        elf::R_X86_64_TPOFF64 => (ThreadOffset, Absolute, I64),
        elf::R_X86_64_GOTTPOFF => (GotThreadOffset, Relative, S32),
        elf::R_X86_64_TLSGD => (Operand::GeneralDynamic, Relative, S32),
        elf::R_X86_64_TLSLD => (Operand::LocalDynamic, Relative, S32),
        elf::R_X86_64_DTPOFF32 => (ModuleOffset, Absolute, S32),
        elf::R_X86_64_DTPOFF64 => (ModuleOffset, Absolute, I64),
        elf::R_X86_64_GOTPC32_TLSDESC => (Operand::TlsDescriptor, Relative, S32),
        elf::R_X86_64_TLSDESC_CALL => (Operand::TlsDescriptorCall, Absolute, Field::None),
        other => return RelocKind::Unknown(other),
    };
    RelocKind::Of(operand, form, field)
}

/// The kind of a Mach-O relocation (`<mach-o/x86_64/reloc.h>`): type, whether it is PC-relative, and the logarithm of its
/// length. `SUBTRACTOR` is no kind: it gives the relocation after it a second symbol ([`RelocKind::minus`]). `SIGNED_1`, `_2` and `_4` differ
/// from `SIGNED` in where the instruction ends, which is part of the addend.
#[must_use]
pub fn from_macho(raw: u8, relative: bool, log2: u8) -> RelocKind {
    use object::macho;
    let kind = |operand, form, field| RelocKind::Of(operand, form, field);
    match (raw, relative, log2) {
        (macho::X86_64_RELOC_UNSIGNED, false, 3) => kind(Operand::Symbol, Form::Absolute, I64),
        (macho::X86_64_RELOC_UNSIGNED, false, 2) => {
            kind(Operand::Symbol, Form::Absolute, Field::Int(4, Fits::Unsigned))
        }
        (
            macho::X86_64_RELOC_SIGNED
            | macho::X86_64_RELOC_SIGNED_1
            | macho::X86_64_RELOC_SIGNED_2
            | macho::X86_64_RELOC_SIGNED_4,
            true,
            2,
        ) => kind(Operand::Symbol, Form::Relative, S32),
        (macho::X86_64_RELOC_BRANCH, true, 2) => kind(Operand::Branch, Form::Relative, S32),
        (macho::X86_64_RELOC_BRANCH, true, 0) => kind(Operand::Branch, Form::Relative, Field::Int(1, Fits::Signed)),
        (macho::X86_64_RELOC_GOT_LOAD, true, 2) => kind(Operand::GotLoad, Form::Relative, S32),
        (macho::X86_64_RELOC_GOT, true, 2) => kind(Operand::Got, Form::Relative, S32),
        (macho::X86_64_RELOC_TLV, true, 2) => kind(Operand::Tlv, Form::Relative, S32),
        _ => RelocKind::Unknown(u32::from(raw)),
    }
}

/// Length of the jump that is written over a function's entry.
pub const ENTRY_JUMP_LEN: usize = 5;
/// Length of a stub, padding included.
pub const STUB_LEN: usize = 16;
/// Length of a jump through a pointer, padding included.
pub const FAR_JUMP_LEN: usize = 8;

/// `jmp rel32` at `from` to `to`; `None` if it does not reach.
#[must_use]
pub fn jump(from: LiveAddr, to: LiveAddr) -> Option<[u8; ENTRY_JUMP_LEN]> {
    let rel = rel32(from.plus(5), to)?;
    Some([0xe9, rel[0], rel[1], rel[2], rel[3]])
}

/// The stub of table entry `index` at `at`: it jumps to wherever the current table says. `table_word` holds the current
/// table's address. `r11` belongs to nobody at a function's entry (psABI 3.2.1).
///
/// ```text
/// mov r11, [rip + table_word]
/// jmp [r11 + 8 * index]
/// ```
#[must_use]
pub fn stub(at: LiveAddr, table_word: LiveAddr, index: u32) -> Option<[u8; STUB_LEN]> {
    let word = rel32(at.plus(7), table_word)?;
    let slot = i32::try_from(u64::from(index) * 8).ok()?.to_le_bytes();
    let mut out = [0xcc; STUB_LEN];
    out[..3].copy_from_slice(&[0x4c, 0x8b, 0x1d]);
    out[3..7].copy_from_slice(&word);
    out[7..10].copy_from_slice(&[0x41, 0xff, 0xa3]);
    out[10..14].copy_from_slice(&slot);
    Some(out)
}

/// `jmp [rip + pointer]` at `at`.
#[must_use]
pub fn far_jump(at: LiveAddr, pointer: LiveAddr) -> Option<[u8; FAR_JUMP_LEN]> {
    let rel = rel32(at.plus(6), pointer)?;
    Some([0xff, 0x25, rel[0], rel[1], rel[2], rel[3], 0xcc, 0xcc])
}

/// Whether the 4-byte field at `offset` of `code` is the displacement of a direct call, jump or conditional jump.
#[must_use]
pub fn is_branch_field(code: &[u8], offset: u64) -> bool {
    let Ok(at) = usize::try_from(offset) else { return false };
    let before = |back: usize| at.checked_sub(back).and_then(|index| code.get(index)).copied();
    match before(1) {
        Some(0xe8 | 0xe9) => true,
        Some(opcode) => before(2) == Some(0x0f) && opcode & 0xf0 == 0x80,
        None => false,
    }
}

/// Whether the 4-byte field at `offset` of `code` is the operand of a `lea`, which nothing follows.
#[must_use]
pub fn is_address_field(code: &[u8], offset: u64) -> bool {
    let head = usize::try_from(offset).ok().and_then(|at| code.get(at.checked_sub(3)?..at));
    matches!(head, Some([0x48 | 0x4c, 0x8d, operand]) if operand & 0xc7 == 0x05)
}

/// The offset behind each instruction of `code`, in order.
#[must_use]
pub fn instruction_ends(code: &[u8]) -> Vec<u64> {
    let decoder = iced_x86::Decoder::new(64, code, iced_x86::DecoderOptions::NONE);
    decoder.into_iter().map(|instruction| instruction.next_ip()).collect()
}

fn rel32(from: LiveAddr, to: LiveAddr) -> Option<[u8; 4]> {
    i32::try_from(to.minus(from)).ok().map(i32::to_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_reach_two_gibibytes_and_no_more() {
        let from = LiveAddr(0x5555_0000_0000);
        assert_eq!(jump(from, from.plus(5)), Some([0xe9, 0, 0, 0, 0]));
        assert!(jump(from, from.plus(5 + 0x7fff_ffff)).is_some());
        assert_eq!(jump(from, from.plus(5 + 0x8000_0000)), None);
    }

    #[test]
    fn a_stub_decodes_to_what_its_comment_says() {
        let at = LiveAddr(0x5555_0000_0000);
        let bytes = stub(at, at.plus(0x1007), 3).unwrap();
        let mut decoder = iced_x86::Decoder::with_ip(64, &bytes, at.0, 0);
        assert_eq!(decoder.decode().to_string(), "mov r11,[555500001007h]");
        assert_eq!(decoder.decode().to_string(), "jmp qword ptr [r11+18h]");
    }
}
