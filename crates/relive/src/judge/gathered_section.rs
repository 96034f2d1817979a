//! Rule `gathered-section`: a section that is gathered at link or load time changed.

use super::rule::{Reason, Rule};
use super::{DeltaFacts, Item};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "gathered-section",
    title: "A section that is gathered at link or load time changed",
    what: "The edit adds, removes or changes something in a section that the linker or the loader collects from \
           the whole program: a constructor (`.init_array`), an element of a registry or distributed slice \
           (`#[link_section]`).",
    why: "The running program was linked and started already: nobody would run the new constructor or see the \
          new element, silently.",
    example: "```rust\n#[link_section = \"commands\"]\nstatic NEW: Command = Command { .. };\n```\n\n> section \
              `commands` changed: it is gathered when a program is linked or loaded, which has happened",
    fix: "Restart with the edit.",
};

pub(super) fn check(delta: &DeltaFacts, reasons: &mut Vec<Reason>) {
    for name in &delta.gathered_sections {
        let message =
            format!("section `{name}` changed: it is gathered when a program is linked or loaded, which has happened");
        reasons.push(RULE.refuse(&Item::named(name), message, "What was gathered cannot be gathered again."));
    }
}

#[cfg(test)]
mod tests {
    use super::super::DeltaFacts;
    use super::super::tests::told;

    #[test]
    fn each_section_is_named() {
        let delta = DeltaFacts { gathered_sections: vec![".init_array".into()], ..DeltaFacts::default() };
        assert_eq!(
            told(delta),
            [
                "gathered-section: `.init_array`: section `.init_array` changed: it is gathered when a program is linked or loaded, \
             which has happened",
            ]
        );
    }
}
