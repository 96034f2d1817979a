//! What goes wrong outside: one message that says what to do, and the program runs on.
//!
//! A test that needs what this machine does not allow or have (mounting, musl) is shown as ignored, with what it needs.

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, SystemTime};

use libtest_mimic::{Arguments, Trial};
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

fn main() -> ExitCode {
    let here = |name: &str, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let with = |what: &str, can: bool, name: &str, test: fn()| {
        here(name, test).with_kind(what.to_owned()).with_ignored_flag(!can)
    };
    let trials = vec![
        here("a_file_in_place_of_the_target_directory", a_file_in_place_of_the_target_directory),
        here("a_stripped_executable", a_stripped_executable),
        here("a_static_executable", a_static_executable),
        with("musl", has_musl(), "a_musl_executable", a_musl_executable),
        here("no_debug_information", no_debug_information),
        here("a_limit_on_the_size_of_files", a_limit_on_the_size_of_files),
        with("mount", can_mount(), "a_full_disk", a_full_disk),
        here("the_sessions_folder_is_removed", the_sessions_folder_is_removed),
        here("the_sessions_folder_is_replaced_by_a_link", the_sessions_folder_is_replaced_by_a_link),
        here("the_target_directory_is_cleaned", the_target_directory_is_cleaned),
        here("a_library_is_removed", a_library_is_removed),
        here("objects_are_shortened", objects_are_shortened),
        here("objects_are_damaged", objects_are_damaged),
        here("the_executable_is_replaced_on_disk", the_executable_is_replaced_on_disk),
        here("ptrace_is_refused", ptrace_is_refused),
        here("a_clock_that_jumps", a_clock_that_jumps),
        here("a_gigabyte_of_files_in_the_source_tree", a_gigabyte_of_files_in_the_source_tree),
        with("mount", can_mount(), "the_doctor_finds_what_is_mounted_without_execution", the_doctor_finds_noexec),
        here("the_doctor_finds_settings_that_take_something_away", the_doctor_finds_settings),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

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
    // It may print before relive has reached its agent.
    running.wait_started(SOON).expect("it was started");
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

fn a_file_in_place_of_the_target_directory() {
    let scratch = project("target-file", "");
    scratch.write("target", "");
    let output = command(RELIVE, &scratch.0).arg("run").stdin(Stdio::null()).output().expect("relive runs");
    assert_eq!(output.status.code(), Some(125));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        error.contains("cannot create") && error.contains("target") && error.contains("CARGO_TARGET_DIR"),
        "{error}"
    );
    let output = command(RELIVE, &scratch.0).arg("doctor").output().expect("relive runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("BAD      project") && text.contains("CARGO_TARGET_DIR"), "{text}");
}

fn a_stripped_executable() {
    let scratch = project("stripped", "\n[profile.dev]\nstrip = true\n");
    let mut running = start(&scratch);
    let (outcome, reason) = save(&scratch, &mut running, 2);
    assert_eq!(outcome, "failed");
    assert!(reason.contains("set `strip = false` in the profile"), "{reason}");
    ends_well(running, "v1");
}

fn a_static_executable() {
    let scratch = project("static", "");
    scratch.write(".cargo/config.toml", "[build]\nrustflags = [\"-Ctarget-feature=+crt-static\"]\n");
    let mut running = start(&scratch);
    let (outcome, reason) = save(&scratch, &mut running, 2);
    assert_eq!(outcome, "refused");
    assert!(reason.starts_with("no-agent: ") && reason.contains("linked statically"), "{reason}");
    ends_well(running, "v1");
    let output = command(RELIVE, &scratch.0).arg("doctor").output().expect("relive runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("limited  linking") && text.contains(".cargo/config.toml"), "{text}");
}

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
        ["cannot write to the event file", "rustc ended with signal", "`ulimit -f`"]
            .iter()
            .all(|part| text.contains(part)),
        "{text}"
    );
    limit("unlimited:unlimited");
    scratch.write("src/work.rs", work(3));
    running.wait_line("v3", SOON).expect("the next save is applied");
    ends_well(running, "v3");
}

fn the_sessions_folder_is_removed() {
    let scratch = project("no-folder", "");
    let mut running = start(&scratch);
    fs::remove_dir_all(scratch.0.join("target/relive/session")).expect("it is there");
    let (outcome, reason) = save(&scratch, &mut running, 2);
    assert_eq!(outcome, "failed");
    assert!(reason.contains("cannot write the image to") && reason.contains("start relive again"), "{reason}");
    ends_well(running, "v1");
}

fn the_target_directory_is_cleaned() {
    let scratch = project("cleaned", "");
    let mut running = start(&scratch);
    fs::remove_dir_all(scratch.0.join("target")).expect("it is there");
    let (outcome, reason) = save(&scratch, &mut running, 2);
    assert_eq!(outcome, "failed");
    assert!(reason.contains("`cargo clean` perhaps; start relive again"), "{reason}");
    ends_well(running, "v1");
}

fn the_executable_is_replaced_on_disk() {
    let scratch = project("replaced", "");
    let mut running = start(&scratch);
    let exe = scratch.0.join("target/debug/guest");
    fs::remove_file(&exe).expect("it is there");
    fs::write(&exe, "another tool was here").expect("a file");
    assert_eq!(save(&scratch, &mut running, 2).0, "applied");
    ends_well(running, "v2");
}

fn has_musl() -> bool {
    let rustc =
        Command::new("rustc").args(["--print", "target-libdir", "--target", "x86_64-unknown-linux-musl"]).output();
    rustc.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).exists())
}

fn a_musl_executable() {
    let scratch = project("musl", "");
    scratch.write(".cargo/config.toml", "[build]\ntarget = \"x86_64-unknown-linux-musl\"\n");
    let mut running = start(&scratch);
    let (outcome, reason) = save(&scratch, &mut running, 2);
    assert_eq!(outcome, "refused");
    assert!(reason.starts_with("no-agent: ") && reason.contains("linked statically"), "{reason}");
    ends_well(running, "v1");
}

fn no_debug_information() {
    let scratch = project("no-debug", "\n[profile.dev]\ndebug = 0\n");
    let mut running = start(&scratch);
    let (outcome, reason) = save(&scratch, &mut running, 2);
    assert_eq!(outcome, "refused");
    assert!(reason.starts_with("no-type-info: ") && reason.contains("debug = true"), "{reason}");
    ends_well(running, "v1");
}

/// A file system of its own, as large as is said; unmounted at the end.
struct Mounted(PathBuf);

impl Mounted {
    fn at(place: &Path, options: &str) -> Option<Mounted> {
        fs::create_dir_all(place).expect("a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(place).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then(|| Mounted(place.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn can_mount() -> bool {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("can-mount-{}", std::process::id()));
    let can = Mounted::at(&place, "size=1m").is_some();
    let _ = fs::remove_dir(&place);
    can
}

fn a_full_disk() {
    let scratch = project("full-disk", "");
    let _mounted = Mounted::at(&scratch.0.join("target"), "size=300m").expect("it was tried before");
    let mut running = start(&scratch);
    let filler = scratch.0.join("target/filler");
    let mut file = File::create(&filler).expect("there is room");
    while file.write_all(&[0; 1 << 16]).is_ok() {}
    while file.write_all(&[0; 512]).is_ok() {}
    let (outcome, reason) = save(&scratch, &mut running, 2);
    assert!(outcome == "failed" || outcome == "compile-error", "{outcome}");
    assert!(
        reason.contains("No space left on device") || running.stderr().contains("No space left on device"),
        "{reason}"
    );
    assert!(reason.contains("make room") || running.stderr().contains("make room"), "{reason}: {}", running.stderr());
    running.wait_lines("v1", 3, SOON).expect("it runs on");
    drop(file);
    fs::remove_file(&filler).expect("it is there");
    // rustc spoke of a file that it could not write, so the failed save may have been tried, and answered, a second time.
    scratch.write("src/work.rs", work(3));
    let mut answers = (2..).map(|count| running.wait_patch(count, SOON).expect("an answer"));
    assert!(answers.any(|patch| patch["outcome"] == "applied"));
    ends_well(running, "v3");
}

fn the_sessions_folder_is_replaced_by_a_link() {
    let scratch = project("link-folder", "");
    let mut running = start(&scratch);
    let (folder, other) = (scratch.0.join("target/relive/session"), scratch.0.join("other"));
    fs::remove_dir_all(&folder).expect("it is there");
    fs::create_dir(&other).expect("a folder");
    std::os::unix::fs::symlink(&other, &folder).expect("a link");
    let (outcome, reason) = save(&scratch, &mut running, 2);
    assert_eq!(outcome, "failed");
    assert!(reason.contains("was replaced") && reason.contains("start relive again"), "{reason}");
    assert_eq!(fs::read_dir(&other).expect("it is there").count(), 0, "nothing is written there");
    ends_well(running, "v1");
}

fn a_library_is_removed() {
    let scratch = project("no-library", "\n[dependencies]\ndep = { path = \"dep\" }\n");
    scratch.write("dep/Cargo.toml", "[package]\nname = \"dep\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
    scratch.write("dep/src/lib.rs", "pub fn text() -> &'static str { \"v1\" }\n");
    scratch.write("src/work.rs", "pub fn line() -> &'static str { dep::text() }\n");
    let mut running = start(&scratch);
    remove(&scratch.0.join("target"), &|name| name.starts_with("libdep"));
    scratch.write("src/work.rs", "pub fn line() -> &'static str { let _ = dep::text(); \"v2\" }\n");
    let patch = running.wait_patch(1, SOON).expect("an answer");
    assert_eq!(patch["outcome"], "compile-error");
    let reason = patch["reasons"][0].to_string();
    assert!(reason.contains("libdep") && reason.contains("start relive again"), "{reason}");
    ends_well(running, "v1");
}

/// Removes files by name, at any depth.
fn remove(folder: &Path, which: &dyn Fn(&str) -> bool) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            remove(&path, which);
        } else if which(&entry.file_name().to_string_lossy()) {
            fs::remove_file(&path).expect("it is there");
        }
    }
}

fn objects_are_shortened() {
    let scratch = project("shortened", "");
    let mut running = start(&scratch);
    shorten(&scratch.0.join("target/relive/units"));
    scratch.write("src/work.rs", work(2));
    running.wait_stderr("was shortened", SOON).expect("it says so");
    running.wait_stderr("start relive again", SOON).expect("it says what to do");
    running.wait_lines("v1", 3, SOON).expect("the program runs on");
    drop(running.stdin.take());
    assert_eq!(running.wait_end().code(), Some(125));
}

fn shorten(folder: &Path) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            shorten(&path);
        } else if path.extension().is_some_and(|end| end == "o") {
            let file = File::options().write(true).open(&path).expect("it is there");
            file.set_len(100).expect("it is ours");
        }
    }
}

/// A wrapper of rustc, as users have them, whose linker damages objects as the file `damage` says.
const DAMAGING_WRAPPER: &str = r#"#!/bin/bash
here=$(dirname "$0")
for arg; do
    case "$arg" in -Clinker=*) export DAMAGED_FOR="${arg#-Clinker=}"; arg="-Clinker=$here/cc" ;; esac
    args+=("$arg")
done
exec "${args[@]}"
"#;

const DAMAGING_LINKER: &str = r#"#!/bin/bash
here=$(dirname "$0")
for arg; do
    case "$arg" in *.rcgu.o) ;; *) continue ;; esac
    [ -e "$here/damage" ] || continue
    cp "$arg" "$arg.new"
    case "$(cat "$here/damage")" in
        cut) truncate -s 700 "$arg.new" ;;
        foreign) printf '\xb7' | dd of="$arg.new" bs=1 seek=18 conv=notrunc status=none ;;
    esac
    mv -f "$arg.new" "$arg"
done
exec "$DAMAGED_FOR" "$@"
"#;

fn objects_are_damaged() {
    let scratch = project("damaged", "");
    for (name, text) in [("tools/rustc-wrapper", DAMAGING_WRAPPER), ("tools/cc", DAMAGING_LINKER)] {
        scratch.write(name, text);
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(scratch.0.join(name), executable).expect("it is ours");
    }
    let mut relive = command(RELIVE, &scratch.0);
    relive.args(["run", "--events", "events.jsonl"]).env("RUSTC_WRAPPER", scratch.0.join("tools/rustc-wrapper"));
    let mut running = Running::spawn(relive, scratch.0.join("events.jsonl"));
    running.wait_line("v1", START).expect("it starts");
    running.wait_started(SOON).expect("it was started");
    for (number, how, why) in [(2, "cut", "section table"), (3, "foreign", "Aarch64")] {
        scratch.write("tools/damage", how);
        let (outcome, reason) = save(&scratch, &mut running, number);
        assert_eq!(outcome, "failed", "{reason}");
        assert!(reason.contains(".o") && reason.contains(why) && reason.contains("`cargo clean`"), "{reason}");
        running.wait_lines("v1", 3, SOON).expect("it runs on");
    }
    fs::remove_file(scratch.0.join("tools/damage")).expect("it is there");
    assert_eq!(save(&scratch, &mut running, 4).0, "applied");
    ends_well(running, "v4");
}

/// Starts a command whose processes may not use ptrace: the system call gives EPERM, as in a container.
fn without_ptrace(scratch: &Scratch) -> PathBuf {
    scratch.write(
        "without.c",
        "#include <linux/filter.h>\n#include <linux/seccomp.h>\n#include <stddef.h>\n#include <sys/prctl.h>\n\
         #include <sys/syscall.h>\n#include <unistd.h>\n\
         int main(int argc, char **argv) {\n\
           struct sock_filter code[] = {\n\
             BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),\n\
             BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ptrace, 0, 1),\n\
             BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1),\n\
             BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };\n\
           struct sock_fprog program = { sizeof code / sizeof *code, code };\n\
           if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) return 99;\n\
           execv(argv[1], argv + 1);\n\
           return 98;\n\
         }\n",
    );
    let cc = Command::new("cc").args(["-o", "without", "without.c"]).current_dir(&scratch.0).status();
    assert!(cc.is_ok_and(|status| status.success()), "this test needs a C compiler as `cc`");
    scratch.0.join("without")
}

fn ptrace_is_refused() {
    let scratch = project("no-ptrace", "");
    let without = without_ptrace(&scratch);
    let output = command(&without, &scratch.0).arg(RELIVE).arg("doctor").output().expect("relive runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("BAD      ptrace") && text.contains("--cap-add=SYS_PTRACE"), "{text}");
    let mut relive = command(&without, &scratch.0);
    relive.arg(RELIVE).args(["run", "--events", "events.jsonl"]);
    let mut running = Running::spawn(relive, scratch.0.join("events.jsonl"));
    running.wait_line("v1", START).expect("it starts");
    let (outcome, reason) = save(&scratch, &mut running, 2);
    assert_eq!(outcome, "failed");
    assert!(reason.contains("a sandbox forbids ptrace"), "{reason}");
    ends_well(running, "v1");
}

fn a_clock_that_jumps() {
    let scratch = project("clock", "");
    let mut running = start(&scratch);
    let day = Duration::from_secs(24 * 60 * 60);
    let now = SystemTime::now();
    let times = [now - 7000 * day, now + 7000 * day, SystemTime::UNIX_EPOCH, now];
    for (number, time) in (2..).zip(times) {
        let beside = scratch.0.join("beside");
        fs::write(&beside, work(number)).expect("a file");
        File::options().write(true).open(&beside).and_then(|file| file.set_modified(time)).expect("it is ours");
        fs::rename(&beside, scratch.0.join("src/work.rs")).expect("a file");
        let patch = running.wait_patch(number as usize - 1, SOON).expect("an answer");
        assert_eq!(patch["outcome"], "applied", "saved at {time:?}: {patch}");
        running.wait_line(&format!("v{number}"), SOON).expect("it runs");
    }
    ends_well(running, "v5");
}

fn a_gigabyte_of_files_in_the_source_tree() {
    let scratch = project("gigabyte", "");
    for folder in 0..200 {
        for file in 0..5 {
            scratch.write(&format!("src/assets/{folder}/{file}.bin"), "");
            let path = scratch.0.join(format!("src/assets/{folder}/{file}.bin"));
            let file = File::options().write(true).open(path).expect("it is there");
            file.set_len(1 << 20).expect("a hole takes no room");
        }
    }
    let mut running = start(&scratch);
    for number in 2..5 {
        let (outcome, reason) = save(&scratch, &mut running, number);
        assert_eq!(outcome, "applied", "{reason}");
    }
    // What is no input of the build is neither watched nor read.
    let (watches, kilobytes) = watches_and_memory(running.child.id());
    assert!(watches > 0 && watches < 100, "{watches} folders are watched");
    assert!(kilobytes < 400_000, "{kilobytes} kB are in use");
    ends_well(running, "v4");
}

/// How many folders a process watches, and how much memory it has, mapped files included.
fn watches_and_memory(pid: u32) -> (usize, u64) {
    let infos = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("it runs").flatten();
    let texts = infos.filter_map(|info| fs::read_to_string(info.path()).ok());
    let watches = texts.map(|text| text.lines().filter(|line| line.starts_with("inotify ")).count()).sum();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let size = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its size");
    (watches, size.trim().trim_end_matches(" kB").parse().expect("a number"))
}

fn the_doctor_finds_noexec() {
    let scratch = project("noexec", "");
    let _mounted = Mounted::at(&scratch.0.join("target"), "size=300m,noexec").expect("it was tried before");
    let output = command(RELIVE, &scratch.0).arg("doctor").output().expect("relive runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("BAD      disk") && text.contains("noexec"), "{text}");
    assert!(text.contains("BAD      agent") || text.contains("BAD      image"), "{text}");
}

fn the_doctor_finds_settings() {
    let scratch = project("settings", "\n[profile.dev]\ndebug = 0\nopt-level = 1\nstrip = true\nlto = \"thin\"\n");
    let output = command(RELIVE, &scratch.0).arg("doctor").output().expect("relive runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    for what in ["`no-type-info`", "`optimised-unit`", "`strip = false`", "`link-time-optimised`"] {
        assert!(text.contains(what), "{what}: {text}");
    }
    for works in ["agent       works", "image       works", "ptrace      works", "memory      works"] {
        assert!(text.contains(works), "{works}: {text}");
    }
    assert!(
        !scratch.0.join("target").exists()
            || fs::read_dir(scratch.0.join("target/relive")).is_ok_and(|left| left.count() == 0)
    );
}
