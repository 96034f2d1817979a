//! Snapshots of real binaries and of Mach-O files made here; their indexes kept, damaged, cut off and of another binary.

#[path = "common/macho.rs"]
mod macho;
#[allow(dead_code, reason = "each of the tests uses its part")]
#[path = "common/sysroot.rs"]
mod sysroot;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use object::{Object, ObjectSymbol};
use relive::binary::address::LinkAddr;
use relive::binary::bytes::Bytes;
use relive::binary::object::{Binding, SymbolKind};
use relive::binary::snapshot::{self, BinarySymbol, Format, Key, Kind, Machine, Snapshot};
use relive::snapshots::{self, Source};
use sysroot::sysroot;

/// A folder of its own for a test.
fn folder(name: &str) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}-{number}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

const PROGRAM: &str = r#"
static __thread int slot = 3;
static int counter = 1;
int shown[3] = {1, 2, 3};
static __attribute__((noinline)) int helper(int n) { return n * 3 + counter++ + slot++; }
int other(int n) { return helper(n) + 1; }
int twin(int n) __attribute__((alias("other")));
extern int puts(const char *);
int main(void) { puts("x"); return other(4); }
"#;

/// `PROGRAM`, compiled with `flags`.
fn compiled(folder: &Path, name: &str, flags: &[&str]) -> PathBuf {
    compiled_by("cc", folder, name, flags).expect("a C compiler as `cc`")
}

/// `None` if there is no such compiler.
fn compiled_by(cc: &str, folder: &Path, name: &str, flags: &[&str]) -> Option<PathBuf> {
    let (source, output) = (folder.join("program.c"), folder.join(name));
    fs::write(&source, PROGRAM).unwrap();
    let mut cc = Command::new(cc);
    cc.args(["-O1", "-w"]).args(flags).arg("-o").arg(&output).arg(&source);
    assert!(cc.status().ok()?.success(), "{cc:?}");
    Some(output)
}

fn read(path: &Path) -> Snapshot {
    Snapshot::read(Bytes::new(fs::read(path).unwrap())).unwrap()
}

fn one(snapshot: &Snapshot, name: &str) -> BinarySymbol {
    let all: Vec<_> = snapshot.symbols(name).collect();
    assert_eq!(all.len(), 1, "{name}: {all:?}");
    all[0]
}

/// Everything that can be asked about a name or an address.
fn answers(snapshot: &Snapshot) -> String {
    let mut out =
        format!("{:?} {:?} {:?} {:?}", snapshot.identity(), snapshot.kind(), snapshot.segments(), snapshot.tls());
    for symbol in snapshot.all() {
        let name = snapshot.name(&symbol);
        let mut found: Vec<_> = snapshot.symbols(name).collect();
        found.sort_by_key(|found| (found.addr, found.size));
        out += &format!("{name} {symbol:?} {} {found:?}", snapshot.unit_name(symbol.unit));
        out += &format!("{:?} {:?}\n", snapshot.entry_shape(symbol.addr), snapshot.code(symbol.addr, symbol.size));
    }
    out + &format!("{:?}", snapshot.import_names().collect::<Vec<_>>())
}

#[test]
fn this_executable_has_the_symbols_that_object_finds() {
    let path = std::env::current_exe().unwrap();
    let bytes = fs::read(&path).unwrap();
    let snapshot = Snapshot::read(Bytes::new(bytes.clone())).unwrap();
    assert_eq!((snapshot.kind(), snapshot.is_stripped()), (Kind::Executable, false));
    let file = object::File::parse(&*bytes).unwrap();
    let mut theirs: BTreeMap<(String, u64, u64), u32> = BTreeMap::new();
    for symbol in file.symbols().filter(|symbol| symbol.section_index().is_some()) {
        if !matches!(symbol.kind(), object::SymbolKind::Section | object::SymbolKind::File) {
            *theirs.entry((symbol.name().unwrap().to_owned(), symbol.address(), symbol.size())).or_default() += 1;
        }
    }
    let mut ours: BTreeMap<(String, u64, u64), u32> = BTreeMap::new();
    for symbol in snapshot.all() {
        let name = snapshot.name(&symbol).to_owned();
        assert!(snapshot.symbols(&name).any(|found| found == symbol), "{name} is not found by its name");
        *ours.entry((name, symbol.addr.0, symbol.size)).or_default() += 1;
    }
    assert!(ours.len() > 1000 && ours == theirs, "{} and {} symbols", ours.len(), theirs.len());
    assert_eq!(snapshot.symbols("no such name").count(), 0);
    assert!(snapshot.imports("write") && !snapshot.imports("no such name"));
    let Key::BuildId(id) = &snapshot.identity().key else { panic!("{:?}", snapshot.identity()) };
    assert_eq!(file.build_id().unwrap().unwrap(), id);
}

/// More symbols than one thread takes at a time.
#[test]
fn a_large_library_is_read_by_several_threads() {
    let folder = sysroot().join("lib");
    let mut files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let driver = files.find(|path| path.to_string_lossy().contains("librustc_driver-")).expect("rustc has a driver");
    let snapshot = snapshots::open(&driver, None, None).unwrap().snapshot;
    assert!(snapshot.len() > 40_000 && snapshot.kind() == Kind::SharedLibrary, "{} symbols", snapshot.len());
    let all: Vec<_> = snapshot.all().collect();
    assert!(all[..snapshot.functions()].is_sorted_by_key(|symbol| symbol.addr));
    for symbol in &all {
        let name = snapshot.name(symbol);
        assert!(snapshot.symbols(name).any(|found| found == *symbol), "{name} is not found by its name");
    }
    let bytes = fs::read(&driver).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let table: Vec<_> = if snapshot.is_stripped() { file.dynamic_symbols() } else { file.symbols() }.collect();
    for symbol in table.iter().filter(|symbol| symbol.section_index().is_some()) {
        let is_one = !matches!(symbol.kind(), object::SymbolKind::Section | object::SymbolKind::File);
        let place = (symbol.address(), symbol.size());
        let mut found = snapshot.symbols(symbol.name().unwrap()).map(|found| (found.addr.0, found.size));
        assert!(!is_one || found.any(|found| found == place), "{symbol:?}");
    }
}

#[test]
fn functions_end_where_the_next_begins() {
    let path = std::env::current_exe().unwrap();
    let snapshot = read(&path);
    let mut starts: Vec<_> =
        snapshot.all().filter(|symbol| symbol.kind == SymbolKind::Function).map(|symbol| symbol.addr).collect();
    let shared = |at: &LinkAddr| starts.iter().filter(|start| *start == at).count() > 1;
    for at in starts.iter().step_by(97) {
        assert_eq!(snapshot.is_shared(*at), shared(at), "{at:?}");
    }
    assert!(starts.is_sorted());
    starts.dedup();
    for pair in starts.windows(2) {
        let text = snapshot.segments().iter().find(|segment| segment.contains(pair[0])).unwrap();
        assert_eq!(snapshot.next_function(pair[0]), Some(pair[1].min(text.end())));
        assert_eq!(
            snapshot.next_function(LinkAddr(pair[0].0 + 1)).map(|next| next >= pair[1].min(text.end())),
            Some(true)
        );
        let found = snapshot.function_at(pair[0]).unwrap();
        assert_eq!(found.addr, pair[0]);
    }
    let last = starts.last().unwrap();
    let text = snapshot.segments().iter().find(|segment| segment.contains(*last)).unwrap();
    assert_eq!(snapshot.next_function(*last), Some(text.end()));
    assert_eq!(snapshot.next_function(LinkAddr(u64::MAX)), None);
}

#[test]
fn kinds_of_elf_files_are_told_apart() {
    let dir = folder("kinds");
    let cases = [
        ("pie", &["-pie", "-fPIE"][..], Kind::Executable),
        ("static-pie", &["-static-pie", "-fPIE"], Kind::Executable),
        ("fixed", &["-no-pie", "-fno-pie"], Kind::FixedExecutable),
        ("library.so", &["-shared", "-fPIC"], Kind::SharedLibrary),
    ];
    for (name, flags, kind) in cases {
        let snapshot = read(&compiled(&dir, name, &[flags, &["-Wl,--build-id=sha1"]].concat()));
        assert_eq!(snapshot.kind(), kind, "{name}");
        let id = snapshot.identity();
        assert!(matches!(&id.key, Key::BuildId(id) if id.len() == 20) && id.key_at.is_some(), "{name}: {id:?}");
        assert_eq!((id.format, id.machine), (Format::Elf, Machine::X86_64));
        let (helper, other) = (one(&snapshot, "helper"), one(&snapshot, "other"));
        assert_eq!((helper.kind, helper.binding), (SymbolKind::Function, Binding::Local));
        assert_eq!((other.kind, other.binding), (SymbolKind::Function, Binding::Global));
        assert_eq!(snapshot.unit_name(helper.unit), "program.c");
        assert_eq!(one(&snapshot, "twin").addr, other.addr);
        assert!(snapshot.is_shared(other.addr) && !snapshot.is_shared(helper.addr));
        assert_eq!((one(&snapshot, "shown").size, one(&snapshot, "counter").kind), (12, SymbolKind::Object));
        let slot = one(&snapshot, "slot");
        assert_eq!((slot.kind, slot.size), (SymbolKind::Tls, 4));
        assert!(slot.addr.0 < snapshot.tls().size && snapshot.tls().align >= 4);
        assert_eq!(snapshot.code(helper.addr, helper.size).map(<[u8]>::len), Some(helper.size as usize));
    }
}

#[test]
fn aarch64_has_no_symbols_for_what_is_code_and_what_is_data() {
    let dir = folder("aarch64");
    let Some(path) = compiled_by("aarch64-linux-gnu-gcc", &dir, "program", &["-pie", "-fPIE"]) else {
        eprintln!("not tested: there is no `aarch64-linux-gnu-gcc`");
        return;
    };
    let snapshot = read(&path);
    assert_eq!((snapshot.identity().machine, snapshot.kind()), (Machine::Aarch64, Kind::Executable));
    assert_eq!(one(&snapshot, "helper").kind, SymbolKind::Function);
    assert!(snapshot.all().all(|symbol| !snapshot.name(&symbol).starts_with('$')));
    let slot = one(&snapshot, "slot").addr.0;
    assert_eq!(snapshot.tp_offset(slot), 16 + slot as i64, "the block begins 16 bytes after the thread pointer");
}

#[test]
fn a_stripped_library_has_what_it_exports() {
    let dir = folder("stripped");
    let snapshot = read(&compiled(&dir, "library.so", &["-shared", "-fPIC", "-s"]));
    assert!(snapshot.is_stripped() && snapshot.symbols("helper").next().is_none());
    assert_eq!(one(&snapshot, "other").kind, SymbolKind::Function);
    assert!(snapshot.imports("puts"));
}

#[test]
fn without_a_build_id_the_contents_are_the_key() {
    let dir = folder("no-id");
    let path = compiled(&dir, "program", &["-Wl,--build-id=none"]);
    let snapshot = read(&path);
    assert!(matches!(snapshot.identity().key, Key::Contents(_)) && snapshot.identity().key_at.is_none());
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    assert_ne!(snapshot::identity(&bytes).unwrap().key, snapshot.identity().key);
}

fn check_macho(snapshot: &Snapshot, machine: Machine) {
    use macho::{DATA, HEADER, TEXT, TEXT_SIZE};
    let id = snapshot.identity();
    assert_eq!((id.format, id.machine, snapshot.kind()), (Format::MachO, machine, Kind::Executable));
    assert_eq!((&id.key, snapshot.first_page()), (&Key::Uuid([7; 16]), LinkAddr(HEADER)));
    let place = |name: &str| {
        let symbol = one(snapshot, name);
        (symbol.addr.0, symbol.size, symbol.kind, symbol.binding)
    };
    let (function, data) = (SymbolKind::Function, SymbolKind::Object);
    assert_eq!(place("one"), (TEXT, 0x20, function, Binding::Local));
    assert_eq!(place("two"), (TEXT + 0x20, 0x28, function, Binding::Global));
    assert_eq!(place("alias_of_two"), place("two"));
    assert_eq!(place("weak"), (TEXT + 0x48, TEXT_SIZE - 0x48, function, Binding::Weak));
    assert_eq!(place("counter"), (DATA, 8, data, Binding::Local));
    assert_eq!(place("no_underscore"), (DATA + 8, 8, data, Binding::Local));
    assert_eq!(place("slot"), (DATA + 0x10, 0x18, SymbolKind::Tls, Binding::Global));
    assert_eq!(place("slot$tlv$init"), (DATA + 0x30, 8, data, Binding::Local));
    assert_eq!(place("_mh_execute_header"), (HEADER, 0, data, Binding::Global));
    assert_eq!(snapshot.len(), 9, "no stab is a symbol");
    assert_eq!((snapshot.units(), snapshot.unit_name(one(snapshot, "one").unit)), (1, "/obj/one.o"));
    assert_eq!(one(snapshot, "two").unit, 0);
    assert!(snapshot.imports("malloc") && !snapshot.imports("_malloc"));
    assert!(snapshot.is_shared(LinkAddr(TEXT + 0x20)) && !snapshot.is_shared(LinkAddr(TEXT)));
    assert_eq!(snapshot.next_function(LinkAddr(TEXT)), Some(LinkAddr(TEXT + 0x20)));
    assert_eq!((snapshot.tls().size, snapshot.tls().start), (8, LinkAddr(DATA + 0x30)));
    assert_eq!(snapshot.segments().len(), 3, "the page at zero is no segment");
}

#[test]
fn mach_o_symbols_reach_to_the_next_of_their_section() {
    for (cpu, machine) in [(macho::X86_64, Machine::X86_64), (macho::ARM64, Machine::Aarch64)] {
        let bytes = Bytes::new(macho::executable(cpu, [7; 16]));
        let snapshot = Snapshot::read(bytes.clone()).unwrap();
        check_macho(&snapshot, machine);
        let again = Snapshot::open(Bytes::new(snapshot.index().to_vec()), bytes).unwrap();
        check_macho(&again, machine);
    }
}

#[test]
fn slices_of_universal_files_are_read() {
    let thin = [macho::X86_64, macho::ARM64].map(|cpu| (cpu, macho::executable(cpu, [7; 16])));
    for wide in [false, true] {
        let both = Bytes::new(macho::universal(&thin, wide));
        for machine in [Machine::X86_64, Machine::Aarch64] {
            check_macho(&Snapshot::read(snapshot::slice(&both, Some(machine)).unwrap()).unwrap(), machine);
        }
        let why = snapshot::slice(&both, None).unwrap_err().to_string();
        assert_eq!(why, "universal header: it has slices for [X86_64, Aarch64]; name one");
        assert!(Snapshot::read(both).unwrap_err().to_string().contains("universal"));
        let one = Bytes::new(macho::universal(&thin[1..], wide));
        check_macho(&Snapshot::read(snapshot::slice(&one, None).unwrap()).unwrap(), Machine::Aarch64);
        let why = snapshot::slice(&one, Some(Machine::X86_64)).unwrap_err().to_string();
        assert_eq!(why, "universal header: it has slices for [Aarch64], not for X86_64");
        let cut = Bytes::new(one[..one.len() - 1].to_vec());
        let why = snapshot::slice(&cut, None).unwrap_err().to_string();
        assert_eq!(why, "universal header: the slice at 0x4000 does not lie within the file");
    }
}

#[test]
fn what_is_no_binary_is_refused_by_name() {
    let why = |bytes: &[u8]| Snapshot::read(Bytes::new(bytes.to_vec())).unwrap_err().to_string();
    assert_eq!(why(b""), "file header: it is neither ELF nor Mach-O of 64 bits, little-endian");
    assert!(why(b"\x7fELF").starts_with("file header: "));
    let dir = folder("refused");
    let object = compiled(&dir, "program.o", &["-c"]);
    let object = fs::read(object).unwrap();
    assert_eq!(why(&object), "file header: type 1 is no executable and no shared library");
    let mut foreign = object;
    foreign[18] = 243; // RISC-V
    assert_eq!(why(&foreign), "file header: it is for machine 243, not x86-64 or aarch64");
    let mut library = macho::executable(macho::ARM64, [0; 16]);
    library[12] = 1;
    assert_eq!(why(&library), "file header: type 1 is no executable and no library");
    library[4] = 9;
    assert!(why(&library).starts_with("file header: it is for processor type"));
}

/// An index of a few hundred bytes.
fn small() -> (Bytes, Vec<u8>, String) {
    let bytes = Bytes::new(macho::executable(macho::X86_64, [7; 16]));
    let snapshot = Snapshot::read(bytes.clone()).unwrap();
    (bytes, snapshot.index().to_vec(), answers(&snapshot))
}

#[test]
fn every_part_of_an_index_alone_is_refused() {
    let (binary, index, _) = small();
    for end in 0..index.len() {
        let part = Bytes::new(index[..end].to_vec());
        assert!(Snapshot::open(part, binary.clone()).is_err(), "{end} of {} bytes", index.len());
    }
    let longer = Bytes::new([index, vec![0]].concat());
    assert!(Snapshot::open(longer, binary).is_err());
}

#[test]
fn every_flipped_bit_of_an_index_is_refused() {
    let (binary, index, wanted) = small();
    assert_eq!(answers(&Snapshot::open(Bytes::new(index.clone()), binary.clone()).unwrap()), wanted);
    for bit in 0..index.len() * 8 {
        let mut bytes = index.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(snapshot) = Snapshot::open(Bytes::new(bytes), binary.clone()) {
            assert_eq!(answers(&snapshot), wanted, "bit {bit}");
        }
    }
}

#[test]
fn an_index_of_another_binary_is_refused() {
    let (_, index, _) = small();
    let open = |binary: Vec<u8>| Snapshot::open(Bytes::new(index.clone()), Bytes::new(binary));
    assert!(open(macho::executable(macho::X86_64, [7; 16])).is_ok());
    let why = open(macho::executable(macho::X86_64, [8; 16])).unwrap_err().to_string();
    let (seven, eight) = ("07".repeat(16), "08".repeat(16));
    assert_eq!(why, format!("index: it is of the binary {seven}, not of this one, which is {eight}"));
    let mut longer = macho::executable(macho::X86_64, [7; 16]);
    longer.push(0);
    assert!(open(longer).is_err(), "one key, another size");
    let mut moved = macho::executable(macho::X86_64, [7; 16]);
    moved[0x20 + 72 + 24] ^= 1; // a segment's address
    assert!(open(moved).is_err(), "one key, other headers");
    assert!(open(macho::executable(macho::ARM64, [7; 16])).is_err(), "one key, another machine");
}

#[test]
fn a_damaged_index_is_built_anew() {
    let dir = folder("damaged");
    let binary = compiled(&dir, "program", &[]);
    let kept = dir.join("indexes");
    let open = || snapshots::open(&binary, None, Some(&kept)).unwrap();
    let first = open();
    let Source::Built(path) = &first.source else { panic!("{:?}", first.source) };
    let wanted = answers(&first.snapshot);
    let whole = fs::read(path).unwrap();
    let uses = |source: &Source| matches!(source, Source::Kept(kept) if kept == path);
    assert!(uses(&open().source));
    for damaged in [Vec::new(), whole[..whole.len() / 2].to_vec(), vec![0xff; whole.len()], b"no index".to_vec()] {
        // Others may have the old file mapped: it is replaced and never written to.
        fs::remove_file(path).unwrap();
        fs::write(path, damaged).unwrap();
        let again = open();
        assert!(matches!(again.source, Source::Built(_)), "{:?}", again.source);
        assert_eq!(answers(&again.snapshot), wanted);
        assert_eq!(fs::read(path).unwrap(), whole);
        assert!(uses(&open().source));
    }
    assert_eq!(fs::read_dir(&kept).unwrap().count(), 1, "nothing unfinished is left");
}

#[test]
fn the_newest_indexes_are_kept() {
    let dir = folder("many");
    let kept = dir.join("indexes");
    for number in 0..20 {
        let binary = dir.join(format!("program-{number}"));
        fs::write(&binary, macho::executable(macho::X86_64, [number; 16])).unwrap();
        snapshots::open(&binary, None, Some(&kept)).unwrap();
        let last = snapshots::open(&binary, None, Some(&kept)).unwrap();
        assert!(matches!(last.source, Source::Kept(_)), "the newest stays");
    }
    assert_eq!(fs::read_dir(&kept).unwrap().count(), 8);
}

#[test]
fn a_folder_that_cannot_be_written_costs_time_only() {
    let dir = folder("closed");
    let binary = compiled(&dir, "program", &[]);
    let no_folder = dir.join("file");
    fs::write(&no_folder, b"").unwrap();
    let opened = snapshots::open(&binary, None, Some(&no_folder)).unwrap();
    assert!(matches!(&opened.source, Source::Lost(why) if why.contains("cannot write")), "{:?}", opened.source);
    one(&opened.snapshot, "other");
}

#[test]
fn errors_name_the_path_and_the_step() {
    let dir = folder("errors");
    let missing = dir.join("missing");
    let why = snapshots::open(&missing, None, None).unwrap_err().to_string();
    assert!(why.starts_with(&format!("cannot map `{}`: ", missing.display())), "{why}");
    let text = dir.join("text");
    fs::write(&text, "text").unwrap();
    let why = snapshots::open(&text, None, None).unwrap_err().to_string();
    assert!(why.starts_with(&format!("cannot read the symbols of `{}`: file header: ", text.display())), "{why}");
}

/// A library linked by lld for macOS, if the target and the linker are installed; `None` names what is missing.
fn linked_macho(dir: &Path, target: &str, arch: &str) -> Option<PathBuf> {
    let (source, object, output) =
        (dir.join("lib.rs"), dir.join(format!("{arch}.o")), dir.join(format!("{arch}.dylib")));
    fs::write(
        &source,
        "#![no_std]\n#[panic_handler] fn on_panic(_: &core::panic::PanicInfo) -> ! { loop {} }\n\
         #[inline(never)] #[unsafe(no_mangle)] pub extern \"C\" fn first(n: u32) -> u32 { n.wrapping_mul(3) }\n\
         #[unsafe(no_mangle)] pub extern \"C\" fn second(n: u32) -> u32 { first(n) + 1 }\n\
         #[unsafe(no_mangle)] pub static TABLE: [u32; 4] = [1, 2, 3, 4];\n",
    )
    .unwrap();
    let rustc = || Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let mut compile = rustc();
    compile.args([
        "--edition=2024",
        "--crate-type=lib",
        "--emit=obj",
        "-Cpanic=abort",
        "-Cdebuginfo=1",
        "-Copt-level=1",
    ]);
    let compiled = compile.args(["--target", target, "-o"]).arg(&object).arg(&source).output().unwrap();
    let linker = sysroot().join("lib/rustlib/x86_64-unknown-linux-gnu/bin/gcc-ld/ld64.lld");
    if !compiled.status.success() || !linker.exists() {
        return None;
    }
    let mut link = Command::new(linker);
    link.args(["-dylib", "-arch", arch, "-platform_version", "macos", "11.0", "11.0", "-undefined", "dynamic_lookup"]);
    assert!(link.arg("-o").arg(&output).arg(&object).status().unwrap().success());
    Some(output)
}

#[test]
fn what_lld_links_for_macos_is_read() {
    let dir = folder("lld");
    for (target, arch, machine) in
        [("x86_64-apple-darwin", "x86_64", Machine::X86_64), ("aarch64-apple-darwin", "arm64", Machine::Aarch64)]
    {
        let Some(path) = linked_macho(&dir, target, arch) else {
            eprintln!("not tested: the target {target} or rustc's ld64.lld is not installed");
            continue;
        };
        let snapshot = read(&path);
        assert_eq!((snapshot.identity().machine, snapshot.kind()), (machine, Kind::SharedLibrary));
        assert!(matches!(snapshot.identity().key, Key::Uuid(_)) && snapshot.identity().key_at.is_some());
        let (first, second) = (one(&snapshot, "first"), one(&snapshot, "second"));
        assert!(first.kind == SymbolKind::Function && first.size > 0 && second.size > 0);
        assert_eq!(one(&snapshot, "TABLE").kind, SymbolKind::Object);
        let unit = snapshot.unit_name(first.unit);
        assert!(unit.ends_with(&format!("{arch}.o")), "{unit}");
    }
}
