//! Stage 7, a `Loaded` and a stopped process to a `Generation`: all entries redirected, or none.
//!
//! Every function that was ever patched has an entry in a table. Its old code begins with a jump to a stub, and the stub
//! jumps to wherever the *current* table says. There are two tables; a commit prepares the other one and then writes one
//! word, its address. Until that word is written every path leads to old code, behind it every path leads to new code: it
//! does not matter at which instruction relive is killed.

mod commit;
mod first_values;
mod tables;
mod writes;

pub use commit::{Attempt, Committed, Moved, Quiet, Switch, commit, held_now, threads_now};
pub use first_values::FirstValues;
pub use tables::Tables;
pub use writes::Write;
