use std::sync::Mutex;
struct One;
struct Two;

struct Other;
impl Drop for Other {
    fn drop(&mut self) {}
}

impl One {
    fn next(&self) -> u64 {
        struct Held {
            side: u64,
            more: u64,
        }
        impl Held {
            fn run(&self) -> u64 {
                self.side
            }
        }
        static HELD: Mutex<Held> = Mutex::new(Held { side: 2, more: 9 });
        HELD.lock().unwrap().run()
    }
}

impl Two {
    fn next(&self) -> u64 {
        struct Held {
            name: u64,
            side: u64,
        }
        impl Held {
            fn run(&self) -> u64 {
                self.side
            }
        }
        static HELD: Mutex<Held> = Mutex::new(Held { name: 7, side: 3 });
        HELD.lock().unwrap().run()
    }
}

pub struct State {}

impl State {
    pub fn new() -> State {
        State {}
    }

    pub fn line(&mut self, _: u64) -> String {
        let seen = [One.next(), Two.next()];
        if seen != [2, 3] {
            return format!("CORRUPT {seen:?}");
        }
        format!("v=2 {seen:?}")
    }
}
