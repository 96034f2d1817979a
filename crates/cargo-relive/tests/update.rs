//! `run --update-binary`: after each switch the executable on disk is started again, and does what a fresh build does.

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use support::{RELIVE, Running, SOON, START, Scratch, command};

const MANIFEST: &str = r#"
[package]
name = "updated"
version = "0.1.0"
edition = "2024"

[dependencies]
kept = { path = "kept" }

[workspace]
members = ["kept"]
"#;

const KEPT_MANIFEST: &str = "[package]\nname = \"kept\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";

/// A crate that no edit touches, and that refers to what edits change.
const KEPT: &str = r#"
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

unsafe extern "C" {
    safe static NUMBER: AtomicU64;
    safe static WORD: Text;
    safe fn doubled(x: u64) -> u64;
}

#[repr(C)]
pub struct Text(pub &'static str);

// A function of its own that is called like one of the C library.
core::arch::global_asm!(".type labs,@function", "labs: mov rax, 77", "ret", ".size labs, . - labs");
unsafe extern "C" {
    fn labs(x: i64) -> i64;
}

#[inline(never)]
pub fn private_labs() -> i64 {
    unsafe { labs(1) }
}

pub fn said() -> String {
    format!("{} {} {} {}", NUMBER.load(Relaxed), WORD.0, doubled(21), private_labs())
}

/// Nothing calls it at first, so a linker leaves it out.
#[inline(never)]
pub fn unused(text: &str) -> String {
    static CALLS: AtomicU64 = AtomicU64::new(40);
    format!("{text} {} {}", CALLS.fetch_add(1, Relaxed) >= 40, later(text.len()))
}

#[inline(never)]
fn later(len: usize) -> usize {
    std::hint::black_box(len) + 1
}
"#;

const MAIN: &str = r#"
mod work;

fn main() {
    if std::env::args().nth(1).is_some() {
        println!("{}", work::report());
        return;
    }
    std::thread::spawn(|| {
        let _ = std::io::Read::read_to_end(&mut std::io::stdin(), &mut Vec::new());
        std::process::exit(0);
    });
    loop {
        println!("{}", work::report());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
"#;

/// What all versions have: something for `kept`, thread-locals, and a panic that is caught, with a value that is dropped.
const COMMON: &str = r#"
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// Takes no room in a file.
static ZEROES: [AtomicU8; 64 << 20] = [const { AtomicU8::new(0) }; 64 << 20];

/// More than a page.
#[repr(align(16384))]
struct Wider(AtomicU64);
static WIDER: Wider = Wider(AtomicU64::new(5));

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(3) };
    static LIST: RefCell<Vec<u64>> = RefCell::new(vec![1, 2]);
}

struct Noisy(u64);

impl Drop for Noisy {
    fn drop(&mut self) {
        COUNT.set(COUNT.get() + self.0);
    }
}

#[inline(never)]
fn fails(by: u64) -> u64 {
    let noisy = Noisy(by);
    if by > 0 { panic!("by {by}") }
    noisy.0
}

fn common() -> String {
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| std::panic::set_hook(Box::new(|info| {
        let place = info.location().unwrap();
        println!("{}:{}", place.line(), place.column());
    })));
    COUNT.set(3);
    let caught = std::panic::catch_unwind(|| fails(2)).is_err();
    let there = std::thread::spawn(|| LIST.with_borrow_mut(|list| { list.push(9); list.len() })).join().unwrap();
    ZEROES[60 << 20].store(8, Relaxed);
    let zeroes = ZEROES.iter().step_by(1 << 20).map(|one| u64::from(one.load(Relaxed))).sum::<u64>();
    let wider = (&raw const *std::hint::black_box(&WIDER) as usize % 16384, WIDER.0.load(Relaxed));
    format!("{} / {caught} {} {there} {zeroes} {wider:?}", kept::said(), COUNT.get())
}
"#;

/// A version: what is exported to `kept`, and more.
fn version(number: u32, exported: [&str; 3], items: &str, shown: &str) -> String {
    let [start, word, doubled] = exported;
    format!(
        "{COMMON}
#[unsafe(no_mangle)]
pub static NUMBER: AtomicU64 = AtomicU64::new({start});
#[unsafe(no_mangle)]
pub static WORD: kept::Text = kept::Text({word:?});
#[unsafe(no_mangle)]
pub extern \"C\" fn doubled(x: u64) -> u64 {{ {doubled} }}
{items}
pub fn report() -> String {{ format!(\"v{number} {{}} / {{:?}}\", common(), {shown}) }}
"
    )
}

fn versions() -> Vec<String> {
    let first = ["7", "word", "2 * x"];
    vec![
        version(1, first, "", "()"),
        // A body that unchanged code calls, first values of variables that it reads.
        version(2, ["70", "another word", "x + x + 1"], "", "()"),
        // Storage that the executable has not got, in the program and in its threads.
        version(
            3,
            ["70", "another word", "x + x + 1"],
            "#[repr(align(64))] struct Wide(Cell<u8>);
             thread_local! { static WIDE: Wide = const { Wide(Cell::new(5)) };
                             static NAMES: RefCell<Vec<&'static str>> = RefCell::new(vec![\"x\", \"y\"]); }
             static ZERO: Cell0 = Cell0(Cell::new(0));
             struct Cell0(Cell<u32>);
             unsafe impl Sync for Cell0 {}
             static TOTAL: AtomicU64 = AtomicU64::new(1000);
             static TABLE: [(&str, fn(u64) -> u64); 2] = [(\"one\", once), (\"two\", twice)];
             fn once(x: u64) -> u64 { x } fn twice(x: u64) -> u64 { 2 * x }
             fn here() -> (u8, usize, usize) {
                 WIDE.with(|wide| (wide.0.get(), &raw const *wide as usize % 64, NAMES.with_borrow(Vec::len)))
             }",
            "(here(), kept::unused(\"called\"), ZERO.0.get(), std::thread::spawn(here).join().unwrap(), TOTAL.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= 1000,
              TABLE.iter().map(|(name, of)| (name, of(4))).collect::<Vec<_>>())",
        ),
        // What only libraries have, a function of the C library that the executable does not ask for, and what nobody has.
        version(
            4,
            ["8", "w", "3 * x"],
            "unsafe extern \"C\" { safe fn labs(x: i64) -> i64; }
             use std::collections::{BTreeMap, VecDeque};
             trait Shape { fn area(&self) -> f64; fn name(&self) -> String { \"shape\".to_owned() } }
             struct Square(f64);
             impl Shape for Square { fn area(&self) -> f64 { self.0 * self.0 } }
             fn nobody() -> usize {
                 let at: usize;
                 unsafe {
                     std::arch::asm!(\".weak nobody_has_it\", \"mov {0}, qword ptr [rip + nobody_has_it@GOTPCREL]\", out(reg) at);
                 }
                 at
             }
             fn shapes() -> Vec<Box<dyn Shape>> { vec![Box::new(Square(1.5))] }",
            "(labs(-4), nobody(), [3, 1, 2].iter().map(|x| (x, x * x)).collect::<BTreeMap<_, _>>(),
              (0..4).rev().collect::<VecDeque<_>>(), shapes().iter().map(|one| (one.area(), one.name())).collect::<Vec<_>>(),
              \"12,x,7\".split(',').map(str::parse::<i32>).filter_map(Result::ok).sum::<i32>())",
        ),
    ]
}

fn project(test: &str) -> Scratch {
    let scratch = Scratch::new(test);
    scratch.write("Cargo.toml", MANIFEST);
    scratch.write("kept/Cargo.toml", KEPT_MANIFEST);
    scratch.write("kept/src/lib.rs", KEPT);
    scratch.write("src/main.rs", MAIN);
    scratch.write("src/work.rs", &versions()[0]);
    scratch
}

fn start(scratch: &Scratch) -> Running {
    let mut running = Running::start(&scratch.0, &["--update-binary"]);
    running.wait_line("v1", START).expect("it starts");
    running
}

fn executable(scratch: &Scratch) -> PathBuf {
    scratch.0.join("target/debug/updated")
}

/// What an executable says about itself.
fn output(exe: &Path) -> Output {
    command(exe, Path::new("/")).arg("once").env("RUST_BACKTRACE", "1").output().expect("it starts")
}

#[track_caller]
fn report(exe: &Path) -> String {
    let output = output(exe);
    assert!(output.status.success(), "{} ends with {}", exe.display(), output.status);
    String::from_utf8(output.stdout).expect("text")
}

/// What a fresh build of the same sources says.
fn fresh(scratch: &Scratch) -> String {
    let target = scratch.0.join("fresh");
    let mut cargo = command("cargo", &scratch.0);
    cargo.args(["build", "--quiet", "--offline", "--target-dir"]).arg(&target);
    assert!(cargo.status().expect("cargo runs").success());
    report(&target.join("debug/updated"))
}

fn save(scratch: &Scratch, running: &mut Running, number: usize, text: &str) -> Value {
    scratch.write("src/work.rs", text);
    let patch = running.wait_patch(number, SOON).expect("an answer");
    assert_eq!(patch["outcome"], "applied", "{patch}");
    running.wait_event("executable", number, SOON).expect("the executable")
}

#[test]
fn the_executable_does_what_a_fresh_build_does() {
    let scratch = project("update");
    let mut running = start(&scratch);
    let exe = executable(&scratch);
    let before = fs::read(&exe).expect("an executable");
    for (number, text) in versions().iter().enumerate().skip(1) {
        let event = save(&scratch, &mut running, number, text);
        assert_eq!((&event["outcome"], &event["reason"]), (&"updated".into(), &Value::Null), "version {}", number + 1);
        let line = running.wait_line(&format!("v{}", number + 1), SOON).expect("it runs");
        assert!(number < 3 || line.contains(" / (4, 0, {"), "the C library's function, and nobody's: {line}");
        let report = report(&exe);
        assert!(report.contains(&format!("v{} ", number + 1)), "{report}");
        assert_eq!(report, fresh(&scratch));
        let on_disk = fs::metadata(&exe).expect("an executable").blocks() * 512;
        assert!(on_disk < before.len() as u64 + (8 << 20), "{on_disk} bytes on disk, {} as it was built", before.len());
    }
    // Back step by step: the executable as well.
    let undo = |steps: &str| command(RELIVE, &scratch.0).args(["undo", steps]).output().expect("relive runs");
    assert!(undo("1").status.success());
    let event = running.wait_event("executable", 4, SOON).expect("the executable");
    assert_eq!((&event["outcome"], &event["generation"]), (&"updated".into(), &2.into()));
    assert!(report(&exe).contains("v3 "));
    assert!(undo("2").status.success());
    assert!(running.finish().success());
    assert!(
        fs::read(&exe).expect("an executable") == before,
        "with nothing left of the edits it is the one that was built"
    );
}

#[test]
fn tools_see_through_an_updated_executable_and_the_program_sees_itself() {
    let scratch = project("update-tools");
    let mut running = start(&scratch);
    let traced = "println!(\"v9 {}\", std::backtrace::Backtrace::force_capture());";
    let text = versions()[0].replace("pub fn report() -> String {", &format!("pub fn report() -> String {{ {traced}"));
    let event = save(&scratch, &mut running, 1, &text);
    assert_eq!(event["outcome"], "updated", "{event}");
    let in_place = text.lines().position(|line| line.contains(traced)).expect("the line") + 1;
    let wanted = format!("src/work.rs:{in_place}:");
    // The running one, whose file has another name now.
    running.wait_line("v9", SOON).expect("it runs");
    running.wait_line("updated::work::report", SOON).expect("a name");
    let line = running.wait_line("at ", SOON).expect("a place");
    assert!(line.contains(&wanted), "{line}");
    running.wait_line("updated::main", SOON).expect("a name");
    // The new one.
    let said = report(&executable(&scratch));
    for wanted in ["updated::work::report", &wanted, "updated::main", "src/main.rs:6:"] {
        assert!(said.contains(wanted), "no `{wanted}`: {said}");
    }
    assert!(running.finish().success());
}

#[test]
fn another_builds_file_is_left_alone() {
    let scratch = project("update-others");
    let mut running = start(&scratch);
    let exe = executable(&scratch);
    fs::remove_file(&exe).expect("an executable");
    fs::write(&exe, "not ours").expect("a file");
    let event = save(&scratch, &mut running, 1, &versions()[1]);
    assert_eq!(event["outcome"], "kept");
    assert!(event["reason"].as_str().is_some_and(|why| why.contains("another build")), "{event}");
    assert_eq!(fs::read(&exe).expect("a file"), b"not ours");
    running.wait_line("v2", SOON).expect("it runs all the same");
    assert!(running.finish().success());
}

#[test]
fn what_a_copy_cannot_have_is_named_and_the_executable_stays() {
    let scratch = project("update-cannot");
    let zero = versions()[0].replace("AtomicU64::new(7)", "AtomicU64::new(0)");
    scratch.write("src/work.rs", &zero);
    let mut running = start(&scratch);
    let exe = executable(&scratch);
    let before = fs::read(&exe).expect("an executable");
    // The executable has no bytes for what begins as zeroes.
    let event = save(&scratch, &mut running, 1, &versions()[1]);
    assert_eq!(event["outcome"], "kept");
    assert!(event["reason"].as_str().is_some_and(|why| why.contains("`NUMBER` begins as zeroes")), "{event}");
    assert!(fs::read(&exe).expect("an executable") == before);
    let event = save(&scratch, &mut running, 2, &versions()[1].replace("new(70)", "new(0)"));
    assert_eq!(event["outcome"], "updated");
    assert!(report(&exe).contains("v2 0 another word"));
    assert!(running.finish().success());
}

/// A build script's input: cargo builds and links, and puts its own file there.
#[test]
fn an_executable_that_cargo_linked_meanwhile_is_brought_up_to_date() {
    let scratch = project("update-cargo");
    scratch.write("build.rs", "fn main() { println!(\"cargo:rerun-if-changed=input\"); }");
    scratch.write("input", "1");
    let in_script = "fn main() {
        println!(\"cargo:rerun-if-changed=input\");
        println!(\"cargo:rustc-env=INPUT={}\", std::fs::read_to_string(\"input\").unwrap());
    }";
    scratch.write("build.rs", in_script);
    let version = |number| version(number, ["7", "word", "2 * x"], "", "env!(\"INPUT\")");
    scratch.write("src/work.rs", version(1));
    let mut running = start(&scratch);
    scratch.write("input", "2");
    let patch = running.wait_patch(1, SOON).expect("an answer");
    assert_eq!(patch["outcome"], "applied", "{patch}");
    let event = running.wait_event("executable", 1, SOON).expect("the executable");
    assert_eq!(event["outcome"], "updated", "{event}");
    assert_eq!(report(&executable(&scratch)), fresh(&scratch));
    let event = save(&scratch, &mut running, 2, &version(2));
    assert_eq!(event["outcome"], "updated", "{event}");
    let said = report(&executable(&scratch));
    assert!(said.contains("v2 ") && said.contains("/ \"2\""), "{said}");
    assert_eq!(said, fresh(&scratch));
    assert!(running.finish().success());
}

#[test]
fn a_killed_relive_leaves_the_old_executable_or_the_new_one() {
    let scratch = project("update-killed");
    for delay in 0..12 {
        scratch.write("src/work.rs", &versions()[0]);
        let mut running = start(&scratch);
        scratch.write("src/work.rs", &versions()[1]);
        running.wait_patch(1, SOON).expect("an answer");
        // What is waited for is a moment of its work, not a result.
        thread::sleep(Duration::from_micros(delay * 5000));
        running.child.kill().expect("it runs");
        let status = running.child.wait().expect("it ends");
        assert_eq!(status.signal(), Some(9));
        let report = report(&executable(&scratch));
        assert!(report.contains("v1 7 word 42") || report.contains("v2 70 another word 43"), "{report}");
        running.finish();
    }
}
