//! What a file says: sections, symbols, relocations, type layouts, signatures. Pure, and every input is hostile.

pub mod address;
pub mod anchor;
pub mod archive;
pub mod bytes;
pub mod executable;
pub mod frames;
pub mod names;
pub mod object;
pub mod opaque;
pub mod snapshot;
pub mod types;
