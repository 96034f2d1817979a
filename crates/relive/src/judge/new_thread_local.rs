//! Rule `new-thread-local`: the edit adds a thread-local.

use super::rule::{Reason, Rule};
use super::{Facts, Item, static_type};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "new-thread-local",
    title: "The edit adds a thread-local",
    what: "A `thread_local!` that the running program does not have.",
    why: "The thread-local storage of each thread was laid out when the program started; there is no place in it for \
          another variable, and threads that already run would never initialise it.",
    example: "```rust\nthread_local! {\n    static DEPTH: Cell<u32> = const { Cell::new(0) }; // new\n}\n```\n\n\
              > `app::DEPTH` is a new thread-local; the threads that run have no storage for it",
    fix: "Use a plain static (an atomic or a `Mutex`) for now, or restart with the edit.",
};

pub(super) fn check(facts: &Facts, reasons: &mut Vec<Reason>) {
    let known = |name: &str| {
        let mut statics = facts.old.objects.iter().flat_map(|object| &object.statics);
        statics.any(|variable| variable.thread_local && static_type::item_name(&variable.qualified) == name)
    };
    let mut told: Vec<String> = Vec::new();
    for added in &facts.delta.added_thread_locals {
        let name = static_type::item_name(&added.name).to_string();
        // A thread-local of another type is new to the linker; `static-type` tells about it.
        if known(&name) || told.contains(&name) {
            continue;
        }
        let message = format!("`{name}` is a new thread-local; the threads that run have no storage for it");
        let item = Item { name: name.clone(), ..added.clone() };
        reasons.push(RULE.refuse(&item, message, "A plain static can be added."));
        told.push(name);
    }
}

#[cfg(test)]
mod tests {
    use super::super::DeltaFacts;
    use super::*;

    #[test]
    fn each_thread_local_is_told_once() {
        let added = |closure| Item::named(format!("app::DEPTH::{{constant#0}}::{{closure#{closure}}}::VAL"));
        let delta = DeltaFacts { added_thread_locals: vec![added(0), added(1)], ..Default::default() };
        let mut reasons = Vec::new();
        check(&Facts { delta, ..Default::default() }, &mut reasons);
        assert_eq!(reasons.len(), 1);
        assert_eq!(reasons[0].item, "app::DEPTH");
    }
}
