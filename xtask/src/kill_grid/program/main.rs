//! Four threads that call 24 functions over and over, and a line every 20 ms with the generations that they returned.
//!
//! Ends when its stdin is closed. Whatever should be impossible is a line that begins with CORRUPT, and exit code 3.

mod generation;
mod one;
mod three;
mod two;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{io, process};

/// What one worker did since the main thread looked last.
#[derive(Default)]
struct Notes {
    /// Bit g: a call returned generation g.
    generations: AtomicU64,
    /// How often all functions were called.
    rounds: AtomicU64,
}

fn main() {
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (1..=4).map(|seed| start(seed, Arc::clone(&stop))).collect();
    let end = Arc::clone(&stop);
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        end.store(true, Relaxed);
    });
    let mut beat = 0_u64;
    while !stop.load(Relaxed) {
        thread::sleep(Duration::from_millis(20));
        beat += 1;
        report(beat, &workers);
    }
    for (_, worker) in workers {
        if worker.join().is_err() {
            corrupt("a worker panicked");
        }
    }
}

fn start(seed: u64, stop: Arc<AtomicBool>) -> (Arc<Notes>, JoinHandle<()>) {
    let notes = Arc::new(Notes::default());
    let mine = Arc::clone(&notes);
    let worker = move || {
        while !stop.load(Relaxed) {
            for _ in 0..300 {
                mine.generations.fetch_or(round(seed), Relaxed);
                mine.rounds.fetch_add(1, Relaxed);
            }
            thread::sleep(Duration::from_millis(1)); // the compiler wants to run as well
        }
    };
    (notes, thread::spawn(worker))
}

/// Calls all functions once; gives the generations that they returned, as bits.
fn round(seed: u64) -> u64 {
    let mut seen = 0;
    for (index, function) in one::CALLS.iter().chain(&two::CALLS).chain(&three::CALLS).enumerate() {
        let from = seed + index as u64;
        let (generation, sum) = function(from);
        if sum != 4 * from + 6 || generation == 0 || generation > 9 {
            corrupt(&format!("function {index} in thread {seed} gave {generation} and {sum}"));
        }
        seen |= 1 << generation;
    }
    seen
}

fn report(beat: u64, workers: &[(Arc<Notes>, JoinHandle<()>)]) {
    let (mut seen, mut idle) = (0, 0);
    for (notes, _) in workers {
        seen |= notes.generations.swap(0, Relaxed);
        idle += u32::from(notes.rounds.swap(0, Relaxed) == 0);
    }
    let generations: Vec<_> = (1..=9).filter(|bit| seen & (1 << bit) != 0).map(|bit| bit.to_string()).collect();
    println!("beat={beat} gens={} idle={idle}", generations.join("+"));
}

fn corrupt(what: &str) -> ! {
    println!("CORRUPT {what}");
    process::exit(3);
}
