//! x86-64: what its relocations compute, the bytes of entry jumps and stubs, and what a function's first bytes allow.
//!
//! Relocation formulas are those of the System V psABI for x86-64, section 4.4: S is the symbol, A the addend, P the
//! place, G the offset of a GOT word, GOT the table.

use relive_wire::LiveAddr;

/// What a relocation computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RelocKind {
    /// Nothing.
    None,
    /// `S + A`, 8 bytes.
    Abs64,
    /// `S + A`, 4 bytes, zero-extended. Only in debug information.
    Abs32,
    /// `S + A - P`, 4 bytes.
    Pc32,
    /// `L + A - P`, 4 bytes: a call or jump, so any stub that leads to S will do.
    Plt32,
    /// `S + A - P`, 8 bytes.
    Pc64,
    /// `G + GOT + A - P`, 4 bytes. The relaxable forms (`GOTPCRELX`, `REX_GOTPCRELX`) are the same without relaxation.
    GotPcRel,
    /// Offset of a thread-local from the thread pointer, 4 bytes.
    TpOff32,
    /// The same, 8 bytes.
    TpOff64,
    /// PC-relative address of a GOT word that holds the thread-local's offset from the thread pointer.
    GotTpOff,
    /// General-dynamic access: a fixed instruction sequence, rewritten to local-exec.
    TlsGd,
    /// Local-dynamic access: a fixed instruction sequence, rewritten to local-exec.
    TlsLd,
    /// Offset of a thread-local in its module's block, 4 bytes; the thread-pointer offset once `TlsLd` is rewritten.
    DtpOff32,
    /// The same, 8 bytes. In debug information.
    DtpOff64,
    /// Not understood.
    Unknown(u32),
}

impl RelocKind {
    /// The kind of an ELF relocation number.
    #[must_use]
    pub fn from_elf(raw: u32) -> RelocKind {
        use object::elf;
        match raw {
            elf::R_X86_64_NONE => RelocKind::None,
            elf::R_X86_64_64 => RelocKind::Abs64,
            elf::R_X86_64_32 => RelocKind::Abs32,
            elf::R_X86_64_PC32 => RelocKind::Pc32,
            elf::R_X86_64_PLT32 => RelocKind::Plt32,
            elf::R_X86_64_PC64 => RelocKind::Pc64,
            elf::R_X86_64_GOTPCREL | elf::R_X86_64_GOTPCRELX | elf::R_X86_64_REX_GOTPCRELX => RelocKind::GotPcRel,
            elf::R_X86_64_TPOFF32 => RelocKind::TpOff32,
            elf::R_X86_64_TPOFF64 => RelocKind::TpOff64,
            elf::R_X86_64_GOTTPOFF => RelocKind::GotTpOff,
            elf::R_X86_64_TLSGD => RelocKind::TlsGd,
            elf::R_X86_64_TLSLD => RelocKind::TlsLd,
            elf::R_X86_64_DTPOFF32 => RelocKind::DtpOff32,
            elf::R_X86_64_DTPOFF64 => RelocKind::DtpOff64,
            other => RelocKind::Unknown(other),
        }
    }

    /// Bytes of the field that is written.
    #[must_use]
    pub fn width(self) -> u64 {
        match self {
            RelocKind::None | RelocKind::Unknown(_) => 0,
            RelocKind::Abs64 | RelocKind::Pc64 | RelocKind::TpOff64 | RelocKind::DtpOff64 => 8,
            RelocKind::Abs32
            | RelocKind::Pc32
            | RelocKind::Plt32
            | RelocKind::GotPcRel
            | RelocKind::TpOff32
            | RelocKind::GotTpOff
            | RelocKind::TlsGd
            | RelocKind::TlsLd
            | RelocKind::DtpOff32 => 4,
        }
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
