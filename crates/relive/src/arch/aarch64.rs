//! AArch64: what its relocations compute, and the bytes of entry jumps and stubs. The twin of `x86_64`.

pub mod relax;

use relive_wire::LiveAddr;

use crate::arch::reloc::{Field, Fits, Form, Operand, RelocKind};

/// `R_AARCH64_PLT32`, which the `object` crate does not name.
const R_AARCH64_PLT32: u32 = 314;
/// `R_AARCH64_GOTPCREL32`, the same.
const R_AARCH64_GOTPCREL32: u32 = 315;

const I64: Field = Field::Int(8, Fits::All);
const I32: Field = Field::Int(4, Fits::Either);
const I16: Field = Field::Int(2, Fits::Either);
const ADD: Field = Field::Add12(Fits::All);
const PAGES: Field = Field::Adrp21(Fits::Signed);

/// The kind of an ELF relocation number (ELF for the Arm 64-bit Architecture, section 5.7). The general-dynamic and
/// local-dynamic accesses of the old dialect (`TLSGD_*`, `TLSLD_ADR_*`) are unknown: compilers use descriptors.
#[must_use]
pub fn from_elf(raw: u32) -> RelocKind {
    use Form::{Absolute, FromGot, Page, Relative};
    use Operand::{Branch, Got, GotLoad, Symbol, TlsDescriptor, TlsDescriptorCall};
    use object::elf;
    let (operand, form, field) = match raw {
        elf::R_AARCH64_NONE | 256 => return RelocKind::NONE,
        elf::R_AARCH64_ABS64 => (Symbol, Absolute, I64),
        elf::R_AARCH64_ABS32 => (Symbol, Absolute, I32),
        elf::R_AARCH64_ABS16 => (Symbol, Absolute, I16),
        elf::R_AARCH64_PREL64 => (Symbol, Relative, I64),
        elf::R_AARCH64_PREL32 => (Symbol, Relative, I32),
        elf::R_AARCH64_PREL16 => (Symbol, Relative, I16),
        R_AARCH64_PLT32 => (Branch, Relative, Field::Int(4, Fits::Signed)),
        elf::R_AARCH64_LD_PREL_LO19 => (Symbol, Relative, Field::Branch19),
        elf::R_AARCH64_ADR_PREL_LO21 => (Symbol, Relative, Field::Adr21),
        elf::R_AARCH64_ADR_PREL_PG_HI21 => (Symbol, Page, PAGES),
        elf::R_AARCH64_ADR_PREL_PG_HI21_NC => (Symbol, Page, Field::Adrp21(Fits::All)),
        elf::R_AARCH64_ADD_ABS_LO12_NC => (Symbol, Absolute, ADD),
        elf::R_AARCH64_LDST8_ABS_LO12_NC => (Symbol, Absolute, Field::LoadStore12(0)),
        elf::R_AARCH64_LDST16_ABS_LO12_NC => (Symbol, Absolute, Field::LoadStore12(1)),
        elf::R_AARCH64_LDST32_ABS_LO12_NC => (Symbol, Absolute, Field::LoadStore12(2)),
        elf::R_AARCH64_LDST64_ABS_LO12_NC => (Symbol, Absolute, Field::LoadStore12(3)),
        elf::R_AARCH64_LDST128_ABS_LO12_NC => (Symbol, Absolute, Field::LoadStore12(4)),
        elf::R_AARCH64_TSTBR14 => (Branch, Relative, Field::Branch14),
        elf::R_AARCH64_CONDBR19 => (Branch, Relative, Field::Branch19),
        elf::R_AARCH64_JUMP26 | elf::R_AARCH64_CALL26 => (Branch, Relative, Field::Branch26),
        elf::R_AARCH64_ADR_GOT_PAGE => (GotLoad, Page, PAGES),
        elf::R_AARCH64_LD64_GOT_LO12_NC => (GotLoad, Absolute, Field::LoadStore12(3)),
        elf::R_AARCH64_GOT_LD_PREL19 => (Got, Relative, Field::Branch19),
        R_AARCH64_GOTPCREL32 => (Got, Relative, Field::Int(4, Fits::Signed)),
        elf::R_AARCH64_LD64_GOTOFF_LO15 => (Got, FromGot, Field::LoadStore15),
        elf::R_AARCH64_GOTREL64 => (Symbol, FromGot, I64),
        elf::R_AARCH64_GOTREL32 => (Symbol, FromGot, Field::Int(4, Fits::Signed)),
        elf::R_AARCH64_TLSDESC_ADR_PAGE21 => (TlsDescriptor, Page, PAGES),
        elf::R_AARCH64_TLSDESC_LD64_LO12 => (TlsDescriptor, Absolute, Field::LoadStore12(3)),
        elf::R_AARCH64_TLSDESC_ADD_LO12 => (TlsDescriptor, Absolute, ADD),
        elf::R_AARCH64_TLSDESC_CALL => (TlsDescriptorCall, Absolute, Field::None),
        other => return move_wide(other).or_else(|| thread_local(other)).unwrap_or(RelocKind::Unknown(other)),
    };
    RelocKind::Of(operand, form, field)
}

/// The parts of an address that `movz` and `movk` build.
fn move_wide(raw: u32) -> Option<RelocKind> {
    use object::elf;
    let (group, fits, form) = match raw {
        elf::R_AARCH64_MOVW_UABS_G0 => (0, Fits::Unsigned, Form::Absolute),
        elf::R_AARCH64_MOVW_UABS_G0_NC => (0, Fits::All, Form::Absolute),
        elf::R_AARCH64_MOVW_UABS_G1 => (1, Fits::Unsigned, Form::Absolute),
        elf::R_AARCH64_MOVW_UABS_G1_NC => (1, Fits::All, Form::Absolute),
        elf::R_AARCH64_MOVW_UABS_G2 => (2, Fits::Unsigned, Form::Absolute),
        elf::R_AARCH64_MOVW_UABS_G2_NC => (2, Fits::All, Form::Absolute),
        elf::R_AARCH64_MOVW_UABS_G3 => (3, Fits::All, Form::Absolute),
        elf::R_AARCH64_MOVW_SABS_G0 => (0, Fits::Signed, Form::Absolute),
        elf::R_AARCH64_MOVW_SABS_G1 => (1, Fits::Signed, Form::Absolute),
        elf::R_AARCH64_MOVW_SABS_G2 => (2, Fits::Signed, Form::Absolute),
        elf::R_AARCH64_MOVW_PREL_G0 => (0, Fits::Signed, Form::Relative),
        elf::R_AARCH64_MOVW_PREL_G0_NC => (0, Fits::All, Form::Relative),
        elf::R_AARCH64_MOVW_PREL_G1 => (1, Fits::Signed, Form::Relative),
        elf::R_AARCH64_MOVW_PREL_G1_NC => (1, Fits::All, Form::Relative),
        elf::R_AARCH64_MOVW_PREL_G2 => (2, Fits::Signed, Form::Relative),
        elf::R_AARCH64_MOVW_PREL_G2_NC => (2, Fits::All, Form::Relative),
        elf::R_AARCH64_MOVW_PREL_G3 => (3, Fits::All, Form::Relative),
        _ => return None,
    };
    Some(RelocKind::Of(Operand::Symbol, form, Field::MovWide(group, fits)))
}

/// Initial-exec and local-exec accesses of thread-locals.
fn thread_local(raw: u32) -> Option<RelocKind> {
    use Operand::{GotThreadOffset, ThreadOffset};
    use object::elf;
    let (operand, form, field) = match raw {
        elf::R_AARCH64_TLSIE_ADR_GOTTPREL_PAGE21 => (GotThreadOffset, Form::Page, PAGES),
        elf::R_AARCH64_TLSIE_LD64_GOTTPREL_LO12_NC => (GotThreadOffset, Form::Absolute, Field::LoadStore12(3)),
        elf::R_AARCH64_TLSIE_LD_GOTTPREL_PREL19 => (GotThreadOffset, Form::Relative, Field::Branch19),
        elf::R_AARCH64_TLSLE_MOVW_TPREL_G2 => (ThreadOffset, Form::Absolute, Field::MovWide(2, Fits::Signed)),
        elf::R_AARCH64_TLSLE_MOVW_TPREL_G1 => (ThreadOffset, Form::Absolute, Field::MovWide(1, Fits::Signed)),
        elf::R_AARCH64_TLSLE_MOVW_TPREL_G1_NC => (ThreadOffset, Form::Absolute, Field::MovWide(1, Fits::All)),
        elf::R_AARCH64_TLSLE_MOVW_TPREL_G0 => (ThreadOffset, Form::Absolute, Field::MovWide(0, Fits::Signed)),
        elf::R_AARCH64_TLSLE_MOVW_TPREL_G0_NC => (ThreadOffset, Form::Absolute, Field::MovWide(0, Fits::All)),
        elf::R_AARCH64_TLSLE_ADD_TPREL_HI12 => (ThreadOffset, Form::Absolute, Field::AddHigh12),
        elf::R_AARCH64_TLSLE_ADD_TPREL_LO12 => (ThreadOffset, Form::Absolute, Field::Add12(Fits::Unsigned)),
        elf::R_AARCH64_TLSLE_ADD_TPREL_LO12_NC => (ThreadOffset, Form::Absolute, ADD),
        elf::R_AARCH64_TLSLE_LDST8_TPREL_LO12_NC => (ThreadOffset, Form::Absolute, Field::LoadStore12(0)),
        elf::R_AARCH64_TLSLE_LDST16_TPREL_LO12_NC => (ThreadOffset, Form::Absolute, Field::LoadStore12(1)),
        elf::R_AARCH64_TLSLE_LDST32_TPREL_LO12_NC => (ThreadOffset, Form::Absolute, Field::LoadStore12(2)),
        elf::R_AARCH64_TLSLE_LDST64_TPREL_LO12_NC => (ThreadOffset, Form::Absolute, Field::LoadStore12(3)),
        elf::R_AARCH64_TLSLE_LDST128_TPREL_LO12_NC => (ThreadOffset, Form::Absolute, Field::LoadStore12(4)),
        _ => return None,
    };
    Some(RelocKind::Of(operand, form, field))
}

/// The kind of a Mach-O relocation (`<mach-o/arm64/reloc.h>`): type, whether it is PC-relative, the logarithm of its
/// length, and the instruction word at the place, which decides what `PAGEOFF12` is. `SUBTRACTOR` and `ADDEND` are no
/// kinds: they add to the relocation after them.
#[must_use]
pub fn from_macho(raw: u8, relative: bool, log2: u8, instruction: u32) -> RelocKind {
    use object::macho;
    let unknown = RelocKind::Unknown(u32::from(raw));
    let offset = |operand| match low_12_field(instruction) {
        Some(field) => RelocKind::Of(operand, Form::Absolute, field),
        None => unknown,
    };
    match (raw, relative, log2) {
        (macho::ARM64_RELOC_UNSIGNED, false, 3) => RelocKind::ABS64,
        (macho::ARM64_RELOC_UNSIGNED, false, 2) => {
            RelocKind::Of(Operand::Symbol, Form::Absolute, Field::Int(4, Fits::Unsigned))
        }
        (macho::ARM64_RELOC_BRANCH26, true, 2) => RelocKind::Of(Operand::Branch, Form::Relative, Field::Branch26),
        (macho::ARM64_RELOC_PAGE21, true, 2) => RelocKind::Of(Operand::Symbol, Form::Page, PAGES),
        (macho::ARM64_RELOC_PAGEOFF12, false, 2) => offset(Operand::Symbol),
        (macho::ARM64_RELOC_GOT_LOAD_PAGE21, true, 2) => RelocKind::Of(Operand::GotLoad, Form::Page, PAGES),
        (macho::ARM64_RELOC_GOT_LOAD_PAGEOFF12, false, 2) => offset(Operand::GotLoad),
        (macho::ARM64_RELOC_POINTER_TO_GOT, true, 2) => {
            RelocKind::Of(Operand::Got, Form::Relative, Field::Int(4, Fits::Signed))
        }
        (macho::ARM64_RELOC_POINTER_TO_GOT, false, 3) => RelocKind::Of(Operand::Got, Form::Absolute, I64),
        (macho::ARM64_RELOC_TLVP_LOAD_PAGE21, true, 2) => RelocKind::Of(Operand::Tlv, Form::Page, PAGES),
        (macho::ARM64_RELOC_TLVP_LOAD_PAGEOFF12, false, 2) => offset(Operand::Tlv),
        _ => unknown,
    }
}

/// The field of an `add` (immediate) or of a load or store with an unsigned offset; `None` for other instructions
/// (Arm ARM C4.1: `add` is x00100010, loads and stores xx111x01 in the upper bits; size in bits 30 and 31, with bit 23 of
/// a vector register's the size 128).
fn low_12_field(instruction: u32) -> Option<Field> {
    if instruction & 0x7fc0_0000 == 0x1100_0000 {
        return Some(ADD);
    }
    if instruction & 0x3b00_0000 != 0x3900_0000 {
        return None;
    }
    let is_vector_128 = instruction & 0xc480_0000 == 0x0480_0000;
    Some(Field::LoadStore12(if is_vector_128 { 4 } else { (instruction >> 30) as u8 }))
}

/// Length of the jump that is written over a function's entry: one instruction, which is written at once.
pub const ENTRY_JUMP_LEN: usize = 4;

/// `b to` at `from`; `None` if it does not reach (128 MiB).
#[must_use]
pub fn jump(from: LiveAddr, to: LiveAddr) -> Option<[u8; ENTRY_JUMP_LEN]> {
    let mut out = 0x1400_0000_u32.to_le_bytes();
    Field::Branch26.write(&mut out, i128::from(to.0) - i128::from(from.0)).ok()?;
    Some(out)
}

/// Length of a jump through a word, padding included.
pub const FAR_JUMP_LEN: usize = 16;

/// A jump at `at` to the address in the word at `pointer`, 8 bytes aligned. `x16` belongs to nobody between a call and
/// the function's first instruction (AAPCS64 6.1.1). `None` if the word is out of reach.
///
/// ```text
/// adrp x16, pointer
/// ldr  x16, [x16, pointer & 0xfff]
/// br   x16
/// ```
#[must_use]
pub fn far_jump(at: LiveAddr, pointer: LiveAddr) -> Option<[u8; FAR_JUMP_LEN]> {
    let mut out = [0; FAR_JUMP_LEN];
    for (word, code) in out.chunks_exact_mut(4).zip([0x9000_0010_u32, 0xf940_0210, 0xd61f_0200, 0xd420_0000]) {
        word.copy_from_slice(&code.to_le_bytes());
    }
    let pages = i128::from(pointer.0 & !0xfff) - i128::from(at.0 & !0xfff);
    PAGES.write(&mut out, pages).ok()?;
    Field::LoadStore12(3).write(&mut out[4..], i128::from(pointer.0)).ok()?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_reach_128_mebibytes_and_no_more() {
        let from = LiveAddr(0x5500_0000_0000);
        assert_eq!(jump(from, from), Some([0, 0, 0, 0x14]));
        assert_eq!(jump(from, from.plus((1 << 27) - 4)), Some([0xff, 0xff, 0xff, 0x15]));
        assert_eq!(jump(from, from.plus(1 << 27)), None);
        assert_eq!(jump(from.plus(1 << 27), from), Some([0, 0, 0, 0x16]));
        assert_eq!(jump(from.plus((1 << 27) + 4), from), None);
        assert_eq!(jump(from, from.plus(2)), None);
    }
}
