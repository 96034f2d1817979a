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
    /// The process that it is a thread of.
    pub(crate) group: u32,
    /// How many seccomp filters it has; of a kernel that does not say (before 5.9), 1 for any number.
    pub(crate) filters: u32,
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

/// That `id` traces, in words.
pub(crate) fn tracer(id: u32) -> String {
    format!("a debugger (pid {id}, `{}`) is attached", name(id))
}

fn parse(text: &str) -> Status {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim).unwrap_or_default();
    Status {
        state: value("State:").chars().next().unwrap_or_default(),
        tracer: value("TracerPid:").parse().unwrap_or_default(),
        group: value("Tgid:").parse().unwrap_or_default(),
        filters: value("Seccomp_filters:")
            .parse()
            .unwrap_or_else(|_| u32::from(!matches!(value("Seccomp:"), "" | "0"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_and_tracer_are_read_and_may_be_missing() {
        let status = parse("Name:\ta\nState:\tt (tracing stop)\nTracerPid:\t77\n");
        assert_eq!((status.state, status.tracer, status.is_dead()), ('t', 77, false));
        assert!(parse("State:\tZ (zombie)\n").is_dead());
        assert_eq!(parse(""), Status { state: '\0', ..Status::default() });
        assert_eq!(parse("Seccomp:\t2\nSeccomp_filters:\t3\n").filters, 3);
        assert_eq!(["0", "2"].map(|mode| parse(&format!("Seccomp:\t{mode}\n")).filters), [0, 1]);
    }
}
