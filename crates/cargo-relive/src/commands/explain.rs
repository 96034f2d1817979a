//! `explain`: the page of one rule of the judge, on stdout. `cargo xtask docs` writes the same pages as files.

use relive::judge;

use super::print;
use crate::exit::Exit;
use crate::message::with_hint;
use crate::terminal::write_line;

/// Prints the page of the rule with the id `refusal`.
#[must_use]
pub fn run(refusal: &str) -> Exit {
    if let Some(rule) = judge::rule(refusal) {
        return print(judge::page(rule).as_bytes());
    }
    write_line(&format!("relive: error: there is no refusal `{refusal}`"));
    let known: Vec<_> = judge::rules().map(|rule| rule.id).collect();
    for line in with_hint(&format!("it is one of {}", known.join(", "))) {
        write_line(&line);
    }
    Exit::Usage
}
