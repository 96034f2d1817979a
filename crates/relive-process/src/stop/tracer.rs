//! The thread that traces: it stops the process, waits for the word to go on, lets go, and ends.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::{Error, Result};

/// The tracing thread while the process is stopped. Dropping it lets the process go on.
#[derive(Debug)]
pub(crate) struct Tracer {
    /// What it stops, for messages.
    of: String,
    /// Closing it is the word to go on.
    hold: Option<SyncSender<()>>,
    thread: Option<JoinHandle<Result<Duration>>>,
}

impl Tracer {
    /// Has a thread stop `of`. `trace` hands over what it stopped, or why it could not; when that call
    /// returns it is to be let go. `trace` gives how long it stood still.
    pub(crate) fn begin<T: Send + 'static>(
        of: String,
        trace: impl FnOnce(&dyn Fn(Result<T>)) -> Result<Duration> + Send + 'static,
    ) -> Result<Pending<T>> {
        let (hold, until_dropped) = sync_channel::<()>(0);
        let (tell, told) = sync_channel(1);
        let hand_over = move |stopped: Result<T>| {
            let failed = stopped.is_err();
            if tell.send(stopped).is_ok() && !failed {
                // Nothing is ever sent: the other end is dropped.
                let _ = until_dropped.recv();
            }
        };
        let thread = std::thread::Builder::new()
            .name("relive-tracer".to_owned())
            .spawn(move || trace(&hand_over))
            .map_err(|why| Error::Fatal(format!("cannot start a thread to stop {of}: {why}")))?;
        Ok(Pending { told, tracer: Tracer { of, hold: Some(hold), thread: Some(thread) } })
    }

    /// Lets the process go on and waits until it does; gives the time from its first thread's stop to its last one's going on.
    pub(crate) fn finish(&mut self) -> Result<Duration> {
        self.hold = None;
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(Duration::ZERO),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(Error::Fatal(format!("the thread that stopped {} panicked", self.of))),
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // An error here has nobody to go to; the process runs on in any case.
        let _ = self.finish();
    }
}

/// A tracing thread that may not have stopped anything yet.
#[derive(Debug)]
pub(crate) struct Pending<T> {
    told: Receiver<Result<T>>,
    tracer: Tracer,
}

impl<T> Pending<T> {
    /// Waits for what is stopped.
    pub(crate) fn wait(self) -> Result<(Tracer, T)> {
        let mut tracer = self.tracer;
        match self.told.recv() {
            Ok(Ok(stopped)) => Ok((tracer, stopped)),
            // Whatever is still to be undone is done when the thread has ended.
            Ok(Err(why)) => tracer.finish().and(Err(why)),
            Err(_) => {
                let ended = Error::Fatal(format!("the thread that stops {} ended", tracer.of));
                tracer.finish().and(Err(ended))
            }
        }
    }
}
