//! What another process can ask of a running session: to take switches back, to make them again, and how things stand.
//!
//! One line of JSON each way, over a socket in the session's own folder, which no other user can enter. A request waits for
//! its turn behind the change that is being answered, and is never dropped without an answer while the session runs.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use relive_process::socket;
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::tell::{Pending, Reason};

/// Name of the socket in the session's folder.
const SOCKET: &str = "control.sock";
/// The longest request.
const REQUEST_MAX: u64 = 4096;
/// How long a client may take to say what it wants, however it divides it.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);
/// How long nobody is let in after that was not possible.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// The longest answer: the status of far more functions than anyone switches.
const ANSWER_MAX: u64 = 16 << 20;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Request {
    /// Take the last switches back.
    Undo {
        /// How many.
        steps: u32,
    },
    /// Make switches again that were taken back.
    Redo {
        /// How many.
        steps: u32,
    },
    /// How things stand.
    Status,
}

/// What the session answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// To `undo` and `redo`.
    Turned(Turned),
    /// To `status`.
    Status(Status),
    /// It cannot be done, or not be understood: why.
    Impossible {
        /// In a sentence.
        why: String,
    },
}

/// How far the program was taken back or forth.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Turned {
    /// Switches that were asked for.
    pub asked: u32,
    /// Those that were made.
    pub taken: u32,
    /// What runs now.
    pub generation: Generation,
    /// Why it went no further, if it did not.
    pub why: Option<String>,
    /// The judge's reasons for that, or what it says about the switches that were made.
    pub reasons: Vec<Reason>,
}

/// Where a session stands among its switches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Switches from the program as it was started to what runs.
    pub number: u64,
    /// How many of them can be taken back.
    pub undo: usize,
    /// How many that were taken back can be made again.
    pub redo: usize,
}

/// How things stand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// relive's version.
    pub version: String,
    /// The program's process number.
    pub pid: u32,
    /// What runs.
    pub generation: Generation,
    /// The functions that run other code than the program was started with, by name.
    pub functions: Vec<LiveCode>,
    /// Functions whose older code is on a stack.
    pub pending: Vec<Pending>,
    /// Why the stacks could not be looked at, if so.
    pub not_looked: Option<String>,
    /// What is not in memory as relive put it there.
    pub altered: Vec<String>,
}

/// A function that was switched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveCode {
    /// Readable name.
    pub name: String,
    /// The generation that its code came with.
    pub generation: u64,
    /// Where the code is.
    pub address: u64,
    /// Its length in bytes.
    pub size: u64,
}

/// Asks the session whose folder is below `relive_dir`, and waits for the answer.
///
/// # Errors
/// `Gone` if no session runs there or it ends before it answers.
pub fn ask(relive_dir: &Path, request: Request) -> Result<Answer, Error> {
    let folder = relive_dir.join("session");
    let none = |why: &dyn std::fmt::Display| {
        let folder = folder.display();
        Error::Gone(format!("no session runs in `{folder}` ({why}); `cargo relive run` starts one"))
    };
    let mut stream = socket::connect(&folder, SOCKET).map_err(|why| none(&why))?;
    let ended = |why: &dyn std::fmt::Display| Error::Gone(format!("the session ended before it answered: {why}"));
    let mut line = serde_json::to_vec(&request).map_err(|why| Error::Fatal(why.to_string()))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(|why| ended(&why))?;
    let mut text = String::new();
    BufReader::new(stream.take(ANSWER_MAX)).read_line(&mut text).map_err(|why| ended(&why))?;
    serde_json::from_str(&text).map_err(|why| ended(&why))
}

/// A request that waits for its answer.
#[derive(Debug)]
pub struct Asked {
    /// What is asked.
    pub request: Request,
    reply: Sender<Answer>,
}

impl Asked {
    /// Answers it.
    pub fn answer(self, answer: Answer) {
        // Who asked may be gone.
        let _ = self.reply.send(answer);
    }
}

/// The socket of a session; nobody can connect any more when it is dropped.
#[derive(Debug)]
pub struct Server {
    listener: Arc<UnixListener>,
}

impl Server {
    /// Listens in `folder`, which must be closed to other users; requests go to `take`. One that `take` drops is answered
    /// with the end of the connection.
    ///
    /// # Errors
    /// `Denied` if others could enter the folder, `Fatal` if there can be no socket.
    pub fn start(folder: &Path, take: impl Fn(Asked) + Send + Sync + 'static) -> Result<Server, Error> {
        let listener = Arc::new(socket::listen(folder, SOCKET)?);
        let (accepting, take) = (Arc::clone(&listener), Arc::new(take));
        thread::spawn(move || {
            loop {
                let (stream, _) = match accepting.accept() {
                    Ok(client) => client,
                    // The listener is closed.
                    Err(why) if why.kind() == io::ErrorKind::InvalidInput => return,
                    // Descriptors or memory are used up for the moment; there is nothing that could be waited for.
                    Err(_) => {
                        thread::sleep(ACCEPT_AGAIN);
                        continue;
                    }
                };
                let take = Arc::clone(&take);
                thread::spawn(move || serve(stream, &*take));
            }
        });
        Ok(Server { listener })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Wakes who waits in `accept`.
        let _ = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both);
    }
}

fn serve(mut stream: UnixStream, take: &dyn Fn(Asked)) {
    let answer = match receive(&stream) {
        Ok(request) => {
            let (reply, answer) = mpsc::channel();
            take(Asked { request, reply });
            // Without an answer the session ended: the closed connection says so.
            let Ok(answer) = answer.recv() else { return };
            answer
        }
        Err(why) => Answer::Impossible { why },
    };
    let Ok(mut line) = serde_json::to_vec(&answer) else { return };
    line.push(b'\n');
    let _ = stream.write_all(&line);
    let _ = stream.shutdown(Shutdown::Both);
}

fn receive(stream: &UnixStream) -> Result<Request, String> {
    let peer = socket_peercred(stream).map_err(|why| format!("it cannot be told who asks: {why}"))?;
    if peer.uid != geteuid() && !peer.uid.is_root() {
        return Err("the session belongs to another user".to_owned());
    }
    let mut line = String::new();
    let read = |why: io::Error| format!("the request did not come: {why}");
    let client = Client { stream, until: Instant::now() + REQUEST_WITHIN };
    BufReader::new(client.take(REQUEST_MAX)).read_line(&mut line).map_err(read)?;
    serde_json::from_str(&line).map_err(|why| format!("the request is not understood: {why}"))
}

/// Who asks; what it says has to come before a time, all of it.
struct Client<'a> {
    stream: &'a UnixStream,
    until: Instant,
}

impl Read for Client<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::DirBuilderExt;

    use super::*;

    fn folder(name: &str, mode: u32) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("relive-control-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder");
        std::fs::DirBuilder::new().mode(mode).create(path.join("session")).expect("a folder");
        path
    }

    #[test]
    fn requests_are_answered_each_on_its_own_connection() {
        let path = folder("answers", 0o700);
        let take = |asked: Asked| match asked.request {
            Request::Undo { steps } => asked.answer(Answer::Turned(Turned { asked: steps, ..Turned::default() })),
            Request::Redo { .. } => asked.answer(Answer::Impossible { why: "nothing was taken back".into() }),
            Request::Status => drop(asked),
        };
        let server = Server::start(&path.join("session"), take).expect("a socket");
        let turned = Answer::Turned(Turned { asked: 3, ..Turned::default() });
        assert_eq!(ask(&path, Request::Undo { steps: 3 }).expect("an answer"), turned);
        let no = Answer::Impossible { why: "nothing was taken back".into() };
        assert_eq!(ask(&path, Request::Redo { steps: 1 }).expect("an answer"), no);
        assert!(matches!(ask(&path, Request::Status), Err(Error::Gone(why)) if why.contains("ended before")));
        drop(server);
        assert!(matches!(ask(&path, Request::Status), Err(Error::Gone(why)) if why.contains("no session runs")));
        std::fs::remove_dir_all(&path).expect("is removed");
    }

    #[test]
    fn what_is_no_request_is_told_so() {
        let path = folder("nonsense", 0o700);
        let _server = Server::start(&path.join("session"), |asked: Asked| drop(asked)).expect("a socket");
        for nonsense in ["{}\n", "hello\n", "{\"command\":\"undo\"}\n", "{\"command\":\"undo\",\"steps\":-1}\n"] {
            let mut stream = socket::connect(&path.join("session"), SOCKET).expect("a connection");
            stream.write_all(nonsense.as_bytes()).expect("is sent");
            let mut text = String::new();
            stream.read_to_string(&mut text).expect("an answer");
            assert!(text.contains("impossible") && text.contains("not understood"), "{nonsense}: {text}");
        }
        std::fs::remove_dir_all(&path).expect("is removed");
    }

    #[test]
    fn a_folder_that_others_can_enter_is_refused() {
        let path = folder("open", 0o755);
        assert!(matches!(Server::start(&path.join("session"), drop), Err(Error::Denied(_))));
        std::fs::remove_dir_all(&path).expect("is removed");
    }
}
