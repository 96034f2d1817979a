//! What goes wrong outside: one message that says what to do, and the program runs on.

mod support;

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::{RELIVE, Running, SOON, START, Scratch, command};

const MANIFEST: &str = "[package]\nname = \"guest\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n";

const MAIN: &str = r#"
mod work;

use std::io::Read;
use std::time::Duration;

fn main() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    loop {
        println!("{}.", work::line());
        std::thread::sleep(Duration::from_millis(10));
    }
}
"#;

fn work(number: u32) -> String {
    format!("pub fn line() -> &'static str {{ \"v{number}\" }}\n")
}

fn project(test: &str, more: &str) -> Scratch {
    let scratch = Scratch::new(test);
    scratch.write("Cargo.toml", format!("{MANIFEST}{more}"));
    scratch.write("src/main.rs", MAIN);
    scratch.write("src/work.rs", work(1));
    scratch
}

fn start(scratch: &Scratch) -> Running {
    let mut running = Running::start(&scratch.0, &[]);
    running.wait_line("v1", START).expect("it starts");
    running
}

/// Saves, and gives the outcome with the first reason.
fn save(scratch: &Scratch, running: &mut Running, number: u32) -> (Value, String) {
    scratch.write("src/work.rs", work(number));
    let patch = running.wait_patch(number as usize - 1, SOON).expect("an answer");
    let reason = &patch["reasons"][0];
    let text = |key: &str| reason[key].as_str().unwrap_or_default().to_owned();
    (patch["outcome"].clone(), format!("{}: {} {}", text("rule"), text("message"), text("help")))
}

/// The program runs what it ran before, and ends well.
fn ends_well(mut running: Running, line: &str) {
    running.wait_lines(line, 3, SOON).expect("it runs on");
    assert!(running.finish().success(), "{}", running.stderr());
}

#[test]
fn a_file_in_place_of_the_target_directory() {
    let scratch = project("target-file", "");
    scratch.write("target", "");
    let output = command(RELIVE, &scratch.0).arg("run").stdin(Stdio::null()).output().expect("relive runs");
    assert_eq!(output.status.code(), Some(125));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        error.contains("cannot create") && error.contains("target") && error.contains("Not a directory"),
        "{error}"
    );
}

#[test]
fn a_stripped_executable() {
    let scratch = project("stripped", "\n[profile.dev]\nstrip = true\n");
    let mut running = start(&scratch);
    let (outcome, reason) = save(&scratch, &mut running, 2);
    assert_eq!(outcome, "failed");
    assert!(reason.contains("set `strip = false` in the profile"), "{reason}");
    ends_well(running, "v1");
}

#[test]
fn a_static_executable() {
    let scratch = project("static", "");
    scratch.write(".cargo/config.toml", "[build]\nrustflags = [\"-Ctarget-feature=+crt-static\"]\n");
    let mut running = start(&scratch);
    let (outcome, reason) = save(&scratch, &mut running, 2);
    assert_eq!(outcome, "refused");
    assert!(reason.starts_with("no-agent: ") && reason.contains("linked statically"), "{reason}");
    ends_well(running, "v1");
}

#[test]
fn a_limit_on_the_size_of_files() {
    let scratch = project("file-size", "");
    let mut running = start(&scratch);
    let pid = running.child.id().to_string();
    let limit = |bytes: &str| {
        let status = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}")]).status();
        assert!(status.expect("util-linux is installed").success());
    };
    // The event file cannot grow either, so stderr is what tells.
    limit("1:unlimited");
    scratch.write("src/work.rs", work(2));
    running.wait_stderr("relive: patch 1: ", SOON).expect("an answer");
    running.wait_lines("v1", 3, SOON).expect("it runs on");
    let text = running.stderr();
    assert!(
        text.contains("cannot write to the event file") && text.contains("error: rustc ended with signal"),
        "{text}"
    );
    limit("unlimited:unlimited");
    scratch.write("src/work.rs", work(3));
    running.wait_line("v3", SOON).expect("the next save is applied");
    ends_well(running, "v3");
}

#[test]
fn the_sessions_folder_is_removed() {
    let scratch = project("no-folder", "");
    let mut running = start(&scratch);
    fs::remove_dir_all(scratch.0.join("target/relive/session")).expect("it is there");
    let (outcome, reason) = save(&scratch, &mut running, 2);
    assert_eq!(outcome, "failed");
    assert!(reason.contains("cannot write the image to") && reason.contains("start relive again"), "{reason}");
    ends_well(running, "v1");
}

#[test]
fn the_target_directory_is_cleaned() {
    let scratch = project("cleaned", "");
    let mut running = start(&scratch);
    fs::remove_dir_all(scratch.0.join("target")).expect("it is there");
    let (outcome, reason) = save(&scratch, &mut running, 2);
    assert_eq!(outcome, "failed");
    assert!(reason.contains("`cargo clean` perhaps; start relive again"), "{reason}");
    ends_well(running, "v1");
}

#[test]
fn the_executable_is_replaced_on_disk() {
    let scratch = project("replaced", "");
    let mut running = start(&scratch);
    let exe = scratch.0.join("target/debug/guest");
    fs::remove_file(&exe).expect("it is there");
    fs::write(&exe, "another tool was here").expect("a file");
    assert_eq!(save(&scratch, &mut running, 2).0, "applied");
    ends_well(running, "v2");
}
