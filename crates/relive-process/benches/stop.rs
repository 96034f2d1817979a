//! How long a program with many threads stands still when it is stopped and let go: every second thread computes, the others
//! sleep. The program is this executable once more.
//!
//! Prints a table; ends badly if the median of 1,000 threads is over 25 ms, unless real-time priority is not permitted:
//! the tracer is starved then, and the table says so.
#![expect(clippy::print_stdout, reason = "a bench's result is its output")]

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{env, hint, thread};

use relive_process::memory::Memory;
use relive_process::stop::{StopOptions, stop};

const PROGRAM: &str = "as-the-program";
const STOPS: usize = 60;
/// Between two stops.
const GAP: Duration = Duration::from_millis(50);
/// How long one stop may be tried.
const DEADLINE: Duration = Duration::from_secs(20);
const MEDIAN_MS: f64 = 25.0;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().collect();
    if let [_, mode, threads] = &words[..]
        && mode == PROGRAM
    {
        return program(threads.parse().unwrap_or(1));
    }
    println!(
        "{:>8} {:>8} {:>12} {:>10} {:>10} {:>10}",
        "threads", "stops", "late stops", "median ms", "p90 ms", "max ms"
    );
    let mut bad = false;
    for threads in [100, 1000] {
        let (times, late) = stops(threads);
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        println!("{threads:>8} {STOPS:>8} {late:>12} {:>10.2} {:>10.2} {:>10.2}", at(50), at(90), at(100));
        bad |= threads == 1000 && at(50) > MEDIAN_MS;
    }
    ExitCode::from(u8::from(bad))
}

/// `threads` threads, of which every second one never sleeps. Ends with the process that started it.
fn program(threads: usize) -> ExitCode {
    for number in 0..threads {
        thread::Builder::new()
            .stack_size(64 << 10)
            .spawn(move || {
                loop {
                    if number % 2 == 0 { hint::spin_loop() } else { thread::sleep(Duration::from_millis(100)) }
                }
            })
            .expect("a thread");
    }
    println!("ready");
    let _ = std::io::stdin().read_line(&mut String::new());
    ExitCode::SUCCESS
}

/// Milliseconds of each stop, in ascending order, and how many did not come about in time.
fn stops(threads: usize) -> (Vec<f64>, usize) {
    let mut command = Command::new(env::current_exe().expect("this executable"));
    command.arg(PROGRAM).arg(threads.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("this executable starts");
    BufReader::new(child.stdout.take().expect("a pipe"))
        .read_line(&mut String::new())
        .expect("it says that it is ready");
    let memory = Memory::open(child.id()).expect("it runs");
    let mut times = Vec::new();
    let mut late = 0;
    for _ in 0..STOPS {
        thread::sleep(GAP);
        let clock = Instant::now();
        match stop(&memory, &StopOptions { deadline: DEADLINE }) {
            Ok(stopped) => {
                assert!(stopped.threads().len() > threads, "all threads are stopped");
                times.push(stopped.resume().expect("they go on").as_secs_f64() * 1000.0);
            }
            Err(_) => {
                late += 1;
                times.push(clock.elapsed().as_secs_f64() * 1000.0);
            }
        }
    }
    drop(child.stdin.take());
    let _ = child.kill();
    let _ = child.wait();
    times.sort_by(f64::total_cmp);
    (times, late)
}
