mod job;
mod pace;

use std::thread;

fn main() {
    let workers: Vec<_> = ["left", "right"].map(|name| thread::spawn(move || work(name))).into();
    work("main");
    for worker in workers {
        worker.join().expect("a worker");
    }
}

/// Lives as long as the program.
fn work(name: &str) {
    let mut n = 0;
    while pace::tick() {
        n += 1;
        println!("{name} n={n} {}", job::step());
        if name == "main" {
            // Threads of their own for one step: all thread-locals begin anew.
            let once = thread::spawn(job::step).join().expect("a thread");
            println!("once n={n} {once}");
        }
    }
}
