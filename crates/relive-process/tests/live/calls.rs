//! Blocking calls and the stop: each call of the matrix in a thread of its own, woken, run out of time, or interrupted by a
//! signal, while the process is stopped again and again. What a call gives must be what it gives without any stop.

use crate::support::Program;
use relive_process::stop::{StopOptions, stop};

/// Word of the state of call `call`: 1 inside, 2 done. Behind it: result, error number, microseconds.
const fn state(call: usize) -> usize {
    64 + 4 * call
}

/// What one call gave.
#[derive(Debug, PartialEq, Eq)]
struct Made {
    name: String,
    result: i64,
    error: u64,
    micros: u64,
}

/// A started matrix, all of whose calls block.
fn matrix(kind: &str) -> (Program, Vec<String>) {
    let program = Program::start("calls", kind);
    let names = std::fs::read_to_string(program.board().with_file_name("names")).expect("the program wrote it");
    let names: Vec<String> = names.lines().map(str::to_owned).collect();
    assert_eq!(names.len() as u64, program.word(1));
    program.wait_until("every call blocks", |program| {
        let inside = (0..names.len()).all(|call| program.word(state(call)) >= 1);
        inside && program.threads().iter().all(|state| *state == 'S')
    });
    (program, names)
}

/// Stops until the calls are over, at least once before they are woken.
fn made(program: &Program, names: &[String]) -> Vec<Made> {
    stop_often(program, names);
    let all_done = || (0..names.len()).all(|call| program.word(state(call)) == 2);
    program.wait_until("every call is done", |_| all_done());
    outcomes(program, names)
}

/// Stops until the calls are over, or it has stopped very often.
fn stop_often(program: &Program, names: &[String]) {
    let all_done = || (0..names.len()).all(|call| program.word(state(call)) == 2);
    let mut stops = 0;
    let stop_once = || {
        let stopped = stop(&program.memory(), &StopOptions::default()).expect("the program runs and is ours");
        stopped.resume().expect("all threads were as the kernel promises");
    };
    (0..20).for_each(|_| stop_once());
    program.set_word(2, 1);
    while !all_done() && stops < 3000 {
        stop_once();
        stops += 1;
        std::thread::yield_now();
    }
}

fn outcomes(program: &Program, names: &[String]) -> Vec<Made> {
    let one = |(call, name): (usize, &String)| Made {
        name: name.clone(),
        result: program.word(state(call) + 1).cast_signed(),
        error: program.word(state(call) + 2),
        micros: program.word(state(call) + 3),
    };
    names.iter().enumerate().map(one).collect()
}

#[test]
fn calls_that_are_woken_give_what_they_wait_for() {
    let (program, names) = matrix("wake");
    assert!(names.len() >= 50, "{names:?}");
    let made = made(&program, &names);
    let bad: Vec<_> = made.iter().filter(|made| made.result < 0).collect();
    assert!(bad.is_empty(), "{bad:?}");
    program.set_word(3, 1);
    assert_eq!(program.end(), Some(0));
}

#[test]
fn calls_with_a_deadline_run_out_of_time_and_not_before() {
    const WAIT: u64 = 400_000;
    let (program, names) = matrix("deadline");
    assert!(names.len() >= 33, "{names:?}");
    let made = made(&program, &names);
    let bad: Vec<_> = made.iter().filter(|made| made.result != 0 || made.micros < WAIT).collect();
    assert!(bad.is_empty(), "{bad:?}");
    program.set_word(3, 1);
    assert_eq!(program.end(), Some(0));
}

/// Has calls that still block get another signal; gives how many they were. The kernel makes a call again by setting the thread
/// back to before it. A signal that comes in that moment, which lasts as long as another thread has the processor, runs its
/// handler before the call is made, as one that came before the program made it: the call then blocks, after any stop by
/// anybody. Programs must expect that; here it must be rare.
fn signal_again(program: &Program, names: &[String]) -> u64 {
    let left = || (0..names.len()).filter(|call| program.word(state(*call)) != 2).count() as u64;
    let asleep = |program: &Program| left() == 0 || program.threads().iter().all(|state| *state == 'S');
    program.wait_until("what is left blocks", asleep);
    let again = left();
    if again > 0 {
        program.set_word(4, 1);
        program.wait_until("every call is done", |_| left() == 0);
    }
    again
}

#[test]
fn calls_that_a_handled_signal_ends_say_so_once() {
    const EINTR: u64 = 4;
    for _ in 0..5 {
        let (program, names) = matrix("signal");
        assert!(names.len() >= 56, "{names:?}");
        stop_often(&program, &names);
        program.wait_until("all signals were handled", |program| program.word(62) == names.len() as u64);
        let again = signal_again(&program, &names);
        assert!(again <= 2, "{again} of {} calls go on although their signal was handled", names.len());
        let made = outcomes(&program, &names);
        let bad: Vec<_> = made.iter().filter(|made| made.result != -1 || made.error != EINTR).collect();
        assert!(bad.is_empty(), "{bad:?}");
        assert_eq!(program.word(62), names.len() as u64 + again, "signals that were handled");
        program.set_word(3, 1);
        assert_eq!(program.end(), Some(0));
    }
}

/// Some calls go on after a handler with `SA_RESTART`, others say `EINTR` (signal(7)): with stops as without.
#[test]
fn calls_after_a_handler_that_restarts_them_are_as_without_a_stop() {
    let run = |stops: bool| {
        let (program, names) = matrix("restart");
        assert!(names.len() >= 46, "{names:?}");
        if stops {
            stop_often(&program, &names);
        } else {
            program.set_word(2, 1);
        }
        program.wait_until("all signals were handled", |program| program.word(62) == names.len() as u64);
        let done = |call: usize| program.word(state(call)) == 2;
        let asleep =
            |program: &Program| (0..names.len()).all(done) || program.threads().iter().all(|state| *state == 'S');
        program.wait_until("what is left blocks", asleep);
        let went_on: Vec<_> = (0..names.len()).map(|call| !done(call)).collect();
        program.set_word(5, 1);
        program.wait_until("every call is done", |_| (0..names.len()).all(done));
        let made = outcomes(&program, &names);
        program.set_word(3, 1);
        assert_eq!(program.end(), Some(0));
        made.into_iter().zip(went_on).map(|(made, went_on)| (made.name, went_on, made.error)).collect::<Vec<_>>()
    };
    let (without, with) = (run(false), run(true));
    assert!(without.iter().filter(|(_, went_on, _)| *went_on).count() >= 15, "{without:?}");
    assert!(without.iter().filter(|(_, went_on, error)| !went_on && *error == 4).count() >= 15, "{without:?}");
    let differs = |pair: &(_, _)| pair.0 != pair.1;
    let differ: Vec<_> = without.into_iter().zip(with).filter(differs).collect();
    // The moment that is the kernel's, see `signal_again`.
    let is_kernels = |(without, with): &((String, bool, u64), (String, bool, u64))| !without.1 && with.1;
    assert!(differ.iter().all(is_kernels) && differ.len() <= 2, "{differ:?}");
}

/// The limit of `poll` is the kernel's to keep; that of `epoll_wait` would begin anew with each stop.
#[test]
fn an_event_loops_limit_is_kept_over_stops() {
    let (program, names) = matrix("deadline");
    program.set_word(2, 1);
    let pick = |made: &[Made], name: &str| made.iter().find(|made| made.name == name).map(|made| made.micros);
    for _ in 0..8 {
        // Not to wait for something: each stop is to come a good part of the limit after the one before.
        std::thread::sleep(std::time::Duration::from_millis(40));
        let stopped = stop(&program.memory(), &StopOptions::default()).expect("the program runs and is ours");
        stopped.resume().expect("all threads were as the kernel promises");
    }
    program.wait_until("every call is done", |_| (0..names.len()).all(|call| program.word(state(call)) == 2));
    let made = outcomes(&program, &names);
    let poll = pick(&made, "poll").expect("it is in the matrix");
    for name in ["epoll_wait", "epoll_pwait"] {
        let micros = pick(&made, name).expect("it is in the matrix");
        assert!((400_000..poll + 150_000).contains(&micros), "{name}: {micros} microseconds, poll {poll}");
    }
    program.set_word(3, 1);
    assert_eq!(program.end(), Some(0));
}
