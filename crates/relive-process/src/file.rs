//! A file as bytes, and what tells it from others. Takes a path, gives a read-only view that stays when the name is
//! gone; parses nothing.

use std::fs::{File, Metadata};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::sys;

/// What tells a file and its contents from others without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Device number, as in `stat`.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Size in bytes.
    pub size: u64,
    /// Time of the last change in nanoseconds since 1970.
    pub mtime_ns: i128,
}

impl FileId {
    /// The identity of the file at `path`; follows symbolic links (`/proc/PID/exe` names the running file).
    ///
    /// # Errors
    /// What `stat` fails with.
    pub fn of(path: &Path) -> io::Result<FileId> {
        Ok(FileId::from(&std::fs::metadata(path)?))
    }
}

impl From<&Metadata> for FileId {
    fn from(meta: &Metadata) -> FileId {
        let mtime_ns = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
        FileId { dev: meta.dev(), ino: meta.ino(), size: meta.size(), mtime_ns }
    }
}

/// A file mapped read-only for as long as this lives.
///
/// Only for files that nobody shortens or rewrites in place while they are mapped: relive maps its own hard links and
/// copies, which build tools replace but never write to. Reading a part that was cut off is the end: see
/// [`end_when_shortened`].
#[derive(Debug)]
pub struct MappedFile {
    bytes: sys::FileMapping,
    identity: FileId,
}

/// Has this process end with `code`, after `message` on stderr, when it reads what was cut off from a mapped file. The text
/// is written as it is. Without this the system ends the process without a word (SIGBUS).
///
/// # Errors
/// What the system says.
pub fn end_when_shortened(message: &'static str, code: i32) -> io::Result<()> {
    sys::end_when_shortened(message, code)
}

impl MappedFile {
    /// Maps the file at `path` as it is now. An empty file is an empty slice.
    ///
    /// # Errors
    /// What opening or mapping fails with.
    pub fn open(path: &Path) -> io::Result<MappedFile> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let len = usize::try_from(meta.size()).map_err(io::Error::other)?;
        Ok(MappedFile { bytes: sys::FileMapping::new(&file, len)?, identity: FileId::from(&meta) })
    }

    /// The identity of the file at the time it was mapped.
    #[must_use]
    pub fn identity(&self) -> FileId {
        self.identity
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.bytes()
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_file_outlives_its_name() {
        let path = std::env::temp_dir().join(format!("relive-file-test-{}", std::process::id()));
        std::fs::write(&path, b"contents").expect("the temporary directory is writable");
        let mapped = MappedFile::open(&path).expect("the file was just written");
        assert_eq!(mapped.identity(), FileId::of(&path).expect("the file is there"));
        std::fs::remove_file(&path).expect("the file is there");
        assert_eq!(&*mapped, b"contents");
    }

    #[test]
    fn an_empty_file_is_an_empty_slice_and_a_directory_is_an_error() {
        let path = std::env::temp_dir().join(format!("relive-empty-test-{}", std::process::id()));
        std::fs::write(&path, b"").expect("the temporary directory is writable");
        assert!(MappedFile::open(&path).expect("the file was just written").is_empty());
        std::fs::remove_file(&path).expect("the file is there");
        assert!(MappedFile::open(&std::env::temp_dir()).is_err());
    }
}
