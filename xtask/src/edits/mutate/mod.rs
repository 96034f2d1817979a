//! The mutator: a package's texts and a seeded choice give one edit of a kind.
//!
//! An edit replaces ranges of the text and leaves every other byte alone. Whether the result compiles is for rustc to say;
//! what an edit does to answers (`Effect`) and whether it is known to be sound (`Soundness`) is said here, from the kind
//! and from what the program's own types say of themselves.

mod facts;
mod insert;
mod read;
mod shape;
mod value;

use facts::{Bytes, Facts};

use super::rng::Rng;

/// A type whose values are gone when an answer is given says so.
const SHORT_LIVED: &str = "Lives within one input.";
/// A type of the state says so.
const LIVE: &str = "Lives in the state.";
/// A trait without objects says so, and one with objects.
const NO_OBJECTS: &str = "No object of it is ever made.";
const OBJECTS: &str = "Objects of it are kept.";

/// What an edit does to the answers from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing.
    Same,
    /// Nothing as long as the process lives: a static keeps its value.
    SameHere,
    /// They are those of a program that was built from the edited sources.
    New,
}

/// Whether running the edited code on the old state is sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Soundness {
    Sound,
    /// Values or tables of the old shape are alive.
    Unsound,
    /// It depends on what is alive, or on how closures and futures are dealt with.
    Open,
}

/// A file of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceFile {
    /// Below the folder of all packages.
    pub(crate) path: String,
    pub(crate) text: String,
    /// Whether edits begin here. A field that is renamed is followed into other files too.
    pub(crate) editable: bool,
}

/// One replaced range of a file of the package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Splice {
    file: usize,
    place: Bytes,
    text: String,
}

/// A mutation that could be made.
#[derive(Clone, Debug)]
struct Candidate {
    splices: Vec<Splice>,
    soundness: Soundness,
}

/// A kind of mutation.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    effect: Effect,
    /// How often it is chosen, compared with the others.
    weight: usize,
    find: fn(&Site<'_>) -> Vec<Candidate>,
    /// It needs std, which the published crates may not have.
    needs_std: bool,
}

/// What a kind looks at.
struct Site<'a> {
    package: &'a [SourceFile],
    /// The file that is edited.
    file: usize,
    text: &'a str,
    facts: &'a Facts,
    /// The number in the names of what is added.
    number: usize,
}

/// A chosen edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edit {
    pub(crate) kind: &'static str,
    pub(crate) effect: Effect,
    pub(crate) soundness: Soundness,
    /// The new texts of files, by their paths.
    pub(crate) files: Vec<(String, String)>,
}

impl Edit {
    /// An edit of no file.
    pub(crate) fn nothing() -> Edit {
        Edit { kind: "", effect: Same, soundness: Soundness::Sound, files: Vec::new() }
    }
}

const fn kind(name: &'static str, effect: Effect, weight: usize, find: fn(&Site<'_>) -> Vec<Candidate>) -> Kind {
    Kind { name, effect, weight, find, needs_std: false }
}

use Effect::{New, Same, SameHere};

/// All kinds.
pub(crate) const KINDS: [Kind; 31] = [
    kind("comment", Same, 1, insert::comment),
    kind("lines at the top", Same, 1, insert::top_lines),
    kind("functions swapped", Same, 2, insert::functions_swapped),
    kind("function added", Same, 1, insert::function),
    kind("method added", Same, 2, insert::method),
    kind("impl added", Same, 1, insert::implementation),
    kind("nested function", Same, 2, insert::nested_function),
    kind("closure inserted", Same, 3, insert::closure),
    kind("call added", Same, 3, insert::call),
    kind("generic call added", Same, 3, insert::generic_call),
    Kind { needs_std: true, ..kind("std call added", Same, 3, insert::std_call) },
    kind("panic added", Same, 2, insert::panic),
    kind("static added", Same, 2, insert::static_item),
    Kind { needs_std: true, ..kind("thread-local added", Same, 1, insert::thread_local) },
    kind("capture added", Same, 3, insert::capture),
    kind("await inserted", Same, 4, insert::ready_await),
    kind("local across await", Same, 3, insert::local_across_await),
    kind("signature changed", Same, 3, shape::signature),
    kind("field added", Same, 3, shape::field_added),
    kind("fields swapped", Same, 2, shape::fields_swapped),
    kind("field renamed", Same, 2, shape::field_renamed),
    kind("retyped", Same, 1, shape::retyped),
    kind("variant added", Same, 3, shape::variant_added),
    kind("trait method added", Same, 2, shape::trait_method),
    kind("trait methods swapped", Same, 1, shape::trait_methods_swapped),
    kind("Drop added", Same, 1, shape::drop_added),
    kind("constant", New, 3, value::constant),
    kind("const table", New, 3, value::const_table),
    kind("static value", SameHere, 1, value::static_value),
    kind("literal", New, 6, value::literal),
    kind("operator", New, 3, value::operator),
];

/// Chooses an edit of one of `packages`; the first of them has std and gets half of all edits. A kind is drawn first, and
/// looked for until a file has a place for it. `None` if nothing was found in many tries.
pub(crate) fn choose(packages: &[Vec<SourceFile>], rng: &mut Rng, number: usize) -> Option<Edit> {
    (0..50).find_map(|_| {
        let kind = weighted(rng)?;
        let (own, others) = packages.split_first()?;
        let mut order: Vec<&Vec<SourceFile>> = if kind.needs_std { Vec::new() } else { rng.shuffled(others) };
        let first = if kind.needs_std || rng.next().is_multiple_of(2) { 0 } else { order.len().min(1) };
        order.insert(first, own);
        order.into_iter().find_map(|package| edit_of(kind, package, rng, number))
    })
}

/// An edit of this kind in a file that is drawn.
fn edit_of(kind: &Kind, package: &[SourceFile], rng: &mut Rng, number: usize) -> Option<Edit> {
    let files: Vec<usize> =
        (0..package.len()).filter(|at| package.get(*at).is_some_and(|file| file.editable)).collect();
    rng.shuffled(&files).into_iter().find_map(|file| {
        let (file, text) = (*file, &package.get(*file)?.text);
        if kind.effect == New && text.contains("unsafe") {
            return None; // another value can break what `unsafe` code relies on, in what the old code made
        }
        let facts = read::facts(text)?;
        let candidates = (kind.find)(&Site { package, file, text, facts: &facts, number });
        let candidate = rng.pick(&candidates)?;
        let files = spliced(package, &candidate.splices);
        Some(Edit { kind: kind.name, effect: kind.effect, soundness: candidate.soundness, files })
    })
}

fn weighted(rng: &mut Rng) -> Option<&'static Kind> {
    let mut left = rng.below(KINDS.iter().map(|kind| kind.weight).sum());
    KINDS.iter().find(|kind| {
        let found = left < kind.weight;
        left = left.saturating_sub(kind.weight);
        found
    })
}

/// The texts of the files that change.
fn spliced(package: &[SourceFile], splices: &[Splice]) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for (at, file) in package.iter().enumerate() {
        let mut mine: Vec<&Splice> = splices.iter().filter(|splice| splice.file == at).collect();
        if mine.is_empty() {
            continue;
        }
        mine.sort_by_key(|splice| splice.place.start);
        let mut text = String::with_capacity(file.text.len() + 100);
        let mut done = 0;
        for splice in mine {
            text.push_str(file.text.get(done..splice.place.start).unwrap_or_default());
            text.push_str(&splice.text);
            done = splice.place.end;
        }
        text.push_str(file.text.get(done..).unwrap_or_default());
        files.push((file.path.clone(), text));
    }
    files
}

impl Site<'_> {
    /// Text put into the edited file.
    fn insert(&self, at: usize, text: impl Into<String>) -> Splice {
        self.replace(at..at, text)
    }

    fn replace(&self, place: Bytes, text: impl Into<String>) -> Splice {
        Splice { file: self.file, place, text: text.into() }
    }

    fn get(&self, place: &Bytes) -> &str {
        self.text.get(place.clone()).unwrap_or_default()
    }

    /// Two ranges of the edited file that change places.
    fn swap(&self, first: &Bytes, second: &Bytes) -> Vec<Splice> {
        vec![self.replace(first.clone(), self.get(second)), self.replace(second.clone(), self.get(first))]
    }

    /// Each place in a function's body where a statement can go, with a text for it.
    fn statements(&self, soundness: Soundness, text: &str) -> Vec<Candidate> {
        let starts = self.facts.statements.iter().map(|statement| statement.start);
        starts.map(|start| Candidate { splices: vec![self.insert(start, format!("{text} "))], soundness }).collect()
    }
}

#[cfg(test)]
mod tests;
