//! The judge on real objects: small programs in two versions go through rustc, and the verdict and its words are
//! compared with what was claimed.

#[path = "types/build.rs"]
mod build;

use build::{object, object_with};
use relive::binary::types::{Level, ObjectTypes, read};
use relive::judge::{DeltaFacts, Facts, Verdict, judge};

/// Judges `new` on the state of `old` and returns the reasons as `rule: message`.
fn reasons(name: &str, old: &str, new: &str) -> Vec<String> {
    let (old, new) = (object(name, "old", old), object(name, "new", new));
    match judge(&Facts::new(vec![&old], vec![&new], DeltaFacts::default())) {
        Verdict::Accepted(notes) => notes.iter().map(|note| format!("note {}: {}", note.rule, note.message)).collect(),
        Verdict::Refused(reasons) => {
            reasons.iter().map(|reason| format!("{}: {}", reason.rule, reason.message)).collect()
        }
    }
}

#[track_caller]
fn accepted(name: &str, old: &str, new: &str) {
    assert_eq!(reasons(name, old, new), Vec::<String>::new());
}

#[track_caller]
fn refused(name: &str, old: &str, new: &str, expected: &[&str]) {
    assert_eq!(reasons(name, old, new), expected);
}

const WORLD: &str = "pub struct World { name: String, count: u64 }
    pub fn show(world: &World) -> String { format!(\"{} {}\", world.name, world.count) }";

#[test]
fn bodies_derives_visibility_and_new_types_are_no_change() {
    accepted(
        "body",
        WORLD,
        "/// Documented.
         #[derive(Clone, Debug, PartialEq, Default)]
         pub struct World { pub count: u64, pub name: String }
         pub struct Another(World, u8);
         pub fn show(world: &World) -> String { format!(\"{}: {:?}\", world.count + 1, Another(world.clone(), 3).0) }",
    );
}

#[test]
fn a_new_field_says_what_it_moved() {
    refused(
        "field",
        WORLD,
        "pub struct World { speed: u128, name: String, count: u64 }
         pub fn show(world: &World) -> String { format!(\"{} {} {}\", world.name, world.count, world.speed) }",
        &["type-layout: `app::World` grew from 32 to 48 bytes: new field `speed: u128` at offset 0, \
           `name` moved from 0 to 16, `count` moved from 24 to 40, and 1 more"],
    );
}

#[test]
fn the_innermost_type_is_named_and_containers_are_consequences() {
    let text = |field: &str| {
        format!(
            "pub struct Inner {{ left: u32, right: u32 {field} }}
             pub struct Outer {{ inner: [Inner; 2], name: String }}
             pub fn all(map: &std::collections::HashMap<String, Vec<Option<Outer>>>) -> u32 {{
                 map.values().flatten().flatten().map(|outer| outer.inner[1].left + outer.name.len() as u32).sum()
             }}"
        )
    };
    refused(
        "nested",
        &text(""),
        &text(", middle: u32"),
        &["type-layout: `app::Inner` grew from 8 to 12 bytes: new field `middle: u32` at offset 8, \
           which makes `app::Outer` change too"],
    );
}

#[test]
fn a_generic_type_is_told_once() {
    let text = |field: &str| {
        format!(
            "pub struct Slot<T> {{ value: T, hits: u32 {field} }}
             pub fn both(a: &Slot<u32>, b: &Slot<String>) -> u32 {{ a.value + a.hits + b.hits + b.value.len() as u32 }}"
        )
    };
    refused(
        "generic",
        &text(""),
        &text(", last: u32"),
        &["type-layout: `app::Slot<String>` keeps its 32 bytes but is laid out differently: new field `last: u32` at \
           offset 28 (and the same for 1 more of `app::Slot<..>`)"],
    );
}

#[test]
fn an_associated_type_changes_what_holds_it() {
    let text = |output: &str| {
        format!(
            "pub trait Kind {{ type Cell; }} pub struct Fine; impl Kind for Fine {{ type Cell = {output}; }}
             pub struct Grid<K: Kind> {{ cells: Vec<K::Cell> }}
             pub fn len(grid: &Grid<Fine>) -> usize {{ grid.cells.len() }}"
        )
    };
    refused(
        "assoc",
        &text("u16"),
        &text("u32"),
        &["type-layout: `app::Grid<app::Fine>` keeps its 24 bytes but is laid out differently: \
           field `cells` was `Vec<u16>` and is `Vec<u32>`"],
    );
}

#[test]
fn swapped_and_renamed_fields_are_told() {
    let text = |fields: &str| format!("#[repr(C)] pub struct P {{ {fields} }} pub fn f(p: &P) -> u32 {{ p.a + p.b }}");
    refused(
        "swapped",
        &text("a: u32, b: u32"),
        &text("b: u32, a: u32"),
        &["type-layout: `app::P` keeps its 8 bytes but is laid out differently: `b` moved from 4 to 0, \
           `a` moved from 0 to 4"],
    );
    refused(
        "renamed",
        "pub struct P { a: u32 } pub fn f(p: &P) -> u32 { p.a }",
        "pub struct P { z: u32 } pub fn f(p: &P) -> u32 { p.z }",
        &["note field-renamed: `app::P`: field `a` is called `z` now and keeps its values"],
    );
    refused(
        "renamed-of-a-variant",
        "pub enum E { A { x: u8, y: u16 }, B } pub fn f(e: &E) -> u8 { if let E::A { x, .. } = e { *x } else { 0 } }",
        "pub enum E { A { z: u8, y: u16 }, B } pub fn f(e: &E) -> u8 { if let E::A { z, .. } = e { *z } else { 0 } }",
        &["note field-renamed: `app::E`: field `x` is called `z` now and keeps its values"],
    );
    refused(
        "renamed-both",
        "#[repr(C)] pub struct P { a: u32, b: u32 } pub fn f(p: &P) -> u32 { p.a + p.b }",
        "#[repr(C)] pub struct P { c: u32, d: u32 } pub fn f(p: &P) -> u32 { p.c + p.d }",
        &["type-layout: `app::P` keeps its 8 bytes but is laid out differently: field `a` is now called `c`, \
           field `b` is now called `d`"],
    );
    refused(
        "renamed-and-moved",
        "#[repr(C)] pub struct P { a: u32, b: u64 } pub fn f(p: &P) -> u64 { p.b }",
        "#[repr(C)] pub struct P { b: u64, c: u32 } pub fn f(p: &P) -> u64 { p.b }",
        &["type-layout: `app::P` keeps its 16 bytes but is laid out differently: new field `c: u32` at offset 8, \
           field `a: u32` is gone, `b` moved from 8 to 0"],
    );
}

#[test]
fn packing_is_a_change_of_layout() {
    let text =
        |repr: &str| format!("#[repr({repr})] pub struct P {{ a: u8, b: u32 }} pub fn f(p: &P) -> u32 {{ p.b }}");
    refused(
        "packed",
        &text("C"),
        &text("C, packed"),
        &["type-layout: `app::P` shrank from 8 to 5 bytes: `b` moved from 4 to 1, its alignment is 1 and was 4"],
    );
}

#[test]
fn variants_are_told_by_how_they_are_stored() {
    let text = |variants: &str| {
        format!(
            "#[derive(Clone, Copy)] pub enum Mode {{ {variants} }} pub fn f(mode: Option<Mode>) -> u8 {{ mode.map_or(9, |mode| mode as u8) }}"
        )
    };
    refused(
        "inserted",
        &text("Slow, Fast"),
        &text("Slow, Middle, Fast"),
        &["type-layout: `app::Mode` keeps its 1 byte but is laid out differently: \
           new variant `Middle` (stored as 1), variant `Fast` was stored as 1 and is 2"],
    );
    refused(
        "renumbered",
        &text("Slow = 3, Fast = 5"),
        &text("Slow = 5, Fast = 3"),
        &["type-layout: `app::Mode` keeps its 1 byte but is laid out differently: \
           variant `Slow` was stored as 3 and is 5, variant `Fast` was stored as 5 and is 3"],
    );
    accepted("reordered", &text("Slow = 3, Fast = 5"), &text("Fast = 5, Slow = 3"));
}

#[test]
fn variants_with_fields_are_looked_into() {
    let text = |field: &str| {
        format!(
            "pub enum Shape {{ Dot, Disk {{ radius: {field} }} }}
             pub fn f(shape: &Shape) -> f64 {{ match shape {{ Shape::Dot => 0.0, Shape::Disk {{ radius }} => *radius as f64 }} }}"
        )
    };
    refused(
        "fields",
        &text("f32"),
        &text("u32"),
        &["type-layout: `app::Shape` keeps its 8 bytes but is laid out differently: \
           field `radius` of variant `Disk` was `f32` and is `u32`"],
    );
}

#[test]
fn array_lengths_in_data_are_a_change_and_on_the_stack_are_not() {
    let held = |len: u32| format!("pub struct T {{ a: [u8; {len}] }} pub fn f(t: &T) -> u8 {{ t.a[1] }}");
    refused(
        "array",
        &held(4),
        &held(8),
        &["type-layout: `app::T` grew from 4 to 8 bytes: field `a` was `[u8; 4]` and is `[u8; 8]`"],
    );
    let local = |len: u32| format!("pub fn f(n: usize) -> u8 {{ let a = [7u8; {len}]; a[n] }}");
    accepted("stack", &local(4), &local(8));
}

#[test]
fn statics_keep_their_type() {
    let text = |of: &str| {
        format!(
            "use std::sync::Mutex; pub static ALL: Mutex<{of}> = Mutex::new(Vec::new()); pub fn f() {{ ALL.lock().unwrap().push(1); }}"
        )
    };
    refused(
        "static",
        &text("Vec<u32>"),
        &text("Vec<u64>"),
        &["static-type: `app::ALL` was `Mutex<Vec<u32>>` and is `Mutex<Vec<u64>>`"],
    );
    accepted("static-same", &text("Vec<u32>"), &format!("{} pub static MORE: u8 = 3;", text("Vec<u32>")));
}

#[test]
fn a_static_in_read_only_memory_does_not_become_writable() {
    let text = |word: &str| {
        format!(
            "pub static {word} LIMIT: u64 = 5; pub fn f() -> u64 {{ let at = &raw const LIMIT; unsafe {{ at.read_volatile() }} }}"
        )
    };
    refused(
        "writable",
        &text(""),
        &text("mut"),
        &["static-type: `app::LIMIT` is in read-only memory and the edit makes it writable"],
    );
}

#[test]
fn thread_locals_keep_their_type() {
    let text = |of: &str| {
        format!(
            "thread_local! {{ static PAIR: std::cell::Cell<({of}, {of})> = const {{ std::cell::Cell::new((0, 7)) }}; }} pub fn f() -> {of} {{ PAIR.get().1 }}"
        )
    };
    refused(
        "tls",
        &text("u32"),
        &text("u64"),
        &["static-type: `app::PAIR` was `Cell<(u32, u32)>` and is `Cell<(u64, u64)>`"],
    );
}

#[test]
fn a_trait_object_keeps_its_methods() {
    let text = |method: &str| {
        format!(
            "pub trait Animal {{ fn name(&self) -> u32; {method} }} pub struct Dog; impl Animal for Dog {{ fn name(&self) -> u32 {{ 3 }} }}
             pub fn make() -> Box<dyn Animal> {{ Box::new(Dog) }} pub fn ask(animal: &dyn Animal) -> u32 {{ animal.name() }}"
        )
    };
    refused(
        "dyn",
        &text(""),
        &text("fn legs(&self) -> u32 { 4 }"),
        &["vtable-shape: objects of trait `app::Animal` had 1 methods in their table and have 2"],
    );
}

#[test]
fn types_in_numbered_impls_are_matched_although_the_numbers_shift() {
    let text = |first: &str, width: &str| {
        format!(
            "pub struct A; pub struct B; {first}
             impl A {{ pub fn go(&self) -> u32 {{ struct Local {{ a: {width} }} let l = Box::new(Local {{ a: 1 }}); std::hint::black_box(&l).a as u32 }} }}
             impl B {{ pub fn go(&self) -> u32 {{ struct Local {{ b: String }} let l = Box::new(Local {{ b: String::new() }}); l.b.len() as u32 }} }}"
        )
    };
    accepted("shift", &text("", "u8"), &text("impl Default for A { fn default() -> A { A } }", "u8"));
    refused(
        "shift-changed",
        &text("", "u8"),
        &text("", "u16"),
        &["type-layout: `app::{impl#0}::go::Local` grew from 1 to 2 bytes: field `a` was `u8` and is `u16`, \
           its alignment is 2 and was 1"],
    );
}

#[test]
fn levels_of_debug_information_are_told_apart() {
    let level = |name: &str, flags: &[&str]| object_with("level", name, WORLD, flags).level;
    assert_eq!(level("none", &["-Cdebuginfo=0"]), Level::Absent);
    assert_eq!(level("lines", &["-Cdebuginfo=line-tables-only"]), Level::LinesOnly);
    assert_eq!(level("limited", &["-Cdebuginfo=1"]), Level::LinesOnly);
    assert_eq!(level("full", &["-Cdebuginfo=2"]), Level::Full);
}

#[test]
fn dwarf_5_says_the_same_as_dwarf_4() {
    let text = "use std::cell::Cell; pub struct World { name: String, count: u64 }
         thread_local! { static PAIR: Cell<u8> = const { Cell::new(7) }; } pub static ALL: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(1);
         pub fn show(world: &World) -> Box<dyn Fn() -> u64> { let n = world.count; let l = world.name.len(); Box::new(move || n + l as u64 + PAIR.get() as u64) }";
    let (four, five) = (
        object_with("dwarf", "4", text, &["-Cdwarf-version=4"]),
        object_with("dwarf", "5", text, &["-Cdwarf-version=5"]),
    );
    let functions = |object: &ObjectTypes| {
        let mut list: Vec<_> = object
            .functions
            .iter()
            .map(|function| {
                let file = function.file.as_deref().and_then(|file| file.rsplit('/').next()).map(str::to_string);
                (function.qualified.clone(), function.abi, file, function.line)
            })
            .collect();
        list.sort();
        list
    };
    let types = |object: &ObjectTypes| {
        let mut list: Vec<_> = object.types.iter().map(|def| (object.path(def), def.key, def.layout)).collect();
        list.sort();
        list
    };
    let statics = |object: &ObjectTypes| {
        let mut list: Vec<_> =
            object.statics.iter().map(|s| (s.qualified.clone(), s.type_key, s.thread_local, s.writable)).collect();
        list.sort();
        list
    };
    assert!(functions(&four).len() > 5 && types(&four).len() > 5 && statics(&four).len() > 1);
    assert_eq!(functions(&four), functions(&five));
    assert_eq!(types(&four), types(&five));
    assert_eq!(statics(&four), statics(&five));
    assert_eq!(
        four.vtables.iter().map(|v| (&v.name, v.slots, v.place.is_some())).collect::<Vec<_>>(),
        [(&"<app::show::{closure_env#0} as core::ops::function::Fn<()>>".to_string(), 6, true)]
    );
    assert!(five.vtables.iter().all(|vtable| vtable.slots == 6 && vtable.place.is_some()));
}

#[test]
fn damaged_objects_give_errors_and_no_panic() {
    let good = build::bytes("damaged", "good", WORLD, &[]);
    for end in (0..good.len()).step_by(97) {
        let _ = read(&good[..end]);
    }
    // A small generator of its own keeps the run the same every time.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut read_anyway = 0;
    for _ in 0..3000 {
        let mut bad = good.clone();
        for _ in 0..4 {
            let at = next(bad.len());
            bad[at] = next(256) as u8;
        }
        if let Ok(object) = read(&bad) {
            read_anyway += 1;
            for def in &object.types {
                let _ = (object.describe(def), object.held_by_value(def), object.path(def));
            }
        }
    }
    assert!(read_anyway > 0, "no damaged object was read at all, so nothing behind the headers was tried");
}
