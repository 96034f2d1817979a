//! The two tables of a process, as relive wrote them.
//!
//! Keeps a copy of both, so that only what differs is written. Which one is current is said by one word in the process.

use std::collections::BTreeMap;

use relive_process::memory::Memory;
use relive_wire::near::{CONTROL_TABLE_WORD, TABLE_ENTRIES};
use relive_wire::{LiveAddr, NearLayout};

use crate::Error;
use crate::arch::x86_64::STUB_LEN;
use crate::swap::Write;

/// The tables of one process.
#[derive(Clone, Debug)]
pub struct Tables {
    near: NearLayout,
    contents: [Vec<LiveAddr>; 2],
    current: usize,
    /// Where stubs are, by first address.
    stubs: BTreeMap<LiveAddr, LiveAddr>,
}

impl Tables {
    /// Empty tables, the first of them current: what the agent set up.
    #[must_use]
    pub fn new(near: NearLayout) -> Tables {
        Tables { near, contents: [Vec::new(), Vec::new()], current: 0, stubs: BTreeMap::new() }
    }

    /// The word that says which table is current.
    #[must_use]
    pub fn word(&self) -> LiveAddr {
        self.near.control.plus(CONTROL_TABLE_WORD)
    }

    /// First unused entry.
    #[must_use]
    pub fn next_index(&self) -> u32 {
        self.contents[self.current].len() as u32
    }

    /// How many entries are left.
    #[must_use]
    pub fn left(&self) -> u64 {
        TABLE_ENTRIES - u64::from(self.next_index())
    }

    /// Address of the table that is current.
    #[must_use]
    pub fn current(&self) -> LiveAddr {
        self.near.table(self.current as u64)
    }

    /// Address of the table that the process says is current.
    ///
    /// # Errors
    /// If the process cannot be read.
    pub fn current_in(&self, memory: &Memory) -> Result<LiveAddr, Error> {
        Ok(LiveAddr(memory.read_u64(self.word())?))
    }

    /// Where the current table leads `index` in the process.
    ///
    /// # Errors
    /// If the process cannot be read.
    pub fn read(&self, memory: &Memory, index: u32) -> Result<LiveAddr, Error> {
        Ok(LiveAddr(memory.read_u64(self.current().plus(u64::from(index) * 8))?))
    }

    /// Address of the table that is not current.
    #[must_use]
    pub fn other(&self) -> LiveAddr {
        self.near.table(1 - self.current as u64)
    }

    /// Makes the current table lead new entries to `now` (nobody uses them yet) and the other table lead to `then`.
    ///
    /// # Errors
    /// If the process cannot be written.
    pub fn prepare(&mut self, memory: &Memory, now: &[(u32, LiveAddr)], then: &[(u32, LiveAddr)]) -> Result<(), Error> {
        let current = self.current;
        set(&mut self.contents[current], memory, self.near.table(current as u64), now)?;
        let goal = {
            let mut goal: Vec<(u32, LiveAddr)> = (0u32..).zip(self.contents[current].iter().copied()).collect();
            for (index, addr) in then {
                if let Some(entry) = goal.get_mut(*index as usize) {
                    entry.1 = *addr;
                }
            }
            goal
        };
        let other = 1 - current;
        set(&mut self.contents[other], memory, self.near.table(other as u64), &goal)
    }

    /// The write that makes the other table the current one.
    #[must_use]
    pub fn flip(&self) -> Write {
        let table = |which: usize| self.near.table(which as u64).0.to_le_bytes().to_vec();
        Write { addr: self.word(), old: table(self.current), new: table(1 - self.current) }
    }

    /// Says that [`Tables::flip`]'s write was done, for an image with stubs in `stubs`.
    pub fn flipped(&mut self, stubs: (LiveAddr, LiveAddr)) {
        self.current = 1 - self.current;
        self.stubs.insert(stubs.0, stubs.1);
    }

    /// Whether `addr` is between the two instructions of a stub: a register holds a table's address there.
    #[must_use]
    pub fn is_inside_stub(&self, addr: LiveAddr) -> bool {
        let span = self.stubs.range(..=addr).next_back();
        span.is_some_and(|(start, end)| addr < *end && !(addr.0 - start.0).is_multiple_of(STUB_LEN as u64))
    }
}

fn set(known: &mut Vec<LiveAddr>, memory: &Memory, table: LiveAddr, entries: &[(u32, LiveAddr)]) -> Result<(), Error> {
    for (index, addr) in entries {
        let at = *index as usize;
        if known.get(at) == Some(addr) {
            continue;
        }
        if at >= TABLE_ENTRIES as usize || at > known.len() {
            return Err(Error::Fatal(format!("table entry {index} was not announced")));
        }
        memory.write(table.plus(u64::from(*index) * 8), &addr.0.to_le_bytes())?;
        if at == known.len() {
            known.push(*addr);
        } else {
            known[at] = *addr;
        }
    }
    Ok(())
}
