//! Rule `entry-no-room`: the old code of a changed function cannot hold a jump.

use super::DeltaFacts;
use super::rule::{Reason, Rule};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "entry-no-room",
    title: "The old code of a changed function has no room for a jump",
    what: "A changed function is so short, or begins in such a way, that its first bytes cannot be replaced by a jump to \
           its new code.",
    why: "Callers and function pointers lead to the old address for ever. Without a jump there they would go on running \
          the old code, or the jump would damage the function behind it.",
    example: "> `app::nothing` has no room for a jump: 1 byte of code, and the next function follows at once",
    fix: "Give the change to a caller of the function, or restart with the edit.",
};

pub(super) fn check(delta: &DeltaFacts, reasons: &mut Vec<Reason>) {
    for without in &delta.without_room {
        let message = format!("`{}` has no room for a jump: {}", without.function.name, without.why);
        let help = "The same change in a function that calls this one can be applied.";
        reasons.push(RULE.refuse(&without.function, message, help));
    }
}

#[cfg(test)]
mod tests {
    use super::super::DeltaFacts;
    use super::super::tests::told;
    use super::super::{Item, NoEntryRoom};

    #[test]
    fn the_function_and_why_are_named() {
        let delta = DeltaFacts {
            without_room: vec![NoEntryRoom { function: Item::named("app::nothing"), why: "1 byte of code".into() }],
            ..DeltaFacts::default()
        };
        assert_eq!(
            told(delta),
            ["entry-no-room: `app::nothing`: `app::nothing` has no room for a jump: 1 byte of code",]
        );
    }
}
