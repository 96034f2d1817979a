//! rustc's messages: takes the lines of its stderr, gives what it rendered and the first error. Lines that are no JSON
//! (a crash of rustc, a linker's text) are kept as they are.

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
pub(crate) struct Diagnostics {
    pub(crate) rendered: Vec<String>,
    first: Option<FirstError>,
}

#[derive(Deserialize)]
struct Message {
    message: String,
    level: String,
    rendered: Option<String>,
    #[serde(default)]
    spans: Vec<Span>,
}

#[derive(Deserialize)]
struct Span {
    file_name: PathBuf,
    line_start: u32,
    is_primary: bool,
}

impl Diagnostics {
    /// Takes one line of stderr; relative file names are below `cwd`.
    pub(crate) fn line(&mut self, line: &str, cwd: &Path) {
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
        if self.first.is_none() && message.level.starts_with("error") {
            let place = message.spans.iter().find(|span| span.is_primary);
            self.first = Some(FirstError {
                message: message.message,
                file: place.map(|span| cwd.join(&span.file_name)),
                line: place.map(|span| span.line_start),
            });
        }
    }

    /// The first error; `ended` tells how rustc ended, for when it said nothing.
    pub(crate) fn first(&self, ended: &str) -> FirstError {
        let silent = || FirstError {
            message: self.rendered.first().cloned().unwrap_or_else(|| format!("rustc ended with {ended}")),
            file: None,
            line: None,
        };
        self.first.clone().unwrap_or_else(silent)
    }
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
        let first = FirstError { message: "mismatched".into(), file: Some("/w/src/b.rs".into()), line: Some(7) };
        assert_eq!(said.first("exit status: 1"), first);
        assert_eq!(Diagnostics::default().first("signal: 9").message, "rustc ended with signal: 9");
    }
}
