//! Blocking calls that give up when their thread is stopped, although no signal came.
//!
//! The kernel itself makes most interrupted calls again when a stop was all there was. A few return `EINTR` to the
//! program at once, which documents say only happens with a handled signal, and programs rely on that. Their result is
//! still in the register when the thread is stopped, and their instruction is right before the next one: stepping back
//! over it makes the call anew. Relative timeouts start anew as well.

use std::io;

use relive_wire::LiveAddr;

use crate::memory::Memory;
use crate::status::{self, Status};
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
/// `syscall`.
const INSTRUCTION: [u8; 2] = [0x0f, 0x05];

/// Has the stopped thread `tid` make its call again if the stop alone ended it. `signal` is what will be delivered
/// when it is let go; a signal that does nothing would not have ended the call.
pub(super) fn repeat_interrupted_call(memory: &Memory, tid: u32, signal: i32) -> io::Result<()> {
    let mut registers = sys::registers(tid)?;
    let interrupted = registers.rax.cast_signed() == -i64::from(libc::EINTR);
    if !interrupted || !CALLS.contains(&registers.orig_rax.cast_signed()) {
        return Ok(());
    }
    let Ok(status) = Status::read(memory.pid(), tid) else { return Ok(()) };
    if status.deliverable != 0 || (signal != 0 && status.ineffective & status::bit(signal) == 0) {
        return Ok(());
    }
    let call_at = registers.rip.wrapping_sub(INSTRUCTION.len() as u64);
    let mut instruction = [0; INSTRUCTION.len()];
    if memory.read(LiveAddr(call_at), &mut instruction).is_err() || instruction != INSTRUCTION {
        return Ok(());
    }
    registers.rip = call_at;
    registers.rax = registers.orig_rax;
    // The thread is no longer in a call as far as the kernel's own restarting goes.
    registers.orig_rax = u64::MAX;
    sys::set_registers(tid, &registers)
}
