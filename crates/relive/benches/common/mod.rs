//! What the benches work on: a program as it runs, and two edits of it, one of a single function and one of many.
//!
//! The program is generated and compiled at the first run (a minute) and kept below the target directory. With
//! `RELIVE_BENCH_OBJECTS` (a folder of `.rcgu.o`) and `RELIVE_BENCH_EXE` (the executable that was linked from them) a real
//! program takes its place; its edits are a flipped byte in one function and in each of some hundred.
#![allow(dead_code, reason = "each bench uses its part")]

#[path = "../../tests/common/build.rs"]
mod build;
mod source;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use relive::arch::EntryPlan;
use relive::arch::x86_64::ENTRY_JUMP_LEN;
use relive::binary::archive::ArchiveIndex;
use relive::binary::bytes::Bytes;
use relive::binary::executable;
use relive::binary::object::{NameId, Object, Role, SectionId, SymbolKind};
use relive::binary::snapshot::Snapshot;
use relive::binary::types;
use relive::diff::pair::{FunctionFacts, ObjectFacts};
use relive::diff::{self, Delta, Libraries, NewObject, ObjectKey, Reach, Running, ThreadRoom};
use relive_wire::LiveAddr;
use rustc_hash::{FxHashMap, FxHashSet};

/// Where the program's first page is.
pub(crate) const EXE_START: LiveAddr = LiveAddr(0x5555_5555_4000);

/// Functions that the larger edit changes at least.
const MANY: usize = source::SHARING;

/// An object's codegen unit and bytes.
pub(crate) type Named = (String, Bytes);

/// The program and its edits.
pub(crate) struct Subject {
    pub(crate) exe: Bytes,
    pub(crate) objects: Vec<Named>,
    /// The objects that an edit of one function changes.
    pub(crate) one: Vec<Named>,
    /// The objects that an edit of [`MANY`] functions changes.
    pub(crate) many: Vec<Named>,
    /// How many functions that edit changes at least; fewer if the program has several copies of one.
    pub(crate) at_least: usize,
}

impl Subject {
    /// Generated, or the one that the environment names.
    pub(crate) fn new() -> Subject {
        match std::env::var_os("RELIVE_BENCH_OBJECTS") {
            Some(folder) => Subject::from_folder(Path::new(&folder)),
            None => Subject::generated(),
        }
    }

    fn generated() -> Subject {
        let texts = [source::text(5, 3), source::text(6, 3), source::text(5, 4)];
        let states = build::build("app", &[], &texts);
        let [first, second, third] = states.as_slice() else { panic!("three states") };
        let objects = read(&first.objects);
        let changed = |state: &build::State| {
            let same = |new: &Named| objects.iter().any(|old| old.0 == new.0 && *old.1 == *new.1);
            read(&state.objects).into_iter().filter(|new| !same(new)).collect()
        };
        Subject { exe: file(&first.output), one: changed(second), many: changed(third), at_least: MANY, objects }
    }

    fn from_folder(folder: &Path) -> Subject {
        let exe =
            std::env::var_os("RELIVE_BENCH_EXE").expect("RELIVE_BENCH_EXE: the executable linked from the objects");
        let paths = fs::read_dir(folder).expect("RELIVE_BENCH_OBJECTS: a folder").map(|entry| entry.unwrap().path());
        let paths = paths.filter(|path| path.to_string_lossy().ends_with(".rcgu.o"));
        let mut objects: Vec<_> = paths.map(|path| file(&path)).map(|bytes| (cgu_of(&bytes), bytes)).collect();
        objects.sort_by(|left, right| left.0.cmp(&right.0));
        let exe = file(Path::new(&exe));
        let snapshot = Snapshot::read(exe.clone()).unwrap();
        let (mut one, mut many, mut left) = (Vec::new(), Vec::new(), MANY);
        for (cgu, bytes) in &objects {
            if one.is_empty() {
                one.extend(flipped(bytes, &snapshot, &mut 1).map(|bytes| (cgu.clone(), bytes)));
            }
            many.extend(flipped(bytes, &snapshot, &mut left).map(|bytes| (cgu.clone(), bytes)));
        }
        Subject { exe, objects, one, many, at_least: 2 }
    }

    /// The program as the session knows it.
    pub(crate) fn running(&self) -> Running {
        let exe = Snapshot::read(self.exe.clone()).unwrap();
        let slide = exe.slide_at(EXE_START);
        Running::new(Arc::new(exe), slide, self.objects.iter().map(parsed).collect())
    }
}

/// What the object says is its codegen unit.
fn cgu_of(bytes: &Bytes) -> String {
    let object = Object::parse(bytes.clone()).unwrap();
    let file = object.symbols.iter().find(|symbol| symbol.kind == SymbolKind::File);
    file.map_or_else(String::new, |symbol| object.name(symbol).to_owned())
}

/// The whole of a file.
pub(crate) fn file(path: &Path) -> Bytes {
    Bytes::new(fs::read(path).unwrap())
}

fn read(objects: &[(String, PathBuf)]) -> Vec<Named> {
    objects.iter().map(|(cgu, path)| (cgu.clone(), file(path))).collect()
}

/// An object as a build delivers it.
pub(crate) fn parsed((cgu, bytes): &Named) -> NewObject {
    NewObject { unit: 0, cgu: cgu.clone(), object: Arc::new(Object::parse(bytes.clone()).unwrap()) }
}

/// The object with one byte changed in up to `left` functions that the executable has; `None` if it has none.
fn flipped(bytes: &Bytes, exe: &Snapshot, left: &mut usize) -> Option<Bytes> {
    let object = Object::parse(bytes.clone()).unwrap();
    let mut out = bytes.to_vec();
    let mut found = false;
    for (at, section) in object.sections.iter().enumerate().filter(|(_, section)| section.role == Role::Text) {
        let Some(function) = object.function_of(SectionId(at as u32)) else { continue };
        let known = exe.symbols(object.name(object.symbol(function))).next().is_some();
        let fields = || section.relocs.iter().map(|reloc| reloc.offset..reloc.offset + reloc.kind.width());
        let free = (0..section.size).rev().find(|at| !fields().any(|field| field.contains(at)));
        if let (true, Some(free)) = (known && *left > 0, free) {
            out[(section.file_range.start + free) as usize] ^= 1;
            (found, *left) = (true, *left - 1);
        }
    }
    found.then(|| Bytes::new(out))
}

/// The compiler's own libraries, indexed, and what the C library of this very process exports.
pub(crate) struct System {
    pub(crate) archives: ArchiveIndex,
    exported: FxHashSet<NameId>,
}

impl System {
    pub(crate) fn read() -> System {
        let mut archives = ArchiveIndex::default();
        for rlib in rlibs() {
            archives.add(rlib).unwrap();
        }
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let paths: FxHashSet<&str> = maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..])).collect();
        let shared = paths.iter().filter(|path| path.contains(".so")).filter_map(|path| fs::read(path).ok());
        System { archives, exported: shared.flat_map(|bytes| executable::exports(&bytes)).collect() }
    }
}

/// The compiler's own libraries.
pub(crate) fn rlibs() -> Vec<Bytes> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(["--print", "target-libdir"]).output().unwrap();
    let folder = String::from_utf8(output.stdout).unwrap();
    let entries = fs::read_dir(folder.trim()).unwrap().map(|entry| entry.unwrap().path());
    let rlibs = entries.filter(|path| path.extension().is_some_and(|extension| extension == "rlib"));
    rlibs.map(|path| file(&path)).collect()
}

impl Libraries for System {
    fn member(&mut self, name: NameId) -> Result<Option<(String, Bytes)>, String> {
        let member = self.archives.find(name).map_err(|error| error.to_string())?;
        Ok(member.map(|member| (format!("{} of {}", member.name, member.archive), member.data)))
    }

    fn exports(&mut self, name: &str) -> bool {
        self.exported.contains(&NameId::of(name))
    }

    fn shared_objects(&mut self) -> Vec<Bytes> {
        Vec::new()
    }
}

/// What debug information says about functions, by where the bytes of the object are.
#[derive(Default)]
pub(crate) struct Facts(FxHashMap<*const u8, Arc<ObjectFacts>>);

impl Facts {
    /// Reads the objects of an edit, old and new.
    pub(crate) fn of(running: &Running, edit: &[Named]) -> Facts {
        let mut facts = Facts::default();
        for new in edit {
            let old = running.by_cgu(0, &new.0).and_then(|key| running.object(key));
            for bytes in old.map(|old| old.object.data()).into_iter().chain([&new.1]) {
                facts.0.insert(bytes.as_ptr(), read_facts(bytes));
            }
        }
        facts
    }

    fn of_each(&self, objects: &[&NewObject]) -> Vec<Arc<ObjectFacts>> {
        objects.iter().map(|new| self.0.get(&new.object.data().as_ptr()).cloned().unwrap_or_default()).collect()
    }
}

fn read_facts(bytes: &[u8]) -> Arc<ObjectFacts> {
    let types = types::read(bytes).unwrap();
    let facts = types.functions.iter().enumerate().map(|(at, function)| {
        let erased = NameId::of(&function.erased).0 as u64;
        (
            NameId::of(&function.linkage_name),
            FunctionFacts { erased, abi: function.abi, method_abi: function.method_abi, order: at as u64 },
        )
    });
    Arc::new(facts.collect())
}

/// The objects that `edit` replaces.
pub(crate) fn replaced(running: &Running, edit: &[Named]) -> Vec<ObjectKey> {
    edit.iter().filter_map(|new| running.by_cgu(0, &new.0)).collect()
}

/// New objects to what must come along, the steps that the bench `diff` measures.
pub(crate) fn changes(running: &Running, edit: &[Named], facts: &Facts, libraries: &mut System) -> (Delta, Reach) {
    let new = edit.iter().map(parsed).collect();
    let delta = diff::compare(running, replaced(running, edit), new, &mut |asked| facts.of_each(asked));
    let reach = diff::reach(running, &delta, ThreadRoom::at(-0x4000), libraries);
    (delta, reach)
}

/// Plans for the entries that are redirected for the first time, from the executable's own code.
pub(crate) fn entries(running: &Running, reach: &Reach) -> Vec<EntryPlan> {
    let live = reach.functions.iter().filter_map(|function| function.live.as_ref());
    let bodies = live.filter(|live| live.index.is_none()).flat_map(|live| &live.bodies);
    let plan = |body: &diff::running::Body| {
        let link = running.slide.link(body.addr);
        let next = running.exe.next_function(link)?;
        let room = body.size.max(ENTRY_JUMP_LEN as u64).min(next.0 - link.0);
        EntryPlan::examine(body.addr, body.size, running.exe.code(link, room)?).ok()
    };
    bodies.filter_map(plan).collect()
}
