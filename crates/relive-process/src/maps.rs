//! The kernel's list of mappings of a process. Takes a process number, gives entries in address order; a line that is
//! not understood is an error.

use std::fs;
use std::path::PathBuf;

use relive_wire::LiveAddr;

use crate::{Error, Protection, Result};

/// One mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// First byte.
    pub start: LiveAddr,
    /// First byte after it.
    pub end: LiveAddr,
    /// What it allows.
    pub protection: Protection,
    /// Offset in the file.
    pub offset: u64,
    /// Device number in the form of `stat`; 0 without a file. Some file systems (overlays) state another one here.
    pub dev: u64,
    /// Inode number; 0 without a file.
    pub ino: u64,
    /// Path of the file, or a name in brackets, or empty. Ends with ` (deleted)` if the file has no name any more.
    pub path: PathBuf,
}

/// All mappings of a process at one moment.
#[derive(Debug, Clone, Default)]
pub struct MemoryMap {
    entries: Vec<Mapping>,
}

impl MemoryMap {
    /// Reads the list of process `pid`.
    ///
    /// # Errors
    /// `Gone` if there is no such process, `Denied` if it may not be read, `Fatal` if the list is not understood.
    pub fn read(pid: u32) -> Result<MemoryMap> {
        let text =
            fs::read(format!("/proc/{pid}/maps")).map_err(|why| Error::system(pid, "read the mappings", &why))?;
        let text = String::from_utf8_lossy(&text);
        if text.is_empty() {
            return Err(Error::Gone(format!("process {pid} has ended: it has no mappings")));
        }
        let parsed: Option<Vec<Mapping>> = text.lines().map(parse).collect();
        match parsed {
            Some(entries) => Ok(MemoryMap { entries }),
            None => Err(Error::Fatal(format!("cannot understand the list of mappings of process {pid}"))),
        }
    }

    /// The mappings in address order.
    #[must_use]
    pub fn entries(&self) -> &[Mapping] {
        &self.entries
    }

    /// The mapping that `addr` is in.
    #[must_use]
    pub fn find(&self, addr: LiveAddr) -> Option<&Mapping> {
        let next = self.entries.partition_point(|entry| entry.end <= addr);
        self.entries.get(next).filter(|entry| entry.start <= addr)
    }

    /// Where the file's first page (offset 0) is mapped, lowest address first.
    #[must_use]
    pub fn start_of_file(&self, dev: u64, ino: u64) -> Option<LiveAddr> {
        self.entries.iter().find(|e| e.dev == dev && e.ino == ino && e.offset == 0).map(|entry| entry.start)
    }
}

/// One line: `start-end rwxp offset major:minor inode   path`.
fn parse(line: &str) -> Option<Mapping> {
    let mut rest = line;
    let mut field = || {
        let (field, after) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = after;
        field
    };
    let (range, access, offset, device, inode) = (field(), field(), field(), field(), field());
    let (start, end) = range.split_once('-')?;
    let (major, minor) = device.split_once(':')?;
    let &[read, write, execute, shared] = access.as_bytes() else { return None };
    Some(Mapping {
        start: LiveAddr(hex(start)?),
        end: LiveAddr(hex(end)?),
        protection: Protection {
            read: read == b'r',
            write: write == b'w',
            execute: execute == b'x',
            shared: shared == b's',
        },
        offset: hex(offset)?,
        dev: libc::makedev(hex(major)?.try_into().ok()?, hex(minor)?.try_into().ok()?),
        ino: inode.parse().ok()?,
        path: PathBuf::from(rest.trim_start_matches(' ').replace("\\012", "\n")),
    })
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_a_path_with_spaces() {
        let line = "7f0a12340000-7f0a12346000 r-xp 0001c000 fe:03 398127                     /lib/a b.so (deleted)";
        let mapping = parse(line).expect("this is how the kernel writes it");
        assert_eq!((mapping.start.0, mapping.end.0, mapping.offset), (0x7f0a_1234_0000, 0x7f0a_1234_6000, 0x1c000));
        assert_eq!(mapping.protection, Protection { read: true, write: false, execute: true, shared: false });
        assert_eq!((mapping.dev, mapping.ino), (libc::makedev(0xfe, 3), 398_127));
        assert_eq!(mapping.path, PathBuf::from("/lib/a b.so (deleted)"));
    }

    #[test]
    fn lines_that_are_none_are_refused() {
        for line in ["", "7f-80", "zz-80 r-xp 0 0:0 0", "7f-80 r-x 0 0:0 0", "7f-80 r-xp 0 00 0", "7f-80 r-xp 0 0:0 x"]
        {
            assert_eq!(parse(line), None, "{line}");
        }
        assert!(parse("7f-80 rw-s 00000000 00:00 0").is_some_and(|mapping| mapping.path.as_os_str().is_empty()));
    }

    #[test]
    fn our_own_code_is_found() {
        let map = MemoryMap::read(std::process::id()).expect("our own list can be read");
        let code = LiveAddr(our_code as *const () as u64);
        let mapping = map.find(code).expect("our code is mapped");
        assert!(mapping.protection.execute && mapping.start <= code && code < mapping.end);
        assert_eq!(map.find(LiveAddr(0x10)), None);
    }

    fn our_code() {}
}
