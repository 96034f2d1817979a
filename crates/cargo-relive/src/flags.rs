//! The one definition of the command line: flags, help, man page and completions all come from it.
//!
//! It takes what the user typed and gives values; it looks at nothing else.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::events::Sink;

/// Edit a native program while it runs.
#[derive(Debug, Parser)]
#[command(name = "cargo-relive", bin_name = "cargo relive", version, subcommand_required = true)]
pub struct Flags {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What relive can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build and start a program, and patch it on every save
    Run(Box<Run>),
    /// Take the last edits back in the running program, without compiling anything
    Undo(Steps),
    /// Switch edits in again that were taken back
    Redo(Steps),
    /// Say what runs: generation, changed functions, old code that is still running, and whether all of it is in place
    Status(Status),
    /// Look at this machine and project for what will not work, or not as well as it could
    Doctor(Doctor),
    /// Say what an executable or shared library holds: segments, units, symbols
    Inspect(Inspect),
    /// Explain a refusal: what it is about, why, and what to do
    Explain {
        /// Id of the rule, such as `type-layout`
        refusal: String,
    },
    /// Make a patch for a program with the subsecond runtime, and print its jump table as JSON
    JumpTable(JumpTable),
    /// Show it at work: start a bundled example and edit it four times
    Demo,
    /// Print a shell's completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the man page
    Man,
}

/// Flags of `run`: cargo's own and ours.
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    cargo: Cargo,

    /// Append what happens to FILE (or to descriptor N: `fd:N`), one JSON object per line
    #[arg(long, value_name = "FILE|fd:N")]
    pub events: Option<Sink>,

    /// Start the program anew when an edit is refused
    #[arg(long)]
    pub restart_on_refusal: bool,

    /// After every switch, bring the executable on disk up to date as well, so that starting it runs the newest code
    #[arg(long)]
    pub update_binary: bool,

    /// Colours in relive's own text and in what it relays
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: When,

    /// Arguments for the program
    #[arg(value_name = "ARGS", trailing_var_arg = true)]
    pub program_args: Vec<OsString>,
}

/// Flags of `undo` and `redo`.
#[derive(Debug, Args)]
pub struct Steps {
    /// How many edits
    #[arg(value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,

    /// The session
    #[command(flatten)]
    pub session: Session,
}

/// Flags of `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    /// The session
    #[command(flatten)]
    pub session: Session,
}

/// Flags of `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Be the program that is examined
    #[arg(long, hide = true)]
    pub patient: bool,

    /// The project
    #[command(flatten)]
    pub session: Session,
}

/// Flags of `jump-table`.
#[derive(Debug, Args)]
pub struct JumpTable {
    /// The executable that runs; it must export `main` (`-rdynamic`)
    #[arg(value_name = "OLD-BINARY")]
    pub binary: PathBuf,

    /// Objects of the new code; libraries (.rlib, .a) supply what is missing
    #[arg(value_name = "OBJECT", required = true)]
    pub objects: Vec<PathBuf>,

    /// Where the patch is written
    #[arg(short = 'o', long, value_name = "FILE", default_value = "patch.so")]
    pub library: PathBuf,
}

/// Flags of `inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// An executable or shared library: ELF, Mach-O, or a universal file
    #[arg(value_name = "BINARY")]
    pub binary: PathBuf,

    /// Print one JSON document
    #[arg(long)]
    pub json: bool,

    /// Print all symbols as well
    #[arg(long)]
    pub symbols: bool,

    /// The machine whose slice of a universal file is meant
    #[arg(long, value_name = "MACHINE")]
    pub arch: Option<Arch>,
}

/// A machine that binaries are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arch {
    /// x86-64
    #[value(name = "x86-64", aliases = ["x86_64", "amd64"])]
    X86_64,
    /// 64-bit ARM
    #[value(name = "aarch64", alias = "arm64")]
    Aarch64,
}

/// Flags that say which session is asked; `run` was given the same.
#[derive(Debug, Default, Args)]
pub struct Session {
    /// Path to Cargo.toml
    #[arg(long, value_name = "PATH")]
    manifest_path: Option<PathBuf>,
    /// Directory for all generated artifacts
    #[arg(long, value_name = "DIRECTORY")]
    target_dir: Option<PathBuf>,
    /// Override a configuration value
    #[arg(long, value_name = "KEY=VALUE|PATH")]
    config: Vec<OsString>,
}

impl Session {
    /// The flags for cargo, in cargo's own spelling. Nothing is fetched to answer a question.
    #[must_use]
    pub fn cargo_args(&self) -> Vec<OsString> {
        let mut args = Vec::new();
        for (flag, value) in [("--manifest-path", &self.manifest_path), ("--target-dir", &self.target_dir)] {
            args.extend(value.iter().flat_map(|value| [OsString::from(flag), value.into()]));
        }
        args.extend(self.config.iter().flat_map(|value| [OsString::from("--config"), value.clone()]));
        args.push("--offline".into());
        args
    }
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// If stderr is a terminal and `NO_COLOR` is not set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The flags of `cargo run` that choose what is built.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Options of cargo run")]
struct Cargo {
    /// Path to Cargo.toml
    #[arg(long, value_name = "PATH")]
    manifest_path: Option<PathBuf>,
    /// Package with the target to run
    #[arg(short, long, value_name = "SPEC")]
    package: Option<String>,
    /// Name of the bin target to run
    #[arg(long, value_name = "NAME")]
    bin: Option<String>,
    /// Name of the example target to run
    #[arg(long, value_name = "NAME")]
    example: Option<String>,
    /// Space or comma separated list of features to activate
    #[arg(short = 'F', long, value_name = "FEATURES")]
    features: Vec<String>,
    /// Activate all available features
    #[arg(long)]
    all_features: bool,
    /// Do not activate the `default` feature
    #[arg(long)]
    no_default_features: bool,
    /// Build with the given profile
    #[arg(long, value_name = "PROFILE-NAME")]
    profile: Option<String>,
    /// Build in release mode, with optimizations
    #[arg(short, long)]
    release: bool,
    /// Build for the target triple
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
    /// Directory for all generated artifacts
    #[arg(long, value_name = "DIRECTORY")]
    target_dir: Option<PathBuf>,
    /// Override a configuration value
    #[arg(long, value_name = "KEY=VALUE|PATH")]
    config: Vec<OsString>,
    /// Number of parallel jobs
    #[arg(short, long, value_name = "N", allow_hyphen_values = true)]
    jobs: Option<String>,
    /// Assert that `Cargo.lock` will remain unchanged
    #[arg(long)]
    locked: bool,
    /// Run without accessing the network
    #[arg(long)]
    offline: bool,
    /// Equivalent to specifying both --locked and --offline
    #[arg(long)]
    frozen: bool,
}

impl Run {
    /// The flags for cargo, in cargo's own spelling.
    #[must_use]
    pub fn cargo_args(&self) -> Vec<OsString> {
        let cargo = &self.cargo;
        let mut args = Vec::new();
        let mut value = |flag: &str, value: Option<OsString>| {
            if let Some(value) = value {
                args.extend([OsString::from(flag), value]);
            }
        };
        value("--manifest-path", cargo.manifest_path.clone().map(Into::into));
        value("--package", cargo.package.clone().map(Into::into));
        value("--bin", cargo.bin.clone().map(Into::into));
        value("--example", cargo.example.clone().map(Into::into));
        for features in &cargo.features {
            value("--features", Some(features.into()));
        }
        value("--profile", cargo.profile.clone().map(Into::into));
        value("--target", cargo.target.clone().map(Into::into));
        value("--target-dir", cargo.target_dir.clone().map(Into::into));
        for config in &cargo.config {
            value("--config", Some(config.clone()));
        }
        value("--jobs", cargo.jobs.clone().map(Into::into));
        let switches = [
            ("--all-features", cargo.all_features),
            ("--no-default-features", cargo.no_default_features),
            ("--release", cargo.release),
            ("--locked", cargo.locked),
            ("--offline", cargo.offline),
            ("--frozen", cargo.frozen),
        ];
        args.extend(switches.iter().filter(|(_, on)| *on).map(|(flag, _)| OsString::from(flag)));
        args
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn run(args: &[&str]) -> Box<Run> {
        let line = ["cargo-relive", "run"].iter().chain(args);
        let command = Flags::try_parse_from(line).expect("a right command line").command;
        let Command::Run(run) = command else { panic!("not `run`: {command:?}") };
        run
    }

    #[test]
    fn the_definition_is_sound() {
        Flags::command().debug_assert();
    }

    #[test]
    fn every_flag_of_the_contract_reaches_cargo() {
        let given = "--manifest-path a/Cargo.toml -p pkg --bin b --example e -F x,y --features z --all-features \
                     --no-default-features --profile p -r --target t --target-dir d --config k=1 --config f.toml -j 2 \
                     --locked --offline --frozen";
        let args = run(&given.split_whitespace().collect::<Vec<_>>()).cargo_args();
        let args: Vec<_> = args.iter().map(|arg| arg.to_str().unwrap_or("?")).collect();
        let wanted = "--manifest-path a/Cargo.toml --package pkg --bin b --example e --features x,y --features z \
                      --profile p --target t --target-dir d --config k=1 --config f.toml --jobs 2 --all-features \
                      --no-default-features --release --locked --offline --frozen";
        assert_eq!(args.join(" "), wanted);
    }

    #[test]
    fn what_follows_the_dashes_is_the_programs() {
        let run = run(&["-r", "--", "--release", "-x", "--", "y"]);
        assert_eq!(run.cargo_args(), ["--release"]);
        assert_eq!(run.program_args, ["--release", "-x", "--", "y"]);
    }

    #[test]
    fn a_first_free_argument_starts_the_programs_as_with_cargo() {
        let run = run(&["--bin", "b", "serve", "--port", "80"]);
        assert_eq!(run.cargo_args(), ["--bin", "b"]);
        assert_eq!(run.program_args, ["serve", "--port", "80"]);
    }

    #[test]
    fn an_unknown_flag_is_a_usage_error() {
        let error = Flags::try_parse_from(["cargo-relive", "run", "--frobnicate"]).expect_err("no such flag");
        assert_eq!(error.exit_code(), 2);
    }
}
