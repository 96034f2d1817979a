//! The agent: a shared object preloaded into the program that relive edits. x86-64 Linux with glibc.
//!
//! Takes what relive left in the environment ([`relive_wire::agent`]) and, on a thread of its own, requests over the
//! inherited listening socket; gives opened arenas, the control block near the executable, a reserve in every thread
//! for the thread-locals of patches (`threads`), and a `dl_iterate_phdr` that announces every place an image can be at
//! (`objects`). Without relive's environment keys it does nothing at all.
//!
//! It decides nothing and leaves no trace: the environment is restored before `main`, the thread takes no signals, and
//! it has a file table of its own, so that the program can close every descriptor it knows, fork and exec without ever
//! meeting one of ours. Nothing in here unwinds: a panic would be an abort (`panic = "abort"` and `extern "C"` edges).
//!
//! What it cannot hide is that the process has one more thread.
#![deny(unsafe_code)]

mod forks;
mod inbox;
mod near;
mod objects;
mod start;
#[expect(unsafe_code, reason = "the one place of unsafe code in this crate")]
mod sys;
mod threads;
