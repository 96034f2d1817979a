//! Reads and writes the memory of a process through one `/proc/PID/mem` handle.
//!
//! The handle belongs to the program that ran when it was opened: after `exec` or exit it reads nothing, so it can
//! never hit another program under the same number. Writing reaches read-only private pages as well.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use relive_wire::LiveAddr;

use crate::{Error, Result};

/// The memory of one process. Clones share the handle.
#[derive(Debug, Clone)]
pub struct Memory {
    pid: u32,
    file: Arc<File>,
}

impl Memory {
    /// Opens the memory of process `pid`, as the program that runs now.
    ///
    /// # Errors
    /// `Gone` if there is no such process, `Denied` if it may not be touched.
    pub fn open(pid: u32) -> Result<Memory> {
        let file = File::options().read(true).write(true).open(format!("/proc/{pid}/mem"));
        let file = file.map_err(|why| Error::system(pid, "open the memory", &why))?;
        Ok(Memory { pid, file: Arc::new(file) })
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Fills `bytes` from `addr` on.
    ///
    /// # Errors
    /// `Gone` if the program has ended or was replaced, `Fatal` if not all of the range is mapped.
    pub fn read(&self, addr: LiveAddr, bytes: &mut [u8]) -> Result<()> {
        let wanted = bytes.len();
        match self.read_some(addr, bytes) {
            Ok(got) if got == wanted => Ok(()),
            Ok(_) => Err(Error::Fatal(format!("cannot read {wanted} bytes at {addr} of process {}", self.pid))),
            Err(why) => Err(why),
        }
    }

    /// `len` bytes from `addr` on.
    ///
    /// # Errors
    /// As [`Memory::read`].
    pub fn read_vec(&self, addr: LiveAddr, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.read(addr, &mut bytes)?;
        Ok(bytes)
    }

    /// The little-endian word at `addr`.
    ///
    /// # Errors
    /// As [`Memory::read`].
    pub fn read_u64(&self, addr: LiveAddr) -> Result<u64> {
        let mut bytes = [0; 8];
        self.read(addr, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Fills as much of `bytes` as is mapped from `addr` on without a gap, and says how much; 0 if nothing is.
    ///
    /// # Errors
    /// `Gone` if the program has ended or was replaced.
    pub fn read_some(&self, addr: LiveAddr, bytes: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, addr.plus(done as u64).0) {
                Ok(0) => return Err(self.gone("read")),
                Ok(got) => done += got,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) if not_mapped(&why) => break,
                Err(why) => return Err(Error::system(self.pid, format!("read the memory at {addr}"), &why)),
            }
        }
        Ok(done)
    }

    /// Writes `bytes` to `addr`. At most 8 bytes inside one aligned word are written at once or not at all.
    ///
    /// # Errors
    /// `Gone` if the program has ended or was replaced, `Fatal` if not all of the range can be written.
    pub fn write(&self, addr: LiveAddr, bytes: &[u8]) -> Result<()> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            match self.file.write_at(rest, addr.plus(done as u64).0) {
                Ok(0) => return Err(self.gone("write")),
                Ok(put) => done += put,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => {
                    let step = format!("write {} bytes at {addr} ({done} were written)", bytes.len());
                    return Err(Error::system(self.pid, step, &why));
                }
            }
        }
        Ok(())
    }

    fn gone(&self, step: &str) -> Error {
        Error::Gone(format!("cannot {step} the memory of process {}: its program has ended or was replaced", self.pid))
    }
}

/// Whether the system says that nothing readable is there.
fn not_mapped(why: &io::Error) -> bool {
    matches!(why.raw_os_error(), Some(libc::EIO | libc::EFAULT | libc::EINVAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    static READ_ONLY: [u8; 8] = *b"constant";

    fn own() -> Memory {
        Memory::open(std::process::id()).expect("our own memory can be opened")
    }

    #[test]
    fn read_only_data_is_read_and_an_unmapped_range_is_an_error() {
        let addr = LiveAddr(READ_ONLY.as_ptr() as u64);
        assert_eq!(own().read_vec(addr, 8).expect("our data is mapped"), b"constant");
        assert!(matches!(own().read_vec(LiveAddr(0x10), 8), Err(Error::Fatal(_))));
        assert!(matches!(own().read_vec(LiveAddr(u64::MAX - 3), 8), Err(Error::Fatal(_))));
        assert!(matches!(own().write(LiveAddr(0x10), b"x"), Err(Error::Fatal(_))));
    }
}
