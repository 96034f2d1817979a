//! Thread-locals of both sorts, used by functions of the same library.

pub mod spare;

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};

thread_local! {
    static NOTES: Cell<u64> = const { Cell::new(0) };
    static NAMES: RefCell<Names> = RefCell::new(Names(Vec::new()));
}

static GONE: AtomicU64 = AtomicU64::new(0);

struct Names(Vec<String>);

impl Drop for Names {
    fn drop(&mut self) {
        GONE.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts on this thread.
pub fn note(name: &str) -> String {
    let notes = NOTES.get() + 1;
    NOTES.set(notes);
    let names = NAMES.with_borrow_mut(|names| {
        names.0.push(name.to_owned());
        names.0.len()
    });
    format!("{name} notes={notes} names={names} way=new summary={}", spare::summary())
}

/// The number of this thread's last note; compiled into the caller's crate, so that the thread-local is a symbol for all.
#[inline]
pub fn last() -> u64 {
    NOTES.get()
}

/// How many threads have dropped their names.
pub fn gone() -> u64 {
    GONE.load(Ordering::Relaxed)
}
