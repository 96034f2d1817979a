//! Memory written from inside, on AArch64: what on other machines is done from outside.

use std::arch::asm;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use libc::{c_int, c_void};
use relive_wire::LiveAddr;

use super::auxiliary;

/// Writes `bytes` to `at`, whatever the protection there is; afterwards the pages have `protection`. False if the memory is
/// not mapped or cannot be protected so.
///
/// Other threads may run what is written: pages that are code stay executable meanwhile, and an aligned word of 4 or
/// 8 bytes is one store.
pub(crate) fn store(at: LiveAddr, bytes: &[u8], protection: c_int) -> bool {
    let (place, page) = (at.0 as usize, auxiliary(libc::AT_PAGESZ) as usize);
    let Some(end) = place.checked_add(bytes.len()).and_then(|end| end.checked_next_multiple_of(page)) else {
        return false;
    };
    let start = place - place % page;
    let protect = |protection| {
        // SAFETY: changes what the pages allow; that nobody needs more of them is the caller's contract with relive.
        unsafe { libc::mprotect(start as *mut c_void, end - start, protection) == 0 }
    };
    if !protect(protection | libc::PROT_READ | libc::PROT_WRITE) {
        return false;
    }
    if let (Ok(word), true) = (<[u8; 4]>::try_from(bytes), place.is_multiple_of(4)) {
        // SAFETY: aligned, mapped and writable, as `mprotect` has just said of the whole range.
        let target = unsafe { AtomicU32::from_ptr(place as *mut u32) };
        target.store(u32::from_le_bytes(word), Ordering::Release);
    } else if let (Ok(word), true) = (<[u8; 8]>::try_from(bytes), place.is_multiple_of(8)) {
        // SAFETY: the same.
        let target = unsafe { AtomicU64::from_ptr(place as *mut u64) };
        target.store(u64::from_le_bytes(word), Ordering::Release);
    } else {
        // SAFETY: mapped and writable; `bytes` is a buffer of the agent's and not part of it.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), place as *mut u8, bytes.len()) };
    }
    clear_instruction_cache(place, bytes.len());
    protect(protection)
}

/// Has every processor fetch what was written (Arm ARM B2.7.4.4): the data cache is cleaned to where instructions are read
/// from, then the instruction cache is invalidated, line by line.
fn clear_instruction_cache(start: usize, len: usize) {
    let cache_type: u64;
    // SAFETY: reads a register that user code may read on Linux.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) cache_type, options(nomem, nostack)) };
    let end = start + len;
    let lines = |log2_words: u64| {
        let line = 4_usize << (log2_words & 15);
        (start & !(line - 1)..end).step_by(line)
    };
    for at in lines(cache_type >> 16) {
        // SAFETY: cleans a line of mapped memory, and changes no byte.
        unsafe { asm!("dc cvau, {}", in(reg) at, options(nostack)) };
    }
    // SAFETY: a barrier.
    unsafe { asm!("dsb ish", options(nostack)) };
    for at in lines(cache_type) {
        // SAFETY: forgets instructions that were fetched, and changes no byte.
        unsafe { asm!("ic ivau, {}", in(reg) at, options(nostack)) };
    }
    // SAFETY: barriers.
    unsafe { asm!("dsb ish", "isb", options(nostack)) };
}
