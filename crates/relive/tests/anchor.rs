//! Where binaries are loaded: in real processes, started from small C programs, and for Mach-O in bytes that stand for the
//! memory of one.

#[allow(dead_code, reason = "each of the tests uses its part")]
#[path = "common/macho.rs"]
mod macho;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use relive::binary::address::LinkAddr;
use relive::binary::anchor::{self, AnchorError, Loaded, Mapped};
use relive::binary::bytes::Bytes;
use relive::binary::snapshot::Snapshot;
use relive::load;
use relive_process::memory::Memory;
use relive_wire::LiveAddr;

/// A program that knows nothing of us: it loads what it is told to, says where `probe` is in each, and waits.
const HOST: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
int probe(int n) { return n + 1; }
int main(int argc, char **argv) {
    printf("%p\n", (void *)probe);
    for (int i = 1; i < argc; i++) {
        int is_new = strncmp(argv[i], "new:", 4) == 0;
        void *library = is_new ? dlmopen(LM_ID_NEWLM, argv[i] + 4, RTLD_NOW) : dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);
        if (!library) { puts(dlerror()); return 1; }
        printf("%p\n", dlsym(library, "probe"));
    }
    fflush(stdout);
    getchar();
    return 0;
}
"#;

/// A library with a `main` of its own.
const LIBRARY: &str = r#"
static int count = NUMBER;
static const char *names[] = {"a", "b"};
int probe(int n) { return n + count++ + names[n & 1][0]; }
int main(void) { return probe(2); }
"#;

/// A folder of its own for a test.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("anchor-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn compile(output: &Path, text: &str, flags: &[&str]) {
    let source = output.with_extension("c");
    fs::write(&source, text).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-w"]).args(flags).arg("-o").arg(output).arg(&source).args(["-ldl"]);
    assert!(cc.status().expect("a C compiler as `cc`").success(), "{cc:?}");
}

fn library(path: &Path, number: u32, id: &str) {
    compile(
        path,
        &LIBRARY.replace("NUMBER", &number.to_string()),
        &["-shared", "-fPIC", &format!("-Wl,--build-id={id}")],
    );
}

fn snapshot(path: &Path) -> Snapshot {
    Snapshot::read(Bytes::new(fs::read(path).unwrap())).unwrap()
}

fn probe(binary: &Snapshot) -> LinkAddr {
    binary.symbols("probe").next().unwrap().addr
}

/// A running host.
struct Host {
    child: Child,
    /// Where it says that `probe` is: its own, then those of the libraries.
    probes: Vec<LiveAddr>,
}

impl Host {
    fn start(program: &Path, libraries: &[String]) -> Host {
        let mut command = Command::new(program);
        let mut child = command.args(libraries).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().take(1 + libraries.len());
        let addr = |line: String| u64::from_str_radix(line.trim_start_matches("0x"), 16).map_err(|_| line);
        let probes = lines.map(|line| LiveAddr(addr(line.unwrap()).unwrap())).collect();
        Host { child, probes }
    }

    fn memory(&self) -> Memory {
        Memory::open(self.child.id()).unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn a_program_that_can_be_anywhere_and_one_that_cannot() {
    let dir = folder("programs");
    for (name, flags, moved) in [("pie", ["-pie", "-fPIE"], true), ("fixed", ["-no-pie", "-fno-pie"], false)] {
        let program = dir.join(name);
        compile(&program, HOST, &flags);
        let host = Host::start(&program, &[]);
        let binary = snapshot(&program);
        let found = load::anchor::find_one(&binary, &program, &host.memory()).unwrap();
        assert_eq!(found.slide.live(probe(&binary)), host.probes[0], "{name}");
        assert_eq!(found.slide.link(host.probes[0]), probe(&binary));
        assert_eq!(!found.slide.is_zero(), moved, "{name}: {}", found.slide);
        assert_eq!(found.slide, binary.slide_at(found.start));
        let at = load::anchor::at(&binary, &program, found.start, &host.memory()).unwrap();
        assert_eq!(at, found.slide);
        let beside = load::anchor::at(&binary, &program, found.start.plus(0x1000), &host.memory());
        assert!(beside.unwrap_err().to_string().contains("build-id"));
    }
}

#[test]
fn a_library_of_a_foreign_program_with_a_second_main() {
    let dir = folder("foreign");
    let (program, path) = (dir.join("host"), dir.join("libcode.so"));
    compile(&program, HOST, &[]);
    for id in ["sha1", "none"] {
        library(&path, 1, id);
        let host = Host::start(&program, &[path.display().to_string()]);
        let (own, binary) = (snapshot(&program), snapshot(&path));
        assert!(own.symbols("main").next().is_some() && binary.symbols("main").next().is_some());
        let found = load::anchor::find_one(&binary, &path, &host.memory()).unwrap();
        assert_eq!(found.slide.live(probe(&binary)), host.probes[1], "build-id: {id}");
        assert_eq!(found.name, path.display().to_string());
        let found = load::anchor::find_one(&own, &program, &host.memory()).unwrap();
        assert_eq!(found.slide.live(probe(&own)), host.probes[0]);
    }
}

#[test]
fn copies_of_a_library_have_each_its_slide() {
    let dir = folder("copies");
    let (program, path, copy) = (dir.join("host"), dir.join("libcode.so"), dir.join("libcopy.so"));
    let other = dir.join("libother.so");
    compile(&program, HOST, &[]);
    library(&path, 1, "sha1");
    library(&other, 2, "sha1");
    fs::copy(&path, &copy).unwrap();
    let loads = [
        path.display().to_string(),
        copy.display().to_string(),
        format!("new:{}", path.display()),
        other.display().to_string(),
    ];
    let host = Host::start(&program, &loads);
    let binary = snapshot(&path);
    let found = load::anchor::find(&binary, &path, &host.memory()).unwrap();
    let mut places: Vec<_> = found.iter().map(|loaded| loaded.slide.live(probe(&binary))).collect();
    let mut wanted = host.probes[1..4].to_vec();
    places.sort();
    wanted.sort();
    assert_eq!(places, wanted, "{found:?}");
    let why = load::anchor::find_one(&binary, &path, &host.memory()).unwrap_err().to_string();
    assert!(why.contains("3 copies are loaded"), "{why}");
    for loaded in &found {
        assert!(why.contains(&format!("`{}` at {}", loaded.name, loaded.start)), "{why}");
    }
    assert!(found.iter().any(|loaded| loaded.name.ends_with("libcopy.so")));
    let own = load::anchor::find_one(&snapshot(&other), &other, &host.memory()).unwrap();
    assert_eq!(own.slide.live(probe(&snapshot(&other))), host.probes[4]);
}

#[test]
fn what_is_not_loaded_is_said_to_be_so() {
    let dir = folder("absent");
    let (program, path) = (dir.join("host"), dir.join("libcode.so"));
    compile(&program, HOST, &[]);
    library(&path, 1, "sha1");
    let host = Host::start(&program, &[]);
    let binary = snapshot(&path);
    assert_eq!(load::anchor::find(&binary, &path, &host.memory()).unwrap(), []);
    let why = load::anchor::find_one(&binary, &path, &host.memory()).unwrap_err().to_string();
    assert!(why.contains("it is not loaded") && why.contains("libcode.so"), "{why}");
}

#[test]
fn a_file_that_was_replaced_is_an_error_with_both_build_ids() {
    let dir = folder("replaced");
    let (program, path, newer) = (dir.join("host"), dir.join("libcode.so"), dir.join("newer.so"));
    compile(&program, HOST, &[]);
    library(&path, 1, "sha1");
    let host = Host::start(&program, &[path.display().to_string()]);
    let old = snapshot(&path).identity().key.to_string();
    library(&newer, 2, "sha1");
    fs::rename(&newer, &path).unwrap();
    let binary = snapshot(&path);
    let new = binary.identity().key.to_string();
    assert_ne!(old, new);
    for why in [
        load::anchor::find(&binary, &path, &host.memory()).unwrap_err().to_string(),
        load::anchor::find_one(&binary, &path, &host.memory()).unwrap_err().to_string(),
    ] {
        assert!(why.contains(&old) && why.contains(&new) && why.contains("libcode.so"), "{why}");
    }
}

/// Bytes that stand for memory.
struct Space {
    parts: Vec<(LiveAddr, Vec<u8>)>,
}

impl Space {
    fn read(&self, addr: LiveAddr, bytes: &mut [u8]) -> bool {
        let inside = |(start, part): &(LiveAddr, Vec<u8>)| {
            let at = usize::try_from(addr.0.checked_sub(start.0)?).ok()?;
            part.get(at..at.checked_add(bytes.len())?).map(<[u8]>::to_vec)
        };
        let found = self.parts.iter().find_map(inside);
        found.inspect(|found| bytes.copy_from_slice(found)).is_some()
    }
}

/// The file as the system loads it at `at`: its mappings, and what is in them.
fn loaded(file: &[u8], at: u64, number: u64, name: &str, space: &mut Space) -> Vec<Mapped> {
    [0_usize, 0x1000, 0x2000]
        .map(|offset| {
            let start = LiveAddr(at + offset as u64);
            space.parts.push((start, file[offset..(offset + 0x1000).min(file.len())].to_vec()));
            let (end, file, is_own) = (start.plus(0x1000), (1, number), number == 1);
            Mapped { start, end, offset: offset as u64, file, is_own, name: name.to_owned() }
        })
        .to_vec()
}

#[test]
fn mach_o_is_found_by_its_header_and_checked_by_its_uuid() {
    let file = macho::executable(macho::ARM64, [7; 16]);
    let binary = Snapshot::read(Bytes::new(file.clone())).unwrap();
    let mut space = Space { parts: Vec::new() };
    let mut mapped = loaded(&file, 0x1_0400_0000, 1, "app", &mut space);
    let other = macho::executable(macho::ARM64, [9; 16]);
    mapped.extend(loaded(&other, 0x1_0500_0000, 2, "other", &mut space));
    let one = anchor::find_one(&binary, &mapped, &mut |addr, bytes| space.read(addr, bytes)).unwrap();
    assert_eq!(one.slide.live(LinkAddr(macho::TEXT)), LiveAddr(0x1_0400_0800));
    let at =
        |header, space: &Space| anchor::at(&binary, LiveAddr(header), "app", &mut |at, bytes| space.read(at, bytes));
    assert_eq!(at(0x1_0400_0000, &space), Ok(one.slide));
    let why = at(0x1_0500_0000, &space).unwrap_err();
    let AnchorError::Mismatch { what, stated, found, .. } = &why else { panic!("{why}") };
    assert_eq!((*what, stated, found), ("UUID", &"07".repeat(16), &"09".repeat(16)));
    assert!(why.to_string().contains(stated) && why.to_string().contains(found));

    mapped.extend(loaded(&file, 0x1_0600_0000, 3, "copy of app", &mut space));
    let why = anchor::find_one(&binary, &mapped, &mut |addr, bytes| space.read(addr, bytes)).unwrap_err();
    let AnchorError::Several(all) = why else { panic!("{why}") };
    let names: Vec<_> = all.iter().map(|loaded: &Loaded| loaded.name.as_str()).collect();
    assert_eq!(names, ["app", "copy of app"]);

    // What is mapped from the binary's own file and says something else is no other binary, but an error.
    let mut space = Space { parts: Vec::new() };
    let mapped = loaded(&other, 0x1_0400_0000, 1, "app", &mut space);
    let why = anchor::find(&binary, &mapped, &mut |addr, bytes| space.read(addr, bytes)).unwrap_err();
    assert!(matches!(why, AnchorError::Mismatch { what: "UUID", .. }), "{why}");
    let why = anchor::find(&binary, &mapped, &mut |_, _| false).unwrap_err();
    assert!(why.to_string().contains("cannot be read"), "{why}");
    // Half of it is no copy.
    assert_eq!(anchor::find(&binary, &mapped[..2], &mut |addr, bytes| space.read(addr, bytes)), Ok(Vec::new()));
}
