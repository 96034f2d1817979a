//! The steps of `ci` and `full`, one line each, and what runs them.
//!
//! A step is a command with a budget of minutes; `timeout` ends it when the budget is used up. All steps run, whatever
//! became of the ones before; the table of times comes last.

use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// One line of a table.
pub(crate) struct Step {
    name: &'static str,
    minutes: u32,
    what: What,
}

enum What {
    /// A program and its arguments, run in the root.
    Command(&'static str),
    /// The same with `RUSTDOCFLAGS=-D warnings`.
    Docs(&'static str),
    /// The acceptance corpus beside the repository, with these arguments for its judge.
    Corpus(&'static str),
}

use What::{Command as Run, Corpus, Docs};

const fn step(name: &'static str, minutes: u32, what: What) -> Step {
    Step { name, minutes, what }
}

/// What has to pass before anything lands. The minutes add up to 40.
pub(crate) const CI: &[Step] = &[
    step("tidy", 1, Run("cargo xtask tidy")),
    step("format", 1, Run("cargo fmt --all --check")),
    step("lints", 3, Run("cargo clippy --locked --workspace --all-targets -- -D warnings")),
    step("documentation", 1, Docs("cargo doc --locked --workspace --no-deps")),
    step("tests", 13, Run("cargo test --locked --workspace")),
    step(
        "fuzz",
        5,
        // Four at a time on two processors: many of them wait for a socket.
        Run(concat!(
            "env RELIVE_FUZZ_SECONDS=30 cargo test --locked --no-fail-fast --workspace --test hostile* ",
            "-- --test-threads 4",
        )),
    ),
    step("release build", 4, Run("cargo build --locked --release")),
    step("demo", 1, Run("cargo run --locked --release --quiet -- demo")),
    step("installation", 5, Run("cargo test --locked --package cargo-relive --test install -- --ignored")),
    step("edits, a part", 4, Run("cargo xtask edits --count 100")),
    step(
        "corpus, a part",
        2,
        Corpus(concat!(
            "--jobs 2 --exact body-string-literal fn-added closure-body-edited struct-field-added panic-location ",
            "generic-std-new-method static-mutex-vec threads-worker-calls compile-error-then-fix dyn-method-edited",
        )),
    ),
];

/// Everything. What takes too long for `CI` gets its line here.
pub(crate) const FULL: &[Step] = &[
    step("ci", 40, Run("cargo xtask ci")),
    step("slow tests", 60, Run("cargo test --locked --release --workspace -- --ignored")),
    step("kill grid", 40, Run("cargo xtask kill-grid")),
    step("kill grid, file", 20, Run("cargo xtask kill-grid --update-binary")),
    step("edits", 110, Run("cargo xtask edits --count 2000 --seed 2")),
    step("endurance", 30, Run("cargo xtask endurance")),
    step("miniserve", 90, Run("cargo xtask miniserve --endurance 500")),
    step("mutants", 30, Run("cargo xtask mutants --all")),
    step(
        "fuzz",
        75,
        // An hour in all: two at a time, that is three times this in `hostile`, four times in `hostile_words`, twice in others.
        Run(concat!(
            "env RELIVE_FUZZ_SECONDS=400 cargo test --locked --no-fail-fast --workspace --test hostile* ",
            "-- --test-threads 2",
        )),
    ),
    step(
        "hostile input",
        30,
        Run("env RELIVE_FUZZ_ITERATIONS=1000000 cargo test --locked --package relive --test hostile"),
    ),
    step(
        "hostile objects",
        30,
        Run("env RELIVE_FUZZ_ITERATIONS=10000000 cargo test --locked --package relive --test hostile all_pairs"),
    ),
    step(
        "benches",
        25,
        Run(
            "cargo bench --locked --package relive --bench diff --bench link --bench snapshot --bench symbols --bench types",
        ),
    ),
    step("stop bench", 5, Run("cargo bench --locked --package relive-process --bench stop")),
    step("corpus", 240, Corpus("--jobs 2")),
];

/// Runs `steps` in `root` and prints what became of them.
pub(crate) fn run(root: &Path, steps: &[Step]) -> Result<(), String> {
    let mut table = format!("\n{:16} {:>9} {:>9}  result\n", "step", "seconds", "budget");
    let mut failed = Vec::new();
    for step in steps {
        println!("\n=== {} (at most {} min)", step.name, step.minutes);
        let start = Instant::now();
        let end = perform(root, step);
        let (seconds, budget) = (start.elapsed().as_secs_f64(), step.minutes * 60);
        let result = match &end {
            End::Passed => "ok",
            End::NotRun(why) | End::Failed(why) => why,
        };
        let _ = writeln!(table, "{:16} {seconds:>9.1} {budget:>9}  {result}", step.name);
        if matches!(end, End::Failed(_)) {
            failed.push(step.name);
        }
    }
    println!("{table}");
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
}

/// Writes the pages of docs/refusals.
pub(crate) fn write_docs(root: &Path) -> Result<(), String> {
    let mut command = Command::new("cargo");
    command.args(["test", "--quiet", "-p", "cargo-relive", "--test", "docs"]).env("BLESS", "1").current_dir(root);
    match finish(command) {
        End::Passed => Ok(()),
        End::NotRun(why) | End::Failed(why) => Err(why),
    }
}

/// How a step ended.
enum End {
    Passed,
    NotRun(String),
    Failed(String),
}

fn perform(root: &Path, step: &Step) -> End {
    let mut command = Command::new("timeout");
    command.arg("--kill-after=20").arg(format!("{}m", step.minutes)).current_dir(root);
    match step.what {
        Run(line) => command.args(line.split(' ')),
        Docs(line) => command.args(line.split(' ')).env("RUSTDOCFLAGS", "-D warnings"),
        Corpus(args) => {
            let judge = root.join("../shared/cases/judge.py");
            if !judge.exists() {
                return End::NotRun("did not run: there is no corpus beside the repository".to_owned());
            }
            let relive = target_dir(root).join("release/cargo-relive");
            command.arg("python3").arg(judge).args(args.split(' ')).env("RELIVE", relive)
        }
    };
    finish(command)
}

fn finish(mut command: Command) -> End {
    without_cargos_variables(&mut command);
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => End::Passed,
        Ok(status) if status.code() == Some(124) => End::Failed("FAILED: the budget is used up".to_owned()),
        Ok(status) => End::Failed(format!("FAILED: {status}")),
        Err(why) => End::Failed(format!("FAILED: cannot start {command:?}: {why}")),
    }
}

/// What cargo sets for a program that it runs is not meant for the programs that this one runs.
pub(crate) fn without_cargos_variables(command: &mut Command) {
    for (key, _) in env::vars_os() {
        let name = key.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "LD_LIBRARY_PATH"].iter().any(|start| name.starts_with(start)) {
            command.env_remove(&key);
        }
    }
}

pub(crate) fn target_dir(root: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budgets_of_ci_add_up_to_forty_minutes() {
        assert_eq!(CI.iter().map(|step| step.minutes).sum::<u32>(), 40);
    }

    #[test]
    fn a_step_that_fails_is_told_from_one_that_passes() {
        let steps = |line| perform(Path::new("."), &step("x", 1, Run(line)));
        assert!(matches!(steps("true"), End::Passed));
        assert!(matches!(steps("false"), End::Failed(_)));
        assert!(matches!(steps("no-such-program-at-all"), End::Failed(_)));
    }
}
