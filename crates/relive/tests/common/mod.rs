//! What the tests on hostile input share: real files, what is done to them, and who watches the outcome.
#![allow(dead_code, reason = "each of the tests uses its part")]

pub(crate) mod attack;
pub(crate) mod build;
pub(crate) mod drive;
pub(crate) mod macho;
pub(crate) mod mutate;
pub(crate) mod peer;
pub(crate) mod tables;
