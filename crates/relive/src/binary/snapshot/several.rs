//! Work on many things by several threads, and on few by the one that is there: to wake others takes longer than to read
//! a small table.

use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

/// Things that one thread takes at a time; of fewer than twice as many it takes all.
pub(super) const BATCH: usize = 8192;

fn is_many(count: usize) -> bool {
    count >= 2 * BATCH
}

/// `one` of each of `items`, with its number and what `init` makes for a row of them.
pub(super) fn map<S: Sync, B, T: Send>(
    items: &[S],
    init: impl Fn() -> B + Sync + Send,
    one: impl Fn(&mut B, usize, &S) -> T + Sync + Send,
) -> Vec<T> {
    if is_many(items.len()) {
        let items = items.par_iter().with_min_len(BATCH).enumerate();
        return items.map_init(init, |made, (at, item)| one(made, at, item)).collect();
    }
    let mut made = init();
    items.iter().enumerate().map(|(at, item)| one(&mut made, at, item)).collect()
}

/// Sorts what has no equals.
pub(super) fn sort<T: Ord + Send>(items: &mut [T]) {
    if is_many(items.len()) { items.par_sort_unstable() } else { items.sort_unstable() }
}

/// Does each piece of `work`, which is on `count` things in all, and gives what came of it in the same order.
pub(super) fn each<T: Send, R: Send>(work: Vec<T>, count: usize, one: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    if is_many(count) { work.into_par_iter().map(one).collect() } else { work.into_iter().map(one).collect() }
}

/// Into how many pieces work on `count` things is best cut.
pub(super) fn pieces(count: usize) -> usize {
    if is_many(count) { rayon::current_num_threads().clamp(1, 16) } else { 1 }
}
