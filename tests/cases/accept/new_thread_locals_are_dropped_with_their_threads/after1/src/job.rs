use std::cell::RefCell;
use std::sync::Mutex;

static LAST: Mutex<String> = Mutex::new(String::new());

struct Kept(Vec<u64>);

impl Drop for Kept {
    fn drop(&mut self) {
        *LAST.lock().expect("nobody panics") = format!("old-way:{}", if self.0.len() > 1 { "many" } else { "one" });
    }
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::new(Kept(Vec::new()));
    static READY: RefCell<Kept> = const { RefCell::new(Kept(Vec::new())) };
}

pub fn step() -> String {
    KEPT.with_borrow_mut(|kept| kept.0.push(1));
    READY.with_borrow_mut(|ready| ready.0.push(1));
    "way=new".to_owned()
}

pub fn gone() -> String {
    format!("last={}", LAST.lock().expect("nobody panics"))
}

pub fn end_the_long_one() -> bool {
    false
}
