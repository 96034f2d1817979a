//! Whether a value of a type that looks different now can outlive the switch.
//!
//! A proof, in steps; each is a list of what stands against it, and all have to be empty:
//!
//! 1. *Kept nowhere.* In no object of the program does a static, a thread-local, an owner of memory (`Box`, `Vec`, `Arc`, any
//!    type of another crate but `core`'s), a union, or the state of an async function speak of the type, nor does a function of
//!    another crate that might put it somewhere. References count like values, and pointers to trait objects like all types
//!    that have a table for the trait.
//! 2. *Seen by the compiler alone.* No function that handles the type has `unsafe` in it or is foreign, and no macro of another
//!    crate made a part of it: only then does debug information say where values go.
//! 3. *Handled by replaced code alone.* Every old function that can call one that is handed the type is replaced or
//!    unchanged. What remains old (a stored closure, a removed function) and handles the type would go on making old values.
//! 4. *Nobody is at it.* At the switch no thread is inside a function that can call one that is handed the type. That is for
//!    the switch to see; it gets the list, and waits.
//!
//! Steps 1 to 3 are facts that the session gathers; here they are put into words.

use relive_wire::LiveAddr;

use crate::binary::types::{Holder, HolderKind};

use super::wording;

/// What was found about the changed types.
#[derive(Clone, Debug, Default)]
pub struct Liveness {
    /// Paths of the types that the proof is about.
    pub types: Vec<String>,
    /// Step 1: what may keep a value.
    pub holders: Vec<Holder>,
    /// Step 1: methods that take a value and stand in a table of trait objects or functions, by readable name.
    pub tabled: Vec<String>,
    /// Step 2: code that cannot be seen through: what, and why, as a clause.
    pub opaque: Vec<(String, String)>,
    /// Step 3: old functions that handle the type and stay as they are, by readable name.
    pub kept: Vec<String>,
    /// Objects about which nothing is known, and why, as a clause.
    pub unknown: Vec<String>,
    /// Step 4: functions that no thread may be inside.
    pub quiet: Vec<QuietFunction>,
    /// How many functions are handed the types.
    pub handlers: usize,
}

/// A function that no thread may be inside when the switch is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuietFunction {
    /// Its readable name.
    pub name: String,
    /// All its code that may be on a stack: first byte, and the first behind it.
    pub bodies: Vec<(LiveAddr, LiveAddr)>,
}

/// How many single obstacles a message names.
const NAMED: usize = 3;

impl Liveness {
    /// Whether no value can outlive a switch that keeps to step 4.
    #[must_use]
    pub fn is_proved(&self) -> bool {
        self.obstacles().is_empty()
    }

    /// What stands against it, as clauses; empty if nothing does.
    pub(super) fn obstacles(&self) -> Vec<String> {
        let mut found: Vec<String> = self.unknown.iter().map(|what| format!("nothing is known about {what}")).collect();
        let mut holders: Vec<&Holder> = self.holders.iter().collect();
        holders.sort_by_key(|holder| (rank(holder), holder.name.len()));
        found.extend(holders.into_iter().map(held));
        found.extend(self.tabled.iter().map(|name| format!("`{name}` takes one and is called through a table")));
        found.extend(
            self.kept.iter().map(|name| format!("the old `{name}` handles it and stays for those who hold it")),
        );
        found.extend(self.opaque.iter().map(|(name, why)| format!("`{name}` {why}")));
        found
    }

    /// What holds values alive, as the end of a sentence.
    pub(super) fn in_words(&self) -> String {
        let mut obstacles = self.obstacles();
        let more = obstacles.len().saturating_sub(NAMED);
        obstacles.truncate(NAMED);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        format!("{}{more}", obstacles.join("; "))
    }
}

/// Which holders a reader knows best: statics, then owners by their public names, then the parts that these are made of.
fn rank(holder: &Holder) -> u32 {
    let plain = wording::plain(&holder.name);
    let known =
        ["Vec<", "Box<", "Rc<", "Arc<", "HashMap<", "BTreeMap<", "VecDeque<", "HashSet<", "BTreeSet<", "Mutex<"];
    match holder.kind {
        HolderKind::Static | HolderKind::ThreadLocal => 0,
        _ if known.iter().any(|start| plain.starts_with(start)) => 1,
        HolderKind::Union | HolderKind::Coroutine => 2,
        _ if holder.name.contains(['{', '#']) || plain.starts_with("RawVec") => 4,
        HolderKind::Container | HolderKind::ForeignFunction => 3,
    }
}

fn held(holder: &Holder) -> String {
    let name = wording::plain(&holder.name);
    match holder.kind {
        HolderKind::Static => format!("the static `{name}` may hold one"),
        HolderKind::ThreadLocal => format!("the thread-local `{name}` may hold one"),
        HolderKind::Container => format!("a `{name}` may hold one"),
        HolderKind::Union => format!("the union `{name}` may hold one"),
        HolderKind::Coroutine => format!("the async state `{name}` may hold one"),
        HolderKind::ForeignFunction => format!("`{name}` of another crate is handed one"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(kind: HolderKind, name: &str) -> Holder {
        Holder { kind, name: name.into() }
    }

    #[test]
    fn nothing_against_it_is_a_proof() {
        assert!(Liveness::default().is_proved());
        let quiet = vec![QuietFunction { name: "app::tick".into(), bodies: Vec::new() }];
        assert!(Liveness { quiet, ..Liveness::default() }.is_proved(), "the switch sees to that");
    }

    #[test]
    fn each_step_alone_stands_against_it_and_says_what_it_is() {
        let of = |liveness: Liveness| {
            assert!(!liveness.is_proved());
            liveness.in_words()
        };
        let text = |name: &str| vec![name.to_owned()];
        let held = |kind, name| of(Liveness { holders: vec![holder(kind, name)], ..Liveness::default() });
        assert_eq!(held(HolderKind::Static, "app::LIST"), "the static `app::LIST` may hold one");
        assert_eq!(held(HolderKind::ThreadLocal, "app::ONE"), "the thread-local `app::ONE` may hold one");
        assert_eq!(
            held(HolderKind::Container, "alloc::vec::Vec<app::Item, alloc::alloc::Global>"),
            "a `Vec<app::Item>` may hold one"
        );
        assert_eq!(held(HolderKind::Union, "app::Bits"), "the union `app::Bits` may hold one");
        assert!(held(HolderKind::Coroutine, "app::run::{async_fn_env#0}").starts_with("the async state"));
        assert_eq!(
            held(HolderKind::ForeignFunction, "bytes::of<app::Item>"),
            "`bytes::of<app::Item>` of another crate is handed one"
        );
        let tabled = of(Liveness { tabled: text("app::Meter::visit"), ..Liveness::default() });
        assert_eq!(tabled, "`app::Meter::visit` takes one and is called through a table");
        let kept = of(Liveness { kept: text("app::make::{closure}"), ..Liveness::default() });
        assert_eq!(kept, "the old `app::make::{closure}` handles it and stays for those who hold it");
        let opaque = vec![("send".to_owned(), "has `unsafe` in it".to_owned())];
        assert_eq!(of(Liveness { opaque, ..Liveness::default() }), "`send` has `unsafe` in it");
        let unknown = of(Liveness { unknown: text("codegen unit `x`"), ..Liveness::default() });
        assert_eq!(unknown, "nothing is known about codegen unit `x`");
    }

    #[test]
    fn what_a_reader_knows_is_named_first() {
        let holders = [
            holder(HolderKind::Container, "alloc::raw_vec::RawVec<app::Item>"),
            holder(HolderKind::Container, "alloc::vec::Vec<app::Item>"),
            holder(HolderKind::Static, "app::LIST"),
        ];
        let words = Liveness { holders: holders.into(), ..Liveness::default() }.in_words();
        assert_eq!(
            words,
            "the static `app::LIST` may hold one; a `Vec<app::Item>` may hold one; a `RawVec<app::Item>` may hold one"
        );
    }

    #[test]
    fn parts_of_containers_come_after_containers_however_short_their_names() {
        let rank_of = |kind, name: &str| rank(&holder(kind, name));
        let container = |name: &str| rank_of(HolderKind::Container, name);
        assert!(container("alloc::vec::Vec<app::Item>") < container("bytes::Pool<app::Item>"));
        assert!(rank_of(HolderKind::Union, "app::Bits") < container("bytes::Pool<app::Item>"));
        assert!(container("bytes::Pool<app::Item>") < container("alloc::raw_vec::RawVec<app::Item>"));
        assert!(container("bytes::Pool<app::Item>") < container("bytes::{impl#3}::Pool<app::Item>"));
        assert!(rank_of(HolderKind::Static, "app::S") < container("alloc::vec::Vec<app::Item>"));
    }

    #[test]
    fn many_obstacles_are_counted() {
        let holders = ["a", "b", "c", "d", "e"].map(|name| holder(HolderKind::Static, name)).into();
        let words = Liveness { holders, ..Liveness::default() }.in_words();
        assert!(words.ends_with("the static `c` may hold one; and 2 more"), "{words}");
    }
}
