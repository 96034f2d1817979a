//! The kernel calls that control of a process on macOS is made of, and the values they take and give.
//!
//! Numbers are those of Apple's headers, named at each. The calls are made in `sys`, or by the tests' stand-in.

use std::fmt;
use std::io;

use crate::{LaunchSpec, LiveAddr};

/// `POSIX_SPAWN_START_SUSPENDED` of `<sys/spawn.h>`: stopped before the first instruction, until `SIGCONT`.
pub const START_SUSPENDED: i16 = 0x0080;
/// `_POSIX_SPAWN_DISABLE_ASLR` of `<spawn_private.h>`; debuggers use it.
pub const DISABLE_ASLR: i16 = 0x0100;
/// `SIGCONT` of `<sys/signal.h>`; Linux has another number.
pub const SIGCONT: i32 = 19;

/// What a call gives.
pub type Answer<T> = Result<T, KernReturn>;

/// The calls. Each is one call of the system, or the one that its words say.
pub trait Kernel: Clone {
    /// Bytes of a page: 16 KiB on arm64, 4 KiB on x86-64 (`vm_page_size`).
    fn page_size(&self) -> u64;
    /// `posix_spawn` with these flags; gives the process.
    ///
    /// # Errors
    /// The system's.
    fn spawn(&self, spec: &LaunchSpec, flags: i16) -> io::Result<u32>;
    /// `kill`; signal 0 only asks whether there is such a process.
    ///
    /// # Errors
    /// The system's.
    fn signal(&self, pid: u32, signal: i32) -> io::Result<()>;
    /// `task_for_pid`: a right to the task, to be given back with [`Kernel::deallocate`].
    ///
    /// # Errors
    /// The kernel's; `KERN_FAILURE` for nearly every reason.
    fn task_for_pid(&self, pid: u32) -> Answer<TaskPort>;
    /// `pid_for_task`.
    ///
    /// # Errors
    /// The kernel's; `KERN_FAILURE` of a task that has ended.
    fn pid_for_task(&self, task: TaskPort) -> Answer<u32>;
    /// `mach_port_deallocate`.
    ///
    /// # Errors
    /// The kernel's.
    fn deallocate(&self, task: TaskPort) -> Answer<()>;
    /// `mach_vm_region_recurse`, into submaps: the region that holds `addr`, or the next one.
    ///
    /// # Errors
    /// The kernel's; `KERN_INVALID_ADDRESS` if there is none.
    fn region(&self, task: TaskPort, addr: LiveAddr) -> Answer<VmRegion>;
    /// `mach_vm_read_overwrite`; gives how many bytes were read.
    ///
    /// # Errors
    /// The kernel's.
    fn read(&self, task: TaskPort, addr: LiveAddr, bytes: &mut [u8]) -> Answer<usize>;
    /// `mach_vm_write`.
    ///
    /// # Errors
    /// The kernel's; `KERN_PROTECTION_FAILURE` if some page is not writable.
    fn write(&self, task: TaskPort, addr: LiveAddr, bytes: &[u8]) -> Answer<()>;
    /// `mach_vm_protect` of the current protection, never of the maximum.
    ///
    /// # Errors
    /// The kernel's.
    fn protect(&self, task: TaskPort, start: LiveAddr, len: u64, protection: VmProt) -> Answer<()>;
    /// `mach_vm_machine_attribute` with `MATTR_CACHE` and `MATTR_VAL_CACHE_FLUSH`: the processors see what was written when
    /// they execute it. Nothing on x86-64, where they do so anyway.
    ///
    /// # Errors
    /// The kernel's.
    fn flush(&self, task: TaskPort, start: LiveAddr, len: u64) -> Answer<()>;
    /// `task_suspend`; counted.
    ///
    /// # Errors
    /// The kernel's.
    fn suspend(&self, task: TaskPort) -> Answer<()>;
    /// `task_resume`.
    ///
    /// # Errors
    /// The kernel's.
    fn resume(&self, task: TaskPort) -> Answer<()>;
}

/// This process's name for a right to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskPort(pub u32);

/// What a call failed with: a `kern_return_t` or `mach_msg_return_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernReturn(pub i32);

#[expect(missing_docs, reason = "the names are those of <mach/kern_return.h> and <mach/message.h>")]
impl KernReturn {
    pub const INVALID_ADDRESS: KernReturn = KernReturn(1);
    pub const PROTECTION_FAILURE: KernReturn = KernReturn(2);
    pub const NO_SPACE: KernReturn = KernReturn(3);
    pub const INVALID_ARGUMENT: KernReturn = KernReturn(4);
    pub const FAILURE: KernReturn = KernReturn(5);
    pub const RESOURCE_SHORTAGE: KernReturn = KernReturn(6);
    pub const NO_ACCESS: KernReturn = KernReturn(8);
    pub const ABORTED: KernReturn = KernReturn(14);
    pub const INVALID_NAME: KernReturn = KernReturn(15);
    pub const INVALID_TASK: KernReturn = KernReturn(16);
    pub const INVALID_RIGHT: KernReturn = KernReturn(17);
    pub const TERMINATED: KernReturn = KernReturn(37);
    pub const OPERATION_TIMED_OUT: KernReturn = KernReturn(49);
    pub const CODESIGN_ERROR: KernReturn = KernReturn(50);
    pub const DENIED: KernReturn = KernReturn(53);
    pub const SEND_INVALID_DEST: KernReturn = KernReturn(0x1000_0003);
    pub const SEND_TIMED_OUT: KernReturn = KernReturn(0x1000_0004);
    pub const SEND_INTERRUPTED: KernReturn = KernReturn(0x1000_0007);
    pub const RCV_TIMED_OUT: KernReturn = KernReturn(0x1000_4003);
    pub const RCV_INTERRUPTED: KernReturn = KernReturn(0x1000_4005);
}

impl KernReturn {
    /// What the headers call those that are expected.
    const NAMES: [(KernReturn, &str); 20] = [
        (KernReturn::INVALID_ADDRESS, "KERN_INVALID_ADDRESS"),
        (KernReturn::PROTECTION_FAILURE, "KERN_PROTECTION_FAILURE"),
        (KernReturn::NO_SPACE, "KERN_NO_SPACE"),
        (KernReturn::INVALID_ARGUMENT, "KERN_INVALID_ARGUMENT"),
        (KernReturn::FAILURE, "KERN_FAILURE"),
        (KernReturn::RESOURCE_SHORTAGE, "KERN_RESOURCE_SHORTAGE"),
        (KernReturn::NO_ACCESS, "KERN_NO_ACCESS"),
        (KernReturn::ABORTED, "KERN_ABORTED"),
        (KernReturn::INVALID_NAME, "KERN_INVALID_NAME"),
        (KernReturn::INVALID_TASK, "KERN_INVALID_TASK"),
        (KernReturn::INVALID_RIGHT, "KERN_INVALID_RIGHT"),
        (KernReturn::TERMINATED, "KERN_TERMINATED"),
        (KernReturn::OPERATION_TIMED_OUT, "KERN_OPERATION_TIMED_OUT"),
        (KernReturn::CODESIGN_ERROR, "KERN_CODESIGN_ERROR"),
        (KernReturn::DENIED, "KERN_DENIED"),
        (KernReturn::SEND_INVALID_DEST, "MACH_SEND_INVALID_DEST"),
        (KernReturn::SEND_TIMED_OUT, "MACH_SEND_TIMED_OUT"),
        (KernReturn::SEND_INTERRUPTED, "MACH_SEND_INTERRUPTED"),
        (KernReturn::RCV_TIMED_OUT, "MACH_RCV_TIMED_OUT"),
        (KernReturn::RCV_INTERRUPTED, "MACH_RCV_INTERRUPTED"),
    ];

    /// Whether it says by itself that the task has ended.
    #[must_use]
    pub fn is_of_a_dead_task(self) -> bool {
        [KernReturn::INVALID_TASK, KernReturn::TERMINATED, KernReturn::SEND_INVALID_DEST].contains(&self)
    }

    /// Whether trying again can work.
    #[must_use]
    pub fn is_of_the_moment(self) -> bool {
        let codes = [
            KernReturn::ABORTED,
            KernReturn::OPERATION_TIMED_OUT,
            KernReturn::SEND_TIMED_OUT,
            KernReturn::SEND_INTERRUPTED,
            KernReturn::RCV_TIMED_OUT,
            KernReturn::RCV_INTERRUPTED,
        ];
        codes.contains(&self)
    }

    /// Whether it is not allowed.
    #[must_use]
    pub fn is_a_refusal(self) -> bool {
        let codes =
            [KernReturn::PROTECTION_FAILURE, KernReturn::NO_ACCESS, KernReturn::CODESIGN_ERROR, KernReturn::DENIED];
        codes.contains(&self)
    }
}

impl fmt::Display for KernReturn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name =
            KernReturn::NAMES.iter().find(|(code, _)| code == self).map_or("the kernel's answer", |(_, name)| name);
        write!(f, "{name} ({:#x})", self.0)
    }
}

/// Rights to a page, as bits of `<mach/vm_prot.h>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VmProt(pub i32);

impl VmProt {
    /// No right.
    pub const NONE: VmProt = VmProt(0);
    /// Can be read.
    pub const READ: VmProt = VmProt(1);
    /// Can be written.
    pub const WRITE: VmProt = VmProt(2);
    /// Can be executed.
    pub const EXECUTE: VmProt = VmProt(4);
    /// Asks for a copy of what is mapped, which may be written even if the original may not.
    pub const COPY: VmProt = VmProt(0x10);

    /// Whether it has all of `other`.
    #[must_use]
    pub const fn has(self, other: VmProt) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both.
    #[must_use]
    pub const fn with(self, other: VmProt) -> VmProt {
        VmProt(self.0 | other.0)
    }

    /// Reading, writing and executing alone.
    #[must_use]
    pub const fn rights(self) -> VmProt {
        VmProt(self.0 & 7)
    }
}

impl fmt::Display for VmProt {
    /// Three letters: `r-x`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (right, letter) in [(VmProt::READ, "r"), (VmProt::WRITE, "w"), (VmProt::EXECUTE, "x")] {
            f.write_str(if self.has(right) { letter } else { "-" })?;
        }
        Ok(())
    }
}

/// Who else has the memory of a region, by the `SM_` numbers of `<mach/vm_region.h>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareMode(pub u8);

impl ShareMode {
    /// A copy is made when it is written.
    pub const COW: ShareMode = ShareMode(1);
    /// Nobody.
    pub const PRIVATE: ShareMode = ShareMode(2);
    /// It was never touched.
    pub const EMPTY: ShareMode = ShareMode(3);
    /// Others.
    pub const SHARED: ShareMode = ShareMode(4);
    /// Others, by agreement.
    pub const TRUE_SHARED: ShareMode = ShareMode(5);
    /// The same task, at another address.
    pub const PRIVATE_ALIASED: ShareMode = ShareMode(6);
    /// Others, and the same task at another address.
    pub const SHARED_ALIASED: ShareMode = ShareMode(7);
    /// Large pages.
    pub const LARGE_PAGE: ShareMode = ShareMode(8);
}

impl fmt::Display for ShareMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            ShareMode::COW => "SM_COW",
            ShareMode::PRIVATE => "SM_PRIVATE",
            ShareMode::EMPTY => "SM_EMPTY",
            ShareMode::SHARED => "SM_SHARED",
            ShareMode::TRUE_SHARED => "SM_TRUESHARED",
            ShareMode::PRIVATE_ALIASED => "SM_PRIVATE_ALIASED",
            ShareMode::SHARED_ALIASED => "SM_SHARED_ALIASED",
            ShareMode::LARGE_PAGE => "SM_LARGE_PAGE",
            ShareMode(number) => return write!(f, "share mode {number}"),
        };
        f.write_str(name)
    }
}

/// A region, as the kernel describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VmRegion {
    /// First byte.
    pub start: LiveAddr,
    /// First byte after it.
    pub end: LiveAddr,
    /// What it allows now.
    pub protection: VmProt,
    /// What it may be made to allow.
    pub max_protection: VmProt,
    /// Who else has it.
    pub share: ShareMode,
    /// Whether its pages come from a file (`external_pager`).
    pub is_paged_by_a_file: bool,
}
