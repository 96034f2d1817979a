//! Signatures of functions on real objects: which old and new functions may call each other.

#[path = "types/build.rs"]
mod build;

use build::{object, object_with};
use relive::binary::types::ObjectTypes;

/// The signature hashes of the functions whose path without numbers ends in `end`, in the order of the source.
fn signatures(object: &ObjectTypes, end: &str) -> Vec<u64> {
    let mut found: Vec<_> = object.functions.iter().filter(|function| function.erased.ends_with(end)).collect();
    found.sort_by_key(|function| (function.line, &function.qualified));
    assert!(!found.is_empty(), "no function ends in {end}");
    found.iter().map(|function| function.abi).collect()
}

#[track_caller]
fn same(name: &str, end: &str, old: &str, new: &str) {
    assert_eq!(signatures(&object(name, "old", old), end), signatures(&object(name, "new", new), end));
}

#[track_caller]
fn differ(name: &str, end: &str, old: &str, new: &str) {
    let (old, new) = (signatures(&object(name, "old", old), end), signatures(&object(name, "new", new), end));
    assert!(old.iter().all(|abi| !new.contains(abi)), "{old:x?} {new:x?}");
}

#[test]
fn parameters_and_results_count_and_bodies_do_not() {
    same("plain", "::f", "pub fn f(a: u32) -> u32 { a }", "pub fn f(b: u32) -> u32 { let c = b + 1; c * 2 }");
    differ("param", "::f", "pub fn f(a: u32) -> u32 { a }", "pub fn f(a: u64) -> u32 { a as u32 }");
    differ("more", "::f", "pub fn f(a: u32) -> u32 { a }", "pub fn f(a: u32, b: u32) -> u32 { a + b }");
    differ("result", "::f", "pub fn f(a: u32) -> u32 { a }", "pub fn f(a: u32) -> u64 { a as u64 }");
    differ(
        "order",
        "::f",
        "pub fn f(a: u8, b: u64) -> u64 { a as u64 + b }",
        "pub fn f(b: u64, a: u8) -> u64 { a as u64 + b }",
    );
}

#[test]
fn parameters_without_name_count() {
    differ("unused", "::f", "pub fn f(_: u32, x: u64) -> u64 { x }", "pub fn f(_: u128, x: u64) -> u64 { x }");
    differ("pattern", "::f", "pub fn f((a, _): (u8, u8)) -> u8 { a }", "pub fn f((a, _): (u8, u64)) -> u8 { a }");
}

#[test]
fn references_pointers_and_function_pointers_are_told_apart() {
    let text = |of: &str| format!("pub fn f(x: {of}) -> usize {{ size_of_val(&x) }}");
    let kinds =
        ["&u8", "&mut u8", "*const u8", "*mut u8", "fn(u8)", "fn(u16)", "&[u8]", "[u8; 4]", "[u8; 5]", "&dyn Fn(u8)"];
    for (index, one) in kinds.iter().enumerate() {
        for other in kinds.iter().skip(index + 1) {
            differ("kinds", "::f", &text(one), &text(other));
        }
    }
}

#[test]
fn named_types_count_by_name_and_not_by_layout() {
    let text = |field: &str| format!("pub struct W {{ a: u32 {field} }} pub fn f(w: W) -> u32 {{ w.a }}");
    same("named", "::f", &text(""), &text(", b: u64"));
}

#[test]
fn types_that_only_a_number_tells_apart_count_by_what_they_hold() {
    let text = |of: &str, field: &str| {
        format!(
            "pub struct A; impl A {{ pub fn go(&self) -> u8 {{
                 struct Local {{ a: u8 {field} }} fn f(w: {of}) -> u8 {{ w.a }} let mut w = Local {{ a: 1, ..DEFAULT }};
                 const DEFAULT: Local = unsafe {{ std::mem::zeroed() }};
                 f({}) }} }}",
            if of == "Local" { "w" } else { "&mut w" }
        )
    };
    for of in ["Local", "&mut Local"] {
        differ("local", "go::f", &text(of, ""), &text(of, ", b: u8"));
        same("local", "go::f", &text(of, ""), &text(of, ""));
    }
}

#[test]
fn closures_count_by_what_they_capture() {
    let text = |before: &str, body: &str| {
        format!(
            "pub fn make(n: u64, s: String) -> Vec<Box<dyn Fn(u64) -> u64>> {{
                 vec![{before} Box::new(move |x| {body})]
             }}"
        )
    };
    let plain = text("", "x + n");
    same("body", "make::{closure}", &plain, &text("", "{ let y = x * 2; y + n * 3 }"));
    differ("capture", "make::{closure}", &plain, &text("", "x + n + s.len() as u64"));
    // The numbers shift when a closure is written before it; signatures do not.
    let shifted = object("shift", "new", &text("Box::new(|x| x),", "x + n"));
    let found = signatures(&shifted, "make::{closure}");
    assert_eq!(found.len(), 2);
    assert!(found.contains(&signatures(&object("shift", "old", &plain), "make::{closure}")[0]));
}

#[test]
fn closures_called_by_value_count_by_the_places_of_their_captures() {
    let text = |body: &str| {
        format!(
            "pub fn make(a: u64, b: u64, s: String) -> Box<dyn FnOnce(u64) -> u64> {{ Box::new(move |x| {{ {body} drop(s); x }}) }}"
        )
    };
    let use_of = |names: [&str; 2]| names.map(|name| format!("let _ = std::hint::black_box({name});")).join("");
    same(
        "once",
        "make::{closure}",
        &text(&use_of(["a", "b"])),
        &text(&format!("let z = 3u64; {} let _ = z;", use_of(["a", "b"]))),
    );
    differ("once-swapped", "make::{closure}", &text(&use_of(["a", "b"])), &text(&use_of(["b", "a"])));
}

#[test]
fn closures_with_patterns_as_parameters_keep_their_signature() {
    let text = |body: &str| {
        format!("pub fn sum(list: &[(u32, u8)], by: u32) -> u32 {{ list.iter().map(|&(a, (b))| {{ {body} }}).sum() }}")
    };
    same("patterns", "sum::{closure}", &text("a * by + b as u32"), &text("let c = [a, b as u32]; c[0] + c[1] * by"));
}

#[test]
fn functions_over_closures_count_by_the_captures_too() {
    let text = |capture: &str| {
        format!(
            "pub struct Holder<F> {{ f: F, n: u32 }} pub fn run<F: Fn() -> u32>(holder: &Holder<F>) -> u32 {{ (holder.f)() + holder.n }}
             pub fn go(a: u32, b: u32) -> u32 {{ run(&Holder {{ f: move || {capture}, n: 1 }}) }}"
        )
    };
    same("over", "run<app::go::{closure_env}>", &text("a + 1"), &text("a + 2"));
    differ("over-more", "run<app::go::{closure_env}>", &text("a + 1"), &text("a + b"));
}

#[test]
fn generic_types_over_closures_count_with_their_own_fields() {
    let text = |field: &str| {
        format!(
            "#[derive(Default)] pub struct Holder<F> {{ f: F, n: u32 {field} }}
             pub fn run<F: Fn() -> u32>(holder: &Holder<F>) -> u32 {{ (holder.f)() + holder.n }}
             pub fn go<F: Fn() -> u32>(mut holder: Holder<F>) -> u32 {{ holder.n += 1; run(&holder) }}
             pub fn make(a: u32, go: fn(u32) -> u32) -> u32 {{ go(a) }}
             pub fn top(a: u32) -> u32 {{ let f = move || a; go(Holder {{ f, n: 1 {} }}) }}",
            if field.is_empty() { "" } else { ", m: 0" }
        )
    };
    differ("own", "run<app::top::{closure_env}>", &text(""), &text(", m: u64"));
}

#[test]
fn function_items_are_not_taken_for_function_pointers() {
    let text = |how: &str| {
        format!(
            "pub fn id(x: u32) -> u32 {{ x }} pub fn run<F: Fn(u32) -> u32>(f: F) -> u32 {{ f(1) }}
             pub fn go() -> u32 {{ run({how}) }}"
        )
    };
    differ("items", "run<fn(u32) -> u32>", &text("id"), &text("id as fn(u32) -> u32"));
    same("items-same", "run<fn(u32) -> u32>", &text("id"), &text("{ let _ = 1; id }"));
}

#[test]
fn async_functions_count_by_their_states() {
    let text = |locals: &str, middle: &str| {
        format!(
            "pub async fn pause() {{}} pub async fn session(id: u64) -> u64 {{ {locals} {middle} pause().await; a + b * 10 + id }}"
        )
    };
    let plain = text("let a = id; let b = id + 1;", "");
    let ends = ["session::{async_fn}", "session", "drop_in_place<app::session::{async_fn_env}>"];
    let drive = "pub fn drive() { drop(session(3)); let mut f = Box::pin(session(4)); let mut c = std::task::Context::from_waker(std::task::Waker::noop()); let _ = std::future::Future::poll(f.as_mut(), &mut c); }";
    let full = |text: &str| format!("{text} {drive}");
    for end in ends {
        same("async", end, &full(&plain), &full(&text("let a = id * 7; let b = id + 2;", "if a == b { println!(); }")));
        differ("async-swapped", end, &full(&plain), &full(&text("let b = id + 1; let a = id;", "")));
        differ("async-more", end, &full(&plain), &full(&text("let a = id; let b = id + 1;", "pause().await;")));
    }
}

#[test]
fn v0_names_do_not_change_the_answer() {
    let v0 = |version: &str, text: &str| object_with("v0", version, text, &["-Csymbol-mangling-version=v0"]);
    let old = v0("old", "pub fn f(_: u32, x: u64) -> u64 { x }");
    let new = v0("new", "pub fn f(_: u128, x: u64) -> u64 { x }");
    assert_eq!(old.functions[0].linkage_name, new.functions[0].linkage_name);
    assert_ne!(old.functions[0].abi, new.functions[0].abi);
}

#[test]
fn exported_functions_are_known_by_their_own_name() {
    let object = object("exported", "one", "#[unsafe(no_mangle)] pub extern \"C\" fn plain_name(x: i32) -> i32 { x }");
    assert_eq!(object.functions[0].linkage_name, "plain_name");
    assert_eq!(object.functions[0].qualified, "app::plain_name");
}
