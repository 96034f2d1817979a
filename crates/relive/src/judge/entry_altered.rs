//! Rule `entry-altered`: the code in memory is not the one that was built.

use super::DeltaFacts;
use super::rule::{Reason, Rule};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "entry-altered",
    title: "The first bytes of a changed function are not the built ones",
    what: "In the running program a function that is to be switched begins with other bytes than the build has.",
    why: "Somebody else has written there: a debugger's breakpoint, a profiler's hook. Writing over it would take it \
          away, and that tool would later write the old bytes back over the switch.",
    example: "> the code of `app::tick` in memory is not the built one: a breakpoint or another tool's hook",
    fix: "Remove the breakpoint or stop the other tool, then save again.",
};

pub(super) fn check(delta: &DeltaFacts, reasons: &mut Vec<Reason>) {
    for item in &delta.altered_entries {
        let name = &item.name;
        let message =
            format!("the code of `{name}` in memory is not the built one: a breakpoint or another tool's hook");
        reasons.push(RULE.refuse(item, message, "Remove the breakpoint or hook and save again."));
    }
}

#[cfg(test)]
mod tests {
    use super::super::DeltaFacts;
    use super::super::Item;
    use super::super::tests::told;

    #[test]
    fn each_function_is_named() {
        let delta = DeltaFacts { altered_entries: vec![Item::named("app::tick")], ..DeltaFacts::default() };
        assert_eq!(
            told(delta),
            [
                "entry-altered: `app::tick`: the code of `app::tick` in memory is not the built one: a breakpoint or another tool's hook",
            ]
        );
    }
}
