//! Note `static-value-kept`: a static has another initial value, and keeps the one it has.

use super::Facts;
use super::rule::{Reason, Rule};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "static-value-kept",
    title: "A static keeps the value it has",
    what: "This is a note, not a refusal: the initial value of a static or thread-local that can be written to was \
           edited. The change is applied, and the static keeps its present value.",
    why: "The initial value was used when the program started; what is in the static now is the program's state.",
    example: "```rust\nstatic LIMIT: AtomicU64 = AtomicU64::new(20); // was 10\n```\n\n\
              > `app::LIMIT` keeps the value it has; its new initial value counts from the next start",
    fix: "Nothing, or restart to start from the new value. A `const` or a static without interior mutability can be \
          edited at any time.",
};

pub(super) fn check(facts: &Facts, notes: &mut Vec<Reason>) {
    for changed in &facts.delta.changed_statics {
        // Of an immutable one that new code does not refer to, only the value is left that others hold.
        let kept = if changed.renewed { !changed.in_new_code } else { changed.old_size == changed.new_size };
        if changed.initialiser_changed && kept {
            let name = &changed.item.name;
            let message = format!("`{name}` keeps the value it has; its new initial value counts from the next start");
            notes.push(RULE.note(&changed.item, message, "A `const` takes a new value at once."));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::DeltaFacts;
    use super::super::tests::told;
    use super::super::{ChangedStatic, Facts, Item, Verdict, judge};
    use super::check;

    fn changed(initialiser_changed: bool, new_size: u64) -> DeltaFacts {
        let item = Item::named("app::LIMIT");
        let (renewed, in_new_code) = (false, false);
        let changed = ChangedStatic { item, old_size: 8, new_size, initialiser_changed, renewed, in_new_code };
        let changed_statics = vec![changed];
        DeltaFacts { changed_statics, ..DeltaFacts::default() }
    }

    #[test]
    fn a_new_value_is_a_note_and_no_refusal() {
        assert_eq!(
            told(changed(true, 8)),
            [
                "note static-value-kept: `app::LIMIT`: `app::LIMIT` keeps the value it has; its new initial value counts \
              from the next start"
            ]
        );
        let Verdict::Accepted(notes) = judge(&Facts { delta: changed(true, 8), ..Facts::default() }) else {
            panic!("refused")
        };
        assert_eq!(notes[0].help, "A `const` takes a new value at once.");
    }

    #[test]
    fn without_a_new_value_there_is_nothing_to_say() {
        assert_eq!(told(changed(false, 8)), Vec::<String>::new());
    }

    #[test]
    fn of_another_size_another_rule_speaks() {
        let mut notes = Vec::new();
        check(&Facts { delta: changed(true, 16), ..Facts::default() }, &mut notes);
        assert_eq!(notes, []);
        assert_eq!(
            told(changed(true, 16)),
            ["static-type: `app::LIMIT`: `app::LIMIT` has 8 bytes of storage and would need 16"]
        );
    }
}
