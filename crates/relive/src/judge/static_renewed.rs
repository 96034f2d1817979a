//! Note `static-renewed`: an immutable static has another value, and code that is entered from now on sees it.

use super::Facts;
use super::rule::{Reason, Rule};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "static-renewed",
    title: "An immutable static has a new value beside the old one",
    what: "This is a note, not a refusal: the value of a static that nothing can write to was edited. All functions that \
           refer to it, edited or not, are replaced by ones that refer to the new value.",
    why: "References to the old static may be anywhere in the program, and a thread may have read half of it. So it stays \
          as it is, and the new one has an address of its own, as an edited `const` has.",
    example: "```rust\nstatic LIMITS: [u32; 3] = [10, 20, 40]; // was [10, 20, 30]\n```\n\n\
              > `app::LIMITS` has its new value in all code that is entered from now on",
    fix: "Nothing. What holds a reference into the old one, such as a `&'static str` in a struct, has the old value until \
          it takes the reference anew.",
};

pub(super) fn check(facts: &Facts, notes: &mut Vec<Reason>) {
    for changed in facts.delta.changed_statics.iter().filter(|changed| changed.renewed && changed.in_new_code) {
        let message = format!("`{}` has its new value in all code that is entered from now on", changed.item.name);
        notes.push(RULE.note(&changed.item, message, "References that were taken before lead to the old value."));
    }
}
