//! The switch.
//!
//! Takes an image that is loaded, stops the process, looks at every thread, writes, and lets it go on. Nothing that can
//! fail lies behind the one word that switches. A thread in the way ends the attempt: the process is as before and the
//! caller tries again.

use std::time::{Duration, Instant};

use relive_process::maps::MemoryMap;
use relive_process::memory::Memory;
use relive_process::stop::{self, CapturedThread, StopOptions, Stopped};
use relive_process::unwind::{End, Unwinder};
use relive_wire::LiveAddr;

use crate::Error;
use crate::arch::x86_64::{self, ENTRY_JUMP_LEN};
use crate::judge::QuietFunction;
use crate::link::{Image, LinkedFunction};
use crate::load::Loaded;
use crate::swap::{FirstValues, Tables, Write};

/// A `Location` whose line and column are rewritten in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Where the line is; the column follows.
    pub addr: LiveAddr,
    /// Line and column now.
    pub new: (u32, u32),
}

impl Moved {
    /// The two words as they will be.
    #[must_use]
    pub fn bytes(&self) -> [u8; 8] {
        (u64::from(self.new.0) | u64::from(self.new.1) << 32).to_le_bytes()
    }
}

/// What the switch found and did.
#[derive(Debug)]
pub struct Committed {
    /// How long the process stood still.
    pub pause: Duration,
    /// Every thread as it was at the switch, to see who still runs old code.
    pub threads: Vec<CapturedThread>,
}

/// How an attempt ended.
#[derive(Debug)]
pub enum Attempt {
    /// The new generation runs.
    Done(Committed),
    /// A thread is inside a function that must not be on any stack; the process runs what it ran before.
    Held {
        /// The thread, such as `` `worker` (812) ``.
        thread: String,
        /// The function's readable name.
        function: String,
    },
}

/// Functions that no thread may be inside at the switch.
pub struct Quiet<'a> {
    /// The functions.
    pub functions: &'a [QuietFunction],
    /// The agent's thread, which never runs the program's code.
    pub agent: u32,
}

/// What one change switches to, from try to try.
pub struct Switch<'a> {
    /// The image.
    pub loaded: &'a Loaded,
    /// Lines that move.
    pub moved: &'a [Moved],
    /// What its new thread-locals begin with.
    pub first_values: FirstValues,
    /// Functions that no thread may be inside.
    pub quiet: Option<Quiet<'a>>,
}

/// Switches. `map` and `unwinder` know the objects that are mapped.
///
/// # Errors
/// `Busy` with the thread and function in the way, or with the debugger that is attached; `Gone` if the program ended. The
/// process runs what it ran before.
pub fn commit(
    memory: &Memory,
    map: &MemoryMap,
    unwinder: &mut Unwinder,
    tables: &mut Tables,
    change: &mut Switch<'_>,
) -> Result<Attempt, Error> {
    let image = &change.loaded.image;
    let entries = entry_writes(image)?;
    let before = Instant::now();
    let stopped = stop::stop(memory, &StopOptions::default())?;
    let threads = stopped.capture_stacks(map)?;
    change.first_values.settle(&stopped, map, &threads, unwinder)?;
    check(&stopped, map, image, &threads, tables)?;
    if let Some(quiet) = &change.quiet
        && let Some((thread, function)) = quiet.held_by(&stopped, map, unwinder, &threads)?
    {
        return Ok(Attempt::Held { thread, function });
    }
    change.first_values.write(&stopped, &threads)?;
    prepare_tables(&stopped, image, tables)?;
    switch(&stopped, &entries, tables, image, change.moved)?;
    // The switch is done; a process that ended just now is noticed by its end.
    let pause = stopped.resume().unwrap_or_else(|_| before.elapsed());
    Ok(Attempt::Done(Committed { pause, threads }))
}

/// Who is inside one of the functions right now: the thread and the function. Nothing is written.
///
/// # Errors
/// As [`commit`].
pub fn held_now(
    memory: &Memory,
    map: &MemoryMap,
    unwinder: &mut Unwinder,
    quiet: &Quiet<'_>,
) -> Result<Option<(String, String)>, Error> {
    let stopped = stop::stop(memory, &StopOptions::default())?;
    let threads = stopped.capture_stacks(map)?;
    let held = quiet.held_by(&stopped, map, unwinder, &threads);
    let _ = stopped.resume();
    held
}

/// Every thread as it is right now. Nothing is written.
///
/// # Errors
/// `Busy` with the debugger that is attached; `Gone` if the program ended.
pub fn threads_now(memory: &Memory, map: &MemoryMap) -> Result<Vec<CapturedThread>, Error> {
    let stopped = stop::stop(memory, &StopOptions::default())?;
    let threads = stopped.capture_stacks(map);
    let _ = stopped.resume();
    Ok(threads?)
}

impl Quiet<'_> {
    /// A thread that is inside one of the functions, or may be, and the function.
    fn held_by(
        &self,
        stopped: &Stopped,
        map: &MemoryMap,
        unwinder: &mut Unwinder,
        threads: &[CapturedThread],
    ) -> Result<Option<(String, String)>, Error> {
        let mut bodies: Vec<(LiveAddr, LiveAddr, &str)> = Vec::new();
        for function in self.functions {
            bodies.extend(function.bodies.iter().map(|(start, end)| (*start, *end, function.name.as_str())));
        }
        bodies.sort_unstable();
        // A call at the very end of a function returns to the first byte behind it. Bodies do not overlap.
        let inside = |addr: LiveAddr| {
            let at = bodies.partition_point(|(start, ..)| *start <= addr);
            let (_, end, name) = at.checked_sub(1).and_then(|at| bodies.get(at))?;
            (addr <= *end).then(|| (*name).to_owned())
        };
        for captured in threads.iter().filter(|captured| captured.thread.tid != self.agent) {
            let frames = unwinder.frames(captured);
            let mut found = frames.addresses.iter().find_map(|addr| inside(*addr));
            if found.is_none() && frames.end != End::Outermost {
                // Whatever may be a return address counts.
                let mut wanted = |word: u64| {
                    found = inside(LiveAddr(word));
                    found.is_some()
                };
                stopped.any_word(&captured.thread, map, &mut wanted)?;
            }
            if let Some(function) = found {
                return Ok(Some((format!("`{}` ({})", captured.thread.name(), captured.thread.tid), function)));
            }
        }
        Ok(None)
    }
}

fn entry_writes(image: &Image) -> Result<Vec<Write>, Error> {
    let mut redirects: Vec<_> = image.functions.iter().flat_map(|function| &function.redirects).collect();
    // A function with a loop at its very start is not whole between its write and the flip: the shorter the better.
    redirects.sort_by_key(|redirect| redirect.entry.needs_quiet);
    redirects
        .into_iter()
        .map(|redirect| {
            let jump = x86_64::jump(redirect.entry.at, redirect.stub);
            let new = jump.ok_or_else(|| Error::Fatal(format!("the stub of {} is out of reach", redirect.entry.at)))?;
            Ok(Write { addr: redirect.entry.at, old: redirect.entry.old.to_vec(), new: new.to_vec() })
        })
        .collect()
}

/// Whether every thread is where its next instruction, and every address it will come back to, means the same afterwards.
fn check(
    stopped: &Stopped,
    map: &MemoryMap,
    image: &Image,
    threads: &[CapturedThread],
    tables: &Tables,
) -> Result<(), Error> {
    for captured in threads {
        let here = captured.thread.regs.rip;
        // It may hold the address of the table that is about to be written; so may what a signal handler interrupted,
        // whose next instruction is a word on the stack.
        if tables.is_inside_stub(here) || captured.words().any(|word| tables.is_inside_stub(LiveAddr(word))) {
            return Err(in_the_way(captured, "a stub"));
        }
        for function in &image.functions {
            for redirect in &function.redirects {
                let entry = &redirect.entry;
                let (start, end) = if entry.needs_quiet {
                    (entry.at, entry.at.plus(entry.size))
                } else {
                    (entry.at.plus(1), entry.at.plus(ENTRY_JUMP_LEN as u64))
                };
                let inside = |addr: u64| start.0 <= addr && addr < end.0;
                // A word that is the first byte's address is a pointer to the function, not a place to come back to.
                let mut returns = |word: u64| word != entry.at.0 && inside(word);
                let waits = if entry.needs_quiet {
                    // It may come back from calls as deep as it likes.
                    stopped.any_word(&captured.thread, map, &mut returns)?
                } else {
                    captured.words().any(returns)
                };
                if inside(here.0) || waits {
                    return Err(in_the_way(captured, &function.text));
                }
            }
        }
    }
    Ok(())
}

fn in_the_way(captured: &CapturedThread, function: &str) -> Error {
    let thread = &captured.thread;
    let function = crate::binary::names::readable(function);
    Error::Busy(format!(
        "thread `{}` ({}) is inside the first instructions of `{function}`, or in its loop there",
        thread.name(),
        thread.tid
    ))
}

fn prepare_tables(stopped: &Stopped, image: &Image, tables: &mut Tables) -> Result<(), Error> {
    let mut new: Vec<&LinkedFunction> =
        image.functions.iter().filter(|function| function.index >= tables.next_index()).collect();
    new.sort_by_key(|function| function.index);
    let now: Vec<_> = new
        .iter()
        .map(|function| (function.index, function.redirects.first().map_or(function.body.addr, |old| old.trampoline)))
        .collect();
    let then: Vec<_> = image.functions.iter().map(|function| (function.index, function.body.addr)).collect();
    tables.prepare(stopped.memory(), &now, &then)
}

fn switch(
    stopped: &Stopped,
    entries: &[Write],
    tables: &mut Tables,
    image: &Image,
    moved: &[Moved],
) -> Result<(), Error> {
    let memory = stopped.memory();
    let flip = tables.flip();
    for (done, write) in entries.iter().chain([&flip]).enumerate() {
        if let Err(error) = write.apply(memory) {
            // The one that failed may have been written all the same. Every one is tried, the switching word first.
            for write in entries.iter().chain([&flip]).take(done + 1).collect::<Vec<_>>().into_iter().rev() {
                let _ = write.undo(memory);
            }
            return Err(error);
        }
    }
    tables.flipped(image.stubs);
    // From here on the new generation runs; lines in panic messages follow, and none of them can undo it.
    for location in moved {
        // Without it a panic message has an old line; that is no reason to call a switch failed that was done.
        let _ = memory.write(location.addr, &location.bytes());
    }
    Ok(())
}
