//! Where debug information says that values of a type may be: small programs through rustc, and what is found in their
//! objects.

#[path = "types/build.rs"]
mod build;

use build::object;
use relive::binary::types::{HolderKind, Occurrences, Sought};

/// What `source`, the crate `app`, says about `app::Item`.
fn occurrences(name: &str, source: &str, traits: &[&str]) -> Occurrences {
    let object = object(name, "one", source);
    let item = object.types.iter().find(|def| object.path(def) == "app::Item").expect("`app::Item` is described");
    object.occurrences(&Sought {
        keys: [item.key].into_iter().collect(),
        traits: traits.iter().map(|name| name.to_string()).collect(),
        own_crates: ["app".to_owned()].into_iter().collect(),
    })
}

/// The kinds of holders, each once.
fn holders(name: &str, source: &str) -> Vec<HolderKind> {
    let mut kinds: Vec<_> = occurrences(name, source, &[]).holders.into_iter().map(|holder| holder.kind).collect();
    kinds.dedup();
    kinds
}

const ITEM: &str = "#[derive(Clone, Copy)] pub struct Item { pub a: u64, pub b: u32 }\n";

fn with_item(rest: &str) -> String {
    format!("{ITEM}{rest}")
}

#[test]
fn values_on_the_stack_are_held_by_nothing() {
    let source = with_item(
        "pub struct Pair { left: Item, right: Option<Item> }
         pub fn make(n: u64) -> Item { Item { a: n, b: 1 } }
         pub fn both(n: u64) -> Result<Pair, (Item, u8)> {
             if n > 3 { Ok(Pair { left: make(n), right: None }) } else { Err((make(n), 1)) }
         }
         pub fn sum(items: &[Item; 4]) -> u64 { items.iter().map(|item| item.a).sum() }
         pub fn call(f: &dyn Fn(u64) -> u64) -> u64 { f(1) }
         pub fn borrowed(item: &Item) -> u64 { call(&|n| n) + item.a }",
    );
    assert_eq!(holders("values-stack", &source), []);
    let found = occurrences("values-stack", &source, &[]);
    let handed = |name: &str| found.handlers.iter().any(|handler| handler.linkage_name.contains(name));
    assert!(handed("make") && handed("both") && handed("sum") && handed("borrowed") && !handed("call"));
}

#[test]
fn statics_hold_what_they_reach() {
    assert_eq!(
        holders("values-static", &with_item("pub static ONE: Item = Item { a: 1, b: 2 };")),
        [HolderKind::Static]
    );
    let behind = "pub static MANY: std::sync::Mutex<Option<&'static Item>> = std::sync::Mutex::new(None);
                  pub fn f() -> bool { MANY.lock().unwrap().is_some() }";
    assert!(holders("values-behind", &with_item(behind)).contains(&HolderKind::Static));
    let local = "thread_local! { pub static T: std::cell::Cell<Option<Item>> = const { std::cell::Cell::new(None) }; }
                 pub fn f() -> bool { T.with(|t| t.get().is_some()) }";
    assert!(holders("values-local", &with_item(local)).contains(&HolderKind::ThreadLocal));
}

#[test]
fn owners_of_memory_hold_what_they_are_made_for() {
    for (name, what) in [
        ("vec", "pub fn f(v: &mut Vec<Item>) { v.push(Item { a: 1, b: 2 }) }"),
        ("box", "pub fn f() -> Box<Item> { Box::new(Item { a: 1, b: 2 }) }"),
        ("slice", "pub fn f(v: Box<[Item]>) -> usize { v.len() }"),
        ("rc", "pub fn f(v: &std::rc::Rc<(u8, Item)>) -> u64 { v.1.a }"),
        ("map", "pub fn f(v: &std::collections::BTreeMap<u8, &'static Item>) -> usize { v.len() }"),
        ("field", "pub struct Deep(Item); pub fn f(v: &std::sync::Arc<Deep>) -> u64 { v.0.a }"),
        ("closure", "pub fn f(item: Item) -> Box<dyn Fn() -> u64> { Box::new(move || { let whole = item; whole.a }) }"),
    ] {
        let found = holders(&format!("values-{name}"), &with_item(what));
        assert!(found.contains(&HolderKind::Container), "{name}: {found:?}");
    }
}

#[test]
fn unions_async_states_and_foreign_functions_are_told() {
    let union = "pub union Bits { item: Item, raw: [u64; 2] } pub fn f(bits: Bits) -> u64 { unsafe { bits.raw[0] } }";
    assert!(holders("values-union", &with_item(union)).contains(&HolderKind::Union));
    let state = "pub async fn g() {} pub async fn f(item: Item) -> u64 { g().await; item.a }
                 pub fn h() -> impl std::future::Future<Output = u64> { f(Item { a: 1, b: 2 }) }";
    assert!(holders("values-async", &with_item(state)).contains(&HolderKind::Coroutine));
    let moved = "pub fn f(item: Item) { std::thread::spawn(move || { let whole = item; whole.a }).join().ok(); }";
    assert!(holders("values-thread", &with_item(moved)).contains(&HolderKind::ForeignFunction));
}

#[test]
fn a_value_behind_a_trait_object_is_found_by_its_table() {
    let source = with_item(
        "pub trait Shape { fn area(&self) -> u64; }
         impl Shape for Item { fn area(&self) -> u64 { self.a } }
         pub struct Other; impl Shape for Other { fn area(&self) -> u64 { 1 } }
         pub fn add(all: &mut Vec<Box<dyn Shape>>, item: &'static Item) { all.push(Box::new(Other)); show(item); }
         pub fn show(shape: &dyn Shape) -> u64 { shape.area() }",
    );
    let first = occurrences("values-dyn", &source, &[]);
    assert!(first.traits.contains("app::Shape"), "{:?}", first.traits);
    assert!(!first.handlers.iter().any(|handler| handler.linkage_name.contains("show")));
    let second = occurrences("values-dyn", &source, &["app::Shape"]);
    assert!(second.holders.iter().any(|holder| holder.name.contains("dyn app::Shape")), "{:?}", second.holders);
    assert!(second.handlers.iter().any(|handler| handler.linkage_name.contains("show")));
}

#[test]
fn functions_that_are_generic_over_the_type_may_make_one_for_themselves() {
    let source = with_item(
        "pub trait Make { fn make(n: u64) -> Self; fn count(&self) -> u64; }
         impl Make for Item {
             fn make(n: u64) -> Item { Item { a: n, b: 1 } }
             fn count(&self) -> u64 { self.a }
         }
         pub fn run<T: Make>(n: u64) -> u64 { T::make(n).count() }
         pub fn show<T: Make>(item: &T) -> u64 { item.count() }
         pub fn f() -> u64 { run::<Item>(1) + show(&Item::make(2)) }",
    );
    let found = occurrences("values-generic", &source, &[]);
    let is_handed =
        |name: &str| found.handlers.iter().find(|handler| handler.linkage_name.contains(name)).unwrap().is_handed;
    assert!(is_handed("4make") && is_handed("5count") && is_handed("4show") && !is_handed("3run"));
}

#[test]
fn objects_of_a_trait_are_found_whatever_their_associated_types_are_written_like() {
    let source = with_item(
        "pub trait Shape { type Out; fn area(&self) -> Self::Out; }
         impl Shape for Item { type Out = u64; fn area(&self) -> u64 { self.a } }
         pub fn add(all: &mut Vec<&'static dyn Shape<Out = u64>>, item: &'static Item) { all.push(item); }",
    );
    let first = occurrences("values-assoc", &source, &[]);
    assert!(first.traits.contains("app::Shape"), "{:?}", first.traits);
    let second = occurrences("values-assoc", &source, &["app::Shape"]);
    assert!(second.holders.iter().any(|holder| holder.name.contains("dyn app::Shape")), "{:?}", second.holders);
}
