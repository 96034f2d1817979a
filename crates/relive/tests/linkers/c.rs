//! C, C++ and assembly of `c/`, compiled as often as there are ways to say where things are.
//!
//! Each way of compiling is linked by itself: all define the same symbols.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use relive::arch::Machine;
use relive::binary::bytes::Bytes;
use relive::binary::object::{Format, Object};

use crate::inputs::{Group, Input, Target};

const ALL: &[&str] = &["data.c", "distances.c", "other.c", "threads.c", "more.c"];
const WITH_CXX: &[&str] = &["data.c", "distances.c", "other.c", "threads.c", "more.c", "exceptions.cpp"];
/// Clang has no thread-locals in AArch64's large model, lld none in the tiny one.
const NO_THREADS: &[&str] = &["data.c", "distances.c", "more.c"];

/// A compiler, its words, the files, and the linker's words.
type Way = (&'static str, &'static str, &'static [&'static str], &'static [&'static str]);

const MACHO: &[Way] = &[
    ("clang", "-O0", WITH_CXX, &[]),
    ("clang", "-O2", WITH_CXX, &[]),
    ("clang", "-O2 -g -fcommon", WITH_CXX, &[]),
    ("clang", "-O1 -mcmodel=large", ALL, &[]),
];

const ELF_X86_64: &[Way] = &[
    ("clang", "-fPIC -O0", WITH_CXX, &[]),
    ("clang", "-fPIC -O2 -g", WITH_CXX, &[]),
    ("gcc", "-fPIC -O2 -g -w", WITH_CXX, &[]),
    ("clang", "-fPIC -O1 -mcmodel=large", NO_THREADS, &[]),
    ("gcc", "-fPIC -O1 -mcmodel=large", NO_THREADS, &[]),
    ("clang", "-fPIC -O1 -ftls-model=initial-exec", ALL, &[]),
    ("gcc", "-fPIC -O1 -ftls-model=local-exec -fno-pic", ALL, &["-no-pie"]),
    ("gcc", "-fPIC -O2 -mtls-dialect=gnu2", ALL, &[]),
    ("clang", "-fno-pic -O2", WITH_CXX, &["-no-pie"]),
    ("gcc", "-fno-pic -O0", WITH_CXX, &["-no-pie"]),
];

const ELF_AARCH64: &[Way] = &[
    ("clang", "-fPIC -O0", WITH_CXX, &[]),
    ("clang", "-fPIC -O2 -g", WITH_CXX, &[]),
    ("clang", "-fPIC -O1 -ftls-model=initial-exec", ALL, &[]),
    ("clang", "-fno-pic -O1 -mcmodel=large", NO_THREADS, &["-no-pie"]),
    ("clang", "-fno-pic -O2 -mcmodel=tiny", NO_THREADS, &["-no-pie"]),
    (
        "clang",
        "-fno-pic -O2 -ftls-model=local-exec",
        &["data.c", "distances.c", "other.c", "threads.c", "more.c", "branches.s"],
        &["-no-pie"],
    ),
];

/// All ways for `target`; what is missing is added to `missing`.
pub(crate) fn groups(target: Target, dir: &Path, missing: &mut Vec<String>) -> Vec<Group> {
    let (ways, triple) = match (target.format, target.machine) {
        (Format::MachO, Machine::X86_64) => (MACHO, "x86_64-apple-macos11"),
        (Format::MachO, Machine::Aarch64) => (MACHO, "arm64-apple-macos11"),
        (Format::Elf, Machine::X86_64) => (ELF_X86_64, "x86_64-unknown-linux-gnu"),
        (Format::Elf, Machine::Aarch64) => (ELF_AARCH64, "aarch64-unknown-linux-gnu"),
    };
    let mut out = Vec::new();
    for (number, (compiler, words, files, flags)) in ways.iter().enumerate() {
        let dir = dir.join(format!("c{number}"));
        fs::create_dir(&dir).expect("a folder in a new folder");
        let mut group = Group { flags: flags.to_vec(), inputs: Vec::new() };
        for file in *files {
            match compile(compiler, triple, words, file, &dir) {
                Ok(input) => group.inputs.push(input),
                Err(why) => missing.push(format!("`{compiler} {words} {file}`: {why}")),
            }
        }
        out.push(group);
    }
    out
}

fn compile(compiler: &str, triple: &str, words: &str, file: &str, dir: &Path) -> Result<Input, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/linkers/c").join(file);
    let path: PathBuf = dir.join(file).with_extension("o");
    let mut command = Command::new(compiler);
    if compiler == "clang" {
        command.args(["-target", triple]);
    }
    let result = command.args(words.split(' ')).arg("-w").arg("-c").arg(source).arg("-o").arg(&path).output();
    let result = result.map_err(|error| error.to_string())?;
    if !result.status.success() {
        return Err(String::from_utf8_lossy(&result.stderr).lines().next().unwrap_or_default().to_owned());
    }
    let data = fs::read(&path).map_err(|error| error.to_string())?;
    let object = Object::parse_any(Bytes::new(data)).map_err(|error| error.to_string())?;
    Ok(Input { path, object })
}
