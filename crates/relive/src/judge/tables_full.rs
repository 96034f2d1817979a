//! Rule `tables-full`: a fixed table inside the program is full.

use super::rule::{Reason, Rule};
use super::{DeltaFacts, Item};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "tables-full",
    title: "A fixed table inside the program is full",
    what: "The agent in the program keeps fixed tables, such as the jump slots of patched functions, and one is used up.",
    why: "The tables are reserved when the program starts, because nothing may be allocated while it is stopped.",
    example: "> no entry is left in the program: all 65536 jump slots are in use",
    fix: "Restart: the new start has all edits built in and its tables empty.",
};

pub(super) fn check(delta: &DeltaFacts, reasons: &mut Vec<Reason>) {
    if let Some(what) = &delta.tables_full {
        let message = format!("no entry is left in the program: {what}");
        reasons.push(RULE.refuse(&Item::named("the running program"), message, "Entries in use cannot be given back."));
    }
}

#[cfg(test)]
mod tests {
    use super::super::DeltaFacts;
    use super::super::tests::told;

    #[test]
    fn it_says_which() {
        let delta = DeltaFacts { tables_full: Some("all 65536 jump slots are in use".into()), ..DeltaFacts::default() };
        assert_eq!(
            told(delta),
            ["tables-full: `the running program`: no entry is left in the program: all 65536 jump slots are in use",]
        );
    }
}
