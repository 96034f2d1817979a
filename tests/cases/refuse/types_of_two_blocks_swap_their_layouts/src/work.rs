use std::sync::Mutex;

trait Job: Send {
    fn run(&self) -> u64;
}

fn make() -> [Box<dyn Job>; 2] {
    let one: Box<dyn Job> = {
        struct Held {
            name: &'static str,
            side: u64,
        }
        impl Job for Held {
            fn run(&self) -> u64 {
                self.side
            }
        }
        Box::new(Held { name: "abc", side: 2 })
    };
    let two: Box<dyn Job> = {
        struct Held {
            side: u64,
        }
        impl Job for Held {
            fn run(&self) -> u64 {
                self.side
            }
        }
        Box::new(Held { side: 3 })
    };
    [one, two]
}

static JOBS: Mutex<Vec<Box<dyn Job>>> = Mutex::new(Vec::new());

pub struct State {}

impl State {
    pub fn new() -> State {
        JOBS.lock().unwrap().extend(make());
        State {}
    }

    pub fn line(&mut self, _: u64) -> String {
        let seen: Vec<u64> = JOBS.lock().unwrap().iter().map(|job| job.run()).collect();
        if seen != [2, 3] {
            return format!("CORRUPT {seen:?}");
        }
        format!("v=1 {seen:?}")
    }
}
