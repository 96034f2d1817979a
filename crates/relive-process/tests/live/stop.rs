//! Stopping and letting go, seen from the program: nothing is lost, nothing is interrupted, nothing stays behind.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::Program;
use relive_process::maps::MemoryMap;
use relive_process::stop::{StopOptions, Stopped, stop};
use relive_process::unwind::{End, Frames, Unwinder};
use relive_process::{Error, LiveAddr};

fn stop_now(program: &Program) -> Stopped {
    stop(&program.memory(), &StopOptions::default()).expect("the program runs and is ours")
}

/// What a thread's `status` says of it.
fn field(pid: u32, tid: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim().to_owned())
}

#[test]
fn five_hundred_stops_interrupt_no_call_and_all_threads_advance() {
    let program = Program::start("threads", "blocking");
    for round in 0..500 {
        let before = program.words(1..10);
        let stopped = stop_now(&program);
        assert_eq!(stopped.threads().len(), 9, "round {round}");
        stopped.resume().expect("all threads were as the kernel promises");
        if round % 25 == 0 {
            program.wait_until("every thread advanced", |program| {
                program.words(1..10).iter().zip(&before).all(|(now, before)| now > before)
            });
        }
    }
    assert_eq!(program.words(33..42), [0; 9], "calls that returned EINTR, by thread");
}

#[test]
fn a_stopped_process_does_nothing_and_dropping_lets_it_go() {
    let program = Program::start("threads", "spin");
    let stopped = stop_now(&program);
    let at_rest = program.words(1..3);
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(program.words(1..3), at_rest);
    drop(stopped);
    program.wait_until("both threads advanced", |program| {
        program.words(1..3).iter().zip(&at_rest).all(|(now, before)| now > before)
    });
}

#[test]
fn no_thread_escapes_while_threads_come_and_go() {
    let program = Program::start("threads", "bomb");
    let pid = program.pid();
    for round in 0..300 {
        let stopped = stop_now(&program);
        for entry in std::fs::read_dir(format!("/proc/{pid}/task")).expect("the program runs") {
            let tid = entry.expect("the program runs").file_name().to_string_lossy().into_owned();
            let state = field(pid, &tid, "State:").unwrap_or_else(|| "X".to_owned());
            let traced = field(pid, &tid, "TracerPid:").is_some_and(|tracer| tracer != "0");
            let stopped_here = stopped.threads().iter().any(|thread| thread.tid.to_string() == tid);
            assert!(state.starts_with(['Z', 'X']) || (traced && stopped_here), "round {round}: {tid} is {state}");
        }
        let before = program.words(1..3);
        stopped.resume().expect("all threads were as the kernel promises");
        if round % 50 == 0 {
            program.wait_until("threads come and go again", |program| program.word(2) > before[1] + 4);
        }
    }
}

#[test]
fn a_job_that_was_stopped_stays_stopped() {
    let program = Program::start("threads", "spin");
    program.signal("STOP");
    program.wait_until("it is stopped", |program| program.state() == 'T');
    let at_rest = program.words(1..3);
    for _ in 0..20 {
        stop_now(&program).resume().expect("all threads were as the kernel promises");
        program.wait_until("it is stopped again", |program| program.state() == 'T');
    }
    assert_eq!(program.words(1..3), at_rest);
    program.signal("CONT");
    program.wait_until("it goes on", |program| program.word(1) > at_rest[0] && program.word(2) > at_rest[1]);
}

#[test]
fn queued_signals_arrive_once_and_in_order() {
    let program = Program::start("threads", "numbers");
    let mut stops = 0;
    while program.word(1) < 20_000 {
        match stop(&program.memory(), &StopOptions::default()) {
            Ok(stopped) => drop(stopped.resume().expect("all threads were as the kernel promises")),
            Err(Error::Gone(_)) => break,
            Err(why) => panic!("{why}"),
        }
        stops += 1;
    }
    // A busy machine makes few stops while the numbers come; so many have to be in between for the test to mean anything.
    assert!(stops > 10, "only {stops} stops");
    assert_eq!(program.word(3), 0, "signals out of order, of {} after {stops} stops", program.word(1));
    assert_eq!(program.end(), Some(0));
}

/// The environment key that has the test below stop a process until it is killed.
const STOP_FOR_EVER: &str = "RELIVE_TEST_STOP_FOR_EVER";

#[test]
#[ignore = "the helper of the test below"]
fn stops_until_it_is_killed() {
    let Some(pid) = std::env::var(STOP_FOR_EVER).ok().and_then(|pid| pid.parse().ok()) else { return };
    let Ok(memory) = relive_process::memory::Memory::open(pid) else { return };
    let Ok(_stopped) = stop(&memory, &StopOptions::default()) else { return };
    writeln!(std::io::stdout(), "\nstopped").expect("somebody listens");
    std::thread::park();
}

/// Stops `program` from a process of its own, which is killed before it lets go.
fn stop_and_be_killed(program: &Program) {
    let mut tool = Command::new(std::env::current_exe().expect("this test has a file"));
    tool.args(["--exact", "stop::stops_until_it_is_killed", "--ignored"]).stdout(Stdio::piped());
    let mut tool = tool.env(STOP_FOR_EVER, program.pid().to_string()).spawn().expect("this test can be started");
    let lines = BufReader::new(tool.stdout.take().expect("it is piped")).lines();
    // The end of the lines is the end of a tool that found no program any more.
    lines.map_while(Result::ok).find(|line| line == "stopped");
    tool.kill().expect("it is our child");
    tool.wait().expect("it is our child");
}

#[test]
fn a_tool_that_is_killed_while_it_stops_loses_no_signal() {
    let mut kills = 0;
    // A busy machine starts few tools during one program.
    while kills < 40 {
        let program = Program::start("threads", "numbers");
        while program.word(1) < 20_000 && program.word(3) == 0 {
            stop_and_be_killed(&program);
            kills += 1;
        }
        assert_eq!(program.word(3), 0, "a signal was lost, {} came before, {kills} tools were killed", program.word(1));
        assert_eq!(program.end(), Some(0));
    }
}

#[test]
fn a_word_is_found_however_deep_it_lies_and_below_a_signal_on_another_stack() {
    const MARK: u64 = 0x5ca_1ab1_e0dd_ba11;
    for mode in ["deep", "other-stack"] {
        let program = Program::start("threads", mode);
        program.wait_until("it is parked", |program| program.word(1) == 1);
        let map = MemoryMap::read(program.pid()).expect("the program runs");
        let stopped = stop_now(&program);
        let captured = stopped.capture_stacks(&map).expect("the program runs");
        let (thread, stack) = (&captured[0].thread, &captured[0].stack);
        let found = |mark: u64| stopped.any_word(thread, &map, &mut |word| word == mark).expect("the program runs");
        assert!(!stack.windows(8).any(|word| word == MARK.to_le_bytes()), "{mode}: the capture alone would do");
        assert!(found(MARK) && !found(MARK ^ 0xff), "{mode}");
        stopped.resume().expect("all threads were as the kernel promises");
    }
}

#[test]
fn read_only_code_is_written_while_stopped() {
    let program = Program::start("threads", "answer");
    let answer = LiveAddr(program.word(16));
    let stopped = stop_now(&program);
    let code = stopped.memory().read_vec(answer, 16).expect("the function is mapped");
    let load = code.windows(5).position(|bytes| bytes == [0xb8, 1, 0, 0, 0]).expect("the compiler loads eax");
    let operand = answer.plus(load as u64 + 1);
    let map = MemoryMap::read(program.pid()).expect("the program runs");
    assert!(!map.find(operand).expect("the function is mapped").protection.write);
    stopped.memory().write(operand, &[2]).expect("a private page");
    stopped.resume().expect("all threads were as the kernel promises");
    assert_eq!(program.end(), Some(42));
}

#[test]
fn a_main_thread_that_has_ended_is_no_obstacle() {
    let program = Program::start("threads", "leader-exits");
    // The memory of the process goes by its main thread: it is opened in time, as relive does.
    let memory = program.memory();
    program.set_word(4, 1);
    program.wait_until("the main thread has ended", |program| program.state() == 'Z');
    for _ in 0..50 {
        let stopped = stop(&memory, &StopOptions::default()).expect("a thread of the program runs");
        assert_eq!(stopped.threads().len(), 1);
        stopped.resume().expect("all threads were as the kernel promises");
    }
    let before = program.word(1);
    program.wait_until("the other thread advances", |program| program.word(1) > before);
}

#[test]
fn a_second_tracer_is_busy() {
    let program = Program::start("threads", "spin");
    let stopped = stop_now(&program);
    match stop(&program.memory(), &StopOptions::default()) {
        Err(Error::Busy(text)) => assert!(text.contains("a debugger (pid"), "{text}"),
        other => panic!("{other:?}"),
    }
    stopped.resume().expect("all threads were as the kernel promises");
    stop_now(&program).resume().expect("the failed attempt left nothing behind");
}

#[test]
fn a_process_that_is_killed_while_stopped_is_gone() {
    let mut program = Program::start("threads", "spin");
    let memory = program.memory();
    let stopped = stop_now(&program);
    program.child.kill().expect("it is our child");
    stopped.resume().expect("a dead thread needs nothing");
    assert!(program.child.wait().is_ok_and(|status| status.code().is_none()));
    assert!(matches!(stop(&memory, &StopOptions::default()), Err(Error::Gone(_))));
    assert!(matches!(memory.read(LiveAddr(0x1000), &mut [0]), Err(Error::Gone(_))));
}

#[test]
fn a_program_that_replaces_itself_is_gone_and_unharmed() {
    let program = Program::start("threads", "exec");
    let (mut stopped, mut gone, mut last) = (0, 0, None);
    while let Ok(memory) = relive_process::memory::Memory::open(program.pid()) {
        match stop(&memory, &StopOptions::default()) {
            Ok(guard) => {
                stopped += 1;
                guard.resume().expect("all threads were as the kernel promises");
            }
            Err(Error::Gone(_)) => gone += 1,
            Err(why) => last = Some(why),
        }
        if last.is_some() || program.state() == 'Z' {
            break;
        }
    }
    assert!(last.is_none(), "{last:?} after {stopped} stops, {gone} times gone");
    assert!(stopped > 0 && gone > 0, "{stopped} stops, {gone} times gone");
    assert_eq!(program.end(), Some(0));
}

#[test]
fn a_thread_that_cannot_stop_makes_it_busy_and_all_go_on() {
    let program = Program::start("threads", "vfork");
    // A stop inside vfork lasts as long as the child; the child is told to end only at the end of the test.
    program.set_word(4, 1);
    program.wait_until("the child runs", |program| program.word(2) == 1);
    let start = Instant::now();
    let result = stop(&program.memory(), &StopOptions { deadline: Duration::from_millis(50) });
    let took = start.elapsed();
    // The child shares the memory, and is found out before the thread that waits for it.
    assert!(matches!(&result, Err(Error::Busy(text)) if text.contains("shares its memory")), "{result:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    let before = program.word(1);
    program.wait_until("the other thread advances", |program| program.word(1) > before);
    program.set_word(5, 1);
    assert_eq!(program.end(), Some(21));
}

/// The frames of each thread, by thread number.
fn all_frames(program: &Program) -> Vec<(u32, Frames)> {
    let map = MemoryMap::read(program.pid()).expect("the program runs");
    let mut unwinder = Unwinder::new(program.memory());
    unwinder.refresh(&map).expect("the program runs");
    let stopped = stop_now(program);
    let captured = stopped.capture_stacks(&map).expect("the program runs");
    stopped.resume().expect("all threads were as the kernel promises");
    captured.iter().map(|captured| (captured.thread.tid, unwinder.frames(captured))).collect()
}

/// Where each of `functions` is first met in `frames`, which must be in this order.
fn order(frames: &Frames, functions: &[u64]) -> Vec<Option<usize>> {
    let inside = |addr: LiveAddr, function: u64| (function..function + 128).contains(&addr.0);
    functions.iter().map(|function| frames.addresses.iter().position(|addr| inside(*addr, *function))).collect()
}

#[test]
fn the_callers_of_a_parked_thread_are_found_through_calls_and_signals() {
    let program = Program::start("threads", "callers");
    let functions = program.words(16..20);
    // The main thread is ready right before it raises the signal.
    program.wait_until("the handler is parked", |program| {
        std::fs::read_to_string(format!("/proc/{0}/task/{0}/syscall", program.pid()))
            .is_ok_and(|text| text.starts_with("0 "))
    });
    let frames = all_frames(&program);
    assert_eq!(frames.len(), 2);
    for (tid, frames) in &frames {
        assert_eq!(frames.end, End::Outermost, "{tid}: {frames:?}");
        let expected = if *tid == program.pid() { &functions[..] } else { &functions[..3] };
        let found = order(frames, expected);
        assert!(
            found.iter().all(Option::is_some) && found.is_sorted(),
            "{tid}: {found:?} in {frames:x?} of {functions:x?}"
        );
    }
}

#[test]
fn callers_on_another_stack_are_found_while_the_thread_is_stopped() {
    let program = Program::start("threads", "callers-apart");
    let functions = program.words(16..20);
    program.wait_until("the handler is parked", |program| {
        std::fs::read_to_string(format!("/proc/{0}/task/{0}/syscall", program.pid()))
            .is_ok_and(|text| text.starts_with("0 "))
    });
    let map = MemoryMap::read(program.pid()).expect("the program runs");
    let mut unwinder = Unwinder::new(program.memory());
    unwinder.refresh(&map).expect("the program runs");
    let stopped = stop_now(&program);
    let captured = stopped.capture_stacks(&map).expect("the program runs");
    let main = captured.iter().find(|captured| captured.thread.tid == program.pid()).expect("it has not ended");
    let (apart, whole) = (unwinder.frames(main), unwinder.frames_of_stopped(main));
    assert_ne!(apart.end, End::Outermost, "the handler runs on another stack: {apart:x?}");
    assert_eq!(whole.end, End::Outermost, "{whole:x?}");
    let found = order(&whole, &functions);
    assert!(found.iter().all(Option::is_some) && found.is_sorted(), "{found:?} in {whole:x?} of {functions:x?}");
}

#[test]
fn threads_in_system_calls_have_whole_chains() {
    let program = Program::start("threads", "blocking");
    // A thread that never ran is at a place in libc that no table covers.
    program.wait_until("every thread advanced", |program| program.words(1..10).iter().all(|progress| *progress > 0));
    for _ in 0..20 {
        let lost: Vec<_> =
            all_frames(&program).into_iter().filter(|(_, frames)| frames.end != End::Outermost).collect();
        assert!(lost.is_empty(), "{lost:?}");
    }
}
