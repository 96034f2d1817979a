//! What one rustc run leaves behind: takes and gives `record.json` and `link.json` below `target/relive/units/KEY/`,
//! and says whether a record still describes the file that cargo has. It does not know what the arguments mean.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::compile::files;

/// Version of the record format; a record of another version counts as missing.
pub(crate) const VERSION: u32 = 1;

/// An operating system string: text if it is UTF-8, else a list of bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "RawForm", into = "RawForm")]
pub(crate) struct Raw(pub(crate) OsString);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum RawForm {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<RawForm> for Raw {
    fn from(form: RawForm) -> Raw {
        match form {
            RawForm::Text(text) => Raw(text.into()),
            RawForm::Bytes(bytes) => Raw(OsString::from_vec(bytes)),
        }
    }
}

impl From<Raw> for RawForm {
    fn from(raw: Raw) -> RawForm {
        match raw.0.into_string() {
            Ok(text) => RawForm::Text(text),
            Err(raw) => RawForm::Bytes(raw.as_bytes().to_vec()),
        }
    }
}

impl From<&OsStr> for Raw {
    fn from(text: &OsStr) -> Raw {
        Raw(text.to_owned())
    }
}

impl From<PathBuf> for Raw {
    fn from(path: PathBuf) -> Raw {
        Raw(path.into())
    }
}

/// Which file something is: enough to notice that it was replaced or rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    pub(crate) size: u64,
    pub(crate) mtime_s: i64,
    pub(crate) mtime_ns: i64,
}

impl Identity {
    /// The identity of the file at `path`.
    pub(crate) fn of(path: &Path) -> Result<Identity, Error> {
        fs::metadata(path).map(|meta| Identity::from(&meta)).map_err(|why| Error::file(path, "look at", why))
    }
}

impl From<&Metadata> for Identity {
    fn from(meta: &Metadata) -> Identity {
        Identity {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.size(),
            mtime_s: meta.mtime(),
            mtime_ns: meta.mtime_nsec(),
        }
    }
}

/// One rustc run of a workspace member.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) version: u32,
    /// The user's own wrapper if there is one, then rustc.
    pub(crate) program: Vec<Raw>,
    /// rustc's arguments as cargo gave them.
    pub(crate) args: Vec<Raw>,
    pub(crate) env: Vec<(Raw, Raw)>,
    pub(crate) cwd: Raw,
    /// When rustc was started, in nanoseconds since 1970.
    pub(crate) started_ns: u128,
    /// Source files from the dep-info, absolute.
    pub(crate) inputs: Vec<Raw>,
    /// Where rustc left the outputs, and replays will.
    pub(crate) out_dir: Raw,
    /// The executable or rlib that cargo knows.
    pub(crate) output: Raw,
    pub(crate) identity: Identity,
    /// Folder of the kept objects inside the unit's folder, and how many there are; none for build scripts and the like.
    pub(crate) objects: Option<(String, usize)>,
}

/// What the runner was given: the program as `cargo run` starts it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LaunchRecord {
    pub(crate) argv: Vec<Raw>,
    pub(crate) env: Vec<(Raw, Raw)>,
    pub(crate) cwd: Raw,
}

/// The environment of this process without what must not outlive one cargo run: the jobserver and our own keys.
pub(crate) fn lasting_env() -> Vec<(Raw, Raw)> {
    let gone = |key: &OsStr| {
        key.as_bytes().starts_with(b"RELIVE_") || key == OsStr::new("CARGO_MAKEFLAGS") || key == OsStr::new("MAKEFLAGS")
    };
    std::env::vars_os().filter(|(key, _)| !gone(key)).map(|(key, value)| (Raw(key), Raw(value))).collect()
}

/// Writes `value` to `path` so that a reader sees all of it or the old file.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let text = serde_json::to_vec(value).map_err(|why| Error::file(path, "encode", why))?;
    files::replace(path, &text)
}

/// Reads what `write_json` wrote.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = fs::read(path).map_err(|why| Error::file(path, "read", why))?;
    serde_json::from_slice(&text).map_err(|why| Error::file(path, "understand", why))
}

/// A second name for the file in `from`, or a copy where the file system has no hard links; an existing `to` is
/// replaced.
pub(crate) fn link_or_copy(from: &Path, to: &Path) -> Result<(), Error> {
    match fs::hard_link(from, to) {
        Ok(()) => return Ok(()),
        Err(why) if why.kind() == std::io::ErrorKind::AlreadyExists => {
            fs::remove_file(to).map_err(|why| Error::file(to, "replace", why))?;
            if fs::hard_link(from, to).is_ok() {
                return Ok(());
            }
        }
        Err(_) => {}
    }
    fs::copy(from, to).map(|_| ()).map_err(|why| Error::file(from, "keep", why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_that_are_not_utf8_survive() {
        for bytes in [&b"plain"[..], &b"\xff\xfe/x"[..], &b""[..]] {
            let raw = Raw(OsString::from_vec(bytes.to_vec()));
            let text = serde_json::to_string(&raw).expect("encodes");
            let back: Raw = serde_json::from_str(&text).expect("decodes");
            assert_eq!(back, raw, "{text}");
        }
    }
}
