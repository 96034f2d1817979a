//! What a session reads once, in the background: the executable's symbols, the objects it was linked from, the libraries.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use relive_process::maps::MemoryMap;
use relive_process::memory::Memory;
use relive_wire::LiveAddr;
use rustc_hash::FxHashSet;

use crate::Error;
use crate::binary::archive::ArchiveIndex;
use crate::binary::bytes::Bytes;
use crate::binary::executable;
use crate::binary::object::{NameId, Object};
use crate::binary::snapshot::{Kind, Machine, Snapshot};
use crate::compile::files;
use crate::compile::{Baseline, ObjectFile};
use crate::diff::reach::Libraries;
use crate::diff::{NewObject, Running};
use crate::load;
use crate::snapshots;

/// Something that another thread reads while the program already runs.
pub(super) enum Background<T> {
    Reading(JoinHandle<Result<T, Error>>),
    Done(T),
    Failed(String),
}

impl<T: Send + 'static> Background<T> {
    pub(super) fn start(read: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Background<T> {
        Background::Reading(thread::spawn(read))
    }

    /// The value; waits for it the first time.
    pub(super) fn get(&mut self) -> Result<&mut T, Error> {
        if let Background::Reading(_) = self {
            let Background::Reading(handle) = std::mem::replace(self, Background::Failed(String::new())) else {
                return Err(Error::Fatal("the background reader vanished".into()));
            };
            *self = match handle.join() {
                Ok(Ok(value)) => Background::Done(value),
                Ok(Err(error)) => Background::Failed(error.to_string()),
                Err(_) => Background::Failed("the background reader panicked".into()),
            };
        }
        match self {
            Background::Done(value) => Ok(value),
            Background::Failed(why) => Err(Error::Fatal(why.clone())),
            Background::Reading(_) => Err(Error::Fatal("the background reader vanished".into())),
        }
    }
}

/// Reads what the program was linked from.
pub(super) fn running(baseline: &Baseline, exe_start: LiveAddr, memory: Memory) -> Background<Running> {
    let exe = baseline.exe.clone();
    let folder = baseline.relive_dir.join("snapshots");
    let files: Vec<(usize, ObjectFile)> = baseline
        .units
        .iter()
        .enumerate()
        .flat_map(|(unit, what)| what.objects.iter().map(move |file| (unit, file.clone())))
        .collect();
    Background::start(move || {
        let snapshot = snapshots::open(&exe, None, Some(&folder))?.snapshot;
        if let Some(why) = unfit(&snapshot) {
            return Err(Error::file(&exe, "read the symbols of", why));
        }
        let objects = read_all(&files)?;
        let slide = load::anchor::at(&snapshot, &exe, exe_start, &memory)?;
        Ok(Running::new(Arc::new(snapshot), slide, objects))
    })
}

/// Why a program cannot be patched, if it is one that cannot.
fn unfit(snapshot: &Snapshot) -> Option<&'static str> {
    if snapshot.identity().machine != Machine::X86_64 {
        return Some("not an x86-64 executable");
    }
    if snapshot.kind() != Kind::Executable {
        return Some("not a position-independent executable (relocation-model = \"static\"?)");
    }
    snapshot.is_stripped().then_some("it has no symbol table; set `strip = false` in the profile and start anew")
}

/// Reads object files; maps an archive once for all its members.
#[derive(Default)]
pub(super) struct ObjectReader {
    last: Option<(PathBuf, Bytes)>,
}

impl ObjectReader {
    /// The bytes of an object.
    pub(super) fn bytes(&mut self, file: &ObjectFile) -> Result<Bytes, Error> {
        let bytes = match &self.last {
            Some((path, bytes)) if *path == file.path => bytes.clone(),
            Some(_) | None => {
                let bytes = files::map(&file.path)?;
                self.last = Some((file.path.clone(), bytes.clone()));
                bytes
            }
        };
        match &file.range {
            None => Ok(bytes),
            Some(range) => bytes
                .slice(range.clone())
                .ok_or_else(|| Error::file(&file.path, "read a member of", "it lies outside the file")),
        }
    }

    /// An object, parsed.
    pub(super) fn read(&mut self, unit: usize, file: &ObjectFile) -> Result<NewObject, Error> {
        let bytes = self.bytes(file)?;
        let damaged = |why| {
            let advice = "a build left it so; save again, and if it stays so, run `cargo clean` and start relive again";
            Error::file(&file.path, "read", format!("{why}; {advice}"))
        };
        let object = Object::parse(bytes).map_err(damaged)?;
        Ok(NewObject { unit, cgu: file.cgu.clone(), object: Arc::new(object) })
    }
}

/// Reads many objects, several at a time.
pub(super) fn read_all(files: &[(usize, ObjectFile)]) -> Result<Vec<NewObject>, Error> {
    let read = |reader: &mut ObjectReader, (unit, file): &(usize, ObjectFile)| reader.read(*unit, file);
    files.par_iter().map_init(ObjectReader::default, read).collect()
}

/// The libraries of the link line and the shared objects of the process.
pub(super) struct KnownLibraries {
    archives: Background<ArchiveIndex>,
    paths: FxHashSet<PathBuf>,
    memory: Memory,
    exported: Option<FxHashSet<NameId>>,
    /// The shared objects, if they were asked for while the program was there.
    shared: Option<Vec<Bytes>>,
}

impl KnownLibraries {
    pub(super) fn start(baseline: &Baseline, memory: Memory) -> KnownLibraries {
        let paths = baseline.rlibs.clone();
        let known = paths.iter().cloned().collect();
        let archives = Background::start(move || {
            let mut index = ArchiveIndex::default();
            for path in paths {
                index.add(files::map(&path)?).map_err(|why| Error::file(&path, "read the symbols of", why))?;
            }
            Ok(index)
        });
        KnownLibraries { archives, paths: known, memory, exported: None, shared: None }
    }

    /// Takes in those of `paths` that came with a later build: dependencies that the program did not have.
    pub(super) fn extend(&mut self, paths: &[PathBuf]) -> Result<(), Error> {
        for path in paths {
            if self.paths.insert(path.clone()) {
                let added = self.archives.get()?.add(files::map(path)?);
                added.map_err(|why| Error::file(path, "read the symbols of", why))?;
            }
        }
        Ok(())
    }

    /// Remembers the shared objects of the process: it may have ended when somebody asks.
    pub(super) fn remember_shared(&mut self) {
        self.shared = Some(self.read_shared());
    }

    fn read_shared(&self) -> Vec<Bytes> {
        let Ok(map_of) = MemoryMap::read(self.memory.pid()) else { return Vec::new() };
        // Code only: a data file that the program shortens must not be read.
        let code = map_of.entries().iter().filter(|entry| entry.protection.execute);
        let mut paths: Vec<_> = code.map(|entry| entry.path.clone()).collect();
        paths.sort();
        paths.dedup();
        // A mapping that is no readable file exports nothing.
        paths.iter().filter(|path| path.is_absolute()).filter_map(|path| files::map(path).ok()).collect()
    }
}

impl Libraries for KnownLibraries {
    fn member(&mut self, name: NameId) -> Result<Option<(String, Bytes)>, String> {
        let index = self.archives.get().map_err(|error| error.to_string())?;
        let member = index.find(name).map_err(|error| error.to_string())?;
        Ok(member.map(|member| (format!("{} of archive {}", member.name, member.archive), member.data)))
    }

    fn exports(&mut self, name: &str) -> bool {
        if self.exported.is_none() {
            let names = self.read_shared().iter().flat_map(|bytes| executable::exports(bytes)).collect();
            self.exported = Some(names);
        }
        self.exported.as_ref().is_some_and(|names| names.contains(&NameId::of(name)))
    }

    fn shared_objects(&mut self) -> Vec<Bytes> {
        self.shared.clone().unwrap_or_else(|| self.read_shared())
    }
}
