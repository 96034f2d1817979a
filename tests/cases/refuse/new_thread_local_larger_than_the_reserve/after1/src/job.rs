use std::cell::{Cell, RefCell};

thread_local! {
    static SMALL: Cell<u64> = const { Cell::new(6) };
    static TABLE: RefCell<[u8; 9000]> = const { RefCell::new([1; 9000]) };
}

pub fn step() -> String {
    SMALL.set(SMALL.get() + 1);
    format!("way=large {}", TABLE.with_borrow(|table| table[8999]))
}
