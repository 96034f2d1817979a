//! `completions` and `man`: made from the flag definition, printed on stdout.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{fail, print};
use crate::exit::Exit;
use crate::flags::Flags;

/// Prints the completions of `shell`.
#[must_use]
pub fn completions(shell: Shell) -> Exit {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Flags::command(), "cargo-relive", &mut out);
    print(&out)
}

/// Prints the man page: the command, then each subcommand.
#[must_use]
pub fn man() -> Exit {
    let mut command = Flags::command();
    command.build();
    let mut out = Vec::new();
    let pages =
        std::iter::once(command.clone()).chain(command.get_subcommands().filter(|c| c.get_name() != "help").cloned());
    for page in pages {
        if let Err(why) = clap_mangen::Man::new(page).render(&mut out) {
            return fail(&relive::Error::Fatal(format!("no man page: {why}")));
        }
    }
    print(&out)
}
