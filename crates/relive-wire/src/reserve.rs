//! The reserve: a part of every thread's own storage that is kept for the thread-locals of patches.
//!
//! It is a thread-local of the agent, so it lies at one distance from the thread pointer in all threads, and code of the
//! program reaches it as it reaches its own thread-locals. It is *initialised* data: the loader makes each new thread's
//! copy from bytes in the agent's mapped image, the template, and whoever writes to the template has written to all
//! threads to come.

/// Bytes in every thread. All of them count against the stack that the thread was given.
pub const RESERVE_SIZE: usize = 8 << 10;
/// Alignment of its first byte.
pub const RESERVE_ALIGN: u64 = 128;
/// Its first bytes, in the template and in every thread, for ever: what is not marked so is not the reserve.
pub const RESERVE_MARK: [u8; 16] = *b"relive threads 2";

/// The template as the agent has it: the mark, then zeroes.
#[must_use]
pub const fn reserve_template() -> [u8; RESERVE_SIZE] {
    let mut bytes = [0; RESERVE_SIZE];
    let mut at = 0;
    while at < RESERVE_MARK.len() {
        bytes[at] = RESERVE_MARK[at];
        at += 1;
    }
    bytes
}
