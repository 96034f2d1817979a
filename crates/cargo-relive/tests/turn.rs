//! `undo`, `redo` and `status`, asked of a real session from another process.

mod support;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use support::{RELIVE, Running, SOON, START, Scratch, command};

const MANIFEST: &str = "[package]\nname = \"turner\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n";

const MAIN: &str = r#"
mod work;

use std::io::Read;
use std::time::Duration;

fn main() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(if std::env::args().len() > 9 { work::seldom() } else { 0 });
    });
    loop {
        println!("{}.", work::line());
        std::thread::sleep(Duration::from_millis(10));
    }
}
"#;

/// Says its number, and how often each of the counters in `counters` was counted.
fn work(number: u32, counters: &[&str]) -> String {
    let mut text = "use std::sync::atomic::{AtomicU64, Ordering::Relaxed};\n".to_owned();
    for counter in counters {
        text += &format!("static {counter}: AtomicU64 = AtomicU64::new(0);\n");
    }
    let shown: Vec<_> = counters.iter().map(|counter| format!("{counter} {{}}")).collect();
    let counted: Vec<_> = counters.iter().map(|counter| format!(", {counter}.fetch_add(1, Relaxed)")).collect();
    text + &format!(
        "pub fn line() -> String {{ format!(\"v{number} {}\"{}) }}\npub fn seldom() -> i32 {{ {number} }}\n",
        shown.join(" "),
        counted.concat()
    )
}

fn start(test: &str, work: &str) -> (Scratch, Running) {
    let scratch = Scratch::new(test);
    scratch.write("Cargo.toml", MANIFEST);
    scratch.write("src/main.rs", MAIN);
    scratch.write("src/work.rs", work);
    let mut running = Running::start(&scratch.0, &[]);
    running.wait_line("v1", START).expect("it starts");
    (scratch, running)
}

fn save(scratch: &Scratch, running: &mut Running, patch: usize, work: &str) -> Value {
    scratch.write("src/work.rs", work);
    running.wait_patch(patch, SOON).expect("an answer")
}

fn ask(folder: &Path, args: &[&str]) -> Output {
    command(RELIVE, folder).args(args).output().expect("relive runs")
}

/// stdout of a command that does what it is asked.
#[track_caller]
fn said(folder: &Path, args: &[&str]) -> String {
    let output = ask(folder, args);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {error}");
    String::from_utf8(output.stdout).expect("text")
}

/// The number behind `name` in a line.
fn counted(line: &str, name: &str) -> u64 {
    let (_, rest) = line.split_once(name).expect("it is counted");
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

#[test]
fn edits_are_taken_back_and_made_again_with_all_state_and_no_compiler() {
    let (scratch, mut running) = start("turn", &work(1, &["FIRST"]));
    let folder = &scratch.0;
    running.wait_lines("v1", 5, SOON).expect("it runs");
    assert_eq!(save(&scratch, &mut running, 1, &work(2, &["SECOND"]))["outcome"], "applied");
    running.wait_lines("v2", 5, SOON).expect("it runs");
    assert_eq!(save(&scratch, &mut running, 2, &work(3, &["SECOND", "THIRD"]))["outcome"], "applied");
    let third = counted(&running.wait_line("v3", SOON).expect("it runs"), "THIRD");

    let text = said(folder, &["undo"]);
    assert_eq!(text, "1 edit taken back; generation 1 runs (1 can be taken back, 1 can be made again)\n");
    let second = counted(&running.wait_line("v2", SOON).expect("it runs"), "SECOND");
    assert!(second >= 5, "a variable that stayed starts anew: {second}");
    assert!(said(folder, &["undo"]).starts_with("1 edit taken back; generation 0 runs"));
    let first = counted(&running.wait_line("v1", SOON).expect("it runs"), "FIRST");
    assert!(first >= 5, "a variable that comes back starts anew: {first}");

    let output = ask(folder, &["undo"]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("there is no earlier switch"), "{error}");

    assert!(said(folder, &["redo", "2"]).starts_with("2 edits switched in again; generation 2 runs"));
    let line = running.wait_line("v3", SOON).expect("it runs");
    assert!(counted(&line, "THIRD") > third && counted(&line, "SECOND") > second, "{line}");
    let turns = running.events().into_iter().filter(|event| event["event"] == "undo" || event["event"] == "redo");
    let turns: Vec<_> =
        turns.map(|event| (event["generation"].clone(), event["timings_ms"]["compile"].clone())).collect();
    assert_eq!(turns, [1, 0, 1, 2].map(|number| (Value::from(number), Value::from(0.0))));

    // What was taken back waits on disk: the next save brings it, together with what it changes.
    assert!(said(folder, &["undo", "2"]).starts_with("2 edits taken back; generation 0 runs"));
    assert_eq!(save(&scratch, &mut running, 3, &work(4, &["SECOND", "THIRD"]))["outcome"], "applied");
    running.wait_line("v4", SOON).expect("it runs");
    let output = ask(folder, &["redo"]);
    assert_eq!(output.status.code(), Some(1), "a new edit ends what could be made again");
    assert!(running.finish().success());
    assert!(running.stderr().contains("1 edit was live"), "{}", running.stderr());
    let output = ask(folder, &["status"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no session runs"));
}

#[test]
fn a_step_back_that_is_not_proved_sound_is_refused() {
    let text = |number: u32, field: &str, item: &str, value: &str| {
        format!(
            "pub struct Step {{ low: u64 {field} }}\n{item}\n\
             fn make() -> Step {{ Step {{ low: 2 {value} }} }}\n\
             pub fn line() -> String {{ let step = make(); let sum = sum(&step); keep(step); format!(\"v{number} {{sum}}\") }}\n\
             pub fn seldom() -> i32 {{ 1 }}\n"
        )
    };
    let sum = "fn sum(step: &Step) -> u64 { step.low }\nfn keep(_: Step) {}";
    let more = "fn sum(step: &Step) -> u64 { step.low + step.high }\n";
    let held = "static HELD: std::sync::Mutex<Vec<Step>> = std::sync::Mutex::new(Vec::new());\n\
                fn keep(step: Step) { HELD.lock().unwrap().push(step) }";
    let (scratch, mut running) = start("turn-refused", &text(1, "", sum, ""));
    let second = text(2, ", high: u64", &format!("{more}fn keep(_: Step) {{}}"), ", high: 3");
    assert_eq!(save(&scratch, &mut running, 1, &second)["outcome"], "applied");
    let third = text(3, ", high: u64", &format!("{more}{held}"), ", high: 3");
    assert_eq!(save(&scratch, &mut running, 2, &third)["outcome"], "applied");
    running.wait_lines("v3 5", 5, SOON).expect("it runs");

    let output = ask(&scratch.0, &["undo", "2"]);
    assert_eq!(output.status.code(), Some(1));
    let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(text.starts_with("1 edit taken back; generation 1 runs"), "{text}");
    assert!(error.contains("step 2 of 2 was not made") && error.contains("error[type-layout]"), "{error}");
    running.wait_lines("v2 5", 5, SOON).expect("it runs on");
    assert!(said(&scratch.0, &["redo"]).starts_with("1 edit switched in again; generation 2 runs"));
    running.wait_lines("v3 5", 5, SOON).expect("it runs");
    assert!(running.finish().success());
}

#[test]
fn status_says_what_runs_and_finds_what_was_altered() {
    let (scratch, mut running) = start("turn-status", &work(1, &["FIRST"]));
    assert!(said(&scratch.0, &["status"]).contains("generation 0 runs"));
    assert_eq!(save(&scratch, &mut running, 1, &work(2, &["FIRST"]))["outcome"], "applied");
    running.wait_line("v2", SOON).expect("it runs");
    let text = said(&scratch.0, &["status"]);
    assert!(text.contains("turner::work::line") && text.ends_with("everything is in memory as relive put it there\n"));
    let status: Value = serde_json::from_str(&said(&scratch.0, &["status", "--json"])).expect("JSON");
    let functions = status["functions"].as_array().expect("a list");
    let seldom = functions.iter().find(|function| function["name"] == "turner::work::seldom").expect("it was edited");
    assert_eq!(seldom["generation"], 1);

    let memory = File::options().write(true).open(format!("/proc/{}/mem", status["pid"])).expect("our own process");
    memory.write_all_at(&[0x90], seldom["address"].as_u64().expect("an address")).expect("is written");
    let output = ask(&scratch.0, &["status"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("ALTERED: the code of `turner::work::seldom` at"), "{text}");
    assert!(running.finish().success());
}

/// A stopped program, so that it does not meet what is altered.
struct Halted(String);

impl Halted {
    fn new(pid: &Value) -> Halted {
        let halted = Halted(pid.to_string());
        halted.signal("STOP");
        halted
    }

    fn signal(&self, name: &str) {
        let kill = Command::new("kill").args(["-s", name, &self.0]).status();
        assert!(kill.is_ok_and(|status| status.success()));
    }
}

impl Drop for Halted {
    fn drop(&mut self) {
        self.signal("CONT");
    }
}

/// From the entry in the executable on: a jump to the stub, which goes through the table that a word names.
#[test]
fn status_finds_each_step_of_the_way_to_new_code_that_was_altered() {
    let (scratch, mut running) = start("turn-way", &work(1, &[]));
    let exe = scratch.0.join("target/debug/turner");
    let symbols = said(&scratch.0, &["inspect", "--json", "--symbols", exe.to_str().expect("text")]);
    let symbols: Value = serde_json::from_str(&symbols).expect("JSON");
    let symbols = symbols["symbols"].as_array().expect("a list");
    let seldom = symbols.iter().find(|one| one["name"].as_str().is_some_and(|name| name.contains("seldom")));
    let seldom = seldom.expect("it is in the executable")["address"].as_u64().expect("a number");
    assert_eq!(save(&scratch, &mut running, 1, &work(2, &[]))["outcome"], "applied");
    running.wait_line("v2", SOON).expect("it runs");

    let status: Value = serde_json::from_str(&said(&scratch.0, &["status", "--json"])).expect("JSON");
    let halted = Halted::new(&status["pid"]);
    let maps = fs::read_to_string(format!("/proc/{}/maps", status["pid"])).expect("our own process");
    let first = maps.lines().find(|line| line.ends_with("debug/turner")).expect("its executable").to_owned();
    let start = u64::from_str_radix(first.split('-').next().expect("an address"), 16).expect("an address");
    let memory = File::options().read(true).write(true).open(format!("/proc/{}/mem", status["pid"])).expect("ours");
    let word = |at: u64| {
        let mut bytes = [0; 8];
        memory.read_exact_at(&mut bytes, at).expect("is read");
        u64::from_le_bytes(bytes)
    };
    let distance = |at: u64| word(at) as u32 as i32;
    let entry = start + seldom;
    let stub = (entry + 5).wrapping_add_signed(distance(entry + 1).into());
    let current = (stub + 7).wrapping_add_signed(distance(stub + 3).into());
    let in_table = word(current).wrapping_add_signed(distance(stub + 10).into());
    for (at, what) in [
        (entry + 1, "the entry of `turner::work::seldom` at"),
        (stub, "the stub of `turner::work::seldom` at"),
        (in_table, "the table leads `turner::work::seldom` to"),
        (current, "is the current one, and"),
    ] {
        let before = word(at);
        memory.write_all_at(&(before ^ 0x40).to_le_bytes(), at).expect("is written");
        let output = ask(&scratch.0, &["status"]);
        memory.write_all_at(&before.to_le_bytes(), at).expect("is written");
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("ALTERED: ") && text.contains(what), "{what}: {text}");
    }
    assert!(said(&scratch.0, &["status"]).ends_with("everything is in memory as relive put it there\n"));
    drop(halted);
    assert!(running.finish().success());
}

#[test]
fn status_says_what_is_pending_where() {
    let (scratch, mut running) = start("turn-pending", &work(1, &[]));
    scratch.write("src/main.rs", MAIN.replace("from_millis(10)", "from_millis(11)"));
    let patch = running.wait_patch(1, SOON).expect("an answer");
    assert_eq!(patch["outcome"], "applied", "{patch}");
    let status: Value = serde_json::from_str(&said(&scratch.0, &["status", "--json"])).expect("JSON");
    let pending = status["pending"].to_string();
    assert!(pending.contains("turner::main") && pending.contains("turner"), "{status}");
    assert!(said(&scratch.0, &["status"]).contains("turner::main"));
    assert!(running.finish().success());
}

#[test]
fn no_other_user_reaches_the_control_socket() {
    let (scratch, mut running) = start("turn-user", &work(1, &[]));
    let folder = scratch.0.join("target/relive/session");
    assert_eq!(fs::metadata(&folder).expect("the session's folder").mode() & 0o777, 0o700);
    assert!(folder.join("control.sock").exists());
    if rustix::process::geteuid().is_root() {
        use std::os::unix::process::CommandExt;
        let there = |uid: u32| Command::new("test").arg("-e").arg(folder.join("control.sock")).uid(uid).status();
        assert!(there(0).expect("runs").success());
        assert!(!there(65534).expect("runs").success());
    } else {
        eprintln!("not tried as another user: that takes root");
    }
    assert!(running.finish().success());
}
