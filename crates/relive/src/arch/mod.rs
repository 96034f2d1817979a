//! Machine facts: relocation kinds, entry-jump and stub bytes, instruction relocation. Pure.
//!
//! `x86_64` and `aarch64` are twins: the same functions in the same order. Patching a program that runs is x86-64 alone so far
//! (`entry`).

pub mod aarch64;
pub mod entry;
pub mod reloc;
pub mod x86_64;

pub use entry::EntryPlan;
pub use reloc::RelocKind;

/// A machine that objects are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Machine {
    /// x86-64.
    X86_64,
    /// AArch64.
    Aarch64,
}
