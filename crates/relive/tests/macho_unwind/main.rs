//! Unwind information of Mach-O images: written, read again, held against readers and a linker that are not ours, damaged.

#[path = "../common/sysroot.rs"]
mod sysroot;

mod build;
mod data;
mod frames;
mod linked;
mod section;
