//! What to start: a plain value, the same on every system.

use std::ffi::OsString;
use std::path::PathBuf;

/// What to start.
#[derive(Debug, Clone, Default)]
pub struct LaunchSpec {
    /// The executable.
    pub program: PathBuf,
    /// Its name for itself, if not the path.
    pub arg0: Option<OsString>,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment; nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory; relive's own if absent.
    pub cwd: Option<PathBuf>,
    /// Where the system puts it.
    pub addresses: Addresses,
}

/// Where the system puts a program, its libraries, stack and heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Addresses {
    /// Wherever it likes, as every program.
    #[default]
    Random,
    /// At the same addresses with every start. The programs that it starts inherit that.
    Fixed,
}
