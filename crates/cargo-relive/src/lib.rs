//! The shell around the pipeline: flags, terminal, event file, signals and exit codes.
//!
//! It takes a command line, gives an exit code, and holds every dependency that has to do with a terminal or with
//! flags. It decides nothing about patches: it starts a session and reads its events.
#![forbid(unsafe_code)]

pub mod commands;
pub mod events;
pub mod exit;
pub mod flags;
pub mod message;
pub mod signals;
pub mod terminal;

/// The agent, a shared object that is loaded into the program.
pub static AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/relive-agent.so"));
