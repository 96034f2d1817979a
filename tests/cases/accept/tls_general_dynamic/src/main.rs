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
    while pace::tick() {
        println!("{} last={}", store::note(name), store::last());
        if name == "main" {
            // A thread of its own for one note: all thread-locals begin anew and are dropped.
            let once = thread::spawn(|| store::note("once")).join().expect("a thread");
            println!("{once} gone={}", store::gone());
        }
    }
}
