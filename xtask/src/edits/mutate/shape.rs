//! Kinds that change the shape of something: signatures, fields, variants, methods of traits, `Drop`, types behind a name.

use super::Soundness::{Open, Sound, Unsound};
use super::facts::Type;
use super::read;
use super::{Candidate, LIVE, NO_OBJECTS, OBJECTS, SHORT_LIVED, Site, Soundness, Splice};

/// A private function and all its callers get one parameter more.
pub(super) fn signature(site: &Site<'_>) -> Vec<Candidate> {
    let number = site.number;
    let functions = site.facts.functions.iter().filter(|function| function.is_private && !function.is_const);
    let candidates = functions.filter_map(|function| {
        let calls: Vec<_> = site.facts.calls.iter().filter(|call| call.name == function.name).collect();
        // A name that occurs elsewhere is another function's, or the address of this one is taken.
        if calls.is_empty() || words(site.text, &function.name).count() != calls.len() + 1 {
            return None;
        }
        let comma = |needs_comma| if needs_comma { ", " } else { "" };
        let parameter = format!("{}_added_{number}: u64", comma(function.needs_comma));
        let mut splices = vec![site.insert(function.parameters_end, parameter)];
        splices.extend(
            calls.iter().map(|call| site.insert(call.arguments_end, format!("{}{number}", comma(call.needs_comma)))),
        );
        Some(Candidate { splices, soundness: Sound })
    });
    candidates.collect()
}

pub(super) fn field_added(site: &Site<'_>) -> Vec<Candidate> {
    let number = site.number;
    let mut candidates = Vec::new();
    for ty in site.facts.types.iter().filter(|ty| !ty.is_enum) {
        let literals = braces(site, &ty.name, &format!(" added_{number}: {number},"), &format!(" added_{number}: _,"));
        for field in &ty.members {
            let mut splices = vec![site.insert(field.start, format!("added_{number}: u64,\n    "))];
            splices.extend(literals.iter().cloned());
            candidates.push(Candidate { splices, soundness: of_type(ty) });
        }
    }
    candidates
}

/// Puts a text into every literal of a struct in the package, and another into every pattern.
fn braces(site: &Site<'_>, type_name: &str, in_literal: &str, in_pattern: &str) -> Vec<Splice> {
    let mut splices = Vec::new();
    for (at, file) in site.package.iter().enumerate() {
        let Some(facts) = read::facts(&file.text) else { continue };
        for brace in facts.braces.iter().filter(|brace| brace.type_name == type_name && !brace.has_rest) {
            let text = if brace.is_pattern { in_pattern } else { in_literal };
            splices.push(Splice { file: at, place: brace.inside..brace.inside, text: text.to_owned() });
        }
    }
    splices
}

pub(super) fn fields_swapped(site: &Site<'_>) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for ty in site.facts.types.iter().filter(|ty| !ty.is_enum) {
        // Fields of one size may keep their places.
        let soundness = if of_type(ty) == Sound { Sound } else { Open };
        for pair in ty.members.windows(2) {
            if let [first, second] = pair {
                candidates.push(Candidate { splices: site.swap(first, second), soundness });
            }
        }
    }
    candidates
}

/// A field gets another name wherever the package says its name. Only names of two words: those mean nothing else.
pub(super) fn field_renamed(site: &Site<'_>) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for ty in site.facts.types.iter().filter(|ty| !ty.is_enum) {
        for name in ty.names.iter().filter(|name| name.contains('_')) {
            let mut splices = Vec::new();
            for (file, source) in site.package.iter().enumerate() {
                let places = words(&source.text, name).map(|start| start..start + name.len());
                splices.extend(places.map(|place| Splice { file, place, text: format!("{name}_{}", site.number) }));
            }
            candidates.push(Candidate { splices, soundness: Open });
        }
    }
    candidates
}

/// A type behind a name of the program becomes a wider one, or its last number another.
pub(super) fn retyped(site: &Site<'_>) -> Vec<Candidate> {
    let aliases = site.facts.aliases.iter().filter_map(|alias| {
        let target = site.get(&alias.target);
        let other = match target {
            "u16" => "u32".to_owned(),
            "u32" => "u64".to_owned(),
            "u64" => "u128".to_owned(),
            _ => {
                let (front, last) = target.strip_suffix('>')?.rsplit_once(", ")?;
                format!("{front}, {}>", last.parse::<u64>().ok()? + 1)
            }
        };
        let soundness = if alias.documentation.contains(LIVE) { Unsound } else { Open };
        Some(Candidate { splices: vec![site.replace(alias.target.clone(), other)], soundness })
    });
    aliases.collect()
}

pub(super) fn variant_added(site: &Site<'_>) -> Vec<Candidate> {
    let number = site.number;
    let mut candidates = Vec::new();
    for ty in site.facts.types.iter().filter(|ty| ty.is_enum) {
        let arms = arms(site, &ty.name, &format!("{}::Added{number} => unreachable!(), ", ty.name));
        for variant in &ty.members {
            let mut splices =
                vec![site.insert(variant.start, format!("#[allow(dead_code)]\n    Added{number},\n    "))];
            splices.extend(arms.iter().cloned());
            candidates.push(Candidate { splices, soundness: of_type(ty) });
        }
    }
    candidates
}

/// Gives every match over an enum in the package an arm more, unless it takes anything.
fn arms(site: &Site<'_>, enum_name: &str, arm: &str) -> Vec<Splice> {
    let mut splices = Vec::new();
    for (file, source) in site.package.iter().enumerate() {
        let Some(facts) = read::facts(&source.text) else { continue };
        for expr in facts.matches.iter().filter(|expr| expr.enums.contains(enum_name) && !expr.has_wildcard) {
            let text = format!("{}{arm}", if expr.needs_comma { ", " } else { "" });
            splices.push(Splice { file, place: expr.end..expr.end, text });
        }
    }
    splices
}

pub(super) fn trait_method(site: &Site<'_>) -> Vec<Candidate> {
    let number = site.number;
    let text = format!("fn added_{number}(&self) -> u64 {{\n        {number}\n    }}\n\n    ");
    let mut candidates = Vec::new();
    for item in &site.facts.traits {
        for method in &item.methods {
            let splices = vec![site.insert(method.start, &*text)];
            candidates.push(Candidate { splices, soundness: of_trait(&item.documentation) });
        }
    }
    candidates
}

pub(super) fn trait_methods_swapped(site: &Site<'_>) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for item in &site.facts.traits {
        for pair in item.methods.windows(2) {
            if let [first, second] = pair {
                let soundness = if of_trait(&item.documentation) == Sound { Sound } else { Open };
                candidates.push(Candidate { splices: site.swap(first, second), soundness });
            }
        }
    }
    candidates
}

pub(super) fn drop_added(site: &Site<'_>) -> Vec<Candidate> {
    let plain = site.facts.types.iter().filter(|ty| !ty.is_generic && !site.facts.dropped.contains(&ty.name));
    let candidates = plain.map(|ty| {
        let text = format!(
            "\n\nimpl Drop for {} {{\n    fn drop(&mut self) {{\n        core::hint::black_box({});\n    }}\n}}",
            ty.name, site.number
        );
        Candidate { splices: vec![site.insert(ty.end, text)], soundness: Open }
    });
    candidates.collect()
}

fn of_type(ty: &Type) -> Soundness {
    if ty.documentation.contains(SHORT_LIVED) {
        Sound
    } else if ty.documentation.contains(LIVE) {
        Unsound
    } else {
        Open
    }
}

fn of_trait(documentation: &str) -> Soundness {
    if documentation.contains(NO_OBJECTS) {
        Sound
    } else if documentation.contains(OBJECTS) {
        Unsound
    } else {
        Open
    }
}

/// Where a text has a word.
fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let (before, after) = (text.get(..*at), text.get(at + word.len()..));
        !is_part(before.and_then(|before| before.chars().next_back()))
            && !is_part(after.and_then(|after| after.chars().next()))
    })
}
