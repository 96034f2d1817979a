//! Machine facts: relocation kinds, entry-jump and stub bytes, instruction relocation. Pure.
//!
//! One machine so far; a second becomes the twin file of `x86_64` with the same functions in the same order.

pub mod entry;
pub mod x86_64;

pub use entry::EntryPlan;
pub use x86_64::RelocKind;
