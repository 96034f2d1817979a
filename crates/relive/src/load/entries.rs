//! The entries that are to be redirected for the first time, as they are in the process.
//!
//! Takes the planned functions and reads each old body; gives a plan per entry, and by name those that allow none. Bytes
//! that are not those of the executable (a breakpoint, another tool's hook) are told apart.

use relive_process::memory::Memory;

use crate::Error;
use crate::arch::EntryPlan;
use crate::arch::x86_64::ENTRY_JUMP_LEN;
use crate::diff::reach::Reach;
use crate::diff::running::{Body, Running};

/// What the entries allow.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    /// One for each body that is redirected for the first time.
    pub plans: Vec<EntryPlan>,
    /// Linkage names of functions whose entry has no room, and why.
    pub without_room: Vec<(String, String)>,
    /// Linkage names of functions whose code in memory is not the executable's.
    pub altered: Vec<String>,
}

/// Reads the old entries of all functions that `reach` replaces for the first time.
///
/// # Errors
/// If the process cannot be read.
pub fn examine(running: &Running, reach: &Reach, memory: &Memory) -> Result<Entries, Error> {
    let mut entries = Entries::default();
    for function in &reach.functions {
        let Some(live) = function.live.as_ref().filter(|live| live.index.is_none()) else { continue };
        for body in &live.bodies {
            one(running, memory, &function.text, *body, &mut entries)?;
        }
    }
    Ok(entries)
}

fn one(running: &Running, memory: &Memory, name: &str, body: Body, out: &mut Entries) -> Result<(), Error> {
    let link = running.slide.link(body.addr);
    let Some(next) = running.exe.next_function(link) else {
        out.without_room.push((name.to_owned(), "it lies outside the executable's code".into()));
        return Ok(());
    };
    if running.exe.is_shared(link) {
        out.without_room.push((name.to_owned(), "another function shares its code".into()));
        return Ok(());
    }
    if body.addr.0 % 0x1000 > 0x1000 - ENTRY_JUMP_LEN as u64 {
        out.without_room.push((name.to_owned(), "its first bytes lie on two pages".into()));
        return Ok(());
    }
    let wanted = body.size.max(ENTRY_JUMP_LEN as u64).min(next.0.saturating_sub(link.0));
    let live = memory.read_vec(body.addr, wanted as usize)?;
    let Some(stored) = running.exe.code(link, wanted) else {
        out.without_room.push((name.to_owned(), "the executable's file does not hold its code".into()));
        return Ok(());
    };
    if live != stored {
        out.altered.push(name.to_owned());
        return Ok(());
    }
    match EntryPlan::examine(body.addr, body.size, &live) {
        Ok(plan) => out.plans.push(plan),
        Err(why) => out.without_room.push((name.to_owned(), why)),
    }
    Ok(())
}
