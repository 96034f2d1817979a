//! What `/proc/PID/task/TID/status` says of a thread. Takes the text, gives the few fields this crate asks for.

use std::fs;
use std::io;

/// One thread's status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// The state letter: `Z` and `X` are dead, `D` cannot be stopped at the moment.
    pub(crate) state: char,
    /// The thread that traces it; 0 if none does.
    pub(crate) tracer: u32,
    /// Signals that are pending and will be delivered when it runs, one bit each, signal 1 in bit 0. Signals that the
    /// system then ignores are not among them.
    pub(crate) deliverable: u64,
    /// Signals that have no effect on the program: ignored, or neither caught nor of any default effect.
    pub(crate) ineffective: u64,
}

/// Signals that do nothing unless they are caught.
const IGNORED_BY_DEFAULT: u64 = bit(libc::SIGCHLD) | bit(libc::SIGURG) | bit(libc::SIGWINCH) | bit(libc::SIGCONT);

/// A signal's bit in a set.
pub(crate) const fn bit(signal: i32) -> u64 {
    if signal >= 1 && signal <= 64 { 1 << (signal - 1) } else { 0 }
}

impl Status {
    /// The status of thread `tid` of process `pid`.
    pub(crate) fn read(pid: u32, tid: u32) -> io::Result<Status> {
        Ok(parse(&fs::read_to_string(format!("/proc/{pid}/task/{tid}/status"))?))
    }

    /// Whether the thread has ended, even if its number is still taken.
    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// The short name of process or thread `id`; empty if it is gone.
pub(crate) fn name(id: u32) -> String {
    fs::read_to_string(format!("/proc/{id}/comm")).map(|name| name.trim_end().to_owned()).unwrap_or_default()
}

fn parse(text: &str) -> Status {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim).unwrap_or_default();
    let set = |key: &str| u64::from_str_radix(value(key), 16).unwrap_or_default();
    let ineffective = set("SigIgn:") | (IGNORED_BY_DEFAULT & !set("SigCgt:"));
    Status {
        state: value("State:").chars().next().unwrap_or_default(),
        tracer: value("TracerPid:").parse().unwrap_or_default(),
        deliverable: (set("SigPnd:") | set("ShdPnd:")) & !set("SigBlk:") & !ineffective,
        ineffective,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocked_and_ineffective_signals_are_not_deliverable() {
        // Pending: 1 (thread), 2, 10, 17 and 28 (process). Blocked: 2. Caught: 17. Ignored: 10.
        let text = "Name:\ta\nState:\tt (tracing stop)\nTracerPid:\t77\nSigPnd:\t0000000000000001\n\
                    ShdPnd:\t0000000008010202\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000000200\n\
                    SigCgt:\t0000000000010000\n";
        let status = parse(text);
        assert_eq!((status.state, status.tracer), ('t', 77));
        assert_eq!(status.deliverable, bit(1) | bit(17));
        assert_eq!(status.ineffective & bit(28), bit(28));
        assert_eq!(parse(""), Status { ineffective: IGNORED_BY_DEFAULT, state: '\0', ..Status::default() });
    }
}
