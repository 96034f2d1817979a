//! Which types are others than before, and which of them the user has touched.
//!
//! Types are matched by path without the numbers of closures and impls. Several types can share such a path (types
//! local to numbered impls, serde's visitors, function items and pointers), so a path stands for a set of layouts: it
//! has changed when some old layout is gone *and* some new one has come.

use rustc_hash::{FxHashMap, FxHashSet};

use super::TypeSet;
use crate::binary::types::{ObjectTypes, TypeDef};

/// A type and the object that describes it.
#[derive(Clone, Copy)]
pub(super) struct Located<'a> {
    pub(super) object: &'a ObjectTypes,
    pub(super) def: &'a TypeDef,
}

/// A type that looks different in memory after the edit.
pub(super) struct Change<'a> {
    pub(super) old: Located<'a>,
    pub(super) new: Located<'a>,
    /// Path of the new type, with generics.
    pub(super) path: String,
    /// Its own definition changed; otherwise it only holds another one by value.
    pub(super) is_cause: bool,
    /// No other type has its path, as some do that stand in blocks or numbered impls.
    pub(super) is_alone: bool,
}

/// The types of one path.
#[derive(Default)]
struct Sides<'a> {
    old: Vec<Located<'a>>,
    new: Vec<Located<'a>>,
    /// The same with every time that one is described.
    all_old: Vec<Located<'a>>,
    all_new: Vec<Located<'a>>,
}

/// All changed types, sorted by path.
pub(super) fn changed<'a>(old: &TypeSet<'a>, new: &TypeSet<'a>) -> Vec<Change<'a>> {
    let candidates = candidates(old, new);
    if candidates.is_empty() {
        return Vec::new();
    }
    let mut paths: FxHashMap<u64, Sides<'a>> = FxHashMap::default();
    for located in all(new).filter(|located| candidates.contains(&located.def.key)) {
        let sides = paths.entry(located.def.key).or_default();
        insert(&mut sides.new, &mut sides.all_new, located);
    }
    for located in all(old) {
        if let Some(sides) = paths.get_mut(&located.def.key) {
            insert(&mut sides.old, &mut sides.all_old, located);
        }
    }
    let mut changes: Vec<Change<'a>> = paths.into_values().filter_map(difference).collect();
    changes.sort_by(|left, right| left.path.cmp(&right.path));
    let keys: FxHashSet<u64> = changes.iter().map(|change| change.new.def.key).collect();
    for change in &mut changes {
        let holds = |side: &Located| side.object.held_by_value(side.def).iter().any(|held| keys.contains(&held.key));
        let same_shape = change.old.def.shape == change.new.def.shape;
        change.is_cause = !(same_shape && (holds(&change.old) || holds(&change.new)));
    }
    changes
}

impl Change<'_> {
    /// Holds `other` by value, at any depth.
    pub(super) fn holds(&self, other: &Change) -> bool {
        self.new.object.held_by_value(self.new.def).iter().any(|held| held.key == other.new.def.key)
    }
}

/// The types of objects that do not have the same ones as before, by key. An edit of many objects leaves the types of most
/// of them alone.
fn candidates(old: &TypeSet, new: &TypeSet) -> FxHashSet<u64> {
    let mut more: FxHashMap<u64, i64> = FxHashMap::default();
    new.objects.iter().for_each(|object| *more.entry(object.layouts).or_default() += 1);
    old.objects.iter().for_each(|object| *more.entry(object.layouts).or_default() -= 1);
    let differs = |object: &&&ObjectTypes| more.get(&object.layouts) != Some(&0);
    let differing = old.objects.iter().chain(&new.objects).filter(differs);
    differing.flat_map(|object| &object.types).map(|def| def.key).collect()
}

fn all<'a>(set: &TypeSet<'a>) -> impl Iterator<Item = Located<'a>> {
    set.objects.iter().flat_map(|object| object.types.iter().map(move |def| Located { object, def }))
}

fn insert<'a>(list: &mut Vec<Located<'a>>, all: &mut Vec<Located<'a>>, located: Located<'a>) {
    if !has(list, &located) {
        list.push(located);
    }
    all.push(located);
}

/// Whether two say the same: called the same, numbers included, and looking the same.
fn is_same(one: &TypeDef, other: &TypeDef) -> bool {
    one.exact_key == other.exact_key && one.layout == other.layout
}

fn has(side: &[Located], one: &Located) -> bool {
    side.iter().any(|other| is_same(one.def, other.def))
}

/// What is left of both sides when equal ones are taken away in pairs.
fn difference<'a>(mut sides: Sides<'a>) -> Option<Change<'a>> {
    // A path with numbers that is the very same on both sides is the same type, whatever others of this path look like.
    let other =
        |old: &Located, new: &Located| old.def.exact_key == new.def.exact_key && old.def.layout != new.def.layout;
    let is_alone = sides.old.len() == 1 && sides.new.len() == 1;
    // Unless only the numbers moved: as many of each layout as before, under other numbers.
    let only_moved = sorted(&sides.old, |def| def.layout) == sorted(&sides.new, |def| def.layout)
        && sorted(&sides.old, |def| def.exact_key) != sorted(&sides.new, |def| def.exact_key);
    for old in sides.old.iter().filter(|_| !only_moved) {
        let others = || sides.new.iter().filter(|new| other(old, new));
        // One that was not there before is what it has become.
        let Some(new) = others().find(|new| !has(&sides.old, new)).or_else(|| others().next()) else { continue };
        if !has(&sides.new, old) || !has(&sides.old, new) {
            return Some(Change { old: *old, new: *new, path: new.object.path(new.def), is_cause: true, is_alone });
        }
    }
    if let Some((old, new)) = exchanged(&sides) {
        return Some(Change { old, new, path: new.object.path(new.def), is_cause: true, is_alone });
    }
    take_pairs(&mut sides, is_same);
    take_pairs(&mut sides, |old, new| old.layout == new.layout);
    let old = *sides.old.first()?;
    let same_path = sides.new.iter().find(|new| new.def.exact_key == old.def.exact_key);
    let new = *same_path.or(sides.new.first())?;
    Some(Change { old, new, path: new.object.path(new.def), is_cause: true, is_alone })
}

/// Two that nothing tells apart but their layouts, such as types of two blocks, and that may have changed places: within a
/// codegen unit they stand in another order now, or two codegen units have each what the other one had.
fn exchanged<'a>(sides: &Sides<'a>) -> Option<(Located<'a>, Located<'a>)> {
    // As a rule all have names that tell them apart.
    let stay: Vec<&Located> = sides.old.iter().filter(|one| has(&sides.new, one)).collect();
    let alike = |one: &&&Located| stay.iter().filter(|other| other.def.exact_key == one.def.exact_key).count() > 1;
    let alike: Vec<&Located> = stay.iter().filter(alike).copied().collect();
    alike.iter().find_map(|one| {
        let with = alike.iter().find(|other| {
            other.def.exact_key == one.def.exact_key
                && (in_other_order(sides, one.def, other.def) || in_each_others_units(sides, one.def, other.def))
        })?;
        Some((**one, **with))
    })
}

/// Where `def` stands among the types of a codegen unit; `None` if it does not.
fn place(side: &[Located], unit: u64, def: &TypeDef) -> Option<usize> {
    side.iter().filter(|one| one.object.codegen_unit == unit).position(|one| is_same(one.def, def))
}

fn in_other_order(sides: &Sides, one: &TypeDef, other: &TypeDef) -> bool {
    let order = |side: &[Located], unit| Some(place(side, unit, one)?.cmp(&place(side, unit, other)?));
    sides.all_old.iter().map(|old| old.object.codegen_unit).any(|unit| {
        let (before, after) = (order(&sides.all_old, unit), order(&sides.all_new, unit));
        before.is_some() && after.is_some() && before != after
    })
}

/// A codegen unit had `one` and has `other`, and another one the reverse.
fn in_each_others_units(sides: &Sides, one: &TypeDef, other: &TypeDef) -> bool {
    let became = |from: &TypeDef, to: &TypeDef| {
        sides.all_old.iter().map(|old| old.object.codegen_unit).any(|unit| {
            let has = |side: &[Located], def: &TypeDef| place(side, unit, def).is_some();
            has(&sides.all_old, from)
                && !has(&sides.all_old, to)
                && has(&sides.all_new, to)
                && !has(&sides.all_new, from)
        })
    };
    became(one, other) && became(other, one)
}

fn sorted(side: &[Located], by: impl Fn(&TypeDef) -> u64) -> Vec<u64> {
    let mut all: Vec<u64> = side.iter().map(|one| by(one.def)).collect();
    all.sort_unstable();
    all
}

fn take_pairs(sides: &mut Sides, equal: impl Fn(&TypeDef, &TypeDef) -> bool) {
    sides.old.retain(|old| match sides.new.iter().position(|new| equal(old.def, new.def)) {
        Some(index) => {
            sides.new.swap_remove(index);
            false
        }
        None => true,
    });
}
