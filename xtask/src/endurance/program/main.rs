//! Sixteen threads that do nothing but call two functions, and check what they return.

mod generation;
mod left;
mod right;

use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const THREADS: usize = 16;

static CALLS: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicU64 = AtomicU64::new(0);
static LEFT: AtomicU32 = AtomicU32::new(0);
static RIGHT: AtomicU32 = AtomicU32::new(0);
static OVER: AtomicBool = AtomicBool::new(false);

/// What a function of `generation` has to return for `from`.
fn expected(generation: u32, from: u64) -> u64 {
    (0..4).map(|step| (from + step) * (u64::from(generation) + step)).sum()
}

fn spin(thread: u64) {
    let mut from = thread;
    while !OVER.load(Relaxed) {
        let (generation, value) = left::value(from);
        let (other, also) = right::value(from);
        let right = value == expected(generation, from) && also == expected(other, from) + 1;
        WRONG.fetch_add(u64::from(!right), Relaxed);
        LEFT.store(generation, Relaxed);
        RIGHT.store(other, Relaxed);
        CALLS.fetch_add(2, Relaxed);
        from = from % 1_000_000 + 1;
    }
}

fn main() {
    let threads: Vec<_> = (0..THREADS as u64).map(|thread| std::thread::spawn(move || spin(thread))).collect();
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        OVER.store(true, Relaxed);
    });
    while !OVER.load(Relaxed) {
        std::thread::sleep(Duration::from_millis(20));
        let [left, right] = [&LEFT, &RIGHT].map(|last| last.load(Relaxed));
        println!("beat {left} {right} {} {}", CALLS.load(Relaxed), WRONG.load(Relaxed));
    }
    let whole = threads.into_iter().all(|thread| thread.join().is_ok());
    std::process::exit(i32::from(!whole || WRONG.load(Relaxed) > 0));
}
