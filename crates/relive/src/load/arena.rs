//! The file of the newest arena, on disk and opened by the program.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use relive_process::agent::AgentLink;
use relive_wire::near::IMAGE_BIAS;

use crate::Error;
use crate::link::{ArenaFile, FileStep, Image};
use crate::load::Reserved;

/// How long the agent may take to open an arena.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest piece of a file that is copied at once.
const COPY_MAX: u64 = 1 << 20;

/// An arena: its file, which the program opens before anything is brought into it.
#[derive(Debug)]
pub struct Arena {
    folder: PathBuf,
    path: PathBuf,
    file: File,
    contents: ArenaFile,
}

impl Arena {
    /// Makes the file of the arena of `reserved` in `folder`. It is made once and never shortened: who knows when the
    /// program opens it.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create(reserved: &Reserved, folder: &Path) -> Result<Arena, Error> {
        let path = folder.join(format!("arena-{:02}.so", reserved.arena));
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(|error| failed(&path, &error))?;
        let (contents, steps) = ArenaFile::create(reserved.start);
        perform(&file, steps).map_err(|error| failed(&path, &error))?;
        Ok(Arena { folder: folder.to_path_buf(), path, file, contents })
    }

    /// Has the agent open it, once more if it is not known whether it did.
    ///
    /// # Errors
    /// `Busy` if it did not in time, `Gone` if the program ended meanwhile, otherwise what failed.
    pub fn open(&self, agent: &mut AgentLink, alive: &dyn Fn() -> bool) -> Result<(), Error> {
        let bias = agent.open(&self.path, OPEN_TIMEOUT, alive)?;
        if bias.0 == IMAGE_BIAS {
            return Ok(());
        }
        Err(Error::Fatal(format!("the loader placed the image {bias} beside its addresses instead of {IMAGE_BIAS:#x}")))
    }

    /// What is in its file.
    #[must_use]
    pub fn contents(&self) -> &ArenaFile {
        &self.contents
    }

    /// Brings `image` into the file, under the names of the granules that its code lies in. The program's memory does not
    /// depend on it: what is in use there is a copy.
    ///
    /// # Errors
    /// If the file cannot be written; it is then as it was for whoever reads it.
    pub fn add(&mut self, image: &Image, reserved: &Reserved) -> Result<(), Error> {
        let mut contents = self.contents.clone();
        let mut loaded: Vec<_> = [&image.text, &image.constants, &image.frames]
            .into_iter()
            .map(|part| (part.addr, part.bytes.as_slice()))
            .collect();
        loaded.push((reserved.search_entries(), &image.search));
        let steps = contents.grow(&loaded, &image.additions, &reserved.used);
        perform(&self.file, steps).map_err(|error| failed(&self.path, &error))?;
        self.contents = contents;
        for granule in reserved.granules() {
            let name = self.folder.join(format!("{granule:05}.so"));
            let target = self.path.file_name().unwrap_or_default();
            match symlink(target, &name) {
                Ok(()) => {}
                // Left from a change that did not come about.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(&name, &error)),
            }
        }
        Ok(())
    }
}

fn failed(path: &Path, error: &io::Error) -> Error {
    let why = if error.kind() == ErrorKind::NotFound {
        "its folder was removed, by `cargo clean` perhaps; start relive again".to_owned()
    } else {
        error.to_string()
    };
    Error::file(path, "write the image to", why)
}

/// Does the steps in their order.
pub(crate) fn perform(file: &File, steps: Vec<FileStep<'_>>) -> io::Result<()> {
    for step in steps {
        match step {
            FileStep::Extend(len) => file.set_len(len)?,
            FileStep::Write(at, bytes) => file.write_all_at(&bytes, at)?,
            FileStep::Copy { from, to, len } => {
                let mut done = 0;
                while done < len {
                    let mut bytes = vec![0; (len - done).min(COPY_MAX) as usize];
                    file.read_exact_at(&mut bytes, from + done)?;
                    file.write_all_at(&bytes, to + done)?;
                    done += bytes.len() as u64;
                }
            }
        }
    }
    Ok(())
}
