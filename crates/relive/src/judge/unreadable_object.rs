//! Rule `unreadable-object`: an object of the build cannot be understood.

use super::rule::{Reason, Rule};
use super::{DeltaFacts, Item};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "unreadable-object",
    title: "An object of the build cannot be understood",
    what: "An object file, or a member of a library that new code needs, is damaged or of a kind that relive does not read.",
    why: "Code that cannot be read in full cannot be compared, judged or linked.",
    example: "> `libnative.a(fast.o)` cannot be read: a section reaches beyond the end of the file",
    fix: "Build again from scratch (`cargo clean` helps when a file is damaged). Objects made by link-time optimisation \
          hold no machine code: set `lto = \"off\"` in the profile you edit with.",
};

pub(super) fn check(delta: &DeltaFacts, reasons: &mut Vec<Reason>) {
    for what in &delta.unreadable_objects {
        reasons.push(RULE.refuse(&Item::named(what), what.clone(), "Every object of an edit has to be readable."));
    }
}

#[cfg(test)]
mod tests {
    use super::super::DeltaFacts;
    use super::super::tests::told;

    #[test]
    fn the_sentence_is_told() {
        let delta = DeltaFacts {
            unreadable_objects: vec!["`a.o` cannot be read: it ends too early".into()],
            ..DeltaFacts::default()
        };
        assert_eq!(
            told(delta),
            ["unreadable-object: ``a.o` cannot be read: it ends too early`: `a.o` cannot be read: it ends too early",]
        );
    }
}
