//! The command-line contract, kept by the real executable: exit codes, signals, streams, environment, event file.

mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use support::{RELIVE, Running, SOON, START, Scratch, command, type_in};

const MANIFEST: &str = "[package]\nname = \"subject\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n";

/// Does what its first argument says.
const SUBJECT: &str = r#"
use std::io::{BufRead, Write};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("code") => std::process::exit(args[1].parse().unwrap()),
        Some("abort") => std::process::abort(),
        Some("args") => println!("{args:?}"),
        Some("env") => {
            let mut all: Vec<_> = std::env::vars_os().collect();
            all.sort();
            for (key, value) in all {
                println!("{key:?}={value:?}");
            }
        }
        _ => {
            println!("ready");
            for line in std::io::stdin().lock().lines() {
                println!("read {}", line.unwrap());
                std::io::stdout().flush().unwrap();
            }
        }
    }
}
"#;

fn subject(test: &str) -> Scratch {
    let scratch = Scratch::new(test);
    scratch.write("Cargo.toml", MANIFEST);
    scratch.write("src/main.rs", SUBJECT);
    scratch
}

/// Runs relive to its end, with stdin from nowhere.
fn relive(folder: &Path, args: &[&str]) -> Output {
    command(RELIVE, folder).args(args).stdin(Stdio::null()).output().expect("relive runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Sends `signal` to relive alone.
fn signal(running: &Running, signal: Signal) {
    kill_process(Pid::from_child(&running.child), signal).expect("relive is there");
}

#[test]
fn a_wrong_command_line_is_2() {
    let scratch = Scratch::new("usage");
    for args in [&["run", "--frobnicate"][..], &["relive", "run", "--frobnicate"], &["frobnicate"], &[]] {
        let output = relive(&scratch.0, args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn a_first_build_that_fails_is_101_without_colours_and_without_a_thread() {
    let scratch = subject("build-fails");
    scratch.write("src/main.rs", "fn main() { missing() }\n");
    let mut run = command(RELIVE, &scratch.0);
    run.args(["run", "--events", "events.jsonl"]).env("CARGO_TERM_COLOR", "always").stdin(Stdio::null());
    let output = run.output().expect("relive runs");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(101), "{stderr}");
    assert!(output.stdout.is_empty());
    assert!(stderr.contains("cannot find function `missing`"), "{stderr}");
    assert!(!stderr.contains('\u{1b}'), "{stderr}");
    let events = fs::read_to_string(scratch.0.join("events.jsonl")).expect("an event file");
    assert_eq!(events.lines().count(), 1, "{events}");
    assert!(events.starts_with("{\"event\":\"build-failed\","), "{events}");
}

#[test]
fn a_folder_without_a_program_is_101_or_125_and_says_why() {
    let scratch = Scratch::new("no-manifest");
    let output = relive(&scratch.0, &["run", "--manifest-path", "none/Cargo.toml"]);
    assert!(matches!(output.status.code(), Some(101 | 125)), "{output:?}");
    assert!(text(&output.stderr).contains("none/Cargo.toml"), "{output:?}");
}

#[test]
fn an_event_file_that_cannot_be_opened_is_125() {
    let scratch = subject("no-events");
    let output = relive(&scratch.0, &["run", "--events", "no/such/folder/events.jsonl"]);
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    assert!(text(&output.stderr).contains("no/such/folder/events.jsonl"), "{output:?}");
}

#[test]
fn the_code_is_the_programs_in_both_spellings() {
    let scratch = subject("codes");
    for (args, code) in [
        (&["run", "--", "code", "7"][..], 7),
        (&["relive", "run", "--", "code", "7"], 7),
        (&["run", "--", "code", "0"], 0),
        (&["run", "--", "abort"], 134),
    ] {
        let output = relive(&scratch.0, args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output.stderr));
    }
}

#[test]
fn the_program_gets_its_arguments_and_cargos_environment() {
    let scratch = subject("environment");
    let output = relive(&scratch.0, &["run", "--", "args", "--release", "a b", "--"]);
    assert_eq!(text(&output.stdout), "[\"args\", \"--release\", \"a b\", \"--\"]\n");
    let under_relive = text(&relive(&scratch.0, &["run", "--", "env"]).stdout);
    let cargo = std::env::var_os("CARGO").expect("the cargo that runs the tests, which relive uses as well");
    let cargo = command(cargo, &scratch.0).args(["run", "-q", "--", "env"]).stdin(Stdio::null()).output();
    let under_cargo = text(&cargo.expect("cargo runs").stdout);
    let difference = |a: &str, b: &str| a.lines().filter(|line| !b.contains(line)).collect::<Vec<_>>().join("\n");
    assert_eq!(difference(&under_relive, &under_cargo), "", "only under relive");
    assert_eq!(difference(&under_cargo, &under_relive), "", "only under cargo");
}

#[test]
fn stdin_is_the_programs_alone() {
    let scratch = subject("stdin");
    let mut running = Running::start(&scratch.0, &[]);
    type_in(&mut running, "typed before the start\n");
    running.wait_line("read typed before the start", START).expect("the first line");
    type_in(&mut running, "and after\n");
    running.wait_line("read and after", SOON).expect("the second line");
    assert_eq!(running.finish().code(), Some(0), "{}", running.stderr());
    assert_eq!(running.seen, ["ready", "read typed before the start", "read and after"]);
}

#[test]
fn sigterm_reaches_the_program() {
    for (signal_sent, number) in [(Signal::TERM, 15), (Signal::HUP, 1)] {
        let scratch = subject(&format!("passed-on-{number}"));
        let mut running = Running::start(&scratch.0, &[]);
        running.wait_line("ready", START).expect("a start");
        signal(&running, signal_sent);
        let status = running.wait_end();
        assert_eq!((status.code(), status.signal()), (Some(128 + number), None), "{}", running.stderr());
        let events = running.events();
        let (first, last) = (events.first().expect("events"), events.last().expect("events"));
        assert_eq!((&first["event"], &last["event"]), (&"started".into(), &"exited".into()), "{events:?}");
        assert_eq!(last["code"], 128 + number);
    }
}

#[test]
fn sigint_and_sigquit_are_left_to_the_program() {
    let scratch = subject("ignored");
    let mut running = Running::start(&scratch.0, &[]);
    running.wait_line("ready", START).expect("a start");
    signal(&running, Signal::INT);
    signal(&running, Signal::QUIT);
    type_in(&mut running, "still here\n");
    running.wait_line("read still here", SOON).expect("the program runs on");
    assert_eq!(running.finish().code(), Some(0), "{}", running.stderr());
}

#[test]
fn events_go_to_a_descriptor_as_well() {
    let scratch = subject("descriptor");
    let mut shell = command("sh", &scratch.0);
    let output = shell.arg("-c").arg("exec \"$0\" run --events fd:7 -- code 3 7>>log").arg(RELIVE);
    assert_eq!(output.stdin(Stdio::null()).output().expect("a shell").status.code(), Some(3));
    let events = fs::read_to_string(scratch.0.join("log")).expect("an event file");
    assert!(events.starts_with("{\"event\":\"started\","), "{events}");
    assert!(events.ends_with("\"code\":3,\"live_edits\":0}\n"), "{events}");
}

#[test]
fn relives_text_has_its_name_and_no_colours() {
    let scratch = subject("plain");
    let output = relive(&scratch.0, &["run", "--", "code", "0"]);
    let stderr = text(&output.stderr);
    assert!(stderr.contains("\nrelive: started process "), "{stderr}");
    assert!(stderr.ends_with("relive: the program ended with code 0; no edit was live\n"), "{stderr}");
    assert!(!stderr.contains('\u{1b}'), "{stderr}");
    let coloured = text(&relive(&scratch.0, &["run", "--color", "always", "--", "code", "0"]).stderr);
    assert!(coloured.contains("\u{1b}[1;36mrelive:\u{1b}[0m started"), "{coloured}");
}
