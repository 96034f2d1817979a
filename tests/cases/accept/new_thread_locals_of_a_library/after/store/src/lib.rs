use std::cell::{Cell, RefCell};

thread_local! {
    static NOTES: Cell<u64> = const { Cell::new(40) };
    static NAMES: RefCell<Vec<u64>> = RefCell::new(Vec::new());
}

pub fn note() -> String {
    NOTES.set(NOTES.get() + 1);
    let names = NAMES.with_borrow_mut(|names| {
        names.push(NOTES.get());
        names.len() as u64
    });
    format!("way=new notes={} {}", NOTES.get() - 40, if names + 40 == NOTES.get() { "right" } else { "WRONG" })
}

/// Compiled into the caller's crate, so that the thread-local is a symbol for all.
#[inline]
pub fn last() -> u64 {
    NOTES.get()
}
