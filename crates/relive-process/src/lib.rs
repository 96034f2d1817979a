//! Controls a running process from outside: starts it, talks to its agent, reads and writes its memory, stops all its
//! threads and lets them go on as if nothing had happened. x86-64 Linux.
//!
//! Takes process numbers, paths and addresses; gives values and guards. It knows nothing of images, patches or files of
//! a build, and decides nothing: what to write and when is its caller's business. A process that was stopped always
//! goes on, also when the caller returns early, panics or is killed.
#![deny(unsafe_code)]

pub mod agent;
pub mod launch;
pub mod maps;
pub mod memory;
pub mod socket;
pub mod stop;
pub mod unwind;

mod error;
mod file;
mod status;
#[expect(unsafe_code, reason = "the one place of unsafe code in this crate")]
mod sys;

pub use error::Error;
pub use file::{FileId, MappedFile, end_when_shortened};
pub use relive_wire::LiveAddr;

/// What an operation on a process gives.
pub type Result<T> = std::result::Result<T, Error>;
