//! rustc's messages: takes the lines of its stderr, gives what it rendered, the first error, and the files that it speaks
//! of: a build that fails writes no list of its sources, and one of them, or one that is missing, has to be saved next.
//! Lines that are no JSON (a crash of rustc, a linker's text) are kept as they are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The first error of a failed compilation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstError {
    /// rustc's message without place and notes.
    pub message: String,
    /// The file, absolute, if the message has a place.
    pub file: Option<PathBuf>,
    /// Line in it, from 1.
    pub line: Option<u32>,
}

/// What rustc said so far.
#[derive(Debug, Default)]
pub struct Diagnostics {
    /// What the user is to read, in the order in which it came.
    pub rendered: Vec<String>,
    /// Files that errors speak of, absolute, whether they exist or not.
    pub files: BTreeSet<PathBuf>,
    /// All lines as they came.
    pub raw: Vec<u8>,
    first: Option<FirstError>,
}

#[derive(Deserialize)]
struct Message {
    message: String,
    level: String,
    rendered: Option<String>,
    #[serde(default)]
    spans: Vec<Span>,
    #[serde(default)]
    children: Vec<Child>,
}

#[derive(Deserialize)]
struct Child {
    message: String,
}

#[derive(Deserialize)]
struct Span {
    file_name: PathBuf,
    line_start: u32,
    is_primary: bool,
}

impl Diagnostics {
    /// Takes one line of stderr; relative file names are below `cwd`.
    pub fn line(&mut self, line: &str, cwd: &Path) {
        self.raw.extend(line.bytes().chain([b'\n']));
        if line.is_empty() {
            return;
        }
        let Ok(message) = serde_json::from_str::<Message>(line) else {
            // Other kinds of JSON messages (artifacts, future incompatibilities) are not for the user.
            if !line.starts_with('{') {
                self.rendered.push(line.to_owned());
            }
            return;
        };
        self.rendered.extend(message.rendered);
        // "error" and "error: internal compiler error".
        if !message.level.starts_with("error") {
            return;
        }
        self.files.extend(message.spans.iter().map(|span| cwd.join(&span.file_name)));
        let texts = [&message.message].into_iter().chain(message.children.iter().map(|child| &child.message));
        self.files.extend(texts.flat_map(|text| quoted_files(text)).map(|file| cwd.join(file)));
        if self.first.is_none() {
            let place = message.spans.iter().find(|span| span.is_primary);
            self.first = Some(FirstError {
                message: message.message,
                file: place.map(|span| cwd.join(&span.file_name)),
                line: place.map(|span| span.line_start),
            });
        }
    }

    /// The first error; `ended` tells how rustc ended, for when it said nothing.
    #[must_use]
    pub fn first(&self, ended: &str) -> FirstError {
        let silent = || FirstError {
            message: self.rendered.first().cloned().unwrap_or_else(|| format!("rustc ended with {ended}")),
            file: None,
            line: None,
        };
        self.first.clone().unwrap_or_else(silent)
    }
}

/// The file that a line of rustc announces as written.
#[must_use]
pub fn announced(line: &[u8]) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Announced {
        artifact: PathBuf,
    }
    // Most lines are long diagnostics; the key is at the front of what is looked for.
    let start = line.get(..64).unwrap_or(line);
    let likely = start.windows(10).any(|window| window == b"\"artifact\"");
    likely.then(|| serde_json::from_slice::<Announced>(line).ok()).flatten().map(|announced| announced.artifact)
}

/// The files that rendered `lines` of cargo's output speak of, relative to a folder that is not told.
#[must_use]
pub fn files_in_text(lines: &[String]) -> BTreeSet<PathBuf> {
    let plain = lines.iter().map(|line| without_colours(line));
    let of = |line: String| {
        let place = line.split_once("--> ").and_then(|(_, place)| place.split(':').next().map(PathBuf::from));
        quoted_files(&line).into_iter().chain(place).collect::<Vec<_>>()
    };
    plain.flat_map(of).collect()
}

/// What is in quotes and looks like a file's name: `file "src/work.rs"`, `couldn't read` and a name in backquotes.
fn quoted_files(text: &str) -> Vec<PathBuf> {
    let parts = text.split(['"', '`']);
    let file = |part: &&str| part.contains(['/', '.']) && !part.contains([' ', '\n', ':', '(', '<']);
    parts.filter(file).map(PathBuf::from).collect()
}

fn without_colours(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    parts.filter_map(|part| part.split_once('m')).for_each(|(_, text)| plain.push_str(text));
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_is_found_behind_warnings() {
        let mut said = Diagnostics::default();
        let cwd = Path::new("/w");
        said.line(r#"{"$message_type":"artifact","artifact":"/t/x.d","emit":"dep-info"}"#, cwd);
        said.line(
            r#"{"$message_type":"diagnostic","message":"unused","level":"warning","spans":[],"rendered":"w"}"#,
            cwd,
        );
        said.line(r#"{"message":"mismatched","level":"error","rendered":"e","spans":[{"file_name":"src/a.rs","line_start":3,"is_primary":false},{"file_name":"src/b.rs","line_start":7,"is_primary":true}]}"#, cwd);
        said.line("thread 'rustc' panicked", cwd);
        assert_eq!(said.rendered, ["w", "e", "thread 'rustc' panicked"]);
        assert_eq!(said.files, ["/w/src/a.rs", "/w/src/b.rs"].map(PathBuf::from).into());
        let first = FirstError { message: "mismatched".into(), file: Some("/w/src/b.rs".into()), line: Some(7) };
        assert_eq!(said.first("exit status: 1"), first);
        assert_eq!(Diagnostics::default().first("signal: 9").message, "rustc ended with signal: 9");
    }

    #[test]
    fn files_that_are_missing_are_found_in_the_text() {
        let mut said = Diagnostics::default();
        let module = r#"{"message":"file not found for module `work`","level":"error","spans":[],"children":[
            {"message":"to create the module `work`, create file \"src/work.rs\" or \"src/work/mod.rs\""}]}"#;
        said.line(&module.replace('\n', ""), Path::new("/w"));
        said.line(r#"{"message":"couldn't read `src/../a.txt`: No such file","level":"error"}"#, Path::new("/w"));
        let files = ["/w/src/../a.txt", "/w/src/work.rs", "/w/src/work/mod.rs"].map(PathBuf::from);
        assert_eq!(said.files, files.into());
        let text =
            ["\u{1b}[94m--> \u{1b}[0msrc/main.rs:3:4", "error: couldn't read `a.txt`: no", "   Compiling x v0.1"];
        let found = files_in_text(&text.map(str::to_owned));
        assert_eq!(found, ["a.txt", "src/main.rs"].map(PathBuf::from).into());
    }
}
