use std::cell::{Cell, RefCell};

thread_local! {
    static STEPS: Cell<u32> = const { Cell::new(0) };
    static NAMES: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

pub fn step() -> String {
    STEPS.set(STEPS.get() + 1);
    NAMES.with_borrow_mut(|names| names.push(1));
    format!("way=eager steps={} names={}", STEPS.get(), NAMES.with_borrow(|names| names.len()))
}
