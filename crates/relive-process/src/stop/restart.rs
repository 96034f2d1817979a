//! Blocking calls that give up when their thread is stopped, although no signal came.
//!
//! The kernel itself makes most interrupted calls again when a stop was all there was. A few return `EINTR` to the
//! program at once, which documents say only happens with a handled signal, and programs rely on that. Their result is
//! still in the register when the thread is stopped. It is exchanged for the one by which the kernel knows a call that is
//! to be made again unless a handler runs first (`ERESTARTNOHAND`, `arch/x86/kernel/signal.c`). So the kernel decides when
//! the thread goes on, and a signal that comes in the last moment ends the call as it should. `epoll_wait` and `epoll_pwait`
//! wait for what is left of their limit, where that is known ([`waits`]); limits of other such calls start anew, as they
//! lie in the program's memory or in the kernel's.
//!
//! One moment is the kernel's alone, after any stop by anybody: a thread that it has set back to before its call may have to
//! wait for a processor. A signal that comes then runs its handler before the call is made, like one that came before the
//! program made it, and the call blocks.

use std::io;

use relive_wire::LiveAddr;

use super::waits::{self, Waits};
use crate::memory::Memory;
use crate::sys;

/// Calls that return `EINTR` after a mere stop and that can be made again: nothing was done when they say so.
/// Socket calls do it when the socket has a timeout.
const CALLS: [libc::c_long; 22] = [
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_epoll_wait,
    libc::SYS_io_getevents,
    SYS_IO_PGETEVENTS,
    libc::SYS_io_uring_enter,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_write,
    libc::SYS_writev,
];
/// Not among libc's names.
const SYS_IO_PGETEVENTS: libc::c_long = 333;
/// "Restart if no handler", a result that no program ever sees.
const ERESTARTNOHAND: i64 = 514;
/// `syscall`. A call that was made in another way has other numbers.
const INSTRUCTION: [u8; 2] = [0x0f, 0x05];

/// Has the stopped thread `tid`, which has these `registers`, make its call again if no handler runs when it is let go.
pub(super) fn repeat_interrupted_call(
    memory: &Memory,
    waits: &Waits,
    tid: u32,
    mut registers: libc::user_regs_struct,
) -> io::Result<()> {
    let interrupted = registers.rax.cast_signed() == -i64::from(libc::EINTR);
    if !interrupted || !CALLS.contains(&registers.orig_rax.cast_signed()) {
        return Ok(());
    }
    let call_at = registers.rip.wrapping_sub(INSTRUCTION.len() as u64);
    let mut instruction = [0; INSTRUCTION.len()];
    if memory.read(LiveAddr(call_at), &mut instruction).is_err() || instruction != INSTRUCTION {
        return Ok(());
    }
    registers.rax = (-ERESTARTNOHAND).cast_unsigned();
    if waits::CALLS.contains(&registers.orig_rax.cast_signed())
        && let Some(left) = waits.left(memory.pid(), tid, registers.rip, registers.r10 as i32)
    {
        registers.r10 = u64::from(left.cast_unsigned());
    }
    sys::set_registers(tid, &registers)
}
