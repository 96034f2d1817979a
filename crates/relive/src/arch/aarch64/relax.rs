//! AArch64 instructions that a linker may write in place of others. The twin of `x86_64/relax`.
//!
//! Takes the code of a section and the offset of a relocation's instruction. Each instruction of a sequence has a
//! relocation of its own and is rewritten alone, as the ELF specification for the Arm 64-bit Architecture allows
//! (section 5.8); other instructions are left alone and said so.

use crate::arch::reloc::{Field, Fits, Operand};

const NOP: u32 = 0xd503_201f;

/// Rewrites `ldr xN, [xM, ..]` at `at`, a load from a word of addresses, into the `add` that makes the address. Gives
/// the new field; `None` if it is no such load. An `adrp` stays as it is.
#[must_use]
pub fn got_load(code: &mut [u8], at: usize) -> Option<Field> {
    let word = word(code, at)?;
    if word & 0x9f00_0000 == 0x9000_0000 {
        return Some(Field::Adrp21(Fits::Signed));
    }
    // Register 31 is `xzr` for a load and `sp` for `add`.
    if word & 0xffc0_0000 != 0xf940_0000 || word & 0x1f == 31 {
        return None;
    }
    // `ldr` and `add` have their registers in the same bits.
    put(code, at, 0x9100_0000 | word & 0x3ff)?;
    Some(Field::Add12(Fits::All))
}

/// Rewrites the instruction at `at`, part of an access of a thread-local, into its part of one with the constant `offset`
/// from the thread pointer. Gives the offset behind it.
///
/// # Errors
/// If it is not an instruction of a known sequence or the constant does not fit.
pub fn thread_local(code: &mut [u8], at: usize, operand: Operand, offset: i64) -> Result<usize, String> {
    let old = word(code, at).ok_or_else(unexpected)?;
    let constant = u32::try_from(offset).map_err(|_| "its offset does not fit 32 bits")?;
    let register = old & 0x1f;
    let high = |register: u32| 0xd2a0_0000 | ((constant >> 16) << 5) | register;
    let low = |register: u32| 0xf280_0000 | ((constant & 0xffff) << 5) | register;
    let is_adrp = old & 0x9f00_0000 == 0x9000_0000;
    let is_load = old & 0xffc0_0000 == 0xf940_0000;
    // Both halves of an offset must be made in one register.
    let is_own_load = is_load && (old >> 5) & 0x1f == register;
    let is_add = old & 0xffc0_0000 == 0x9100_0000;
    let is_call = old & 0xffff_fc1f == 0xd63f_0000;
    let new = match operand {
        // adrp; ldr  ->  movz, upper half; movk, lower half: of the register that the sequence leaves the offset in.
        Operand::GotThreadOffset if is_adrp => high(register),
        Operand::GotThreadOffset if is_own_load => low(register),
        // A descriptor's function gives the offset in x0, which `adrp` writes already; `ldr` writes x1.
        Operand::TlsDescriptor if is_adrp && register == 0 => high(0),
        Operand::TlsDescriptor if is_load => low(0),
        Operand::TlsDescriptor if is_add => NOP,
        Operand::TlsDescriptorCall if is_call => NOP,
        Operand::Nothing
        | Operand::Symbol
        | Operand::Branch
        | Operand::Got
        | Operand::GotLoad
        | Operand::GotBase
        | Operand::ThreadOffset
        | Operand::GotThreadOffset
        | Operand::ModuleOffset
        | Operand::GeneralDynamic
        | Operand::LocalDynamic
        | Operand::TlsDescriptor
        | Operand::TlsDescriptorCall
        | Operand::Tlv
        | Operand::Size => return Err(unexpected()),
    };
    put(code, at, new).ok_or_else(unexpected)?;
    Ok(at + 4)
}

fn unexpected() -> String {
    "the instructions around it are not the known sequence".into()
}

fn word(code: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*code.get(at..)?.first_chunk()?))
}

fn put(code: &mut [u8], at: usize, word: u32) -> Option<()> {
    *code.get_mut(at..)?.first_chunk_mut()? = word.to_le_bytes();
    Some(())
}
