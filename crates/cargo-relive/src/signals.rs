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

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// Knows which process the signals are meant for.
#[derive(Clone, Debug)]
pub struct Relay {
    /// Process number of the program, 0 while there is none.
    program: Arc<AtomicI32>,
}

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
        let relay = Relay { program: Arc::new(AtomicI32::new(0)) };
        let program = Arc::clone(&relay.program);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                answer(signal, program.load(Ordering::SeqCst));
            }
        })?;
        Ok(relay)
    }

    /// From now on the signals are for the process `pid`.
    pub fn program_runs(&self, pid: u32) {
        self.program.store(i32::try_from(pid).unwrap_or(0), Ordering::SeqCst);
    }

    /// The program has ended.
    pub fn program_ended(&self) {
        self.program.store(0, Ordering::SeqCst);
    }
}

fn answer(signal: c_int, program: i32) {
    if signal == SIGXFSZ {
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
    fn the_mask_of_ignored_signals_is_read() {
        assert_eq!(ignored_from("Name:\tx\nSigIgn:\t0000000000001006\nSigCgt:\t0\n"), 0x1006);
        assert_eq!(ignored_from("Name:\tx\n"), 0);
        assert_eq!(ignored_from("SigIgn:\tzz\n"), 0);
    }
}
