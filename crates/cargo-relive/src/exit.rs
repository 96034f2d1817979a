//! The exit codes, as documented in docs/guide/exit-codes.md.

use std::process::ExitCode;

/// How relive ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A command other than `run` did what it was asked.
    Done,
    /// A command other than `run` answers no: an unknown refusal, a demo that did not go as it should.
    No,
    /// The command line is wrong.
    Usage,
    /// The first build failed.
    BuildFailed,
    /// relive's own failure.
    Own,
    /// The program ended, with this code or 128 + n for signal n.
    Program(i32),
}

impl Exit {
    /// The number that a shell sees.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::No => 1,
            Exit::Usage => 2,
            Exit::BuildFailed => 101,
            Exit::Own => 125,
            // What the system itself does with a code that is wider than eight bits.
            Exit::Program(code) => (code & 0xff) as u8,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_list_is_this_one() {
        let page = include_str!("../../../docs/guide/exit-codes.md");
        for exit in [Exit::No, Exit::Usage, Exit::BuildFailed, Exit::Own] {
            assert!(page.contains(&format!("| {} |", exit.code())), "{exit:?} is not documented");
        }
    }

    #[test]
    fn a_program_code_is_cut_to_eight_bits_as_the_system_does() {
        assert_eq!(Exit::Program(0).code(), 0);
        assert_eq!(Exit::Program(143).code(), 143);
        assert_eq!(Exit::Program(-1).code(), 255);
        assert_eq!(Exit::Program(256 + 7).code(), 7);
    }
}
