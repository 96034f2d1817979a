//! Control of a process on Linux, through the trait.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::support::{PATIENCE, compile, directory};
use relive_process::control::{Control, Native, Region, Spawned, warning};
use relive_process::{Addresses, Error, LaunchSpec, LiveAddr};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

/// The mappings of `control.c`, as numbers of its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Code = 1,
    Constant,
    ReadOnlyFile,
    ClosedFile,
    Closed,
    SealedFile,
    SealedClosed,
    Vdso,
    SharedReadOnly,
    Shared,
    SharedClosed,
    SharedAnonymous,
    BehindTheFile,
}

/// What the program writes into its words.
const COUNTER: usize = 20;
const CONSTANT: u64 = 0x1122_3344_5566_7788;
/// The environment key by which this executable knows that it is to hold a program until it is killed.
const TO_HOLD: &str = "RELIVE_TEST_HOLD";

/// `control.c`, ready to be started.
struct Target {
    dir: PathBuf,
    spec: LaunchSpec,
}

impl Target {
    fn new(mode: &str, addresses: Addresses) -> Target {
        let dir = directory(&format!("control-{mode}"));
        let program = compile("control", &dir, &["-pie", "-fPIE"]);
        std::fs::write(dir.join("board"), [0; 4096]).expect("the directory is ours");
        std::fs::write(dir.join("file"), [b'.'; 4096]).expect("the directory is ours");
        let args = vec![dir.join("board").into(), mode.into(), dir.join("file").into()];
        Target { spec: LaunchSpec { program, args, addresses, ..LaunchSpec::default() }, dir }
    }

    fn spawn(&self) -> Spawned<Native> {
        std::fs::write(self.dir.join("board"), [0; 4096]).expect("the directory is ours");
        Native::spawn(&(), &self.spec).expect("it starts")
    }

    /// Started and let go, and it has published its words.
    fn run(&self) -> (Ending, Native) {
        let spawned = self.spawn();
        let (process, held) = spawned.reach.expect("it is our child");
        Native::start(held).expect("it lives");
        self.wait_until(|target| target.word(0) == 1);
        (Ending(spawned.child), process)
    }

    fn word(&self, index: usize) -> u64 {
        let bytes = std::fs::read(self.dir.join("board")).expect("the directory is ours");
        u64::from_le_bytes(bytes[index * 8..][..8].try_into().expect("8 bytes"))
    }

    fn place(&self, place: Place) -> LiveAddr {
        LiveAddr(self.word(place as usize))
    }

    fn file(&self) -> Vec<u8> {
        std::fs::read(self.dir.join("file")).expect("the directory is ours")
    }

    fn wait_until(&self, so: impl Fn(&Target) -> bool) {
        let start = Instant::now();
        while !so(self) {
            assert!(start.elapsed() < PATIENCE, "the program of {} does not go on", self.dir.display());
            std::thread::yield_now();
        }
    }
}

/// Ends the program.
struct Ending(relive_process::launch::Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.signal(9);
        let _ = self.0.wait();
    }
}

/// Words 1 to 4 of one whole run: code, a constant, the stack, the C library.
fn where_it_was(addresses: Addresses) -> Vec<u64> {
    let target = Target::new("where", addresses);
    let (ending, _) = target.run();
    assert_eq!(ending.0.wait(), Ok(7));
    (1..5).map(|index| target.word(index)).collect()
}

#[test]
fn two_starts_at_fixed_addresses_are_at_the_same_ones_and_others_are_not() {
    assert_eq!(where_it_was(Addresses::Fixed)[0], where_it_was(Addresses::Fixed)[0]);
    let random = [Addresses::Random; 2].map(where_it_was);
    assert!(std::iter::zip(&random[0], &random[1]).all(|(one, other)| one != other), "{random:x?}");
    // What this thread starts otherwise is not affected.
    let asked = std::fs::read_to_string("/proc/thread-self/personality").expect("our own can be read");
    assert_eq!(u32::from_str_radix(asked.trim(), 16).expect("it is a number") & 0x0004_0000, 0);
}

#[test]
fn a_held_program_has_not_begun_and_what_is_written_is_what_it_begins_with() {
    let target = Target::new("where", Addresses::Fixed);
    let (first, _) = target.run();
    assert_eq!((first.0.wait(), target.word(5)), (Ok(7), CONSTANT));
    let constant = target.place(Place::Constant);
    let spawned = target.spawn();
    let (process, held) = spawned.reach.expect("it is our child");
    let names = process.regions().expect("it lives").into_iter().map(|region| region.name).collect::<Vec<_>>();
    assert!(names.iter().any(|name| name.ends_with("/control")), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("libc")), "the loader has run: {names:?}");
    let mut bytes = [0; 8];
    process.read(constant, &mut bytes).expect("it is mapped");
    assert_eq!(u64::from_le_bytes(bytes), CONSTANT);
    process.write(constant, &42_u64.to_le_bytes()).expect("it is a private page");
    assert!(process.is_alive() && matches!(process.stop(), Err(Error::Busy(_))), "it is traced already");
    Native::start(held).expect("it lives");
    assert_eq!((spawned.child.wait(), target.word(5)), (Ok(7), 42));
}

/// What is mapped and how it is protected.
fn protections(process: &Native) -> Vec<Region> {
    process.regions().expect("it lives")
}

#[test]
fn private_memory_is_written_whatever_its_protection_and_the_protection_stays() {
    use Place::{Closed, ClosedFile, Code, Constant, ReadOnlyFile, SealedClosed, SealedFile, Vdso};
    let target = Target::new("maps", Addresses::Random);
    let executable = std::fs::read(&target.spec.program).expect("it was just built");
    let (_ending, process) = target.run();
    let before = protections(&process);
    for place in [Code, Constant, ReadOnlyFile, ClosedFile, Closed, SealedFile, SealedClosed, Vdso] {
        let addr = target.place(place);
        // The first bytes of `main` are behind it for good.
        process.write(addr, b"new").unwrap_or_else(|why| panic!("{place:?}: {why}"));
        let mut bytes = [0; 3];
        process.read(addr, &mut bytes).expect("it is mapped");
        assert_eq!(&bytes, b"new", "{place:?}");
    }
    assert_eq!(protections(&process), before);
    assert_eq!(target.file(), [b'.'; 4096]);
    assert!(std::fs::read(&target.spec.program).expect("it is there") == executable, "the executable was altered");
    let count = target.word(COUNTER);
    target.wait_until(|target| target.word(COUNTER) > count);
}

#[test]
fn what_is_shared_or_has_no_page_is_refused_by_name_and_not_altered() {
    use Place::{BehindTheFile, Shared, SharedAnonymous, SharedClosed, SharedReadOnly};
    let target = Target::new("maps", Addresses::Random);
    let (_ending, process) = target.run();
    let before = protections(&process);
    for (place, letters) in
        [(SharedReadOnly, "r--s"), (Shared, "rw-s"), (SharedClosed, "---s"), (SharedAnonymous, "rw-s")]
    {
        let Err(Error::Denied(text)) = process.write(target.place(place), b"new") else { panic!("{place:?}") };
        let name = if place == SharedAnonymous { "/dev/zero (deleted)" } else { "/file" };
        for part in [&format!("process {}", process.pid()), letters, &format!("{name}` is shared")] {
            assert!(text.contains(part), "{place:?}: {text}");
        }
    }
    assert_eq!(target.file(), [b'.'; 4096]);
    let vvar = before.iter().find(|region| region.name == "[vvar]").map(|region| region.start);
    for (addr, name) in [(Some(target.place(BehindTheFile)), "/file` (r--p)"), (vvar, "`[vvar]` (r--p)")] {
        let Some(addr) = addr else { continue };
        let Err(Error::Fatal(text)) = process.write(addr, b"new") else { panic!("{name}") };
        assert!(text.contains(name) && text.contains("(0 were written)"), "{text}");
    }
    assert!(matches!(process.write(LiveAddr(0x10), b"new"), Err(Error::Fatal(text)) if text.ends_with("not mapped")));
    assert_eq!(protections(&process), before);
}

#[test]
fn a_stopped_process_stands_still_and_goes_on_with_the_guard() {
    let target = Target::new("maps", Addresses::Random);
    let (ending, process) = target.run();
    let stopped = process.stop().expect("it is our child");
    let count = target.word(COUNTER);
    process.write(target.place(Place::Code), b"new").expect("a stopped process is written to");
    assert_eq!(target.word(COUNTER), count);
    Native::resume(stopped).expect("it lives");
    target.wait_until(|target| target.word(COUNTER) > count);
    let pid = process.pid();
    drop(ending);
    assert!(!process.is_alive());
    assert!(matches!(process.write(target.place(Place::Code), b"new"), Err(Error::Gone(_))));
    assert!(matches!(Native::attach(&(), pid), Err(Error::Gone(_))));
}

/// Runs `what` on a thread without the rights by which an administrator passes the checks that others meet.
fn as_an_ordinary_user(what: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            let mut own = capabilities(None).expect("our own can be read");
            for rights in [&mut own.effective, &mut own.permitted, &mut own.inheritable] {
                rights.remove(CapabilitySet::SYS_PTRACE | CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH);
            }
            set_capabilities(None, own).expect("rights can be given up");
            what();
        });
        if let Err(why) = run.join() {
            std::panic::resume_unwind(why);
        }
    });
}

#[test]
fn a_process_that_may_not_be_looked_into_is_denied_and_the_warning_names_it() {
    let target = Target::new("closed", Addresses::Random);
    let (_ending, process) = target.run();
    let pid = process.pid();
    as_an_ordinary_user(|| {
        let why = Native::attach(&(), pid).expect_err("it is closed");
        assert!(matches!(why, Error::Denied(_)), "{why:?}");
        assert!(warning(pid, &why).starts_with(&format!("process {pid} cannot be reached and runs on")), "{why}");
    });
}

#[test]
fn a_started_program_that_cannot_be_reached_runs_all_the_same() {
    use std::os::unix::fs::PermissionsExt;
    let target = Target::new("where", Addresses::Fixed);
    // A program that may be run and not read may not be looked into either.
    let closed = std::fs::Permissions::from_mode(0o111);
    std::fs::set_permissions(&target.spec.program, closed).expect("it is ours");
    as_an_ordinary_user(|| {
        let spawned = target.spawn();
        let why = spawned.reach.expect_err("it is closed");
        assert!(matches!(why, Error::Denied(_)), "{why:?}");
        assert!(warning(spawned.pid, &why).contains(&format!("process {}", spawned.pid)), "{why}");
        assert_eq!(spawned.child.wait(), Ok(7));
    });
}

#[test]
fn what_cannot_be_started_is_an_error_that_names_it() {
    let spec = LaunchSpec { program: "/nowhere/program".into(), ..LaunchSpec::default() };
    let why = Native::spawn(&(), &spec).expect_err("there is none");
    assert!(matches!(&why, Error::Fatal(text) if text.starts_with("cannot start `/nowhere/program`")), "{why}");
}

#[test]
fn a_program_that_was_held_begins_when_its_holder_drops_it_or_is_killed() {
    let target = Target::new("where", Addresses::Random);
    let spawned = target.spawn();
    drop(spawned.reach);
    assert_eq!((spawned.child.wait(), target.word(0)), (Ok(7), 1));

    let target = Target::new("maps", Addresses::Random);
    let mut holder = Command::new(std::env::current_exe().expect("it runs"));
    holder.args(["--exact", "control::holds_a_program_when_told_to", "--nocapture"]).env(TO_HOLD, &target.dir);
    let mut holder = holder.stdout(std::process::Stdio::null()).spawn().expect("it is this executable");
    let told = target.dir.join("pid");
    target.wait_until(|_| told.exists());
    assert_eq!(target.word(0), 0, "it is held");
    holder.kill().expect("it is our child");
    holder.wait().expect("it is our child");
    target.wait_until(|target| target.word(0) == 1);
    let pid = std::fs::read_to_string(&told).expect("it is there");
    assert!(Command::new("kill").args(["-s", "KILL", &pid]).status().is_ok_and(|status| status.success()));
}

/// Not a test by itself: what the one above starts and kills.
#[test]
fn holds_a_program_when_told_to() {
    let Some(dir) = std::env::var_os(TO_HOLD) else { return };
    let dir = Path::new(&dir);
    let args = vec![dir.join("board").into(), "maps".into(), dir.join("file").into()];
    let spec = LaunchSpec { program: dir.join("control"), args, ..LaunchSpec::default() };
    let spawned = Native::spawn(&(), &spec).expect("it starts");
    let held = spawned.reach.expect("it is our child");
    let (new, told) = (dir.join("pid.new"), dir.join("pid"));
    std::fs::write(&new, spawned.pid.to_string()).expect("the directory is ours");
    std::fs::rename(new, told).expect("the directory is ours");
    loop {
        std::thread::park();
        std::hint::black_box(&held);
    }
}
