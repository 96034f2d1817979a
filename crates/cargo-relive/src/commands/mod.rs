//! The commands, one file each.
//!
//! Takes the command line, gives the exit code.

pub mod demo;
pub mod doctor;
pub mod explain;
pub mod generate;
pub mod inspect;
pub mod jump_table;
pub mod run;
pub mod session;

use std::env;
use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::exit::Exit;
use crate::flags::{Command, Flags};

/// Does what `args` say; the first of them is the executable.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let flags = match Flags::try_parse_from(as_ours(args)) {
        Ok(flags) => flags,
        Err(answer) => {
            // Help and version are answers as well; nobody can be told that they cannot be printed.
            let _ = answer.print();
            return if answer.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    let exit = match flags.command {
        Command::Run(flags) => run::run(&flags),
        Command::Undo(flags) => session::undo(&flags),
        Command::Redo(flags) => session::redo(&flags),
        Command::Status(flags) => session::status(&flags),
        Command::Doctor(flags) => doctor::run(&flags),
        Command::Inspect(flags) => inspect::run(&flags),
        Command::Explain { refusal } => explain::run(&refusal),
        Command::JumpTable(flags) => jump_table::run(&flags),
        Command::Demo => demo::run(),
        Command::Completions { shell } => generate::completions(shell),
        Command::Man => generate::man(),
    };
    exit.into()
}

/// The arguments without the `relive` that cargo puts in for its subcommands.
fn as_ours(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    if args.get(1).is_some_and(|word| word == "relive") {
        args.remove(1);
    }
    args
}

/// Where the user stands.
fn cwd() -> Result<PathBuf, relive::Error> {
    env::current_dir().map_err(|why| relive::Error::file(".", "find the current directory", why))
}

/// cargo's executable: the one that runs relive, if one does.
fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// Writes `data` to stdout. A reader that has had enough is no failure.
fn print(data: &[u8]) -> Exit {
    stream(|out| out.write_all(data))
}

/// Has `write` write to stdout, for what is too large to be put together first.
fn stream(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Exit {
    let mut out = BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Ok(()) => Exit::Done,
        Err(why) if why.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
        Err(why) => fail(&relive::Error::file("stdout", "write", why)),
    }
}

/// Tells `error` on stderr.
fn fail(error: &relive::Error) -> Exit {
    for line in crate::message::lines(error) {
        crate::terminal::write_line(&line);
    }
    Exit::Own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_the_same() {
        let args = |words: &[&str]| as_ours(words.iter().map(OsString::from));
        assert_eq!(args(&["cargo-relive", "relive", "run"]), args(&["cargo-relive", "run"]));
        assert_eq!(args(&["cargo-relive", "run", "relive"]), ["cargo-relive", "run", "relive"]);
    }
}
