//! Starts the program, with the agent preloaded. Takes the whole command line and environment, gives the running child.
//!
//! The child's standard streams, process group and terminal are relive's own; it inherits one more descriptor, the
//! agent's listening socket, which the agent takes away before `main`.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use relive_wire::agent::{ENV_DIR, ENV_FD, ENV_PRELOAD};

use crate::agent::AgentListener;
use crate::{Addresses, Error, LaunchSpec, Result, sys};

/// Least number of the inherited descriptor: out of the way of programs that count on the low ones being free.
const LEAST_FD: RawFd = 100;
const PRELOAD: &str = "LD_PRELOAD";

/// The agent to preload, and where it finds what.
#[derive(Debug)]
pub struct AgentSpec<'a> {
    /// The agent's shared object. A path with a space or a colon cannot be preloaded and is an error.
    pub library: &'a Path,
    /// The directory that the files of images are in.
    pub image_dir: &'a Path,
    /// The socket the agent accepts on.
    pub listener: &'a AgentListener,
}

/// Starts the program, with `agent` preloaded if there is one.
///
/// # Errors
/// `Fatal` with the system's reason if it cannot be started, `Denied` if its addresses may not be fixed.
pub fn spawn(spec: &LaunchSpec, agent: Option<&AgentSpec<'_>>) -> Result<Child> {
    let mut command = command(spec);
    // Reserves the number in this process until the child has its copy.
    let inherited = agent.map(|agent| preload(&mut command, spec, agent)).transpose()?;
    if let Some(fd) = &inherited {
        sys::inherit(&mut command, fd.as_raw_fd());
    }
    start(&mut command, spec)
}

/// What is to be run, without an agent.
pub(crate) fn command(spec: &LaunchSpec) -> Command {
    let mut command = Command::new(&spec.program);
    command.args(&spec.args).env_clear().envs(spec.env.iter().map(|(key, value)| (key, value)));
    if let Some(arg0) = &spec.arg0 {
        command.arg0(arg0);
    }
    if let Some(cwd) = &spec.cwd {
        command.current_dir(cwd);
    }
    command
}

/// Runs it, at the addresses that `spec` asks for.
pub(crate) fn start(command: &mut Command, spec: &LaunchSpec) -> Result<Child> {
    let _fixed = match spec.addresses {
        Addresses::Random => None,
        Addresses::Fixed => Some(sys::FixedAddresses::begin().map_err(|why| {
            let text = format!("cannot start `{}` at fixed addresses: {why}", spec.program.display());
            if why.kind() == std::io::ErrorKind::PermissionDenied { Error::Denied(text) } else { Error::Fatal(text) }
        })?),
    };
    let failed = |why: std::io::Error| Error::Fatal(format!("cannot start `{}`: {why}", spec.program.display()));
    let pid = command.spawn().map_err(failed)?.id();
    let handle = sys::open_process(pid).map_err(|why| Error::system(pid, "open a handle", &why))?;
    Ok(Child { pid, handle, code: Mutex::new(None) })
}

/// Sets the keys of `relive_wire::agent`; gives the descriptor that the child inherits.
fn preload(command: &mut Command, spec: &LaunchSpec, agent: &AgentSpec<'_>) -> Result<OwnedFd> {
    let library = agent.library.as_os_str();
    if library.as_encoded_bytes().iter().any(|byte| b" :".contains(byte)) {
        let text = format!("cannot preload `{}`: the loader splits at spaces and colons", agent.library.display());
        return Err(Error::Fatal(text));
    }
    let listener = agent.listener.as_fd();
    let inherited = sys::duplicate(listener, LEAST_FD)
        .or_else(|_| sys::duplicate(listener, 3))
        .map_err(|why| Error::Fatal(format!("cannot duplicate the agent's socket: {why}")))?;
    let users = spec.env.iter().rev().find(|(key, _)| key == PRELOAD).map(|(_, value)| value);
    let mut value = library.to_owned();
    if let Some(users) = users {
        command.env(ENV_PRELOAD, users);
        value.push(OsStr::new(":"));
        value.push(users);
    }
    command.env(PRELOAD, value).env(ENV_FD, inherited.as_raw_fd().to_string()).env(ENV_DIR, agent.image_dir);
    Ok(inherited)
}

/// A started program. Dropping it neither ends nor reaps it.
#[derive(Debug)]
pub struct Child {
    pid: u32,
    handle: OwnedFd,
    code: Mutex<Option<i32>>,
}

impl Child {
    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until the program has ended and gives its exit code, 128 + n if signal n ended it. Any thread may wait,
    /// more than once.
    ///
    /// # Errors
    /// `Fatal` if the system refuses to say.
    pub fn wait(&self) -> Result<i32> {
        loop {
            if let Some(code) = self.wait_for(None)? {
                return Ok(code);
            }
        }
    }

    /// The exit code if the program has ended.
    ///
    /// # Errors
    /// `Fatal` if the system refuses to say.
    pub fn try_wait(&self) -> Result<Option<i32>> {
        self.wait_for(Some(0))
    }

    /// Whether the program still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        matches!(self.try_wait(), Ok(None))
    }

    /// Sends `signal`.
    ///
    /// # Errors
    /// `Gone` if it has ended.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let step = format!("send signal {signal} to the main thread");
        sys::signal_process(self.handle.as_fd(), signal).map_err(|why| Error::system(self.pid, step, &why))
    }

    /// Waits on the handle, not for the child: a wait would take the reports of stopped threads away from the thread
    /// that stopped them.
    fn wait_for(&self, milliseconds: Option<u32>) -> Result<Option<i32>> {
        let failed = |why: std::io::Error| Error::system(self.pid, "wait for the end", &why);
        match sys::wait_readable(self.handle.as_fd(), milliseconds) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(why) if why.kind() == std::io::ErrorKind::Interrupted => return Ok(None),
            Err(why) => return Err(failed(why)),
        }
        let mut code = self.code.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if code.is_none() {
            *code = sys::reap(self.pid).map_err(failed)?;
        }
        if code.is_none() {
            // Ended, but a thread that stopped it has not let go of it yet.
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(*code)
    }
}
