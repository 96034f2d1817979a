//! The running program: started with the agent preloaded, reached through its memory and the agent's socket.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use relive_process::agent::{AgentLink, AgentListener};
use relive_process::launch::{self, AgentSpec, Child};
use relive_process::memory::Memory;
use relive_process::{FileId, LaunchSpec, MappedFile};
use relive_wire::LiveAddr;

use crate::Error;
use crate::binary::executable;
use crate::compile::Baseline;
use crate::link::Needs;
use crate::load::{Arena, Reserved, Room, ThreadReserve};
use crate::swap::Tables;

/// How long the program may take from its start to the agent's first word. Loading a large debug build takes a second.
const HELLO_TIMEOUT: Duration = Duration::from_secs(20);

/// How a start went.
pub(super) enum Started {
    /// The program runs and can be patched.
    Ready(Box<Program>),
    /// The program runs, but cannot be patched: why.
    Blind(Arc<Child>, String),
}

impl Started {
    pub(super) fn child(&self) -> Arc<Child> {
        match self {
            Started::Ready(program) => program.child(),
            Started::Blind(child, _) => Arc::clone(child),
        }
    }
}

/// A started program.
pub(super) struct Program {
    child: Arc<Child>,
    pub(super) agent: AgentLink,
    pub(super) memory: Memory,
    pub(super) exe_start: LiveAddr,
    pub(super) room: Room,
    /// The newest one.
    pub(super) arena: Option<Arena>,
    pub(super) tables: Tables,
    pub(super) threads: ThreadReserve,
    pub(super) folder: PathBuf,
    /// Which folder that is.
    folder_is: FolderId,
    /// The executable that was started.
    pub(super) exe: FileId,
}

impl Program {
    /// Starts the program as `cargo run` would, with `agent` preloaded; its number goes to `spawned` at once. `folder` is
    /// the session's own.
    pub(super) fn start(
        baseline: &Baseline,
        folder: &Path,
        agent: &[u8],
        spawned: &mut dyn FnMut(u32),
    ) -> Result<Started, Error> {
        let library = folder.join("agent.so");
        fs::write(&library, agent).map_err(|error| Error::file(&library, "write the agent to", error))?;
        let listener = AgentListener::listen(folder)?;
        let launch = &baseline.launch;
        let spec = LaunchSpec {
            program: baseline.run_exe.clone(),
            arg0: launch.argv.first().cloned(),
            args: launch.argv.iter().skip(1).cloned().collect(),
            env: launch.env.clone(),
            cwd: Some(launch.cwd.clone()),
            ..LaunchSpec::default()
        };
        if !is_dynamic(&baseline.exe)? {
            let child = Arc::new(launch::spawn(&spec, None)?);
            spawned(child.pid());
            return Ok(Started::Blind(child, "it is linked statically, so nothing can be loaded into it".into()));
        }
        let spec_agent = AgentSpec { library: &library, image_dir: folder, listener: &listener };
        let child = Arc::new(launch::spawn(&spec, Some(&spec_agent))?);
        spawned(child.pid());
        drop(listener);
        match Program::reach(baseline, folder.to_path_buf(), Arc::clone(&child)) {
            Ok(program) => Ok(Started::Ready(Box::new(program))),
            // Whatever went wrong, the program was started and goes on; it may also have ended already.
            Err(error) => Ok(Started::Blind(child, error.to_string())),
        }
    }

    /// Connects to the agent of the started program.
    fn reach(baseline: &Baseline, folder: PathBuf, child: Arc<Child>) -> Result<Program, Error> {
        let link = AgentLink::connect(&folder, child.pid(), HELLO_TIMEOUT, &|| child.is_alive())?;
        let hello = *link.hello();
        let near = hello.near().ok_or_else(|| {
            Error::Denied("there is no free memory below the program's code for patches to go to".into())
        })?;
        let memory = Memory::open(child.pid())?;
        Ok(Program {
            threads: ThreadReserve::check(&hello, &memory)?,
            memory,
            agent: link,
            exe_start: hello.exe_start,
            room: Room::new(near),
            arena: None,
            tables: Tables::new(near),
            folder_is: identity(&folder).map_err(|error| Error::file(&folder, "look at", error))?,
            folder,
            exe: FileId::of(&baseline.exe).map_err(|error| Error::file(&baseline.exe, "look at", error))?,
            child,
        })
    }

    /// Room for an image with `debug` bytes of debug information; `None` if there is none left.
    pub(super) fn room_for(&self, needs: &Needs, debug: u64) -> Option<Reserved> {
        let file_has_room = self.arena.as_ref().is_some_and(|arena| arena.contents().has_room(debug));
        if file_has_room { self.room.find(needs) } else { self.room.find_new(needs) }
    }

    /// Whether images still go where they went.
    ///
    /// # Errors
    /// If something else has the folder's name now: who knows whose it is.
    pub(super) fn check_folder(&self) -> Result<(), Error> {
        match identity(&self.folder) {
            Ok(now) if now != self.folder_is => {
                let why = "it was replaced by another folder or a link; start relive again";
                Err(Error::file(&self.folder, "write the image to", why))
            }
            // What is wrong is told when a file is written.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.pid()
    }

    pub(super) fn child(&self) -> Arc<Child> {
        Arc::clone(&self.child)
    }

    /// Why the running file is not the one that was built; `None` if it is.
    pub(super) fn mismatch(&self) -> Result<Option<String>, Error> {
        let running = PathBuf::from(format!("/proc/{}/exe", self.pid()));
        let running = FileId::of(&running).map_err(|error| Error::file(&running, "look at", error))?;
        let same = (running.dev, running.ino) == (self.exe.dev, self.exe.ino);
        Ok((!same).then(|| "the process runs another file than the one that was built".to_owned()))
    }
}

/// What tells a folder from others: device, number, when it was made (numbers are given again), and that it is no link.
type FolderId = (u64, u64, Option<SystemTime>, bool);

fn identity(folder: &Path) -> std::io::Result<FolderId> {
    let data = fs::symlink_metadata(folder)?;
    Ok((data.dev(), data.ino(), data.created().ok(), data.is_dir()))
}

/// Whether the executable asks for a dynamic loader, which alone preloads the agent.
fn is_dynamic(exe: &Path) -> Result<bool, Error> {
    let file = MappedFile::open(exe).map_err(|error| Error::file(exe, "map", error))?;
    executable::has_loader(&file).map_err(|why| Error::file(exe, "read the program headers of", why))
}

/// A folder for this session's agent, sockets and images, closed to other users: `session` below relive's folder, or what
/// a link of that name leads to where the loader could not preload from there.
pub(super) fn session_folder(relive_dir: &Path) -> Result<PathBuf, Error> {
    let place = relive_dir.join("session");
    let awkward = relive_dir.as_os_str().as_encoded_bytes().iter().any(|byte| b" :".contains(byte));
    let folder =
        if awkward { std::env::temp_dir().join(format!("relive-{}", std::process::id())) } else { place.clone() };
    for old in [&place, &folder] {
        match fs::remove_dir_all(old) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file(old, "empty", error)),
        }
    }
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(|error| Error::file(&folder, "create", error))?;
    let closed = fs::set_permissions(&folder, fs::Permissions::from_mode(0o700));
    closed.map_err(|error| Error::file(&folder, "close", error))?;
    let folder = fs::canonicalize(&folder).map_err(|error| Error::file(&folder, "resolve", error))?;
    if awkward {
        symlink(&folder, &place).map_err(|error| Error::file(&place, "create", error))?;
    }
    Ok(folder)
}
