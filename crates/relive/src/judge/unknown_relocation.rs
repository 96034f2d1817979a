//! Rule `unknown-relocation`: new code refers to something in a way the linker does not know.

use super::DeltaFacts;
use super::rule::{Reason, Rule};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "unknown-relocation",
    title: "New code refers to something in a way that relive's linker does not know",
    what: "An object holds a relocation of a type that relive does not implement.",
    why: "A relocation says how an address is written into code or data. One that is not understood would leave a wrong \
          address there.",
    example: "> `app::fast_path` refers to `table` by relocation type 41 (in `.text.fast_path` at 0x1c), which relive \
              does not know",
    fix: "This mostly comes from hand-written assembly or unusual compiler flags in the edited crate: leave that function \
          as it is, or restart. Please report the relocation type.",
};

pub(super) fn check(delta: &DeltaFacts, reasons: &mut Vec<Reason>) {
    for unknown in &delta.unknown_relocations {
        let message = format!(
            "`{}` refers to `{}` by relocation type {} (in `{}` at {:#x}), which relive does not know",
            unknown.item.name, unknown.symbol, unknown.raw, unknown.section, unknown.offset
        );
        let help = "Please report the relocation type; until it is known this function cannot be edited.";
        reasons.push(RULE.refuse(&unknown.item, message, help));
    }
}

#[cfg(test)]
mod tests {
    use super::super::DeltaFacts;
    use super::super::tests::told;
    use super::super::{Item, UnknownRelocation};

    #[test]
    fn the_relocation_and_its_place_are_told() {
        let unknown = UnknownRelocation {
            item: Item::named("app::fast"),
            section: ".text.fast".into(),
            offset: 28,
            raw: 41,
            symbol: "table".into(),
        };
        assert_eq!(
            told(DeltaFacts { unknown_relocations: vec![unknown], ..DeltaFacts::default() }),
            [
                "unknown-relocation: `app::fast`: `app::fast` refers to `table` by relocation type 41 (in `.text.fast` at \
              0x1c), which relive does not know"
            ]
        );
    }
}
