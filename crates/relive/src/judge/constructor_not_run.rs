//! Rule `constructor-not-run`: new code needs a part of a library whose constructor has not run.

use super::rule::{Reason, Rule};
use super::{DeltaFacts, Item};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "constructor-not-run",
    title: "New code needs a part of a library whose constructor has not run",
    what: "The edit uses a function of a library that was not used before, and the part of the library that comes along \
           has a constructor or destructor (`.init_array`, `.ctors`, `.fini_array`): a function that is to run before \
           `main`, or when the program ends.",
    why: "The running program was started already: nobody would run the constructor, and the library's code relies on what \
          it sets up.",
    example: "> `metrics.7f3a-cgu.2.rcgu.o of archive libmetrics.rlib` has one in its section `.init_array`, and constructors \
              run only when a program starts",
    fix: "Restart with the edit.",
};

pub(super) fn check(delta: &DeltaFacts, reasons: &mut Vec<Reason>) {
    for what in &delta.constructors {
        let message = format!("{what}, and constructors run only when a program starts");
        let help = "The library's code would run without what its constructor sets up.";
        reasons.push(RULE.refuse(&Item::named("a constructor of a library"), message, help));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_of_the_library_is_named() {
        let constructors = vec!["`a.o of archive libb.rlib` has one in its section `.init_array`".to_owned()];
        let told = super::super::tests::told(DeltaFacts { constructors, ..DeltaFacts::default() });
        let why = "`a.o of archive libb.rlib` has one in its section `.init_array`, and constructors run only when a program starts";
        assert_eq!(told, [format!("constructor-not-run: `a constructor of a library`: {why}")]);
    }
}
