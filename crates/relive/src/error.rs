//! The library's error, sorted by what the caller does about it. A refusal is not an error.

use std::fmt;
use std::path::PathBuf;

/// Why a step could not be done.
#[derive(Debug)]
pub enum Error {
    /// The process is gone; the session ends.
    Gone(String),
    /// Something holds the process or a file at the moment; trying again can work.
    Busy(String),
    /// The system does not allow it; trying again cannot work.
    Denied(String),
    /// A file could not be read, written or understood.
    File {
        /// The file.
        path: PathBuf,
        /// What was being done with it.
        step: &'static str,
        /// What went wrong.
        why: String,
    },
    /// Our own invariant is broken, or the system answered what it never should.
    Fatal(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Gone(what) | Error::Busy(what) | Error::Denied(what) | Error::Fatal(what) => f.write_str(what),
            Error::File { path, step, why } => {
                write!(f, "cannot {step} `{}`: {why}", path.display())?;
                let not_a_folder = why.contains("(os error 20)").then_some(NOT_A_FOLDER);
                not_a_folder.or(advice(why)).map_or(Ok(()), |advice| write!(f, "; {advice}"))
            }
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// An error of `step` on `path`.
    pub fn file(path: impl Into<PathBuf>, step: &'static str, why: impl fmt::Display) -> Error {
        Error::File { path: path.into(), step, why: why.to_string() }
    }
}

const NOT_A_FOLDER: &str =
    "a file is where a folder has to be: move it, or name another target directory (CARGO_TARGET_DIR)";

/// What to do about surroundings that a text of the system's or of rustc's speaks of, as far as there is something.
pub(crate) fn advice(text: &str) -> Option<&'static str> {
    let known = [
        ("No space left on device", "make room on that disk"),
        ("Disk quota exceeded", "make room: the disk quota is used up"),
        ("File too large", "raise the limit on the size of files (`ulimit -f`)"),
        ("SIGXFSZ", "raise the limit on the size of files (`ulimit -f`)"),
        (
            "Read-only file system",
            "the file system is mounted read-only: name a target directory elsewhere (CARGO_TARGET_DIR)",
        ),
        ("Too many open files", "raise the limit on open files (`ulimit -n`)"),
        ("SIGKILL", "something killed it: for want of memory perhaps, see `dmesg`"),
    ];
    known.into_iter().find(|(sign, _)| text.contains(sign)).map(|(_, advice)| advice)
}

impl From<relive_process::Error> for Error {
    fn from(error: relive_process::Error) -> Error {
        use relive_process::Error as Process;
        match error {
            Process::Gone(what) => Error::Gone(what),
            Process::Busy(what) => Error::Busy(what),
            Process::Denied(what) => Error::Denied(what),
            Process::Fatal(what) => Error::Fatal(what),
        }
    }
}
