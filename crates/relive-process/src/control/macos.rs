//! Control of a process on macOS: fixed addresses by a flag of `posix_spawn`, everything else through the task's port.
//!
//! Takes a [`Kernel`], the few kernel calls that are needed, and does the rest by their rules: a write needs pages that are
//! writable at the moment, and no page may be writable and executable. So the task is suspended, the pages are made writable
//! and lose the right to be executed, as copies where the file's own may never be written; they are written, flushed out of
//! the instruction cache, and each gets its own protection back. Compiled and tested on every system over a stand-in of
//! the kernel; **not run on a Mac**. docs/design/process-control.md has the sources.

pub mod kernel;
#[cfg(target_os = "macos")]
#[expect(unsafe_code, reason = "the unsafe code for macOS")]
pub mod sys;
mod unlocked;

#[cfg(test)]
mod stand_in;
#[cfg(test)]
mod tests;

use std::io;

use super::{Control, Region, Spawned, covering, is_its_own};
use crate::{Addresses, Error, LaunchSpec, LiveAddr, Protection, Result};
use kernel::{DISABLE_ASLR, KernReturn, Kernel, SIGCONT, START_SUSPENDED, ShareMode, TaskPort, VmProt, VmRegion};
use unlocked::Unlocked;

/// How often what must be undone is tried.
const ATTEMPTS: u32 = 3;
/// What to do when the port of a task is refused.
const HELP: &str = "relive's executable must be signed with the entitlement `com.apple.security.cs.debugger` (codesign -s - \
     -f --entitlements FILE), and a program with the hardened runtime must have `com.apple.security.get-task-allow`";

/// A process under control. Dropping it gives the port back.
#[derive(Debug)]
pub struct Process<K: Kernel> {
    kernel: K,
    pid: u32,
    task: TaskPort,
}

/// A program before its first instruction. It begins when this is dropped.
#[derive(Debug)]
pub struct Held<K: Kernel> {
    kernel: K,
    pid: u32,
    begun: bool,
}

/// A process whose threads do not run. They go on when this is dropped.
#[derive(Debug)]
pub struct Stopped<'a, K: Kernel> {
    process: &'a Process<K>,
    resumed: bool,
}

impl<K: Kernel> Control for Process<K> {
    type System = K;
    type Child = u32;
    type Held = Held<K>;
    type Stopped<'a>
        = Stopped<'a, K>
    where
        K: 'a;

    fn spawn(kernel: &K, spec: &LaunchSpec) -> Result<Spawned<Process<K>>> {
        let fixed = match spec.addresses {
            Addresses::Random => 0,
            Addresses::Fixed => DISABLE_ASLR,
        };
        let failed = |why| Error::Fatal(format!("cannot start `{}`: {why}", spec.program.display()));
        let pid = kernel.spawn(spec, START_SUSPENDED | fixed).map_err(failed)?;
        // From here on, whatever happens, the program begins.
        let held = Held { kernel: kernel.clone(), pid, begun: false };
        let reach = Process::attach(kernel, pid).map(|process| (process, held));
        Ok(Spawned { pid, child: pid, reach })
    }

    fn start(mut held: Held<K>) -> Result<()> {
        held.begin()
    }

    fn attach(kernel: &K, pid: u32) -> Result<Process<K>> {
        match kernel.task_for_pid(pid) {
            Ok(task) => Ok(Process { kernel: kernel.clone(), pid, task }),
            Err(code) => Err(refused(kernel, pid, code)),
        }
    }

    fn pid(&self) -> u32 {
        self.pid
    }

    fn is_alive(&self) -> bool {
        self.kernel.pid_for_task(self.task) == Ok(self.pid)
    }

    fn regions(&self) -> Result<Vec<Region>> {
        let found = self.mapped(LiveAddr(0), None)?;
        Ok(found.iter().map(region).collect())
    }

    fn read(&self, addr: LiveAddr, bytes: &mut [u8]) -> Result<()> {
        let len = bytes.len();
        let step = format!("read {len} bytes at {addr}");
        match self.kernel.read(self.task, addr, bytes) {
            Ok(got) if got == len => Ok(()),
            Ok(got) => Err(Error::Fatal(format!("cannot {step} of process {}: {got} were read", self.pid))),
            Err(code) => Err(self.error(&step, code)),
        }
    }

    fn write(&self, addr: LiveAddr, bytes: &[u8]) -> Result<()> {
        let len = bytes.len();
        if len == 0 {
            return Ok(());
        }
        // A thread that came to a page while it cannot be executed would be killed.
        let stopped = self.stop()?;
        let found = self.mapped(addr, Some(addr.plus(len as u64)))?;
        let regions: Vec<Region> = found.iter().map(region).collect();
        covering(&regions, addr, len, self.pid)?;
        regions.iter().try_for_each(|region| is_its_own(region, addr, len, self.pid))?;
        let mut unlocked = Unlocked::new(self);
        let outcome = self.put(&mut unlocked, &found, addr, bytes);
        // That a protection did not come back is the worse news.
        unlocked.restore().and(outcome)?;
        Self::resume(stopped)
    }

    fn stop(&self) -> Result<Stopped<'_, K>> {
        self.kernel.suspend(self.task).map_err(|code| self.error("stop the threads", code))?;
        Ok(Stopped { process: self, resumed: false })
    }

    fn resume(mut stopped: Stopped<'_, K>) -> Result<()> {
        stopped.go_on()
    }
}

impl<K: Kernel> Process<K> {
    /// Unlocks, writes, and has the processors forget what they know of code there.
    fn put(&self, unlocked: &mut Unlocked<'_, K>, found: &[VmRegion], addr: LiveAddr, bytes: &[u8]) -> Result<()> {
        let step = format!("write {} bytes at {addr}", bytes.len());
        let pages = Pages::around(addr, bytes.len(), self.kernel.page_size());
        let of_code: Vec<Pages> = found
            .iter()
            .filter(|region| region.protection.has(VmProt::EXECUTE))
            .filter_map(|region| pages.within(region))
            .collect();
        for region in found {
            if let Some(pages) = pages.within(region) {
                unlocked.unlock(region, pages)?;
            }
        }
        // The kernel looks at the whole range before it writes any of it.
        self.kernel.write(self.task, addr, bytes).map_err(|code| self.error(&step, code))?;
        of_code.iter().try_for_each(|pages| {
            let flushed = self.kernel.flush(self.task, pages.start, pages.len());
            flushed.map_err(|code| self.error(&format!("flush the instruction cache at {}", pages.start), code))
        })
    }

    /// What is mapped from the one that `from` is in, or the next, up to the one that holds the byte before `to`.
    fn mapped(&self, from: LiveAddr, to: Option<LiveAddr>) -> Result<Vec<VmRegion>> {
        let mut found: Vec<VmRegion> = Vec::new();
        let mut at = from;
        while to.is_none_or(|to| at < to) {
            let region = match self.kernel.region(self.task, at) {
                Ok(region) => region,
                // The kernel's word for "none from here on".
                Err(KernReturn::INVALID_ADDRESS) => break,
                Err(code) => return Err(self.error("list the regions", code)),
            };
            if region.end <= at || region.end <= region.start {
                let (start, end) = (region.start, region.end);
                return Err(Error::Fatal(format!("process {} has a region {start}-{end} behind {at}", self.pid)));
            }
            at = region.end;
            found.push(region);
        }
        Ok(found)
    }

    /// An answer of the kernel in `step` (a verb phrase) as an error.
    fn error(&self, step: &str, code: KernReturn) -> Error {
        let text = format!("cannot {step} of process {}: {code}", self.pid);
        if code.is_of_a_dead_task() || !self.is_alive() {
            Error::Gone(text)
        } else if code.is_of_the_moment() {
            Error::Busy(text)
        } else if code.is_a_refusal() {
            Error::Denied(text)
        } else {
            Error::Fatal(text)
        }
    }
}

/// Why the port of a task is not given out. The kernel has one word for most reasons.
fn refused<K: Kernel>(kernel: &K, pid: u32, code: KernReturn) -> Error {
    match kernel.signal(pid, 0) {
        Err(why) if why.raw_os_error() == Some(libc::ESRCH) => {
            Error::Gone(format!("cannot attach to process {pid}: it has ended"))
        }
        Ok(()) | Err(_) if code.is_of_the_moment() => Error::Busy(format!("cannot attach to process {pid}: {code}")),
        Ok(()) | Err(_) => Error::Denied(format!("cannot attach to process {pid}: {code}; {HELP}")),
    }
}

/// A region as every system has it.
fn region(found: &VmRegion) -> Region {
    let protection = Protection {
        read: found.protection.has(VmProt::READ),
        write: found.protection.has(VmProt::WRITE),
        execute: found.protection.has(VmProt::EXECUTE),
        shared: !is_private(found),
    };
    Region { start: found.start, end: found.end, protection, name: found.share.to_string() }
}

/// Whether writing reaches nobody else. A file's object that only this task has mapped counts as private for the kernel
/// (`vm_map_region_walk` in XNU), but is still the file; a private mapping of a file is a copy.
fn is_private(found: &VmRegion) -> bool {
    match found.share {
        ShareMode::COW | ShareMode::EMPTY => true,
        ShareMode::PRIVATE => !found.is_paged_by_a_file,
        // Shared, aliased, large pages that cannot be copied, and what is not known.
        _ => false,
    }
}

/// Whole pages.
#[derive(Debug, Clone, Copy)]
struct Pages {
    start: LiveAddr,
    end: LiveAddr,
}

impl Pages {
    /// The pages of `page_size` bytes, a power of two, that hold `len` bytes from `addr` on.
    fn around(addr: LiveAddr, len: usize, page_size: u64) -> Pages {
        let inside = page_size.saturating_sub(1);
        let end = addr.0.saturating_add(len as u64).saturating_add(inside) & !inside;
        Pages { start: LiveAddr(addr.0 & !inside), end: LiveAddr(end) }
    }

    /// Those that are in `region`.
    fn within(self, region: &VmRegion) -> Option<Pages> {
        let (start, end) = (self.start.max(region.start), self.end.min(region.end));
        (start < end).then_some(Pages { start, end })
    }

    /// Bytes.
    fn len(self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }
}

/// Does what must be done, and tries again if it fails. What is gone has nothing to be undone.
fn insist<T>(what: impl Fn() -> kernel::Answer<T>) -> kernel::Answer<T> {
    let mut answer = what();
    for _ in 1..ATTEMPTS {
        match answer {
            Err(code) if !code.is_of_a_dead_task() => answer = what(),
            Ok(_) | Err(_) => break,
        }
    }
    answer
}

impl<K: Kernel> Held<K> {
    fn begin(&mut self) -> Result<()> {
        self.begun = true;
        let mut outcome: io::Result<()> = Ok(());
        for _ in 0..ATTEMPTS {
            outcome = self.kernel.signal(self.pid, SIGCONT);
            if outcome.is_ok() {
                break;
            }
        }
        outcome.map_err(|why| Error::system(self.pid, "let the program begin", &why))
    }
}

impl<K: Kernel> Drop for Held<K> {
    fn drop(&mut self) {
        if !self.begun {
            // An error here has nobody to go to.
            let _ = self.begin();
        }
    }
}

impl<K: Kernel> Stopped<'_, K> {
    fn go_on(&mut self) -> Result<()> {
        self.resumed = true;
        let Process { kernel, task, .. } = self.process;
        insist(|| kernel.resume(*task)).map_err(|code| self.process.error("let the threads go on", code))
    }
}

impl<K: Kernel> Drop for Stopped<'_, K> {
    fn drop(&mut self) {
        if !self.resumed {
            // An error here has nobody to go to; the kernel resumes the task when relive ends.
            let _ = self.go_on();
        }
    }
}

impl<K: Kernel> Drop for Process<K> {
    fn drop(&mut self) {
        // The right is to this process's own name for the port, and is there whether or not the task is.
        let _ = insist(|| self.kernel.deallocate(self.task));
    }
}
