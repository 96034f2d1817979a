//! Each kind on a snippet and on the program's own sources, and the same edits for the same seed.

use super::*;

const SNIPPET: &str = r#"const LIMIT: usize = 3;
const LENGTH: usize = 4;
const TABLE: [u8; LENGTH] = [1, 2, 3, 4];
static START: u64 = 10;
type Wide = u32;
/// Lives in the state.
struct Kept { first: Wide, second_field: u64 }
/// Lives within one input.
enum Short { One, Two(u8) }
/// Objects of it are kept.
trait Objects { fn one(&self); fn two(&self) {} }
impl Kept { fn area(&self, by: u64) -> u64 { self.second_field * by } }
fn make(size: u64) -> Kept { let Kept { first, .. } = Kept { first: 1, second_field: size }; Kept { first, second_field: 9 } }
fn all(short: &Short) -> u64 {
    let kept = make(7);
    let add = move |x: u64| x + 1;
    match short { Short::One => kept.area(2), Short::Two(n) => add(u64::from(*n)) }
}
async fn wait() { core::future::ready(5).await; }
#[cfg(test)]
mod tests { fn never() -> u64 { 77 } }
"#;

fn package(text: &str) -> Vec<SourceFile> {
    vec![SourceFile { path: "a.rs".to_owned(), text: text.to_owned(), editable: true }]
}

/// The texts that a kind can make of a file, and what is known of them.
fn all_of(name: &str, text: &str) -> Vec<(String, Soundness)> {
    let package = package(text);
    let facts = read::facts(text).expect("it is Rust");
    let kind = KINDS.iter().find(|kind| kind.name == name).expect("a kind");
    let site = Site { package: &package, file: 0, text, facts: &facts, number: 6 };
    let candidates = (kind.find)(&site).into_iter();
    candidates.map(|candidate| (spliced(&package, &candidate.splices).remove(0).1, candidate.soundness)).collect()
}

/// Whether a kind makes this of the snippet: one text replaced by another, in all of `pairs`.
fn makes(name: &str, pairs: &[(&str, &str)], soundness: Soundness) -> bool {
    let wanted = pairs.iter().fold(SNIPPET.to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "{old}");
        text.replacen(old, new, 1)
    });
    all_of(name, SNIPPET).contains(&(wanted, soundness))
}

#[test]
fn every_kind_finds_something_and_leaves_rust() {
    for kind in &KINDS {
        let texts = all_of(kind.name, SNIPPET);
        assert!(!texts.is_empty(), "{} finds nothing", kind.name);
        for (text, _) in texts {
            assert_ne!(text, SNIPPET, "{}", kind.name);
            assert!(syn::parse_file(&text).is_ok(), "{} makes\n{text}", kind.name);
            assert!(text.contains("{ 77 }"), "{} edits what is not compiled", kind.name);
        }
    }
}

#[test]
fn values_change_where_they_stand() {
    assert!(makes("constant", &[("= 3;", "= 4;")], Soundness::Sound));
    assert!(makes("constant", &[("usize = 4;", "usize = 5;")], Soundness::Open));
    assert!(makes("const table", &[("[1, 2", "[1, 3")], Soundness::Sound));
    assert!(makes("static value", &[("= 10;", "= 11;")], Soundness::Sound));
    assert!(makes("literal", &[("make(7)", "make(8)")], Soundness::Sound));
    assert!(makes("operator", &[("x + 1", "x - 1")], Soundness::Sound));
    assert_eq!(all_of("literal", SNIPPET).len(), 6);
}

#[test]
fn a_signature_changes_with_its_callers() {
    let pairs = [("make(size: u64", "make(size: u64, _added_6: u64"), ("make(7", "make(7, 6")];
    assert!(makes("signature changed", &pairs, Soundness::Sound));
    let pairs = [("by: u64", "by: u64, _added_6: u64"), ("area(2", "area(2, 6")];
    assert!(makes("signature changed", &pairs, Soundness::Sound));
    assert!(all_of("signature changed", "fn f(x: u8) {} fn g() { f(1); let h = f; }").is_empty());
}

#[test]
fn a_field_is_added_to_every_literal() {
    let pairs = [
        ("Kept { first: W", "Kept { added_6: u64,\n    first: W"),
        ("Kept { first: 1", "Kept { added_6: 6, first: 1"),
        ("Kept { first, s", "Kept { added_6: 6, first, s"),
    ];
    assert!(makes("field added", &pairs, Soundness::Unsound));
    let pairs = [("first: Wide, second_field: u64", "second_field: u64, first: Wide")];
    assert!(makes("fields swapped", &pairs, Soundness::Open));
    let renamed = all_of("field renamed", SNIPPET);
    assert_eq!(renamed.first().map(|(text, _)| text.matches("second_field_6").count()), Some(4));
    assert!(makes("retyped", &[("= u32", "= u64")], Soundness::Open));
}

#[test]
fn a_variant_is_added_to_every_match() {
    let pairs = [
        ("One, Two", "#[allow(dead_code)]\n    Added6,\n    One, Two"),
        ("u64::from(*n)) }", "u64::from(*n)) , Short::Added6 => unreachable!(), }"),
    ];
    assert!(makes("variant added", &pairs, Soundness::Sound));
    assert!(makes(
        "trait methods swapped",
        &[("fn one(&self); fn two(&self) {}", "fn two(&self) {} fn one(&self);")],
        Soundness::Open
    ));
    assert!(all_of("trait method added", SNIPPET).iter().all(|(_, soundness)| *soundness == Soundness::Unsound));
}

#[test]
fn closures_and_futures_get_more_to_keep() {
    let pairs = [
        ("let add", "let captured_6 = core::hint::black_box(6_u64); let add"),
        ("x + 1", "{ core::hint::black_box(captured_6); x + 1 }"),
    ];
    assert!(makes("capture added", &pairs, Soundness::Open));
    assert!(makes("await inserted", &[("core::", "core::future::ready(()).await; core::")], Soundness::Open));
    assert_eq!(all_of("local across await", SNIPPET).len(), 1);
}

#[test]
fn a_seed_gives_the_same_edits() {
    let edits = |seed| {
        let (mut rng, packages) = (Rng::new(seed, 0), vec![package(SNIPPET)]);
        (0..30).map(|number| choose(&packages, &mut rng, number)).collect::<Option<Vec<Edit>>>().expect("edits")
    };
    assert_eq!(edits(1), edits(1));
    assert_ne!(edits(1), edits(2));
    let kinds: std::collections::BTreeSet<_> = edits(1).iter().map(|edit| edit.kind).collect();
    assert!(kinds.len() > 10);
}

#[test]
fn an_edit_ends_nothing_that_it_does_not_touch() {
    let package = package("ab\n");
    let splices =
        [Splice { file: 0, place: 2..2, text: "c".to_owned() }, Splice { file: 0, place: 0..1, text: String::new() }];
    assert_eq!(spliced(&package, &splices), [("a.rs".to_owned(), "bc\n".to_owned())]);
}
