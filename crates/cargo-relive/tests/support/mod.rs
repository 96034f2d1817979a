//! A program under the real executable: its lines, relive's own text, and the events. Used by several test programs.
#![allow(dead_code, reason = "each test program uses its part of it")]
#![allow(unreachable_pub, reason = "a module of several test programs")]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{env, fs};

use serde_json::Value;

/// The executable under test.
pub const RELIVE: &str = env!("CARGO_BIN_EXE_cargo-relive");
/// Longest wait for a build and a start.
pub const START: Duration = Duration::from_secs(120);
/// Longest wait for anything else.
pub const SOON: Duration = Duration::from_secs(30);
/// How long one look for a line lasts.
const GLANCE: Duration = Duration::from_millis(20);

/// A fresh folder of a test, removed at the end.
pub struct Scratch(pub PathBuf);

/// relive and the program under it. When it is dropped, stdin closes, and the process is ended if it does not end.
pub struct Running {
    pub child: Child,
    pub stdin: Option<ChildStdin>,
    pub seen: Vec<String>,
    lines: Receiver<String>,
    stderr: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    events: PathBuf,
}

impl Scratch {
    /// A folder named for `test`.
    pub fn new(test: &str) -> Scratch {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path); // left by a process of the same number
        fs::create_dir_all(&path).expect("a folder for the test");
        Scratch(path)
    }

    /// Writes `text` to `path` inside, in one rename.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder for the file");
        let scratch = path.with_extension("saving~");
        fs::write(&scratch, text).expect("a file of the test");
        fs::rename(&scratch, path).expect("a file of the test");
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `program`, to be run in `folder` with a target directory of its own and without what cargo gives to tests.
pub fn command(program: impl AsRef<OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    for (key, _) in env::vars_os() {
        let name = key.to_string_lossy();
        let cargos = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_TARGET_", "LD_LIBRARY_PATH", "RUSTFLAGS"];
        if cargos.iter().any(|start| name.starts_with(start)) {
            command.env_remove(&key);
        }
    }
    command.env("CARGO_TARGET_DIR", folder.join("target")).current_dir(folder);
    command
}

impl Running {
    /// Starts `relive run FLAGS --events ..` in `folder`.
    pub fn start(folder: &Path, flags: &[&str]) -> Running {
        let mut relive = command(RELIVE, folder);
        relive.args(["run", "--events", "events.jsonl"]).args(flags);
        Running::spawn(relive, folder.join("events.jsonl"))
    }

    /// Starts `relive`, whose events go to the file `events`.
    pub fn spawn(mut relive: Command, events: PathBuf) -> Running {
        relive.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = relive.spawn().expect("relive starts");
        let lines = lines_of(child.stdout.take().expect("a pipe"));
        let stderr = Arc::new(Mutex::new(String::new()));
        let reader = gather(child.stderr.take().expect("a pipe"), Arc::clone(&stderr));
        Running { stdin: child.stdin.take(), child, seen: Vec::new(), lines, stderr, reader: Some(reader), events }
    }

    /// Waits for a line of the program that has `text` in it, from now on.
    pub fn wait_line(&mut self, text: &str, wait: Duration) -> Result<String, String> {
        self.wait(wait, |running| running.seen.last().filter(|line| line.contains(text)).cloned())
            .map_err(|why| format!("no line with `{text}`: {why}"))
    }

    /// Waits until `count` more lines with `text` in them have come.
    pub fn wait_lines(&mut self, text: &str, count: usize, wait: Duration) -> Result<(), String> {
        (0..count).try_for_each(|_| self.wait_line(text, wait).map(drop))
    }

    /// Waits until the program is said to be started; gives its process number.
    pub fn wait_started(&mut self, wait: Duration) -> Result<String, String> {
        self.wait(wait, |running| {
            let started = running.events().into_iter().find(|event| event["event"] == "started");
            started.map(|event| event["pid"].to_string())
        })
    }

    /// Waits for the `count`th answer to a change; those that a later save took over do not count.
    pub fn wait_patch(&mut self, count: usize, wait: Duration) -> Result<Value, String> {
        self.wait(wait, |running| {
            let patches = running.events().into_iter().filter(|event| event["event"] == "patch");
            patches.filter(|event| event["outcome"] != "superseded").nth(count - 1)
        })
        .map_err(|why| format!("no answer to the save: {why}"))
    }

    /// Waits for the `count`th event of a kind.
    pub fn wait_event(&mut self, kind: &str, count: usize, wait: Duration) -> Result<Value, String> {
        self.wait(wait, |running| running.events().into_iter().filter(|event| event["event"] == kind).nth(count - 1))
            .map_err(|why| format!("no event `{kind}` number {count}: {why}"))
    }

    /// Waits until relive's own text has `text` in it.
    pub fn wait_stderr(&mut self, text: &str, wait: Duration) -> Result<(), String> {
        self.wait(wait, |running| running.stderr().contains(text).then_some(()))
            .map_err(|why| format!("nothing with `{text}` on stderr: {why}"))
    }

    /// Looks until `done` gives something. A look follows every line of the program.
    fn wait<T>(&mut self, wait: Duration, done: impl Fn(&Running) -> Option<T>) -> Result<T, String> {
        let end = Instant::now() + wait;
        while Instant::now() < end {
            match self.lines.recv_timeout(GLANCE) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let last = done(self);
                    return last.ok_or_else(|| format!("stdout ended\n{}", self.stderr()));
                }
            }
            if let Some(found) = done(self) {
                return Ok(found);
            }
        }
        Err(format!("not within {} s\n{}", wait.as_secs(), self.stderr()))
    }

    /// The events so far.
    pub fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.events).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().expect("no reader panics").clone()
    }

    /// Closes stdin and waits for the end.
    pub fn finish(&mut self) -> ExitStatus {
        drop(self.stdin.take());
        self.wait_end()
    }

    /// Reads to the end and gives how relive ended.
    pub fn wait_end(&mut self) -> ExitStatus {
        let end = Instant::now() + SOON;
        loop {
            match self.lines.recv_timeout(SOON) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end\n{}", self.stderr()),
            }
            assert!(Instant::now() < end, "it does not end\n{}", self.stderr());
        }
        let status = self.child.wait().expect("relive can be waited for");
        if let Some(reader) = self.reader.take() {
            reader.join().expect("no reader panics");
        }
        status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let end = Instant::now() + Duration::from_secs(5);
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() > end {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
            thread::sleep(GLANCE);
        }
    }
}

/// Copies `from` to `to`, without what `skip` names at any depth.
pub fn copy(from: &Path, to: &Path, skip: &dyn Fn(&str) -> bool) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder to copy").flatten() {
        let name = entry.file_name();
        if skip(&name.to_string_lossy()) {
            continue;
        }
        let (from, to) = (entry.path(), to.join(&name));
        if from.is_dir() {
            copy(&from, &to, skip);
        } else {
            fs::copy(&from, &to).expect("a file to copy");
        }
    }
}

fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
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

fn gather(pipe: impl Read + Send + 'static, text: Arc<Mutex<String>>) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut text = text.lock().expect("no reader panics");
            text.push_str(&line);
            text.push('\n');
        }
    })
}

/// Writes `text` to the program's stdin.
pub fn type_in(running: &mut Running, text: &str) {
    let stdin = running.stdin.as_mut().expect("stdin is open");
    stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).expect("the program reads");
}
