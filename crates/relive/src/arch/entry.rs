//! The first bytes of a function that already runs: whether a jump fits there, and how the old body stays reachable.
//!
//! Takes the bytes of the old body and gives an `EntryPlan` or the reason why there is no room. The plan's trampoline is
//! the old body's first instructions, moved, followed by a jump behind them: until the generation is switched, and after
//! an undo, it is how the old body is entered.

use iced_x86::{
    BlockEncoder, BlockEncoderOptions, Decoder, DecoderOptions, FlowControl, Instruction, InstructionBlock, OpKind,
    Register,
};
use relive_wire::LiveAddr;

use crate::arch::x86_64::ENTRY_JUMP_LEN;

/// How a function's entry can be redirected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPlan {
    /// Where the function begins.
    pub at: LiveAddr,
    /// Its size in bytes, without padding.
    pub size: u64,
    /// The bytes that the jump overwrites.
    pub old: [u8; ENTRY_JUMP_LEN],
    /// The whole instructions that the jump overwrites in part or in full.
    moved: Vec<u8>,
    /// Whether code of the function leads back into the overwritten bytes (a loop at its very start, a call in them): then
    /// no thread may be anywhere inside the function when they are written.
    pub needs_quiet: bool,
}

impl EntryPlan {
    /// Looks at a function of `size` bytes at `at`; `bytes` are its live bytes and the padding up to the next function.
    ///
    /// # Errors
    /// With the reason, if a jump does not fit.
    pub fn examine(at: LiveAddr, size: u64, bytes: &[u8]) -> Result<EntryPlan, String> {
        if size == 0 {
            return Err("its size is not known".into());
        }
        let body = bytes.get(..usize::try_from(size).unwrap_or(usize::MAX)).ok_or("its bytes cannot be read")?;
        let old: [u8; ENTRY_JUMP_LEN] = bytes
            .get(..ENTRY_JUMP_LEN)
            .and_then(|head| head.try_into().ok())
            .ok_or_else(|| format!("it has {size} bytes, and only {} up to the next function", bytes.len()))?;
        if let Some(padding) = bytes.get(body.len()..ENTRY_JUMP_LEN)
            && padding.iter().any(|byte| !matches!(byte, 0xcc | 0x90 | 0x00))
        {
            return Err(format!("it has only {size} bytes and is followed by something that is not padding"));
        }
        let mut plan = EntryPlan { at, size, old, moved: Vec::new(), needs_quiet: false };
        let mut moved = 0;
        for instruction in decode(body, at) {
            if instruction.is_invalid() {
                return Err("its code cannot be decoded".into());
            }
            let start = instruction.ip().wrapping_sub(at.0) as usize;
            if start < ENTRY_JUMP_LEN {
                moved = start + instruction.len();
                let returns_inside = instruction.next_ip().wrapping_sub(at.0) < ENTRY_JUMP_LEN as u64;
                plan.needs_quiet |= is_call(&instruction) && returns_inside;
                if is_call(&instruction) && calls_through_stack(&instruction) {
                    return Err("its first instructions call through a pointer on the stack".into());
                }
            }
            if let Some(target) = branch_target(&instruction) {
                plan.needs_quiet |= target.wrapping_sub(at.0) < ENTRY_JUMP_LEN as u64;
            }
        }
        plan.moved = body.get(..moved).ok_or("its code ends inside an instruction")?.to_vec();
        Ok(plan)
    }

    /// The trampoline's code when it is placed at `place`.
    ///
    /// # Errors
    /// If an instruction cannot be moved so far.
    pub fn trampoline(&self, place: LiveAddr) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        for instruction in decode(&self.moved, self.at) {
            let here = place.plus(out.len() as u64).0;
            if is_call(&instruction) {
                push_return_address(&mut out, instruction.next_ip());
                let here = place.plus(out.len() as u64).0;
                out.extend(call_as_jump(&instruction, here)?);
            } else {
                out.extend(move_one(&instruction, here)?);
            }
        }
        if (self.moved.len() as u64) < self.size {
            let here = place.plus(out.len() as u64);
            let back = self.at.plus(self.moved.len() as u64);
            out.extend(crate::arch::x86_64::jump(here, back).ok_or("the old body is out of reach")?);
        }
        // A branch whose target is out of reach becomes one through a word beside it: three of them are too long.
        if out.len() as u64 > self.trampoline_room() {
            return Err("its first instructions branch to what is out of reach".into());
        }
        Ok(out)
    }

    /// Upper bound of the trampoline's length in bytes.
    #[must_use]
    pub fn trampoline_room(&self) -> u64 {
        // A call becomes 25 bytes, a short branch at most 6, and the jump back takes 5.
        self.moved.len() as u64 * 6 + 32
    }
}

fn decode(bytes: &[u8], at: LiveAddr) -> impl Iterator<Item = Instruction> + '_ {
    let mut decoder = Decoder::with_ip(64, bytes, at.0, DecoderOptions::NONE);
    std::iter::from_fn(move || decoder.can_decode().then(|| decoder.decode()))
}

fn is_call(instruction: &Instruction) -> bool {
    matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall)
}

fn calls_through_stack(instruction: &Instruction) -> bool {
    instruction.op0_kind() == OpKind::Memory
        && (instruction.memory_base() == Register::RSP || instruction.memory_index() == Register::RSP)
        || instruction.op0_kind() == OpKind::Register && instruction.op0_register() == Register::RSP
}

fn branch_target(instruction: &Instruction) -> Option<u64> {
    matches!(instruction.flow_control(), FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch)
        .then(|| instruction.near_branch_target())
}

fn move_one(instruction: &Instruction, place: u64) -> Result<Vec<u8>, String> {
    let block = InstructionBlock::new(std::slice::from_ref(instruction), place);
    let encoded = BlockEncoder::encode(64, block, BlockEncoderOptions::NONE)
        .map_err(|error| format!("an instruction cannot be moved: {error}"))?;
    Ok(encoded.code_buffer)
}

/// `lea rsp,[rsp-8]; mov dword [rsp],low; mov dword [rsp+4],high`: what a call pushes, without a return address in the
/// trampoline, through which nothing could unwind. `lea` leaves the flags alone.
fn push_return_address(out: &mut Vec<u8>, address: u64) {
    out.extend([0x48, 0x8d, 0x64, 0x24, 0xf8]);
    out.extend([0xc7, 0x04, 0x24]);
    out.extend((address as u32).to_le_bytes());
    out.extend([0xc7, 0x44, 0x24, 0x04]);
    out.extend(((address >> 32) as u32).to_le_bytes());
}

fn call_as_jump(instruction: &Instruction, place: u64) -> Result<Vec<u8>, String> {
    use iced_x86::Code;
    let mut jump = *instruction;
    if instruction.code() == Code::Call_rel32_64 {
        jump.set_code(Code::Jmp_rel32_64);
    } else if instruction.code() == Code::Call_rm64 {
        jump.set_code(Code::Jmp_rm64);
    } else {
        return Err(format!("a call of the form {:?} cannot be moved", instruction.code()));
    }
    move_one(&jump, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: LiveAddr = LiveAddr(0x5555_5555_0000);

    fn plan(size: u64, bytes: &[u8]) -> Result<EntryPlan, String> {
        EntryPlan::examine(AT, size, bytes)
    }

    #[test]
    fn an_ordinary_prologue_is_moved_whole() {
        // sub rsp,0x48; mov [rsp+8],rdi; ret
        let bytes = [0x48, 0x83, 0xec, 0x48, 0x48, 0x89, 0x7c, 0x24, 0x08, 0xc3];
        let plan = plan(10, &bytes).unwrap();
        assert!(!plan.needs_quiet);
        let code = plan.trampoline(AT.plus(0x1000)).unwrap();
        assert_eq!(&code[..9], &bytes[..9]);
        // jmp back to AT+9 from AT+0x1009, five bytes long
        assert_eq!(code[9], 0xe9);
        assert_eq!(i32::from_le_bytes(code[10..14].try_into().unwrap()), 9 - (0x1009 + 5));
    }

    #[test]
    fn a_single_ret_uses_its_padding() {
        let plan = plan(1, &[0xc3, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc]).unwrap();
        assert_eq!(plan.trampoline(AT.plus(64)).unwrap(), [0xc3]);
    }

    #[test]
    fn no_room_before_the_next_function_is_refused() {
        assert!(plan(2, &[0x31, 0xc0]).unwrap_err().contains("only 2 up to the next function"));
        assert!(plan(1, &[0xc3, 0x48, 0x83, 0xec, 0x48]).unwrap_err().contains("not padding"));
    }

    #[test]
    fn a_call_in_the_first_bytes_keeps_its_return_address() {
        // push rax; call AT+0x106; pop rax; ret
        let bytes = [0x50, 0xe8, 0x00, 0x01, 0x00, 0x00, 0x58, 0xc3];
        let plan = plan(8, &bytes).unwrap();
        assert!(!plan.needs_quiet, "the return address is behind the overwritten bytes");
        let code = plan.trampoline(AT.plus(0x1000)).unwrap();
        assert_eq!(code[0], 0x50);
        assert_eq!(&code[9..13], &(AT.plus(6).0 as u32).to_le_bytes());
        let jump = 1 + 5 + 7 + 8;
        assert_eq!(code[jump], 0xe9);
        let rel = i32::from_le_bytes(code[jump + 1..jump + 5].try_into().unwrap());
        assert_eq!(AT.plus(0x1000 + jump as u64 + 5).plus(rel as i64 as u64), AT.plus(0x106));
        assert!(code.len() as u64 <= plan.trampoline_room());
    }

    #[test]
    fn branches_out_of_reach_do_not_take_more_room_than_there_is() {
        // jne AT+0x12; loopne AT+0x14; loopne AT+0x16
        let plan = plan(6, &[0x75, 0x10, 0xe0, 0x10, 0xe0, 0x10]).unwrap();
        assert!(plan.trampoline(AT.plus(0x1000)).unwrap().len() as u64 <= plan.trampoline_room());
        // How long they are depends on where they lie: the words beside them are aligned.
        let far: Vec<_> = (0..8).map(|by| plan.trampoline(AT.plus((1 << 40) + by))).collect();
        assert!(far.iter().any(|code| code.as_ref().is_err_and(|why| why.contains("out of reach"))), "{far:x?}");
        assert!(far.iter().flatten().all(|code| code.len() as u64 <= plan.trampoline_room()), "{far:x?}");
    }

    #[test]
    fn a_loop_at_the_very_start_needs_quiet() {
        // pause; dec rdi; jne AT; ret
        let bytes = [0xf3, 0x90, 0x48, 0xff, 0xcf, 0x75, 0xf9, 0xc3];
        assert!(plan(8, &bytes).unwrap().needs_quiet);
    }
}
