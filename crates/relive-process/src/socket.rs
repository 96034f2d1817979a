//! Sockets in a directory that is closed to other users.
//!
//! The directory is the lock on the door: whoever may enter it may connect. It is used by handle, so that a path of any
//! length fits into a socket address.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Binds the socket `name` in `dir`, which must be this user's and closed to others (mode 0700). One that is left from
/// before is replaced.
///
/// # Errors
/// `Denied` if others could reach into the directory, `Fatal` if the socket cannot be made.
pub fn listen(dir: &Path, name: &str) -> Result<UnixListener> {
    let failed = |why: io::Error| Error::Fatal(format!("cannot bind a socket in `{}`: {why}", dir.display()));
    let handle = open(dir).map_err(failed)?;
    let meta = handle.metadata().map_err(failed)?;
    if meta.mode() & 0o077 != 0 {
        let mode = meta.mode() & 0o777;
        return Err(Error::Denied(format!("`{}` has mode {mode:o}: others could reach the socket", dir.display())));
    }
    let path = place(&handle, name);
    match std::fs::remove_file(&path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(failed(why)),
        Ok(()) | Err(_) => {}
    }
    UnixListener::bind(path).map_err(failed)
}

/// Connects to the socket `name` in `dir`.
///
/// # Errors
/// What the system says; `NotFound` or `ConnectionRefused` if nobody listens.
pub fn connect(dir: &Path, name: &str) -> io::Result<UnixStream> {
    UnixStream::connect(place(&open(dir)?, name))
}

fn open(dir: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_DIRECTORY | libc::O_PATH).open(dir)
}

fn place(dir: &File, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))
}
