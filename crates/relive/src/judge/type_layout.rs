//! Rule `type-layout`: a type that exists in the running program looks different in memory.

use rustc_hash::FxHashSet;

use super::matching::Change;
use super::rule::{Reason, Rule};
use super::{Facts, Item, Liveness, vtable_shape, wording};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "type-layout",
    title: "A type that exists in the running program looks different in memory",
    what: "A struct, enum or union that was there before has another size or alignment, its fields have other names, types \
           or offsets, or its variants are others or stored differently. Derives, methods, visibility and comments do not \
           matter, and neither does a type that is new, a field that is only renamed, or a type of which no value can be left \
           (note `layout-proved` says how that is proved).",
    why: "Values made by the old code are alive: in variables, on the heap, in channels, in other threads. The new code \
          would read them with its own idea of where each field is: it would take one field for another, or read and \
          write past the end of the value.",
    example: "```rust\nstruct World {\n    speed: u64, // new\n    name: String,\n    count: u64,\n}\n```\n\n\
              > `app::World` grew from 32 to 40 bytes: new field `speed: u64` at offset 24, `count` moved from 24 to 32",
    fix: "Keep the type as it is while the program runs: put new data into a type of its own, for example a new struct \
          in a new static or in a map beside the old values. Or restart with the edit.",
};

const FORGOTTEN: &str = "Values that it had then may be alive, and after so many edits it is not known where.";

/// Types that look different, for a proof that no value of them is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayoutChanges {
    /// Their keys, see [`crate::binary::types::TypeDef::key`].
    pub keys: FxHashSet<u64>,
    /// Their paths.
    pub paths: Vec<String>,
}

/// The types that look different and of which no old value may be left; `None` if there are none.
#[must_use]
pub fn layout_changes(facts: &Facts) -> Option<LayoutChanges> {
    let changes = facts.changes();
    let counts = |change: &&Change| vtable_shape::object_of(change).is_none() && renames(change).is_none();
    let mut found = LayoutChanges::default();
    // What the user has edited comes first, and names before tuples.
    let mut counted: Vec<&Change> = changes.iter().filter(counts).collect();
    counted.sort_by_key(|change| (!change.is_cause, !change.path.starts_with(char::is_alphanumeric)));
    for change in counted {
        found.keys.extend([change.old.def.key, change.new.def.key]);
        found.paths.push(change.path.clone());
    }
    (!found.keys.is_empty()).then_some(found)
}

/// Types whose fields have other names and nothing else, with the old and new names.
pub(super) fn renamed(facts: &Facts) -> Vec<(String, Vec<(String, String)>)> {
    let changes = facts.changes();
    changes.iter().filter_map(|change| Some((change.path.clone(), renames(change)?))).collect()
}

/// The refusal when a proof holds but for a thread that does not leave a function: `function` of `thread`.
#[must_use]
pub fn held_up(liveness: &Liveness, thread: &str, function: &str) -> Reason {
    let path = liveness.types.first().cloned().unwrap_or_default();
    let message = format!(
        "`{}` looks different in memory, and thread {thread} stays inside `{function}`, which may hold one",
        wording::plain(&path)
    );
    let help = "The edit can be applied when no thread is inside a function that handles the type.";
    RULE.refuse(&Item::named(without_arguments(&path)), message, help)
}

pub(super) fn check(facts: &Facts, reasons: &mut Vec<Reason>) {
    for path in &facts.delta.forgotten_types {
        let message =
            format!("`{}` left the program by an earlier edit and comes back looking different", wording::plain(path));
        reasons.push(RULE.refuse(&Item::named(without_arguments(path)), message, FORGOTTEN));
    }
    if facts.delta.liveness.as_ref().is_some_and(Liveness::is_proved) {
        return;
    }
    let changes = facts.changes();
    let counts =
        |change: &&Change| change.is_cause && vtable_shape::object_of(change).is_none() && renames(change).is_none();
    let causes = changes.iter().filter(counts);
    let mut definitions: Vec<(&str, Vec<&Change>)> = Vec::new();
    for cause in causes {
        let name = without_arguments(&cause.path);
        match definitions.iter_mut().find(|(known, _)| *known == name) {
            Some((_, instances)) => instances.push(cause),
            None => definitions.push((name, vec![cause])),
        }
    }
    for (name, instances) in definitions {
        let Some(example) = instances.first() else { continue };
        let mut message = format!("`{}` {}", wording::plain(&example.path), words(example));
        if instances.len() > 1 {
            message.push_str(&format!(" (and the same for {} more of `{name}<..>`)", instances.len() - 1));
        }
        message.push_str(&consequences(&instances, changes));
        let item = Item::named(name);
        let help = match &facts.delta.liveness {
            Some(liveness) => {
                let held = liveness.in_words();
                format!("Values of this type may be alive, so it has to stay as it is while the program runs: {held}.")
            }
            None => "Values of this type may be alive, so it has to stay as it is while the program runs.".to_owned(),
        };
        reasons.push(RULE.refuse(&item, message, &help));
    }
}

/// The old and new names of its fields, if nothing else about the type is different.
fn renames(change: &Change) -> Option<Vec<(String, String)>> {
    if !change.is_alone {
        return None;
    }
    let old = change.old.object.describe(change.old.def)?;
    let new = change.new.object.describe(change.new.def)?;
    let renamed = wording::renamed(&old, &new)?;
    (!renamed.is_empty()).then_some(renamed)
}

fn words(change: &Change) -> String {
    match (change.old.object.describe(change.old.def), change.new.object.describe(change.new.def)) {
        (Some(old), Some(new)) => wording::difference(&old, &new),
        _ => "is laid out differently".to_string(),
    }
}

/// Names up to two types of the same crate that changed only because they hold one of the causes.
fn consequences(causes: &[&Change], changes: &[Change]) -> String {
    let own_crate = causes.first().map(|cause| crate_of(&cause.path));
    let mut held: Vec<&str> = changes
        .iter()
        .filter(|change| !change.is_cause && causes.iter().any(|cause| change.holds(cause)))
        .map(|change| change.path.as_str())
        .filter(|path| Some(crate_of(path)) == own_crate)
        .map(without_arguments)
        .collect();
    held.dedup();
    match held.as_slice() {
        [] => String::new(),
        [one] => format!(", which makes `{one}` change too"),
        [one, two] => format!(", which makes `{one}` and `{two}` change too"),
        [one, two, rest @ ..] => format!(", which makes `{one}`, `{two}` and {} more change too", rest.len()),
    }
}

fn crate_of(path: &str) -> &str {
    path.split("::").next().unwrap_or(path)
}

/// The path of a generic type without its arguments; the path of any other type.
fn without_arguments(path: &str) -> &str {
    match path.find('<') {
        Some(at) if at > 0 => path.get(..at).unwrap_or(path),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_cut_off() {
        assert_eq!(without_arguments("app::Slot<alloc::vec::Vec<u8>>"), "app::Slot");
        assert_eq!(without_arguments("app::World"), "app::World");
        assert_eq!(without_arguments("<odd>"), "<odd>");
    }
}
