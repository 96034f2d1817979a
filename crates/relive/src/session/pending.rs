//! Who still runs old code: changed functions that were on a stack at the switch.

use relive_process::stop::CapturedThread;
use relive_process::unwind::Unwinder;
use relive_wire::LiveAddr;

use crate::binary::names;
use crate::link::LinkedFunction;
use crate::tell::Pending;

/// Each changed function that a thread will come back to, once per thread.
pub(super) fn pending(
    unwinder: &mut Unwinder,
    threads: &[CapturedThread],
    functions: &[LinkedFunction],
    agent: u32,
) -> Vec<Pending> {
    let mut old: Vec<(LiveAddr, LiveAddr, &LinkedFunction)> = Vec::new();
    for function in functions {
        old.extend(function.older.iter().map(|body| (body.addr, body.addr.plus(body.size), function)));
    }
    old.sort_by_key(|(start, ..)| *start);
    let mut found: Vec<Pending> = Vec::new();
    for captured in threads.iter().filter(|captured| captured.thread.tid != agent) {
        for addr in unwinder.frames(captured).addresses {
            let at = old.partition_point(|(start, ..)| *start <= addr);
            let Some((_, end, function)) = at.checked_sub(1).and_then(|at| old.get(at)) else { continue };
            // A return address may lie right behind the last instruction of a function that ends with a call.
            if addr > *end {
                continue;
            }
            let one = Pending {
                function: names::readable(&function.text),
                thread: format!("{} ({})", captured.thread.name(), captured.thread.tid),
                why: "it is on this thread's stack and runs its old code until it returns".into(),
            };
            if !found.iter().any(|known| known.function == one.function && known.thread == one.thread) {
                found.push(one);
            }
        }
    }
    found
}
