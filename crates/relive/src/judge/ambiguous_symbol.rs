//! Rule `ambiguous-symbol`: a name stands for several things in the running program.

use super::rule::{Reason, Rule};
use super::{DeltaFacts, Item};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "ambiguous-symbol",
    title: "A name stands for several things in the running program",
    what: "New code refers to, or replaces, a symbol that the program has more than once, and nothing tells which one is \
           meant.",
    why: "Taking the wrong one would call another function or share another variable.",
    example: "> `helper` stands for 2 things in the program: 0x5010 in `a.c`, 0x7a40 in `b.c`",
    fix: "Give one of them another name, then start the program again.",
};

pub(super) fn check(delta: &DeltaFacts, reasons: &mut Vec<Reason>) {
    for symbol in &delta.ambiguous_symbols {
        let (name, count) = (&symbol.name, symbol.candidates.len());
        let message = format!("`{name}` stands for {count} things in the program: {}", symbol.candidates.join(", "));
        let help = "Another name for one of them makes it clear.";
        reasons.push(RULE.refuse(&Item::named(name), message, help));
    }
}

#[cfg(test)]
mod tests {
    use super::super::AmbiguousSymbol;
    use super::super::DeltaFacts;
    use super::super::tests::told;

    #[test]
    fn every_place_is_named() {
        let delta = DeltaFacts {
            ambiguous_symbols: vec![AmbiguousSymbol {
                name: "helper".into(),
                candidates: vec!["one".into(), "two".into()],
            }],
            ..DeltaFacts::default()
        };
        assert_eq!(told(delta), ["ambiguous-symbol: `helper`: `helper` stands for 2 things in the program: one, two",]);
    }
}
