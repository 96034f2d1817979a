//! `__unwind_info` as a linker writes it, and as relive does for the same functions.
//!
//! clang makes Mach-O objects of functions with all kinds of frames, rustc's ld64.lld links them. Then, for the start,
//! the middle and the last byte of every function: relive's reader says of the linker's section what llvm-objdump and
//! `macho-unwind-info` say of it, and relive's section, made from the objects' own entries, says the same as the
//! linker's. Personality functions are compared by the pointer that their number leads to. One difference is explained:
//! of functions in mode DWARF the linker lists the LSDA but does not say so in the encoding, and relive does neither, as
//! unwinders take it from the FDE.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget};
use relive::link::macho::ImageOffset;
use relive::link::macho::compact_unwind::{
    DWARF_MODE_ARM64, DWARF_MODE_X86_64, Encoding, FUNCTION_FIELD, InputEntry, LSDA_FIELD, PERSONALITY_FIELD,
    UnwindEntry, read_input, write,
};
use relive::link::macho::unwind_info::{Found, UnwindInfo};

/// A machine as clang and the linker call it, and its mode for functions that have an FDE.
const MACHINES: [(&str, u8); 2] = [("arm64", DWARF_MODE_ARM64), ("x86_64", DWARF_MODE_X86_64)];

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
    let sysroot = String::from_utf8(run(Command::new("rustc").args(["--print", "sysroot"]))).unwrap();
    Path::new(sysroot.trim()).join("lib/rustlib").join(host).join("bin/gcc-ld/ld64.lld")
}

/// An object, and the dynamic library that was linked from it alone.
struct Linked {
    name: String,
    object: Vec<u8>,
    image: Vec<u8>,
    /// What llvm-objdump says of the library's section.
    dump: String,
}

fn link(machine: &str, name: &str, source: &str, flags: &[&str]) -> Linked {
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
fn all() -> &'static [(u8, Linked)] {
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

/// What llvm-objdump lists: entries, personalities from number 1 on, LSDA rows.
#[derive(Default)]
struct Dump {
    rows: BTreeMap<u32, u32>,
    personalities: Vec<u32>,
    lsdas: BTreeMap<u32, u32>,
}

fn parse(dump: &str) -> Dump {
    let mut parsed = Dump::default();
    let number = |text: &str| u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).unwrap();
    for line in dump.lines().map(str::trim) {
        if let Some((_, personality)) = line.strip_prefix("personality[").and_then(|line| line.split_once("]: ")) {
            parsed.personalities.push(number(personality));
        }
        let Some((_, row)) = line.split_once("]: function offset=") else { continue };
        let fields: Vec<_> = row.split(", ").collect();
        match fields[..] {
            [function, lsda] if lsda.starts_with("LSDA offset=") => {
                parsed.lsdas.insert(number(function), number(&lsda["LSDA offset=".len()..]));
            }
            [function, encoding] if encoding.starts_with("encoding") => {
                parsed.rows.insert(number(function), number(encoding.split_once('=').unwrap().1));
            }
            // An entry of the index.
            [_, page, _] if page.starts_with("2nd level") => {}
            _ => panic!("llvm-objdump says {line}"),
        }
    }
    parsed
}

fn section<'a>(file: &object::File<'a>, name: &str) -> (u64, &'a [u8]) {
    let section = file.section_by_name(name).unwrap_or_else(|| panic!("no section {name}"));
    (section.address(), section.data().unwrap())
}

/// All that an entry says in mode DWARF is where the FDE is.
fn plain(found: Option<Found>) -> Option<(Encoding, Option<ImageOffset>, Option<ImageOffset>)> {
    found.map(|found| (found.encoding.rule(), found.personality, found.lsda))
}

#[test]
fn readers_agree_on_what_the_linker_wrote() {
    let mut seen: BTreeMap<(u8, u8), usize> = BTreeMap::new();
    let mut with_lsda = 0;
    for (dwarf, linked) in all() {
        let file = object::File::parse(&*linked.image).unwrap();
        let (_, bytes) = section(&file, "__unwind_info");
        let info = UnwindInfo::parse(bytes).unwrap();
        let dump = parse(&linked.dump);
        let mut foreign = macho_unwind_info::UnwindInfo::parse(bytes).unwrap().functions();
        let foreign: Vec<_> = std::iter::from_fn(|| foreign.next().unwrap()).collect();
        assert_eq!(foreign.len(), dump.rows.len(), "{}", linked.name);
        for function in foreign {
            let (start, end) = (function.start_address, function.end_address);
            let raw = dump.rows[&start];
            assert_eq!(raw, function.opcode, "{}: {start:#x}", linked.name);
            *seen.entry((*dwarf, Encoding(raw).mode())).or_default() += 1;
            let lsda = (raw & 0x4000_0000 != 0).then(|| ImageOffset(dump.lsdas[&start]));
            with_lsda += usize::from(lsda.is_some());
            let personality = (raw >> 28 & 3).checked_sub(1);
            let personality = personality.map(|number| ImageOffset(dump.personalities[number as usize]));
            let expected = Found { function: ImageOffset(start), encoding: Encoding(raw), personality, lsda };
            for at in [start, start + (end - start) / 2, end - 1] {
                let found = info.lookup(ImageOffset(at)).unwrap();
                assert_eq!(found, (raw != 0).then_some(expected), "{}: {at:#x}", linked.name);
            }
        }
    }
    // It was worth while: every mode of both machines occurred, and LSDAs.
    let (arm64, x86_64) = ([2, 3, 4], [1, 2, 3, 4]);
    let modes = arm64.map(|mode| (DWARF_MODE_ARM64, mode)).into_iter();
    for mode in modes.chain(x86_64.map(|mode| (DWARF_MODE_X86_64, mode))) {
        assert!(seen.get(&mode).is_some_and(|count| *count >= 40), "{mode:?} among {seen:?}");
    }
    assert!(with_lsda >= 600, "{with_lsda}");
}

/// The entries of the object with the addresses of the image. The pointer to a personality function and the offsets of
/// FDEs, which are the linker's to choose, are taken from `theirs`.
fn placed(linked: &Linked, dwarf: u8, theirs: &UnwindInfo) -> Vec<UnwindEntry> {
    let (object, image) = (object::File::parse(&*linked.object).unwrap(), object::File::parse(&*linked.image).unwrap());
    let mut pointers: BTreeMap<String, ImageOffset> = BTreeMap::new();
    let relocations = relocations(&object);
    // One object, not reordered: a section has moved as a whole.
    let moved = |name: &str, addr: u64| {
        ImageOffset((section(&image, name).0 + addr - section(&object, name).0).try_into().unwrap())
    };
    let input = read_input(section(&object, "__compact_unwind").1).unwrap();
    assert!(input.len() >= 300, "{}", linked.name);
    let entry = |(index, input): (usize, InputEntry)| {
        let target = |field: u64| relocations.get(&(index as u64 * 32 + field));
        assert!(target(FUNCTION_FIELD).is_some());
        let function = moved("__text", input.function.0);
        let found = theirs.lookup(function).unwrap();
        let personality = target(PERSONALITY_FIELD).map(|name| {
            let slot = found.and_then(|found| found.personality).unwrap();
            assert_eq!(*pointers.entry(name.clone()).or_insert(slot), slot);
            slot
        });
        let lsda = target(LSDA_FIELD).map(|_| moved("__gcc_except_tab", input.lsda.0));
        assert_eq!(lsda.is_some(), input.encoding.has_lsda());
        let is_dwarf = input.encoding.mode() == dwarf;
        let fde = found.map_or(0, |found| found.encoding.0 & 0x00ff_ffff);
        let encoding = if is_dwarf { input.encoding.with_fde(fde).unwrap() } else { input.encoding };
        UnwindEntry { function, length: input.length, encoding, personality, lsda }
    };
    input.into_iter().enumerate().map(entry).collect()
}

/// By place: the name of the symbol, or of the section.
fn relocations(object: &object::File) -> BTreeMap<u64, String> {
    let section = object.section_by_name("__compact_unwind").unwrap();
    let name = |target| match target {
        RelocationTarget::Symbol(symbol) => object.symbol_by_index(symbol).unwrap().name().unwrap().to_owned(),
        RelocationTarget::Section(section) => object.section_by_index(section).unwrap().name().unwrap().to_owned(),
        target => panic!("a relocation to {target:?}"),
    };
    section.relocations().map(|(at, relocation)| (at, name(relocation.target()))).collect()
}

#[test]
fn the_same_functions_get_the_rules_that_the_linker_gives_them() {
    let (mut compared, mut with_lsda) = (0, 0);
    for (dwarf, linked) in all() {
        let file = object::File::parse(&*linked.image).unwrap();
        let theirs = UnwindInfo::parse(section(&file, "__unwind_info").1).unwrap();
        let entries = placed(linked, *dwarf, &theirs);
        let bytes = write(&entries).unwrap();
        let ours = UnwindInfo::parse(&bytes).unwrap();
        for entry in entries {
            let (start, end) = (entry.function.0, entry.function.0 + entry.length);
            for at in [start, start + (end - start) / 2, end - 1] {
                let (ours, theirs) = (ours.lookup(ImageOffset(at)).unwrap(), theirs.lookup(ImageOffset(at)).unwrap());
                assert_eq!(plain(ours), plain(theirs), "{}: {at:#x} in {entry:?}", linked.name);
                assert_eq!(plain(ours).map(|(rule, ..)| rule), Some(entry.encoding.rule()));
                compared += 1;
            }
            with_lsda += usize::from(entry.lsda.is_some());
        }
    }
    assert!(compared >= 10_000 && with_lsda >= 600, "{compared} addresses, {with_lsda} functions with an LSDA");
}
