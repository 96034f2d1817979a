//! The agent's peer: a listening socket for the program to inherit, and the connection to the agent afterwards.
//!
//! Takes a private directory, gives a link that asks for one thing at a time. Every wait has an end: a time, or the
//! caller's word that the program is gone.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use relive_wire::LiveAddr;
use relive_wire::agent::{HEAD_LEN, HELLO_LEN, Head, Hello, PATH_MAX, Reply, Request, TEXT_MAX, VERSION};

use crate::{Error, Protection, Result, socket};

/// Name of the socket in its directory.
const SOCKET: &str = "agent.sock";
/// Bytes of one write that the agent is asked for: more than a page takes several.
const STORE_MAX: usize = PATH_MAX - 1;
/// How long one look at the socket waits before the caller is asked whether the program lives.
const SLICE: Duration = Duration::from_millis(20);

/// The socket that the program inherits. Drop it once the program has started: a connection then fails at once when
/// nobody is left to accept it.
#[derive(Debug)]
pub struct AgentListener {
    socket: UnixListener,
}

impl AgentListener {
    /// Binds the socket in `dir`, which must be this user's and closed to others (mode 0700). One that is left from
    /// before is replaced.
    ///
    /// # Errors
    /// `Denied` if others could reach into the directory, `Fatal` if the socket cannot be made.
    pub fn listen(dir: &Path) -> Result<AgentListener> {
        Ok(AgentListener { socket: socket::listen(dir, SOCKET)? })
    }
}

impl AsFd for AgentListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A connection to the agent.
#[derive(Debug)]
pub struct AgentLink {
    stream: UnixStream,
    hello: Hello,
    seq: u32,
}

impl AgentLink {
    /// Connects to the agent of process `pid` that listens in `dir`, and waits for its greeting until `timeout` is over
    /// or `alive` denies.
    ///
    /// # Errors
    /// `Gone` if the program has ended or nobody listens, `Busy` if the agent does not answer in time, `Fatal` if it is
    /// another process's or speaks another version.
    pub fn connect(dir: &Path, pid: u32, timeout: Duration, alive: &dyn Fn() -> bool) -> Result<AgentLink> {
        let stream = socket::connect(dir, SOCKET).map_err(|why| {
            Error::Gone(format!("cannot connect to the agent of process {pid}, it has ended or never started: {why}"))
        })?;
        let mut peer = Peer { stream: &stream, pid, step: "greet", until: Instant::now() + timeout, alive };
        let mut bytes = [0; HELLO_LEN];
        peer.receive(&mut bytes)?;
        let fatal = |what: String| Error::Fatal(format!("the agent of process {pid} {what}"));
        let hello = Hello::decode(&bytes).ok_or_else(|| fatal("greets with what is no greeting".to_owned()))?;
        if hello.version != VERSION {
            return Err(fatal(format!("speaks version {} and relive speaks {VERSION}", hello.version)));
        }
        if hello.pid != pid {
            return Err(fatal(format!("says that it is in process {}", hello.pid)));
        }
        Ok(AgentLink { stream, hello, seq: 0 })
    }

    /// What the agent said of its process.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Has the shared object at `path` opened; gives its load bias.
    ///
    /// # Errors
    /// `Fatal` with the loader's text if it cannot be opened, `Busy` if the agent does not answer in time (the object
    /// may then still be opened later), `Gone` if it has ended.
    pub fn open(&mut self, path: &Path, timeout: Duration, alive: &dyn Fn() -> bool) -> Result<LiveAddr> {
        let bytes = path.as_os_str().as_bytes();
        if bytes.len() > PATH_MAX {
            return Err(Error::Fatal(format!("cannot have `{}` opened: the path is too long", path.display())));
        }
        self.ask(Request::Open, 0, bytes, timeout, alive).map(LiveAddr)
    }

    /// Where the object of the program is that has `name`, as the loader would find it for the program.
    ///
    /// # Errors
    /// `Fatal` if no object has the name, otherwise as [`AgentLink::open`].
    pub fn resolve(&mut self, name: &str, timeout: Duration, alive: &dyn Fn() -> bool) -> Result<LiveAddr> {
        if name.is_empty() || name.len() > PATH_MAX {
            return Err(Error::Fatal(format!("cannot look up a name of {} bytes", name.len())));
        }
        self.ask(Request::Resolve, 0, name.as_bytes(), timeout, alive).map(LiveAddr)
    }

    /// Has zeroed memory mapped at exactly `at`, where nothing reaches the process from outside (`Request::Reserve`).
    ///
    /// # Errors
    /// `Fatal` if something is there or the agent cannot do it, otherwise as [`AgentLink::open`].
    pub fn reserve(&mut self, at: LiveAddr, len: u64, timeout: Duration, alive: &dyn Fn() -> bool) -> Result<()> {
        self.ask(Request::Reserve, at.0, &len.to_le_bytes(), timeout, alive).map(drop)
    }

    /// Has `bytes` written to `at`; the pages allow `protection` afterwards (`Request::Store`). The same bytes are not
    /// written at once if there are more than 4 of them.
    ///
    /// # Errors
    /// `Fatal` if the memory is not mapped, otherwise as [`AgentLink::open`].
    pub fn store(
        &mut self,
        at: LiveAddr,
        bytes: &[u8],
        protection: Protection,
        timeout: Duration,
        alive: &dyn Fn() -> bool,
    ) -> Result<()> {
        let bits = u8::from(protection.read) | u8::from(protection.write) << 1 | u8::from(protection.execute) << 2;
        for (number, part) in bytes.chunks(STORE_MAX).enumerate() {
            let body = [&[bits], part].concat();
            self.ask(Request::Store, at.plus((number * STORE_MAX) as u64).0, &body, timeout, alive)?;
        }
        Ok(())
    }

    /// Has the agent answer.
    ///
    /// # Errors
    /// `Busy` if it does not in time, `Gone` if it has ended.
    pub fn ping(&mut self, timeout: Duration, alive: &dyn Fn() -> bool) -> Result<()> {
        self.ask(Request::Ping, 0, &[], timeout, alive).map(drop)
    }

    fn ask(
        &mut self,
        request: Request,
        value: u64,
        body: &[u8],
        timeout: Duration,
        alive: &dyn Fn() -> bool,
    ) -> Result<u64> {
        self.seq = self.seq.wrapping_add(1);
        let step = match request {
            Request::Open => "open an image",
            Request::Ping => "answer",
            Request::Resolve => "look up a name",
            Request::Reserve => "reserve memory",
            Request::Store => "write",
        };
        let mut peer = Peer { stream: &self.stream, pid: self.hello.pid, step, until: Instant::now() + timeout, alive };
        // One write: the agent never sees half a request of a relive that was killed.
        let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let mut record = Head { kind: request as u32, seq: self.seq, len, value }.encode().to_vec();
        record.extend_from_slice(body);
        peer.send(&record)?;
        loop {
            let (head, text) = peer.reply()?;
            // Answers to requests that were given up are still to be read, but not for ever.
            if head.seq != self.seq {
                peer.in_time()?;
                continue;
            }
            return if head.kind == Reply::Done as u32 {
                Ok(head.value)
            } else {
                Err(Error::Fatal(format!("the agent of process {} could not {step}: {text}", self.hello.pid)))
            };
        }
    }
}

/// The other end during one exchange.
struct Peer<'a> {
    stream: &'a UnixStream,
    pid: u32,
    step: &'static str,
    until: Instant,
    alive: &'a dyn Fn() -> bool,
}

impl Peer<'_> {
    fn reply(&mut self) -> Result<(Head, String)> {
        let mut bytes = [0; HEAD_LEN];
        self.receive(&mut bytes)?;
        let head = Head::decode(&bytes).filter(|head| {
            let known = [Reply::Done as u32, Reply::Failed as u32].contains(&head.kind);
            known && usize::try_from(head.len).is_ok_and(|len| len <= TEXT_MAX)
        });
        let head = head.ok_or_else(|| Error::Fatal(format!("the agent of process {} answers nonsense", self.pid)))?;
        let mut text = vec![0; head.len as usize];
        self.receive(&mut text)?;
        Ok((head, String::from_utf8_lossy(&text).into_owned()))
    }

    fn receive(&mut self, bytes: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            self.stream.set_read_timeout(Some(SLICE)).map_err(|why| self.error(&why))?;
            match self.stream.read(rest) {
                Ok(0) => return Err(self.error(&io::ErrorKind::UnexpectedEof.into())),
                Ok(got) => done += got,
                Err(why) => self.go_on(&why)?,
            }
            // A byte now and then is no answer in time.
            if done < bytes.len() {
                self.in_time()?;
            }
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            self.stream.set_write_timeout(Some(SLICE)).map_err(|why| self.error(&why))?;
            match self.stream.write(rest) {
                Ok(put) => done += put,
                Err(why) => self.go_on(&why)?,
            }
        }
        Ok(())
    }

    /// Whether to go on after `why`: only if it is a slice of time that passed, the program lives and time is left.
    fn go_on(&self, why: &io::Error) -> Result<()> {
        if !matches!(why.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted) {
            return Err(self.error(why));
        }
        if !(self.alive)() {
            return Err(Error::Gone(format!("process {} has ended before its agent could {}", self.pid, self.step)));
        }
        self.in_time()
    }

    fn in_time(&self) -> Result<()> {
        if Instant::now() >= self.until {
            return Err(Error::Busy(format!("the agent of process {} did not {} in time", self.pid, self.step)));
        }
        Ok(())
    }

    fn error(&self, why: &io::Error) -> Error {
        Error::Gone(format!("the agent of process {} is gone, it could not {}: {why}", self.pid, self.step))
    }
}
