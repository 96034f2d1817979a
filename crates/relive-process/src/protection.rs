//! What a piece of memory allows. A plain value, printed as the kernel's list of mappings does.

use std::fmt;

/// What a mapping allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Protection {
    /// Can be read.
    pub read: bool,
    /// Can be written.
    pub write: bool,
    /// Can be executed.
    pub execute: bool,
    /// Writes reach other processes or the file.
    pub shared: bool,
}

impl fmt::Display for Protection {
    /// Four letters: `r-xp`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |is: bool, letter| if is { letter } else { "-" };
        f.write_str(letter(self.read, "r"))?;
        f.write_str(letter(self.write, "w"))?;
        f.write_str(letter(self.execute, "x"))?;
        f.write_str(if self.shared { "s" } else { "p" })
    }
}
