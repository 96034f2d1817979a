//! Rule `no-room`: there is no memory near the program for new code.

use super::rule::{Reason, Rule};
use super::{DeltaFacts, Item};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "no-room",
    title: "There is no memory near the program for new code",
    what: "The address space within reach of the program's code is used up.",
    why: "Calls and data references in compiled code reach 2 GiB at most, so new code has to be near the old.",
    example: "> no room for new code: 120 KiB were needed within 2 GiB of `app`",
    fix: "Restart: the new start has all edits built in and all room free again.",
};

pub(super) fn check(delta: &DeltaFacts, reasons: &mut Vec<Reason>) {
    if let Some(what) = &delta.no_room {
        let message = format!("no room for new code: {what}");
        reasons.push(RULE.refuse(&Item::named("the running program"), message, "Old patches cannot be unloaded."));
    }
}

#[cfg(test)]
mod tests {
    use super::super::DeltaFacts;
    use super::super::tests::told;

    #[test]
    fn it_says_what_was_looked_for() {
        let delta = DeltaFacts { no_room: Some("120 KiB were needed".into()), ..DeltaFacts::default() };
        assert_eq!(told(delta), ["no-room: `the running program`: no room for new code: 120 KiB were needed",]);
    }
}
