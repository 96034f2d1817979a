//! All unsafe code of this crate: system calls, wrapped into functions of a few lines with safe signatures.
//!
//! Nothing in here decides anything; errors are the system's own.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::sync::OnceLock;

use libc::{c_int, c_long, c_uint, c_void, pid_t};

/// A file's bytes, mapped read-only.
#[derive(Debug)]
pub(crate) struct FileMapping {
    start: *const u8,
    len: usize,
}

// SAFETY: the bytes are only ever read, and the mapping is this value's own until it is dropped.
unsafe impl Send for FileMapping {}
// SAFETY: as above.
unsafe impl Sync for FileMapping {}

impl FileMapping {
    /// Maps the first `len` bytes of `file`.
    pub(crate) fn new(file: &File, len: usize) -> io::Result<FileMapping> {
        if len == 0 {
            return Ok(FileMapping { start: ptr::null(), len });
        }
        let fd = file.as_raw_fd();
        // SAFETY: a new private mapping at an address of the system's choice; nothing existing is touched.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ, libc::MAP_PRIVATE, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(FileMapping { start: start.cast_const().cast(), len })
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: mapped readable for `len` bytes until the drop. The bytes do not change: `MappedFile` is documented
        // for files that nobody writes to in place (relive's own links and copies). This rests on its callers.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl Drop for FileMapping {
    fn drop(&mut self) {
        if self.len != 0 {
            // SAFETY: exactly the mapping made in `new`; no slice of it outlives `self`.
            unsafe { libc::munmap(self.start.cast_mut().cast(), self.len) };
        }
    }
}

/// The system's answer as a result.
fn checked(answer: c_long) -> io::Result<c_long> {
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

fn owned(fd: c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(checked(fd)?).map_err(io::Error::other)?;
    // SAFETY: callers pass the answer of a call that just made this descriptor; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A second descriptor of the same file, numbered `least` or higher, closed on exec.
pub(crate) fn duplicate(fd: BorrowedFd<'_>, least: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: makes a new descriptor; no memory is involved.
    owned(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) }.into())
}

/// Lets the program that `command` starts inherit descriptor `kept`, which must stay open in this process until the
/// program was started.
pub(crate) fn inherit(command: &mut Command, kept: RawFd) {
    let prepare = move || {
        // SAFETY: changes a flag of a descriptor of the child; allowed between fork and exec.
        checked(unsafe { libc::fcntl(kept, libc::F_SETFD, 0) }.into()).map(drop)
    };
    // SAFETY: `prepare` calls only an async-signal-safe function and allocates nothing: its capture is moved in.
    unsafe { command.pre_exec(prepare) };
}

/// Has the child of `command` tell its number over its end of a socket, and wait for a byte or the end of the other before
/// it runs the program. `ours` is the end it must let go of, so that it notices when this process is killed. Both must
/// stay open in this process until the program was started.
pub(crate) fn meet(command: &mut Command, ours: RawFd, theirs: RawFd) {
    let prepare = move || {
        // SAFETY: the child's copy of a descriptor; nothing in the child uses it.
        unsafe { libc::close(ours) };
        // SAFETY: no memory is involved.
        let pid = unsafe { libc::getpid() }.to_ne_bytes();
        // SAFETY: sends from an array that lives through the call. Should it fail, nobody waits for it; and when this
        // process was killed, that is no reason for a signal that ends the child.
        unsafe { libc::send(theirs, pid.as_ptr().cast(), pid.len(), libc::MSG_NOSIGNAL) };
        let mut word = 0_u8;
        loop {
            // SAFETY: reads one byte into one byte. Whatever comes of it, the program is run.
            let got = unsafe { libc::read(theirs, (&raw mut word).cast(), 1) };
            if got >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return Ok(());
            }
        }
    };
    // SAFETY: `prepare` calls only async-signal-safe functions and allocates nothing: its captures are moved in.
    unsafe { command.pre_exec(prepare) };
}

/// While it lives, programs that the calling thread starts get the same addresses every time.
pub(crate) struct FixedAddresses {
    /// The thread's personality before.
    before: c_int,
    /// It is the thread's: the value must not leave it.
    _here: std::marker::PhantomData<*const ()>,
}

impl FixedAddresses {
    pub(crate) fn begin() -> io::Result<FixedAddresses> {
        /// Asks and changes nothing (`personality(2)`).
        const ASK: libc::c_ulong = 0xffff_ffff;
        // SAFETY: no memory is involved.
        let before = unsafe { libc::personality(ASK) };
        checked(before.into())?;
        // SAFETY: affects what this thread runs or forks from now on, and no mapping of this process.
        checked(unsafe { libc::personality((before | libc::ADDR_NO_RANDOMIZE) as libc::c_ulong) }.into())?;
        Ok(FixedAddresses { before, _here: std::marker::PhantomData })
    }
}

impl Drop for FixedAddresses {
    fn drop(&mut self) {
        // SAFETY: as above; the thread gets back what it had.
        unsafe { libc::personality(self.before as libc::c_ulong) };
    }
}

/// A descriptor that stands for the process, whatever happens to its number.
pub(crate) fn open_process(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid as pid_t, 0 as c_uint) })
}

/// Sends `signal` to the process.
pub(crate) fn signal_process(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_info = ptr::null::<libc::siginfo_t>();
    let fd = process.as_raw_fd();
    // SAFETY: without information the kernel fills it in; no memory is read.
    checked(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, no_info, 0 as c_uint) }).map(drop)
}

/// Waits until `fd` is readable; for a process that is when all its threads have ended. `None` waits for ever.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, milliseconds: Option<u32>) -> io::Result<bool> {
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let timeout = milliseconds.map_or(-1, |ms| c_int::try_from(ms).unwrap_or(c_int::MAX));
    // SAFETY: one entry, valid for the call.
    let ready = checked(unsafe { libc::poll(&raw mut entry, 1, timeout) }.into())?;
    Ok(ready > 0)
}

/// What `waitid` says of a child or tracee.
struct Report {
    code: c_int,
    status: c_int,
}

fn wait_id(id: u32, flags: c_int) -> io::Result<Option<Report>> {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = flags | libc::WNOHANG;
    // SAFETY: `info` is writable and of the size that the call fills.
    checked(unsafe { libc::waitid(libc::P_PID, id, info.as_mut_ptr(), flags) }.into())?;
    // SAFETY: zeroed and then filled in; any bits are a `siginfo_t`.
    let info = unsafe { info.assume_init() };
    // SAFETY: `waitid` fills these fields in, or they are still zero.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    Ok((pid != 0).then_some(Report { code: info.si_code, status }))
}

/// Reaps the ended child `pid`: its exit code, or 128 + n if signal n ended it; `None` if it has not ended.
pub(crate) fn reap(pid: u32) -> io::Result<Option<i32>> {
    Ok(wait_id(pid, libc::WEXITED)?.and_then(|report| match report.code {
        libc::CLD_EXITED => Some(report.status),
        libc::CLD_KILLED | libc::CLD_DUMPED => Some(128 + report.status),
        _ => None,
    }))
}

/// State of a seized thread.
pub(crate) enum TraceeState {
    /// Not stopped.
    Running,
    /// Stopped, with the kernel's word for why: a signal in the low byte, an event above it.
    Stopped(i32),
    /// Ended.
    Ended,
}

/// The state of thread `tid`, seized by the calling thread. The end of a main thread is left for the parent to see; that
/// of another thread is taken, because an `exec` in the program waits for it.
pub(crate) fn tracee_state(tid: u32, is_main: bool) -> io::Result<TraceeState> {
    let flags = libc::__WALL | libc::__WNOTHREAD;
    let is_end = |code| matches!(code, libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED);
    // No report of a stop is ever taken: where a signal stopped the thread, the kernel keeps it in the report, and
    // delivers it from there should this process be killed before it lets the thread go.
    if let Some(stopped) = if_child(wait_id(tid, libc::WSTOPPED | libc::WNOWAIT | flags))?.flatten() {
        return Ok(TraceeState::Stopped(stopped.status));
    }
    match if_child(wait_id(tid, libc::WEXITED | libc::WNOWAIT | flags))? {
        None => return Ok(TraceeState::Ended),
        Some(report) if !report.as_ref().is_some_and(|report| is_end(report.code)) => return Ok(TraceeState::Running),
        Some(_) => {}
    }
    if !is_main {
        if_child(wait_id(tid, libc::WEXITED | flags))?;
    }
    Ok(TraceeState::Ended)
}

/// `None` if the system says that there is no such child. It says so also of a child that has ended when only stops were
/// asked for.
fn if_child<T>(answer: io::Result<T>) -> io::Result<Option<T>> {
    match answer {
        Err(why) if why.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        answer => answer.map(Some),
    }
}

fn ptrace(request: c_uint, tid: u32, addr: *mut c_void, data: *mut c_void) -> io::Result<()> {
    // SAFETY: callers pass, for each request, an `addr` and `data` that the kernel may use in the way of that request:
    // numbers, or a register record that lives through the call.
    checked(unsafe { libc::ptrace(request, tid as pid_t, addr, data) }).map(drop)
}

/// Becomes the tracer of thread `tid` without stopping it. If this thread ends, the tracee runs on.
pub(crate) fn seize(tid: u32) -> io::Result<()> {
    // The one option makes an `exec` visible. Never PTRACE_O_EXITKILL: a killed relive must not kill the program.
    let options = libc::PTRACE_O_TRACEEXEC as usize;
    ptrace(libc::PTRACE_SEIZE, tid, ptr::null_mut(), ptr::without_provenance_mut(options))
}

/// Asks the seized thread `tid` to stop.
pub(crate) fn interrupt(tid: u32) -> io::Result<()> {
    ptrace(libc::PTRACE_INTERRUPT, tid, ptr::null_mut(), ptr::null_mut())
}

/// Lets the stopped thread `tid` go, with `signal` delivered if it is not 0.
pub(crate) fn detach(tid: u32, signal: i32) -> io::Result<()> {
    let signal = usize::try_from(signal).unwrap_or_default();
    ptrace(libc::PTRACE_DETACH, tid, ptr::null_mut(), ptr::without_provenance_mut(signal))
}

/// The general registers of the stopped thread `tid`.
pub(crate) fn registers(tid: u32) -> io::Result<libc::user_regs_struct> {
    let mut registers = std::mem::MaybeUninit::<libc::user_regs_struct>::zeroed();
    ptrace(libc::PTRACE_GETREGS, tid, ptr::null_mut(), registers.as_mut_ptr().cast())?;
    // SAFETY: a record of integers, zeroed and then filled in.
    Ok(unsafe { registers.assume_init() })
}

/// Sets the general registers of the stopped thread `tid`.
pub(crate) fn set_registers(tid: u32, registers: &libc::user_regs_struct) -> io::Result<()> {
    // The kernel only reads the record.
    ptrace(libc::PTRACE_SETREGS, tid, ptr::null_mut(), ptr::from_ref(registers).cast_mut().cast())
}

/// Whether two processes have one memory; false where that may not be asked.
pub(crate) fn share_memory(one: u32, other: u32) -> bool {
    /// A number of the kernel's `kcmp.h`.
    const KCMP_VM: c_int = 1;
    // SAFETY: compares two processes; no memory of ours is involved.
    unsafe { libc::syscall(libc::SYS_kcmp, one as pid_t, other as pid_t, KCMP_VM, 0, 0) == 0 }
}

/// What is said when a mapped file turns out to be shorter than it was, and the exit code.
static SHORTENED: OnceLock<(&'static str, c_int)> = OnceLock::new();

/// From now on, reading what was cut off from a mapped file says `message` on stderr and ends this process with `code`.
pub(crate) fn end_when_shortened(message: &'static str, code: c_int) -> io::Result<()> {
    // A second call changes nothing.
    let _ = SHORTENED.set((message, code));
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: an all-zero record is a valid one: no flags, an empty mask, the default action.
    let action = unsafe { action.assume_init_mut() };
    action.sa_sigaction = shortened as *const () as usize;
    // SAFETY: the handler takes the signal's number and calls only what may be called from a signal handler.
    checked(unsafe { libc::sigaction(libc::SIGBUS, action, ptr::null_mut()) }.into()).map(drop)
}

extern "C" fn shortened(_: c_int) {
    let (message, code) = SHORTENED.get().copied().unwrap_or_default();
    // SAFETY: the text is readable for its length.
    unsafe { libc::write(libc::STDERR_FILENO, message.as_ptr().cast(), message.len()) };
    // SAFETY: ends the process without running anything else.
    unsafe { libc::_exit(code) };
}

/// Raises the calling thread above threads of normal priority; what it starts stays normal.
pub(crate) fn raise_priority() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: affects the calling thread only; the record lives through the call.
    checked(
        unsafe { libc::sched_setscheduler(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &raw const parameters) }
            .into(),
    )
    .map(drop)
}

/// Makes short naps of the calling thread short: by default the system rounds them up by 50 microseconds.
pub(crate) fn nap_exactly() {
    // SAFETY: affects the calling thread only; no memory is involved.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000 as libc::c_ulong, 0, 0, 0) };
}
