//! Rule `new-thread-local`: a new thread-local that cannot get storage in the threads that run.

use super::rule::{Reason, Rule};
use super::{DeltaFacts, Item, static_type};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "new-thread-local",
    title: "A new thread-local cannot get storage",
    what: "The edit adds a thread-local that has to lie at a multiple of more than 128 bytes, or the program's threads \
           were made without the reserve that new thread-locals get their storage in.",
    why: "The storage of each thread was laid out when the program started. What relive keeps free in it for new \
          thread-locals begins at a multiple of 128 bytes in every thread, and at no larger one.",
    example: "```rust\n#[repr(align(4096))]\nstruct Page([u8; 4096]);\n\nthread_local! {\n    \
              static PAGE: RefCell<Page> = RefCell::new(Page([0; 4096])); // new\n}\n```\n\n\
              > `app::PAGE` is a new thread-local without storage: it is aligned to 4096 bytes, and 128 are possible",
    fix: "Keep the value in a `Box`, which can be aligned to anything, or restart with the edit.",
};

pub(super) fn check(delta: &DeltaFacts, reasons: &mut Vec<Reason>) {
    let mut told: Vec<&str> = Vec::new();
    for new in &delta.without_thread_storage {
        let name = static_type::item_name(&new.item.name);
        // One in the source is several to the linker.
        if told.contains(&name) {
            continue;
        }
        let message = format!("`{name}` is a new thread-local without storage: {}", new.why);
        let item = Item { name: name.to_owned(), ..new.item.clone() };
        reasons.push(RULE.refuse(&item, message, "A `Box` in the thread-local can hold what it cannot."));
        told.push(name);
    }
}

#[cfg(test)]
mod tests {
    use super::super::NoThreadStorage;
    use super::*;

    #[test]
    fn each_thread_local_is_told_once() {
        let new = |closure| NoThreadStorage {
            item: Item::named(format!("app::DEPTH::{{constant#0}}::{{closure#{closure}}}::VAL")),
            why: "it is aligned to 256 bytes, and 128 are possible".to_owned(),
        };
        let delta = DeltaFacts { without_thread_storage: vec![new(0), new(1)], ..Default::default() };
        let mut reasons = Vec::new();
        check(&delta, &mut reasons);
        assert_eq!(reasons.len(), 1);
        assert_eq!(reasons[0].item, "app::DEPTH");
        assert!(reasons[0].message.ends_with("without storage: it is aligned to 256 bytes, and 128 are possible"));
    }
}
