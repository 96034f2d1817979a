//! The threads of the process, each seized, stopped and let go by the calling thread.
//!
//! A thread that ends meanwhile is nobody's loss. A signal that arrives in place of the stop stops the thread as well;
//! it is kept with the thread and delivered when the thread is let go. A thread that takes part in a job stop stays
//! stopped after it was let go: the kernel sees to that.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use super::waits::Waits;
use super::{Registers, Thread, restart};
use crate::memory::Memory;
use crate::status::{self, Status};
use crate::sys::{self, TraceeState};
use crate::{Error, Result};

/// The kernel's events above a stop's signal.
const EVENT_EXEC: i32 = libc::PTRACE_EVENT_EXEC;
/// First looks without a nap between them; most threads stop that fast.
const EAGER_LOOKS: u32 = 4;
/// Looks after which it is asked whether a silent thread is dead.
const LOOKS_PER_CHECK: u32 = 64;
const SHORTEST_NAP: Duration = Duration::from_micros(10);
const LONGEST_NAP: Duration = Duration::from_micros(200);

/// How long threads that were asked are waited for when others could not be.
const LAST_STOPS: Duration = Duration::from_millis(50);

/// How far a thread is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Asked to stop.
    Asked,
    /// Stopped; `signal` is to be delivered, 0 for none.
    Stopped { signal: i32 },
    /// Ended, or about to.
    Ended,
}

/// The threads of one process that the calling thread traces.
pub(super) struct Tracees<'a> {
    memory: &'a Memory,
    waits: &'a Waits,
    pid: u32,
    /// In the order in which they were found.
    order: Vec<u32>,
    states: HashMap<u32, State>,
    /// How many of them, from the first on, were seen to be stopped or at their end.
    settled: usize,
    /// What the stopped ones had in their registers.
    registers: HashMap<u32, libc::user_regs_struct>,
}

impl<'a> Tracees<'a> {
    pub(super) fn new(memory: &'a Memory, waits: &'a Waits) -> Tracees<'a> {
        Tracees {
            memory,
            waits,
            pid: memory.pid(),
            order: Vec::new(),
            states: HashMap::new(),
            settled: 0,
            registers: HashMap::new(),
        }
    }

    /// Stops all threads; gives those that are. After an error some may be stopped: call [`Tracees::release`].
    pub(super) fn stop_all(&mut self, until: Instant) -> Result<Vec<Thread>> {
        // A thread that was not known can start another until it is stopped, so only listings without news are the end:
        // two of them, since a thread that ends while it is listed can hide the one behind it.
        let mut without_news = 0;
        while without_news < 2 {
            match self.ask_new_threads() {
                Ok(true) => {
                    without_news = 0;
                    self.wait_for_stops(until)?;
                    if self.has_all() {
                        break;
                    }
                }
                Ok(false) => without_news += 1,
                Err(why) => {
                    // Those that were asked have left their system calls: they must be seen to stop to be let go well.
                    let _ = self.wait_for_stops(until.min(Instant::now() + LAST_STOPS));
                    return Err(why);
                }
            }
        }
        let threads = self.registers()?;
        let Some(first) = threads.first() else {
            return Err(Error::Gone(format!("cannot stop process {}: it has ended", self.pid)));
        };
        // The number could have another program behind it by now; reading through the old handle shows it.
        self.memory.read_some(first.regs.rip, &mut [0])?;
        Ok(threads)
    }

    /// Lets all stopped threads go. Those that could not be stopped are let go by the end of the calling thread.
    pub(super) fn release(&self) -> Result<()> {
        let mut result = Ok(());
        for (tid, state) in self.order.iter().filter_map(|tid| Some((*tid, *self.states.get(tid)?))) {
            let State::Stopped { signal } = state else { continue };
            let known = self.registers.get(&tid).copied().map_or_else(|| sys::registers(tid), Ok);
            let prepared =
                known.and_then(|known| restart::repeat_interrupted_call(self.memory, self.waits, tid, known));
            for (step, outcome) in [("repeat the call", prepared), ("let go", sys::detach(tid, signal))] {
                match outcome {
                    // It was killed while it was stopped.
                    Err(why) if why.raw_os_error() == Some(libc::ESRCH) => {}
                    Err(why) => result = Err(self.error(&format!("{step} of thread {tid}"), &why)),
                    Ok(()) => {}
                }
            }
        }
        result
    }

    /// Whether the process has no other threads than those that are stopped, which start none.
    fn has_all(&self) -> bool {
        let stopped = self.states.values().filter(|state| matches!(state, State::Stopped { .. })).count() as u64;
        // The folder has two links besides one for each thread.
        let threads = std::fs::metadata(format!("/proc/{}/task", self.pid)).map(|folder| folder.nlink());
        threads.is_ok_and(|links| links == stopped + 2)
    }

    /// Lists the threads and asks each new one to stop; whether there was any.
    fn ask_new_threads(&mut self) -> Result<bool> {
        let listed = std::fs::read_dir(format!("/proc/{}/task", self.pid));
        let mut any = false;
        for entry in listed.map_err(|why| self.error("list the threads", &why))? {
            let entry = entry.map_err(|why| self.error("list the threads", &why))?;
            let Some(tid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if !self.states.contains_key(&tid) {
                let state = self.ask(tid)?;
                self.states.insert(tid, state);
                self.order.push(tid);
                any = true;
            }
        }
        Ok(any)
    }

    fn ask(&self, tid: u32) -> Result<State> {
        match sys::seize(tid) {
            // Should it be dying, and not hear, its end is to be taken notice of all the same.
            Ok(()) => {
                let _ = sys::interrupt(tid);
                Ok(State::Asked)
            }
            Err(why) if why.raw_os_error() == Some(libc::ESRCH) => Ok(State::Ended),
            Err(why) if why.raw_os_error() == Some(libc::EPERM) => self.refused(tid, &why),
            Err(why) => Err(self.error(&format!("stop thread {tid}"), &why)),
        }
    }

    /// Why a thread may not be traced: it is dead, or another's, or out of our reach.
    fn refused(&self, tid: u32, why: &io::Error) -> Result<State> {
        let Ok(status) = Status::read(self.pid, tid) else { return Ok(State::Ended) };
        if status.is_dead() {
            return Ok(State::Ended);
        }
        let pid = self.pid;
        if status.tracer != 0 {
            return Err(Error::Busy(format!("cannot stop process {pid}: {}", status::tracer(status.tracer))));
        }
        let hint = match std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").as_deref().map(str::trim) {
            Ok("1") => "; kernel.yama.ptrace_scope is 1, so a process may be stopped only by its ancestors",
            Ok("2") => "; kernel.yama.ptrace_scope is 2, so only an administrator may stop processes",
            Ok("3") => "; kernel.yama.ptrace_scope is 3, so nobody may stop processes",
            Ok(_) | Err(_) => "; it belongs to another user, has raised privileges, or a sandbox forbids ptrace",
        };
        Err(Error::Denied(format!("cannot stop thread {tid} of process {pid}: {why}{hint}")))
    }

    /// Waits until each thread that was asked is stopped or has ended.
    fn wait_for_stops(&mut self, until: Instant) -> Result<()> {
        for look in 0.. {
            let Some(waiting) = self.look(look % LOOKS_PER_CHECK == LOOKS_PER_CHECK - 1)? else { return Ok(()) };
            if Instant::now() >= until {
                let (pid, name) = (self.pid, status::name(waiting));
                return Err(Error::Busy(format!(
                    "cannot stop process {pid}: thread {waiting} (`{name}`) does not stop"
                )));
            }
            if look >= EAGER_LOOKS {
                std::thread::sleep(SHORTEST_NAP.saturating_mul(look - EAGER_LOOKS + 1).min(LONGEST_NAP));
            }
        }
        Ok(())
    }

    /// Looks at the threads that were asked, up to the first that still runs; gives that one.
    ///
    /// Now and then all are looked at, for the dead among them. The main thread of a process whose others live reports its
    /// end to nobody, and a thread that dies although it is stopped must be taken notice of: the `exec` that killed it, in a
    /// thread that was asked to stop, waits for that.
    fn look(&mut self, for_the_dead: bool) -> Result<Option<u32>> {
        let mut waiting = None;
        for at in if for_the_dead { 0 } else { self.settled }..self.order.len() {
            let tid = self.order[at];
            let Some(state) = self.states.get_mut(&tid) else { continue };
            if *state == State::Asked || (for_the_dead && *state != State::Ended) {
                look_at(self.pid, tid, state, for_the_dead)?;
            }
            if *state == State::Asked {
                waiting = waiting.or(Some(tid));
                if !for_the_dead {
                    break;
                }
            } else if waiting.is_none() {
                self.settled = at + 1;
            }
        }
        Ok(waiting)
    }

    /// The registers of each stopped thread.
    fn registers(&mut self) -> Result<Vec<Thread>> {
        let mut threads = Vec::with_capacity(self.order.len());
        for &tid in &self.order {
            let Some(state) = self.states.get_mut(&tid) else { continue };
            if *state == State::Asked || *state == State::Ended {
                continue;
            }
            match sys::registers(tid) {
                Ok(all) => {
                    self.registers.insert(tid, all);
                    threads.push(Thread { tid, regs: Registers::new(all) });
                }
                Err(why) if why.raw_os_error() == Some(libc::ESRCH) => *state = State::Ended,
                Err(why) => return Err(self.error(&format!("read the registers of thread {tid}"), &why)),
            }
        }
        Ok(threads)
    }

    fn error(&self, step: &str, why: &io::Error) -> Error {
        Error::system(self.pid, step, why)
    }
}

/// Looks once at one thread.
fn look_at(pid: u32, tid: u32, state: &mut State, for_the_dead: bool) -> Result<()> {
    match sys::tracee_state(tid, tid == pid) {
        Ok(TraceeState::Stopped(word)) if word >> 8 == EVENT_EXEC => {
            *state = State::Stopped { signal: 0 };
            return Err(Error::Gone(format!("process {pid} has replaced its program by exec")));
        }
        // With an event the low byte is no signal to deliver; without one it is.
        Ok(TraceeState::Stopped(word)) => {
            *state = State::Stopped { signal: if word >> 8 == 0 { word & 0xff } else { 0 } };
        }
        Ok(TraceeState::Ended) => *state = State::Ended,
        Ok(TraceeState::Running) => {}
        Err(why) => return Err(Error::system(pid, format!("wait for thread {tid}"), &why)),
    }
    let is_main = *state == State::Asked && for_the_dead && tid == pid;
    if is_main && Status::read(pid, tid).map_or(true, |status| status.is_dead()) {
        *state = State::Ended;
    }
    Ok(())
}
