//! Threads that are made without a pause while patches add thread-locals: each must find what they begin with.
//!
//! A new thread's storage is copied from a template before there is a thread to be seen, so a patch that comes at that
//! moment has nobody to write to. `RELIVE_PATCHES` says how many patches there are.

mod support;

use std::fmt::Write as _;

use support::{Running, SOON, START, Scratch};

const MANIFEST: &str = "[package]\nname = \"maker\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n";

/// Several threads make others, which check once; and some check for ever.
const MAIN: &str = r#"
mod job;

use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

static END: AtomicBool = AtomicBool::new(false);
static CHECKS: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicU64 = AtomicU64::new(0);

fn check() {
    if job::wrong() {
        WRONG.fetch_add(1, Relaxed);
    }
    CHECKS.fetch_add(1, Relaxed);
}

fn main() {
    let makers = (0..4).map(|_| thread::spawn(|| {
        while !END.load(Relaxed) {
            let threads: Vec<_> = (0..4).map(|_| thread::spawn(check)).collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
    }));
    let others = (0..4).map(|_| thread::spawn(|| {
        while !END.load(Relaxed) {
            check();
            thread::sleep(Duration::from_millis(1));
        }
    }));
    let threads: Vec<_> = makers.chain(others).collect();
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        END.store(true, Relaxed);
    });
    while !END.load(Relaxed) {
        println!("generation {} wrong {} of {}.", job::generation(), WRONG.load(Relaxed), CHECKS.load(Relaxed));
        thread::sleep(Duration::from_millis(20));
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    println!("end: wrong {} of {}.", WRONG.load(Relaxed), CHECKS.load(Relaxed));
}
"#;

/// The newest thread-locals that stay in the source.
const KEPT: usize = 8;

/// What is checked after so many patches: each adds a thread-local, and the last few stay.
fn job(patches: usize) -> String {
    let (mut variables, mut tests) = (String::new(), String::new());
    for number in (1..=patches).rev().take(KEPT) {
        let _ = write!(variables, "static T{number}: Cell<u64> = const {{ Cell::new({}) }};\n    ", value(number));
        let _ = write!(tests, "wrong |= T{number}.replace(T{number}.get()) != {};\n    ", value(number));
    }
    format!(
        "#![allow(unused)]\nuse std::cell::Cell;\n\nthread_local! {{\n    {variables}\n}}\n\n\
         pub fn wrong() -> bool {{\n    let mut wrong = false;\n    {tests}wrong\n}}\n\n\
         pub fn generation() -> usize {{\n    {patches}\n}}\n"
    )
}

/// No byte of it is zero.
fn value(number: usize) -> u64 {
    (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 0x0101_0101_0101_0101
}

#[test]
#[ignore = "500 patches"]
fn threads_that_are_made_meanwhile_begin_with_the_new_values() {
    let asked = std::env::var("RELIVE_PATCHES").ok().and_then(|text| text.parse().ok());
    let patches: usize = asked.unwrap_or(500);
    let scratch = Scratch::new("threads");
    scratch.write("Cargo.toml", MANIFEST);
    scratch.write("src/main.rs", MAIN);
    scratch.write("src/job.rs", job(0));
    let mut running = Running::start(&scratch.0, &[]);
    running.wait_line("generation 0 ", START).expect("a start");
    for number in 1..=patches {
        scratch.write("src/job.rs", job(number));
        let patch = running.wait_patch(number, SOON).expect("an answer");
        assert_eq!(patch["outcome"], "applied", "{number}: {patch}");
        let line = running.wait_line(&format!("generation {number} "), SOON).expect("the new generation");
        assert!(line.contains(" wrong 0 of "), "{line}");
    }
    assert_eq!(running.finish().code(), Some(0), "{}", running.stderr());
    let last = running.seen.last().expect("a last line");
    assert!(last.starts_with("end: wrong 0 of ") && !last.ends_with(" of 0."), "{last}");
}
