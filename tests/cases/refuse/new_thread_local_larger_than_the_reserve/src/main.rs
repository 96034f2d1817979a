mod job;
mod pace;

use std::thread;

fn main() {
    let mut n = 0;
    while pace::tick() {
        n += 1;
        println!("main n={n} {}", job::step());
        println!("once n={n} {}", thread::spawn(job::step).join().expect("a thread"));
    }
}
