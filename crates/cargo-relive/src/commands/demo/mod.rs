//! `demo`: a bundled program is started under relive and edited four times while it runs.
//!
//! It takes nothing and gives exit code 0 only if every edit went as it should, by the events and by what the program
//! printed. The program lives in a fresh temporary folder, which is removed; nothing else is written.

mod edits;
mod pond;

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};
use std::{fs, io};

use serde_json::Value;

use crate::exit::Exit;
use crate::terminal::text::number;
use crate::terminal::write_line;
use edits::{EDITS, Edit, Verdict};
use pond::Pond;

/// Longest wait for the first line of the program.
const START: Duration = Duration::from_secs(90);
/// Longest wait for the answer to a save.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest wait for a line, and for the end.
const LINE: Duration = Duration::from_secs(10);
/// Lines that show that the program runs on.
const SOME: usize = 5;

/// Runs the demo.
#[must_use]
pub fn run() -> Exit {
    let start = Instant::now();
    match show() {
        Ok(()) => {
            say(&format!("\nAll went as it should, in {:.0} s.", start.elapsed().as_secs_f64()));
            Exit::Done
        }
        Err(why) => {
            write_line(&format!("relive: error: the demo did not go as it should: {why}"));
            Exit::No
        }
    }
}

fn show() -> Result<(), String> {
    let mut pond = Pond::start().map_err(|why| format!("the program does not start: {why}"))?;
    say(&format!("A small program is built and started in {}.", pond.folder().display()));
    let mut last = pond.lines(START, SOME)?.pop().unwrap_or_default();
    say(&format!("\n  {last}"));
    for (number, edit) in EDITS.iter().enumerate() {
        say(&format!("\nEdit {} of {}: {}", number + 1, EDITS.len(), edit.title));
        last = make(&mut pond, edit, &last)?;
    }
    let applied = EDITS.iter().filter(|edit| edit.verdict == Verdict::Applied).count();
    finish(pond, applied)
}

/// Makes one edit and checks what becomes of it; the line that the program prints from now on.
fn make(pond: &mut Pond, edit: &Edit, before: &str) -> Result<String, String> {
    let source = fs::read_to_string(pond.source()).map_err(|why| why.to_string())?;
    let edited = edit.apply(&source)?;
    for (old, new) in edit.replacements {
        say(&marked('-', old));
        say(&marked('+', new));
    }
    let report = pond.save(&edited, ANSWER)?;
    match edit.verdict {
        Verdict::Applied => {
            expect(&report, "applied")?;
            let after = pond.line_with(edit.shows, LINE)?;
            say(&format!("  before: {before}\n  after:  {after}\n  applied: {}", summary(&report)));
            Ok(after)
        }
        Verdict::Refused => {
            expect(&report, "refused")?;
            let after = pond.lines(LINE, SOME)?.pop().unwrap_or_default();
            if after.contains(edit.shows) {
                return Err(format!("a refused edit shows: {after}"));
            }
            say(&format!("  before: {before}\n  after:  {after}\n  refused: {}", reasons(&report)));
            Ok(after)
        }
    }
}

fn finish(pond: Pond, applied: usize) -> Result<(), String> {
    let ticks = pond.ticks();
    let exited = pond.end(LINE)?;
    if exited["code"] != 0 || exited["live_edits"] != applied {
        return Err(format!("the end is not right: {exited}"));
    }
    say(&format!("\nIt ran for {ticks} ticks without a gap, from its one start to its end."));
    Ok(())
}

fn expect(report: &Value, outcome: &str) -> Result<(), String> {
    if report["outcome"] == outcome { Ok(()) } else { Err(format!("the edit was not {outcome}: {report}")) }
}

/// What changed and how long it took.
fn summary(report: &Value) -> String {
    let functions = &report["functions"];
    let times = &report["timings_ms"];
    format!(
        "{} functions changed and {} added in {} ms, {} ms of them rustc; the program stood still for {} ms",
        functions["changed"],
        functions["added"],
        ms(&times["total"]),
        ms(&times["compile"]),
        ms(&times["pause"])
    )
}

/// Milliseconds as they are told.
fn ms(value: &Value) -> String {
    value.as_f64().map_or_else(|| value.to_string(), number)
}

fn reasons(report: &Value) -> String {
    let reasons = report["reasons"].as_array().into_iter().flatten();
    let told = reasons.map(|reason| format!("{} ({})", text(&reason["message"]), text(&reason["rule"])));
    told.collect::<Vec<_>>().join("; ")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

/// `code` with `mark` in front of every line.
fn marked(mark: char, code: &str) -> String {
    let mut out = String::new();
    for line in code.trim_end().lines() {
        let _ = write!(out, "{}  {mark} {line}", if out.is_empty() { "" } else { "\n" });
    }
    out
}

/// The demo's own text goes to stdout. A reader that has had enough does not stop it.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(format!("{text}\n").as_bytes()).and_then(|()| out.flush());
}
