//! What happened, as values. The keys of the JSON log are documented in docs/guide/events.md; they stay.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Everything a session says.
#[derive(Clone, Debug)]
pub enum Event {
    /// A line of cargo's or rustc's own output, without its newline; may hold ANSI colours.
    Relayed(String),
    /// Something the user should know, in one sentence.
    Note(String),
    /// The program is about to be started. Not part of the log.
    Starting,
    /// The program was started; from here on signals are for it. Not part of the log.
    Spawned {
        /// Process number of the program.
        pid: u32,
    },
    /// The program runs and can be patched.
    Started {
        /// Process number of the program.
        pid: u32,
        /// Wall time from the start of cargo to the start of the program, in milliseconds.
        build_ms: f64,
    },
    /// The first build failed; nothing was started.
    BuildFailed {
        /// Why, in one line; cargo's own output was relayed.
        message: String,
    },
    /// Watched build inputs were written.
    Change {
        /// Number of the change, from 1.
        id: u64,
        /// The files, absolute.
        files: Vec<PathBuf>,
    },
    /// The one answer to a change.
    Patch(PatchReport),
    /// Switches were taken back, or made again, as another process asked.
    Turned {
        /// Whether back.
        back: bool,
        /// The number of what runs now: how many switches led to it.
        generation: u64,
        /// How it went; `id` is 0.
        report: PatchReport,
    },
    /// The executable on disk was brought up to date with what runs, or not.
    Executable {
        /// The executable.
        file: PathBuf,
        /// The number of what runs: how many switches led to it.
        generation: u64,
        /// How long it took, in milliseconds; nothing waited for it.
        ms: f64,
        /// Why it stays as it is.
        why_not: Option<String>,
    },
    /// The program ended.
    Exited {
        /// Exit code; 128 + n for signal n.
        code: i32,
        /// How many changes were live in it.
        live_edits: u64,
    },
}

/// How a change ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Switched in.
    Applied,
    /// Nothing differs from what runs.
    Unchanged,
    /// Not provably sound; the program was left alone.
    Refused,
    /// The sources do not compile.
    CompileError,
    /// A later save took over before the commit.
    Superseded,
    /// relive or the system failed; the program runs what it ran before.
    Failed,
}

/// The answer to one change.
#[derive(Clone, Debug)]
pub struct PatchReport {
    /// Number of the change.
    pub id: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Names of functions that were switched to new code, readable, sorted.
    pub changed: Vec<String>,
    /// Names of functions that are new.
    pub added: Vec<String>,
    /// Names of functions whose old code stays for whoever holds it.
    pub kept_old: Vec<String>,
    /// Changed functions that are on a stack and finish there with their old code.
    pub pending: Vec<Pending>,
    /// Why not (refused, compile-error, failed), or what a user should know about an applied change.
    pub reasons: Vec<Reason>,
    /// Where the time went.
    pub timings: Timings,
}

/// A changed function that still runs its old code somewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Readable name.
    pub function: String,
    /// Thread, as `name (tid)`.
    pub thread: String,
    /// Why it is still old.
    pub why: String,
}

/// One reason, laid out like a compiler error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Id of the rule, such as `type-layout`; `rustc` for compile errors.
    pub rule: String,
    /// The item concerned: a type, field, function or file.
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

/// Milliseconds per step. `detect` and `total` start when the change's last file event arrives; `compile` is the wall
/// time of rustc.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// File event to the start of the build.
    pub detect: f64,
    /// rustc.
    pub compile: f64,
    /// Reading objects, pairing and comparing.
    pub diff: f64,
    /// The rules.
    pub judge: f64,
    /// Planning, placing and relocating.
    pub link: f64,
    /// Writing the image and loading it in the process.
    pub load: f64,
    /// How long the program stood still.
    pub pause: f64,
    /// Everything.
    pub total: f64,
}
