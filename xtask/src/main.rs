//! Automation: `cargo xtask TASK`. The tasks are one table; the steps of `ci` and `full` are two more, in `steps`.
//!
//! It starts other programs and reads the tree; it writes nothing but what a task says it writes.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a task's result is its output")]

mod edits;
mod endurance;
mod events;
mod files;
mod kill_grid;
mod miniserve;
mod mutants;
mod patch;
mod steps;
mod tidy;
mod usage;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A task: its name, what it is for, and what it does with the words behind its name. `Err` is what to print.
type Task = (&'static str, &'static str, fn(&Path, &[String]) -> Result<(), String>);

const TASKS: [Task; 9] = [
    ("ci", "what has to pass before anything lands; 40 minutes at most", |root, _| steps::run(root, steps::CI)),
    ("docs", "write docs/refusals from the rules of the judge", |root, _| steps::write_docs(root)),
    (
        "edits",
        "edit real crates at random while they run; [--seed S] [--count N] [--only BATCH.STEP] [--strict]",
        edits::run,
    ),
    ("endurance", "ten thousand switches of one program; [--switches N]", endurance::run),
    ("full", "everything, however long it takes", |root, _| steps::run(root, steps::FULL)),
    (
        "kill-grid",
        "kill relive at every system call of a switch; [--from N] [--step K] [--max M] [--update-binary]",
        kill_grid::run,
    ),
    ("miniserve", "edit miniserve while requests go on; [--strict] [--no-first-build] [--endurance N]", miniserve::run),
    ("mutants", "whether a test notices when a rule of the judge is wrong; [--all] [FILE..]", mutants::run),
    ("tidy", "the fences: allowed edges, where `unsafe` may be, what files must say", |root, _| tidy::run(root)),
];

/// The tasks that take words.
const TAKE_WORDS: [&str; 5] = ["edits", "endurance", "kill-grid", "miniserve", "mutants"];

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let (name, rest) = words.split_first().map_or(("", &words[..]), |(name, rest)| (name.as_str(), rest));
    let task = TASKS.iter().find(|task| task.0 == name && (rest.is_empty() || TAKE_WORDS.contains(&name)));
    let Some((_, _, task)) = task else {
        println!("cargo xtask TASK, where TASK is one of");
        for (name, what, _) in TASKS {
            println!("  {name:9} {what}");
        }
        return ExitCode::from(2);
    };
    match task(&root(), rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the workspace, beside this crate.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or_else(|| here.to_owned(), Path::to_owned)
}
