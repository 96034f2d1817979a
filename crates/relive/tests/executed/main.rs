//! Linked code is executed, not only compared: x86-64 Mach-O objects, made by clang for macOS, in a live Linux process.
//!
//! The process calls what is written into it from outside. Then an edit's functions take the place of others: exactly the
//! places that lead to them are written. Memory is protected afterwards as it was before.

mod aarch64;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use relive::arch::Machine;
use relive::binary::bytes::Bytes;
use relive::binary::object::{Format, NameId, Object, Role};
use relive::link::buffer::{Buffer, ObjectId, Resolved, Room};
use relive_process::control::{Control, Native, Region};
use relive_process::{LiveAddr, MappedFile};

const PART: u64 = 1 << 16;
/// Thread-locals are at small addresses: distances from the beginning of their block.
const THREADS: u64 = 0x1000;

fn main() {
    let arguments = Arguments::from_args();
    let clang = missing(&["clang"]);
    let emulator = missing(&["qemu-aarch64", "aarch64-linux-gnu-gcc"]).or_else(aarch64::missing_target);
    let trials = vec![
        trial("mach_o_code_runs_in_a_linux_process", clang, mach_o_code_runs),
        trial("aarch64_code_is_patched_by_the_agent_inside", emulator, aarch64::is_patched),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

fn trial(name: &'static str, missing: Option<String>, test: fn() -> Result<(), String>) -> Trial {
    if let Some(what) = &missing {
        eprintln!("{name} cannot run: {what}");
    }
    Trial::test(name, move || test().map_err(Failed::from)).with_ignored_flag(missing.is_some())
}

/// Which of `programs` is not there.
fn missing(programs: &[&str]) -> Option<String> {
    let runs = |program: &&&str| Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success());
    programs.iter().find(|program| !runs(program)).map(|program| format!("there is no {program}"))
}

/// What `entry` of old.c gives, and what it leaves behind.
#[derive(Default)]
struct Model {
    calls: i64,
    edited: bool,
}

impl Model {
    fn twice(&self, n: i64) -> i64 {
        if self.edited { n * 3 } else { n * 2 }
    }

    fn shape(&self, n: i64) -> i64 {
        if self.edited {
            return 500 + self.twice(n) + 2 * self.calls + 5;
        }
        match n & 7 {
            0 => 17,
            1 => 4,
            2 => 250 + self.calls,
            3 => 9,
            4 => 81,
            5 => 6 + self.twice(n),
            6 => 33,
            _ => 77,
        }
    }

    /// The answer, and the process's own counter.
    fn entry(&mut self, n: i64) -> (i64, i64) {
        self.calls += 1;
        let depth = 5 + self.calls;
        let word = ["zero", "one", "two", "three"][(n & 3) as usize].len() as i64;
        let sum = 2 * self.shape(n) + self.twice(n) + word + n / 2 + depth * 1000 + self.calls * 100_000;
        (sum, 1000 + 2 * self.calls)
    }
}

struct Guest {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// Where code may be written; constants and variables lie behind it.
    code: u64,
    strlen: u64,
    counter: u64,
    thread_block: u64,
    thread_local_address: u64,
}

impl Guest {
    fn start(dir: &Path) -> Guest {
        let exe = dir.join("guest");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/executed/guest.c");
        let made = Command::new("cc").arg(source).arg("-o").arg(&exe).status().expect("cc runs");
        assert!(made.success());
        let mut child = Command::new(exe).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the guest runs");
        let stdin = child.stdin.take().expect("a pipe");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("the guest tells its addresses");
        let number = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).expect("an address");
        let [code, strlen, counter, thread_block, thread_local_address] =
            line.split_whitespace().map(number).collect::<Vec<_>>()[..]
        else {
            panic!("{line}")
        };
        Guest { child, stdin, stdout, code, strlen, counter, thread_block, thread_local_address }
    }

    fn call(&mut self, function: u64, n: i64) -> (i64, i64) {
        writeln!(self.stdin, "call {function:x} {n}").expect("the guest listens");
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("the guest answers");
        let mut numbers = line.split_whitespace().map(|word| word.parse().expect("a number"));
        (numbers.next().expect("an answer"), numbers.next().expect("a counter"))
    }

    /// Writes what was resolved, all threads stopped.
    fn write(&self, control: &Native, resolved: &Resolved) {
        let stopped = control.stop().expect("the guest can be stopped");
        for write in &resolved.writes {
            let at = if write.at < THREADS { self.thread_block + write.at } else { write.at };
            control.write(LiveAddr(at), &write.new).expect("it is mapped");
            let mut back = vec![0; write.new.len()];
            control.read(LiveAddr(at), &mut back).expect("it is mapped");
            assert_eq!(back, write.new);
        }
        Native::resume(stopped).expect("it goes on");
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

/// A Mach-O object of a C file beside this.
fn object(dir: &Path, name: &str, level: &str) -> Arc<Object> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/executed").join(format!("{name}.c"));
    let out = dir.join(format!("{name}{level}.o"));
    let mut clang = Command::new("clang");
    clang.args(["--target=x86_64-apple-macos11", level, "-c"]).arg(source).arg("-o").arg(&out);
    assert!(clang.status().expect("clang runs").success());
    let file = MappedFile::open(&out).expect("an object");
    let object = Object::parse_any(Bytes::new(file)).expect("an object that is understood");
    assert_eq!((object.format, object.machine), (Format::MachO, Machine::X86_64));
    Arc::new(object)
}

/// How many relocations lead to a name.
fn leading_to(object: &Object, name: &str) -> usize {
    let id = NameId::of(name);
    let loaded = object.sections.iter().filter(|section| section.role.is_loaded() && section.role != Role::EhFrame);
    loaded.flat_map(|section| &section.relocs).filter(|reloc| object.symbol(reloc.symbol).id == id).count()
}

fn mach_o_code_runs() -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(|why| why.to_string())?;
    for level in ["-O0", "-O2"] {
        runs_and_is_replaced(dir.path(), level).map_err(|why| format!("{level}: {why}"))?;
    }
    Ok(())
}

fn runs_and_is_replaced(dir: &Path, level: &str) -> Result<(), String> {
    let mut guest = Guest::start(dir);
    let control = Native::attach(&Default::default(), guest.child.id()).map_err(|why| why.to_string())?;
    let regions = |control: &Native| -> Vec<Region> { control.regions().expect("it runs") };
    let before = regions(&control);
    let (constants, variables) = (guest.code + PART, guest.code + 2 * PART);
    let room = Room::new(constants + PART / 2..constants + PART, guest.code + PART / 2..guest.code + PART);
    let mut buffer = Buffer::new(Machine::X86_64, room, false, 0);
    let old = object(dir, "old", level);
    buffer.add(old.clone()).map_err(|why| why.to_string())?;
    place(&mut buffer, guest.code, constants, variables).map_err(|why| why.to_string())?;
    for (name, at) in
        [("strlen", guest.strlen), ("outside_counter", guest.counter), ("_tlv_bootstrap", guest.thread_local_address)]
    {
        buffer.define(NameId::of(name), at);
    }
    assert_eq!(buffer.undefined(), Vec::<String>::new());
    let resolved = buffer.resolve().map_err(|why| why.to_string())?;
    assert!(resolved.relocations >= 15 && resolved.words > 0, "{} relocations", resolved.relocations);
    guest.write(&control, &resolved);
    assert_eq!(regions(&control), before, "memory is protected as it was");

    let entry = buffer.address(NameId::of("entry")).ok_or("no entry")?;
    let mut model = Model::default();
    for n in 0..40 {
        assert_eq!(guest.call(entry, n), model.entry(n), "before the edit, {n}");
    }

    // The edit: two functions are elsewhere now, and what led to them leads there.
    let new = object(dir, "new", level);
    let id = buffer.replace(new.clone()).map_err(|why| why.to_string())?;
    assert_eq!(id, ObjectId(1));
    buffer.place_all(&[Role::Text], guest.code + PART / 4).map_err(|why| why.to_string())?;
    let again = buffer.resolve().map_err(|why| why.to_string())?;
    let own: usize =
        new.sections.iter().filter(|section| section.role == Role::Text).map(|section| section.relocs.len()).sum();
    let leading = leading_to(&old, "twice") + leading_to(&old, "shape");
    assert!(leading >= 3, "{leading} places lead to the two");
    assert_eq!(again.relocations, own + leading, "only what leads to them is computed again");
    guest.write(&control, &again);
    assert_eq!(regions(&control), before, "memory is protected as it was");
    model.edited = true;
    for n in 0..40 {
        assert_eq!(guest.call(entry, n), model.entry(n), "after the edit, {n}");
    }
    Ok(())
}

fn place(buffer: &mut Buffer, code: u64, constants: u64, variables: u64) -> Result<(), relive::link::LinkError> {
    buffer.place_all(&[Role::Text], code)?;
    buffer.place_all(&[Role::ReadOnly, Role::Lsda, Role::RelRo], constants)?;
    buffer.place_all(&[Role::Data, Role::Bss], variables)?;
    buffer.place_all(&[Role::TlsData, Role::TlsBss], 0)?;
    Ok(())
}
