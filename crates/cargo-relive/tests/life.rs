//! Programs that end, fork, replace themselves, are stopped or restrict themselves while they are patched.

mod support;

use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use support::{RELIVE, Running, SOON, START, Scratch, command, type_in};

const MANIFEST: &str = "[package]\nname = \"life\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n";

/// Says the versions of two functions, over and over; does what is typed in.
const MAIN: &str = r#"
mod work;

use std::io::BufRead;
use std::os::unix::process::CommandExt;
use std::time::Duration;

unsafe extern "C" {
    fn fork() -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn _exit(code: i32) -> !;
    fn prctl(option: i32, a: u64, b: u64, c: u64, d: u64) -> i32;
    fn syscall(number: i64, a: u64, b: u64, c: *const Program) -> i64;
}

#[repr(C)]
struct Program { len: u16, code: *const Code }
#[repr(C)]
struct Code { code: u16, yes: u8, no: u8, k: u32 }

/// From here on, a thread that opens a file ends the process.
fn filter() {
    let code = [
        Code { code: 0x20, yes: 0, no: 0, k: 0 },
        Code { code: 0x15, yes: 0, no: 1, k: 257 },
        Code { code: 0x06, yes: 0, no: 0, k: 0x8000_0000 },
        Code { code: 0x06, yes: 0, no: 0, k: 0x7fff_0000 },
    ];
    let program = Program { len: 4, code: code.as_ptr() };
    assert_eq!(unsafe { prctl(38, 1, 0, 0, 0) }, 0);
    assert_eq!(unsafe { syscall(317, 1, 1, &program) }, 0);
}

/// Children that call both functions, one after the other: each has to see one version.
fn forks() {
    loop {
        let child = unsafe { fork() };
        if child == 0 {
            for _ in 0..100 {
                if work::one() != work::two() { unsafe { _exit(1) } }
            }
            unsafe { _exit(0) }
        }
        let mut status = -1;
        unsafe { waitpid(child, &mut status, 0) };
        println!("child {status}");
    }
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("again") {
        println!("again");
        std::process::exit(8);
    }
    std::thread::spawn(|| {
        for line in std::io::stdin().lock().lines() {
            match line.unwrap().as_str() {
                "end" => std::process::exit(7),
                "exec" => panic!("{}", std::process::Command::new(std::env::current_exe().unwrap()).arg("again").exec()),
                "filter" => { filter(); println!("filtered"); }
                "fork" => { std::thread::spawn(forks); }
                other => panic!("{other}"),
            }
        }
        std::process::exit(0);
    });
    loop {
        println!("versions {} {}.", work::one(), work::two());
        std::thread::sleep(Duration::from_millis(5));
    }
}
"#;

fn work(version: u32) -> String {
    format!(
        "const VERSION: u32 = {version};\n#[inline(never)]\npub fn one() -> u32 {{ VERSION }}\n\
         #[inline(never)]\npub fn two() -> u32 {{ VERSION }}\n"
    )
}

struct Guest {
    scratch: Scratch,
    running: Running,
    patches: usize,
}

impl Guest {
    fn start(test: &str) -> Guest {
        let scratch = Scratch::new(test);
        scratch.write("Cargo.toml", MANIFEST);
        scratch.write("src/main.rs", MAIN);
        scratch.write("src/work.rs", work(1));
        let running = Guest::run(&scratch);
        Guest { scratch, running, patches: 0 }
    }

    fn run(scratch: &Scratch) -> Running {
        let mut running = Running::start(&scratch.0, &[]);
        running.wait_line("versions 1 1.", START).expect("it starts");
        running
    }

    /// Starts it anew, as it was at first.
    fn again(&mut self) {
        self.scratch.write("src/work.rs", work(1));
        std::fs::remove_file(self.scratch.0.join("events.jsonl")).expect("the events of the last time");
        self.running = Guest::run(&self.scratch);
        self.patches = 0;
    }

    fn save(&mut self, version: u32) {
        self.scratch.write("src/work.rs", work(version));
        self.patches += 1;
    }

    fn answer(&mut self) -> Value {
        self.running.wait_patch(self.patches, SOON).expect("an answer")
    }

    fn pid(&mut self) -> String {
        self.running.wait_started(SOON).expect("it was started")
    }
}

#[test]
fn a_stopped_program_is_changed_when_it_goes_on() {
    let mut guest = Guest::start("life-stopped");
    let signal = |guest: &mut Guest, name: &str| {
        let kill = Command::new("kill").args(["-s", name, &guest.pid()]).status();
        assert!(kill.is_ok_and(|status| status.success()));
    };
    signal(&mut guest, "STOP");
    guest.save(2);
    guest.running.wait_stderr("is stopped by a signal", SOON).expect("it says so");
    signal(&mut guest, "CONT");
    assert_eq!(guest.answer()["outcome"], "applied");
    guest.running.wait_line("versions 2 2.", SOON).expect("it runs");
    // Once there is room for images nothing has to run for a switch: it is made, and seen when the program goes on.
    signal(&mut guest, "STOP");
    guest.save(3);
    assert_eq!(guest.answer()["outcome"], "applied");
    let pid = guest.pid();
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    assert!(state.contains(") T "), "{state}");
    signal(&mut guest, "CONT");
    guest.running.wait_line("versions 3 3.", SOON).expect("it runs");
    assert!(guest.running.finish().success());
}

#[test]
fn a_program_under_a_filter_is_not_harmed() {
    let mut guest = Guest::start("life-filtered");
    type_in(&mut guest.running, "filter\n");
    guest.running.wait_line("filtered", SOON).expect("it does");
    guest.save(2);
    let answer = guest.answer();
    assert_eq!((&answer["outcome"], &answer["reasons"][0]["rule"]), (&"refused".into(), &"no-agent".into()));
    assert!(answer["reasons"][0]["message"].to_string().contains("seccomp"), "{answer}");
    guest.running.wait_lines("versions 1 1.", 5, SOON).expect("it runs on");
    assert!(guest.running.finish().success());
    // Where the filter comes after the first change the agent is no longer needed.
    guest.again();
    guest.save(2);
    assert_eq!(guest.answer()["outcome"], "applied");
    type_in(&mut guest.running, "filter\n");
    guest.running.wait_line("filtered", SOON).expect("it does");
    guest.save(3);
    assert_eq!(guest.answer()["outcome"], "applied");
    guest.running.wait_lines("versions 3 3.", 5, SOON).expect("it runs");
    assert!(guest.running.finish().success());
}

#[test]
fn a_child_has_one_version_whenever_it_is_made() {
    const EDITS: u32 = 10;
    let mut guest = Guest::start("life-forks");
    type_in(&mut guest.running, "fork\n");
    for version in 2..=EDITS + 1 {
        guest.save(version);
        assert_eq!(guest.answer()["outcome"], "applied");
    }
    for (turn, shown) in ["undo", "redo"].iter().zip([1, EDITS + 1]).cycle().take(10) {
        let output = command(RELIVE, &guest.scratch.0).args([*turn, &EDITS.to_string()]).output().expect("relive runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        guest.running.wait_line(&format!("versions {shown} {shown}."), SOON).expect("it runs");
    }
    assert!(guest.running.finish().success());
    let children: Vec<&String> = guest.running.seen.iter().filter(|line| line.starts_with("child ")).collect();
    assert!(children.len() > 100, "{} children", children.len());
    assert!(children.iter().all(|line| **line == "child 0"), "a child saw two versions, or ended badly");
}

/// Has the program do something at various times around a switch; relive must end with what the program ends with.
fn around_a_switch(guest: &mut Guest, words: &str, code: i32, last: &str) {
    for delay in (0..12).map(|step| Duration::from_millis(20 + step * 15)) {
        guest.save(2);
        // Compiling takes about as long as this: there is nothing to observe that says when the switch is made.
        thread::sleep(delay);
        type_in(&mut guest.running, words);
        assert_eq!(guest.running.wait_end().code(), Some(code), "after {delay:?}: {}", guest.running.stderr());
        let stderr = guest.running.stderr();
        assert!(!stderr.contains("panicked"), "{stderr}");
        let lines = guest.running.seen.iter().rev().find(|line| !line.starts_with("versions"));
        assert!(last.is_empty() || lines.is_some_and(|line| line == last), "{lines:?}");
        guest.again();
    }
    assert!(guest.running.finish().success());
}

#[test]
fn a_program_that_ends_meanwhile_ends_as_it_wants() {
    let mut guest = Guest::start("life-ends");
    around_a_switch(&mut guest, "end\n", 7, "");
}

#[test]
fn a_program_that_replaces_itself_meanwhile_is_left_alone() {
    let mut guest = Guest::start("life-execs");
    around_a_switch(&mut guest, "exec\n", 8, "again");
}
