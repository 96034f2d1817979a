//! Note `layout-proved`: a type looks different in memory, and it is proved that no old value of it is left.

use super::rule::{Reason, Rule};
use super::{Facts, Item, wording};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "layout-proved",
    title: "A type looks different in memory, and no old value of it is left",
    what: "This is a note, not a refusal: a type got another size, field or variant, and the change is applied because no value \
           of it can outlive the switch.",
    why: "The proof has four steps, over all objects of the program. 1. No static, thread-local, owner of memory (`Box`, `Vec`, \
          `Arc`, types of other crates), union or async state speaks of the type, nor of anything that holds it or refers to \
          it; pointers to trait objects count if such a type is behind one. 2. No function that handles it has `unsafe` in it, \
          is called from outside Rust, or is made by another crate's macro. 3. Every old function that can call one that is \
          handed the type is replaced in the same moment, or is the same. 4. At that moment no thread is inside such a function.",
    example: "```rust\nstruct Sample {\n    name: String, // new\n    low: u64,\n}\n\nfn tick() {\n    let sample = measure(); // lives \
              until tick ends\n}\n```\n\n> no value of `app::Sample` is left: 3 functions handle it, nothing keeps it, and no \
              thread was inside one of them",
    fix: "Nothing: the change is applied. To have a type that can change, keep its values out of statics, boxes and \
          collections, and its handling out of `unsafe` code.",
};

pub(super) fn check(facts: &Facts, notes: &mut Vec<Reason>) {
    let Some(liveness) = facts.delta.liveness.as_ref().filter(|liveness| liveness.is_proved()) else { return };
    let Some(first) = liveness.types.first() else { return };
    let more = match liveness.types.len() {
        1 => String::new(),
        count => format!(" (and of {} more types)", count - 1),
    };
    let functions = match liveness.handlers {
        1 => "1 function handles it".to_owned(),
        count => format!("{count} functions handle it"),
    };
    let message = format!(
        "no value of `{}`{more} is left: {functions}, nothing keeps it, and no thread was inside one of them",
        wording::plain(first)
    );
    notes.push(RULE.note(&Item::named(first.clone()), message, "All code that handles it was replaced at once."));
}

#[cfg(test)]
mod tests {
    use super::super::{DeltaFacts, Liveness};
    use super::*;

    fn notes(liveness: Liveness) -> Vec<String> {
        let delta = DeltaFacts { liveness: Some(liveness), ..DeltaFacts::default() };
        let mut notes = Vec::new();
        check(&Facts { delta, ..Facts::default() }, &mut notes);
        notes.into_iter().map(|note| note.message).collect()
    }

    #[test]
    fn a_proof_is_told_and_anything_else_is_not() {
        let types = vec!["app::Sample".to_owned()];
        let proved = Liveness { types, handlers: 3, ..Liveness::default() };
        let told = "no value of `app::Sample` is left: 3 functions handle it, nothing keeps it, and no thread was inside one of them";
        assert_eq!(notes(proved.clone()), [told]);
        let one = notes(Liveness { handlers: 1, ..proved.clone() });
        assert!(one[0].contains("is left: 1 function handles it, nothing"), "{one:?}");
        assert_eq!(notes(Liveness { kept: vec!["app::f".into()], ..proved }), Vec::<String>::new());
    }
}
