//! The judge's finer points on real objects: which of several types or statics of one path are the same, which type is
//! the cause of a change, in which order reasons come. Each test is a condition in the judge that nothing else tests.

#[path = "types/build.rs"]
mod build;

use build::{object, object_with};
use relive::binary::object::NameId;
use relive::binary::types::{ObjectTypes, Static};
use relive::judge::{
    ChangedStatic, DeltaFacts, Facts, FullThreadReserve, Item, NoThreadStorage, SourceCrate, Sources, TypeSet, Verdict,
    judge, place,
};

fn judged(old: &[&ObjectTypes], new: &[&ObjectTypes], delta: DeltaFacts) -> Vec<String> {
    let facts = Facts::new(old.to_vec(), new.to_vec(), delta);
    match judge(&facts) {
        Verdict::Accepted(notes) => {
            assert!(notes.is_empty());
            Vec::new()
        }
        Verdict::Refused(reasons) => {
            assert!(!reasons.is_empty());
            reasons.iter().map(|reason| format!("{}: {}", reason.rule, reason.message)).collect()
        }
    }
}

/// What is said when the source `old` becomes `new`.
#[track_caller]
fn check(name: &str, old: &str, new: &str, expected: &[&str]) {
    let (old, new) = (object(name, "old", old), object(name, "new", new));
    assert_eq!(judged(&[&old], &[&new], DeltaFacts::default()), expected);
}

/// Two impls, each with a type `Local` in its method: one path without the numbers.
fn locals(first: &str, second: &str) -> String {
    format!(
        "pub struct A; pub struct B;
         impl A {{ pub fn go(&self) -> u64 {{ {first} }} }}
         impl B {{ pub fn go(&self) -> u64 {{ {second} }} }}"
    )
}

fn local(width: &str) -> String {
    format!("struct Local {{ a: {width} }} let l = Box::new(Local {{ a: 1 }}); std::hint::black_box(&l).a as u64")
}

#[test]
fn one_of_two_types_of_one_path_changes() {
    let text = |name: &str, width: u32| {
        format!(
            "type-layout: `app::{{impl#{name}}}::go::Local` grew from 1 to {width} bytes: \
             field `a` was `u8` and is `u16`, its alignment is 2 and was 1"
        )
    };
    let (same, wider) = (local("u8"), local("u16"));
    check("first-of-two", &locals(&same, &same), &locals(&wider, &same), &[&text("0", 2)]);
    check("second-of-two", &locals(&same, &same), &locals(&same, &wider), &[&text("1", 2)]);
}

#[test]
fn types_of_numbered_impls_that_change_places_are_told_unless_only_the_numbers_moved() {
    let (small, large) = (local("u8"), local("u16"));
    let inserted = "impl A { pub fn more(&self) {} } ";
    let moved = |first: &str, second: &str| {
        let text = locals(first, second);
        let at = text.find("impl A").expect("an impl");
        format!("{}{inserted}{}", &text[..at], &text[at..])
    };
    let old = object("numbers", "old", &locals(&small, &large));
    let told = |name: &str, text: &str| judged(&[&old], &[&object("numbers", name, text)], DeltaFacts::default()).len();
    assert_eq!(told("same", &locals(&small, &large)), 0);
    assert_eq!(told("swapped", &locals(&large, &small)), 1);
    assert_eq!(told("moved", &moved(&small, &large)), 0);
    assert_eq!(told("moved-and-copied", &moved(&small, &small)), 1);
    assert_eq!(told("copied", &locals(&small, &small)), 1);
}

#[test]
fn a_further_type_of_a_known_path_is_no_change() {
    let (old, new) = (locals(&local("u8"), "3"), locals(&local("u8"), &local("u32")));
    check("one-more", &old, &new, &[]);
    check("one-less", &new, &old, &[]);
    // The same type in two objects is one type.
    let (old, new) = (object("twice", "old", &old), object("twice", "new", &new));
    assert_eq!(judged(&[&old, &old], &[&new], DeltaFacts::default()), Vec::<String>::new());
}

#[test]
fn objects_that_disagree_about_a_type_are_all_heard() {
    let one = |width: &str| {
        let text = format!("pub struct T {{ a: {width} }} pub fn f(t: &T) -> u64 {{ t.a as u64 }}");
        object("disagree", width, &text)
    };
    let (four, eight, sixteen) = (one("u32"), one("u64"), one("u128"));
    assert_eq!(
        judged(&[&four, &eight], &[&eight, &sixteen], DeltaFacts::default()),
        ["type-layout: `app::T` grew from 4 to 16 bytes: field `a` was `u32` and is `u128`, \
          its alignment is 16 and was 4"]
    );
}

#[test]
fn the_type_of_the_very_same_path_is_what_a_type_is_compared_with() {
    let one = |name: &str, first: &str, second: &str| object("very-same", name, &locals(first, second));
    let (old_first, old_second) = (one("a", &local("u8"), "3"), one("b", "3", &local("u16")));
    let (new_first, new_second) = (one("c", &local("u32"), "3"), one("d", "3", &local("u64")));
    assert_eq!(
        judged(&[&old_first, &old_second], &[&new_second, &new_first], DeltaFacts::default()),
        ["type-layout: `app::{impl#0}::go::Local` grew from 1 to 4 bytes: field `a` was `u8` and is `u32`, \
          its alignment is 4 and was 1"]
    );
}

#[test]
fn a_type_that_is_packed_is_the_cause_although_it_holds_others() {
    let text = |repr: &str| {
        format!(
            "#[derive(Clone, Copy)] pub struct Inner {{ x: u32 }}
             #[repr({repr})] pub struct P {{ a: u8, b: Inner }} pub fn f(p: &P) -> u32 {{ let b = p.b; b.x }}"
        )
    };
    let expected =
        "type-layout: `app::P` shrank from 8 to 5 bytes: `b` moved from 4 to 1, its alignment is 1 and was 4";
    check("packed-around", &text("C"), &text("C, packed"), &[expected]);
}

#[test]
fn a_type_that_changes_itself_and_holds_a_changed_one_is_a_cause_too() {
    let text = |inner: &str, outer: &str| {
        format!(
            "pub struct Inner {{ x: u32 {inner} }} pub struct Outer {{ inner: Inner, {outer} }}
             pub fn f(outer: &Outer) -> u32 {{ outer.inner.x }}"
        )
    };
    check(
        "both",
        &text("", ""),
        &text(", y: u32", "more: u32"),
        &[
            "type-layout: `app::Inner` grew from 4 to 8 bytes: new field `y: u32` at offset 4",
            "type-layout: `app::Outer` grew from 4 to 12 bytes: new field `more: u32` at offset 8, \
             field `inner: app::Inner` takes 8 bytes and took 4",
        ],
    );
}

#[test]
fn causes_come_in_order_each_with_its_own_consequences() {
    let text = |more: &str| {
        let of = |name: &str| {
            format!(
                "pub struct {name} {{ x: u32 {more} }} pub struct Outer{name}<T> {{ inner: {name}, t: T }}
                 pub fn f{name}(a: &Outer{name}<u8>, b: &Outer{name}<u16>) -> u32 {{ a.inner.x + b.inner.x + a.t as u32 + b.t as u32 }}"
            )
        };
        ["E", "A", "D", "B", "C"].map(of).concat()
    };
    let expected = ["A", "B", "C", "D", "E"].map(|name| {
        format!(
            "type-layout: `app::{name}` grew from 4 to 8 bytes: new field `y: u32` at offset 4, \
             which makes `app::Outer{name}` change too"
        )
    });
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    check("in-order", &text(""), &text(", y: u32"), &expected);
}

#[test]
fn many_consequences_are_counted() {
    let text = |more: &str, outer: &[&str]| {
        let of =
            |name: &&str| format!("pub struct {name} {{ inner: T }} pub fn f{name}(a: &{name}) -> u8 {{ a.inner.x }}");
        format!("pub struct T {{ x: u8 {more} }} {}", outer.iter().map(of).collect::<String>())
    };
    let cause = "type-layout: `app::T` grew from 1 to 2 bytes: new field `y: u8` at offset 1";
    let two = format!("{cause}, which makes `app::A` and `app::B` change too");
    check("two", &text("", &["A", "B"]), &text(", y: u8", &["A", "B"]), &[&two]);
    let four = format!("{cause}, which makes `app::A`, `app::B` and 2 more change too");
    let all = ["A", "B", "C", "D"];
    check("four", &text("", &all), &text(", y: u8", &all), &[&four]);
}

/// Two impls, each with a static `S` in its method.
fn statics(first: &str, second: &str) -> String {
    let one = |of: &str| match of {
        "" => "3".to_owned(),
        of => format!("static S: {of} = {of}::new(1); S.load(std::sync::atomic::Ordering::Relaxed) as u64"),
    };
    format!("use std::sync::atomic::*; {}", locals(&one(first), &one(second)))
}

#[test]
fn of_statics_of_one_path_one_has_to_go_and_another_to_come() {
    check("static-more", &statics("AtomicU32", ""), &statics("AtomicU32", "AtomicU64"), &[]);
    check("static-less", &statics("AtomicU32", "AtomicU64"), &statics("", "AtomicU64"), &[]);
    check(
        "static-instead",
        &statics("AtomicU32", "AtomicU64"),
        &statics("AtomicU8", "AtomicU64"),
        &["static-type: `app::{impl#0}::go::S` was `AtomicU32` and is `AtomicU8`"],
    );
}

const NUMBERED: &str = "`app::{impl#0}::go::S`";

#[test]
fn types_of_two_blocks_that_change_places_are_told() {
    let text = |first: &str, second: &str| {
        format!("pub fn go() -> u64 {{ let a = {{ {first} }}; let b = {{ {second} }}; a + b }}")
    };
    let (small, large) = (local("u8"), local("u16"));
    let told = "type-layout: `app::go::Local` grew from 1 to 2 bytes: field `a` was `u8` and is `u16`, \
                its alignment is 2 and was 1";
    check("blocks-exchanged", &text(&small, &large), &text(&large, &small), &[told]);
    check("blocks-as-they-were", &text(&small, &large), &text(&small, &large), &[]);
}

/// An object of the codegen unit `unit`, with a function that has a block with a type `Local` for each of `widths`.
fn unit_of_blocks(test: &str, unit: &str, widths: &[&str]) -> ObjectTypes {
    let blocks: String = widths.iter().map(|width| format!("sum += {{ {} }};", local(width))).collect();
    let version = format!("{unit}-{}", widths.join("-"));
    let text = format!("pub fn go() -> u64 {{ let mut sum = 0; {blocks} sum }}");
    object_with(test, &version, &text, &[&format!("-Cmetadata={unit}")])
}

#[test]
fn codegen_units_that_became_each_other_are_told() {
    let [a, b, a_then, b_then] = [("a", "u8"), ("b", "u16"), ("a", "u16"), ("b", "u8")]
        .map(|(unit, width)| unit_of_blocks("units-exchanged", unit, &[width]));
    assert_eq!(judged(&[&a, &b], &[&b, &a], DeltaFacts::default()), Vec::<String>::new());
    let told = judged(&[&a, &b], &[&a_then, &b_then], DeltaFacts::default());
    assert!(told.len() == 1 && told[0].starts_with("type-layout: `app::go::Local`"), "{told:?}");
}

#[test]
fn types_of_one_path_may_move_from_unit_to_unit() {
    let unit = |unit: &str, widths: &[&str]| unit_of_blocks("units-of-blocks", unit, widths);
    let (a, b) = (unit("a", &["u8"]), unit("b", &["u16", "u32"]));
    let together = unit("b", &["u16", "u32", "u8"]);
    assert_eq!(judged(&[&a, &b], &[&together], DeltaFacts::default()), Vec::<String>::new());
    assert_eq!(judged(&[&together], &[&a, &b], DeltaFacts::default()), Vec::<String>::new());
    // In the unit that has them before and after, their order counts.
    let turned = unit("b", &["u32", "u16", "u8"]);
    assert_eq!(judged(&[&a, &b], &[&turned], DeltaFacts::default()).len(), 1);
}

#[test]
fn a_static_keeps_its_storage_only_for_its_own_type() {
    let text = |first: &str, second: &str| {
        let method = |of: &str, width: &str| {
            format!(
                "impl {of} {{ pub fn go(&self) -> u64 {{
                     struct Local {{ a: {width}, b: u64 }}
                     static S: std::sync::Mutex<Local> = std::sync::Mutex::new(Local {{ a: 1, b: 2 }});
                     let local = S.lock().unwrap(); local.a as u64 + local.b
                 }} }}"
            )
        };
        format!("pub struct A; pub struct B; {} {}", method("A", first), method("B", second))
    };
    let (old, new) = (object("own-type", "old", &text("u8", "u64")), object("own-type", "new", &text("u8", "u64")));
    let [one, two] = old.statics.as_slice() else { panic!("{:?}", old.statics) };
    let named = |of: &Static| NameId::of(&of.linkage_name);
    let renamed = |pairs: &[(&Static, Option<&Static>)]| {
        let renamed = pairs.iter().map(|(new, old)| (named(new), old.map(named))).collect();
        judged(&[&old], &[&new], DeltaFacts { renamed_statics: renamed, ..DeltaFacts::default() })
    };
    assert!(renamed(&[]).is_empty());
    assert!(renamed(&[(one, None), (two, None)]).is_empty());
    let crossed = renamed(&[(one, Some(two)), (two, Some(one))]);
    let [first, second] = crossed.as_slice() else { panic!("{crossed:?}") };
    assert!(first.starts_with("static-type: ") && second.starts_with("static-type: "), "{crossed:?}");
}

#[test]
fn what_an_object_says_is_told_from_what_others_said() {
    let said = |text: &str| object("said", "one", text).statements();
    let text = |field: &str, value: u8, more: &str| {
        format!(
            "pub struct World {{ name: String {field} }}
             pub fn len(world: &World) -> usize {{ world.name.len() + {value} }} {more}"
        )
    };
    let first = said(&text("", 1, ""));
    assert_eq!(said(&text("", 2, "")), first);
    for (name, field, more) in [
        ("field", ", at: u8", ""),
        ("function", "", "pub fn more(world: &mut World) { world.name.clear() }"),
        ("static", "", "pub static HELD: std::sync::Mutex<Vec<World>> = std::sync::Mutex::new(Vec::new());"),
    ] {
        assert!(!said(&text(field, 1, more)).is_subset(&first), "{name}");
    }
}

#[test]
fn a_type_of_which_only_the_path_is_known_is_refused() {
    let delta = DeltaFacts { forgotten_types: vec!["app::Pair<app::World>".into()], ..DeltaFacts::default() };
    let told =
        "type-layout: `app::Pair<app::World>` left the program by an earlier edit and comes back looking different";
    assert_eq!(judged(&[], &[], delta), [told]);
}

#[test]
fn a_static_is_told_once() {
    let (old, new) = (statics("AtomicU32", ""), statics("AtomicU64", ""));
    let (old, new) = (object("told-once", "old", &old), object("told-once", "new", &new));
    let item = Item::named("app::{impl#0}::go::S");
    let changed = |item| ChangedStatic {
        item,
        old_size: 4,
        new_size: 8,
        initialiser_changed: false,
        renewed: false,
        in_new_code: false,
    };
    let changed_statics = vec![changed(item), changed(Item::named("app::OTHER"))];
    assert_eq!(
        judged(&[&old], &[&new], DeltaFacts { changed_statics, ..DeltaFacts::default() }),
        [
            format!("static-type: {NUMBERED} was `AtomicU32` and is `AtomicU64`"),
            "static-type: `app::OTHER` has 4 bytes of storage and would need 8".to_owned(),
        ]
    );
}

#[test]
fn a_static_whose_type_grows_is_told_beside_the_type() {
    let text = |more: &str, value: &str| {
        format!(
            "pub struct W {{ a: u32 {more} }} pub static ALL: W = W {{ a: 1 {value} }};
             pub fn f() -> u32 {{ let at = &raw const ALL; unsafe {{ at.read_volatile() }}.a }}"
        )
    };
    check(
        "static-grows",
        &text("", ""),
        &text(", b: u32", ", b: 2"),
        &[
            "type-layout: `app::W` grew from 4 to 8 bytes: new field `b: u32` at offset 4",
            "static-type: `app::ALL` had 4 bytes and has 8: its type `app::W` changed",
        ],
    );
}

#[test]
fn statics_come_in_order_and_what_stays_read_only_may_stay() {
    let text = |of: &str, limit: u32| {
        let one = |name: &str| format!("pub static {name}: std::sync::atomic::{of} = std::sync::atomic::{of}::new(1);");
        let read = "pub static LIMIT: u64 = 5; pub fn limit() -> u64 { let at = &raw const LIMIT; let limit = unsafe { at.read_volatile() }; limit";
        format!("{} {read} + {limit} }}", ["E", "A", "D", "B", "C"].map(one).concat())
    };
    let expected =
        ["A", "B", "C", "D", "E"].map(|name| format!("static-type: `app::{name}` was `AtomicU8` and is `AtomicU16`"));
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    check("statics-in-order", &text("AtomicU8", 1), &text("AtomicU16", 2), &expected);
    check("read-only", &text("AtomicU8", 1), &text("AtomicU8", 2), &[]);
}

#[test]
fn thread_locals_without_storage_are_told_by_their_name_in_the_source() {
    let item = |name: &str| Item::named(format!("{name}::{{constant#0}}::{{closure#0}}::VAL"));
    let why = "it is aligned to 4096 bytes, and 128 are possible".to_owned();
    let delta = DeltaFacts {
        without_thread_storage: vec![NoThreadStorage { item: item("app::PAGE"), why }],
        thread_reserve_full: vec![FullThreadReserve { item: item("app::TABLE"), size: 9000, used: 0, total: 8176 }],
        ..DeltaFacts::default()
    };
    assert_eq!(
        judged(&[], &[], delta),
        [
            "new-thread-local: `app::PAGE` is a new thread-local without storage: it is aligned to 4096 bytes, and 128 \
             are possible",
            "tls-reserve-full: `app::TABLE` needs 9000 bytes in every thread; 0 of the 8176 for new thread-locals are \
             used and 8176 are left",
        ]
    );
}

#[test]
fn variables_functions_and_types_are_placed() {
    let text = |more: &str| {
        format!(
            "pub struct World {{\n    a: u8,\n    {more}\n}}\n\npub static ALL: std::sync::atomic::Atomic{} = \
             std::sync::atomic::Atomic{0}::new(1);\nimpl World {{\n    pub fn tick(&self) -> u8 {{ self.a }}\n}}\n",
            if more.is_empty() { "U8" } else { "U16" }
        )
    };
    let new_text = text("b: u64,");
    let (old, new) = (object("placed", "old", &text("")), object("placed", "new", &new_text));
    let delta = DeltaFacts {
        altered_entries: ["app::World::tick", "app::World::gone"].map(Item::named).to_vec(),
        unsplit_code: vec![Item { line: Some(77), ..Item::named("app::World::tick") }],
        ..DeltaFacts::default()
    };
    let Verdict::Refused(mut reasons) = judge(&Facts::new(vec![&old], vec![&new], delta)) else { panic!("accepted") };
    let read = |path: &std::path::Path| (path.to_str() == Some("/p/lib.rs")).then(|| new_text.clone());
    let app = SourceCrate { name: "app".into(), root: "/p/lib.rs".into() };
    place(
        &mut reasons,
        &TypeSet { objects: vec![&new] },
        &Sources { crates: vec![app], manifests: Vec::new(), read: &read },
    );
    let placed: Vec<_> = reasons
        .iter()
        .map(|reason| {
            let file = reason.file.as_ref().and_then(|file| file.file_name()).unwrap_or_default();
            format!("{} {}:{}", reason.rule, file.display(), reason.line.unwrap_or(0))
        })
        .collect();
    assert_eq!(
        placed,
        [
            "type-layout lib.rs:3",
            "static-type app.rs:6",
            "unsplit-code :77",
            "entry-altered app.rs:8",
            "entry-altered :0"
        ]
    );
}
