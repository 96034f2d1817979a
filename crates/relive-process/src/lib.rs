//! Controls a running process from outside: starts it, talks to its agent, reads and writes its memory, stops all its
//! threads and lets them go on as if nothing had happened. x86-64 Linux; of it [`control`] also macOS.
//!
//! Takes process numbers, paths and addresses; gives values and guards. It knows nothing of images, patches or files of
//! a build, and decides nothing: what to write and when is its caller's business. A process that was stopped always
//! goes on, also when the caller returns early, panics or is killed.
#![deny(unsafe_code)]

#[cfg(target_os = "linux")]
pub mod agent;
pub mod control;
#[cfg(target_os = "linux")]
pub mod launch;
#[cfg(target_os = "linux")]
pub mod maps;
#[cfg(target_os = "linux")]
pub mod memory;
#[cfg(target_os = "linux")]
pub mod socket;
#[cfg(target_os = "linux")]
pub mod stop;
#[cfg(target_os = "linux")]
pub mod unwind;

mod error;
#[cfg(target_os = "linux")]
mod file;
mod protection;
mod spec;
#[cfg(target_os = "linux")]
mod status;
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the unsafe code for Linux")]
mod sys;

pub use error::Error;
#[cfg(target_os = "linux")]
pub use file::{FileId, MappedFile, end_when_shortened};
pub use protection::Protection;
pub use relive_wire::LiveAddr;
pub use spec::{Addresses, LaunchSpec};

/// What an operation on a process gives.
pub type Result<T> = std::result::Result<T, Error>;
