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

#[derive(Default)]
struct Sides<'a> {
    old: Vec<Located<'a>>,
    new: Vec<Located<'a>>,
}

/// All changed types, sorted by path.
pub(super) fn changed<'a>(old: &TypeSet<'a>, new: &TypeSet<'a>) -> Vec<Change<'a>> {
    let candidates = candidates(old, new);
    if candidates.is_empty() {
        return Vec::new();
    }
    let mut paths: FxHashMap<u64, Sides<'a>> = FxHashMap::default();
    for located in all(new).filter(|located| candidates.contains(&located.def.key)) {
        insert(&mut paths.entry(located.def.key).or_default().new, located);
    }
    for located in all(old) {
        if let Some(sides) = paths.get_mut(&located.def.key) {
            insert(&mut sides.old, located);
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
    let is_same = |object: &ObjectTypes| more.get(&object.layouts) == Some(&0);
    let same = |set: &TypeSet| -> Vec<u64> {
        set.objects.iter().filter(|object| is_same(object)).map(|object| object.layouts).collect()
    };
    // Two objects that became each other are no longer what they were.
    let moved = same(old) != same(new);
    let differing = old.objects.iter().chain(&new.objects).filter(|object| moved || !is_same(object));
    differing.flat_map(|object| &object.types).map(|def| def.key).collect()
}

fn all<'a>(set: &TypeSet<'a>) -> impl Iterator<Item = Located<'a>> {
    set.objects.iter().flat_map(|object| object.types.iter().map(move |def| Located { object, def }))
}

fn insert<'a>(list: &mut Vec<Located<'a>>, located: Located<'a>) {
    if !has(list, &located) {
        list.push(located);
    }
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

/// Two that nothing tells apart but their layouts, such as types of two blocks of a function, and whose layouts stand in
/// another order now: each may have become the other.
fn exchanged<'a>(sides: &Sides<'a>) -> Option<(Located<'a>, Located<'a>)> {
    let stay = |side: &[Located<'a>], other: &[Located<'a>], of: u64| -> Vec<Located<'a>> {
        side.iter().filter(|one| one.def.exact_key == of && has(other, one)).copied().collect()
    };
    sides.old.iter().find_map(|one| {
        let (old, new) =
            (stay(&sides.old, &sides.new, one.def.exact_key), stay(&sides.new, &sides.old, one.def.exact_key));
        old.into_iter().zip(new).find(|(old, new)| !is_same(old.def, new.def))
    })
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
