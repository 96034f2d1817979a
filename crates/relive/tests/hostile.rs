//! Every reader of foreign bytes on damaged files: no panic, no hang, no memory out of proportion.
//!
//! The files are small but real: an executable, its objects before and after an edit, an rlib and its members, made by
//! rustc when the test begins. `RELIVE_FUZZ_ITERATIONS` sets how many inputs each test tries (some thousand if unset);
//! `RELIVE_FUZZ_SECONDS` how long it goes on with others. What relive reads from sockets and pipes is in
//! `hostile_words.rs`.

mod common;

use std::fs;
use std::sync::{Arc, OnceLock};

use common::attack::attacks;
use common::build::{self, State};
use common::drive::{self, Watch, survives};
use common::mutate::{Random, Seed, Table};
use common::{macho, tables};
use object::read::archive::ArchiveFile;
use relive::arch::EntryPlan;
use relive::arch::x86_64::ENTRY_JUMP_LEN;
use relive::binary::address::{LinkAddr, Slide};
use relive::binary::anchor::{self, Mapped};
use relive::binary::archive::ArchiveIndex;
use relive::binary::bytes::Bytes;
use relive::binary::executable;
use relive::binary::names;
use relive::binary::object::{NameId, Object, Role, SectionId};
use relive::binary::snapshot::{self, Machine, Snapshot};
use relive::binary::types::{self, ObjectTypes};
use relive::diff::pair::{FunctionFacts, ObjectFacts};
use relive::diff::print::Printer;
use relive::diff::{self, Libraries, NewObject, Reach, Running, ThreadRoom};
use relive::judge::{self, DeltaFacts, Facts, Verdict};
use relive::link::macho::compact_unwind;
use relive::link::{self, ArenaFile, Image, Layout, LinkError, buffer, update};
use relive::load::Room;
use relive_wire::{LiveAddr, NearLayout};
use xxhash_rust::xxh3::xxh3_64;

const EXE_START: LiveAddr = LiveAddr(0x5555_5555_4000);

const PROGRAM: &str = r#"
use std::cell::Cell;
use std::fmt::Display;
mod shapes {
    pub trait Shape { fn area(&self) -> u64; fn name(&self) -> String { "shape".to_string() } }
    #[derive(Clone, Debug, PartialEq)]
    pub enum Kind { Square(u64), Oblong { width: u64, height: u64 }, Nothing, Many(Vec<Kind>) }
    impl Shape for Kind {
        fn area(&self) -> u64 {
            match self {
                Kind::Square(side) => side * side + EDIT,
                Kind::Oblong { width, height } => width * height,
                Kind::Nothing => 0,
                Kind::Many(kinds) => kinds.iter().map(|kind| kind.area()).sum(),
            }
        }
    }
    pub fn code(n: u64) -> u32 { match n % 7 { 0 => 17, 1 => 4, 2 => 250, 3 => 9, 4 => 81, 5 => 6, _ => 77 } }
}
use shapes::{Kind, Shape};
static NAMES: [&str; 3] = ["a", "b", "c"];
thread_local! { static DEPTH: Cell<u64> = const { Cell::new(5) }; }
fn join<T: Display>(items: &[T]) -> String { items.iter().map(|item| format!("<{item:>3}>")).collect() }
fn adders(n: u64) -> Vec<Box<dyn Fn(u64) -> u64>> { vec![Box::new(move |x| x + n + EDIT), Box::new(|x| x * 10)] }
fn tick(n: u64) -> u64 {
    let shapes: Vec<Box<dyn Shape>> = vec![Box::new(Kind::Square(n)), Box::new(Kind::Many(vec![Kind::Nothing]))];
    DEPTH.with(|depth| depth.set(depth.get() + EDIT));
    println!("{} {} {}", join(&NAMES), join(&[n]), shapes.iter().map(|shape| shape.name()).collect::<String>());
    let sum: u64 = shapes.iter().map(|shape| shape.area()).sum();
    adders(n).iter().fold(sum, |sum, add| add(sum)) + u64::from(shapes::code(n)) + DEPTH.with(Cell::get)
}
fn main() { println!("{}", tick(NAMES.len() as u64)); }
"#;

const LIBRARY: &str = r#"
pub struct Pair { pub left: u32, pub right: Option<Box<Pair>> }
pub fn sum(pair: &Pair) -> u32 { pair.left + pair.right.as_ref().map_or(0, |pair| sum(pair)) }
pub mod text { pub fn shout(text: &str) -> String { text.to_uppercase() + "!" } }
pub static TABLE: [u8; 4] = [1, 2, 3, 4];
"#;

/// One of many.
const FUNCTION: &str = r#"
pub static NAMES@: [&[&str]; 2] = [&["a@", "b"], &["c"]];
pub fn f@(n: &mut Vec<u64>) -> usize {
    if n.len() < NAMES@.len() { n.push(@); }
    n.iter().map(|n| match n % 8 { 0 => 7, 1 => 3, 2 => 9, 3 => 80, 4 => 1, 5 => 31, 6 => 6, _ => 2 }).sum()
}
"#;

/// Without the standard library: a few thousand bytes.
const SMALL: &str = r#"
#![no_std]
#![no_main]
#[panic_handler]
fn on_panic(_: &core::panic::PanicInfo) -> ! { loop {} }
static COUNT: core::sync::atomic::AtomicI32 = core::sync::atomic::AtomicI32::new(3);
#[inline(never)] fn double(n: i32) -> i32 { n.wrapping_mul(2) }
#[inline(never)] fn halve(n: i32) -> i32 { n >> 1 }
unsafe extern "C" { safe fn getpid() -> i32; }
#[unsafe(no_mangle)]
pub extern "C" fn main() -> i32 {
    let count = COUNT.load(core::sync::atomic::Ordering::Relaxed);
    if getpid() & 1 == 0 { double(count) } else { halve(count) }
}
"#;

/// The program before and after an edit.
fn program() -> &'static [State] {
    static MADE: OnceLock<Vec<State>> = OnceLock::new();
    let texts = || ["3", "(4 + [1u64, 2].iter().sum::<u64>())"].map(|edit| PROGRAM.replace("EDIT", edit));
    MADE.get_or_init(|| build::build("subject", &[], &texts()))
}

fn library() -> Vec<u8> {
    let states = build::build("library", &["--crate-type=rlib"], &[LIBRARY.to_owned()]);
    fs::read(&states[0].output).unwrap()
}

/// The small program before and after an edit.
fn small() -> &'static [State] {
    static MADE: OnceLock<Vec<State>> = OnceLock::new();
    let flags = ["-Cpanic=abort", "-Copt-level=1", "-Clink-arg=-lc"];
    MADE.get_or_init(|| build::build("small", &flags, &[SMALL.to_owned(), SMALL.replace("new(3)", "new(4)")]))
}

fn small_executable() -> Vec<u8> {
    fs::read(&small()[0].output).unwrap()
}

/// The objects of both states that the edit changed, by codegen unit.
fn changed() -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let [before, after] = program() else { panic!("two states") };
    let read = |state: &State| -> Vec<_> {
        state.objects.iter().map(|(cgu, path)| (cgu.clone(), fs::read(path).unwrap())).collect()
    };
    let (before, after) = (read(before), read(after));
    let both = after.into_iter().filter_map(|(cgu, new)| {
        let old = before.iter().find(|old| old.0 == cgu)?.1.clone();
        (old != new).then_some((cgu, old, new))
    });
    let both: Vec<_> = both.collect();
    assert!(both.len() >= 2, "the edit changes functions in several modules");
    both
}

/// Objects with everything in them, and one that is a member of an rlib.
fn objects() -> Vec<Seed> {
    let library = library();
    let archive = ArchiveFile::parse(&*library).unwrap();
    let members = archive.members().map(|member| member.unwrap().data(&*library).unwrap().to_vec());
    let member = members.filter(|member| Object::parse(Bytes::new(member.clone())).is_ok()).max_by_key(Vec::len);
    let mut seeds: Vec<_> = changed().into_iter().map(|(cgu, _, new)| tables::seed(cgu, new)).collect();
    seeds.push(tables::seed("member", member.unwrap()));
    seeds
}

fn use_object(object: &Object) {
    let mut printer = Printer::new(object);
    for (at, section) in object.sections.iter().enumerate() {
        let id = SectionId(at as u32);
        if section.role.is_loaded() {
            printer.section(id);
        }
        let _ = (object.function_of(id), object.bytes(id));
        for symbol in object.defined_in(id) {
            let _ = object.named_at(id, object.symbol(*symbol).size);
        }
    }
    for symbol in &object.symbols {
        names::path_key(object.name(symbol));
    }
}

#[test]
fn objects_are_read() {
    survives("object", objects(), 30_000, |bytes| {
        if let Ok(object) = Object::parse(Bytes::new(bytes.to_vec())) {
            use_object(&object);
        }
    });
}

/// Small objects of every machine and format whose target is installed, and at any rate of this one.
fn objects_of_all_pairs() -> Vec<(&'static str, Vec<u8>)> {
    let triples =
        ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "x86_64-apple-darwin", "aarch64-apple-darwin"];
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let source = dir.join("small.rs");
    fs::write(&source, SMALL).unwrap();
    let made = triples.into_iter().filter_map(|triple| {
        let out = dir.join(format!("{triple}.o"));
        let mut rustc = std::process::Command::new("rustc");
        rustc.args(["--edition=2024", "--crate-type=lib", "--emit=obj", "-Cpanic=abort", "-Ccodegen-units=1"]);
        let done = rustc.arg("--target").arg(triple).arg("-o").arg(&out).arg(&source).output().unwrap();
        if !done.status.success() {
            eprintln!("{triple}: nothing is tested: {}", String::from_utf8_lossy(&done.stderr).lines().next()?);
            return None;
        }
        Some((triple, fs::read(out).unwrap()))
    });
    made.collect()
}

/// All that is done with an object before its bytes could be written somewhere.
fn link_alone(bytes: &[u8]) -> Result<usize, String> {
    let object = Object::parse_any(Bytes::new(bytes.to_vec())).map_err(|why| why.0)?;
    link_parsed(Arc::new(object)).map_err(|why| why.0)
}

fn link_parsed(object: Arc<Object>) -> Result<usize, LinkError> {
    let room = buffer::Room::new(0x3000_0000..0x3001_0000, 0x3010_0000..0x3011_0000);
    let mut buffer = buffer::Buffer::new(object.machine, room, true, 0x20_0000);
    buffer.add(object.clone())?;
    buffer.place_all(&[Role::Text], 0x1000_0000)?;
    buffer.place_all(&[Role::ReadOnly, Role::RelRo, Role::Lsda, Role::Data, Role::Bss], 0x2000_0000)?;
    buffer.place_all(&[Role::TlsData, Role::TlsBss], 0x20_0000)?;
    for (at, name) in buffer.undefined().iter().enumerate() {
        buffer.define(NameId::of(name), 0x1800_0000 + 16 * at as u64);
    }
    let resolved = buffer.resolve();
    let frames = buffer.frames(0x3100_0000).and_then(|frames| frames.header(0x3110_0000, 0x3100_0000));
    let _ = (frames, buffer.pointers());
    for (at, section) in object.sections.iter().enumerate() {
        if section.role == Role::CompactUnwind {
            let _ = compact_unwind::read_input(object.bytes(SectionId(at as u32)));
        }
    }
    Ok(resolved?.relocations)
}

/// Whether an error says where in a file something is wrong: by an offset, a number or a name, or by a table that a file has
/// one of.
fn says_where(error: &str) -> bool {
    let tables = ["file header", "section table", "section headers", "symbol table", "string table", "load commands"];
    let is_named = error.contains(|c: char| c == '`' || c.is_ascii_digit());
    is_named || tables.iter().any(|table| error.contains(table))
}

fn link_or_say_where(bytes: &[u8]) {
    if let Err(why) = link_alone(bytes) {
        assert!(says_where(&why), "where? {why}");
    }
}

#[test]
fn objects_of_all_pairs_are_linked() {
    let seeds = objects_of_all_pairs();
    assert!(seeds.iter().all(|(_, bytes)| link_alone(bytes).is_ok_and(|relocations| relocations > 5)));
    let records = seeds.iter().map(|(name, bytes)| Seed::records((*name).to_owned(), bytes.clone())).collect();
    survives("pair", records, 20_000, link_or_say_where);
}

/// Not by chance: each cut and each bit of the same objects.
#[test]
fn every_cut_and_every_bit_of_objects_of_all_pairs() {
    let seeds = objects_of_all_pairs();
    drive::run("pair, in full", move |watch| {
        let link = |bytes: &[u8]| link_or_say_where(bytes);
        for (name, bytes) in &seeds {
            for len in 0..bytes.len() {
                watch.try_one(&format!("{name}, first {len} bytes"), &bytes[..len], &link);
            }
            let mut bytes = bytes.clone();
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                watch.try_one(&format!("{name}, bit {bit}"), &bytes, &link);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    });
}

#[test]
fn objects_made_to_cost_much_are_read() {
    let functions = (0..400).map(|at| FUNCTION.replace('@', &at.to_string()));
    let states = build::build("large", &["--crate-type=lib"], &[functions.collect()]);
    let objects: Vec<_> = states[0].objects.iter().map(|(_, path)| fs::read(path).unwrap()).collect();
    let object = objects.into_iter().max_by_key(Vec::len).unwrap();
    let old = new_object("large", &object).unwrap();
    let world = World::new();
    let patch = move |new: NewObject| drop(world.patch("large", Some(old.clone()), new));
    drive::run("attack", move |watch| {
        for (name, bytes) in attacks(&object) {
            watch.try_one(&format!("{name}, read"), &bytes, &|bytes| drop(new_object("large", bytes)));
            watch.try_one(&format!("{name}, types"), &bytes, &|bytes| drop(types::read(bytes)));
            if let Some(new) = new_object("large", &bytes) {
                watch.try_one(&format!("{name}, used"), &bytes, &|_| use_object(&new.object));
                watch.try_one(&format!("{name}, linked"), &bytes, &|_| patch(new.clone()));
            }
        }
    });
}

#[test]
fn executables_are_read() {
    let bytes = small_executable();
    let good = Snapshot::read(Bytes::new(bytes.clone())).unwrap();
    assert!(good.symbols("main").next().is_some() && good.imports("getpid"));
    survives("executable", vec![tables::seed("small", bytes)], 60_000, |bytes| {
        let _ = executable::exports(bytes);
        let data = Bytes::new(bytes.to_vec());
        let Ok(exe) = Snapshot::read(data.clone()) else { return };
        use_snapshot(&exe);
        let again = Snapshot::open(Bytes::new(exe.index().to_vec()), data).unwrap();
        assert!(exe.all().eq(again.all()) && exe.segments() == again.segments());
    });
}

#[test]
fn executables_are_copied() {
    let objects = |state: &State| -> Vec<NewObject> {
        state.objects.iter().map(|(cgu, path)| new_object(cgu, &fs::read(path).unwrap()).unwrap()).collect()
    };
    let [old, new] = small() else { panic!("two states") };
    let (old, new) = (objects(old), objects(new));
    let copy = move |bytes: &[u8]| {
        let exe = Snapshot::read(Bytes::new(bytes.to_vec())).ok()?;
        let running = Running::new(Arc::new(exe), Slide::default(), old.clone());
        update::steps(&running, &new, &mut Everything).ok().map(|steps| steps.len())
    };
    assert!(copy(&small_executable()).is_some_and(|steps| steps > 10), "a copy can be made unharmed");
    survives("copy", vec![tables::seed("small", small_executable())], 20_000, move |bytes| {
        let _ = copy(bytes);
    });
}

/// For other machines and systems, and several in one.
#[test]
fn mach_o_files_are_read() {
    let thin =
        [(macho::X86_64, [1; 16]), (macho::ARM64, [2; 16])].map(|(cpu, uuid)| (cpu, macho::executable(cpu, uuid)));
    assert!(Snapshot::read(Bytes::new(thin[0].1.clone())).unwrap().symbols("two").next().is_some());
    let mut seeds: Vec<_> = thin.iter().map(|(cpu, bytes)| macho_seed(*cpu, bytes)).collect();
    seeds.extend([false, true].map(|wide| Seed::records(format!("wide: {wide}"), macho::universal(&thin, wide))));
    survives("mach-o", seeds, 40_000, |bytes| {
        let data = Bytes::new(bytes.to_vec());
        for machine in [None, Some(Machine::X86_64), Some(Machine::Aarch64)] {
            let Ok(slice) = snapshot::slice(&data, machine) else { continue };
            if let Ok(binary) = Snapshot::read(slice) {
                use_snapshot(&binary);
            }
        }
    });
}

fn macho_seed(cpu: u32, bytes: &[u8]) -> Seed {
    let commands = 32 + u32::from_le_bytes(bytes[20..24].try_into().unwrap()) as usize;
    let table = |range: std::ops::Range<usize>, entry| vec![Table { range, entry }];
    let tables =
        vec![table(0..32, 32), table(32..commands, 72), table(0x2000..0x2100, 16), table(0x2100..bytes.len(), 1)];
    Seed::with_tables(format!("processor {cpu:#x}"), bytes.to_vec(), tables)
}

/// Damaged indexes whose checksum is right again: nobody makes them by chance, and yet they may answer anything but
/// with a panic.
#[test]
fn indexes_are_read() {
    let binaries = [macho::executable(macho::X86_64, [7; 16]), small_executable()].map(Bytes::new);
    let index = |binary: &Bytes| Snapshot::read(binary.clone()).unwrap().index().to_vec();
    let seeds = binaries.iter().enumerate().map(|(at, binary)| Seed::records(format!("index {at}"), index(binary)));
    survives("index", seeds.collect(), 60_000, move |bytes| {
        let mut sealed = bytes.to_vec();
        if let Some(length) = sealed.get_mut(16..24) {
            length.copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        }
        let checksum = xxh3_64(sealed.get(32..).unwrap_or_default());
        if let Some(place) = sealed.get_mut(24..32) {
            place.copy_from_slice(&checksum.to_le_bytes());
        }
        for index in [bytes, &sealed] {
            for binary in &binaries {
                if let Ok(snapshot) = Snapshot::open(Bytes::new(index.to_vec()), binary.clone()) {
                    use_snapshot(&snapshot);
                }
            }
        }
    });
}

fn use_snapshot(exe: &Snapshot) {
    for name in ["main", "_start", "_ZN5small6double17h", "", "getpid", "_init", "two", "malloc"] {
        let _ = exe.imports(name);
        for symbol in exe.symbols(name) {
            use_symbol(exe, symbol.addr, symbol.size);
            let _ = exe.tp_offset(symbol.addr.0);
            names::readable(exe.unit_name(symbol.unit));
        }
    }
    for addr in [0, 0x1000, 0x1100, 0xffff_ffff, u64::MAX] {
        use_symbol(exe, LinkAddr(addr), u64::MAX);
        let _ = exe.tp_offset(addr);
    }
    for symbol in exe.all().take(100) {
        let _ = (exe.name(&symbol), exe.entry_shape(symbol.addr), exe.function_at(symbol.addr));
    }
    let mapped = exe.segments().iter().take(4).map(|segment| {
        let start = exe.slide_at(EXE_START).live(segment.start);
        let (end, offset, file) = (start.plus(segment.size), segment.file_offset, (1, 2));
        Mapped { start, end, offset, file, is_own: true, name: String::new() }
    });
    let _ = anchor::find(exe, &mapped.collect::<Vec<_>>(), &mut |_, bytes| bytes.len() < 0x1000);
}

fn use_symbol(exe: &Snapshot, addr: LinkAddr, size: u64) {
    let slide = exe.slide_at(EXE_START);
    assert_eq!(slide.link(slide.live(addr)), addr);
    let _ = exe.is_shared(addr);
    for len in [size, u64::MAX, 5] {
        let _ = exe.code(addr, len);
    }
    if let Some(next) = exe.next_function(addr) {
        assert!(next >= addr);
    }
}

#[test]
fn archives_are_read() {
    let library = library();
    let archive = ArchiveFile::parse(&*library).unwrap();
    let symbols = archive.symbols().unwrap().unwrap().map(|symbol| symbol.unwrap().name().to_vec());
    let symbols: Vec<_> = symbols.map(|name| NameId::of(&String::from_utf8(name).unwrap())).collect();
    assert!(!symbols.is_empty());
    survives("archive", vec![tables::seed("rlib", library.clone())], 20_000, move |bytes| {
        let mut index = ArchiveIndex::default();
        if index.add(Bytes::new(bytes.to_vec())).is_ok() {
            for name in symbols.iter().take(20) {
                if let Ok(Some(member)) = index.find(*name) {
                    assert!(member.data.len() <= bytes.len());
                }
            }
        }
    });
}

#[test]
fn debug_information_is_read_and_judged() {
    let seeds: Vec<_> = changed().into_iter().map(|(cgu, _, new)| tables::seed(cgu, new)).collect();
    let unharmed: Vec<_> = changed().into_iter().map(|(_, old, _)| types::read(&old).unwrap()).collect();
    survives("types", seeds, 8_000, move |bytes| {
        let Ok(harmed) = types::read(bytes) else { return };
        for def in &harmed.types {
            harmed.path(def);
            harmed.describe(def);
            harmed.held_by_value(def);
        }
        for good in &unharmed {
            verdict(good, &harmed);
            verdict(&harmed, good);
        }
    });
}

fn verdict(old: &ObjectTypes, new: &ObjectTypes) {
    match judge::judge(&Facts::new(vec![old], vec![new], DeltaFacts::default())) {
        Verdict::Accepted(reasons) | Verdict::Refused(reasons) => {
            assert!(reasons.iter().all(|reason| !reason.rule.is_empty() && !reason.message.is_empty()));
        }
    }
}

#[test]
fn entries_are_examined() {
    drive::run("entry", |watch| {
        (0..drive::iterations(100_000) as u64).for_each(|number| try_entry(watch, number));
        watch.go_on(try_entry);
    });
}

fn try_entry(watch: &mut Watch, number: u64) {
    let mut random = Random(number);
    let mut code: Vec<u8> = (0..random.below(48)).map(|_| random.next() as u8).collect();
    // Calls, jumps and their prefixes are rare among random bytes.
    for _ in 0..random.below(4) {
        let common = [0xe8, 0xe9, 0xeb, 0x74, 0x0f, 0xff, 0xe3, 0xc3, 0x48, 0x66, 0xf2, 0x90, 0xcc, 0x05, 0x1d];
        let at = random.below(code.len());
        code.splice(at..(at + 1).min(code.len()), [common[random.below(common.len())]]);
    }
    let size = if random.below(8) == 0 { random.next() } else { random.below(64) as u64 };
    let at = if random.below(8) == 0 { LiveAddr(random.next()) } else { EXE_START };
    let distance = random.next() >> random.below(64);
    watch.try_one(&format!("entry {number}"), &code, &|code| examine(at, size, distance, code));
}

fn examine(at: LiveAddr, size: u64, distance: u64, code: &[u8]) {
    let Ok(plan) = EntryPlan::examine(at, size, code) else { return };
    for place in [at.plus(distance), LiveAddr(at.0.wrapping_sub(distance)), LiveAddr(u64::MAX - 3)] {
        if let Ok(moved) = plan.trampoline(place) {
            assert!(moved.len() as u64 <= plan.trampoline_room(), "{} bytes of {moved:x?}", moved.len());
        }
    }
}

/// Everything between an object and an image, with unharmed partners.
struct World {
    exe: Arc<Snapshot>,
    objects: Vec<NewObject>,
    /// Those after the edit.
    after: Vec<NewObject>,
    facts: Arc<ObjectFacts>,
}

impl World {
    fn new() -> World {
        let before = &program()[0];
        let exe = Snapshot::read(Bytes::new(fs::read(&before.output).unwrap())).unwrap();
        let read = |(cgu, path): &(String, std::path::PathBuf)| new_object(cgu, &fs::read(path).unwrap()).unwrap();
        let objects: Vec<_> = before.objects.iter().map(read).collect();
        let after = program()[1].objects.iter().map(read).collect();
        let types = objects.iter().map(|new| types::read(new.object.data()).unwrap());
        let facts = types.flat_map(|types| types.functions).enumerate().map(|(at, function)| {
            let (abi, method_abi) = (function.abi, function.method_abi);
            let facts = FunctionFacts { erased: abi ^ 1, abi, method_abi, order: at as u64 };
            (NameId::of(&function.linkage_name), facts)
        });
        World { exe: Arc::new(exe), after, facts: Arc::new(facts.collect()), objects }
    }

    /// The image for an edit that turns `old` of the codegen unit `cgu` into `new`.
    fn patch(&self, cgu: &str, old: Option<NewObject>, new: NewObject) -> Result<Image, LinkError> {
        let replaces = old.is_some();
        let others = self.objects.iter().filter(|object| !replaces || object.cgu != cgu).cloned();
        let slide = self.exe.slide_at(EXE_START);
        let running = Running::new(Arc::clone(&self.exe), slide, others.chain(old).collect());
        let removed = running.by_cgu(0, cgu).into_iter().collect();
        let facts = &mut |asked: &[&NewObject]| vec![Arc::clone(&self.facts); asked.len()];
        let delta = diff::compare(&running, removed, vec![new], facts);
        let reach = diff::reach(&running, &delta, ThreadRoom::at(-0x4000), &mut Everything);
        let _ = reach.reachable(|_| true);
        image(&reach, &entries(&running, &reach))
    }

    /// Whether there is a copy of the executable for the edit, with `new` as its codegen unit `cgu`.
    fn copy(&self, cgu: &str, new: NewObject) -> Result<usize, LinkError> {
        let running = Running::new(Arc::clone(&self.exe), Slide::default(), self.objects.clone());
        let others = self.after.iter().filter(|object| object.cgu != cgu).cloned();
        let current: Vec<_> = others.chain([new]).collect();
        let steps = update::steps(&running, &current, &mut Everything)?;
        Ok(steps.len())
    }
}

fn new_object(cgu: &str, bytes: &[u8]) -> Option<NewObject> {
    let object = Object::parse(Bytes::new(bytes.to_vec())).ok()?;
    Some(NewObject { unit: 0, cgu: cgu.to_owned(), object: Arc::new(object) })
}

/// A C library that has every name; archives that have none.
struct Everything;

impl Libraries for Everything {
    fn member(&mut self, _: NameId) -> Result<Option<(String, Bytes)>, String> {
        Ok(None)
    }

    fn exports(&mut self, _: &str) -> bool {
        true
    }

    fn shared_objects(&mut self) -> Vec<Bytes> {
        Vec::new()
    }
}

fn entries(running: &Running, reach: &Reach) -> Vec<EntryPlan> {
    let live = reach.functions.iter().filter_map(|function| function.live.as_ref());
    let plan = |body: &diff::running::Body| {
        let link = running.slide.link(body.addr);
        let next = running.exe.next_function(link)?;
        let room = body.size.max(ENTRY_JUMP_LEN as u64).min(next.0.saturating_sub(link.0));
        EntryPlan::examine(body.addr, body.size, running.exe.code(link, room)?).ok()
    };
    live.filter(|live| live.index.is_none()).flat_map(|live| &live.bodies).filter_map(plan).collect()
}

fn image(reach: &Reach, entries: &[EntryPlan]) -> Result<Image, LinkError> {
    let near = NearLayout::below(EXE_START).unwrap();
    let layout = Layout::new(reach, entries)?;
    let no_room = || LinkError("no arena has room for it".into());
    let reserved = Room::new(near).find(&layout.needs()).ok_or_else(no_room)?;
    let (file, _) = ArenaFile::create(reserved.start);
    let imports = vec![EXE_START; reach.imports.len()];
    let placement = reserved.placement(&file, &imports, near.control, layout.new_entries() as u32);
    link::place(reach, &layout, entries, &placement)
}

#[test]
fn damaged_objects_are_compared_and_linked() {
    let world = World::new();
    let functions = |(cgu, old, new): &(String, Vec<u8>, Vec<u8>)| {
        let image = world.patch(cgu, new_object(cgu, old), new_object(cgu, new).unwrap());
        image.unwrap_or_else(|why| panic!("{cgu} cannot be patched unharmed: {why}")).functions.len()
    };
    let (cgu, old, new) = changed().into_iter().max_by_key(functions).unwrap();
    assert!(functions(&(cgu.clone(), old.clone(), new.clone())) >= 2, "the edit changes two functions at least");
    world.copy(&cgu, new_object(&cgu, &new).unwrap()).unwrap_or_else(|why| panic!("{cgu} cannot be copied: {why}"));
    let seeds = vec![tables::seed("new", new.clone()), tables::seed("old", old.clone())];
    survives("patch", seeds, 10_000, move |bytes| {
        let Some(harmed) = new_object(&cgu, bytes) else { return };
        let _ = world.copy(&cgu, harmed.clone());
        let _ = world.patch(&cgu, None, harmed.clone());
        let _ = world.patch(&cgu, Some(harmed), new_object(&cgu, &new).unwrap());
    });
}
