//! Rule `unsplit-code`: changed code is not divided into functions.

use super::DeltaFacts;
use super::rule::{Reason, Rule};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "unsplit-code",
    title: "Changed code is not divided into functions",
    what: "Several functions share one section of the object, and something in it changed.",
    why: "Functions in one section may jump into each other by distances that no relocation shows, so none of them can \
          be moved or replaced alone.",
    example: "> the code around `fast_copy` changed and cannot be taken apart into functions",
    fix: "This comes from `global_asm!` and from C compiled without `-ffunction-sections`. Leave that code as it is, or \
          restart with the edit.",
};

pub(super) fn check(delta: &DeltaFacts, reasons: &mut Vec<Reason>) {
    for item in &delta.unsplit_code {
        let message = format!("the code around `{}` changed and cannot be taken apart into functions", item.name);
        reasons.push(RULE.refuse(item, message, "Code in sections of its own can be edited."));
    }
}

#[cfg(test)]
mod tests {
    use super::super::DeltaFacts;
    use super::super::Item;
    use super::super::tests::told;

    #[test]
    fn it_is_named_by_what_is_in_it() {
        let delta = DeltaFacts { unsplit_code: vec![Item::named("fast_copy")], ..DeltaFacts::default() };
        assert_eq!(
            told(delta),
            ["unsplit-code: `fast_copy`: the code around `fast_copy` changed and cannot be taken apart into functions",]
        );
    }
}
