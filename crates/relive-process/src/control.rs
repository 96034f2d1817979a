//! A process under control, the same on every system: started at fixed addresses and held before its first instruction,
//! its memory listed, read and written whatever its protection, its threads stopped.
//!
//! Takes numbers, addresses and bytes, gives values and guards. [`Control`] is the whole of it; `linux` and `macos` are
//! its twins, with the same functions in the same order. `macos` does its work over a narrow interface of kernel calls and
//! is compiled everywhere; the calls themselves are compiled for macOS alone and **have not been run on a Mac**
//! (docs/design/process-control.md). No registers, no unwinding, no waiting for the end: those are not needed to switch code.

#[cfg(target_os = "linux")]
pub mod linux;
pub mod macos;

use crate::{Error, LaunchSpec, LiveAddr, Protection, Result};

/// What can be done to a process.
///
/// Errors are `Gone` if the process has ended, `Busy` if trying again can work, `Denied` if it cannot, `Fatal` for the rest;
/// each names the process.
pub trait Control: Sized {
    /// What processes are asked of.
    type System;
    /// A started program, for its number and its end.
    type Child;
    /// Keeps a new program from its first instruction. It begins when this is dropped; on Linux also when relive is killed.
    type Held;
    /// Keeps all threads from running. They go on when this is dropped, or relive is killed.
    type Stopped<'a>
    where
        Self: 'a;

    /// Starts a program and holds it.
    ///
    /// # Errors
    /// If it could not be started. That it cannot be reached is no error: it runs, and [`Spawned::reach`] says why.
    fn spawn(system: &Self::System, spec: &LaunchSpec) -> Result<Spawned<Self>>;

    /// Lets a new program begin.
    ///
    /// # Errors
    /// If the system does not do it.
    fn start(held: Self::Held) -> Result<()>;

    /// Takes control of process `pid`, as the program that runs now. It runs on.
    ///
    /// # Errors
    /// `Denied` says what would permit it.
    fn attach(system: &Self::System, pid: u32) -> Result<Self>;

    /// Its number.
    fn pid(&self) -> u32;

    /// Whether it has not ended.
    fn is_alive(&self) -> bool;

    /// What is mapped, in address order.
    ///
    /// # Errors
    /// As the trait says.
    fn regions(&self) -> Result<Vec<Region>>;

    /// Fills `bytes` from `addr` on.
    ///
    /// # Errors
    /// `Fatal` if not all of it is mapped and readable.
    fn read(&self, addr: LiveAddr, bytes: &mut [u8]) -> Result<()>;

    /// Writes `bytes` to `addr`, whatever the protection is there. Protections are afterwards what they were, also after an
    /// error. Only this process sees the bytes: what is written is its own copy.
    ///
    /// # Errors
    /// `Denied` for memory that is shared with a file or another process; nothing is written then. `Fatal` if not all of it
    /// is mapped.
    fn write(&self, addr: LiveAddr, bytes: &[u8]) -> Result<()>;

    /// Stops all threads.
    ///
    /// # Errors
    /// As the trait says; all threads run then.
    fn stop(&self) -> Result<Self::Stopped<'_>>;

    /// Lets all threads go on.
    ///
    /// # Errors
    /// As the trait says.
    fn resume(stopped: Self::Stopped<'_>) -> Result<()>;
}

/// A process of the system that this is compiled for.
#[cfg(target_os = "linux")]
pub type Native = linux::Process;
/// A process of the system that this is compiled for.
#[cfg(target_os = "macos")]
pub type Native = macos::Process<macos::sys::Mach>;

/// A program that was started.
#[derive(Debug)]
pub struct Spawned<P: Control> {
    /// Its number.
    pub pid: u32,
    /// The program as its parent sees it.
    pub child: P::Child,
    /// Control of it while it is held, or why there is none; it runs then.
    pub reach: Result<(P, P::Held)>,
}

/// A piece of memory that is protected in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// First byte.
    pub start: LiveAddr,
    /// First byte after it.
    pub end: LiveAddr,
    /// What it allows.
    pub protection: Protection,
    /// The file or the system's name for it; empty if it has none or the system does not say.
    pub name: String,
}

/// What to tell the user when process `pid` cannot be reached: a warning, since what was built is there and runs.
#[must_use]
pub fn warning(pid: u32, why: &Error) -> String {
    format!("process {pid} cannot be reached and runs on unchanged; what was built is kept for its next start: {why}")
}

/// Those of `regions`, which are in address order, that hold `len` bytes from `addr` on without a gap.
fn covering(regions: &[Region], addr: LiveAddr, len: usize, pid: u32) -> Result<&[Region]> {
    let not_mapped =
        |at| Error::Fatal(format!("cannot write {len} bytes at {addr} of process {pid}: {at} is not mapped"));
    let end = addr.0.checked_add(len as u64).map(LiveAddr).ok_or_else(|| not_mapped(addr))?;
    let first = regions.partition_point(|region| region.end <= addr);
    let mut covered = addr;
    let mut next = first;
    while covered < end {
        let region = regions.get(next).filter(|region| region.start <= covered && covered < region.end);
        covered = region.ok_or_else(|| not_mapped(covered))?.end;
        next += 1;
    }
    Ok(regions.get(first..next).unwrap_or_default())
}

/// Whether `region` is memory of process `pid` alone, so that `len` bytes may be written at `addr`.
fn is_its_own(region: &Region, addr: LiveAddr, len: usize, pid: u32) -> Result<()> {
    if !region.protection.shared {
        return Ok(());
    }
    let (start, end, protection, name) = (region.start, region.end, region.protection, &region.name);
    Err(Error::Denied(format!(
        "cannot write {len} bytes at {addr} of process {pid}: the mapping {start}-{end} ({protection}) `{name}` is shared, \
         and the file or another process would be changed"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: u64, end: u64) -> Region {
        let protection = Protection { read: true, ..Protection::default() };
        Region { start: LiveAddr(start), end: LiveAddr(end), protection, name: String::new() }
    }

    #[test]
    fn a_range_is_covered_without_gaps_or_not_at_all() {
        let regions = [region(0x1000, 0x2000), region(0x2000, 0x3000), region(0x5000, 0x6000)];
        let count = |addr, len| covering(&regions, LiveAddr(addr), len, 7).map(<[Region]>::len);
        assert_eq!(count(0x1000, 0x1000), Ok(1));
        assert_eq!(count(0x1fff, 2), Ok(2));
        assert_eq!(count(0x1fff, 0), Ok(0));
        assert_eq!(count(0x5fff, 1), Ok(1));
        for (addr, len, at) in
            [(0x2fff, 2, "0x3000"), (0xfff, 2, "0xfff"), (0x5fff, 2, "0x6000"), (u64::MAX, 2, "0xffffffffffffffff")]
        {
            let Err(Error::Fatal(text)) = count(addr, len) else { panic!("{addr:#x} is not covered") };
            assert!(text.ends_with(&format!("of process 7: {at} is not mapped")), "{text}");
        }
    }
}
