//! The kernel calls of macOS, made. All unsafe code for that system; nothing in here decides anything.
//!
//! It is compiled for macOS alone and **has not been run on a Mac**: what it is checked by is that it compiles for both
//! machines against the declarations of `mach2` and `libc`, which are made from Apple's headers.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use libc::{c_char, c_int, pid_t};
use mach2::kern_return::{KERN_INVALID_ARGUMENT, KERN_SUCCESS, kern_return_t};
use mach2::traps::mach_task_self;
use mach2::vm_region::vm_region_submap_short_info_64;

use super::kernel::{Answer, KernReturn, Kernel, ShareMode, TaskPort, VmProt, VmRegion};
use crate::{LaunchSpec, LiveAddr};

unsafe extern "C" {
    /// `<mach/mach_traps.h>`; not among the declarations of `mach2`.
    fn pid_for_task(task: u32, pid: *mut c_int) -> kern_return_t;
}

/// Deeper than submaps are nested: the region that is found is never one of them.
const INTO_SUBMAPS: u32 = 1024;

/// The kernel of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mach;

impl Kernel for Mach {
    fn page_size(&self) -> u64 {
        // SAFETY: a number that the system's library sets before `main` and nobody changes.
        (unsafe { mach2::vm_page_size::vm_page_size }) as u64
    }

    fn spawn(&self, spec: &LaunchSpec, flags: i16) -> io::Result<u32> {
        let program = text(spec.program.as_os_str())?;
        let name = spec.arg0.as_deref().unwrap_or(spec.program.as_os_str());
        let args = Texts::new(std::iter::once(name).chain(spec.args.iter().map(AsRef::as_ref)).map(text))?;
        let env = Texts::new(spec.env.iter().map(|(key, value)| {
            let mut pair = key.clone();
            pair.push("=");
            pair.push(value);
            text(&pair)
        }))?;
        let attributes = Attributes::new(flags)?;
        let actions = FileActions::new(spec.cwd.as_ref().map(|cwd| text(cwd.as_os_str())).transpose()?)?;
        let mut pid: pid_t = 0;
        // SAFETY: all are valid for the call: terminated texts, arrays that end with a null pointer, initialised records.
        answered(unsafe {
            libc::posix_spawn(
                &raw mut pid,
                program.as_ptr(),
                &raw const actions.0,
                &raw const attributes.0,
                args.pointers.as_ptr(),
                env.pointers.as_ptr(),
            )
        })?;
        u32::try_from(pid).map_err(io::Error::other)
    }

    fn signal(&self, pid: u32, signal: i32) -> io::Result<()> {
        let pid = pid_t::try_from(pid).map_err(io::Error::other)?;
        // SAFETY: no memory is involved.
        if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn task_for_pid(&self, pid: u32) -> Answer<TaskPort> {
        let pid = c_int::try_from(pid).map_err(|_| KernReturn::INVALID_ARGUMENT)?;
        let mut name = 0;
        // SAFETY: the name lives through the call.
        checked(unsafe { mach2::traps::task_for_pid(own_task(), pid, &raw mut name) })?;
        Ok(TaskPort(name))
    }

    fn pid_for_task(&self, task: TaskPort) -> Answer<u32> {
        let mut pid = 0;
        // SAFETY: the number lives through the call.
        checked(unsafe { pid_for_task(task.0, &raw mut pid) })?;
        u32::try_from(pid).map_err(|_| KernReturn::FAILURE)
    }

    fn deallocate(&self, task: TaskPort) -> Answer<()> {
        // SAFETY: no memory is involved; callers give back what `task_for_pid` gave them.
        checked(unsafe { mach2::mach_port::mach_port_deallocate(own_task(), task.0) })
    }

    fn region(&self, task: TaskPort, addr: LiveAddr) -> Answer<VmRegion> {
        let (mut start, mut size, mut depth) = (addr.0, 0, INTO_SUBMAPS);
        let mut info = vm_region_submap_short_info_64::default();
        let mut count = vm_region_submap_short_info_64::count();
        // SAFETY: all live through the call, and `count` says how many words `info` has room for.
        checked(unsafe {
            mach2::vm::mach_vm_region_recurse(
                task.0,
                &raw mut start,
                &raw mut size,
                &raw mut depth,
                (&raw mut info).cast(),
                &raw mut count,
            )
        })?;
        Ok(VmRegion {
            start: LiveAddr(start),
            end: LiveAddr(start.saturating_add(size)),
            protection: VmProt(info.protection),
            max_protection: VmProt(info.max_protection),
            share: ShareMode(info.share_mode),
            is_paged_by_a_file: info.external_pager != 0,
        })
    }

    fn read(&self, task: TaskPort, addr: LiveAddr, bytes: &mut [u8]) -> Answer<usize> {
        let (to, len, mut got) = (bytes.as_mut_ptr() as u64, bytes.len() as u64, 0);
        // SAFETY: at most `len` bytes are written from `to` on, which is the slice.
        checked(unsafe { mach2::vm::mach_vm_read_overwrite(task.0, addr.0, len, to, &raw mut got) })?;
        usize::try_from(got).map_err(|_| KernReturn::FAILURE)
    }

    fn write(&self, task: TaskPort, addr: LiveAddr, bytes: &[u8]) -> Answer<()> {
        let len = u32::try_from(bytes.len()).map_err(|_| KernReturn::INVALID_ARGUMENT)?;
        // SAFETY: the slice is read for its length. What changes is another task's memory.
        checked(unsafe { mach2::vm::mach_vm_write(task.0, addr.0, bytes.as_ptr() as usize, len) })
    }

    fn protect(&self, task: TaskPort, start: LiveAddr, len: u64, protection: VmProt) -> Answer<()> {
        // Not the maximum.
        let set_maximum = 0;
        // SAFETY: no memory of this process is involved.
        checked(unsafe { mach2::vm::mach_vm_protect(task.0, start.0, len, set_maximum, protection.0) })
    }

    #[cfg(target_arch = "x86_64")]
    fn flush(&self, _: TaskPort, _: LiveAddr, _: u64) -> Answer<()> {
        Ok(())
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn flush(&self, task: TaskPort, start: LiveAddr, len: u64) -> Answer<()> {
        use mach2::vm_attributes::{MATTR_CACHE, MATTR_VAL_CACHE_FLUSH};
        let mut value = MATTR_VAL_CACHE_FLUSH;
        // SAFETY: the value lives through the call; no other memory of this process is involved.
        checked(unsafe { mach2::vm::mach_vm_machine_attribute(task.0, start.0, len, MATTR_CACHE, &raw mut value) })
    }

    fn suspend(&self, task: TaskPort) -> Answer<()> {
        // SAFETY: no memory is involved.
        checked(unsafe { mach2::task::task_suspend(task.0) })
    }

    fn resume(&self, task: TaskPort) -> Answer<()> {
        // SAFETY: no memory is involved.
        checked(unsafe { mach2::task::task_resume(task.0) })
    }
}

fn own_task() -> u32 {
    // SAFETY: a number that the system's library sets before `main`.
    unsafe { mach_task_self() }
}

/// The kernel's answer as a result.
fn checked(code: kern_return_t) -> Answer<()> {
    if code == KERN_SUCCESS { Ok(()) } else { Err(KernReturn(code)) }
}

const _: () = assert!(KernReturn::INVALID_ARGUMENT.0 == KERN_INVALID_ARGUMENT);

/// The answer of the `posix_spawn` calls, which give the error itself.
fn answered(error: c_int) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

fn text(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a text with a zero byte"))
}

/// Texts and the array of pointers to them that the system wants.
struct Texts {
    pointers: Vec<*mut c_char>,
    /// What they point to.
    _texts: Vec<CString>,
}

impl Texts {
    fn new(texts: impl Iterator<Item = io::Result<CString>>) -> io::Result<Texts> {
        let texts: Vec<CString> = texts.collect::<io::Result<_>>()?;
        // The system only reads them.
        let pointers = texts.iter().map(|text| text.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect();
        Ok(Texts { pointers, _texts: texts })
    }
}

/// What a program is started with.
struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    /// With `flags`, and with the signals as a program expects them: relive ignores one and may block others.
    fn new(flags: i16) -> io::Result<Attributes> {
        let own =
            i16::try_from(libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK).map_err(io::Error::other)?;
        let mut attributes = ptr::null_mut();
        // SAFETY: makes a record behind the pointer, which lives through the call.
        answered(unsafe { libc::posix_spawnattr_init(&raw mut attributes) })?;
        let mut made = Attributes(attributes);
        // SAFETY: the record was made.
        answered(unsafe { libc::posix_spawnattr_setflags(&raw mut made.0, flags | own) })?;
        let mut signals: libc::sigset_t = 0;
        // SAFETY: the record was made; the empty set lives through the call.
        answered(unsafe { libc::posix_spawnattr_setsigmask(&raw mut made.0, &raw const signals) })?;
        // SAFETY: the set lives through the call.
        unsafe { libc::sigaddset(&raw mut signals, libc::SIGPIPE) };
        // SAFETY: as for the mask.
        answered(unsafe { libc::posix_spawnattr_setsigdefault(&raw mut made.0, &raw const signals) })?;
        Ok(made)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: made in `new`, given up here and nowhere else.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}

/// What happens in the child first.
struct FileActions(libc::posix_spawn_file_actions_t);

impl FileActions {
    /// Goes to the folder `cwd`, if there is one.
    fn new(cwd: Option<CString>) -> io::Result<FileActions> {
        let mut actions = ptr::null_mut();
        // SAFETY: makes a record behind the pointer, which lives through the call.
        answered(unsafe { libc::posix_spawn_file_actions_init(&raw mut actions) })?;
        let mut made = FileActions(actions);
        if let Some(cwd) = cwd {
            // SAFETY: the record was made; the text is terminated, lives through the call and is copied.
            answered(unsafe { libc::posix_spawn_file_actions_addchdir_np(&raw mut made.0, cwd.as_ptr()) })?;
        }
        Ok(made)
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: made in `new`, given up here and nowhere else.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}
