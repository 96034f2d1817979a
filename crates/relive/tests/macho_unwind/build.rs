//! Programs for Mach-O, compiled by clang and linked by the linker that comes with rustc, without anything of Apple's.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::sysroot::sysroot;
use object::{Object as _, ObjectSection as _};
use relive::link::macho::compact_unwind::{DWARF_MODE_ARM64, DWARF_MODE_X86_64};

/// A machine as clang and the linker call it, and its mode for functions that have an FDE.
pub(crate) const MACHINES: [(&str, u8); 2] = [("arm64", DWARF_MODE_ARM64), ("x86_64", DWARF_MODE_X86_64)];

/// Frames of many sizes, with and without calls, of up to a dozen registers.
fn c_source() -> String {
    let mut source = String::from("long ext(long, ...); void take(void *);\n");
    for number in 0..400 {
        let size = [8, 40, 300, 2040, 5000, 70000][number % 6] + number * 8;
        let calls = number % 9;
        let _ = write!(source, "long f{number}(long a, long b) {{ ");
        if number % 3 != 0 {
            let _ = write!(source, "volatile char room[{size}]; take((void *)room); ");
        }
        for value in 0..calls {
            let _ = write!(source, "long v{value} = ext(a, b + {value}); ");
        }
        let sum: Vec<_> = (0..calls).map(|value| format!("v{value} * a")).collect();
        let sum = if sum.is_empty() { "0".into() } else { sum.join(" + ") };
        let _ = writeln!(source, "return a * {number} + b + {sum}; }}");
    }
    source
}

/// Functions with a personality function and an LSDA, among others without.
fn cpp_source() -> String {
    let mut source = String::from("extern \"C\" int ext(int, ...); struct D { int x; D(int); ~D(); int get(); };\n");
    for number in 0..300 {
        let body = match number % 4 {
            0 => "D d(a); return ext(a) + d.get();",
            1 => "try { return ext(a); } catch (int e) { return e + a; } catch (...) { ext(1); throw; }",
            2 => "return a ? ext(a) + 1 : 2;",
            _ => "D d(a); D e(a + 1); volatile char room[3000]; ext((int)room[a]); return d.get() + e.get();",
        };
        let _ = writeln!(source, "int f{number}(int a) {{ ext({number}); {body} }}");
    }
    source
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|why| panic!("cannot start {command:?}: {why}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The linker that comes with rustc.
fn linker() -> PathBuf {
    let said = String::from_utf8(run(Command::new("rustc").arg("-vV"))).unwrap();
    let host = said.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    sysroot().join("lib/rustlib").join(host).join("bin/gcc-ld/ld64.lld")
}

/// An object, and the dynamic library that was linked from it alone.
pub(crate) struct Linked {
    pub(crate) name: String,
    pub(crate) object: Vec<u8>,
    pub(crate) image: Vec<u8>,
    /// What llvm-objdump says of the library's `__unwind_info`.
    pub(crate) dump: String,
}

pub(crate) fn link(machine: &str, name: &str, source: &str, flags: &[&str]) -> Linked {
    let name = format!("{name}-{machine}");
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compact_unwind").join(&name);
    fs::create_dir_all(&dir).unwrap();
    let (input, object, image) = (dir.join("source"), dir.join("it.o"), dir.join("it.dylib"));
    fs::write(&input, source).unwrap();
    let target = format!("--target={machine}-apple-macos11");
    run(Command::new("clang").arg(target).args(flags).arg("-c").arg(&input).arg("-o").arg(&object));
    let form = ["-dylib", "-arch", machine, "-platform_version", "macos", "11", "11", "-undefined", "dynamic_lookup"];
    run(Command::new(linker()).args(form).arg(&object).arg("-o").arg(&image));
    let dump = run(Command::new("llvm-objdump").args(["--macho", "--unwind-info"]).arg(&image));
    Linked {
        name,
        object: fs::read(object).unwrap(),
        image: fs::read(image).unwrap(),
        dump: String::from_utf8(dump).unwrap(),
    }
}

const C: &[&str] = &["-x", "c", "-fno-builtin"];
const CPP: &[&str] = &["-x", "c++", "-stdlib=libc++", "-fexceptions", "-fcxx-exceptions", "-fno-rtti"];

/// All programs for all machines, and each machine's mode for functions that have an FDE. Made once.
pub(crate) fn all() -> &'static [(u8, Linked)] {
    static ALL: OnceLock<Vec<(u8, Linked)>> = OnceLock::new();
    let programs = |(machine, dwarf)| {
        let with = |flags: &[&'static str], more: &[&'static str]| [flags, more].concat();
        [
            (dwarf, link(machine, "c-0", &c_source(), &with(C, &["-O0"]))),
            (dwarf, link(machine, "c-2", &c_source(), &with(C, &["-O2"]))),
            (dwarf, link(machine, "c-frameless", &c_source(), &with(C, &["-O2", "-fomit-frame-pointer"]))),
            (dwarf, link(machine, "cpp-0", &cpp_source(), &with(CPP, &["-O0"]))),
            (dwarf, link(machine, "cpp-frameless", &cpp_source(), &with(CPP, &["-O2", "-fomit-frame-pointer"]))),
        ]
    };
    ALL.get_or_init(|| MACHINES.into_iter().flat_map(programs).collect())
}

/// Address and bytes of the section `name`.
pub(crate) fn section<'a>(file: &object::File<'a>, name: &str) -> (u64, &'a [u8]) {
    let section = file.section_by_name(name).unwrap_or_else(|| panic!("no section {name}"));
    (section.address(), section.data().unwrap())
}
