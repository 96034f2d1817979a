//! Who still runs old code: changed functions that were on a stack at the switch.

use relive_process::stop::CapturedThread;
use relive_process::unwind::{End, Unwinder};
use relive_wire::LiveAddr;

use crate::binary::names;
use crate::diff::running::Body;
use crate::tell::Pending;

/// The code addresses on one thread's stack.
pub(super) struct Stack<'a> {
    thread: &'a CapturedThread,
    addresses: Vec<LiveAddr>,
    /// Nothing more is on it.
    is_whole: bool,
}

/// The stacks of all threads but the agent's.
pub(super) fn stacks<'a>(unwinder: &mut Unwinder, threads: &'a [CapturedThread], agent: u32) -> Vec<Stack<'a>> {
    let others = threads.iter().filter(|captured| captured.thread.tid != agent);
    let stack = |thread: &'a CapturedThread| {
        let frames = unwinder.frames(thread);
        Stack { thread, addresses: frames.addresses, is_whole: frames.end == End::Outermost }
    };
    others.map(stack).collect()
}

/// Whether code in one of `bodies` may be on one of the stacks.
pub(super) fn may_be_on(stacks: &[Stack<'_>], bodies: &[Body]) -> bool {
    let inside = |addr: LiveAddr| bodies.iter().any(|body| body.addr <= addr && addr <= body.addr.plus(body.size));
    let guessed =
        |captured: &CapturedThread| captured.is_cut_off() || captured.words().any(|word| inside(LiveAddr(word)));
    stacks
        .iter()
        .any(|stack| stack.addresses.iter().any(|addr| inside(*addr)) || (!stack.is_whole && guessed(stack.thread)))
}

/// Each changed function that a thread will come back to, once per thread. `functions`: their linkage names and older code.
pub(super) fn pending<'a>(
    stacks: &[Stack<'_>],
    functions: impl Iterator<Item = (&'a str, &'a [Body])>,
) -> Vec<Pending> {
    let mut old: Vec<(LiveAddr, LiveAddr, &str)> = Vec::new();
    for (name, older) in functions {
        old.extend(older.iter().map(|body| (body.addr, body.addr.plus(body.size), name)));
    }
    old.sort_by_key(|(start, ..)| *start);
    let mut found: Vec<Pending> = Vec::new();
    for Stack { thread: captured, addresses, .. } in stacks {
        for &addr in addresses {
            let at = old.partition_point(|(start, ..)| *start <= addr);
            let Some((_, end, function)) = at.checked_sub(1).and_then(|at| old.get(at)) else { continue };
            // A return address may lie right behind the last instruction of a function that ends with a call.
            if addr > *end {
                continue;
            }
            let one = Pending {
                function: names::readable(function),
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
