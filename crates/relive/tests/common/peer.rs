//! The other end of a socket: says what it is given to each who connects, and gives back what it heard.

use std::fs::{self, DirBuilder};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use relive_process::socket;

/// What a peer does when it has said everything.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// Says no more, and listens until the other side leaves.
    Leaves,
    /// Says no more and does not tell.
    Waits,
    /// Repeats these words, of which there are a few, until the other side leaves.
    Repeats(&'static [u8]),
}

/// Who reads more than so many bytes would read for ever.
const REPEATED: usize = 256 << 20;

/// A peer that waits for connections in a thread of its own.
pub(crate) struct Peer {
    say: Sender<(Vec<u8>, End)>,
    heard: Receiver<Vec<u8>>,
}

impl Peer {
    /// Binds the socket `name` in `folder`. A peer that is `polite` hears a line before it says anything.
    pub(crate) fn listen(folder: &Path, name: &str, polite: bool) -> Peer {
        let listener = socket::listen(folder, name).unwrap();
        let (say, words) = mpsc::channel::<(Vec<u8>, End)>();
        let (sender, heard) = mpsc::channel();
        thread::spawn(move || {
            for (bytes, end) in words {
                let (stream, _) = listener.accept().unwrap();
                sender.send(speak(stream, &bytes, end, polite)).unwrap();
            }
        });
        Peer { say, heard }
    }

    /// Says `bytes` to who connects during `meet`; gives what that gives, and what was heard of it.
    pub(crate) fn meets<T>(&self, bytes: &[u8], end: End, meet: impl FnOnce() -> T) -> (T, Vec<u8>) {
        self.say.send((bytes.to_vec(), end)).unwrap();
        let met = meet();
        (met, self.heard.recv().unwrap())
    }
}

fn speak(mut stream: UnixStream, bytes: &[u8], end: End, polite: bool) -> Vec<u8> {
    let mut heard = Vec::new();
    let mut byte = [0];
    while polite && heard.last() != Some(&b'\n') && stream.read(&mut byte).is_ok_and(|got| got == 1) {
        heard.extend(byte);
    }
    // The other side may have heard enough at any point.
    let _ = stream.write_all(bytes);
    match end {
        End::Leaves => drop(stream.shutdown(Shutdown::Write)),
        End::Waits => {}
        End::Repeats(words) => {
            let many = words.repeat(4096 / words.len());
            let _ = (0..REPEATED / many.len()).try_for_each(|_| stream.write_all(&many));
            let _ = stream.shutdown(Shutdown::Write);
        }
    }
    let _ = stream.read_to_end(&mut heard);
    heard
}

/// A folder for sockets that is closed to other users; removed when dropped.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
}

impl Folder {
    /// The folder `name`, with `session` in it.
    pub(crate) fn new(name: &str) -> Folder {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        DirBuilder::new().recursive(true).mode(0o700).create(path.join("session")).unwrap();
        Folder { path }
    }

    pub(crate) fn session(&self) -> PathBuf {
        self.path.join("session")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
