//! Stage 8, any of the above to an `Event`: what terminal, log and tests read.
//!
//! The session emits one stream of typed events; the terminal, the JSON log and the tests are its readers and read
//! nothing else.

pub mod event;

pub use event::{Event, Outcome, PatchReport, Pending, Reason, Timings};
