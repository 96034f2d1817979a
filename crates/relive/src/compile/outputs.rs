//! Which records describe what cargo has now: takes cargo's messages and the records on disk, gives the record of each
//! artifact, and says which artifacts have none and which files must go so that cargo makes those alone again.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use super::arguments::{Arguments, Role};
use super::cargo::CargoRun;
use super::cargo_messages::Artifact;
use super::record::{self, Identity, Record};
use super::{as_rlib, objects};
use crate::Error;

/// A record that describes a file that exists.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) record: Record,
    pub(crate) parsed: Arguments,
    /// The unit's folder below `target/relive/units/`.
    pub(crate) folder: PathBuf,
}

/// All records that hold, by output file.
#[derive(Debug, Default)]
pub(crate) struct Records {
    all: Vec<Known>,
    by_path: HashMap<PathBuf, usize>,
    by_inode: HashMap<(u64, u64), usize>,
    /// Folders whose record does not hold: half a record, another version, an output that is gone or replaced.
    pub(crate) stale: Vec<PathBuf>,
}

impl Records {
    /// Reads the records below `relive_dir`.
    pub(crate) fn load(relive_dir: &Path) -> Records {
        let mut records = Records::default();
        let folders = fs::read_dir(relive_dir.join("units")).into_iter().flatten().flatten();
        for folder in folders.map(|entry| entry.path()) {
            match load(&folder) {
                Some(known) => records.add(known),
                None => records.stale.push(folder),
            }
        }
        records
    }

    fn add(&mut self, known: Known) {
        let (index, identity) = (self.all.len(), known.record.identity);
        self.by_path.insert(known.record.output.0.clone().into(), index);
        self.by_inode.insert((identity.dev, identity.ino), index);
        self.all.push(known);
    }

    /// The record of the file at `path`, under whatever name cargo shows it.
    pub(crate) fn of(&self, path: &Path) -> Option<&Known> {
        let by_name = self.by_path.get(path).or_else(|| self.by_path.get(&as_rlib(path)));
        let found = by_name.copied().or_else(|| {
            let identity = Identity::of(path).ok()?;
            self.by_inode.get(&(identity.dev, identity.ino)).copied()
        });
        self.all.get(found?)
    }

    /// The record whose output has the file name of `path`: a library that rustc copied for the link.
    pub(crate) fn named(&self, path: &Path) -> Option<&Known> {
        let name = path.file_name()?;
        self.all.iter().find(|known| Path::new(&known.record.output.0).file_name() == Some(name))
    }

    /// Every record.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Known> {
        self.all.iter()
    }
}

fn load(folder: &Path) -> Option<Known> {
    let record: Record = record::read_json(&folder.join("record.json")).ok()?;
    let args: Vec<_> = record.args.iter().map(|arg| arg.0.clone()).collect();
    let package_bin = record.env.iter().any(|(key, _)| key.0 == "CARGO_BIN_NAME");
    let known = Known { parsed: Arguments::parse(&args, package_bin), record, folder: folder.to_owned() };
    holds(&known).then_some(known)
}

/// Whether the record is complete and of the very file that cargo has.
fn holds(known: &Known) -> bool {
    let record = &known.record;
    let same = Identity::of(Path::new(&record.output.0)).is_ok_and(|now| now == record.identity);
    let objects = match &record.objects {
        Some((name, count)) => objects::list(&known.folder.join(name)).is_ok_and(|found| found.len() == *count),
        None => known.parsed.role() == Role::Other,
    };
    let exe = known.parsed.role() != Role::Bin
        || Identity::of(&known.folder.join("exe")).is_ok_and(|exe| exe.size == record.identity.size);
    record.version == record::VERSION && same && objects && exe
}

/// The artifacts of the user's own crates that a session needs and that have no record. Libraries that only build
/// scripts and proc macros use are not needed, as soon as the program's link line is known to say which these are.
pub(crate) fn missing<'a>(run: &'a CargoRun, records: &Records) -> Vec<&'a Artifact> {
    let root = records.of(&run.launch.program());
    let objects = root.and_then(|root| Some(root.folder.join(&root.record.objects.as_ref()?.0)));
    let line = objects.and_then(|folder| objects::link_line(&folder).ok());
    let linked: Option<HashSet<OsString>> = line.map(|line| {
        let stems = line.args.iter().filter_map(|arg| Path::new(&arg.0).file_stem());
        stems.map(OsStr::to_owned).collect()
    });
    let needed = |artifact: &&Artifact| {
        let of = |kinds: &[&str]| artifact.target.kind.iter().any(|kind| kinds.contains(&kind.as_str()));
        let on_line = |linked: &HashSet<OsString>| {
            artifact.filenames.iter().filter_map(|file| file.file_stem()).any(|stem| linked.contains(stem))
        };
        of(&["bin", "example", "proc-macro"]) || (of(&["lib", "rlib"]) && linked.as_ref().is_none_or(on_line))
    };
    let unknown = |artifact: &&Artifact| !artifact.filenames.iter().any(|file| records.of(file).is_some());
    run.artifacts.iter().filter(|artifact| artifact.is_local()).filter(needed).filter(unknown).collect()
}

/// Removes the files of `artifact` that cargo looks at to see whether it is up to date.
pub(crate) fn force(artifact: &Artifact) -> Result<(), Error> {
    let mut gone = 0;
    for file in &artifact.filenames {
        let Ok(identity) = Identity::of(file) else { continue };
        let Some(folder) = file.parent() else { continue };
        for place in [folder.join("deps"), folder.to_owned()] {
            let entries = fs::read_dir(&place).into_iter().flatten().flatten().map(|entry| entry.path());
            for same in entries.filter(|path| Identity::of(path).is_ok_and(|other| other == identity)) {
                fs::remove_file(&same).map_err(|why| Error::file(&same, "remove", why))?;
                gone += 1;
            }
        }
    }
    if gone > 0 {
        return Ok(());
    }
    Err(unrecorded(artifact))
}

/// There is still no record after the crate was to be built again.
pub(crate) fn unrecorded(artifact: &Artifact) -> Error {
    let (name, id) = (&artifact.target.name, &artifact.package_id);
    Error::Fatal(format!(
        "cargo did not build `{name}` through relive, so its objects are not known; try `cargo clean -p {id}`"
    ))
}
