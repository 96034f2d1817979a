//! The kept objects of one rustc run: puts hard links of them into an `objects-N` folder before rustc deletes them, and
//! lists such a folder again. An object is never copied where the file system has hard links, and its contents are not
//! looked at.
//!
//! An executable's objects come from the linker's command line. A library's are members of its rlib; when the crate is
//! compiled incrementally, the session folder holds the same objects as files whose inode stays as long as the object
//! does, so these are linked, and what did not change is recognised for free.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use object::read::ReadCache;
use object::read::archive::ArchiveFile;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::arguments::Arguments;
use super::record::{self, Raw};
use crate::Error;

/// Name of the kept rlib in an objects folder, for the members that are not kept as files.
const RLIB: &str = "lib.rlib";
/// Name of the metadata in an rlib.
const METADATA: &str = "lib.rmeta";
/// Name of the object by which rustc keeps exported symbols from being collected; it has no code.
const SYMBOLS: &str = "symbols.o";
/// Name of the kept link line in an objects folder.
const LINK: &str = "link.json";

/// One object file of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectFile {
    /// rustc's name for the codegen unit: the same unit has the same name in the next build.
    pub cgu: String,
    /// The file: the object itself, or the archive that holds it.
    pub path: PathBuf,
    /// Where in the file, if it is a member of an archive.
    pub range: Option<Range<u64>>,
    /// Device and inode of the file; for two objects that are no members, equal means unchanged.
    pub id: (u64, u64),
}

/// What the linker was asked to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LinkLine {
    pub(crate) args: Vec<Raw>,
    pub(crate) cwd: Raw,
    /// Where rustc has the linker look for programs.
    pub(crate) path: Option<Raw>,
}

/// Keeps the objects named by a linker's (expanded) command line in `folder`, and the line itself.
pub(crate) fn keep_linked(line: &LinkLine, folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(|why| Error::file(folder, "create", why))?;
    for arg in &line.args {
        let path = Path::new(&arg.0);
        if let Some(name) = path.file_name().filter(|name| is_object(name) || *name == SYMBOLS) {
            record::link_or_copy(path, &folder.join(name))?;
        }
    }
    record::write_json(&folder.join(LINK), line)
}

/// The link line kept in `folder`.
pub(crate) fn link_line(folder: &Path) -> Result<LinkLine, Error> {
    record::read_json(&folder.join(LINK))
}

/// Keeps the objects of `rlib` in `folder`: as files from the incremental session that began at or after `since_us`
/// (microseconds since 1970), else as the archive.
pub(crate) fn keep_rlib(rlib: &Path, args: &Arguments, since_us: u128, folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(|why| Error::file(folder, "create", why))?;
    let members = members(rlib)?;
    let session =
        args.incremental.as_deref().and_then(|root| newest_session(root, &args.crate_name, since_us, &members));
    let Some(session) = session else {
        return record::link_or_copy(rlib, &folder.join(RLIB));
    };
    for member in &members {
        record::link_or_copy(&session.join(format!("{}.o", member.cgu)), &folder.join(&member.name))?;
    }
    Ok(())
}

/// All objects in `folder`, sorted by codegen unit.
pub(crate) fn list(folder: &Path) -> Result<Vec<ObjectFile>, Error> {
    let mut all = Vec::new();
    let entries = fs::read_dir(folder).map_err(|why| Error::file(folder, "list", why))?;
    for entry in entries {
        let entry = entry.map_err(|why| Error::file(folder, "list", why))?;
        let (name, path) = (entry.file_name(), entry.path());
        let meta = entry.metadata().map_err(|why| Error::file(&path, "look at", why))?;
        let id = (meta.dev(), meta.ino());
        if is_object(&name) {
            all.push(ObjectFile { cgu: cgu_of(&name.to_string_lossy()), path, range: None, id });
        } else if name == RLIB {
            let of = |member: Member| ObjectFile { cgu: member.cgu, path: path.clone(), range: Some(member.range), id };
            all.extend(members(&path)?.into_iter().map(of));
        }
    }
    all.sort_by(|a, b| a.cgu.cmp(&b.cgu));
    Ok(all)
}

/// A name for the next objects folder in `unit`; `objects-1` is the first.
pub(crate) fn next_folder(unit: &Path) -> PathBuf {
    let number = |name: &OsStr| name.to_str()?.strip_prefix("objects-")?.parse::<u64>().ok();
    let taken = fs::read_dir(unit).into_iter().flatten().flatten();
    let last = taken.filter_map(|entry| number(&entry.file_name())).max().unwrap_or(0);
    unit.join(format!("objects-{}", last.saturating_add(1)))
}

/// A hash of what `rlib` holds beside rustc's own objects and metadata: native code that was bundled into it. `None` if
/// there is nothing else.
pub(crate) fn native_members(rlib: &Path) -> Result<Option<u64>, Error> {
    let bad = |why: object::Error| Error::file(rlib, "read archive", why);
    let file = File::open(rlib).map_err(|why| Error::file(rlib, "open", why))?;
    let cache = ReadCache::new(file);
    let archive = ArchiveFile::parse(&cache).map_err(bad)?;
    let mut content = None;
    for member in archive.members() {
        let member = member.map_err(bad)?;
        if !is_object(OsStr::from_bytes(member.name())) && member.name() != METADATA.as_bytes() {
            let mut hash = Xxh3::new();
            hash.update(&u64::to_le_bytes(content.unwrap_or(0)));
            hash.update(member.name());
            hash.update(member.data(&cache).map_err(bad)?);
            content = Some(hash.digest());
        }
    }
    Ok(content)
}

struct Member {
    name: String,
    cgu: String,
    range: Range<u64>,
}

/// The object members of `rlib`.
fn members(rlib: &Path) -> Result<Vec<Member>, Error> {
    let bad = |why: object::Error| Error::file(rlib, "read archive", why);
    let file = File::open(rlib).map_err(|why| Error::file(rlib, "open", why))?;
    let cache = ReadCache::new(file);
    let archive = ArchiveFile::parse(&cache).map_err(bad)?;
    let mut all = Vec::new();
    for member in archive.members() {
        let member = member.map_err(bad)?;
        let name = String::from_utf8_lossy(member.name()).into_owned();
        if is_object(OsStr::new(&name)) && !name.contains('/') {
            let (start, size) = member.file_range();
            all.push(Member { cgu: cgu_of(&name), name, range: start..start.saturating_add(size) });
        }
    }
    Ok(all)
}

/// The finished session folder that rustc wrote for this crate, if it holds exactly these members.
fn newest_session(root: &Path, crate_name: &str, since_us: u128, members: &[Member]) -> Option<PathBuf> {
    let prefix = format!("{crate_name}-");
    let folders = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
    let holds = |session: &PathBuf| members.iter().all(|member| has(session, member));
    let sessions = folders(root).filter(named).flat_map(|path| folders(&path).collect::<Vec<_>>());
    let timed = sessions.filter_map(|path| Some((session_time(path.file_name()?.to_str()?)?, path)));
    let recent = timed.filter(|(time, path)| *time >= since_us && holds(path));
    recent.max_by_key(|(time, _)| *time).map(|(_, path)| path)
}

fn has(session: &Path, member: &Member) -> bool {
    let size = member.range.end.saturating_sub(member.range.start);
    fs::metadata(session.join(format!("{}.o", member.cgu))).is_ok_and(|meta| meta.len() == size)
}

/// When rustc began the session: `s-TIME-RANDOM-HASH`, the time in microseconds, to base 36. None while it is at work.
fn session_time(name: &str) -> Option<u128> {
    let mut parts = name.strip_prefix("s-")?.split('-');
    let time = u128::from_str_radix(parts.next()?, 36).ok()?;
    let finished = parts.next().is_some() && parts.next().is_some_and(|hash| hash != "working");
    finished.then_some(time)
}

fn is_object(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.ends_with(".rcgu.o"))
}

/// `crate-hash.CGU.suffix.rcgu.o` or `crate-hash.CGU.rcgu.o`: the suffix is another one in each run of rustc, the codegen
/// unit's name is not.
fn cgu_of(file_name: &str) -> String {
    let stem = file_name.strip_suffix(".rcgu.o").unwrap_or(file_name);
    let rest = stem.split_once('.').map_or(stem, |(_, rest)| rest);
    // Codegen units of a non-incremental build are called `crate.hash-cgu.N`: their own dots are not the suffix's.
    let parts: Vec<&str> = rest.split('.').collect();
    match parts.as_slice() {
        [name, hash, number, ..] if hash.ends_with("-cgu") => format!("{name}.{hash}.{number}"),
        [name, ..] => (*name).to_owned(),
        [] => rest.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codegen_unit_is_what_stays() {
        let cgu = |name: &str| cgu_of(name);
        assert_eq!(cgu("app-2dd1.0jbesuml51.17cryqy.rcgu.o"), "0jbesuml51");
        assert_eq!(cgu("app-2dd1.0jbesuml51.rcgu.o"), "0jbesuml51");
        assert_eq!(cgu("m.m.f19dcfa532266295-cgu.0.rcgu.o"), "m.f19dcfa532266295-cgu.0");
        assert_eq!(cgu("app-2dd1.app.f19d-cgu.10.1x.rcgu.o"), "app.f19d-cgu.10");
    }

    #[test]
    fn only_finished_sessions_count() {
        assert_eq!(session_time("s-10-abc-hash"), Some(36));
        assert_eq!(session_time("s-10-abc-working"), None);
        assert_eq!(session_time("s-10-abc.lock"), None);
        assert_eq!(session_time("query-cache.bin"), None);
    }
}
