//! The bundled program under relive: its folder, its lines, and the events about it.
//!
//! Everything ends when the value is dropped: stdin is closed, which ends the program, and the folder is removed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};
use std::{env, fs, io, process, thread};

use serde_json::Value;

use super::edits::{EDITED, PROGRAM};

/// How long to wait for a line before the events are looked at again.
const GLANCE: Duration = Duration::from_millis(20);

/// The running program.
pub(super) struct Pond {
    folder: Folder,
    relive: Child,
    lines: Receiver<String>,
    ticks: u64,
}

/// A fresh folder that goes away.
struct Folder(PathBuf);

impl Pond {
    /// Writes the program to a fresh folder and starts it under this very executable.
    pub(super) fn start() -> io::Result<Pond> {
        let folder = Folder::fresh()?;
        for (path, text) in PROGRAM {
            let path = folder.0.join(path);
            fs::create_dir_all(path.parent().unwrap_or(&folder.0))?;
            fs::write(path, text)?;
        }
        let mut command = Command::new(env::current_exe()?);
        command.args(["run", "--manifest-path"]).arg(folder.0.join("Cargo.toml"));
        command.arg("--events").arg(folder.events()).current_dir(&folder.0);
        command.env("CARGO_TARGET_DIR", folder.0.join("target"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut relive = command.spawn()?;
        let lines = relive.stdout.take().map(read_lines).unwrap_or_else(|| mpsc::channel().1);
        Ok(Pond { folder, relive, lines, ticks: 0 })
    }

    /// Where the program is.
    pub(super) fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// The file that is edited.
    pub(super) fn source(&self) -> PathBuf {
        self.folder.0.join(EDITED)
    }

    /// How many ticks the program has printed, none of them missing.
    pub(super) fn ticks(&self) -> u64 {
        self.ticks
    }

    /// The next `count` lines.
    pub(super) fn lines(&mut self, wait: Duration, count: usize) -> Result<Vec<String>, String> {
        let end = Instant::now() + wait;
        let mut lines = Vec::new();
        while lines.len() < count {
            lines.extend(self.line(end.saturating_duration_since(Instant::now()))?);
            if Instant::now() >= end && lines.len() < count {
                return Err(format!("the program printed no line for {} s", wait.as_secs()));
            }
        }
        Ok(lines)
    }

    /// The next line that has `text` in it.
    pub(super) fn line_with(&mut self, text: &str, wait: Duration) -> Result<String, String> {
        let end = Instant::now() + wait;
        let mut last = String::new();
        while Instant::now() < end {
            if let Some(line) = self.line(GLANCE)? {
                if line.contains(text) {
                    return Ok(line);
                }
                last = line;
            }
        }
        Err(format!("`{text}` does not show; the last line is `{last}`"))
    }

    /// Saves `source` over the edited file, as editors do, and waits for the answer.
    pub(super) fn save(&mut self, source: &str, wait: Duration) -> Result<Value, String> {
        let answers = self.answers().len();
        let scratch = self.folder.0.join(format!("{EDITED}.saving"));
        fs::write(&scratch, source)
            .and_then(|()| fs::rename(&scratch, self.source()))
            .map_err(|why| why.to_string())?;
        let end = Instant::now() + wait;
        while Instant::now() < end {
            self.line(GLANCE)?;
            if let Some(answer) = self.answers().into_iter().nth(answers) {
                return Ok(answer);
            }
        }
        Err(format!("no answer to the save within {} s", wait.as_secs()))
    }

    /// Closes stdin and waits for the end; the last event.
    pub(super) fn end(mut self, wait: Duration) -> Result<Value, String> {
        drop(self.relive.stdin.take());
        let end = Instant::now() + wait;
        while Instant::now() < end {
            match self.relive.try_wait() {
                Ok(None) => drop(self.lines.recv_timeout(GLANCE)),
                Ok(Some(_)) => return self.events().pop().ok_or_else(|| "no events were written".to_owned()),
                Err(why) => return Err(why.to_string()),
            }
        }
        Err("the program does not end".to_owned())
    }

    /// The next line, if one comes in time. Ticks that are missing or repeated are an error.
    fn line(&mut self, wait: Duration) -> Result<Option<String>, String> {
        match self.lines.recv_timeout(wait) {
            Ok(line) => {
                let tick = tick(&line).ok_or_else(|| format!("not a line of the program: `{line}`"))?;
                if tick != self.ticks + 1 {
                    return Err(format!("after tick {} came `{line}`: the state is lost", self.ticks));
                }
                self.ticks = tick;
                Ok(Some(line))
            }
            Err(mpsc::RecvTimeoutError::Timeout) => Ok(None),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err("the program ended early".to_owned()),
        }
    }

    /// The answers to changes so far, without those that a later save took over.
    fn answers(&self) -> Vec<Value> {
        let answers = self.events().into_iter().filter(|event| event["event"] == "patch");
        answers.filter(|event| event["outcome"] != "superseded").collect()
    }

    fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.events()).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

impl Drop for Pond {
    fn drop(&mut self) {
        drop(self.relive.stdin.take());
        let end = Instant::now() + Duration::from_secs(5);
        while let Ok(None) = self.relive.try_wait() {
            if Instant::now() >= end {
                let _ = self.relive.kill(); // the program itself ends with its stdin
                let _ = self.relive.wait();
                return;
            }
            thread::sleep(GLANCE);
        }
    }
}

impl Folder {
    fn fresh() -> io::Result<Folder> {
        let mut number = 0;
        loop {
            let path = env::temp_dir().join(format!("relive-demo-{}-{number}", process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Folder(path)),
                Err(why) if why.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(why) => return Err(why),
            }
        }
    }

    fn events(&self) -> PathBuf {
        self.0.join("events.jsonl")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // it is in the system's temporary folder
    }
}

/// Lines of `pipe` as they come, until it ends.
fn read_lines(pipe: impl io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// The number after `tick`.
fn tick(line: &str) -> Option<u64> {
    line.strip_prefix("tick")?.split('|').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_read() {
        assert_eq!(tick("tick   7 | calm | x"), Some(7));
        assert_eq!(tick("tock   7 | calm"), None);
    }

    #[test]
    fn a_folder_is_fresh_and_goes_away() {
        let (one, two) = (Folder::fresh().expect("a folder"), Folder::fresh().expect("another"));
        assert_ne!(one.0, two.0);
        let path = one.0.clone();
        assert!(path.is_dir());
        drop(one);
        assert!(!path.exists());
    }
}
