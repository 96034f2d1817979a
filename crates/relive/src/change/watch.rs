//! Saves of build inputs: takes the files to watch, gives a message at the first event of a save, without waiting for
//! more. The folders are watched, the files are exact: an editor's temporary file is none of them. A save counts when the
//! file can be read again: written and closed, renamed or linked into place. What was written is not looked at.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use crate::Error;

/// Inputs that were saved at one moment.
#[derive(Clone, Debug)]
pub struct SavedFiles {
    /// The files, by the names they are watched under, sorted.
    pub files: Vec<PathBuf>,
    /// When the event was read.
    pub at: Instant,
}

/// Watches files until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    inotify: OwnedFd,
    /// Readable when the thread must end or look at its folders anew.
    wake: OwnedFd,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// Folder of the watch, by its number.
    folders: HashMap<i32, PathBuf>,
    /// Watched files by folder and name; several when a symbolic link leads here.
    files: HashMap<PathBuf, HashMap<OsString, HashSet<PathBuf>>>,
    /// Folders that are gone and may come back.
    lost: HashSet<PathBuf>,
    ended: bool,
}

/// How long to wait before looking for folders that were removed: nothing tells of their return.
const LOST_FOLDER: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

impl Watcher {
    /// Watches `paths`; saves go to `sender`.
    pub fn new<P: IntoIterator<Item = PathBuf>>(paths: P, sender: Sender<SavedFiles>) -> Result<Watcher, Error> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(no_watch)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(no_watch)?;
        let shared = Arc::new(Shared { inotify, wake, table: Mutex::new(Table::default()) });
        shared.set(paths)?;
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("relive-watch".to_owned());
        let thread =
            thread.spawn(move || theirs.attend(&sender)).map_err(|why| Error::Fatal(format!("no thread: {why}")))?;
        Ok(Watcher { shared, thread: Some(thread) })
    }

    /// Watches these files from now on, and no others.
    pub fn set<P: IntoIterator<Item = PathBuf>>(&self, paths: P) -> Result<(), Error> {
        self.shared.set(paths)?;
        self.shared.wake();
        Ok(())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.table().ended = true;
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Shared {
    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // A full counter is readable already.
        rustix::io::write(&self.wake, &1u64.to_ne_bytes()).ok();
    }

    fn set<P: IntoIterator<Item = PathBuf>>(&self, paths: P) -> Result<(), Error> {
        let mut files: HashMap<PathBuf, HashMap<OsString, HashSet<PathBuf>>> = HashMap::new();
        for path in paths {
            // The file behind symbolic links can be written under its real name too.
            for name in [Some(path.clone()), fs::canonicalize(&path).ok()].into_iter().flatten() {
                if let (Some(folder), Some(file)) = (name.parent(), name.file_name()) {
                    let names = files.entry(folder.to_owned()).or_default();
                    names.entry(file.to_owned()).or_default().insert(path.clone());
                }
            }
        }
        let mut table = self.table();
        let (old, new): (HashSet<PathBuf>, HashSet<PathBuf>) =
            (table.files.keys().cloned().collect(), files.keys().cloned().collect());
        table.files = files;
        for folder in old.difference(&new) {
            self.forget(&mut table, folder);
        }
        for folder in new.difference(&old) {
            self.watch(&mut table, folder)?;
        }
        Ok(())
    }

    /// Watches `folder`, or notes that it is not there.
    fn watch(&self, table: &mut Table, folder: &Path) -> Result<(), Error> {
        let what = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::CREATE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        match inotify::add_watch(&self.inotify, folder, what) {
            Ok(number) => drop(table.folders.insert(number, folder.to_owned())),
            Err(Errno::NOENT | Errno::NOTDIR) => drop(table.lost.insert(folder.to_owned())),
            Err(why) => return Err(Error::file(folder, "watch", why)),
        }
        Ok(())
    }

    fn forget(&self, table: &mut Table, folder: &Path) {
        table.lost.remove(folder);
        let numbers: Vec<i32> = table.folders.iter().filter(|(_, path)| *path == folder).map(|(n, _)| *n).collect();
        for number in numbers {
            table.folders.remove(&number);
            // Already gone with its folder: then there is nothing to remove.
            inotify::remove_watch(&self.inotify, number).ok();
        }
    }

    /// The thread: reads events until the watcher is dropped.
    fn attend(&self, sender: &Sender<SavedFiles>) {
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        loop {
            let waiting = !self.table().lost.is_empty();
            let mut ready = [PollFd::new(&self.inotify, PollFlags::IN), PollFd::new(&self.wake, PollFlags::IN)];
            match poll(&mut ready, waiting.then_some(&LOST_FOLDER)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
            let mut count = [0; 8];
            rustix::io::read(&self.wake, &mut count).ok();
            let mut saved = HashSet::new();
            if self.table().ended {
                return;
            }
            self.read(&mut buffer, &mut saved);
            self.find_lost(&mut saved);
            if saved.is_empty() {
                continue;
            }
            let mut files: Vec<PathBuf> = saved.into_iter().collect();
            files.sort();
            if sender.send(SavedFiles { files, at: Instant::now() }).is_err() {
                return;
            }
        }
    }

    /// Takes all waiting events.
    fn read(&self, buffer: &mut [MaybeUninit<u8>], saved: &mut HashSet<PathBuf>) {
        let mut reader = inotify::Reader::new(&self.inotify, buffer);
        while let Ok(event) = reader.next() {
            let mut table = self.table();
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                // Events were lost; anything can have been saved.
                saved.extend(table.files.values().flat_map(HashMap::values).flatten().cloned());
                continue;
            }
            let Some(folder) = table.folders.get(&event.wd()).cloned() else { continue };
            if event.events().intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED) {
                self.forget(&mut table, &folder);
                table.lost.insert(folder);
                continue;
            }
            let Some(name) = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes())) else { continue };
            let Some(files) = table.files.get(&folder).and_then(|files| files.get(name)) else { continue };
            let created = event.events().contains(ReadFlags::CREATE);
            if !created || is_complete(&folder.join(name)) {
                saved.extend(files.iter().cloned());
            }
        }
    }

    /// Watches folders again that came back; the files in them are new.
    fn find_lost(&self, saved: &mut HashSet<PathBuf>) {
        let mut table = self.table();
        let lost: Vec<PathBuf> = table.lost.iter().filter(|folder| folder.is_dir()).cloned().collect();
        for folder in lost {
            table.lost.remove(&folder);
            if self.watch(&mut table, &folder).is_err() {
                table.lost.insert(folder);
                continue;
            }
            let files = table.files.get(&folder).into_iter().flatten();
            let back =
                files.filter(|(name, _)| folder.join(name).is_file()).flat_map(|(_, files)| files.iter().cloned());
            saved.extend(back);
        }
    }
}

/// Whether a file that appeared is all there: links are, a file that was just created will be closed later.
fn is_complete(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink() || (meta.is_file() && meta.nlink() > 1))
}

fn no_watch(why: Errno) -> Error {
    Error::Fatal(format!("the system gives no file watch: {why}"))
}
