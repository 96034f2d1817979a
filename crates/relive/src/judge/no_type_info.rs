//! Rule `no-type-info`: a changed object does not say what its types look like.

use super::rule::{Reason, Rule};
use super::{Facts, Item};
use crate::binary::types::Level;

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "no-type-info",
    title: "A changed crate is compiled without type information",
    what: "The edited crate has no debug information, only line tables, or keeps it in separate files.",
    why: "Whether a struct, a signature or a captured variable changed is read from the debug information of the old and \
          the new object. Without it nothing proves that new code may work on the values that are alive.",
    example: "```toml\n[profile.dev]\ndebug = 0\n```\n\n\
              > `app (bin)` is compiled without debug information, so nothing proves that its types stayed as they were",
    fix: "Compile the crate with full debug information: `debug = true` (or no `debug` line) in the profile and no \
          `split-debuginfo`, then start the program again.",
};

pub(super) fn check(facts: &Facts, reasons: &mut Vec<Reason>) {
    let mut told: Vec<&str> = Vec::new();
    for missing in &facts.delta.missing_types {
        let unit = missing.unit.as_str();
        let has = match &missing.level {
            Level::Absent => "without debug information".to_string(),
            Level::LinesOnly => "with line numbers but without types".to_string(),
            Level::Split(file) => format!("with its debug information in another file, `{file}`"),
            Level::Full => continue,
        };
        if told.contains(&unit) {
            continue;
        }
        told.push(unit);
        let message = format!("`{unit}` is compiled {has}, so nothing proves that its types stayed as they were");
        let help = "Set `debug = true` in the profile and leave out `split-debuginfo`.";
        reasons.push(RULE.refuse(&Item::named(unit), message, help));
    }
    for what in &facts.delta.unreadable_types {
        let message = format!("the debug information cannot be read: {what}");
        reasons.push(RULE.refuse(&Item::named(what), message, "Please report the message."));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::told;
    use super::super::{DeltaFacts, MissingTypes};
    use super::*;

    #[test]
    fn a_unit_is_told_once_and_full_information_is_fine() {
        let missing = |unit: &str, level| MissingTypes { unit: unit.into(), level };
        let missing_types =
            vec![missing("app (bin)", Level::Absent), missing("app (bin)", Level::Absent), missing("b", Level::Full)];
        let facts = Facts { delta: DeltaFacts { missing_types, ..Default::default() }, ..Default::default() };
        let mut reasons = Vec::new();
        check(&facts, &mut reasons);
        assert_eq!(reasons.iter().map(|reason| reason.item.as_str()).collect::<Vec<_>>(), ["app (bin)"]);
    }

    #[test]
    fn each_level_has_its_words_and_unreadable_information_is_refused() {
        let missing = |unit: &str, level| MissingTypes { unit: unit.into(), level };
        let split = Level::Split("app.dwo".into());
        let missing_types = vec![missing("a", Level::Absent), missing("b", Level::LinesOnly), missing("c", split)];
        let unreadable_types = vec!["codegen unit `x`: cut off".into()];
        let rest = "so nothing proves that its types stayed as they were";
        assert_eq!(
            told(DeltaFacts { missing_types, unreadable_types, ..DeltaFacts::default() }),
            [
                format!("no-type-info: `a`: `a` is compiled without debug information, {rest}"),
                format!("no-type-info: `b`: `b` is compiled with line numbers but without types, {rest}"),
                format!("no-type-info: `c`: `c` is compiled with its debug information in another file, `app.dwo`, {rest}"),
                "no-type-info: `codegen unit `x`: cut off`: the debug information cannot be read: codegen unit `x`: cut off"
                    .to_string(),
            ]
        );
    }
}
