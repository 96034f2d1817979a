//! Rule `link-time-optimised`: the edited program is optimised as a whole when it is linked.

use super::rule::{Reason, Rule};
use super::{DeltaFacts, Item};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "link-time-optimised",
    title: "The edited crate is optimised when the program is linked",
    what: "A crate was edited in a program that is built with `lto = true`, `\"thin\"` or `\"fat\"`, at whatever \
           `opt-level`.",
    why: "Link-time optimisation makes one piece of all crates: functions are merged, made private and tailored to their \
          callers in other crates. What rustc makes of the edited crate alone is not what runs.",
    example: "```toml\n[profile.dev]\nlto = \"thin\"\n```\n\n\
              > `app (bin)` is optimised when the program is linked (`lto`); its objects are not what runs",
    fix: "Set `lto = \"off\"` in the profile, or leave the key out. Then start the program again.",
};

pub(super) fn check(delta: &DeltaFacts, reasons: &mut Vec<Reason>) {
    for unit in &delta.link_time_units {
        let message =
            format!("`{unit}` is optimised when the program is linked (`lto`); its objects are not what runs");
        reasons.push(RULE.refuse(&Item::named(unit), message, "Set `lto = \"off\"` in the profile."));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_such_unit_is_refused() {
        let link_time_units = vec!["app (bin)".to_owned(), "core (lib)".to_owned()];
        let told = super::super::tests::told(DeltaFacts { link_time_units, ..DeltaFacts::default() });
        let one = |unit: &str| {
            let why = "is optimised when the program is linked (`lto`); its objects are not what runs";
            format!("link-time-optimised: `{unit}`: `{unit}` {why}")
        };
        assert_eq!(told, [one("app (bin)"), one("core (lib)")]);
    }
}
