use std::cell::{Cell, RefCell};

thread_local! {
    static SMALL: Cell<u64> = const { Cell::new(6) };
    static MOST: RefCell<[u8; 7000]> = const { RefCell::new([1; 7000]) };
}

pub fn step() -> String {
    let ones = MOST.with_borrow(|most| most.iter().filter(|byte| **byte == 1).count());
    SMALL.set(SMALL.get() + 1);
    format!("way=fits {} {ones}", if SMALL.get() > 6 { "right" } else { "WRONG" })
}
