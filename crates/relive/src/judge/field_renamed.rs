//! Note `field-renamed`: a field has another name, and everything in memory is where it was.

use super::rule::{Reason, Rule};
use super::{Facts, Item, type_layout};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "field-renamed",
    title: "A field has another name",
    what: "This is a note, not a refusal: fields of a type were renamed and nothing else about it changed. The change is applied, \
           and values that are alive keep what the field held.",
    why: "A name is not in memory. Where one field of a type went and one of the same type came at the same place, it is taken \
          for the same field; where two of one type did, nothing tells which is which, and the edit is refused.",
    example: "```rust\nstruct Particle {\n    speed: i64, // was `vel`\n}\n```\n\n> `app::Particle`: field `vel` is called \
              `speed` now and keeps its values",
    fix: "Nothing has to be done if it is the same field. If a field was removed and another one added, restart.",
};

pub(super) fn check(facts: &Facts, notes: &mut Vec<Reason>) {
    for (path, renamed) in type_layout::renamed(facts) {
        for (old, new) in renamed {
            let message = format!("`{path}`: field `{old}` is called `{new}` now and keeps its values");
            notes.push(RULE.note(&Item::named(path.clone()), message, "If it is another field, restart."));
        }
    }
}
