//! Unwind information of Mach-O images: written, read again, held against readers and a linker that are not ours, damaged.

mod build;
mod frames;
mod linked;
mod section;
