//! Processes that share the program's memory without being threads of it.
//!
//! `clone` with `CLONE_VM` makes one. It runs the program's code, is not in the list of threads, and would go on while the
//! threads are stopped. All processes are looked through before the stop, and during it those that are new: the system
//! gives numbers in ascending order, so as a rule none is.
//!
//! Where comparing memory is not permitted (`kcmp` is part of some kernels only) nothing is found.

use std::fs;

use crate::status::{self, Status};
use crate::{Error, Result, sys};

/// More numbers given since than this are not looked through one by one.
const NEW_MAX: u32 = 4096;

/// What was there before a stop.
#[derive(Debug)]
pub(super) struct Siblings {
    pid: u32,
    /// A thread of it that lives: one that has ended has no memory, like the kernel's own.
    thread: u32,
    /// The last number that the system had given to a process or thread.
    last: Option<u32>,
}

impl Siblings {
    /// Looks through all processes.
    ///
    /// # Errors
    /// `Busy` if one shares the memory of process `pid`.
    pub(super) fn look(pid: u32) -> Result<Siblings> {
        // Asked first: what comes while the list is read is new.
        let siblings = Siblings { pid, thread: living(pid), last: last_number() };
        let listed = fs::read_dir("/proc").into_iter().flatten().flatten();
        listed
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .try_for_each(|other| siblings.compare(other))?;
        Ok(siblings)
    }

    /// Looks through those that are new.
    ///
    /// # Errors
    /// As [`Siblings::look`].
    pub(super) fn look_again(&self) -> Result<()> {
        match (self.last, last_number()) {
            (Some(before), Some(now)) if before == now => Ok(()),
            (Some(before), Some(now)) if before < now && now - before < NEW_MAX => {
                (before + 1..=now).try_for_each(|number| self.compare(number))
            }
            _ => Siblings::look(self.pid).map(drop),
        }
    }

    fn compare(&self, other: u32) -> Result<()> {
        // In this order: the first is one system call, and as a rule the last.
        if !sys::share_memory(self.thread, other) || !has_memory(other) || !self.is_sibling(other) {
            return Ok(());
        }
        let (pid, name) = (self.pid, status::name(other));
        Err(Error::Busy(format!("cannot stop process {pid}: process {other} (`{name}`) shares its memory")))
    }

    /// Whether `number` is another process, and no thread of one: those of ours share its memory too.
    fn is_sibling(&self, number: u32) -> bool {
        number != self.pid && Status::read(number, number).is_ok_and(|status| status.group == number)
    }
}

/// A thread of process `pid` that lives, or the main thread if none is known to.
fn living(pid: u32) -> u32 {
    let lives = |tid: &u32| Status::read(pid, *tid).is_ok_and(|status| !status.is_dead());
    let listed = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(lives).unwrap_or(pid)
}

/// Whether a process has memory. Those that have ended and the kernel's own have none, and are alike in that.
fn has_memory(number: u32) -> bool {
    let pages = fs::read_to_string(format!("/proc/{number}/statm")).unwrap_or_default();
    pages.split(' ').next().is_some_and(|pages| !pages.is_empty() && pages != "0")
}

/// The last number that was given to a process or thread; `None` if the system does not say.
fn last_number() -> Option<u32> {
    fs::read_to_string("/proc/loadavg").ok()?.trim_end().rsplit(' ').next()?.parse().ok()
}
