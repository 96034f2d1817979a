//! Rule `drop-of-objects`: a type that had nothing to drop has now, and is used as a trait object.

use super::rule::{Reason, Rule};
use super::{DeltaFacts, Item};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "drop-of-objects",
    title: "Trait objects of a type that had nothing to drop would have to be dropped",
    what: "A type got a `Drop` impl, or holds something with one now, and values of it are used behind `dyn Trait`.",
    why: "A trait object carries a pointer to a table that says how to drop it. In the tables of objects that are alive \
          nothing is said: they would be freed without the new `Drop`, which new code may count on.",
    example: "```rust\nimpl Drop for Token { .. } // new; a `Vec<Box<dyn Any>>` holds tokens\n```\n\n\
              > `app::Token` has something to drop now, and its objects of trait `core::any::Any` do not know of it",
    fix: "Put the `Drop` on another type that new code makes, or restart with the edit.",
};

pub(super) fn check(delta: &DeltaFacts, reasons: &mut Vec<Reason>) {
    let mut told: Vec<&str> = Vec::new();
    for new in delta.new_vtables.iter().filter(|new| new.drops) {
        // Closures have numbers, which may be another one's now; with other captures they are other types.
        let had_none = |old: &&super::Vtable| old.name == new.name && !old.drops && !new.name.contains('{');
        let inner = new.name.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
        let Some((of_type, of_trait)) = inner.and_then(|inner| inner.rsplit_once(" as ")) else { continue };
        if delta.old_vtables.iter().any(|old| had_none(&old)) && !told.contains(&of_type) {
            told.push(of_type);
            let message = format!(
                "`{of_type}` has something to drop now, and its objects of trait `{of_trait}` do not know of it"
            );
            let help = "Trait objects that are alive would be freed without being dropped.";
            reasons.push(RULE.refuse(&Item::named(of_type), message, help));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Vtable;
    use super::*;

    fn table(name: &str, drops: bool) -> Vtable {
        Vtable { name: name.to_owned(), drops, slots: Vec::new() }
    }

    #[test]
    fn only_a_new_drop_of_the_same_type_is_refused() {
        let messages = |old: Vtable, new: Vtable| {
            let delta = DeltaFacts { old_vtables: vec![old], new_vtables: vec![new], ..DeltaFacts::default() };
            let mut reasons = Vec::new();
            check(&delta, &mut reasons);
            reasons.into_iter().map(|reason| reason.message).collect::<Vec<_>>()
        };
        let (token, other) = ("<app::Token as core::any::Any>", "<app::Other as core::any::Any>");
        let refused =
            "`app::Token` has something to drop now, and its objects of trait `core::any::Any` do not know of it";
        assert_eq!(messages(table(token, false), table(token, true)), [refused]);
        assert_eq!(messages(table(token, true), table(token, false)), Vec::<String>::new());
        assert_eq!(messages(table(other, false), table(token, true)), Vec::<String>::new());
        assert_eq!(messages(table(token, true), table(token, true)), Vec::<String>::new());
    }

    #[test]
    fn a_type_is_told_once_however_many_traits_it_has() {
        let tables = |drops| ["<app::Token as app::A>", "<app::Token as app::B>"].map(|name| table(name, drops)).into();
        let delta = DeltaFacts { old_vtables: tables(false), new_vtables: tables(true), ..DeltaFacts::default() };
        let mut reasons = Vec::new();
        check(&delta, &mut reasons);
        assert_eq!(reasons.len(), 1);
    }
}
