//! What a rule is, and the page of the manual that is made from it.

use std::path::PathBuf;

use super::{DeltaFacts, Facts, Item};

/// One rule of the judge, in words. `cargo relive explain` and docs/refusals/ are made from these.
#[derive(Debug)]
pub struct Rule {
    /// Its name in messages and events, in kebab-case; it never changes.
    pub id: &'static str,
    /// One line.
    pub title: &'static str,
    /// What is refused, or noted.
    pub what: &'static str,
    /// Why running on would not be sound.
    pub why: &'static str,
    /// An edit that meets the rule, and what is said about it.
    pub example: &'static str,
    /// What to do about it.
    pub fix: &'static str,
}

/// One finding about one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Id of the rule.
    pub rule: &'static str,
    /// The type, static, function or file concerned.
    pub item: String,
    /// One sentence, with names and sizes.
    pub message: String,
    /// What to do.
    pub help: String,
    /// Source file, if known.
    pub file: Option<PathBuf>,
    /// Line in it, from 1.
    pub line: Option<u32>,
}

/// The end of every refusal's help.
pub(super) const RESTART: &str =
    "To take the edit as it is, stop the program and start it again with `cargo relive run`.";

impl Rule {
    /// A refusal by this rule; the way to restart is added to `help`.
    pub(super) fn refuse(&self, item: &Item, message: String, help: &str) -> Reason {
        Reason { help: format!("{help} {RESTART}"), ..self.note(item, message, help) }
    }

    /// A note by this rule.
    pub(super) fn note(&self, item: &Item, message: String, help: &str) -> Reason {
        let Item { name, file, line } = item.clone();
        Reason { rule: self.id, item: name, message, help: help.to_string(), file, line }
    }
}

/// A rule and the function that applies it.
pub(super) struct Applied {
    pub(super) rule: &'static Rule,
    pub(super) check: Check,
}

/// How a rule looks for its findings.
pub(super) enum Check {
    /// Before linking, in the facts of the debug information and of the comparison.
    Early(fn(&Facts, &mut Vec<Reason>)),
    /// In what comparing and linking ran into; can also be asked after the judge has spoken.
    Late(fn(&DeltaFacts, &mut Vec<Reason>)),
    /// Not a refusal: something to know about an applied change.
    Note(fn(&Facts, &mut Vec<Reason>)),
}

/// The page of the manual for `rule`, in Markdown.
pub fn page(rule: &Rule) -> String {
    let Rule { id, title, what, why, example, fix } = rule;
    format!(
        "# {title}\n\nRule `{id}`. This page is made from the rule itself; `cargo relive explain {id}` prints the same.\n\n\
         ## What\n\n{what}\n\n## Why\n\n{why}\n\n## Example\n\n{example}\n\n## What to do\n\n{fix}\n"
    )
}
