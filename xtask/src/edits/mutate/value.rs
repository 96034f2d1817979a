//! Kinds that change values: constants, tables, initial values of statics, literals and operators in bodies.

use super::Soundness::{Open, Sound};
use super::facts::{Holder, Literal};
use super::{Candidate, Site};

pub(super) fn constant(site: &Site<'_>) -> Vec<Candidate> {
    literals(site, Holder::Const)
}

pub(super) fn const_table(site: &Site<'_>) -> Vec<Candidate> {
    literals(site, Holder::ConstTable)
}

pub(super) fn static_value(site: &Site<'_>) -> Vec<Candidate> {
    literals(site, Holder::Static)
}

pub(super) fn literal(site: &Site<'_>) -> Vec<Candidate> {
    literals(site, Holder::Body)
}

pub(super) fn operator(site: &Site<'_>) -> Vec<Candidate> {
    let operators = site.facts.operators.iter();
    operators
        .map(|(place, other)| Candidate { splices: vec![site.replace(place.clone(), *other)], soundness: Sound })
        .collect()
}

fn literals(site: &Site<'_>, holder: Holder) -> Vec<Candidate> {
    let literals = site.facts.literals.iter().filter(|literal| literal.holder == holder);
    literals.filter_map(|literal| candidate(site, literal)).collect()
}

fn candidate(site: &Site<'_>, literal: &Literal) -> Option<Candidate> {
    let text = another(site.get(&literal.place), site.number)?;
    // A constant that is part of a type makes it another type.
    let soundness = if site.facts.in_types.contains(&literal.owner) { Open } else { Sound };
    Some(Candidate { splices: vec![site.replace(literal.place.clone(), text)], soundness })
}

/// A number that is one more, a text that is longer.
fn another(literal: &str, number: usize) -> Option<String> {
    if let Some(text) = literal.strip_prefix('"') {
        return Some(format!("\"{text}")).map(|text| format!("{}~{number}\"", text.strip_suffix('"').unwrap_or(&text)));
    }
    let end = literal.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(literal.len());
    let (digits, suffix) = literal.split_at(end);
    if suffix.starts_with(['x', 'b', 'o', '.']) {
        return None;
    }
    let value: u64 = digits.replace('_', "").parse().ok()?;
    Some(format!("{}{}{suffix}", value.checked_add(1)?, if suffix.is_empty() { "" } else { "_" }))
}

#[cfg(test)]
mod tests {
    use super::another;

    #[test]
    fn literals_become_others() {
        assert_eq!(another("7", 1).as_deref(), Some("8"));
        assert_eq!(another("1_000u64", 1).as_deref(), Some("1001_u64"));
        assert_eq!(another("\"a\"", 3).as_deref(), Some("\"a~3\""));
        assert_eq!(another("0x10", 1), None);
        assert_eq!(another("r\"a\"", 1), None);
    }
}
