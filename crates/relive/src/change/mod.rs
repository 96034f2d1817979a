//! Stage 1, saved files to a `Change`: which build inputs were written, and which units must be rebuilt for them.

mod classify;
mod watch;

pub use classify::{Change, Inputs, classify};
pub use watch::{SavedFiles, Watcher};
