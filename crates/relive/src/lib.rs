//! The pipeline of relive: saved files in, a switched generation or the exact reason against it out.
//!
//! The `mod` lines below are in the order of the data flow; ARCHITECTURE.md is the map. No terminal, no flags and no
//! `unsafe` in here.
#![forbid(unsafe_code)]

pub mod arch;
pub mod binary;
pub mod change;
pub mod compile;
pub mod diff;
pub mod judge;
pub mod link;
pub mod load;
pub mod swap;
pub mod tell;

pub mod control;
pub mod doctor;
pub mod error;
pub mod jump_table;
pub mod session;
pub mod snapshots;

pub use error::Error;
