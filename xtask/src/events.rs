//! relive's event file, read while it grows.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

/// Pause between two looks.
const GLANCE: Duration = Duration::from_millis(2);

/// The lines of an event file that were not yet looked at.
pub(crate) struct Events {
    path: PathBuf,
    seen: usize,
}

impl Events {
    /// A file that may not be there yet. What a run before left is removed.
    pub(crate) fn at(path: PathBuf) -> Events {
        let _ = fs::remove_file(&path); // none is as good
        Events { path, seen: 0 }
    }

    /// Waits for the next event that `wanted` takes. `ended` says why none will come any more.
    pub(crate) fn wait<T>(
        &mut self,
        limit: Duration,
        mut ended: impl FnMut() -> Option<String>,
        mut wanted: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, String> {
        let until = Instant::now() + limit;
        loop {
            let end = ended(); // asked first, so that what was written before the end is still read
            let events = fs::read_to_string(&self.path).unwrap_or_default();
            for line in events.split_inclusive('\n').skip(self.seen).filter(|line| line.ends_with('\n')) {
                self.seen += 1;
                if let Some(found) = wanted(line.trim_end()) {
                    return Ok(found);
                }
            }
            if let Some(end) = end {
                return Err(end);
            }
            if Instant::now() > until {
                return Err(format!("no event came within {} s", limit.as_secs()));
            }
            thread::sleep(GLANCE);
        }
    }

    /// Waits until the program runs; gives its process number.
    pub(crate) fn started(&mut self, limit: Duration, ended: impl FnMut() -> Option<String>) -> Result<Pid, String> {
        let event =
            self.wait(limit, ended, |line| line.starts_with("{\"event\":\"started\"").then(|| line.to_owned()))?;
        let pid = event.split_once("\"pid\":").map_or("", |(_, rest)| rest);
        let pid = pid.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok());
        pid.map(Pid::from_raw).ok_or_else(|| format!("no process number in {event}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_once_and_whole() {
        let folder = std::env::temp_dir().join(format!("relive-xtask-events-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let mut events = Events::at(folder.join("events"));
        fs::write(folder.join("events"), "{\"event\":\"started\",\"pid\":12,\"build_ms\":3}\n{\"ev").expect("a file");
        assert_eq!(events.started(Duration::ZERO, || None), Ok(Pid::from_raw(12)));
        assert_eq!(events.wait(Duration::ZERO, || Some("over".to_owned()), |_| Some(())), Err("over".to_owned()));
        assert!(events.wait(Duration::ZERO, || None, |_| Some(())).is_err());
        fs::remove_dir_all(&folder).expect("removed");
    }
}
