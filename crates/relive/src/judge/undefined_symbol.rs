//! Rule `undefined-symbol`: new code needs something that the program does not have.

use super::rule::{Reason, Rule};
use super::{DeltaFacts, Item};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "undefined-symbol",
    title: "New code needs something that the program does not have",
    what: "A function or variable that new code refers to is not in the running program, not in the libraries it was \
           linked from, and not in the shared libraries it has loaded.",
    why: "A reference that leads nowhere cannot be written.",
    example: "> `SSL_connect` is needed by `app::net::open` and is neither in the program nor in its libraries",
    fix: "If the edit makes the program use another native library, restart with it. Otherwise please report the name.",
};

pub(super) fn check(delta: &DeltaFacts, reasons: &mut Vec<Reason>) {
    for symbol in &delta.undefined_symbols {
        let (name, from) = (&symbol.name, &symbol.from);
        let message = format!("`{name}` is needed by `{from}` and is neither in the program nor in its libraries");
        let help = "A library that the program was not linked with cannot be added while it runs.";
        reasons.push(RULE.refuse(&Item::named(name), message, help));
    }
}

#[cfg(test)]
mod tests {
    use super::super::DeltaFacts;
    use super::super::UndefinedSymbol;
    use super::super::tests::told;

    #[test]
    fn the_name_and_who_needs_it_are_told() {
        let delta = DeltaFacts {
            undefined_symbols: vec![UndefinedSymbol { name: "SSL_connect".into(), from: "app::open".into() }],
            ..DeltaFacts::default()
        };
        assert_eq!(
            told(delta),
            [
                "undefined-symbol: `SSL_connect`: `SSL_connect` is needed by `app::open` and is neither in the program nor in its \
             libraries",
            ]
        );
    }
}
