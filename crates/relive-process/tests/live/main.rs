//! The crate against real processes: small C programs, stopped, written to, unwound and asked through the agent.

mod agent;
mod calls;
mod control;
mod guest;
mod states;
mod stop;
mod support;
