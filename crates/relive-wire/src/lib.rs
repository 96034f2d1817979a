//! What both sides of the fence must agree on: addresses of the running program, the layout of the memory near
//! its executable, the reserve in every thread, and the agent protocol.
//!
//! Takes nothing, gives plain `Copy` types. `no_std` and without dependencies, because it is compiled into the agent,
//! which lives in somebody else's process.
#![no_std]
#![forbid(unsafe_code)]

pub mod addr;
pub mod agent;
pub mod near;
pub mod reserve;

pub use addr::LiveAddr;
pub use near::NearLayout;
