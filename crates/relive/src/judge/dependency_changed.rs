//! Rule `dependency-changed`: a crate that relive does not follow was built anew.

use super::rule::{Reason, Rule};
use super::{DeltaFacts, Item};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "dependency-changed",
    title: "A crate that relive does not follow was built anew",
    what: "cargo rebuilt a dependency from a registry (another version or other features in `Cargo.toml` or \
           `Cargo.lock`), and the program links it.",
    why: "relive knows the objects of the crates that are edited here, not those of registry crates: it cannot \
          tell what changed in them, and new code must not be mixed with what they were.",
    example: "> `serde` was built anew and is part of the running program",
    fix: "Restart with the edit.",
};

pub(super) fn check(delta: &DeltaFacts, reasons: &mut Vec<Reason>) {
    for name in &delta.changed_dependencies {
        let message = format!("`{name}` was built anew and is part of the running program");
        reasons.push(RULE.refuse(&Item::named(name), message, "Its old code cannot be compared with its new code."));
    }
}

#[cfg(test)]
mod tests {
    use super::super::DeltaFacts;
    use super::super::tests::told;

    #[test]
    fn each_crate_is_named() {
        let delta = DeltaFacts { changed_dependencies: vec!["serde".into(), "log".into()], ..DeltaFacts::default() };
        assert_eq!(
            told(delta),
            [
                "dependency-changed: `serde`: `serde` was built anew and is part of the running program",
                "dependency-changed: `log`: `log` was built anew and is part of the running program",
            ]
        );
    }
}
