//! What reaches a session from outside: saves and the program's end, in one queue.
//!
//! Everything that waits in the queue when the session asks is taken together, so that a burst of saves is one change.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use relive_process::launch::Child;

use crate::Error;
use crate::change::SavedFiles;
use crate::control::Asked;
use crate::tell::Event;

/// One thing that happened outside.
pub(super) enum Message {
    /// Files were saved.
    Saved(SavedFiles),
    /// The program ended with this code.
    Exited(i32),
    /// Another process asks for something.
    Asked(Asked),
    /// Another thread has something to say.
    Told(Event),
}

/// The queue.
pub(super) struct Inbox {
    sender: Sender<Message>,
    receiver: Receiver<Message>,
    waiting: VecDeque<Message>,
}

impl Inbox {
    pub(super) fn new() -> Inbox {
        let (sender, receiver) = mpsc::channel();
        Inbox { sender, receiver, waiting: VecDeque::new() }
    }

    /// Where a watcher sends saves.
    pub(super) fn saves(&self) -> Sender<SavedFiles> {
        let (sender, receiver) = mpsc::channel();
        let forward = self.sender.clone();
        thread::spawn(move || {
            while let Ok(saved) = receiver.recv() {
                if forward.send(Message::Saved(saved)).is_err() {
                    return;
                }
            }
        });
        sender
    }

    /// Where the control socket sends requests.
    pub(super) fn requests(&self) -> impl Fn(Asked) + Send + Sync + use<> {
        let sender = self.sender.clone();
        move |asked| {
            // Without a session there is no answer, and who asks sees that.
            let _ = sender.send(Message::Asked(asked));
        }
    }

    /// Where another thread tells what happened.
    pub(super) fn events(&self) -> impl Fn(Event) + Send + use<> {
        let sender = self.sender.clone();
        move |event| {
            // The session may have ended first; then nobody wants to know.
            let _ = sender.send(Message::Told(event));
        }
    }

    /// What other threads told and nobody has heard yet.
    pub(super) fn told(&mut self) -> Vec<Event> {
        self.drain();
        let all = self.waiting.drain(..);
        all.filter_map(|message| if let Message::Told(event) = message { Some(event) } else { None }).collect()
    }

    /// Has the program's end reported.
    pub(super) fn await_exit(&self, child: Arc<Child>) {
        let sender = self.sender.clone();
        thread::spawn(move || {
            let code = child.wait().unwrap_or(125);
            // The session may have ended first; then nobody wants to know.
            let _ = sender.send(Message::Exited(code));
        });
    }

    /// Files that were saved while nobody watched.
    pub(super) fn saved_before(&mut self, files: Vec<PathBuf>) {
        if !files.is_empty() {
            self.waiting.push_back(Message::Saved(SavedFiles { files, at: Instant::now() }));
        }
    }

    /// The next message; saves that wait are one. The program's end comes before saves, and saves before requests.
    pub(super) fn next(&mut self) -> Result<Message, Error> {
        if self.waiting.is_empty() {
            let lost = |_| Error::Fatal("the watcher and the waiter are gone".into());
            self.waiting.push_back(self.receiver.recv().map_err(lost)?);
        }
        self.drain();
        if let Some(at) = self.waiting.iter().position(|message| matches!(message, Message::Exited(_)))
            && let Some(message) = self.waiting.remove(at)
        {
            return Ok(message);
        }
        let mut files = BTreeSet::new();
        let mut at = None;
        let mut requests = VecDeque::new();
        for message in self.waiting.drain(..) {
            match message {
                Message::Saved(saved) => {
                    files.extend(saved.files);
                    at = Some(saved.at);
                }
                Message::Exited(_) | Message::Asked(_) | Message::Told(_) => requests.push_back(message),
            }
        }
        self.waiting = requests;
        match at {
            Some(at) => Ok(Message::Saved(SavedFiles { files: files.into_iter().collect(), at })),
            None => self.waiting.pop_front().ok_or_else(|| Error::Fatal("a message was lost".into())),
        }
    }

    /// Whether a message waits for which `matters` holds; the program's end always does.
    pub(super) fn has(&mut self, matters: &mut dyn FnMut(&SavedFiles) -> bool) -> bool {
        self.drain();
        self.waiting.iter().any(|message| match message {
            Message::Saved(saved) => matters(saved),
            Message::Exited(_) => true,
            Message::Asked(_) | Message::Told(_) => false,
        })
    }

    /// Waits for a message, at most so long.
    pub(super) fn wait(&mut self, limit: Duration) {
        match self.receiver.recv_timeout(limit) {
            Ok(message) => self.waiting.push_back(message),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }

    fn drain(&mut self) {
        while let Ok(message) = self.receiver.try_recv() {
            self.waiting.push_back(message);
        }
    }
}
