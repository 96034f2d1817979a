//! Rule `nameless-storage`: new code uses writable data that has no name.

use super::rule::{Reason, Rule};
use super::{DeltaFacts, Item};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "nameless-storage",
    title: "New code uses writable data that has no name",
    what: "New code refers to writable data by a place in a section, not by a symbol.",
    why: "State is found again by its name. Without one it cannot be told which of the old program's data is meant, and \
          new storage would lose what the program has written to the old.",
    example: "> `.data` of `native.o` at 0x40 is storage without a name of its own",
    fix: "This mostly comes from hand-written assembly or from C; give the data a name. Or restart with the edit.",
};

pub(super) fn check(delta: &DeltaFacts, reasons: &mut Vec<Reason>) {
    for what in &delta.nameless_storage {
        let message = format!("{what} is storage without a name of its own");
        reasons.push(RULE.refuse(&Item::named(what), message, "Data that has a name can be used."));
    }
}

#[cfg(test)]
mod tests {
    use super::super::DeltaFacts;
    use super::super::tests::told;

    #[test]
    fn its_place_is_named() {
        let delta =
            DeltaFacts { nameless_storage: vec!["`.data` of `native.o` at 0x40".into()], ..DeltaFacts::default() };
        assert_eq!(
            told(delta),
            [
                "nameless-storage: ``.data` of `native.o` at 0x40`: `.data` of `native.o` at 0x40 is storage without a name of its own",
            ]
        );
    }
}
