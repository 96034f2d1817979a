//! The error of this crate, sorted by what the caller does about it.

use std::fmt;
use std::io;

/// Why something could not be done to a process. The text is one sentence that names the process and the step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The process is gone, or runs another program now.
    Gone(String),
    /// Something holds the process at the moment; trying again can work.
    Busy(String),
    /// The system does not allow it; trying again cannot work.
    Denied(String),
    /// The system answered what it never should, or a resource is exhausted.
    Fatal(String),
}

impl Error {
    /// An error of the system in `step` (a verb phrase) on process `pid`.
    pub(crate) fn system(pid: u32, step: impl fmt::Display, why: &io::Error) -> Error {
        let text = format!("cannot {step} of process {pid}: {why}");
        match why.raw_os_error() {
            Some(libc::ESRCH | libc::ENOENT) => Error::Gone(text),
            Some(libc::EPERM | libc::EACCES) => Error::Denied(text),
            Some(libc::EAGAIN | libc::EINTR | libc::ETIMEDOUT) => Error::Busy(text),
            Some(_) | None => Error::Fatal(text),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Gone(text) | Error::Busy(text) | Error::Denied(text) | Error::Fatal(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}
