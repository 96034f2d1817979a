mod job;
mod pace;

use std::thread;

fn main() {
    let worker = thread::spawn(|| work("worker"));
    work("main");
    worker.join().expect("a worker");
}

/// Lives as long as the program.
fn work(name: &str) {
    while pace::tick() {
        println!("{name} {}", job::step());
        if name == "main" {
            println!("once {}", thread::spawn(job::step).join().expect("a thread"));
        }
    }
}
