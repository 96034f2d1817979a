//! Stage 4: may the new code run on the old state? Types and the differences found go in, a verdict comes out.
//!
//! One rule per file; each looks at the same facts and adds its reasons, so that the user sees all of them at once.
//! What is not proved sound is refused. The judge is pure: it reads no files and knows no process. It does not pair
//! functions (diff does, by the signature hashes of `binary::types`) and does not look for threads in old code (swap).

mod ambiguous_symbol;
mod constructor_not_run;
mod dependency_changed;
mod drop_of_objects;
mod entry_altered;
mod entry_no_room;
mod facts;
mod field_renamed;
mod foreign_copy;
mod gathered_section;
mod layout_proved;
mod link_time_optimised;
mod liveness;
mod matching;
mod nameless_storage;
mod new_thread_local;
mod no_agent;
mod no_room;
mod no_type_info;
mod only_main_calls;
mod optimised_unit;
mod places;
mod rule;
mod source;
mod static_renewed;
mod static_type;
mod static_value_kept;
mod tables_full;
mod thread_in_the_way;
mod tls_reserve_full;
mod type_layout;
mod undefined_symbol;
mod unknown_relocation;
mod unreadable_object;
mod unsplit_code;
mod vtable_shape;
mod wording;
mod wrong_binary;

pub use facts::{
    AmbiguousSymbol, ChangedStatic, DeltaFacts, Facts, FullThreadReserve, Item, MissingTypes, NoEntryRoom,
    NoThreadStorage, OptimisedUnit, TypeSet, UndefinedSymbol, UnknownRelocation, Vtable, VtableSlot,
};
pub use liveness::{Liveness, QuietFunction};
pub use places::place;
use rule::{Applied, Check};
pub use rule::{Reason, Rule, page};
pub use source::{SourceCrate, Sources, Spot};
pub use type_layout::{LayoutChanges, held_up, layout_changes};

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Sound; with what the user should know about it.
    Accepted(Vec<Reason>),
    /// Not proved sound; with every reason found.
    Refused(Vec<Reason>),
}

/// All rules, in the order in which their reasons are told.
const RULES: &[Applied] = &[
    Applied { rule: &wrong_binary::RULE, check: Check::Late(wrong_binary::check) },
    Applied { rule: &no_type_info::RULE, check: Check::Early(no_type_info::check) },
    Applied { rule: &optimised_unit::RULE, check: Check::Early(optimised_unit::check) },
    Applied { rule: &link_time_optimised::RULE, check: Check::Late(link_time_optimised::check) },
    Applied { rule: &type_layout::RULE, check: Check::Early(type_layout::check) },
    Applied { rule: &vtable_shape::RULE, check: Check::Early(vtable_shape::check) },
    Applied { rule: &drop_of_objects::RULE, check: Check::Late(drop_of_objects::check) },
    Applied { rule: &static_type::RULE, check: Check::Early(static_type::check) },
    Applied { rule: &new_thread_local::RULE, check: Check::Late(new_thread_local::check) },
    Applied { rule: &tls_reserve_full::RULE, check: Check::Late(tls_reserve_full::check) },
    Applied { rule: &ambiguous_symbol::RULE, check: Check::Late(ambiguous_symbol::check) },
    Applied { rule: &undefined_symbol::RULE, check: Check::Late(undefined_symbol::check) },
    Applied { rule: &nameless_storage::RULE, check: Check::Late(nameless_storage::check) },
    Applied { rule: &unreadable_object::RULE, check: Check::Late(unreadable_object::check) },
    Applied { rule: &unsplit_code::RULE, check: Check::Late(unsplit_code::check) },
    Applied { rule: &unknown_relocation::RULE, check: Check::Late(unknown_relocation::check) },
    Applied { rule: &gathered_section::RULE, check: Check::Late(gathered_section::check) },
    Applied { rule: &constructor_not_run::RULE, check: Check::Late(constructor_not_run::check) },
    Applied { rule: &foreign_copy::RULE, check: Check::Late(foreign_copy::check) },
    Applied { rule: &only_main_calls::RULE, check: Check::Late(only_main_calls::check) },
    Applied { rule: &no_agent::RULE, check: Check::Late(no_agent::check) },
    Applied { rule: &dependency_changed::RULE, check: Check::Late(dependency_changed::check) },
    Applied { rule: &entry_no_room::RULE, check: Check::Late(entry_no_room::check) },
    Applied { rule: &entry_altered::RULE, check: Check::Late(entry_altered::check) },
    Applied { rule: &no_room::RULE, check: Check::Late(no_room::check) },
    Applied { rule: &tables_full::RULE, check: Check::Late(tables_full::check) },
    Applied { rule: &thread_in_the_way::RULE, check: Check::Late(thread_in_the_way::check) },
    Applied { rule: &static_renewed::RULE, check: Check::Note(static_renewed::check) },
    Applied { rule: &static_value_kept::RULE, check: Check::Note(static_value_kept::check) },
    Applied { rule: &field_renamed::RULE, check: Check::Note(field_renamed::check) },
    Applied { rule: &layout_proved::RULE, check: Check::Note(layout_proved::check) },
];

/// Applies every rule.
pub fn judge(facts: &Facts) -> Verdict {
    let (mut reasons, mut notes) = (Vec::new(), Vec::new());
    for Applied { check, .. } in RULES {
        match check {
            Check::Early(check) => check(facts, &mut reasons),
            Check::Late(check) => check(&facts.delta, &mut reasons),
            Check::Note(check) => check(facts, &mut notes),
        }
    }
    if reasons.is_empty() { Verdict::Accepted(notes) } else { Verdict::Refused(reasons) }
}

/// Applies the rules about what linking and loading run into, after [`judge`] has accepted.
pub fn judge_late(delta: &DeltaFacts) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for Applied { check, .. } in RULES {
        match check {
            Check::Late(check) => check(delta, &mut reasons),
            Check::Early(_) | Check::Note(_) => {}
        }
    }
    reasons
}

/// All rules, for `explain` and the manual.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    RULES.iter().map(|applied| applied.rule)
}

/// The rule with this id.
pub fn rule(id: &str) -> Option<&'static Rule> {
    rules().find(|rule| rule.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of `delta`, as `rule: item: message`; the late rules say the same when they are asked alone.
    pub(super) fn told(delta: DeltaFacts) -> Vec<String> {
        let (reasons, kind) = match judge(&Facts { delta: delta.clone(), ..Facts::default() }) {
            Verdict::Accepted(notes) => (notes, "note "),
            Verdict::Refused(reasons) => (reasons, ""),
        };
        let late = |reason: &&Reason| {
            let applied = RULES.iter().find(|applied| applied.rule.id == reason.rule);
            applied.is_some_and(|applied| matches!(applied.check, Check::Late(_)))
        };
        assert_eq!(judge_late(&delta), reasons.iter().filter(late).cloned().collect::<Vec<_>>());
        let line = |reason: &Reason| format!("{kind}{}: `{}`: {}", reason.rule, reason.item, reason.message);
        reasons.iter().map(line).collect()
    }

    #[test]
    fn a_rule_is_found_by_its_id() {
        for known in rules() {
            assert!(std::ptr::eq(rule(known.id).unwrap(), known));
        }
        assert!(rule("no-such-rule").is_none());
    }

    #[test]
    fn every_page_says_why_and_shows_an_example_and_a_way_out() {
        for rule in rules() {
            let page = page(rule);
            let parts = [rule.title, rule.what, rule.why, rule.example, rule.fix];
            for part in parts {
                assert!(part.len() > 20 && page.contains(part), "{}: {part}", rule.id);
            }
            assert!(rule.example.contains("> "), "{}: the example shows no message", rule.id);
            assert!(!rule.title.ends_with('.') && rule.fix.ends_with('.'), "{}", rule.id);
        }
    }

    #[test]
    fn nothing_changed_is_accepted_without_a_word() {
        assert_eq!(judge(&Facts::default()), Verdict::Accepted(Vec::new()));
    }

    #[test]
    fn ids_are_unique_and_in_kebab_case() {
        let ids: Vec<_> = rules().map(|rule| rule.id).collect();
        for (index, id) in ids.iter().enumerate() {
            assert!(id.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-'), "{id}");
            assert!(!ids[..index].contains(id), "{id} twice");
        }
    }

    #[test]
    fn every_reason_is_collected_and_says_how_to_restart() {
        let delta = DeltaFacts {
            wrong_binary: Some("the running file was replaced".into()),
            no_room: Some("no free memory within 2 GiB of `app`".into()),
            ..DeltaFacts::default()
        };
        let Verdict::Refused(reasons) = judge(&Facts { delta, ..Facts::default() }) else { panic!("accepted") };
        assert_eq!(reasons.iter().map(|reason| reason.rule).collect::<Vec<_>>(), ["wrong-binary", "no-room"]);
        assert!(reasons.iter().all(|reason| reason.help.ends_with("`cargo relive run`.")));
    }
}
