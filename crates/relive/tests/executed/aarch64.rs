//! AArch64 ELF under an emulator: the agent inside the program maps and writes what relive linked, and branches from the old
//! entries to it, directly and through stubs where the new code is out of a branch's reach.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use relive::arch::{Machine, aarch64};
use relive::binary::address::Slide;
use relive::binary::bytes::Bytes;
use relive::binary::object::{Format, NameId, Object, Role, SymbolKind};
use relive::binary::snapshot::Snapshot;
use relive::link::buffer::{Buffer, Room};
use relive_process::agent::{AgentLink, AgentListener};
use relive_process::{LiveAddr, MappedFile, Protection};
use relive_wire::agent::{ENV_DIR, ENV_FD};

use crate::Model;

const TRIPLE: &str = "aarch64-unknown-linux-gnu";
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";
const WAIT: Duration = Duration::from_secs(60);
const CODE: Protection = Protection { read: true, write: false, execute: true, shared: false };
const CONSTANTS: Protection = Protection { read: true, write: false, execute: false, shared: false };
const PART: u64 = 1 << 16;

/// What is not installed of the target that the agent is built for.
pub(super) fn missing_target() -> Option<String> {
    let out = Command::new("rustc").args(["--print", "target-libdir", "--target", TRIPLE]).output().ok()?;
    let dir = PathBuf::from(String::from_utf8_lossy(&out.stdout).trim());
    if !dir.exists() {
        return Some(format!("the target {TRIPLE} is not installed"));
    }
    let libraries = Path::new(LIBRARIES);
    (!libraries.exists()).then(|| format!("there is no {LIBRARIES}, with libraries for the emulated program"))
}

fn run(command: &mut Command) -> Result<(), String> {
    let out = command.output().map_err(|why| format!("{command:?}: {why}"))?;
    if out.status.success() { Ok(()) } else { Err(format!("{command:?}: {}", String::from_utf8_lossy(&out.stderr))) }
}

/// The agent, for this machine.
fn agent() -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("agent-aarch64");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--locked", "--release", "--package", "relive-agent", "--target", TRIPLE, "--target-dir"]);
    cargo.arg(&target).current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
    run(&mut cargo)?;
    Ok(target.join(TRIPLE).join("release/librelive_agent.so"))
}

fn compile(dir: &Path, flags: &[&str], sources: &[&str], out: &str) -> Result<Bytes, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/executed");
    let mut gcc = Command::new("aarch64-linux-gnu-gcc");
    gcc.args(["-O1", "-fPIE", "-ffunction-sections"]).args(flags).arg("-o").arg(dir.join(out));
    run(gcc.args(sources.iter().map(|source| folder.join(source))))?;
    MappedFile::open(&dir.join(out)).map(Bytes::new).map_err(|why| why.to_string())
}

/// The program under the emulator, and the way to the agent in it.
struct Guest {
    child: std::process::Child,
    answers: BufReader<std::process::ChildStdout>,
    link: AgentLink,
}

impl Guest {
    fn start(dir: &Path, agent: &Path) -> Result<Guest, String> {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).map_err(|why| why.to_string())?;
        let listener = AgentListener::listen(dir).map_err(|why| why.to_string())?;
        // A copy that is inherited: what Rust opens is closed when another program begins.
        let inherited = rustix::io::dup(&listener).map_err(|why| why.to_string())?;
        let fd = std::os::fd::AsRawFd::as_raw_fd(&inherited);
        let mut emulator = Command::new("qemu-aarch64");
        emulator.args(["-L", LIBRARIES]);
        for (key, value) in [("LD_PRELOAD", agent.to_owned()), (ENV_DIR, dir.to_owned())] {
            emulator.arg("-E").arg(format!("{key}={}", value.display()));
        }
        emulator.arg("-E").arg(format!("{ENV_FD}={fd}")).arg(dir.join("guest"));
        let mut child = emulator.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(|why| why.to_string())?;
        drop((inherited, listener));
        let answers = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        match AgentLink::connect(dir, child.id(), WAIT, &|| true) {
            Ok(link) => Ok(Guest { child, answers, link }),
            Err(why) => {
                let _ = child.kill(); // it may have ended
                Err(why.to_string())
            }
        }
    }

    fn call(&mut self, n: i64) -> Result<(i64, i64), String> {
        let stdin = self.child.stdin.as_mut().ok_or("no pipe")?;
        writeln!(stdin, "call {n}").and_then(|()| stdin.flush()).map_err(|why| why.to_string())?;
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(|why| why.to_string())?;
        let mut numbers = line.split_whitespace().map(|word| word.parse::<i64>());
        match (numbers.next(), numbers.next()) {
            (Some(Ok(answer)), Some(Ok(counter))) => Ok((answer, counter)),
            _ => Err(format!("it says {line:?}")),
        }
    }

    /// Memory at `at` or, if something is there, a little behind it.
    fn reserve(&mut self, at: u64) -> Result<u64, String> {
        let mut places = (0..64).map(|step| (at & !(PART - 1)) + step * (1 << 20));
        let free = places.find(|at| self.link.reserve(LiveAddr(*at), 2 * PART, WAIT, &|| true).is_ok());
        free.ok_or_else(|| format!("there is no room behind {at:#x}"))
    }

    fn store(&mut self, at: u64, bytes: &[u8], protection: Protection) -> Result<(), String> {
        self.link.store(LiveAddr(at), bytes, protection, WAIT, &|| true).map_err(|why| why.to_string())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

/// Links the edit at `code` and leads the old functions there. Old entries branch through `stub` where they do not reach.
fn patch(
    guest: &mut Guest,
    exe: &Snapshot,
    slide: Slide,
    new: &Arc<Object>,
    (code, stub): (u64, Option<u64>),
) -> Result<usize, String> {
    let symbol = |name: &str| exe.symbols(name).next().ok_or_else(|| format!("the program has no `{name}`"));
    let (constants, stubs) = (code + PART, code + PART / 2);
    let room = Room::new(constants + PART / 2..constants + PART, stubs..code + PART);
    let mut buffer = Buffer::new(Machine::Aarch64, room, false, exe.tp_offset(0).wrapping_neg() as u64);
    buffer.add(new.clone()).map_err(|why| why.to_string())?;
    buffer.place_all(&[Role::Text], code).map_err(|why| why.to_string())?;
    buffer.place_all(&[Role::ReadOnly, Role::RelRo], constants).map_err(|why| why.to_string())?;
    for name in buffer.undefined() {
        let found = symbol(&name)?;
        let at = if found.kind == SymbolKind::Tls { found.addr.0 } else { slide.live(found.addr).0 };
        buffer.define(NameId::of(&name), at);
    }
    let resolved = buffer.resolve().map_err(|why| why.to_string())?;
    for write in &resolved.writes {
        guest.store(write.at, &write.new, if write.at < constants { CODE } else { CONSTANTS })?;
    }
    for (number, name) in ["twice", "shape"].into_iter().enumerate() {
        let (from, to) = (slide.live(symbol(name)?.addr), buffer.address(NameId::of(name)).ok_or("not linked")?);
        let direct = aarch64::jump(from, LiveAddr(to));
        assert_eq!(direct.is_some(), stub.is_none(), "{name}: {from} to {to:#x}");
        let branch = match stub {
            None => direct,
            Some(stub) => {
                let (at, word) = (stub + 16 * number as u64, stub + 0x100 + 8 * number as u64);
                let jump = aarch64::far_jump(LiveAddr(at), LiveAddr(word)).ok_or("a stub out of reach of its word")?;
                guest.store(word, &to.to_le_bytes(), CODE)?;
                guest.store(at, &jump, CODE)?;
                aarch64::jump(from, LiveAddr(at))
            }
        };
        guest.store(from.0, &branch.ok_or("out of reach")?, CODE)?;
    }
    Ok(resolved.relocations)
}

pub(super) fn is_patched() -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(|why| why.to_string())?;
    let dir = dir.path();
    let exe = compile(dir, &["-pie"], &["guest_aarch64.c", "old.c"], "guest")?;
    let exe = Snapshot::read(exe).map_err(|why| why.to_string())?;
    let new = Object::parse_any(compile(dir, &["-c"], &["new.c"], "new.o")?).map_err(|why| why.to_string())?;
    assert_eq!((new.format, new.machine), (Format::Elf, Machine::Aarch64));
    let new = Arc::new(new);
    let agent = agent()?;
    // Near: one branch. Far: a branch to a stub, and stubs for what the new code calls.
    for (distance, stub) in [(16 << 20, None), (1 << 30, Some(16 << 20))] {
        let mut guest = Guest::start(dir, &agent)?;
        let exe_start = guest.link.hello().exe_start;
        let slide = exe.slide_at(exe_start);
        let mut model = Model::default();
        for n in 0..10 {
            assert_eq!(guest.call(n)?, model.entry(n), "before the edit, {n}");
        }
        let code = guest.reserve(exe_start.0 + distance)?;
        let stub = stub.map(|distance| guest.reserve(exe_start.0 + distance)).transpose()?;
        let relocations = patch(&mut guest, &exe, slide, &new, (code, stub))?;
        assert!(relocations >= 5, "{relocations} relocations");
        model.edited = true;
        for n in 0..10 {
            assert_eq!(guest.call(n)?, model.entry(n), "after the edit, {n}");
        }
    }
    Ok(())
}
