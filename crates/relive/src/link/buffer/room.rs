//! Room for words of addresses and for stubs.
//!
//! Takes two ranges of addresses; gives each symbol that needs one a word, and a stub that jumps through its word. Both stay
//! where they are for ever: what they lead to changes.

use std::ops::Range;

use relive_wire::LiveAddr;
use rustc_hash::FxHashMap;

use super::{Key, Write};
use crate::arch::{Machine, aarch64, x86_64};
use crate::link::apply::WordKind;

const WORD: u64 = 8;

/// See the module.
#[derive(Debug)]
pub struct Room {
    words_at: Range<u64>,
    stubs_at: Range<u64>,
    /// What each word is for, and the value that was given out.
    words: Vec<(Key, WordKind, Option<u64>)>,
    word_of: FxHashMap<(Key, WordKind), usize>,
    /// Stubs, by the index of their word.
    stub_of: FxHashMap<usize, u64>,
    next_stub: u64,
    writes: Vec<Write>,
}

impl Room {
    /// Room for words in `words`, which begins at a multiple of 8, and for stubs in `stubs`, at a multiple of 16.
    #[must_use]
    pub fn new(words: Range<u64>, stubs: Range<u64>) -> Room {
        Room {
            next_stub: stubs.start,
            words_at: words,
            stubs_at: stubs,
            words: Vec::new(),
            word_of: FxHashMap::default(),
            stub_of: FxHashMap::default(),
            writes: Vec::new(),
        }
    }

    /// Where words begin: what code that counts from the table counts from.
    pub(super) fn table(&self) -> u64 {
        self.words_at.start
    }

    /// The address of a word, and its index if it is new.
    pub(super) fn word_for(&mut self, key: Key, kind: WordKind) -> Result<(u64, Option<usize>), String> {
        let next = self.words.len();
        let index = *self.word_of.entry((key, kind)).or_insert(next);
        let at = self.words_at.start + index as u64 * WORD;
        if at + WORD > self.words_at.end {
            self.word_of.remove(&(key, kind));
            return Err(format!("there is room for {next} words of addresses and no more"));
        }
        if index < next {
            return Ok((at, None));
        }
        self.words.push((key, kind, None));
        Ok((at, Some(index)))
    }

    /// What a word is for.
    pub(super) fn word(&self, index: usize) -> Option<(Key, WordKind)> {
        self.words.get(index).map(|(key, kind, _)| (*key, *kind))
    }

    /// The value of a word.
    pub(super) fn set_word(&mut self, index: usize, value: u64) {
        let at = self.words_at.start + index as u64 * WORD;
        let old = self.words.get_mut(index).and_then(|word| word.2.replace(value));
        if old != Some(value) {
            let old = old.map_or_else(Vec::new, |old| old.to_le_bytes().to_vec());
            self.writes.push(Write { at, old, new: value.to_le_bytes().to_vec() });
        }
    }

    /// The stub that jumps through the word at `word`.
    pub(super) fn stub_for(&mut self, machine: Machine, word: u64) -> Result<u64, String> {
        let index = ((word - self.words_at.start) / WORD) as usize;
        if let Some(stub) = self.stub_of.get(&index) {
            return Ok(*stub);
        }
        let at = self.next_stub;
        let (from, to) = (LiveAddr(at), LiveAddr(word));
        let code = match machine {
            Machine::X86_64 => x86_64::far_jump(from, to).map(|code| code.to_vec()),
            Machine::Aarch64 => aarch64::far_jump(from, to).map(|code| code.to_vec()),
        };
        let code = code.ok_or("a stub's word is out of its reach")?;
        let end = at + code.len() as u64;
        if end > self.stubs_at.end {
            return Err(format!("there is room for {} stubs and no more", self.stub_of.len()));
        }
        self.next_stub = end;
        self.stub_of.insert(index, at);
        self.writes.push(Write { at, old: Vec::new(), new: code });
        Ok(at)
    }

    /// The words that hold addresses, with the addresses.
    pub(super) fn pointers(&self) -> Vec<(u64, u64)> {
        let addresses = self.words.iter().enumerate().filter(|(_, word)| word.1 != WordKind::ThreadOffset);
        addresses.filter_map(|(index, word)| Some((self.words_at.start + index as u64 * WORD, word.2?))).collect()
    }

    /// What was not given out yet.
    pub(super) fn take_writes(&mut self) -> Vec<Write> {
        std::mem::take(&mut self.writes)
    }
}
