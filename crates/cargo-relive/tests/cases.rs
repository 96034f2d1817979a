//! The cases: small programs under the real executable, edited, and judged by what they print and by the events.
//!
//! `tests/cases/accept/CLAIM` and `tests/cases/refuse/CLAIM` each give one test. A case is `Cargo.toml` and `src/` (the
//! program before), a folder per edit, and `case.toml` with these keys:
//!
//! | key | meaning |
//! | --- | --- |
//! | `title`, `why` | what is edited; what a naive tool gets wrong |
//! | `before_line` | part of a line that the program prints over and over before the first edit |
//! | `must_hold` | patterns that match somewhere in the output; `(?P<step>\d+)` in one grows by 1 from match to match |
//! | `must_not` | texts that are nowhere in the output |
//! | `every_line` | a pattern that every line matches |
//! | `step.dir` | folder with the files of the edit |
//! | `step.expect` | `applied` or `refused` |
//! | `step.after_line` | part of a line that shows the edit at work |
//! | `step.gone` | text that is in no line any more once the edit is at work |
//! | `step.rules` | the ids of the rules that refuse it, these and no others |
//! | `step.place` | the end of the file and the line, as `src/work.rs:3`, that one of the reasons names |
//!
//! An unknown key is a fault of the case. Programs end when their stdin is closed.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use regex::Regex;
use serde_json::Value;
use toml::Table;

use support::{Running, SOON, START, Scratch, copy};

/// Lines that show that the program runs on.
const SOME: usize = 5;

/// One `case.toml`.
struct Case {
    before_line: String,
    must_hold: Vec<Regex>,
    must_not: Vec<String>,
    every_line: Option<Regex>,
    steps: Vec<Step>,
}

/// One edit of a case.
struct Step {
    dir: String,
    expect: String,
    after_line: String,
    gone: Option<String>,
    rules: Vec<String>,
    place: Option<String>,
}

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases");
    let mut trials = Vec::new();
    for verdict in ["accept", "refuse"] {
        for folder in folders(&root.join(verdict)) {
            let claim = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let name = format!("{verdict}::{claim}");
            trials.push(Trial::test(name, move || judge(&folder, verdict, &claim).map_err(Into::into)));
        }
    }
    assert!(!trials.is_empty(), "there are no cases under `{}`", root.display());
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(2)); // each case is a compiler and two processes
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn folders(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).unwrap_or_else(|why| panic!("`{}`: {why}", parent.display()));
    let mut folders: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// Runs the case in `folder`.
fn judge(folder: &Path, verdict: &str, claim: &str) -> Result<(), String> {
    let case = Case::read(folder)?;
    if verdict == "refuse" && !case.steps.iter().any(|step| step.expect == "refused") {
        return Err("a case under `refuse` has a step that is refused".to_owned());
    }
    let scratch = Scratch::new(&format!("case-{claim}"));
    copy(folder, &scratch.0, &|name| name == "case.toml" || name.starts_with("after"));
    let mut running = Running::start(&scratch.0, &[]);
    running.wait_lines(&case.before_line, SOME, START)?;
    let mut line = case.before_line.clone();
    for (number, step) in case.steps.iter().enumerate() {
        save(&folder.join(&step.dir), &scratch, Path::new(""));
        let patch = running.wait_patch(number + 1, SOON)?;
        line = step.check(&mut running, &patch, line)?;
    }
    let status = running.finish();
    if !status.success() {
        return Err(format!("{status}\n{}", running.stderr()));
    }
    case.check(&running)
}

/// Writes the files under `from` over the program.
fn save(from: &Path, scratch: &Scratch, inside: &Path) {
    for entry in fs::read_dir(from).unwrap_or_else(|why| panic!("`{}`: {why}", from.display())).flatten() {
        let path = inside.join(entry.file_name());
        if entry.path().is_dir() {
            save(&entry.path(), scratch, &path);
        } else {
            scratch.write(&path.to_string_lossy(), fs::read(entry.path()).expect("a file of the case"));
        }
    }
}

impl Step {
    /// Whether `patch` is the right answer and the program shows it; the line it prints from now on.
    fn check(&self, running: &mut Running, patch: &Value, line: String) -> Result<String, String> {
        if patch["outcome"] != self.expect.as_str() {
            return Err(format!("{}: expected {}, got {patch}", self.dir, self.expect));
        }
        let mark = running.seen.len();
        if self.expect == "applied" {
            running.wait_line(&self.after_line, SOON)?;
            let mark = running.seen.len();
            running.wait_lines(&self.after_line, SOME, SOON)?;
            let gone = |line: &&String| self.gone.as_ref().is_some_and(|gone| line.contains(gone));
            return match running.seen[mark..].iter().find(gone) {
                Some(old) => Err(format!("{}: an old line after the edit was at work: {old}", self.dir)),
                None => Ok(self.after_line.clone()),
            };
        }
        running.wait_lines(&line, SOME, SOON)?;
        if let Some(new) = running.seen[mark..].iter().find(|line| line.contains(&self.after_line)) {
            return Err(format!("{}: refused, and yet it shows: {new}", self.dir));
        }
        let reasons = || patch["reasons"].as_array().into_iter().flatten();
        if let Some(place) = self.place.as_ref().filter(|place| !reasons().any(|reason| is_at(reason, place))) {
            return Err(format!("{}: no reason is at {place}: {patch}", self.dir));
        }
        let mut rules: Vec<_> = reasons().filter_map(|reason| reason["rule"].as_str()).map(str::to_owned).collect();
        rules.sort();
        rules.dedup();
        if rules == self.rules { Ok(line) } else { Err(format!("{}: refused by {rules:?}: {patch}", self.dir)) }
    }
}

/// Whether `reason` names a file and line that ends with `place`.
fn is_at(reason: &Value, place: &str) -> bool {
    let file = reason["file"].as_str().unwrap_or_default();
    format!("{file}:{}", reason["line"]).ends_with(&format!("/{place}"))
}

impl Case {
    /// Reads `case.toml` in `folder`.
    fn read(folder: &Path) -> Result<Case, String> {
        let text = fs::read_to_string(folder.join("case.toml")).map_err(|why| why.to_string())?;
        let mut table: Table = text.parse().map_err(|why: toml::de::Error| why.to_string())?;
        let steps = match table.remove("step") {
            Some(toml::Value::Array(steps)) => steps.into_iter().map(Step::read).collect::<Result<_, _>>()?,
            other => return Err(format!("`step` is no list of tables: {other:?}")),
        };
        let pattern = |text: String| Regex::new(&format!("(?m){text}")).map_err(|why| why.to_string());
        take(&mut table, "title")?;
        take(&mut table, "why")?;
        let case = Case {
            before_line: take(&mut table, "before_line")?,
            must_hold: list(&mut table, "must_hold")?.into_iter().map(pattern).collect::<Result<_, _>>()?,
            must_not: list(&mut table, "must_not")?,
            every_line: table
                .contains_key("every_line")
                .then(|| pattern(take(&mut table, "every_line")?))
                .transpose()?,
            steps,
        };
        if table.is_empty() { Ok(case) } else { Err(format!("unknown keys: {table:?}")) }
    }

    /// Checks the whole output.
    fn check(&self, running: &Running) -> Result<(), String> {
        let output = running.seen.join("\n");
        for pattern in &self.must_hold {
            holds(pattern, &output)?;
        }
        if let Some(text) = self.must_not.iter().find(|text| output.contains(*text)) {
            return Err(format!("`{text}` is in the output"));
        }
        let odd = |pattern: &Regex| running.seen.iter().find(|line| !pattern.is_match(line)).cloned();
        match self.every_line.as_ref().and_then(odd) {
            Some(line) => Err(format!("`every_line` does not match `{line}`")),
            None => Ok(()),
        }
    }
}

impl Step {
    fn read(value: toml::Value) -> Result<Step, String> {
        let toml::Value::Table(mut table) = value else { return Err(format!("a step is no table: {value:?}")) };
        let gone = table.contains_key("gone").then(|| take(&mut table, "gone")).transpose()?;
        let place = table.contains_key("place").then(|| take(&mut table, "place")).transpose()?;
        let mut rules = list(&mut table, "rules")?;
        rules.sort();
        let (dir, expect, after_line) =
            (take(&mut table, "dir")?, take(&mut table, "expect")?, take(&mut table, "after_line")?);
        let step = Step { dir, expect, after_line, gone, rules, place };
        match step.expect.as_str() {
            "applied" | "refused" if table.is_empty() => Ok(step),
            _ => Err(format!("`expect` is `{}`, unknown keys: {table:?}", step.expect)),
        }
    }
}

/// Whether `pattern` matches, with a `step` that grows by 1.
fn holds(pattern: &Regex, output: &str) -> Result<(), String> {
    let mut last: Option<u64> = None;
    let mut matches = 0;
    for found in pattern.captures_iter(output) {
        matches += 1;
        let Some(step) = found.name("step") else { continue };
        let step = step.as_str().parse().map_err(|why| format!("`{pattern}`: {why}"))?;
        if last.is_some_and(|last| step != last + 1) {
            return Err(format!("`{pattern}`: {step} comes after {last:?}"));
        }
        last = Some(step);
    }
    if matches > 0 { Ok(()) } else { Err(format!("`{pattern}` is nowhere in the output")) }
}

/// The text under `key`, taken out.
fn take(table: &mut Table, key: &str) -> Result<String, String> {
    match table.remove(key) {
        Some(toml::Value::String(text)) => Ok(text),
        other => Err(format!("`{key}` is no text: {other:?}")),
    }
}

/// The texts under `key`, taken out; none if it is not there.
fn list(table: &mut Table, key: &str) -> Result<Vec<String>, String> {
    let text = |value: toml::Value| {
        let text = value.as_str().map(str::to_owned);
        text.ok_or_else(|| format!("`{key}` has an element that is no text: {value:?}"))
    };
    match table.remove(key) {
        None => Ok(Vec::new()),
        Some(toml::Value::Array(texts)) => texts.into_iter().map(text).collect(),
        Some(other) => Err(format!("`{key}` is no list: {other:?}")),
    }
}
