//! A pond that is watched: one line every tenth of a second, until stdin is closed.

mod pond;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

static CLOSED: AtomicBool = AtomicBool::new(false);

fn main() {
    thread::spawn(|| {
        let _ = std::io::read_to_string(std::io::stdin());
        CLOSED.store(true, Ordering::Relaxed);
    });
    let mut pond = pond::Pond::new();
    while !CLOSED.load(Ordering::Relaxed) {
        pond.tick();
        println!("{}", pond.describe());
        thread::sleep(Duration::from_millis(100));
    }
}
