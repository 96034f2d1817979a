//! What debuggers, profilers and the program's own backtraces say of patched code, asked of the real tools.
//!
//! A test whose tool is not installed, or may not be used here, is shown as ignored, with the tool's name.

mod support;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;

use support::{RELIVE, Running, SOON, START, Scratch, command};

const MANIFEST: &str = "[package]\nname = \"truth\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n";

const MAIN: &str = r#"
mod work;

use std::io::Read;
use std::time::Duration;

fn main() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().unwrap();
        println!("panic at {}:{}", place.file(), place.line());
    }));
    for n in 0.. {
        println!("{}.", work::outer(n));
        std::thread::sleep(Duration::from_millis(10));
    }
}
"#;

/// A function with a local variable and a caller in its file, and the frames that a backtrace has of the two.
const WORK: &str = r#"
pub fn outer(n: u64) -> String {
    let doubled = n % 1000 * 2;
    inner(doubled, "v1")
}

fn inner(value: u64, label: &str) -> String {
    let secret = value * 0 + 1001;
    let trace = std::backtrace::Backtrace::force_capture().to_string();
    let ours = |line: &&str| line.contains("truth::work") || line.contains("src/work.rs");
    let frames: Vec<&str> = trace.lines().map(str::trim).filter(ours).collect();
    format!("{label} {secret} {}", frames.join(" "))
}
"#;

/// A function that is always on the processor.
const SPINNING: &str = r#"
pub fn outer(n: u64) -> String {
    format!("v1 {}", spinning_function(n))
}

#[inline(never)]
fn spinning_function(n: u64) -> u64 {
    let mut sum = n;
    for step in 0..2_000_000_u64 { sum = sum.rotate_left(5) ^ step; }
    sum
}
"#;

/// Its guard says when it is dropped; the frame of `outer` stays, and calls `inner` over and over.
const UNWINDING: &str = r#"
struct Guard(&'static str);
impl Drop for Guard {
    fn drop(&mut self) { println!("dropped {}", self.0) }
}

pub fn outer(_: u64) -> String {
    let result = std::panic::catch_unwind(|| {
        let _outer = Guard("old outer");
        loop {
            inner();
            println!("inner came back");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    });
    let payload = result.err().unwrap();
    format!("caught {}", payload.downcast_ref::<&str>().unwrap())
}

fn inner() {
    let _inner = Guard("old inner");
}
"#;

fn main() -> ExitCode {
    let here = |name: &str, test: fn() -> Result<(), Failed>| Trial::test(name, test);
    let with = |tool: &str, works: bool, name: &str, test: fn() -> Result<(), Failed>| {
        Trial::test(name, test).with_kind(tool.to_owned()).with_ignored_flag(!works)
    };
    let [gdb, addr2line] = ["gdb", "addr2line"].map(is_installed);
    let perf = perf_works();
    let trials = vec![
        here("backtraces_have_names_and_lines_after_one_was_printed", backtraces),
        here("a_panic_unwinds_through_new_and_old_frames", unwinding),
        with("gdb", gdb, "gdb_breaks_by_name_and_shows_frames_and_locals", debugger),
        with("gdb", gdb, "gdb_that_was_detached_is_no_obstacle", detached),
        with("gdb", gdb, "a_change_waits_for_gdb_and_lands_afterwards", waits_for_debugger),
        with("addr2line", addr2line, "addr2line_resolves_patched_addresses", addresses),
        with("perf", perf, "perf_names_patched_functions", profiler),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn is_installed(tool: &str) -> bool {
    Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Whether perf is there and may record.
fn perf_works() -> bool {
    let mut perf = Command::new("perf");
    perf.args(["record", "-o", "-", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    perf.status().is_ok_and(|status| status.success())
}

struct Guest {
    scratch: Scratch,
    running: Running,
    pid: String,
    text: String,
    patches: usize,
}

impl Guest {
    /// The program with `work`, once it says `line`.
    fn start(test: &str, work: &str, line: &str) -> Guest {
        let scratch = Scratch::new(test);
        scratch.write("Cargo.toml", MANIFEST);
        scratch.write("src/main.rs", MAIN);
        scratch.write("src/work.rs", work);
        let mut running = Running::start(&scratch.0, &[]);
        running.wait_line(line, START).expect("it starts");
        let pid = running.wait_started(SOON).expect("it was started");
        Guest { scratch, running, pid, text: work.to_owned(), patches: 0 }
    }

    /// Replaces texts in the file, saves it, and waits for the answer.
    fn edit(&mut self, edits: &[(&str, &str)]) -> Value {
        self.save(edits);
        self.answer()
    }

    fn save(&mut self, edits: &[(&str, &str)]) {
        for (from, to) in edits {
            assert!(self.text.contains(from), "the file has `{from}`");
            self.text = self.text.replace(from, to);
        }
        self.scratch.write("src/work.rs", &self.text);
        self.patches += 1;
    }

    fn answer(&mut self) -> Value {
        let answer = self.running.wait_patch(self.patches, SOON).expect("an answer");
        assert_eq!(answer["outcome"], "applied", "{answer}");
        answer
    }

    /// The line of the file that has `text`, counted from 1.
    fn line_of(&self, text: &str) -> usize {
        1 + self.text.lines().position(|line| line.contains(text)).expect("the file has it")
    }

    /// The files of the arenas.
    fn arenas(&self) -> Vec<PathBuf> {
        let folder = fs::read_dir(self.scratch.0.join("target/relive/session")).expect("the session's folder");
        let paths = folder.flatten().map(|entry| entry.path());
        paths.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("arena-"))).collect()
    }
}

fn backtraces() -> Result<(), Failed> {
    let mut guest = Guest::start("truth-backtraces", WORK, "v1 1001");
    let right = |guest: &mut Guest, label: &str| {
        let line = guest.running.wait_line(label, SOON).expect("it runs");
        let inner = format!("truth::work::inner at ./src/work.rs:{}:", guest.line_of("force_capture"));
        let outer = format!("truth::work::outer at ./src/work.rs:{}:", guest.line_of("inner(doubled"));
        assert!(line.contains(&inner) && line.contains(&outer), "{line}");
    };
    right(&mut guest, "v1");
    for (from, to) in [("v1", "v2"), ("v2", "v3"), ("v3", "v4")] {
        // Both functions change, and move down in the file. (Code that only moves is not exchanged: its lines stay old.)
        guest.edit(&[(from, to), ("+ 1001", "+ 1 + 1001"), ("\npub fn outer", "\n// a line more\npub fn outer")]);
        right(&mut guest, to);
    }
    assert!(guest.running.finish().success());
    Ok(())
}

fn unwinding() -> Result<(), Failed> {
    let mut guest = Guest::start("truth-unwinding", UNWINDING, "inner came back");
    guest.edit(&[
        ("let _inner = Guard(\"old inner\");", "let _inner = Guard(\"new inner\");\n    deeper();"),
        (
            "fn inner()",
            "fn deeper() {\n    let _deeper = Guard(\"new deeper\");\n    panic!(\"new panic\");\n}\n\nfn inner()",
        ),
    ]);
    guest.running.wait_line("caught new panic", SOON)?;
    let lines = &guest.running.seen;
    let panic = format!("panic at src/work.rs:{}", guest.line_of("panic!"));
    let at = lines.iter().position(|line| **line == panic).ok_or("the panic has another place")?;
    let after: Vec<&str> = lines[at + 1..].iter().map(String::as_str).take(4).collect();
    assert_eq!(after, ["dropped new deeper", "dropped new inner", "dropped old outer", "caught new panic."]);
    assert!(guest.running.finish().success());
    Ok(())
}

/// What gdb prints for commands on the program, to their end.
fn gdb(guest: &Guest, commands: &[&str]) -> String {
    let mut gdb = command("gdb", &guest.scratch.0);
    gdb.args(["-nx", "-batch", "-p", &guest.pid, "-ex", "set width 0", "-ex", "set debuginfod enabled off"]);
    for command in commands {
        gdb.args(["-ex", command]);
    }
    let output = gdb.stdin(Stdio::null()).output().expect("gdb runs");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Whether gdb stops in `inner` as it is now and knows all about it.
fn debugger_knows(guest: &Guest, secret: &str) {
    let show = ["break truth::work::inner", "continue", "next", "info locals", "bt", "delete", "detach"];
    let said = gdb(guest, &show);
    let frame = |number: u32, function: &str, text: &str| {
        let (number, place) = (format!("#{number} "), format!("src/work.rs:{}", guest.line_of(text)));
        let found =
            said.lines().any(|line| line.starts_with(&number) && line.contains(function) && line.ends_with(&place));
        assert!(found, "no frame {number} of {function} at {place}:\n{said}");
    };
    frame(0, "truth::work::inner (value=", "force_capture");
    frame(1, "truth::work::outer (n=", "inner(doubled");
    assert!(said.contains("truth::main () at src/main.rs:"), "{said}");
    assert!(said.contains(&format!("secret = {secret}")), "{said}");
}

fn debugger() -> Result<(), Failed> {
    let mut guest = Guest::start("truth-gdb", WORK, "v1 1001");
    guest.edit(&[("\"v1\"", "\"v2\""), ("1001", "2002"), ("\npub fn outer", "\n\n\npub fn outer")]);
    guest.running.wait_line("v2 2002", SOON)?;
    debugger_knows(&guest, "2002");
    guest.running.wait_lines("v2 2002", 3, SOON)?;
    // A second image in the same arena.
    guest.edit(&[("\"v2\"", "\"v3\""), ("2002", "3003")]);
    guest.running.wait_line("v3 3003", SOON)?;
    debugger_knows(&guest, "3003");
    guest.running.wait_lines("v3 3003", 3, SOON)?;
    assert!(guest.running.finish().success());
    Ok(())
}

fn detached() -> Result<(), Failed> {
    let mut guest = Guest::start("truth-detached", WORK, "v1 1001");
    debugger_knows(&guest, "1001");
    guest.edit(&[("\"v1\"", "\"v2\""), ("1001", "2002")]);
    guest.running.wait_lines("v2 2002", 3, SOON)?;
    let output = command(RELIVE, &guest.scratch.0).args(["status"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("everything is in memory as relive put it there"), "{text}");
    assert!(guest.running.finish().success());
    Ok(())
}

/// gdb, attached to the program and waiting for commands.
struct Debugger {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Debugger {
    fn attach(guest: &Guest) -> Debugger {
        let mut gdb = command("gdb", &guest.scratch.0);
        gdb.args(["-nx", "-q", "-p", &guest.pid, "-ex", "set debuginfod enabled off", "-ex", "echo attached\\n"]);
        let mut child =
            gdb.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("gdb starts");
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        thread::spawn(move || {
            stdout.lines().map_while(Result::ok).map(|line| sender.send(line)).all(|sent| sent.is_ok())
        });
        let debugger = Debugger { stdin: child.stdin.take().expect("a pipe"), child, lines };
        debugger.wait("attached");
        debugger
    }

    fn wait(&self, text: &str) {
        let end = Instant::now() + SOON;
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if line.contains(text) {
                return;
            }
        }
        panic!("gdb does not say `{text}`");
    }

    fn quit(mut self) {
        self.stdin.write_all(b"detach\nquit\n").expect("gdb reads");
        assert!(self.child.wait().expect("gdb ends").success());
    }
}

fn waits_for_debugger() -> Result<(), Failed> {
    let mut guest = Guest::start("truth-waits", WORK, "v1 1001");
    let debugger = Debugger::attach(&guest);
    guest.save(&[("\"v1\"", "\"v2\""), ("1001", "2002")]);
    guest.running.wait_stderr("a debugger (pid", SOON)?;
    assert!(!guest.running.events().iter().any(|event| event["event"] == "patch"), "it waits");
    debugger.quit();
    guest.answer();
    guest.running.wait_line("v2 2002", SOON)?;
    debugger_knows(&guest, "2002");
    assert!(guest.running.finish().success());
    Ok(())
}

/// Address and size of the newest body of `name`, as `status` says.
fn body(guest: &Guest, name: &str) -> (u64, u64) {
    let output = command(RELIVE, &guest.scratch.0).args(["status", "--json"]).output().expect("relive runs");
    let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let functions = status["functions"].as_array().expect("a list");
    let found = functions.iter().find(|function| function["name"] == name).expect("it was switched");
    (found["address"].as_u64().expect("an address"), found["size"].as_u64().expect("a size"))
}

/// The address in the file of the arena that the program has mapped at `addr`, and that file.
fn in_file(guest: &Guest, addr: u64) -> (PathBuf, u64) {
    let maps = fs::read_to_string(format!("/proc/{}/maps", guest.pid)).expect("it runs");
    for line in maps.lines().filter(|line| line.contains("/arena-")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |text: &str| u64::from_str_radix(text, 16).expect("a number");
        let (start, end) = words[0].split_once('-').expect("a range");
        if (number(start)..number(end)).contains(&addr) {
            let offset = addr - number(start) + number(words[2]);
            let path = PathBuf::from(words[5]);
            return (path.clone(), link_addr(&path, offset));
        }
    }
    panic!("no arena is mapped at {addr:#x}:\n{maps}");
}

/// The address that the byte at `offset` of the file has there, from its program headers.
fn link_addr(path: &Path, offset: u64) -> u64 {
    let mut page = vec![0; 4096];
    File::open(path).and_then(|mut file| file.read_exact(&mut page)).expect("the arena's file");
    let word = |at: usize| u64::from_le_bytes(page[at..at + 8].try_into().expect("8 bytes"));
    let headers = (0..usize::from(page[56])).map(|index| 64 + index * 56);
    let mut loaded = headers.filter(|at| word(*at) & 0xffff_ffff == 1);
    let at = loaded.find(|at| (word(at + 8)..word(at + 8) + word(at + 32)).contains(&offset)).expect("it is loaded");
    offset - word(at + 8) + word(at + 16)
}

fn addresses() -> Result<(), Failed> {
    let mut guest = Guest::start("truth-addresses", WORK, "v1 1001");
    for (from, to) in [("1001", "2002"), ("2002", "3003")] {
        guest.edit(&[(from, to), ("\npub fn outer", "\n\npub fn outer")]);
        guest.running.wait_line(to, SOON)?;
        let (addr, _) = body(&guest, "truth::work::inner");
        let (path, link) = in_file(&guest, addr);
        let output =
            Command::new("addr2line").args(["-f", "-C", "-e"]).arg(&path).arg(format!("{link:#x}")).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.starts_with("truth::work::inner") || said.starts_with("inner"), "{said}");
        let place = format!("src/work.rs:{}", guest.line_of("fn inner"));
        assert!(said.trim_end().ends_with(&place), "{said}, not {place}");
    }
    assert_eq!(guest.arenas().len(), 1);
    assert!(guest.running.finish().success());
    Ok(())
}

fn profiler() -> Result<(), Failed> {
    let mut guest = Guest::start("truth-perf", SPINNING, "v1 ");
    guest.edit(&[("rotate_left(5)", "rotate_left(7)"), ("\"v1 ", "\"v2 ")]);
    guest.running.wait_line("v2 ", SOON)?;
    let folder = guest.scratch.0.clone();
    let data = folder.join("perf.data");
    let mut record = command("perf", &folder);
    record.args(["record", "-q", "-p", &guest.pid, "-o"]).arg(&data).args(["sleep", "1"]);
    let output = record.output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // What is recorded can be read while the program goes on.
    let output = command("perf", &folder).args(["report", "--stdio", "-i"]).arg(&data).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = said.lines().find(|line| line.contains("spinning_function")).ok_or_else(|| said.clone())?;
    assert!(line.contains("arena-"), "{line}");
    assert!(guest.running.finish().success());
    Ok(())
}
