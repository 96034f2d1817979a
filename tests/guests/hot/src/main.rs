//! Reads jump tables from stdin, a line each, applies them, and tells what the hot function says before and after.

use std::cell::Cell;
use std::io::BufRead;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

static TICKS: AtomicU64 = AtomicU64::new(0);
static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());
static mut RAW: u64 = 40;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(7) };
}

fn greeting() -> &'static str {
    "old"
}

fn weight() -> u64 {
    2
}

/// Reads a static directly: such a function cannot lie in a library, and need not while it is what it was.
fn raw() -> u64 {
    let names: &[&str] = &["unit"];
    // SAFETY: there is one thread.
    let raw = unsafe { RAW };
    raw + names[0].len() as u64 + weight()
}

fn tick(step: u64) -> String {
    let ticks = TICKS.fetch_add(step, Ordering::SeqCst) + step;
    DEPTH.set(DEPTH.get() + 1);
    let mut log = LOG.lock().unwrap();
    log.push(greeting().to_owned());
    format!("{} ticks {ticks}, raw {}, depth {}, log {}", greeting(), raw(), DEPTH.get(), log.join(" "))
}

struct Loud;

impl Drop for Loud {
    fn drop(&mut self) {
        TICKS.fetch_add(100, Ordering::SeqCst);
    }
}

fn panics() {
    let _loud = Loud;
    panic!("asked for");
}

fn main() {
    // SAFETY: there is one thread.
    println!("raw {}", unsafe { RAW });
    subsecond::register_handler(Arc::new(|| println!("handler called")));
    println!("{}", subsecond::call(|| tick(1)));
    for line in std::io::stdin().lock().lines() {
        let table: subsecond_types::JumpTable = serde_json::from_str(&line.unwrap()).unwrap();
        // SAFETY: the types are as they were.
        match unsafe { subsecond::apply_patch(table) } {
            Ok(()) => println!("applied"),
            Err(error) => println!("not applied: {error}"),
        }
        println!("{}", subsecond::call(|| tick(1)));
        let caught = std::panic::catch_unwind(|| subsecond::call(panics)).is_err();
        println!("caught {caught}, ticks {}", TICKS.load(Ordering::SeqCst));
    }
}
