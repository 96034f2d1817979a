//! The executable on disk, kept up to date with what runs (`run --update-binary`).
//!
//! A thread of its own gets the newest objects after each switch, makes a copy of the executable that begins with them
//! (`link::update`) and puts it in the place of the old one; of several that wait it takes the newest. The program is not
//! looked at. An executable that cannot be updated stays as it is, and the reason is told. Whatever ends this thread leaves
//! the old file or the new one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use relive_process::FileId;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::Error;
use crate::binary::address::Slide;
use crate::binary::snapshot::Snapshot;
use crate::compile::{Baseline, files};
use crate::diff::{NewObject, ObjectKey, Running};
use crate::link::update;
use crate::load;
use crate::session::known::KnownLibraries;
use crate::session::program::Program;
use crate::tell::Event;

/// What runs after a switch.
struct Newest {
    generation: u64,
    objects: Vec<NewObject>,
    /// Libraries that it is linked from.
    rlibs: Vec<PathBuf>,
}

/// See the module.
pub(super) struct Updater {
    jobs: Sender<Newest>,
    thread: JoinHandle<()>,
    /// The objects that the executable was last brought to.
    last: Vec<ObjectKey>,
}

impl Updater {
    /// Begins with the executable of `running`, which nothing has patched yet.
    pub(super) fn start(
        running: &Running,
        baseline: &Baseline,
        program: &Program,
        tell: impl Fn(Event) + Send + 'static,
    ) -> Updater {
        let (jobs, waiting) = mpsc::channel();
        let (exe, objects) = (Arc::clone(&running.exe), running.objects().map(|(_, object)| object.clone()).collect());
        let mut libraries = KnownLibraries::start(baseline, program.memory.clone());
        libraries.remember_shared();
        let place = Place::of(baseline, program.exe);
        let thread = thread::spawn(move || work(exe, objects, libraries, place, &waiting, &tell));
        Updater { jobs, thread, last: keys(running) }
    }

    /// Has the executable brought to what `running` is now, at `generation`.
    pub(super) fn bring(&mut self, running: &Running, baseline: &Baseline, generation: u64) {
        let now = keys(running);
        if now == self.last {
            return;
        }
        self.last = now;
        let objects = running.objects().map(|(_, object)| object.clone()).collect();
        // A thread that ended has said why.
        let _ = self.jobs.send(Newest { generation, objects, rlibs: baseline.rlibs.clone() });
    }

    /// Waits until the executable is up to date.
    pub(super) fn finish(self) {
        drop(self.jobs);
        let _ = self.thread.join();
    }
}

fn keys(running: &Running) -> Vec<ObjectKey> {
    running.objects().map(|(key, _)| key).collect()
}

fn work(
    exe: Arc<Snapshot>,
    objects: Vec<NewObject>,
    mut libraries: KnownLibraries,
    mut place: Place,
    waiting: &Receiver<Newest>,
    tell: &dyn Fn(Event),
) {
    let original = Running::new(exe, Slide::default(), objects);
    while let Ok(first) = waiting.recv() {
        let newest = waiting.try_iter().last().unwrap_or(first);
        let began = Instant::now();
        let done =
            libraries.extend(&newest.rlibs).and_then(|()| place.update(&original, &newest.objects, &mut libraries));
        tell(Event::Executable {
            file: place.file.clone(),
            generation: newest.generation,
            ms: began.elapsed().as_secs_f64() * 1000.0,
            why_not: done.err().map(|why| why.to_string()),
        });
    }
}

/// The executable's place on disk.
struct Place {
    /// The name by which it is started.
    file: PathBuf,
    /// The file that was started.
    running: FileId,
    /// Where our own builds put what they link; cargo gives it the other name.
    built: PathBuf,
    /// Where the file that runs goes: a program finds its own file by name, for backtraces.
    started: PathBuf,
    /// A name for a file that is being written.
    unfinished: PathBuf,
    /// The file that was put there last.
    ours: Option<FileId>,
}

impl Place {
    fn of(baseline: &Baseline, running: FileId) -> Place {
        let name = baseline.run_exe.file_name().unwrap_or_default();
        Place {
            file: baseline.run_exe.clone(),
            running,
            built: baseline.exe.clone(),
            started: baseline.relive_dir.join("started").join(name),
            unfinished: baseline.relive_dir.join("executable").with_extension(files::UNFINISHED),
            ours: None,
        }
    }

    fn update(
        &mut self,
        original: &Running,
        objects: &[NewObject],
        libraries: &mut KnownLibraries,
    ) -> Result<(), Error> {
        let steps = update::steps(original, objects, libraries);
        let steps = steps.map_err(|why| Error::Denied(format!("the copy cannot be made: {why}")))?;
        let now = FileId::of(&self.file).map_err(|why| Error::file(&self.file, "look at", why))?;
        let is_running = now == self.running;
        let is_built = FileId::of(&self.built).is_ok_and(|built| built == now);
        if !is_running && !is_built && self.ours != Some(now) {
            return Err(another_build());
        }
        // The running program finds the file that it was started from by a name of its own.
        let new = if is_running { &self.started } else { &self.unfinished };
        if let Some(folder) = new.parent() {
            fs::create_dir_all(folder).map_err(|why| Error::file(folder, "create", why))?;
        }
        let written = self.write(new, steps)?;
        self.exchange(new)?;
        if !FileId::of(new).is_ok_and(|old| old == now) {
            // A build has put its file there meanwhile: that is the one to stay.
            self.exchange(new)?;
            return Err(another_build());
        }
        if !is_running {
            let _ = fs::remove_file(new); // what is left of it is overwritten the next time
        }
        self.ours = Some(written);
        Ok(())
    }

    fn exchange(&self, new: &Path) -> Result<(), Error> {
        renameat_with(CWD, &self.file, CWD, new, RenameFlags::EXCHANGE).map_err(|why| {
            let help = "its file system may not be able to exchange two files";
            Error::file(&self.file, "put in place", format!("{why}; {help}"))
        })
    }

    /// Writes a new file, which can be executed as the old one can, and reads it again.
    fn write(&self, path: &Path, steps: Vec<crate::link::FileStep<'_>>) -> Result<FileId, Error> {
        let failed = |why: io::Error| Error::file(path, "write", why);
        match fs::remove_file(path) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(failed(why)),
            Ok(()) | Err(_) => {}
        }
        let file = File::options().read(true).write(true).create_new(true).open(path).map_err(failed)?;
        load::perform(&file, steps).map_err(failed)?;
        let mode = fs::metadata(&self.file).map_err(failed)?.permissions().mode();
        file.set_permissions(fs::Permissions::from_mode(mode)).map_err(failed)?;
        let written = FileId::from(&file.metadata().map_err(failed)?);
        drop(file);
        let read = Snapshot::read(files::map(path)?);
        read.map(|_| written).map_err(|why| Error::file(path, "read again", why))
    }
}

fn another_build() -> Error {
    Error::Denied("another build has put a file of its own there".into())
}
