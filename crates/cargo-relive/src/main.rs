//! The executable: the part that the environment asks for, or else what the command line says.
#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;

use relive::compile::roles;

fn main() -> ExitCode {
    match roles::role() {
        Some(role) => roles::play(role),
        None => cargo_relive::commands::main(env::args_os()),
    }
}
