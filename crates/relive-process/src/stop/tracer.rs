//! The thread that traces: it stops the process, waits for the word to go on, lets go, and ends.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Thread;
use super::tracee::Tracees;
use crate::memory::Memory;
use crate::{Error, Result, sys};

/// The tracing thread while the process is stopped. Dropping it lets the process go on.
#[derive(Debug)]
pub(super) struct Tracer {
    pid: u32,
    /// Closing it is the word to go on.
    hold: Option<SyncSender<()>>,
    thread: Option<JoinHandle<Result<Duration>>>,
}

impl Tracer {
    /// Stops the process; gives its threads.
    pub(super) fn start(memory: Memory, deadline: Duration) -> Result<(Tracer, Vec<Thread>)> {
        let pid = memory.pid();
        let (hold, until_dropped) = sync_channel(0);
        let (tell, told) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("relive-tracer".to_owned())
            .spawn(move || trace(&memory, deadline, &tell, &until_dropped))
            .map_err(|why| Error::Fatal(format!("cannot start a thread to stop process {pid}: {why}")))?;
        let mut tracer = Tracer { pid, hold: Some(hold), thread: Some(thread) };
        match told.recv() {
            Ok(Ok(threads)) => Ok((tracer, threads)),
            // Whatever is still to be undone is done when the thread has ended.
            Ok(Err(why)) => tracer.finish().and(Err(why)),
            Err(_) => tracer.finish().and(Err(Error::Fatal(format!("the thread that stops process {pid} ended")))),
        }
    }

    /// Lets the process go on and waits until it does; gives the time from its first thread's stop to its last one's going on.
    pub(super) fn finish(&mut self) -> Result<Duration> {
        self.hold = None;
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(Duration::ZERO),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(Error::Fatal(format!("the thread that stopped process {} panicked", self.pid))),
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // An error here has nobody to go to; the process runs on in any case.
        let _ = self.finish();
    }
}

/// The whole life of the tracing thread.
fn trace(
    memory: &Memory,
    deadline: Duration,
    tell: &SyncSender<Result<Vec<Thread>>>,
    until_dropped: &Receiver<()>,
) -> Result<Duration> {
    // Without the permission the stop only takes longer when the program keeps all processors busy.
    let _ = sys::raise_priority();
    sys::nap_exactly();
    let mut tracees = Tracees::new(memory);
    let began = Instant::now();
    let stopped = tracees.stop_all(began + deadline);
    let failed = stopped.is_err();
    if tell.send(stopped).is_ok() && !failed {
        // Nothing is ever sent: the other end is dropped.
        let _ = until_dropped.recv();
    }
    tracees.release()?;
    Ok(began.elapsed())
}
