//! Work on many things by several threads, and on few by the one that is there: to wake others takes longer than to read
//! a small table.

use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};

/// Things that one thread takes at a time; of fewer than twice as many it takes all.
pub(super) const BATCH: usize = 8192;

/// What is larger, an allocator gives back to the kernel at once (glibc's largest `M_MMAP_THRESHOLD`); in bytes.
const KEPT_MAX: usize = 32 << 20;

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

/// Sorts what has no equals. It is halved until each thread has a part, and those are sorted as std does it: in about half the
/// processor time of rayon's own sort.
pub(super) fn sort<T: Ord + Send>(items: &mut [T]) {
    sort_in(items, pieces(items.len()));
}

fn sort_in<T: Ord + Send>(items: &mut [T], pieces: usize) {
    if pieces < 2 || items.is_empty() {
        return items.sort_unstable();
    }
    let (low, _, high) = items.select_nth_unstable(items.len() / 2);
    rayon::join(|| sort_in(low, pieces / 2), || sort_in(high, pieces.div_ceil(2)));
}

/// Does each piece of `work`, which is on `count` things in all, and gives what came of it in the same order.
pub(super) fn each<T: Send, R: Send>(work: Vec<T>, count: usize, one: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    if is_many(count) { work.into_par_iter().map(one).collect() } else { work.into_iter().map(one).collect() }
}

/// Frees `items`, beside what follows if they are so large that they go back to the kernel, which takes its time.
pub(super) fn free<T: Send + 'static>(items: Vec<T>) {
    if size_of_val(&*items) > KEPT_MAX {
        rayon::spawn(move || drop(items));
    }
}

/// Into how many pieces work on `count` things is best cut.
pub(super) fn pieces(count: usize) -> usize {
    if is_many(count) { rayon::current_num_threads().clamp(1, 16) } else { 1 }
}
