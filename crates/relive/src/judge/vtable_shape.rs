//! Rule `vtable-shape`: the method table of a trait's objects has other entries or another order.

use rustc_hash::FxHashMap;

use super::matching::{self, Change};
use super::rule::{Reason, Rule};
use super::{Facts, Item, Vtable, VtableSlot};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "vtable-shape",
    title: "The method table of trait objects has other entries or another order",
    what: "A trait that is used through `dyn Trait` got a method, lost one, or its methods changed places in the source.",
    why: "A trait object carries a pointer to a table of functions, and code calls the n-th of them. Objects that are \
          alive have the old table; new code would call by the new numbers and reach another method.",
    example: "```rust\ntrait Animal {\n    // fn legs(&self) -> u32;   removed\n    fn name(&self) -> String;\n}\n```\n\n\
              > objects of trait `app::Animal` had 2 methods in their table and have 1: `legs` is gone",
    fix: "Leave the methods of the trait in their order while the program runs. A new method can go into another trait. \
          Or restart with the edit.",
};

/// Words of every table before the methods: drop, size, align.
const HEAD: u64 = 3;

pub(super) fn check(facts: &Facts, reasons: &mut Vec<Reason>) {
    let mut told: Vec<String> = Vec::new();
    for (name, old, new) in pairs(&facts.delta.old_vtables, &facts.delta.new_vtables) {
        if told.iter().any(|told| told == name) {
            continue;
        }
        let (old, new) = (methods(old), beside(old, new));
        if old != new {
            tell(name, old.len() as u64, new.len() as u64, &words(&old, &new), reasons);
            told.push(name.to_owned());
        }
    }
    for change in facts.changes() {
        if let Some((name, old, new)) = object_of(change).filter(|(name, ..)| !told.contains(name)) {
            tell(&name, old.saturating_sub(HEAD), new.saturating_sub(HEAD), "", reasons);
            told.push(name);
        }
    }
}

/// For a pointer to a trait object whose table has another length: the trait, words before, words after.
pub(super) fn object_of(change: &Change) -> Option<(String, u64, u64)> {
    let words = |side: &matching::Located| {
        let description = side.object.describe(side.def)?;
        let table = description.fields.into_iter().find(|field| field.name == "vtable")?;
        table.type_name.strip_prefix("&[usize; ")?.strip_suffix(']')?.parse::<u64>().ok()
    };
    let (old, new) = (words(&change.old)?, words(&change.new)?);
    let (_, object) = change.path.split_once("dyn ")?;
    (old != new).then(|| (first_type(object).to_string(), old, new))
}

fn tell(name: &str, old: u64, new: u64, words: &str, reasons: &mut Vec<Reason>) {
    let words = if words.is_empty() { String::new() } else { format!(": {words}") };
    let message = if old == new {
        format!("objects of trait `{name}` have their {new} methods in another order{words}")
    } else {
        format!("objects of trait `{name}` had {old} methods in their table and have {new}{words}")
    };
    let help = "Trait objects that are alive keep the old table, so the methods have to stay as they are.";
    reasons.push(RULE.refuse(&Item::named(name), message, help));
}

/// Old and new tables of one trait, whatever type they are for: new code calls the slots of every live object of the
/// trait. Traits of the standard library do not change.
fn pairs<'a>(old: &'a [Vtable], new: &'a [Vtable]) -> impl Iterator<Item = (&'a str, &'a Vtable, &'a Vtable)> {
    let mut of_trait: FxHashMap<&str, Vec<&Vtable>> = FxHashMap::default();
    for (name, table) in old.iter().filter_map(|old| Some((trait_of(&old.name)?, old))) {
        of_trait.entry(name).or_default().push(table);
    }
    new.iter().filter_map(|new| Some((trait_of(&new.name)?, new))).flat_map(move |(name, new)| {
        let olds = of_trait.get(name).cloned().unwrap_or_default();
        olds.into_iter().map(move |old| (name, old, new))
    })
}

/// `<app::Circle as app::Shape>` to `app::Shape`, unless the trait is one of the standard library's or there is none.
fn trait_of(table: &str) -> Option<&str> {
    let of_trait = table.strip_suffix('>')?.rsplit_once(" as ")?.1;
    let foreign = ["core::", "alloc::", "std::"].iter().any(|start| of_trait.starts_with(start));
    (!foreign && of_trait != "_").then_some(of_trait)
}

/// The text up to the end of the first type in it: to a comma or closing bracket that is not its own.
fn first_type(text: &str) -> &str {
    let mut depth = 0i32;
    for (at, letter) in text.char_indices() {
        match letter {
            '<' | '(' | '[' => depth += 1,
            '>' | ')' | ']' | ',' | '+' if depth == 0 => return text.get(..at).unwrap_or(text).trim_end(),
            '>' if text.get(..at).is_some_and(|before| before.ends_with('-')) => {}
            '>' | ')' | ']' => depth -= 1,
            _ => {}
        }
    }
    text
}

fn methods(table: &Vtable) -> Vec<String> {
    table.slots.iter().map(|slot| method(&slot.function).to_owned()).collect()
}

/// How the slots of `new` read beside those of `old`: as the old ones where live objects may be called through either.
fn beside(old: &Vtable, new: &Vtable) -> Vec<String> {
    if old.slots.len() != new.slots.len() {
        return methods(new);
    }
    // Closures have numbers, which may be another one's now.
    let same_type = old.name == new.name && !new.name.contains('{');
    old.slots.iter().zip(&new.slots).map(|(old, new)| slot_beside(old, new, same_type)).collect()
}

fn slot_beside(old: &VtableSlot, new: &VtableSlot, same_type: bool) -> String {
    let (was, is) = (method(&old.function), method(&new.function));
    let vacant = old.function.is_empty() || new.function.is_empty();
    if !vacant && was != is {
        return is.to_owned();
    }
    // The old table's function is led to the new one.
    if old.item.is_some() && old.item == new.item {
        return was.to_owned();
    }
    // An overridden default, for one, that could not be led there.
    if !vacant && same_type && old.function != new.function {
        return format!("{is} of another impl");
    }
    match (old.abi, new.abi) {
        (Some(before), Some(after)) if same_type && before != after => format!("{is} with another signature"),
        _ => was.to_owned(),
    }
}

fn method(function: &str) -> &str {
    let mut depth = 0i32;
    let mut start = 0;
    let mut end = function.len();
    for (at, letter) in function.char_indices() {
        match letter {
            '<' if depth == 0 && at > start && end == function.len() => {
                end = at;
                depth += 1;
            }
            '<' | '(' | '[' | '{' => depth += 1,
            '>' if function.get(..at).is_some_and(|before| before.ends_with('-')) => {}
            '>' | ')' | ']' | '}' => depth -= 1,
            ':' if depth == 0 => (start, end) = (at + 1, function.len()),
            _ => {}
        }
    }
    function.get(start..end).unwrap_or(function)
}

fn words(old: &[String], new: &[String]) -> String {
    let missing = |from: &[String], of: &[String]| -> Vec<String> {
        of.iter().filter(|name| !from.contains(name)).map(|name| format!("`{name}`")).collect()
    };
    let (gone, added) = (missing(new, old), missing(old, new));
    let mut parts = Vec::new();
    if !gone.is_empty() {
        parts.push(format!("{} {} gone", gone.join(", "), if gone.len() == 1 { "is" } else { "are" }));
    }
    if !added.is_empty() {
        parts.push(format!("{} {} new", added.join(", "), if added.len() == 1 { "is" } else { "are" }));
    }
    if parts.is_empty() {
        let first = old.iter().zip(new).find(|(old, new)| old != new);
        parts.extend(first.map(|(old, new)| format!("where `{old}` was, `{new}` is")));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::DeltaFacts;
    use super::super::tests::told;
    use super::*;
    use crate::binary::object::NameId;

    fn table(functions: &[(&str, u64)]) -> Vtable {
        let slots = functions.iter().map(|(name, abi)| VtableSlot {
            function: name.to_string(),
            item: Some(NameId::of(name)),
            abi: Some(*abi),
        });
        Vtable { name: "<app::Dog as app::Animal>".to_owned(), drops: false, slots: slots.collect() }
    }

    fn messages(old: Vtable, new: Vtable) -> Vec<String> {
        let delta = DeltaFacts { old_vtables: vec![old], new_vtables: vec![new], ..Default::default() };
        let mut reasons = Vec::new();
        check(&Facts { delta, ..Default::default() }, &mut reasons);
        reasons.into_iter().map(|reason| reason.message).collect()
    }

    const NAME: (&str, u64) = ("<app::Dog as app::Animal>::name", 1);
    const LEGS: (&str, u64) = ("<app::Dog as app::Animal>::legs", 1);
    const DEFAULT_LEGS: (&str, u64) = ("app::Animal::legs", 1);

    #[test]
    fn another_order_is_refused() {
        assert_eq!(
            messages(table(&[NAME, LEGS]), table(&[LEGS, NAME])),
            ["objects of trait `app::Animal` have their 2 methods in another order: where `name` was, `legs` is"]
        );
    }

    #[test]
    fn a_removed_method_is_named() {
        assert_eq!(
            messages(table(&[NAME, DEFAULT_LEGS]), table(&[NAME])),
            ["objects of trait `app::Animal` had 2 methods in their table and have 1: `legs` is gone"]
        );
    }

    #[test]
    fn another_function_in_a_slot_of_the_same_type_is_refused() {
        for (new, what) in [(LEGS, "of another impl"), ((DEFAULT_LEGS.0, 2), "with another signature")] {
            let mut new = table(&[new]);
            new.slots[0].item = None;
            let found = messages(table(&[DEFAULT_LEGS]), new);
            assert!(found.iter().any(|message| message.contains(what)), "{found:?}");
        }
        let mut led = table(&[LEGS]);
        led.slots[0].item = Some(NameId::of(DEFAULT_LEGS.0));
        assert_eq!(messages(table(&[DEFAULT_LEGS]), led), Vec::<String>::new());
        let cat = Vtable { name: "<app::Cat as app::Animal>".to_owned(), ..table(&[LEGS]) };
        assert_eq!(messages(table(&[DEFAULT_LEGS]), cat), Vec::<String>::new());
    }

    #[test]
    fn the_trait_is_found_in_names_of_types() {
        assert_eq!(first_type("app::Animal, alloc::alloc::Global>"), "app::Animal");
        assert_eq!(first_type("app::Get<u8, fn(u8) -> u8>"), "app::Get<u8, fn(u8) -> u8>");
        assert_eq!(first_type("app::Animal + core::marker::Send"), "app::Animal");
        assert_eq!(method("<app::Dog<T> as app::Animal>::legs<u8>"), "legs");
        assert_eq!(method("legs"), "legs");
    }

    #[test]
    fn a_trait_is_told_once_however_many_types_have_it() {
        let of = |name: &str, functions: &[(&str, u64)]| Vtable { name: name.to_owned(), ..table(functions) };
        let names = ["<app::Dog as app::Animal>", "<app::Cat as app::Animal>", "<app::Dog as app::Toy>"];
        let function = |name: &str| if name.ends_with("Toy>") { ("app::Toy::squeak", 1) } else { DEFAULT_LEGS };
        let old_vtables = names.map(|name| of(name, &[function(name)])).into();
        let new_vtables = names.map(|name| of(name, &[])).into();
        assert_eq!(
            told(DeltaFacts { old_vtables, new_vtables, ..DeltaFacts::default() }),
            [
                "vtable-shape: `app::Animal`: objects of trait `app::Animal` had 1 methods in their table and have 0: \
                 `legs` is gone",
                "vtable-shape: `app::Toy`: objects of trait `app::Toy` had 1 methods in their table and have 0: \
                 `squeak` is gone",
            ]
        );
    }

    #[test]
    fn what_is_gone_new_or_moved_is_said() {
        let words = |old: &[&str], new: &[&str]| {
            let owned = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
            words(&owned(old), &owned(new))
        };
        assert_eq!(words(&["a", "b", "c"], &["c"]), "`a`, `b` are gone");
        assert_eq!(words(&["a"], &["a", "b"]), "`b` is new");
        assert_eq!(words(&["a"], &["b", "c"]), "`a` is gone, `b`, `c` are new");
        assert_eq!(words(&["a", "b", "c"], &["a", "c", "b"]), "where `b` was, `c` is");
        assert_eq!(words(&["a", "b"], &["b"]), "`a` is gone");
    }

    #[test]
    fn a_method_is_found_behind_types_of_every_kind() {
        assert_eq!(method("<fn(u8) -> u8 as app::Call>::call"), "call");
        assert_eq!(method("app::Shape<B>::area"), "area");
        assert_eq!(method("legs<app::T>"), "legs");
        assert_eq!(method("legs<u8>{closure}<u8>"), "legs");
        assert_eq!(method("<A<B>>"), "<A<B>>");
        assert_eq!(first_type("app::Get<u8>, alloc::alloc::Global>"), "app::Get<u8>");
        assert_eq!(first_type("app::Get<(u8, [u8; 3])> + Send"), "app::Get<(u8, [u8; 3])>");
    }
}
