//! Symbols of either format, several at a time, with a limit to what their names may cost.
//!
//! Takes the number of symbols and what says of each what it is; gives them in the order of the file. A damaged file can
//! have all of its names begin at the start of one giant string: then reading them is given up.

use std::sync::atomic::{AtomicU64, Ordering};

use super::facts::{Entry, Tag, hash, name_at};
use super::several::{self, BATCH};
use crate::binary::object::ObjectError;

/// Names may share their ends; so many times the size of the file they may have in all.
const NAMES_TIMES: u64 = 16;

/// A symbol before its name was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unnamed {
    pub(super) addr: u64,
    pub(super) size: u64,
    /// Offset of its name.
    pub(super) name: u32,
    pub(super) tag: Tag,
}

/// The entries of `symbols`, of which `describe` says what they are; it is given their numbers as well, and the unit that it
/// said of one shortly before, or 0.
///
/// # Errors
/// If the names are longer than those of a real file can be.
pub(super) fn entries<S: Sync>(
    symbols: &[S],
    strings: &[u8],
    file_size: u64,
    describe: impl Fn(usize, &S, u32) -> Option<Unnamed> + Sync + Send,
    is_noise: impl Fn(&[u8]) -> bool + Sync + Send,
) -> Result<Vec<Entry>, ObjectError> {
    let left = AtomicU64::new(file_size.saturating_mul(NAMES_TIMES));
    let one = |(budget, unit): &mut (Budget<'_>, u32), number: usize, symbol: &S| {
        let Some(found) = describe(number, symbol, *unit) else { return Entry::GONE };
        *unit = found.tag.unit().max(*unit);
        if budget.is_spent() {
            return Entry::GONE;
        }
        let name = name_at(strings, found.name);
        budget.spend(name.len() as u64);
        if is_noise(name) {
            return Entry::GONE;
        }
        Entry { addr: found.addr, size: found.size, name: found.name, hash: hash(name), tag: found.tag }
    };
    let entries = several::map(symbols, || (Budget { left: &left, spent: 0 }, 0), one);
    if left.load(Ordering::Relaxed) == 0 { Err(overlap()) } else { Ok(entries) }
}

/// What one thread spends of what all may; it settles its account when it has spent a lot.
struct Budget<'a> {
    left: &'a AtomicU64,
    spent: u64,
}

/// Bytes of names between two settlements.
const SETTLE: u64 = 1 << 16;

impl Budget<'_> {
    fn spend(&mut self, len: u64) {
        self.spent = self.spent.saturating_add(len);
        if self.spent >= SETTLE {
            self.settle();
        }
    }

    fn settle(&mut self) {
        let spent = std::mem::take(&mut self.spent);
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(spent)));
    }

    fn is_spent(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }
}

/// The numbers of those of `symbols` that begin a unit, ascending.
pub(super) fn positions<S: Sync>(symbols: &[S], begins: impl Fn(&S) -> bool + Sync + Send) -> Vec<u32> {
    let rows: Vec<_> = symbols.chunks(BATCH).enumerate().collect();
    let rows = several::each(rows, symbols.len(), |(row, symbols)| {
        let numbers = symbols.iter().enumerate().filter(|(_, symbol)| begins(symbol));
        numbers.map(|(at, _)| (row * BATCH + at) as u32).collect::<Vec<u32>>()
    });
    rows.concat()
}

/// `names`, which are offsets, in the order of what stands there, and each once.
///
/// # Errors
/// If the names are longer than those of a real file can be.
pub(super) fn sorted_names(
    names: impl Iterator<Item = u32>,
    strings: &[u8],
    file_size: u64,
) -> Result<Vec<u32>, ObjectError> {
    let mut left = file_size.saturating_mul(NAMES_TIMES);
    let mut named = Vec::new();
    for at in names {
        let name = name_at(strings, at);
        left = left.checked_sub(name.len() as u64).ok_or_else(overlap)?;
        named.push((name, at));
    }
    named.sort_unstable();
    named.dedup_by_key(|(name, _)| *name);
    Ok(named.into_iter().map(|(_, at)| at).collect())
}

fn overlap() -> ObjectError {
    ObjectError("symbol table: its names overlap".into())
}
