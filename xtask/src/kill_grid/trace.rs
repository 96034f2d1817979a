//! Kills relive at the n-th stop of a switch. Takes a running relive, gives where it was when it died.
//!
//! All of relive's threads are traced, and none of its children: the kernel attaches to what `clone` makes only if it is
//! a thread. A stop is the entry into a system call or the exit from it; at an entry the killed call is not made any
//! more. Counting begins with the call that opens the image's file for writing, or the executable's.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::phase::{self, Phase};
use crate::files::context;

/// Longest time from the edit to the kill.
const LIMIT: Duration = Duration::from_secs(30);
/// Bytes that are read of a path or a text.
const TEXT: usize = 512;

/// What is cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The switch, from the image's file to the event that says how it ended.
    Switch,
    /// What `--update-binary` does, from the copy's file to its event.
    Executable,
}

/// Whether the new generation is current, in the program or on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flip {
    /// The call that exchanges old for new was not made.
    Before,
    /// It was begun, and may have been made.
    Begun,
    /// It was made.
    Done,
}

/// Where relive was when it was killed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Death {
    pub(crate) phase: Phase,
    /// Of the program.
    pub(crate) flip: Flip,
    /// Of the executable.
    pub(crate) put: Flip,
    /// Number of the system call, for people.
    pub(crate) call: i64,
    /// Before the call or after it.
    pub(crate) at_entry: bool,
    /// Stops up to it.
    pub(crate) stops: u64,
    /// The switch was over before as many stops as were asked for.
    pub(crate) complete: bool,
}

/// The threads of one relive, traced.
struct Trace {
    relive: Pid,
    memory: File,
    what: What,
    phase: Option<Phase>,
    flip: Flip,
    put: Flip,
    stops: u64,
}

/// Has `edit` made under the eyes of the tracer, and kills `relive` at stop number `nth` of what follows, or after the
/// event that ends it.
pub(crate) fn kill_at(
    relive: Pid,
    what: What,
    nth: u64,
    edit: impl FnOnce() -> Result<(), String>,
) -> Result<Death, String> {
    let path = format!("/proc/{relive}/mem");
    let memory = File::open(&path).map_err(context("open", path.as_ref()))?;
    let mut trace = Trace { relive, memory, what, phase: None, flip: Flip::Before, put: Flip::Before, stops: 0 };
    trace.seize()?;
    edit()?;
    let (over, limit) = mpsc::channel::<()>();
    // The loop sleeps in `waitpid`; the end of relive is what wakes it.
    let guard = thread::spawn(move || {
        if limit.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
            let _ = kill(relive, Signal::SIGKILL);
        }
    });
    let death = trace.follow(nth);
    drop(over);
    let _ = guard.join();
    if death.is_ok() {
        kill(relive, Signal::SIGKILL).map_err(|why| format!("cannot kill relive: {why}"))?;
        while trace.wait()?.is_some() {}
    }
    death
}

impl What {
    /// Whether `call` is the last one.
    fn ends_with(self, call: &phase::Call) -> bool {
        let event: &[u8] = match self {
            What::Switch => b"{\"event\":\"patch\"",
            What::Executable => b"{\"event\":\"executable\"",
        };
        matches!(call, phase::Call::Write(bytes) if bytes.starts_with(event))
    }
}

impl Trace {
    /// Attaches to every thread and has it stop, so that it stops at system calls when it is let go.
    fn seize(&self) -> Result<(), String> {
        let mut known = BTreeSet::new();
        loop {
            let before = known.len();
            for task in fs::read_dir(format!("/proc/{}/task", self.relive)).map_err(|why| why.to_string())?.flatten() {
                let Some(tid) = task.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
                if !known.insert(tid) {
                    continue;
                }
                let tid = Pid::from_raw(tid);
                match ptrace::seize(tid, Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_TRACESYSGOOD) {
                    Ok(()) => ptrace::interrupt(tid).map_err(|why| format!("cannot stop thread {tid}: {why}"))?,
                    Err(Errno::ESRCH | Errno::EPERM) => {} // ended, or made by a thread that was already traced
                    Err(why) => return Err(format!("cannot trace thread {tid}: {why}")),
                }
            }
            if known.len() == before {
                return Ok(());
            }
        }
    }

    /// Lets the threads go from stop to stop until the `nth` of the switch. That thread is left stopped.
    fn follow(&mut self, nth: u64) -> Result<Death, String> {
        while let Some(status) = self.wait()? {
            let (tid, signal) = match status {
                WaitStatus::PtraceSyscall(tid) => {
                    if let Some(death) = self.stop(tid, nth)? {
                        return Ok(death);
                    }
                    (tid, None)
                }
                WaitStatus::Stopped(tid, signal) => (tid, Some(signal)),
                WaitStatus::PtraceEvent(tid, ..) => (tid, None),
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => continue, // a thread
                WaitStatus::Continued(_) | WaitStatus::StillAlive => continue,
            };
            go_on(ptrace::syscall(tid, signal))?;
        }
        Err(format!("relive ended before stop {nth}, in phase {:?}, after {} stops", self.phase, self.stops))
    }

    /// Counts the system-call stop of `tid`.
    fn stop(&mut self, tid: Pid, nth: u64) -> Result<Option<Death>, String> {
        let Some(info) = go_on(ptrace::syscall_info(tid))? else { return Ok(None) };
        let at_entry = info.op == libc::PTRACE_SYSCALL_INFO_ENTRY;
        let Some(registers) = go_on(ptrace::getregs(tid))? else { return Ok(None) };
        let call = phase::call(&registers, |addr| self.text(addr));
        let writes = matches!(call, phase::Call::Poke(_));
        if at_entry {
            self.phase = Phase::next(self.phase, &call);
        }
        let Some(phase) = self.phase else { return Ok(None) };
        let exchanges = call == phase::Call::Exchange;
        if phase == Phase::Flip && writes && !at_entry {
            self.flip = Flip::Done;
        }
        if exchanges && !at_entry {
            self.put = Flip::Done;
        }
        let counts = self.what == What::Switch || phase == Phase::Executable;
        self.stops += u64::from(counts);
        let complete = !at_entry && self.what.ends_with(&call);
        if counts && self.stops == nth || complete {
            let (call, flip, put) = (registers.orig_rax.cast_signed(), self.flip, self.put);
            return Ok(Some(Death { phase, flip, put, call, at_entry, stops: self.stops, complete }));
        }
        if exchanges && at_entry {
            self.put = Flip::Begun;
        }
        if phase == Phase::Flip && writes && at_entry {
            self.flip = Flip::Begun;
        }
        Ok(None)
    }

    /// The next thing that happens to a thread of relive; `None` when it has ended.
    fn wait(&self) -> Result<Option<WaitStatus>, String> {
        match waitpid(None, Some(WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) if pid == self.relive => Ok(None),
            Ok(status) => Ok(Some(status)),
            Err(why) => Err(format!("cannot wait for relive: {why}")),
        }
    }

    fn text(&self, addr: u64) -> Vec<u8> {
        let mut bytes = vec![0; TEXT];
        let got = self.memory.read_at(&mut bytes, addr).unwrap_or(0);
        bytes.truncate(got);
        bytes
    }
}

/// The result of a request to a stopped thread, `None` if it was killed meanwhile.
fn go_on<T>(result: nix::Result<T>) -> Result<Option<T>, String> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::ESRCH) => Ok(None),
        Err(why) => Err(format!("a stopped thread of relive does not answer: {why}")),
    }
}
