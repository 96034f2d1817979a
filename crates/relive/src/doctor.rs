//! What of this machine and project will not work, or not as well as it could, found out before a session needs it.
//!
//! Nothing is guessed that can be tried: a patient, which is relive's own executable, is started with the agent, is asked to
//! open an arena from where a session would have it, is stopped, written to, and let go.

mod limits;
mod patient;
mod project;

use std::ffi::OsString;
use std::path::PathBuf;

/// What is examined.
#[derive(Clone, Debug)]
pub struct Examination<'a> {
    /// cargo's executable.
    pub cargo: PathBuf,
    /// Where the user stands.
    pub cwd: PathBuf,
    /// The user's flags for cargo.
    pub cargo_args: Vec<OsString>,
    /// The agent's bytes.
    pub agent: &'a [u8],
    /// An executable that can be the patient, and the arguments with which it waits to be killed.
    pub patient: (PathBuf, Vec<OsString>),
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about, in a word or two.
    pub subject: &'static str,
    /// How it is.
    pub state: State,
    /// What was found, in a sentence without a full stop.
    pub what: String,
    /// What to do about it; empty if nothing.
    pub help: String,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// As it should be.
    Good,
    /// It works, with what is said missing.
    Limited,
    /// relive cannot work like this.
    Bad,
}

impl Finding {
    fn good(subject: &'static str, what: impl Into<String>) -> Finding {
        Finding { subject, state: State::Good, what: what.into(), help: String::new() }
    }

    fn limited(subject: &'static str, what: impl Into<String>, help: impl Into<String>) -> Finding {
        Finding { subject, state: State::Limited, what: what.into(), help: help.into() }
    }

    fn bad(subject: &'static str, what: impl Into<String>, help: impl Into<String>) -> Finding {
        Finding { subject, state: State::Bad, what: what.into(), help: help.into() }
    }
}

/// Looks at everything, in the order in which a session would meet it.
#[must_use]
pub fn examine(examination: &Examination<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let relive_dir = project::look(examination, &mut findings);
    limits::look(&mut findings);
    if let Some(relive_dir) = relive_dir {
        limits::look_at_folder(&relive_dir, &mut findings);
        patient::look(examination, &relive_dir, &mut findings);
    }
    findings
}
