//! How long threads have waited in `epoll_wait` with a limit when they are stopped.
//!
//! The kernel makes such a call again with its whole limit (see `restart`), so that a timer of an event loop would go off
//! late, and never if somebody saved often enough. What is left of the limit is known if one looks twice: before the stop,
//! and while the thread is stopped. `/proc/PID/task/TID/sched` (`kernel/sched/debug.c`) says when a thread last ran, on the
//! clock of its processor, and how often it went to sleep. If it slept once more, for the stop itself, it was in one sleep
//! from the first moment to the second; on one processor their difference is the time that it slept, or a little less, as
//! that clock leaves interrupts out. A kernel without that file is as if nothing were known.

use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::time::Duration;

use crate::maps::MemoryMap;

/// Calls with a limit in milliseconds in their fourth argument.
pub(super) const CALLS: [libc::c_long; 2] = [libc::SYS_epoll_wait, libc::SYS_epoll_pwait];

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Waits {
    threads: HashMap<u32, Moment>,
    /// Code of the C library: between its call and its return nobody needs the register with the limit any more.
    library: Vec<Range<u64>>,
}

/// When a thread last ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moment {
    processor: u32,
    /// On that processor's clock.
    ran: Duration,
    sleeps: u64,
}

impl Waits {
    /// Looks at all threads of a process. What cannot be read is not known.
    pub(super) fn look(pid: u32) -> Waits {
        let mut out = Waits::default();
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let Some(tid) = task.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // Asked first, as it says so at once: for the number of the call the kernel waits until the thread sleeps.
            let place = fs::read_to_string(format!("/proc/{pid}/task/{tid}/wchan")).unwrap_or_default();
            if !["ep_poll", "epoll_wait"].iter().any(|function| place.contains(function)) {
                continue;
            }
            let call = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).unwrap_or_default();
            if has_limit(&call)
                && let Some(moment) = Moment::read(pid, tid)
            {
                out.threads.insert(tid, moment);
            }
        }
        if !out.threads.is_empty() {
            out.library = library(pid);
        }
        out
    }

    /// What is left of `limit` for the stopped thread `tid`, which is at `rip`; `None` if that is not known.
    pub(super) fn left(&self, pid: u32, tid: u32, rip: u64, limit: i32) -> Option<i32> {
        let before = self.threads.get(&tid).filter(|_| self.library.iter().any(|code| code.contains(&rip)))?;
        let slept = before.until(Moment::read(pid, tid)?)?;
        // Never too early.
        Some(limit.saturating_sub(i32::try_from(slept.as_millis()).unwrap_or(i32::MAX)).max(0))
    }
}

/// Whether a line of `/proc/TID/syscall`, the number of a call and its arguments, is one of [`CALLS`] with a limit.
fn has_limit(line: &str) -> bool {
    let mut fields = line.split_ascii_whitespace();
    let number = fields.next().and_then(|number| number.parse().ok());
    let limit = fields.nth(3).and_then(|limit| u64::from_str_radix(limit.trim_start_matches("0x"), 16).ok());
    number.is_some_and(|number| CALLS.contains(&number)) && limit.is_some_and(|limit| limit as i32 > 0)
}

/// Where the C library's code is (glibc, with its older name and its library of threads, or musl).
fn library(pid: u32) -> Vec<Range<u64>> {
    let Ok(map) = MemoryMap::read(pid) else { return Vec::new() };
    let names = ["libc.so", "libc-", "libpthread", "ld-musl", "libc.musl"];
    let of_library = map.entries().iter().filter(|one| {
        let name = one.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        one.protection.execute && names.iter().any(|start| name.starts_with(start))
    });
    of_library.map(|one| one.start.0..one.end.0).collect()
}

impl Moment {
    fn read(pid: u32, tid: u32) -> Option<Moment> {
        let sched = fs::read_to_string(format!("/proc/{pid}/task/{tid}/sched")).ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).ok()?;
        Moment::parse(&sched, &stat)
    }

    fn parse(sched: &str, stat: &str) -> Option<Moment> {
        let value = |key: &str| sched.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(':'));
        let (millis, nanos) = value("se.exec_start")?.trim().split_once('.')?;
        let ran = Duration::from_millis(millis.parse().ok()?) + Duration::from_nanos(nanos.parse().ok()?);
        let sleeps = value("nr_voluntary_switches")?.trim().parse().ok()?;
        // `proc_pid_stat(5)`: field 39, and the name, field 2, may have anything in it.
        let processor = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(36)?.parse().ok()?;
        Some(Moment { processor, ran, sleeps })
    }

    /// The time from one moment to another, if between them there was one sleep and nothing else.
    fn until(self, stopped: Moment) -> Option<Duration> {
        let is_one = stopped.processor == self.processor && Some(stopped.sleeps) == self.sleeps.checked_add(1);
        stopped.ran.checked_sub(self.ran).filter(|_| is_one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sleep_on_one_processor_has_a_length() {
        let stat = |cpu: u32| format!("7 (a) b)) S {} {cpu} 0", ["0"; 35].join(" "));
        let sched = |ran: &str, sleeps: u64| {
            format!("a (7, #threads: 1)\n---\nse.exec_start      :   {ran}\nnr_voluntary_switches  :    {sleeps}\n")
        };
        let before = Moment::parse(&sched("1000.900000", 4), &stat(1)).expect("a moment");
        let after = |ran, sleeps, cpu| before.until(Moment::parse(&sched(ran, sleeps), &stat(cpu)).expect("a moment"));
        assert_eq!(after("1500.000001", 5, 1), Some(Duration::from_nanos(499_100_001)));
        assert_eq!(after("1500.000001", 6, 1), None, "it was awake in between");
        assert_eq!(after("1500.000001", 5, 0), None, "another clock");
        assert_eq!(after("900.000001", 5, 1), None, "back in time");
        assert_eq!(Moment::parse("", &stat(1)), None);
    }

    #[test]
    fn a_call_with_a_limit_is_told_from_others() {
        assert!(has_limit("232 0x3 0x7ffc 0x400 0x3e8 0x0 0x0 0x7ffc 0x7f00"));
        assert!(!has_limit("232 0x3 0x7ffc 0x400 0xffffffff 0x0 0x0 0x7ffc 0x7f00"));
        assert!(!has_limit("202 0x3 0x7ffc 0x400 0x3e8 0x0 0x0 0x7ffc 0x7f00"));
        assert!(!has_limit("running"));
    }
}
