//! A write to the process: where, what was there, what will be.

use relive_process::memory::Memory;
use relive_wire::LiveAddr;

use crate::Error;

/// One write of at most 8 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where.
    pub addr: LiveAddr,
    /// What must be there before.
    pub old: Vec<u8>,
    /// What is there afterwards.
    pub new: Vec<u8>,
}

impl Write {
    /// Checks the old bytes, writes the new ones and reads them back.
    ///
    /// # Errors
    /// If the old bytes are not there, or the new ones do not stay.
    pub fn apply(&self, memory: &Memory) -> Result<(), Error> {
        self.expect(memory, &self.old, "before")?;
        memory.write(self.addr, &self.new)?;
        self.expect(memory, &self.new, "after")
    }

    /// Puts the old bytes back.
    ///
    /// # Errors
    /// If the process cannot be written.
    pub fn undo(&self, memory: &Memory) -> Result<(), Error> {
        Ok(memory.write(self.addr, &self.old)?)
    }

    fn expect(&self, memory: &Memory, bytes: &[u8], when: &str) -> Result<(), Error> {
        let there = memory.read_vec(self.addr, bytes.len())?;
        if there == bytes {
            return Ok(());
        }
        Err(Error::Fatal(format!("the bytes at {} are {there:02x?} {when} the write, not {bytes:02x?}", self.addr)))
    }
}
