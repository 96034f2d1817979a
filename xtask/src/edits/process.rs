//! A program that answers each line of its stdin with a line on its stdout.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for the answers to what was asked at once.
const ANSWERS: Duration = Duration::from_secs(20);
/// Longest wait for the end after stdin was closed.
const END: Duration = Duration::from_secs(10);

/// A started process; it is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Process {
    pub(crate) fn start(mut command: Command) -> Result<Process, String> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|why| format!("cannot start {command:?}: {why}"))?;
        let (sender, answers) = mpsc::channel();
        let stdout = child.stdout.take();
        thread::spawn(move || {
            // Text that is no UTF-8 is an answer too, and a wrong one.
            let lines = stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).split(b'\n').map_while(Result::ok));
            let lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
            lines.map(|line| sender.send(line)).take_while(Result::is_ok).for_each(drop);
        });
        Ok(Process { stdin: child.stdin.take(), child, answers })
    }

    /// Asks all lines, and gives as many answers. `Err` says at which line there was none.
    pub(crate) fn ask(&mut self, lines: &[String]) -> Result<Vec<String>, String> {
        let stdin = self.stdin.as_mut().ok_or("it was ended")?;
        let text: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
        // A pipe holds 64 KiB; more would wait for answers that nobody takes. The thread takes them.
        let written = stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush());
        let until = Instant::now() + ANSWERS;
        let mut answers = Vec::with_capacity(lines.len());
        for line in lines {
            match self.answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(answer) if answer.contains("CORRUPT") => return Err(format!("the answer to `{line}` is {answer}")),
                Ok(answer) => answers.push(answer),
                Err(why) => return Err(format!("no answer to `{line}` ({why}; {})", self.state())),
            }
        }
        written.map(|()| answers).map_err(|why| format!("it does not read: {why}"))
    }

    /// One line, one answer.
    pub(crate) fn ask_one(&mut self, line: &str) -> Result<String, String> {
        self.ask(&[line.to_owned()]).map(|answers| answers.concat())
    }

    /// Closes stdin; the process has to end with exit code 0 then.
    pub(crate) fn end(&mut self) -> Result<(), String> {
        self.stdin = None;
        let until = Instant::now() + END;
        while Instant::now() < until {
            match self.ended() {
                Some(status) if status == "exit status: 0" => return Ok(()),
                Some(status) => return Err(format!("it ended badly: {status}")),
                None => thread::sleep(Duration::from_millis(2)),
            }
        }
        Err("it does not end when its stdin is closed".to_owned())
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| status.to_string())
    }

    fn state(&mut self) -> String {
        thread::sleep(Duration::from_millis(50)); // what has closed its stdout is about to end
        self.ended().unwrap_or_else(|| "it runs".to_owned())
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
