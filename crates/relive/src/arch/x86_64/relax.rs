//! x86-64 instructions that a linker may write in place of others: a load from a word of addresses becomes the address,
//! an access of a thread-local through a function or a word becomes one with a constant.
//!
//! Takes the code of a section and the offset of a relocation's field. The sequences are fixed by the psABI (appendix B.2)
//! and by the ELF TLS specification (section 5); other bytes are left alone and said so.

use crate::arch::reloc::Operand;

/// Rewrites the load whose displacement is at `at` so that it makes the address itself. Gives the offset of the new
/// displacement; `None` if the instruction has no such form, and then nothing is changed.
#[must_use]
pub fn got_load(code: &mut [u8], at: usize) -> Option<usize> {
    let head: &mut [u8; 2] = code.get_mut(at.checked_sub(2)?..)?.first_chunk_mut()?;
    match *head {
        // mov reg, [rip+x]  ->  lea reg, [rip+x]
        [0x8b, operand] if operand & 0xc7 == 0x05 => head[0] = 0x8d,
        // call [rip+x]  ->  addr32 call x
        [0xff, 0x15] => *head = [0x67, 0xe8],
        // jmp [rip+x]  ->  jmp x; nop
        [0xff, 0x25] => {
            let jump: &mut [u8; 6] = code.get_mut(at - 2..)?.first_chunk_mut()?;
            jump[0] = 0xe9;
            jump[5] = 0x90;
            return Some(at - 1);
        }
        _ => return None,
    }
    Some(at)
}

/// Rewrites the load of a thread-local variable descriptor's address (Mach-O) into the address: `mov` becomes `lea`.
///
/// # Errors
/// If the instruction is no such load.
pub fn tlv_load(code: &mut [u8], at: usize) -> Result<(), String> {
    let head = at.checked_sub(2).and_then(|start| code.get_mut(start..at)).ok_or_else(unexpected)?;
    if head[0] != 0x8b || head[1] & 0xc7 != 0x05 {
        return Err(unexpected());
    }
    head[0] = 0x8d;
    Ok(())
}

/// Rewrites the access of a thread-local whose relocation is at `at` into one with the constant `offset` from the thread
/// pointer, which local-dynamic accesses do not need. Gives the offset behind the old sequence: relocations before it
/// belong to the sequence.
///
/// # Errors
/// If the bytes are not the known sequence or the constant does not fit.
pub fn thread_local(code: &mut [u8], at: usize, operand: Operand, offset: i64) -> Result<usize, String> {
    let constant = || i32::try_from(offset).map(i32::to_le_bytes).map_err(|_| "its offset does not fit 32 bits");
    match operand {
        Operand::GeneralDynamic => general_dynamic(code, at, constant()?),
        Operand::LocalDynamic => local_dynamic(code, at),
        Operand::GotThreadOffset => initial_exec(code, at, constant()?),
        Operand::TlsDescriptor => descriptor(code, at, constant()?),
        Operand::TlsDescriptorCall => {
            // call [rax]  ->  two bytes of nothing
            let call = code.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<2>).ok_or_else(unexpected)?;
            if *call != [0xff, 0x10] {
                return Err(unexpected());
            }
            *call = [0x66, 0x90];
            Ok(at + 2)
        }
        Operand::Nothing
        | Operand::Symbol
        | Operand::Branch
        | Operand::Got
        | Operand::GotLoad
        | Operand::GotBase
        | Operand::ThreadOffset
        | Operand::ModuleOffset
        | Operand::Tlv
        | Operand::Size => Err("it is no access of a thread-local through a function or word".into()),
    }
}

const READ_THREAD_POINTER: [u8; 9] = [0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0];

fn unexpected() -> String {
    "the instructions around it are not the known sequence".into()
}

/// `data16 lea rdi,[rip+x]; data16 data16 rex.W call __tls_get_addr`, directly or through a word, becomes
/// `mov rax,fs:0; lea rax,[rax+constant]`.
fn general_dynamic(code: &mut [u8], at: usize, constant: [u8; 4]) -> Result<usize, String> {
    let start = at.checked_sub(4).ok_or_else(unexpected)?;
    let code: &mut [u8; 16] = code.get_mut(start..).and_then(<[u8]>::first_chunk_mut).ok_or_else(unexpected)?;
    let call = [code[8], code[9], code[10], code[11]];
    if code[..4] != [0x66, 0x48, 0x8d, 0x3d] || !matches!(call, [0x66, 0x66, 0x48, 0xe8] | [0x66, 0x48, 0xff, 0x15]) {
        return Err(unexpected());
    }
    code[..9].copy_from_slice(&READ_THREAD_POINTER);
    code[9..12].copy_from_slice(&[0x48, 0x8d, 0x80]);
    code[12..].copy_from_slice(&constant);
    Ok(start + 16)
}

/// `lea rdi,[rip+x]; call __tls_get_addr` (12 bytes, 13 through a word) becomes `mov rax,fs:0` with prefixes before it.
fn local_dynamic(code: &mut [u8], at: usize) -> Result<usize, String> {
    let start = at.checked_sub(3).ok_or_else(unexpected)?;
    let head: [u8; 9] = code.get(start..).and_then(<[u8]>::first_chunk).copied().ok_or_else(unexpected)?;
    let len = match head {
        [0x48, 0x8d, 0x3d, _, _, _, _, 0xe8, _] => 12,
        [0x48, 0x8d, 0x3d, _, _, _, _, 0xff, 0x15] => 13,
        _ => return Err(unexpected()),
    };
    let code = code.get_mut(start..start + len).ok_or_else(unexpected)?;
    code.fill(0x66);
    code[len - READ_THREAD_POINTER.len()..].copy_from_slice(&READ_THREAD_POINTER);
    Ok(start + len)
}

/// `mov reg,[rip+x]` becomes `mov reg,constant`; `add reg,[rip+x]` becomes `lea reg,[reg+constant]`, and `add` with a
/// constant for `rsp` and `r12`, whose `lea` is a byte longer.
fn initial_exec(code: &mut [u8], at: usize, constant: [u8; 4]) -> Result<usize, String> {
    let start = at.checked_sub(3).ok_or_else(unexpected)?;
    let code: &mut [u8; 7] = code.get_mut(start..).and_then(<[u8]>::first_chunk_mut).ok_or_else(unexpected)?;
    let register = (code[2] >> 3) & 7;
    // REX.R extends the register's number where it is; in the new form it is named by other bits.
    let high = match code[0] {
        0x48 => false,
        0x4c => true,
        _ => return Err(unexpected()),
    };
    if code[2] & 0xc7 != 0x05 {
        return Err(unexpected());
    }
    let head = match (code[1], register) {
        (0x8b, _) => [if high { 0x49 } else { 0x48 }, 0xc7, 0xc0 | register],
        (0x03, 4) => [if high { 0x49 } else { 0x48 }, 0x81, 0xc4],
        (0x03, _) => [if high { 0x4d } else { 0x48 }, 0x8d, 0x80 | (register << 3) | register],
        _ => return Err(unexpected()),
    };
    code[..3].copy_from_slice(&head);
    code[3..].copy_from_slice(&constant);
    Ok(start + 7)
}

/// `lea reg,[rip+x]` becomes `mov reg,constant`.
fn descriptor(code: &mut [u8], at: usize, constant: [u8; 4]) -> Result<usize, String> {
    let start = at.checked_sub(3).ok_or_else(unexpected)?;
    let code: &mut [u8; 7] = code.get_mut(start..).and_then(<[u8]>::first_chunk_mut).ok_or_else(unexpected)?;
    if !matches!(code[..2], [0x48 | 0x4c, 0x8d]) || code[2] & 0xc7 != 0x05 {
        return Err(unexpected());
    }
    let register = (code[2] >> 3) & 7;
    let prefix = if code[0] == 0x4c { 0x49 } else { 0x48 };
    code[..3].copy_from_slice(&[prefix, 0xc7, 0xc0 | register]);
    code[3..].copy_from_slice(&constant);
    Ok(start + 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disassemble(code: &[u8]) -> Vec<String> {
        iced_x86::Decoder::with_ip(64, code, 0, 0).into_iter().map(|instruction| instruction.to_string()).collect()
    }

    fn rewritten(code: &[u8], at: usize, operand: Operand) -> (Vec<String>, usize) {
        let mut code = code.to_vec();
        let end = thread_local(&mut code, at, operand, -16).unwrap();
        (disassemble(&code), end)
    }

    #[test]
    fn general_dynamic_becomes_local_exec() {
        let code = [0x66, 0x48, 0x8d, 0x3d, 0, 0, 0, 0, 0x66, 0x66, 0x48, 0xe8, 0, 0, 0, 0, 0xc3];
        let (text, end) = rewritten(&code, 4, Operand::GeneralDynamic);
        assert_eq!((text.join("; ").as_str(), end), ("mov rax,fs:[0]; lea rax,[rax-10h]; ret", 16));
    }

    #[test]
    fn local_dynamic_becomes_local_exec_in_both_lengths() {
        let code = [0x48, 0x8d, 0x3d, 0, 0, 0, 0, 0xe8, 0, 0, 0, 0, 0xc3];
        let (text, end) = rewritten(&code, 3, Operand::LocalDynamic);
        assert_eq!((text.join("; ").as_str(), end), ("mov rax,fs:[0]; ret", 12));
        let code = [0x48, 0x8d, 0x3d, 0, 0, 0, 0, 0xff, 0x15, 0, 0, 0, 0, 0xc3];
        let (text, end) = rewritten(&code, 3, Operand::LocalDynamic);
        assert_eq!((text.join("; ").as_str(), end), ("mov rax,fs:[0]; ret", 13));
    }

    #[test]
    fn initial_exec_becomes_local_exec_for_every_register() {
        let names = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"];
        for register in 0..16_u8 {
            let name = names.get(usize::from(register)).map_or_else(|| format!("r{register}"), |name| (*name).into());
            let prefix = if register < 8 { 0x48 } else { 0x4c };
            let operand = 0x05 | ((register & 7) << 3);
            let (text, end) = rewritten(&[prefix, 0x8b, operand, 0, 0, 0, 0], 3, Operand::GotThreadOffset);
            assert_eq!((text, end), (vec![format!("mov {name},0FFFFFFFFFFFFFFF0h")], 7));
            let (text, _) = rewritten(&[prefix, 0x03, operand, 0, 0, 0, 0], 3, Operand::GotThreadOffset);
            let by_add = format!("add {name},0FFFFFFFFFFFFFFF0h");
            let by_lea = format!("lea {name},[{name}-10h]");
            assert!(text == [by_add] || text == [by_lea], "{text:?}");
            let (text, _) = rewritten(&[prefix, 0x8d, operand, 0, 0, 0, 0], 3, Operand::TlsDescriptor);
            assert_eq!(text, [format!("mov {name},0FFFFFFFFFFFFFFF0h")]);
        }
    }

    #[test]
    fn another_sequence_is_refused_and_left_alone() {
        use Operand::{GeneralDynamic, GotThreadOffset, LocalDynamic, TlsDescriptor, TlsDescriptorCall};
        for operand in [GeneralDynamic, LocalDynamic, GotThreadOffset, TlsDescriptor, TlsDescriptorCall] {
            for at in [0, 4, 15, 16, 40] {
                let mut code = vec![0x90; 16];
                thread_local(&mut code, at, operand, -16).unwrap_err();
                assert_eq!(code, [0x90; 16]);
                assert_eq!(got_load(&mut code, at), None);
                tlv_load(&mut code, at).unwrap_err();
            }
        }
    }

    #[test]
    fn loads_of_addresses_become_addresses() {
        let mut code = vec![0x48, 0x8b, 0x3d, 1, 0, 0, 0];
        assert_eq!(got_load(&mut code, 3), Some(3));
        assert_eq!(disassemble(&code), ["lea rdi,[8]"]);
        let mut code = vec![0xff, 0x15, 1, 0, 0, 0];
        assert_eq!(got_load(&mut code, 2), Some(2));
        assert_eq!(disassemble(&code), ["call 7"]);
        let mut code = vec![0xff, 0x25, 1, 0, 0, 0];
        let field = got_load(&mut code, 2).unwrap();
        code[field..field + 4].copy_from_slice(&1_i32.to_le_bytes());
        assert_eq!(disassemble(&code), ["jmp near ptr 6", "nop"]);
    }
}
