//! What relive does with the signals that a terminal or a supervisor sends it.
//!
//! Before the program runs they do what they always do. While it runs, SIGINT and SIGQUIT are ignored, because the
//! program has them from the terminal itself, and SIGTERM and SIGHUP are passed on to it. A signal that was ignored
//! when relive was started (`nohup`) stays ignored, for the program too. SIGXFSZ is ignored at all times: a file that would
//! become too large is an error of the write, and no end of the session.
//!
//! Handlers are used and not `SIG_IGN`, which the program would inherit.

use std::fs;
use std::io;
use std::os::raw::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// Knows which process the signals are meant for.
#[derive(Clone, Debug)]
pub struct Relay {
    /// Process number of the program, or one of the states below.
    program: Arc<AtomicI32>,
}

/// There is no program yet.
const NONE: i32 = 0;
/// It is about to be started, and has a number in a moment.
const STARTS: i32 = -1;
/// It has ended, and so will relive. A signal that ended the program (Ctrl-C) may be noticed after its end.
const ENDED: i32 = -2;
/// How long a start is waited for: far above what the system takes.
const START_WITHIN: Duration = Duration::from_secs(10);

impl Relay {
    /// Takes over the five signals, as far as they were not ignored.
    ///
    /// # Errors
    /// What the system says.
    pub fn start() -> io::Result<Relay> {
        let ignored = ignored_from(&fs::read_to_string("/proc/self/status").unwrap_or_default());
        let all = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXFSZ];
        let mine = all.into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0);
        let mut signals = Signals::new(mine)?;
        let relay = Relay { program: Arc::new(AtomicI32::new(NONE)) };
        let program = Arc::clone(&relay.program);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                answer(signal, meant_for(&program));
            }
        })?;
        Ok(relay)
    }

    /// From now on the signals are for a program that has no number yet.
    pub fn program_starts(&self) {
        self.program.store(STARTS, Ordering::SeqCst);
    }

    /// It is the process `pid`.
    pub fn program_runs(&self, pid: u32) {
        self.program.store(i32::try_from(pid).unwrap_or(NONE), Ordering::SeqCst);
    }

    /// The program has ended.
    pub fn program_ended(&self) {
        self.program.store(ENDED, Ordering::SeqCst);
    }
}

/// The state of the program, once it is not in between.
fn meant_for(program: &AtomicI32) -> i32 {
    let until = Instant::now() + START_WITHIN;
    loop {
        match program.load(Ordering::SeqCst) {
            STARTS if Instant::now() < until => thread::sleep(Duration::from_millis(1)),
            STARTS => return NONE,
            state => return state,
        }
    }
}

fn answer(signal: c_int, program: i32) {
    if signal == SIGXFSZ || program == ENDED {
        return;
    }
    let Some(program) = Pid::from_raw(program) else {
        // Ends this process; if it cannot, the session ends by itself soon enough.
        let _ = emulate_default_handler(signal);
        return;
    };
    // A program that is gone by now needs no signal.
    let _ = match signal {
        SIGTERM => kill_process(program, Signal::TERM),
        SIGHUP => kill_process(program, Signal::HUP),
        _ => Ok(()), // SIGINT and SIGQUIT, ignored
    };
}

/// The mask of ignored signals in a `/proc/PID/status`; nothing if it is not there.
fn ignored_from(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_waited_for() {
        let program = Arc::new(AtomicI32::new(STARTS));
        let starting = Relay { program: Arc::clone(&program) };
        let waiting = thread::spawn(move || meant_for(&program));
        starting.program_runs(812);
        assert_eq!(waiting.join().expect("it does not panic"), 812);
        starting.program_ended();
        assert_eq!(meant_for(&starting.program), ENDED);
    }

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        assert_eq!(ignored_from("Name:\tx\nSigIgn:\t0000000000001006\nSigCgt:\t0\n"), 0x1006);
        assert_eq!(ignored_from("Name:\tx\n"), 0);
        assert_eq!(ignored_from("SigIgn:\tzz\n"), 0);
    }
}
