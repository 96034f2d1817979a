//! Stops every thread of a process and lets all go on as if nothing had happened.
//!
//! Takes an open [`Memory`], gives a [`Stopped`] guard with each thread's registers. The process goes on when the guard
//! is dropped, whatever the reason; when relive is killed meanwhile the kernel lets it go on.
//!
//! What the program must not notice (`tracee`, `restart`): signals that arrive during the stop are delivered once
//! and in order afterwards, a stopped job stays stopped, and a blocking call that gave up because of the stop alone is
//! made again, `epoll_wait` with what is left of its limit (`waits`). Limits of other such calls start anew.
//!
//! A thread of its own does the tracing (`tracer`), because the kernel ties a stop to the thread that made it: when
//! that thread ends, even a thread of the program that could not be stopped in time is surely let go. It runs at
//! real-time priority where permitted, or busy programs would starve it.

mod restart;
mod siblings;
mod stack;
mod tracee;
pub(crate) mod tracer;
mod waits;

use std::time::{Duration, Instant};

use relive_wire::LiveAddr;

use crate::maps::MemoryMap;
use crate::memory::Memory;
use crate::{Result, status, sys};
use siblings::Siblings;
use tracee::Tracees;
use tracer::Tracer;
use waits::Waits;

/// Bytes below the stack pointer that code may use without moving it.
const RED_ZONE: u64 = 128;
/// Most bytes of one stack that are captured.
const STACK_MAX: u64 = 256 << 10;
/// Bytes that are captured of a stack that the memory map does not know.
const STACK_UNKNOWN: u64 = 64 << 10;

/// How to stop.
#[derive(Debug, Clone)]
pub struct StopOptions {
    /// How long to try before all threads are let go again.
    pub deadline: Duration,
}

impl Default for StopOptions {
    fn default() -> StopOptions {
        StopOptions { deadline: Duration::from_millis(500) }
    }
}

/// Registers of a stopped thread.
#[derive(Debug, Clone, Copy)]
pub struct Registers {
    /// Next instruction.
    pub rip: LiveAddr,
    /// Stack pointer.
    pub rsp: LiveAddr,
    /// Frame pointer, or any value.
    pub rbp: LiveAddr,
    /// Result register. In an interrupted system call it is the kernel's negative error number.
    pub rax: u64,
    /// Number of the system call that the thread is in; `u64::MAX` if it is in none.
    pub orig_rax: u64,
    /// Start of the thread's block of thread-locals.
    pub fs_base: LiveAddr,
    pub(crate) all: libc::user_regs_struct,
}

impl Registers {
    pub(crate) fn new(all: libc::user_regs_struct) -> Registers {
        Registers {
            rip: LiveAddr(all.rip),
            rsp: LiveAddr(all.rsp),
            rbp: LiveAddr(all.rbp),
            rax: all.rax,
            orig_rax: all.orig_rax,
            fs_base: LiveAddr(all.fs_base),
            all,
        }
    }
}

/// A stopped thread.
#[derive(Debug, Clone)]
pub struct Thread {
    /// Its number.
    pub tid: u32,
    /// Its registers. A thread inside a system call that will be made again has its next instruction behind that call.
    pub regs: Registers,
}

impl Thread {
    /// Its short name as the kernel has it now; empty if it is gone.
    #[must_use]
    pub fn name(&self) -> String {
        status::name(self.tid)
    }
}

/// A copy of a thread's registers and stack.
#[derive(Debug, Clone)]
pub struct CapturedThread {
    /// The thread.
    pub thread: Thread,
    /// Address of the first copied byte: the red zone below the stack pointer.
    pub stack_start: LiveAddr,
    /// The copy.
    pub stack: Vec<u8>,
}

impl CapturedThread {
    /// The words of the copy, in ascending order.
    pub fn words(&self) -> impl Iterator<Item = u64> + '_ {
        self.stack.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()))
    }

    /// Whether there may be more of the stack than was copied.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        let copied = self.stack.len() as u64;
        copied >= STACK_MAX || copied == STACK_UNKNOWN
    }
}

/// A process all of whose threads are stopped.
#[derive(Debug)]
pub struct Stopped {
    threads: Vec<Thread>,
    memory: Memory,
    tracer: Tracer,
}

/// Stops all threads of the program behind `memory`.
///
/// # Errors
/// `Busy` if a thread does not stop before the deadline, a debugger is attached or another process shares the memory, `Denied` if the system does not
/// allow it, `Gone` if the program has ended or was replaced. In every case all threads run again.
pub fn stop(memory: &Memory, options: &StopOptions) -> Result<Stopped> {
    let siblings = Siblings::look(memory.pid())?;
    let (to_stop, deadline) = (memory.clone(), options.deadline);
    let of = format!("process {}", memory.pid());
    let (tracer, threads) = Tracer::begin(of, move |hand_over| stop_threads(&to_stop, deadline, hand_over))?.wait()?;
    // Dropped with an error, it lets all threads go.
    let stopped = Stopped { threads, memory: memory.clone(), tracer };
    siblings.look_again()?;
    Ok(stopped)
}

/// The whole life of the tracing thread.
fn stop_threads(memory: &Memory, deadline: Duration, hand_over: &dyn Fn(Result<Vec<Thread>>)) -> Result<Duration> {
    // Without the permission the stop only takes longer when the program keeps all processors busy.
    let _ = sys::raise_priority();
    sys::nap_exactly();
    // Before the clock starts: the program runs meanwhile.
    let waits = Waits::look(memory.pid());
    let mut tracees = Tracees::new(memory, &waits);
    let began = Instant::now();
    hand_over(tracees.stop_all(began + deadline));
    tracees.release()?;
    Ok(began.elapsed())
}

/// What stopping can do here, besides the stopping itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// It runs at real-time priority.
    pub priority: bool,
    /// It notices processes that share the program's memory.
    pub compares_memory: bool,
}

/// Tries both.
#[must_use]
pub fn abilities() -> Abilities {
    let own = std::process::id();
    // On a thread of its own, whose priority ends with it.
    let priority = std::thread::spawn(|| sys::raise_priority().is_ok()).join().unwrap_or(false);
    Abilities { priority, compares_memory: sys::share_memory(own, own) }
}

/// Why thread `tid` of process `pid` does nothing at the moment, in words; `None` if nothing holds it, or it is gone.
#[must_use]
pub fn held(pid: u32, tid: u32) -> Option<String> {
    let status = status::Status::read(pid, tid).ok()?;
    match status.tracer {
        0 => (status.state == 'T').then(|| format!("process {pid} is stopped by a signal, as Ctrl-Z sends one")),
        tracer => Some(status::tracer(tracer)),
    }
}

/// Whether thread `tid` of process `pid` has a seccomp filter that this process has not, so that any system call can be the
/// end of the process. Filters that both have were there before: a container has some.
#[must_use]
pub fn is_filtered(pid: u32, tid: u32) -> bool {
    let own = std::process::id();
    let filters = |pid, tid| status::Status::read(pid, tid).map_or(0, |status| status.filters);
    filters(pid, tid) > filters(own, own)
}

impl Stopped {
    /// All threads, in the order in which they were found.
    #[must_use]
    pub fn threads(&self) -> &[Thread] {
        &self.threads
    }

    /// The memory of the process.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Copies each thread's stack, from the red zone to its end or 256 KiB. `map` was best read shortly before the
    /// stop; a stack that it does not have is copied for 64 KiB.
    ///
    /// # Errors
    /// `Gone` if the program was killed meanwhile.
    pub fn capture_stacks(&self, map: &MemoryMap) -> Result<Vec<CapturedThread>> {
        self.threads.iter().map(|thread| self.capture(thread, map)).collect()
    }

    /// Whether `wanted` holds for some word on the stack of one of the threads, to its end, or on a stack that a signal
    /// handler of the thread interrupted. `map` as for [`Stopped::capture_stacks`].
    ///
    /// # Errors
    /// `Gone` if the program was killed meanwhile.
    pub fn any_word(&self, thread: &Thread, map: &MemoryMap, wanted: &mut dyn FnMut(u64) -> bool) -> Result<bool> {
        stack::any_word(&self.memory, thread, map, wanted)
    }

    fn capture(&self, thread: &Thread, map: &MemoryMap) -> Result<CapturedThread> {
        let top = thread.regs.rsp;
        let start = LiveAddr(top.0.saturating_sub(RED_ZONE));
        let len = map.find(top).map_or(STACK_UNKNOWN, |mapping| mapping.end.0 - start.0).min(STACK_MAX);
        let mut stack = vec![0; usize::try_from(len).unwrap_or_default()];
        let got = self.memory.read_some(start, &mut stack)?;
        stack.truncate(got);
        Ok(CapturedThread { thread: thread.clone(), stack_start: start, stack })
    }

    /// Lets all threads go on; gives how long the program stood still, from the moment its first thread was asked to stop.
    ///
    /// # Errors
    /// `Fatal` if a thread could not be let go in the way it was found; it runs on in any case.
    pub fn resume(mut self) -> Result<Duration> {
        self.tracer.finish()
    }
}
