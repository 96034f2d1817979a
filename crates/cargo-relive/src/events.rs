//! The event file: `Event` to one ASCII line of JSON, in one write.
//!
//! The keys are documented in docs/guide/events.md and stay; new ones may come. Relayed lines and notes are for people
//! and are not written here.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::str::FromStr;

use relive::tell::{Event, Outcome, PatchReport, Pending, Reason, Timings};
use serde_json::{Value, json};

/// Where `--events` leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// A file that is appended to.
    File(PathBuf),
    /// An open descriptor, inherited from whoever started relive.
    Descriptor(u32),
}

/// The open event file.
#[derive(Debug)]
pub struct Log {
    file: File,
}

impl FromStr for Sink {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Sink, Infallible> {
        let descriptor = text.strip_prefix("fd:").and_then(|number| number.parse().ok());
        Ok(descriptor.map_or_else(|| Sink::File(text.into()), Sink::Descriptor))
    }
}

impl Sink {
    /// The file to open. A descriptor is opened a second time by its name under `/proc`, which works for files, pipes
    /// and terminals, and not for sockets.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match self {
            Sink::File(path) => path.clone(),
            Sink::Descriptor(number) => PathBuf::from(format!("/proc/self/fd/{number}")),
        }
    }
}

impl Log {
    /// Opens `sink` for appending.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(sink: &Sink) -> io::Result<Log> {
        let create = matches!(sink, Sink::File(_));
        Ok(Log { file: OpenOptions::new().append(true).create(create).open(sink.path())? })
    }

    /// Appends `event`, in one write, unless it is for people only.
    ///
    /// # Errors
    /// What the system says.
    pub fn tell(&mut self, event: &Event) -> io::Result<()> {
        match line(event) {
            Some(line) => self.file.write_all(line.as_bytes()),
            None => Ok(()),
        }
    }
}

/// The line of `event`, newline included; `None` for what is not logged.
#[must_use]
pub fn line(event: &Event) -> Option<String> {
    let value = match event {
        Event::Relayed(_) | Event::Note(_) | Event::Starting | Event::Spawned { .. } => return None,
        Event::Started { pid, build_ms } => json!({"event": "started", "pid": pid, "build_ms": ms(*build_ms)}),
        Event::BuildFailed { message } => json!({"event": "build-failed", "message": message}),
        Event::Change { id, files } => {
            let files: Vec<_> = files.iter().map(|file| file.to_string_lossy()).collect();
            json!({"event": "change", "id": id, "files": files})
        }
        Event::Patch(report) => answer(json!({"event": "patch", "id": report.id}), report),
        Event::Turned { back, generation, report } => {
            let event = if *back { "undo" } else { "redo" };
            answer(json!({"event": event, "generation": generation}), report)
        }
        Event::Executable { file, generation, ms: took, why_not } => json!({
            "event": "executable",
            "generation": generation,
            "outcome": if why_not.is_none() { "updated" } else { "kept" },
            "file": file.to_string_lossy(),
            "reason": why_not,
            "ms": ms(*took),
        }),
        Event::Exited { code, live_edits } => json!({"event": "exited", "code": code, "live_edits": live_edits}),
    };
    let mut line = ascii(&value.to_string());
    line.push('\n');
    Some(line)
}

/// `keys`, and what a switch, whoever asked for it, came to.
fn answer(mut keys: Value, report: &PatchReport) -> Value {
    let more = json!({
        "outcome": outcome(report.outcome),
        "functions": {
            "changed": report.changed.len(),
            "added": report.added.len(),
            "kept_old": report.kept_old.len(),
            "changed_names": report.changed,
            "added_names": report.added,
            "kept_old_names": report.kept_old,
        },
        "pending": report.pending.iter().map(pending).collect::<Vec<_>>(),
        "reasons": report.reasons.iter().map(reason).collect::<Vec<_>>(),
        "timings_ms": timings(&report.timings),
    });
    if let (Value::Object(keys), Value::Object(more)) = (&mut keys, more) {
        keys.extend(more);
    }
    keys
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Applied => "applied",
        Outcome::Unchanged => "unchanged",
        Outcome::Refused => "refused",
        Outcome::CompileError => "compile-error",
        Outcome::Superseded => "superseded",
        Outcome::Failed => "failed",
    }
}

fn pending(pending: &Pending) -> Value {
    json!({"function": pending.function, "thread": pending.thread, "why": pending.why})
}

fn reason(reason: &Reason) -> Value {
    json!({
        "rule": reason.rule,
        "item": reason.item,
        "message": reason.message,
        "help": reason.help,
        "file": reason.file.as_ref().map(|file| file.to_string_lossy()),
        "line": reason.line,
    })
}

fn timings(timings: &Timings) -> Value {
    json!({
        "detect": ms(timings.detect),
        "compile": ms(timings.compile),
        "diff": ms(timings.diff),
        "judge": ms(timings.judge),
        "link": ms(timings.link),
        "load": ms(timings.load),
        "pause": ms(timings.pause),
        "total": ms(timings.total),
    })
}

/// Milliseconds to the microsecond; more digits are noise.
fn ms(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}

/// The same JSON with everything beyond ASCII as `\u` escapes. Such characters are only found inside strings.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + 1);
    for character in json.chars() {
        if character.is_ascii() {
            out.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(event: &Event) -> String {
        line(event).expect("a logged event")
    }

    fn report() -> PatchReport {
        PatchReport {
            id: 3,
            outcome: Outcome::Applied,
            changed: vec!["world::tick".into(), "world::grow".into()],
            added: vec!["world::shrink".into()],
            kept_old: vec![],
            pending: vec![Pending {
                function: "main".into(),
                thread: "main (41)".into(),
                why: "it is on the stack".into(),
            }],
            reasons: vec![Reason { rule: "static-initialiser".into(), message: "kept".into(), ..Reason::default() }],
            timings: Timings { detect: 0.25, compile: 151.0, pause: 0.500_04, total: 164.0, ..Timings::default() },
        }
    }

    #[test]
    fn started_and_exited() {
        assert_eq!(
            said(&Event::Started { pid: 7, build_ms: 1234.5 }),
            "{\"event\":\"started\",\"pid\":7,\"build_ms\":1234.5}\n"
        );
        assert_eq!(
            said(&Event::Exited { code: 143, live_edits: 2 }),
            "{\"event\":\"exited\",\"code\":143,\"live_edits\":2}\n"
        );
    }

    #[test]
    fn what_is_not_ascii_is_escaped() {
        assert_eq!(
            said(&Event::BuildFailed { message: "\u{fc}ber \"x\"\n\u{1f980}".into() }),
            "{\"event\":\"build-failed\",\"message\":\"\\u00fcber \\\"x\\\"\\n\\ud83e\\udd80\"}\n"
        );
        assert_eq!(
            said(&Event::Change { id: 1, files: vec!["/p/src/\u{e9}.rs".into()] }),
            "{\"event\":\"change\",\"id\":1,\"files\":[\"/p/src/\\u00e9.rs\"]}\n"
        );
    }

    #[test]
    fn a_patch_has_counts_names_and_times() {
        let wanted = concat!(
            r#"{"event":"patch","id":3,"outcome":"applied","functions":{"changed":2,"added":1,"kept_old":0,"#,
            r#""changed_names":["world::tick","world::grow"],"added_names":["world::shrink"],"kept_old_names":[]},"#,
            r#""pending":[{"function":"main","thread":"main (41)","why":"it is on the stack"}],"#,
            r#""reasons":[{"rule":"static-initialiser","item":"","message":"kept","help":"","file":null,"line":null}],"#,
            r#""timings_ms":{"detect":0.25,"compile":151.0,"diff":0.0,"judge":0.0,"link":0.0,"load":0.0,"pause":0.5,"#,
            r#""total":164.0}}"#,
            "\n"
        );
        assert_eq!(said(&Event::Patch(report())), wanted);
    }

    #[test]
    fn a_step_back_has_the_generation_and_the_keys_of_a_patch() {
        let line = said(&Event::Turned { back: true, generation: 4, report: report() });
        let start = r#"{"event":"undo","generation":4,"outcome":"applied","functions":{"changed":2,"#;
        assert!(line.starts_with(start) && line.contains("\"timings_ms\""), "{line}");
    }

    #[test]
    fn an_executable_is_updated_or_kept() {
        let said = |why_not: Option<&str>| {
            let why_not = why_not.map(str::to_owned);
            said(&Event::Executable { file: "/t/app".into(), generation: 2, ms: 31.25, why_not })
        };
        let start = r#"{"event":"executable","generation":2,"outcome":"#;
        assert_eq!(said(None), format!("{start}\"updated\",\"file\":\"/t/app\",\"reason\":null,\"ms\":31.25}}\n"));
        assert_eq!(said(Some("x")), format!("{start}\"kept\",\"file\":\"/t/app\",\"reason\":\"x\",\"ms\":31.25}}\n"));
    }

    #[test]
    fn every_outcome_has_its_word() {
        let all = [
            (Outcome::Applied, "applied"),
            (Outcome::Unchanged, "unchanged"),
            (Outcome::Refused, "refused"),
            (Outcome::CompileError, "compile-error"),
            (Outcome::Superseded, "superseded"),
            (Outcome::Failed, "failed"),
        ];
        for (outcome, word) in all {
            let line = said(&Event::Patch(PatchReport { outcome, ..report() }));
            assert!(line.contains(&format!("\"outcome\":\"{word}\"")), "{line}");
        }
    }

    #[test]
    fn what_is_for_people_is_not_logged() {
        assert_eq!(line(&Event::Relayed("   Compiling x".into())), None);
        assert_eq!(line(&Event::Note("x".into())), None);
    }

    #[test]
    fn a_descriptor_is_told_from_a_file() {
        let sink = |text: &str| text.parse::<Sink>().expect("never fails");
        assert_eq!(sink("fd:7"), Sink::Descriptor(7));
        assert_eq!(sink("fd:7").path(), PathBuf::from("/proc/self/fd/7"));
        assert_eq!(sink("fd:x"), Sink::File("fd:x".into()));
        assert_eq!(sink("a/b.jsonl"), Sink::File("a/b.jsonl".into()));
    }
}
