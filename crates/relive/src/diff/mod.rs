//! Stage 3, old build and new build to a `Delta`: each function same, changed, added or removed, and why.
//!
//! What runs is described by [`Running`]: the objects of the last committed build and where their items live. A new build
//! is compared with it, never with the first build, so the hundredth patch is as small as the first.

mod compare;
mod delta;
pub mod pair;
pub mod print;
pub mod reach;
pub mod running;
mod side;
pub mod threads;
pub mod users;
mod walk;

pub use compare::compare;
pub use delta::{ChangedFunction, Delta, Fate, LocationMove, StaticChange};
pub use reach::{Libraries, Problem, Reach};
pub use running::{Live, LiveFunction, NewObject, ObjectKey, Running};
pub use side::is_gathered;
pub use threads::{NoThreadRoom, ThreadRoom};
pub use users::users;
pub(crate) use walk::has_list;
pub use walk::reach;
