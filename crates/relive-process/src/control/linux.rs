//! Control of a process on Linux: fixed addresses by `personality`, holding and stopping by ptrace, memory through
//! `/proc/PID/mem`.
//!
//! The kernel writes through that file to private memory whatever its protection: the page becomes the process's own copy,
//! the protection is not touched, sealed (`mseal`) and inaccessible memory included. So there is nothing to give back. What
//! it refuses is memory that cannot be copied; what it does not refuse, and this does, is memory that is shared and
//! writable. docs/design/process-control.md lists what was tried.

mod held;

use std::os::fd::{AsFd, OwnedFd};

use super::{Control, Region, Spawned, covering, is_its_own};
use crate::launch::Child;
use crate::maps::MemoryMap;
use crate::memory::Memory;
use crate::stop::{self, StopOptions, Stopped};
use crate::{Error, LaunchSpec, LiveAddr, Result, sys};

pub use held::Held;

/// A process under control.
#[derive(Debug)]
pub struct Process {
    /// Stands for the process, whatever happens to its number.
    handle: OwnedFd,
    memory: Memory,
}

impl Control for Process {
    type System = ();
    type Child = Child;
    type Held = Held;
    type Stopped<'a> = Stopped;

    fn spawn((): &(), spec: &LaunchSpec) -> Result<Spawned<Process>> {
        let (child, held) = held::spawn(spec)?;
        let pid = child.pid();
        let reach = held.and_then(|held| Ok((Process::attach(&(), pid)?, held)));
        Ok(Spawned { pid, child, reach })
    }

    fn start(held: Held) -> Result<()> {
        held.start()
    }

    fn attach((): &(), pid: u32) -> Result<Process> {
        let handle = sys::open_process(pid).map_err(|why| Error::system(pid, "open a handle", &why))?;
        let process = Process { handle, memory: Memory::open(pid)? };
        // Only now is it sure that both are of one process, and not of two with one number.
        if !process.is_alive() {
            return Err(Error::Gone(format!("cannot attach to process {pid}: it has ended")));
        }
        Ok(process)
    }

    fn pid(&self) -> u32 {
        self.memory.pid()
    }

    fn is_alive(&self) -> bool {
        matches!(sys::wait_readable(self.handle.as_fd(), Some(0)), Ok(false))
    }

    fn regions(&self) -> Result<Vec<Region>> {
        let map = MemoryMap::read(self.pid())?;
        let regions = map.entries().iter().map(|mapping| Region {
            start: mapping.start,
            end: mapping.end,
            protection: mapping.protection,
            name: mapping.path.to_string_lossy().into_owned(),
        });
        Ok(regions.collect())
    }

    fn read(&self, addr: LiveAddr, bytes: &mut [u8]) -> Result<()> {
        self.memory.read(addr, bytes)
    }

    /// The list of mappings is read before. Stop the process if it may be mapping memory there meanwhile.
    fn write(&self, addr: LiveAddr, bytes: &[u8]) -> Result<()> {
        let (pid, len) = (self.pid(), bytes.len());
        let regions = self.regions()?;
        let written = covering(&regions, addr, len, pid)?;
        written.iter().try_for_each(|region| is_its_own(region, addr, len, pid))?;
        self.memory.write(addr, bytes).map_err(|why| match why {
            Error::Fatal(text) => {
                let places = written.iter().map(|region| format!("`{}` ({})", region.name, region.protection));
                let places = places.collect::<Vec<_>>().join(", ");
                Error::Fatal(format!("{text}; it is in {places}, and the system does not let it be copied"))
            }
            Error::Gone(_) | Error::Busy(_) | Error::Denied(_) => why,
        })
    }

    fn stop(&self) -> Result<Stopped> {
        stop::stop(&self.memory, &StopOptions::default())
    }

    fn resume(stopped: Stopped) -> Result<()> {
        stopped.resume().map(drop)
    }
}
