//! Rule `wrong-binary`: what runs is not what was built.

use super::rule::{Reason, Rule};
use super::{DeltaFacts, Item};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "wrong-binary",
    title: "The program that runs is not the one that relive knows",
    what: "The file that the process runs is another one than the captured build, or was made by another compiler.",
    why: "Every address relive writes to comes from the file of the build. In another file other code is there.",
    example: "> this process cannot be patched: its build-id is 1f0c.., the build has 93ab..",
    fix: "Start the program with `cargo relive run`, so that what runs is what was built.",
};

pub(super) fn check(delta: &DeltaFacts, reasons: &mut Vec<Reason>) {
    if let Some(why) = &delta.wrong_binary {
        let message = format!("this process cannot be patched: {why}");
        let help = "relive can only patch the build that it has made itself.";
        reasons.push(RULE.refuse(&Item::named("the running program"), message, help));
    }
}

#[cfg(test)]
mod tests {
    use super::super::DeltaFacts;
    use super::super::tests::told;

    #[test]
    fn it_says_why() {
        let delta = DeltaFacts { wrong_binary: Some("its build-id is 1f0c".into()), ..DeltaFacts::default() };
        assert_eq!(
            told(delta),
            ["wrong-binary: `the running program`: this process cannot be patched: its build-id is 1f0c",]
        );
    }
}
