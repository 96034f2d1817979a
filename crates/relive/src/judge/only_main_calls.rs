//! Rule `only-main-calls`: new code that only the running `main` would enter.

use super::DeltaFacts;
use super::rule::{Reason, Rule};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "only-main-calls",
    title: "New code that only the running `main` would enter",
    what: "A function became another one (its signature, its captures or, for an `async fn`, its state changed) \
           and nothing but `main` leads to the new one.",
    why: "Old callers keep the old function, since it is the one they were compiled for. `main` runs already \
          and is not called again, so the new function would never run: the edit would be called applied and \
          do nothing.",
    example: "> `app::session` has another signature, captures or state now, and only `main` leads to it, which \
              runs already and goes on calling the old one",
    fix: "Move the loop's body out of `main` into a function of its own, then restart once: from then on such \
          edits take effect. Or restart with the edit.",
};

pub(super) fn check(delta: &DeltaFacts, reasons: &mut Vec<Reason>) {
    for item in &delta.never_entered {
        let name = &item.name;
        let message = format!(
            "`{name}` has another signature, captures or state now, and only `main` leads to it, which runs already and \
             goes on calling the old one"
        );
        reasons.push(RULE.refuse(
            item,
            message,
            "A function between `main` and this one would make such edits possible.",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::super::DeltaFacts;
    use super::super::Item;
    use super::super::tests::told;

    #[test]
    fn each_function_is_named() {
        let delta = DeltaFacts { never_entered: vec![Item::named("app::session")], ..DeltaFacts::default() };
        assert_eq!(
            told(delta),
            [
                "only-main-calls: `app::session`: `app::session` has another signature, captures or state now, and only `main` leads \
             to it, which runs already and goes on calling the old one",
            ]
        );
    }
}
