//! States of a program that a stop leaves alone, and those that it cannot be stopped in.

use std::time::Duration;

use relive_process::Error;
use relive_process::stop::{StopOptions, stop};

use crate::support::Program;

fn stop_and_go(program: &Program) {
    let stopped = stop(&program.memory(), &StopOptions::default()).expect("the program runs and is ours");
    stopped.resume().expect("all threads were as the kernel promises");
}

#[test]
fn registers_of_all_kinds_are_as_they_were() {
    let program = Program::start("states", "registers");
    for _ in 0..3000 {
        stop_and_go(&program);
    }
    let before = program.word(1);
    program.wait_until("the threads go on", |program| program.word(1) > before + 10);
    assert_eq!(program.word(2), 0, "sets of registers that were altered");
}

#[test]
fn a_process_that_shares_the_memory_makes_it_busy() {
    let program = Program::start("states", "sibling");
    let result = stop(&program.memory(), &StopOptions::default());
    assert!(matches!(&result, Err(Error::Busy(text)) if text.contains("shares its memory")), "{result:?}");
    program.set_word(5, 1);
    program.wait_until("it is alone", |program| program.word(1) > 0);
    stop_and_go(&program);
}

#[test]
fn no_process_that_shares_the_memory_runs_during_a_stop() {
    let program = Program::start("states", "siblings");
    let (mut stops, mut busy) = (0, 0);
    while stops < 200 || busy < 5 {
        match stop(&program.memory(), &StopOptions::default()) {
            Ok(stopped) => {
                stops += 1;
                let before = program.word(2);
                std::thread::sleep(Duration::from_micros(500));
                assert_eq!(program.word(2), before, "it counts in stop {stops}");
                stopped.resume().expect("all threads were as the kernel promises");
            }
            Err(Error::Busy(text)) if text.contains("shares its memory") => busy += 1,
            Err(why) => panic!("{why}"),
        }
    }
}

#[test]
fn a_program_that_may_make_few_calls_makes_no_others() {
    let program = Program::start("states", "filtered");
    for round in 0..500 {
        stop_and_go(&program);
        if round % 50 == 0 {
            let before = [1, 3].map(|index| program.word(index));
            program.wait_until("both threads go on", |program| {
                [1, 3].iter().zip(before).all(|(index, before)| program.word(*index) > before)
            });
        }
    }
}
