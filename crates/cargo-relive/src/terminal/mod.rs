//! A reader of events: what a person sees on stderr.
//!
//! Takes events, gives whole lines, each in one write. It holds no state of the session; `text` makes the lines and
//! `style` the colours.

pub mod style;
pub mod text;

use std::env;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use relive::tell::Event;

use crate::flags::When;
use style::Style;
use text::Page;

/// Stderr, with the way to write on it.
#[derive(Debug)]
pub struct Terminal {
    page: Page,
}

impl Terminal {
    /// A terminal that shows paths as seen from `cwd`.
    #[must_use]
    pub fn new(style: Style, cwd: PathBuf) -> Terminal {
        Terminal { page: Page::new(style, cwd) }
    }

    /// Shows `event`.
    pub fn tell(&self, event: &Event) {
        for line in self.page.lines(event) {
            write_line(&line);
        }
    }
}

/// Whether stderr gets colours.
#[must_use]
pub fn style(when: When) -> Style {
    let colour = match when {
        When::Always => true,
        When::Never => false,
        When::Auto => {
            let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
            io::stderr().is_terminal() && !unwanted && !dumb
        }
    };
    Style { colour }
}

/// Writes one line to stderr in one write. The session goes on when nobody reads it.
pub fn write_line(line: &str) {
    let mut line = guarded(line);
    line.push('\n');
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// The line as it may stand on stderr: what looks like a panic of the program must be one.
fn guarded(line: &str) -> String {
    let bare = style::plain(line);
    if bare.starts_with("thread '") { format!("| {line}") } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_ours_looks_like_a_panic_of_the_program() {
        assert_eq!(guarded("thread 'rustc' panicked at x"), "| thread 'rustc' panicked at x");
        assert!(guarded("\u{1b}[1mthread 'rustc' panicked").starts_with("| "));
        assert_eq!(guarded("a thread 'x'"), "a thread 'x'");
    }

    #[test]
    fn colours_can_be_forced() {
        assert!(style(When::Always).colour);
        assert!(!style(When::Never).colour);
    }
}
