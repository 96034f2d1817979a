//! What new thread-locals begin with, in the threads that are there and in those to come.
//!
//! Takes the image's first values and writes them to every thread's storage and to the template that the storage of new
//! threads is copied from. Nothing refers to them before the switch, so it does not matter when they are written; but at
//! the switch every thread must have them. The copy is made inside `pthread_create`, before there is a thread to be seen.
//! So the template is written first; then each thread that was in there at that moment must have been seen elsewhere once,
//! because what it made until then is a thread like any other, and what it makes afterwards is made from the new template.

use relive_process::maps::MemoryMap;
use relive_process::stop::{CapturedThread, Stopped};
use relive_process::unwind::{End, Unwinder};
use relive_wire::LiveAddr;

use crate::Error;
use crate::link::{FirstValue, Image};
use crate::load::ThreadReserve;

/// The first values of one image, while its switch is tried.
#[derive(Debug)]
pub struct FirstValues {
    reserve: ThreadReserve,
    values: Vec<FirstValue>,
    /// Threads that may have a copy of the old template in hand; `None` while the template is the old one.
    makers: Option<Vec<u32>>,
}

impl FirstValues {
    /// Those of `image` that have to be written: zeroes are there already where nobody wrote before.
    #[must_use]
    pub fn new(image: &Image, reserve: &ThreadReserve) -> FirstValues {
        let zero = |value: &FirstValue| value.bytes.iter().all(|byte| *byte == 0);
        let there = |value: &FirstValue| zero(value) && !reserve.was_written(value.offset);
        let values = image.first_values.iter().filter(|value| !there(value)).cloned().collect();
        FirstValues { reserve: reserve.clone(), values, makers: None }
    }

    /// Whether nothing has to be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Writes the template, the first time, and waits for the threads that make others.
    ///
    /// # Errors
    /// `Busy` with one that may still have a copy of the old template in hand.
    pub(super) fn settle(
        &mut self,
        stopped: &Stopped,
        map: &MemoryMap,
        threads: &[CapturedThread],
        unwinder: &mut Unwinder,
    ) -> Result<(), Error> {
        if self.values.is_empty() {
            return Ok(());
        }
        let mut inside: Vec<&CapturedThread> = Vec::new();
        for captured in threads {
            if self.is_making(stopped, map, captured, unwinder)? {
                inside.push(captured);
            }
        }
        let makers = match self.makers.take() {
            Some(mut makers) => {
                makers.retain(|tid| inside.iter().any(|captured| captured.thread.tid == *tid));
                makers
            }
            None => {
                for value in &self.values {
                    stopped.memory().write(self.reserve.in_template(value.offset), &value.bytes)?;
                }
                inside.iter().map(|captured| captured.thread.tid).collect()
            }
        };
        let first = inside.iter().find(|captured| makers.contains(&captured.thread.tid));
        self.makers = Some(makers);
        match first {
            Some(captured) => Err(busy(captured, "is starting another thread")),
            None => Ok(()),
        }
    }

    /// Writes them to the storage of every thread.
    ///
    /// # Errors
    /// `Busy` with a thread that has no such storage.
    pub(super) fn write(&self, stopped: &Stopped, threads: &[CapturedThread]) -> Result<(), Error> {
        if self.values.is_empty() {
            return Ok(());
        }
        let memory = stopped.memory();
        for captured in threads {
            let thread = captured.thread.regs.fs_base;
            if !self.reserve.is_marked(memory, thread)? {
                return Err(busy(captured, "has no storage for new thread-locals"));
            }
            for value in &self.values {
                memory.write(thread.plus(value.offset as u64), &value.bytes)?;
            }
        }
        Ok(())
    }

    /// Whether a thread is where threads are made. Where its callers cannot all be told, any word on its stacks counts.
    fn is_making(
        &self,
        stopped: &Stopped,
        map: &MemoryMap,
        captured: &CapturedThread,
        unwinder: &mut Unwinder,
    ) -> Result<bool, Error> {
        let maker = self.reserve.maker();
        // A return address may lie right behind the last instruction.
        let inside = |addr: LiveAddr| maker.start <= addr && addr <= maker.end;
        let frames = unwinder.frames_of_stopped(captured);
        if frames.end == End::Outermost || frames.addresses.iter().any(|addr| inside(*addr)) {
            return Ok(frames.addresses.iter().any(|addr| inside(*addr)));
        }
        Ok(stopped.any_word(&captured.thread, map, &mut |word| inside(LiveAddr(word)))?)
    }
}

fn busy(captured: &CapturedThread, what: &str) -> Error {
    let thread = &captured.thread;
    Error::Busy(format!("thread `{}` ({}) {what}", thread.name(), thread.tid))
}
