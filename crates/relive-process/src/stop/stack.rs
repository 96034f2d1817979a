//! All words on the stacks of a stopped thread, however deep they lie.
//!
//! A signal handler may run on a stack of its own; what it interrupted is on another one. The kernel leaves the
//! interrupted registers above the handler, with the selectors of user code behind the flags, by which they are found.
//! What only looks like them makes the search longer and nothing else.

use relive_wire::LiveAddr;

use super::{RED_ZONE, Thread};
use crate::Result;
use crate::maps::MemoryMap;
use crate::memory::Memory;

/// How much is read at once.
const PART: usize = 256 << 10;
/// Most stacks of one thread that are looked at.
const STACKS_MAX: usize = 16;
/// The selectors of 64-bit user code: its code in the lowest two bytes, its stack in the highest.
const SELECTORS: u64 = 0x002b_0000_0000_0033;
const SELECTORS_MASK: u64 = 0xffff_0000_0000_ffff;

/// Whether `wanted` holds for some word on the thread's stack, or on one that a signal handler of it interrupted.
pub(super) fn any_word(
    memory: &Memory,
    thread: &Thread,
    map: &MemoryMap,
    wanted: &mut dyn FnMut(u64) -> bool,
) -> Result<bool> {
    let mut open = vec![thread.regs.rsp];
    let mut seen: Vec<(LiveAddr, LiveAddr)> = Vec::new();
    while let Some(top) = open.pop() {
        let inside = |(start, end): &(LiveAddr, LiveAddr)| *start <= top && top < *end;
        if seen.len() >= STACKS_MAX || seen.iter().any(inside) {
            continue;
        }
        let start = LiveAddr(top.0.saturating_sub(RED_ZONE) & !7);
        // Of a stack that is newer than the map, all is read that is mapped.
        let end = map.find(top).map_or(LiveAddr(u64::MAX), |mapping| mapping.end);
        let mut last = [0; 4];
        let end = words(memory, start, end, &mut |word| {
            last.rotate_left(1);
            last[3] = word;
            let [stack, _, flags, selectors] = last;
            if selectors & SELECTORS_MASK == SELECTORS && flags >> 32 == 0 {
                open.push(LiveAddr(stack));
            }
            wanted(word)
        })?;
        let Some(end) = end else { return Ok(true) };
        seen.push((start, end));
    }
    Ok(false)
}

/// Gives the words between two addresses to `look`, as far as they are mapped, until it says true; where they end, or
/// nothing if it did.
fn words(
    memory: &Memory,
    start: LiveAddr,
    end: LiveAddr,
    look: &mut dyn FnMut(u64) -> bool,
) -> Result<Option<LiveAddr>> {
    let mut at = start;
    let mut part = vec![0; PART];
    while at < end {
        let wanted = usize::try_from(end.0 - at.0).unwrap_or(PART).min(PART);
        let Some(bytes) = part.get_mut(..wanted) else { break };
        let got = memory.read_some(at, bytes)?;
        for word in bytes.get(..got).unwrap_or_default().chunks_exact(8) {
            if look(u64::from_le_bytes(word.try_into().unwrap_or_default())) {
                return Ok(None);
            }
        }
        at = at.plus(got as u64);
        if got < wanted {
            break;
        }
    }
    Ok(Some(at))
}
