//! Rule `foreign-copy`: a changed function is in the program only as a private copy of another crate.

use super::DeltaFacts;
use super::rule::{Reason, Rule};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "foreign-copy",
    title: "A changed function is in the program only as a private copy of another crate",
    what: "The running program has code of the changed function only inside crates that the edit does not \
           compile.",
    why: "Such a copy was made for its callers there, which may be optimised for it; leading it to new code \
          could break them, and leaving it would be silence.",
    example: "> the only copies of `app::helper` in the program belong to a crate that is not edited",
    fix: "Restart with the edit.",
};

pub(super) fn check(delta: &DeltaFacts, reasons: &mut Vec<Reason>) {
    for item in &delta.foreign_copies {
        let name = &item.name;
        let message = format!("the only copies of `{name}` in the program belong to a crate that is not edited");
        reasons.push(RULE.refuse(item, message, "The other crate's copy cannot be replaced."));
    }
}

#[cfg(test)]
mod tests {
    use super::super::DeltaFacts;
    use super::super::Item;
    use super::super::tests::told;

    #[test]
    fn each_function_is_named() {
        let delta = DeltaFacts { foreign_copies: vec![Item::named("app::helper")], ..DeltaFacts::default() };
        assert_eq!(
            told(delta),
            [
                "foreign-copy: `app::helper`: the only copies of `app::helper` in the program belong to a crate that is not edited",
            ]
        );
    }
}
