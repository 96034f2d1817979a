//! What a process and a session's folder hold: mappings, descriptors, memory, and what images brought; and whether relive
//! still runs.

use std::fs;
use std::path::Path;
use std::process::Child;

use nix::unistd::Pid;

use crate::files::context;

/// What one process holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Mappings.
    pub(crate) maps: u64,
    /// Open descriptors.
    pub(crate) files: u64,
    /// Threads.
    pub(crate) threads: u64,
    /// Memory that is its own, in bytes.
    pub(crate) private: u64,
}

impl Usage {
    /// Of process `pid`, now.
    pub(crate) fn of(pid: Pid) -> Result<Usage, String> {
        let place = format!("/proc/{pid}");
        let text = |name: &str| {
            let path = Path::new(&place).join(name);
            fs::read_to_string(&path).map_err(context("read", &path))
        };
        let count = |name: &str| {
            let path = Path::new(&place).join(name);
            fs::read_dir(&path).map(|entries| entries.count() as u64).map_err(context("list", &path))
        };
        let rollup = text("smaps_rollup")?;
        let dirty = rollup.lines().filter(|line| line.starts_with("Private_Dirty:") || line.starts_with("Swap:"));
        let kilobytes = dirty.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        Ok(Usage {
            maps: text("maps")?.lines().count() as u64,
            files: count("fd")?,
            threads: count("task")?,
            private: kilobytes.sum::<u64>() * 1024,
        })
    }
}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} mappings, {} descriptors, {} kB its own", self.maps, self.files, self.private / 1024)
    }
}

/// What images brought, as the files of their arenas say, in bytes that are loaded; and what the folder takes on disk.
pub(crate) fn images(folder: &Path) -> Result<(u64, u64), String> {
    use std::os::unix::fs::MetadataExt as _;
    let (mut loaded, mut disk) = (0, 0);
    for entry in fs::read_dir(folder).map_err(context("list", folder))?.flatten() {
        let path = entry.path();
        disk += path.symlink_metadata().map_or(0, |data| data.blocks() * 512);
        if entry.file_name().to_string_lossy().starts_with("arena-") {
            let file = fs::read(&path).map_err(context("read", &path))?;
            loaded += loaded_bytes(&file).ok_or_else(|| format!("`{}` is no arena", path.display()))?;
        }
    }
    Ok((loaded, disk))
}

/// Bytes that the images in an arena's file have in memory: constants and variables as the sections say, and code as the
/// symbols do, because the room for code is given away in large units.
fn loaded_bytes(file: &[u8]) -> Option<u64> {
    const SYMTAB: u32 = 2;
    const ALLOC: u64 = 2;
    const CODE: u64 = 4;
    let word = |at: usize| Some(u64::from_le_bytes(*file.get(at..)?.first_chunk()?));
    let (table, count) = (word(40)? as usize, (word(60)? & 0xffff) as usize);
    let mut sum = 0;
    for at in (0..count).map(|index| table + index * 64) {
        let kind = (word(at)? >> 32) as u32;
        let (flags, offset, size) = (word(at + 8)?, word(at + 24)?, word(at + 32)?);
        if kind == SYMTAB {
            let symbols = (offset..offset + size).step_by(24);
            sum += symbols.map(|at| word(at as usize + 16)).sum::<Option<u64>>()?;
        } else if flags & ALLOC != 0 && flags & CODE == 0 {
            sum += size;
        }
    }
    Some(sum)
}

/// What to say when relive has ended.
pub(crate) fn ended(relive: &mut Child) -> Option<String> {
    match relive.try_wait() {
        Ok(None) => None,
        Ok(Some(status)) => Some(format!("relive ended: {status}")),
        Err(why) => Some(format!("cannot wait for relive: {why}")),
    }
}
