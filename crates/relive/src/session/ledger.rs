//! What the switches of a session put into the process, function by function: for `status`, and to see whether it is still
//! there.

use std::collections::BTreeMap;

use relive_process::memory::Memory;
use relive_wire::LiveAddr;
use xxhash_rust::xxh3::xxh3_128;

use crate::Error;
use crate::arch::x86_64;
use crate::binary::names;
use crate::control::LiveCode;
use crate::diff::running::Body;
use crate::link::{Image, LinkedFunction};
use crate::swap::Tables;

/// Everything that runs and was not there when the program started.
#[derive(Default)]
pub(super) struct Ledger {
    /// By its entry in the table.
    functions: BTreeMap<u32, Function>,
    /// Code of libraries that came along: its name, where it is, and the hash of its bytes.
    libraries: Vec<(String, Body, u128)>,
}

struct Function {
    text: String,
    generation: u64,
    body: Body,
    hash: u128,
    older: Vec<Body>,
    stub: LiveAddr,
    /// Entries that lead to the stub.
    entries: Vec<LiveAddr>,
}

impl Ledger {
    /// Notes what the switch to `generation` put in.
    pub(super) fn note(&mut self, image: &Image, generation: u64) {
        for linked in &image.functions {
            let mut entries = self.functions.remove(&linked.index).map_or_else(Vec::new, |before| before.entries);
            entries.extend(linked.redirects.iter().map(|redirect| redirect.entry.at));
            self.functions.insert(linked.index, Function::of(linked, entries, image, generation));
        }
        let of_library = |item: &crate::link::LinkedItem| {
            let body = Body { addr: item.addr, size: item.size };
            (format!("{:#x}", item.addr.0), body, hash(image, body))
        };
        self.libraries.extend(image.library_functions.iter().map(of_library));
    }

    /// The functions, by name.
    pub(super) fn functions(&self) -> Vec<LiveCode> {
        let one = |function: &Function| LiveCode {
            name: names::readable(&function.text),
            generation: function.generation,
            address: function.body.addr.0,
            size: function.body.size,
        };
        let mut all: Vec<LiveCode> = self.functions.values().map(one).collect();
        all.sort_by(|left, right| (&left.name, left.address).cmp(&(&right.name, right.address)));
        all
    }

    /// Names and older code of the functions.
    pub(super) fn older(&self) -> impl Iterator<Item = (&str, &[Body])> {
        self.functions.values().map(|function| (function.text.as_str(), function.older.as_slice()))
    }

    /// What in the process is not as it was put there, each in a sentence.
    ///
    /// # Errors
    /// If the process cannot be read.
    pub(super) fn altered(&self, memory: &Memory, tables: &Tables) -> Result<Vec<String>, Error> {
        let mut found = Vec::new();
        let current = tables.current_in(memory)?;
        if current != tables.current() {
            found.push(format!("the table at {current} is the current one, and {} should be", tables.current()));
        }
        for (index, function) in &self.functions {
            let name = names::readable(&function.text);
            if !is_there(memory, function.body, function.hash)? {
                found.push(format!("the code of `{name}` at {} is other code", function.body.addr));
            }
            let stub = x86_64::stub(function.stub, tables.word(), *index);
            if Some(memory.read_vec(function.stub, x86_64::STUB_LEN)?.as_slice()) != stub.as_ref().map(|stub| &stub[..])
            {
                found.push(format!("the stub of `{name}` at {} is another", function.stub));
            }
            for entry in &function.entries {
                let there = memory.read_vec(*entry, x86_64::ENTRY_JUMP_LEN)?;
                if x86_64::jump(*entry, function.stub).is_none_or(|jump| there != jump) {
                    found.push(format!("the entry of `{name}` at {entry} does not lead to its stub"));
                }
            }
            let leads_to = tables.read(memory, *index)?;
            if leads_to != function.body.addr {
                found.push(format!("the table leads `{name}` to {leads_to}, and {} should be", function.body.addr));
            }
        }
        for (name, body, hash) in &self.libraries {
            if !is_there(memory, *body, *hash)? {
                found.push(format!("the library code at {name} is other code"));
            }
        }
        Ok(found)
    }
}

impl Function {
    fn of(linked: &LinkedFunction, entries: Vec<LiveAddr>, image: &Image, generation: u64) -> Function {
        Function {
            text: linked.text.clone(),
            generation,
            body: linked.body,
            hash: hash(image, linked.body),
            older: linked.older.clone(),
            stub: linked.stub,
            entries,
        }
    }
}

/// The hash of code in an image.
fn hash(image: &Image, body: Body) -> u128 {
    let at = body.addr.0.wrapping_sub(image.text.addr.0);
    let range = usize::try_from(at).ok().zip(usize::try_from(at.wrapping_add(body.size)).ok());
    xxh3_128(range.and_then(|(from, to)| image.text.bytes.get(from..to)).unwrap_or_default())
}

fn is_there(memory: &Memory, body: Body, hash: u128) -> Result<bool, Error> {
    Ok(xxh3_128(&memory.read_vec(body.addr, body.size as usize)?) == hash)
}
