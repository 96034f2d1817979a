//! Buffers: what moves is resolved again, and nothing else; what was moved step by step equals what is made at once.

#[path = "common/sysroot.rs"]
mod sysroot;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use relive::arch::Machine;
use relive::arch::reloc::Operand;
use relive::binary::archive::members;
use relive::binary::bytes::Bytes;
use relive::binary::object::{Binding, NameId, Object, Place, Role, SectionId, SymbolId};
use relive::link::buffer::{Buffer, ObjectId, Resolved, Room};
use sysroot::sysroot;

const CODE: u64 = 0x1000_0000;
const DATA: u64 = 0x1200_0000;
const WORDS: u64 = 0x1300_0000;
const STUBS: u64 = 0x1310_0000;
const OUTSIDE: u64 = 0x1320_0000;
const MOVED: u64 = 0x1400_0000;
const THREADS: u64 = 0x20_0000;

/// The objects of the standard library for a target; `None` if it is not installed.
fn objects(target: &str) -> Option<Vec<Arc<Object>>> {
    let entries = fs::read_dir(sysroot().join("lib/rustlib").join(target).join("lib")).ok()?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        ["libstd-", "liballoc-"].iter().any(|start| name.starts_with(start)) && name.ends_with(".rlib")
    });
    paths.sort();
    let mut out = Vec::new();
    for path in paths {
        let members = members(&Bytes::new(fs::read(path).expect("a library"))).expect("an archive");
        out.extend(members.into_iter().filter_map(|member| Object::parse_any(member).ok()).map(Arc::new));
    }
    Some(out)
}

/// A buffer with all of `objects`, nothing of it placed.
fn buffer(objects: &[Arc<Object>]) -> Buffer {
    let room = Room::new(WORDS..WORDS + 0x10_0000, STUBS..STUBS + 0x10_0000);
    let mut out = Buffer::new(objects[0].machine, room, false, THREADS);
    for object in objects {
        out.add(object.clone()).expect("one machine");
    }
    out
}

fn define_undefined(buffer: &mut Buffer) -> Vec<String> {
    let names = buffer.undefined();
    for (index, name) in names.iter().enumerate() {
        buffer.define(NameId::of(name), OUTSIDE + 16 * index as u64);
    }
    names
}

fn place_all(buffer: &mut Buffer) {
    buffer.place_all(&[Role::Text], CODE).expect("room");
    let data = [Role::ReadOnly, Role::RelRo, Role::Lsda, Role::Data, Role::Bss];
    buffer.place_all(&data, DATA).expect("room");
    buffer.place_all(&[Role::TlsData, Role::TlsBss], THREADS).expect("room");
}

/// Memory that writes go to; every write of a field must find what it says was there.
#[derive(Default)]
struct Memory(BTreeMap<u64, Vec<u8>>);

impl Memory {
    fn take(&mut self, resolved: &Resolved) {
        for write in &resolved.writes {
            if write.old.is_empty() {
                self.0.insert(write.at, write.new.clone());
                continue;
            }
            let (start, bytes) = self.0.range_mut(..=write.at).next_back().expect("something was there");
            let inside = (write.at - start) as usize;
            let field = &mut bytes[inside..inside + write.new.len()];
            assert_eq!(field, write.old, "at {:#x}", write.at);
            field.copy_from_slice(&write.new);
        }
    }
}

/// How many relocations must be computed again when an atom moves: those that lead to it, and its own that count from it.
fn dependents(objects: &[Arc<Object>], object: usize, section: SectionId) -> usize {
    let defined = |index: usize, of: &Object, id: SymbolId| {
        let symbol = of.symbol(id);
        let moved = &objects[object];
        if symbol.binding == Binding::Local {
            return index == object && matches!(symbol.place, Place::In(at, _) if at == section);
        }
        moved.defined_in(section).iter().any(|id| {
            let own = moved.symbol(*id);
            own.binding != Binding::Local && own.id == symbol.id
        })
    };
    let mut out = 0;
    for (index, of) in objects.iter().enumerate() {
        for (number, from) in of.sections.iter().enumerate() {
            if !from.role.is_loaded() || from.role == Role::EhFrame {
                continue;
            }
            let own = index == object && number == section.0 as usize;
            out += from
                .relocs
                .iter()
                .filter(|reloc| {
                    let leads =
                        defined(index, of, reloc.symbol) || reloc.minus.is_some_and(|id| defined(index, of, id));
                    leads || own && reloc.kind.is_relative()
                })
                .count();
        }
    }
    out
}

/// Whether a strong definition of the same name stands elsewhere, so that this one does not count.
fn is_overshadowed(objects: &[Arc<Object>], object: usize, section: SectionId) -> bool {
    let of = &objects[object];
    of.defined_in(section).iter().any(|id| of.symbol(*id).binding == Binding::Weak)
}

fn moves_are_exact(target: &str, machine: Machine) {
    let Some(objects) = objects(target) else {
        eprintln!("{target} is not installed: nothing was tested for {machine:?}");
        return;
    };
    assert!(objects.iter().all(|object| object.machine == machine));
    let mut moving = buffer(&objects);
    place_all(&mut moving);
    let names = define_undefined(&mut moving);
    let mut memory = Memory::default();
    let all = moving.resolve().expect("everything has an address");
    assert!(all.relocations > 5_000, "{} relocations", all.relocations);
    memory.take(&all);
    assert_eq!(moving.resolve().expect("nothing to do").relocations, 0);

    // Atoms from all over, moved one at a time.
    let mut at = MOVED;
    let atoms: Vec<(ObjectId, SectionId)> = (0..objects.len())
        .flat_map(|object| {
            moving.atoms(ObjectId(object)).map(move |(section, _)| (ObjectId(object), section)).collect::<Vec<_>>()
        })
        .collect();
    let mut moved = 0;
    for (object, section) in atoms.iter().step_by(atoms.len() / 200 + 1) {
        let data = objects[object.0].section(*section);
        if data.role.is_tls() || is_overshadowed(&objects, object.0, *section) {
            continue;
        }
        at = at.next_multiple_of(data.align);
        moving.place(*object, *section, at).expect("an aligned address");
        at += data.size;
        let again = moving.resolve().expect("everything has an address");
        assert_eq!(again.relocations, dependents(&objects, object.0, *section), "`{}`", data.name);
        memory.take(&again);
        moved += 1;
    }
    assert!(moved > 100, "{moved} atoms moved");
    for (index, name) in names.iter().enumerate().step_by(7) {
        moving.define(NameId::of(name), OUTSIDE + 0x8_0000 + 16 * index as u64);
        memory.take(&moving.resolve().expect("everything has an address"));
    }

    // The same layout at once.
    let mut fresh = buffer(&objects);
    for (object, section) in &atoms {
        let (at, _) = moving.atom(*object, *section).expect("a placed atom");
        fresh.place(*object, *section, at).expect("an address that it has elsewhere");
    }
    for (index, name) in names.iter().enumerate() {
        let moved = if index.is_multiple_of(7) { 0x8_0000 } else { 0 };
        fresh.define(NameId::of(name), OUTSIDE + moved + 16 * index as u64);
    }
    let fresh_writes = fresh.resolve().expect("everything has an address");
    for (object, section) in &atoms {
        let name = &objects[object.0].section(*section).name;
        assert!(fresh.atom(*object, *section) == moving.atom(*object, *section), "`{name}` differs");
    }
    for write in fresh_writes.writes {
        assert_eq!(memory.0.get(&write.at), Some(&write.new), "at {:#x}", write.at);
    }
}

#[test]
fn moves_are_exact_in_elf_for_x86_64() {
    moves_are_exact("x86_64-unknown-linux-gnu", Machine::X86_64);
}

#[test]
fn moves_are_exact_in_elf_for_aarch64() {
    moves_are_exact("aarch64-unknown-linux-gnu", Machine::Aarch64);
}

#[test]
fn moves_are_exact_in_mach_o_for_x86_64() {
    moves_are_exact("x86_64-apple-darwin", Machine::X86_64);
}

#[test]
fn moves_are_exact_in_mach_o_for_aarch64() {
    moves_are_exact("aarch64-apple-darwin", Machine::Aarch64);
}

#[test]
fn a_branch_out_of_reach_goes_through_a_stub() {
    for (target, far) in [("x86_64-unknown-linux-gnu", 1_u64 << 40), ("aarch64-unknown-linux-gnu", 1 << 30)] {
        let Some(objects) = objects(target) else { continue };
        let mut buffer = buffer(&objects);
        place_all(&mut buffer);
        let names = define_undefined(&mut buffer);
        let near = buffer.resolve().expect("everything has an address");
        let relocs = || {
            objects.iter().flat_map(|of| {
                of.sections.iter().flat_map(move |from| from.relocs.iter().map(move |reloc| (of, reloc)))
            })
        };
        let is_called = |name: &&String| {
            let id = NameId::of(name);
            let mut uses = relocs().filter(|(of, reloc)| of.symbol(reloc.symbol).id == id).peekable();
            uses.peek().is_some() && uses.all(|(_, reloc)| reloc.kind.operand() == Some(Operand::Branch))
        };
        let name = names.iter().find(is_called).expect("a function that is only called");
        buffer.define(NameId::of(name), far);
        let again = buffer.resolve().expect("stubs reach");
        let is_stub = |at: u64| (STUBS..STUBS + 0x10_0000).contains(&at);
        assert!(!near.writes.iter().any(|write| is_stub(write.at)));
        let stubs: Vec<_> = again.writes.iter().filter(|write| is_stub(write.at)).collect();
        assert_eq!(stubs.len(), 1, "one stub for all callers");
        assert!(again.writes.iter().any(|write| write.new == far.to_le_bytes()), "and its word leads there");
        // Once there is a stub, its word alone changes.
        buffer.define(NameId::of(name), far + 64);
        let words = buffer.resolve().expect("stubs reach").writes;
        assert_eq!(words.len(), 1);
        assert_eq!(words[0].new, (far + 64).to_le_bytes());
    }
}

#[test]
fn what_was_computed_before_an_error_is_not_lost() {
    let objects = objects("x86_64-unknown-linux-gnu").expect("the host's own target");
    let mut buffer = Buffer::new(Machine::X86_64, Room::new(WORDS..WORDS + 0x10_0000, STUBS..STUBS), false, THREADS);
    for object in &objects {
        buffer.add(object.clone()).expect("one machine");
    }
    place_all(&mut buffer);
    let names = define_undefined(&mut buffer);
    let mut memory = Memory::default();
    memory.take(&buffer.resolve().expect("everything is near"));
    for (index, name) in names.iter().enumerate() {
        buffer.define(NameId::of(name), OUTSIDE + 0x8_0000 + 16 * index as u64);
    }
    // One of them is where only a stub leads, and there is no room for any.
    let relocs = objects
        .iter()
        .flat_map(|of| of.sections.iter().flat_map(move |from| from.relocs.iter().map(move |reloc| (of, reloc))));
    let mut called = relocs
        .filter(|(_, reloc)| reloc.kind.operand() == Some(Operand::Branch))
        .map(|(of, reloc)| of.name(of.symbol(reloc.symbol)));
    let far = called.find(|name| names.iter().any(|known| known == name)).expect("a function that is called");
    let index = names.iter().position(|name| name == far).expect("it is one of them") as u64;
    buffer.define(NameId::of(far), 1 << 40);
    let error = buffer.resolve().expect_err("there is no room");
    assert!(error.0.contains("room for 0 stubs"), "{error}");
    buffer.define(NameId::of(far), OUTSIDE + 0x8_0000 + 16 * index);
    memory.take(&buffer.resolve().expect("everything is near again"));
    for (number, object) in objects.iter().enumerate() {
        let sections: Vec<SectionId> = buffer.atoms(ObjectId(number)).map(|(section, _)| section).collect();
        for section in sections {
            let (at, bytes) = buffer.atom(ObjectId(number), section).expect("a placed atom");
            let written = memory.0.get(&at).map_or(&[][..], Vec::as_slice);
            assert!(bytes.is_empty() || written == bytes, "`{}` at {at:#x}", object.section(section).name);
        }
    }
}

#[test]
fn unwind_entries_of_one_section_are_told_apart() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (source, out) = (dir.path().join("three.c"), dir.path().join("three.o"));
    let text = "int f(int);\nint one(int n) { return f(n) + 1; }\nint two(int n) { return f(n) * f(2); }\nint three(void) { return 3; }\n";
    fs::write(&source, text).expect("a file in a new folder");
    let mut cc = Command::new("cc");
    let made = cc
        .args(["-c", "-O1", "-fno-function-sections", "-fasynchronous-unwind-tables"])
        .arg(&source)
        .arg("-o")
        .arg(&out)
        .status();
    assert!(made.expect("cc runs").success());
    let object = Object::parse(Bytes::new(fs::read(&out).expect("an object"))).expect("an object");
    let mut buffer = buffer(&[Arc::new(object)]);
    place_all(&mut buffer);
    define_undefined(&mut buffer);
    buffer.resolve().expect("everything has an address");
    let frames = buffer.frames(DATA + 0x10_0000).expect("unwind entries");
    let mut wanted = ["one", "two", "three"].map(|name| buffer.address(NameId::of(name)).expect("it is placed"));
    wanted.sort_unstable();
    assert_eq!(frames.table.iter().map(|(function, _)| *function).collect::<Vec<_>>(), wanted);
}
