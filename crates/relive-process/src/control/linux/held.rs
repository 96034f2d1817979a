//! A new program, held in the moment in which it replaced the program that started it, before its first instruction.
//!
//! Takes what to start, gives the child and a guard. The child waits on a socket before it runs the program; meanwhile a
//! thread of its own becomes its tracer and has the kernel report that replacement, which is where it stops. If relive is
//! killed the socket closes, or the kernel lets the tracee go: in every case the program runs.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::launch::{self, Child};
use crate::stop::tracer::Tracer;
use crate::sys::{self, TraceeState};
use crate::{Error, LaunchSpec, Result};

/// How long a new process may take to run its program.
const DEADLINE: Duration = Duration::from_secs(10);
/// Between two looks at it.
const NAP: Duration = Duration::from_micros(50);

/// A program before its first instruction. It begins when this is dropped.
#[derive(Debug)]
pub struct Held {
    tracer: Tracer,
}

impl Held {
    /// Lets it begin.
    pub(super) fn start(mut self) -> Result<()> {
        self.tracer.finish().map(drop)
    }
}

/// Starts a program and holds it; if it cannot be held it runs.
pub(super) fn spawn(spec: &LaunchSpec) -> Result<(Child, Result<Held>)> {
    let failed = |why| Error::Fatal(format!("cannot start `{}`: no socket: {why}", spec.program.display()));
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let mut command = launch::command(spec);
    sys::meet(&mut command, ours.as_raw_fd(), theirs.as_raw_fd());
    let pending =
        Tracer::begin(format!("the new `{}`", spec.program.display()), move |hand_over| hold(ours, hand_over))?;
    let child = launch::start(&mut command, spec);
    // If there is no child, its end is closed now and the thread ends.
    drop(theirs);
    Ok((child?, pending.wait().map(|(tracer, ())| Held { tracer })))
}

/// The whole life of the tracing thread.
fn hold(mut child: UnixStream, hand_over: &dyn Fn(Result<()>)) -> Result<Duration> {
    let mut pid = [0; 4];
    if child.read_exact(&mut pid).is_err() {
        hand_over(Err(Error::Gone("cannot hold the program: it was not started".to_owned())));
        return Ok(Duration::ZERO);
    }
    let pid = u32::from_ne_bytes(pid);
    sys::nap_exactly();
    let began = Instant::now();
    let seized = sys::seize(pid).map_err(|why| Error::system(pid, "hold the main thread", &why));
    // The child runs the program now, also if nobody traces it.
    let _ = child.write_all(b"!");
    hand_over(seized.and_then(|()| wait_for_exec(pid, began + DEADLINE)));
    match sys::detach(pid, 0) {
        // Not traced, let go already, or killed meanwhile.
        Err(why) if why.raw_os_error() == Some(libc::ESRCH) => {}
        Err(why) => return Err(Error::system(pid, "let go of the main thread", &why)),
        Ok(()) => {}
    }
    Ok(began.elapsed())
}

/// Waits until the program is there and has not begun.
fn wait_for_exec(pid: u32, until: Instant) -> Result<()> {
    loop {
        let state = sys::tracee_state(pid, true).map_err(|why| Error::system(pid, "wait for the program", &why))?;
        match state {
            TraceeState::Stopped(word) if word >> 8 == libc::PTRACE_EVENT_EXEC => return Ok(()),
            // A signal came first. It is delivered, and the program is left alone: it may end by it.
            TraceeState::Stopped(word) => {
                let signal = if word >> 8 == 0 { word & 0xff } else { 0 };
                let _ = sys::detach(pid, signal);
                return Err(Error::Busy(format!("cannot hold process {pid}: signal {signal} came before it began")));
            }
            TraceeState::Ended => return Err(Error::Gone(format!("cannot hold process {pid}: it has ended"))),
            TraceeState::Running if Instant::now() >= until => {
                return Err(Error::Busy(format!("cannot hold process {pid}: it does not begin")));
            }
            TraceeState::Running => std::thread::sleep(NAP),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_program_begins_when_its_holder_is_gone_before_it_could_hold_it() {
        let (mut ours, theirs) = UnixStream::pair().expect("a pair can be made");
        let mut command = Command::new("true");
        sys::meet(&mut command, ours.as_raw_fd(), theirs.as_raw_fd());
        let (tell, told) = channel();
        let starter = std::thread::spawn(move || tell.send(command.status()));
        let mut pid = [0; 4];
        ours.read_exact(&mut pid).expect("it says its number");
        drop(ours);
        let status = told.recv_timeout(DEADLINE).expect("it must not wait for ever");
        assert!(status.is_ok_and(|status| status.success()));
        drop(theirs);
        assert!(starter.join().is_ok_and(|told| told.is_ok()));
    }
}
