mod job;
mod pace;

use std::sync::mpsc;
use std::thread;

fn main() {
    // One thread that is there before the first edit and ends while the last one is at work.
    let (tell, told) = mpsc::channel::<()>();
    let long = thread::spawn(move || {
        while told.recv().is_ok() {
            job::step();
        }
    });
    let mut long = Some((long, tell));
    let mut n = 0;
    while pace::tick() {
        n += 1;
        println!("main n={n} {}", job::step());
        println!("once n={n} {}", thread::spawn(job::step).join().expect("a thread"));
        println!("gone n={n} {}", job::gone());
        if let Some((_, tell)) = &long {
            tell.send(()).expect("it waits");
        }
        if job::end_the_long_one()
            && let Some((thread, tell)) = long.take()
        {
            drop(tell);
            thread.join().expect("the long one");
            println!("gone n={n} {}", job::gone());
        }
    }
}
