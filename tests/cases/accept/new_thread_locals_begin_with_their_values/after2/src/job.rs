use std::cell::{Cell, RefCell};

#[repr(align(64))]
struct Line([u8; 40]);

#[repr(align(128))]
struct Two(Cell<u64>);

thread_local! {
    static MORE: Cell<u64> = const { Cell::new(77) };
    static ZERO: Cell<u64> = const { Cell::new(0) };
    static BYTE: Cell<u8> = const { Cell::new(7) };
    static MANY: RefCell<Line> = const { RefCell::new(Line([9; 40])) };
    static TEXT: Cell<&'static str> = const { Cell::new("begin") };
    static CALL: Cell<fn(u64) -> u64> = const { Cell::new(double) };
    static FAR: Two = const { Two(Cell::new(1000)) };
    static LAZY: RefCell<Vec<u64>> = RefCell::new(vec![5; 3]);
}

fn double(n: u64) -> u64 {
    2 * n
}

fn triple(n: u64) -> u64 {
    3 * n
}

/// Every thread-local must be as it began, or as this thread left it.
pub fn step() -> String {
    let steps = ZERO.get() + 1;
    ZERO.set(steps);
    let first = steps == 1;
    let byte = u64::from(BYTE.replace(steps as u8));
    let byte_is_right = byte == if first { 7 } else { (steps - 1) & 0xff };
    let line_is_right = MANY.with_borrow_mut(|line| {
        let right = line.0.iter().all(|byte| *byte == if first { 9 } else { (steps - 1) as u8 });
        line.0 = [steps as u8; 40];
        right && (&raw const *line).addr() % 64 == 0
    });
    let text_is_right = TEXT.replace("later") == if first { "begin" } else { "later" };
    let call_is_right = CALL.replace(triple)(2) == if first { 4 } else { 6 };
    let far_is_right = FAR.with(|far| {
        far.0.set(far.0.get() + 1);
        far.0.get() == 1000 + steps && (&raw const *far).addr() % 128 == 0
    });
    let lazy_is_right = LAZY.with_borrow_mut(|lazy| {
        lazy.push(steps);
        lazy.len() as u64 == 3 + steps && lazy[..3] == [5, 5, 5]
    });
    MORE.set(MORE.get() + 1);
    let more_is_right = MORE.get() > 77 && MORE.get() <= 77 + steps;
    let all = [more_is_right, byte_is_right, line_is_right, text_is_right, call_is_right, far_is_right, lazy_is_right];
    format!("way=newer steps={steps} {}", if all == [true; 7] { "right".to_owned() } else { format!("WRONG {all:?}") })
}
