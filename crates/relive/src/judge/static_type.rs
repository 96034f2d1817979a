//! Rule `static-type`: a static or thread-local that exists in the running program has another type.

use rustc_hash::FxHashMap;

use super::rule::{Reason, Rule};
use super::{Facts, Item, TypeSet, wording};
use crate::binary::object::NameId;
use crate::binary::types::{Static, erase};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "static-type",
    title: "A static or thread-local has another type",
    what: "A `static` with interior mutability, a `static mut` or a `thread_local!` that was there before has another type \
           or size, or a static that nothing could write to became writable.",
    why: "The storage of a static is where it was when the program started and holds its present value. New code would \
          take that value for one of the new type, or write to memory that cannot be written to.",
    example: "```rust\nstatic HITS: AtomicU64 = AtomicU64::new(0); // was AtomicU32\n```\n\n\
              > `app::HITS` was `AtomicU32` and is `AtomicU64`",
    fix: "Add a static with a new name beside the old one, or restart with the edit.",
};

const HELP: &str = "Its storage is in use, so its type has to stay as it is; a static with another name can be added.";

pub(super) fn check(facts: &Facts, reasons: &mut Vec<Reason>) {
    let mut told: Vec<String> = Vec::new();
    // One that gets new storage is a new one to all code, whatever its type.
    let renewed = |name: &str| facts.delta.changed_statics.iter().any(|one| one.renewed && one.item.name == name);
    let mut tell = |item: Item, message: String| {
        if !told.contains(&item.name) && !renewed(&item.name) {
            told.push(item.name.clone());
            reasons.push(RULE.refuse(&item, message, HELP));
        }
    };
    let partners = Partners::of(facts);
    let old = by_path(&facts.old);
    for (path, new) in sorted(by_path(&facts.new)) {
        let old = old.get(path).map_or(&[][..], Vec::as_slice);
        let pairs = new.iter().filter_map(|is| Some((partners.of_static(is)?, *is)));
        let mut others: Vec<_> = pairs.filter(|(was, is)| !alike(was, is)).collect();
        if others.is_empty() {
            others.extend(exchanged(old, &new));
        }
        for (was, is) in others {
            tell(item(is), words(was, is));
        }
        let was_fixed = !old.is_empty() && old.iter().all(|was| was.writable == Some(false));
        if was_fixed && let Some(is) = new.iter().find(|is| is.writable == Some(true)) {
            let name = item_name(&is.qualified);
            tell(item(is), format!("`{name}` is in read-only memory and the edit makes it writable"));
        }
    }
    for changed in facts.delta.changed_statics.iter().filter(|changed| changed.old_size != changed.new_size) {
        let (name, old, new) = (&changed.item.name, changed.old_size, changed.new_size);
        tell(changed.item.clone(), format!("`{name}` has {old} bytes of storage and would need {new}"));
    }
}

fn words(was: &Static, is: &Static) -> String {
    let (before, after) = (wording::plain(content(&was.type_name)), wording::plain(content(&is.type_name)));
    let name = item_name(&is.qualified);
    if erase(&before) != erase(&after) {
        return format!("`{name}` was `{before}` and is `{after}`");
    }
    let (old, new) = (was.size.unwrap_or(0), is.size.unwrap_or(0));
    let sizes = if old == new { format!("keeps its {old} bytes") } else { format!("had {old} bytes and has {new}") };
    format!("`{name}` {sizes}: its type `{after}` changed")
}

/// Statics of the running program by the names that the comparison knows them by.
struct Partners<'a> {
    old: FxHashMap<NameId, &'a Static>,
    renamed: &'a FxHashMap<NameId, Option<NameId>>,
}

impl<'a> Partners<'a> {
    fn of(facts: &'a Facts<'_>) -> Partners<'a> {
        let all = facts.old.objects.iter().flat_map(|object| &object.statics);
        let old = all.map(|one| (NameId::of(&one.linkage_name), one)).collect();
        Partners { old, renamed: &facts.delta.renamed_statics }
    }

    /// The one whose storage `new` has.
    fn of_static(&self, new: &Static) -> Option<&'a Static> {
        let name = NameId::of(&new.linkage_name);
        let before = self.renamed.get(&name).copied().unwrap_or(Some(name))?;
        self.old.get(&before).copied()
    }
}

fn alike(was: &Static, is: &Static) -> bool {
    is.type_key == was.type_key && is.size == was.size
}

/// Of several statics of one path, one that has gone and one that has come instead.
fn exchanged<'a>(old: &[&'a Static], new: &[&'a Static]) -> Option<(&'a Static, &'a Static)> {
    let gone = old.iter().find(|was| !new.iter().any(|is| alike(was, is)))?;
    let come = new.iter().find(|is| !old.iter().any(|was| alike(was, is)))?;
    Some((*gone, *come))
}

type ByPath<'a> = FxHashMap<&'a str, Vec<&'a Static>>;

fn by_path<'a>(set: &TypeSet<'a>) -> ByPath<'a> {
    let mut paths = ByPath::default();
    for object in &set.objects {
        for variable in &object.statics {
            paths.entry(&variable.erased).or_default().push(variable);
        }
    }
    paths
}

fn sorted<'a>(paths: ByPath<'a>) -> Vec<(&'a str, Vec<&'a Static>)> {
    let mut paths: Vec<_> = paths.into_iter().collect();
    paths.sort_by_key(|(path, _)| *path);
    paths
}

fn item(variable: &Static) -> Item {
    let file = variable.file.as_deref().map(std::path::PathBuf::from);
    Item { name: item_name(&variable.qualified).to_string(), file, line: variable.line }
}

/// `app::job::PAIR` for what `thread_local!` makes of it: `app::job::PAIR::{constant#0}::{closure#0}::VAL`.
pub(super) fn item_name(path: &str) -> &str {
    path.split_once("::{constant").map_or(path, |(name, _)| name)
}

/// The type in the source: without the wrapper that `thread_local!` puts around it.
fn content(type_name: &str) -> &str {
    let inner = type_name.split_once("thread_local::native::").and_then(|(_, rest)| rest.split_once("::Storage<"));
    let Some(inner) = inner.and_then(|(_, rest)| rest.strip_suffix('>')) else { return type_name };
    // Behind it a lazy one says whether it has a destructor.
    [", ()", ", !"].iter().find_map(|kind| inner.strip_suffix(kind)).unwrap_or(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_locals_are_told_by_their_name_in_the_source() {
        assert_eq!(item_name("app::PAIR::{constant#0}::{closure#1}::__RUST_STD_INTERNAL_VAL"), "app::PAIR");
        assert_eq!(item_name("app::PAIR::{constant}::{closure}::__RUST_STD_INTERNAL_VAL"), "app::PAIR");
        assert_eq!(item_name("app::HITS"), "app::HITS");
        assert_eq!(content("std::sys::thread_local::native::eager::Storage<Cell<u8>>"), "Cell<u8>");
        assert_eq!(content("std::sys::thread_local::native::lazy::Storage<Cell<u8>, !>"), "Cell<u8>");
        assert_eq!(content("Cell<u8>"), "Cell<u8>");
    }
}
