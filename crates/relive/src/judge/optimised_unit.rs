//! Rule `optimised-unit`: the edited crate is compiled with optimisation.

use super::rule::{Reason, Rule};
use super::{Facts, Item};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "optimised-unit",
    title: "The edited crate is compiled with optimisation",
    what: "A crate with `opt-level` 1 or higher was edited. Optimised crates that are not edited, such as dependencies, \
           are fine.",
    why: "The optimiser tailors a function to the callers it has and lets callers rely on what it found out about a \
          function: it drops arguments, assumes values, merges functions. Old callers on the stack and a new function \
          then disagree about things that no signature shows.",
    example: "```toml\n[profile.dev]\nopt-level = 1\n```\n\n\
              > `app (bin)` is compiled with opt-level 1; only crates with opt-level 0 can be edited while they run",
    fix: "Give the crates you edit `opt-level = 0` and keep the optimisation for the rest: \
          `[profile.dev.package.\"*\"] opt-level = 3`. Then start the program again.",
};

pub(super) fn check(facts: &Facts, reasons: &mut Vec<Reason>) {
    for unit in &facts.delta.optimised_units {
        let (name, level) = (&unit.unit, &unit.opt_level);
        let message = format!(
            "`{name}` is compiled with opt-level {level}; only crates with opt-level 0 can be edited while they run"
        );
        let help = "Set `opt-level = 0` for this crate; `[profile.dev.package.\"*\"]` keeps dependencies optimised.";
        reasons.push(RULE.refuse(&Item::named(name), message, help));
    }
}

#[cfg(test)]
mod tests {
    use super::super::DeltaFacts;
    use super::super::OptimisedUnit;
    use super::super::tests::told;

    #[test]
    fn the_crate_and_its_level_are_named() {
        let delta = DeltaFacts {
            optimised_units: vec![OptimisedUnit { unit: "app (bin)".into(), opt_level: "s".into() }],
            ..DeltaFacts::default()
        };
        assert_eq!(
            told(delta),
            [
                "optimised-unit: `app (bin)`: `app (bin)` is compiled with opt-level s; only crates with opt-level 0 can be edited \
             while they run",
            ]
        );
    }
}
