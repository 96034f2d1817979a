//! Which new function is which old one.
//!
//! Names alone do not say: closures, impl blocks and nested items are numbered, so inserting one gives its name to
//! another. Takes the functions whose names or contents moved, gives pairs. Members of a group (same path) are matched by
//! what their debug information says (path without numbers, ABI) and by content first, where references to other
//! contested functions count as matched only once those are; then, if one of a kind is left on each side, as an edit;
//! then by unchanged names. Whoever remains has no partner: old code stays for those who hold it, new code is new.

use std::hash::Hasher;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet, FxHasher};

use crate::binary::object::NameId;
use crate::diff::running::NewObject;

/// What debug information says about the functions of an object, by linkage name.
pub type ObjectFacts = FxHashMap<NameId, FunctionFacts>;

/// Who reads debug information: the facts of each of several objects.
pub type FactsOf<'a> = dyn FnMut(&[&NewObject]) -> Vec<Arc<ObjectFacts>> + 'a;

/// A function that takes part in pairing.
#[derive(Clone, Debug)]
pub struct Contestant {
    /// Its name.
    pub name: NameId,
    /// Hash of its readable path, without hashes and numbers.
    pub path: u64,
    /// What debug information says about it; `None` if nothing.
    pub facts: Option<FunctionFacts>,
    /// Content without names.
    pub own: u128,
    /// Names referred to, in order.
    pub refs: Vec<NameId>,
}

/// What debug information says about a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FunctionFacts {
    /// Hash of its full path with generic arguments, numbers removed.
    pub erased: u64,
    /// Hash of its ABI: equal means that old and new may call each other.
    pub abi: u64,
    /// The same for a method, whether it is a trait's default or an impl's.
    pub method_abi: u64,
    /// Position in the source, to keep order among equals.
    pub order: u64,
}

impl FunctionFacts {
    /// The hash of a path without numbers, as [`FunctionFacts::erased`] is.
    #[must_use]
    pub fn path(text: &str) -> u64 {
        let mut hasher = FxHasher::default();
        hasher.write(text.as_bytes());
        hasher.finish()
    }
}

/// What must be equal for two functions to be the same item.
type Kind = (u64, Option<(u64, u64)>);

/// What else must be equal for them to be the same without an edit.
type Content = (Kind, u128, Vec<Reference>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reference {
    /// A name that means the same on both sides.
    Name(NameId),
    /// A contested function whose partner is not known yet: by its path.
    Path(u64),
    /// A contested function that has no partner.
    Alone(NameId),
}

/// Gives the partner among `olds` of each of `news` that has one.
#[must_use]
pub fn pair(olds: &[Contestant], news: &[Contestant]) -> FxHashMap<NameId, NameId> {
    let mut pairing = Pairing {
        olds,
        news,
        old_paths: olds.iter().map(|old| (old.name, old.path)).collect(),
        new_paths: news.iter().map(|new| (new.name, new.path)).collect(),
        to_old: FxHashMap::default(),
        taken: FxHashSet::default(),
    };
    loop {
        while pairing.by_content() {}
        if !pairing.equals_in_order() && !pairing.last_of_its_kind() && !pairing.by_name() {
            return pairing.to_old;
        }
    }
}

struct Pairing<'a> {
    olds: &'a [Contestant],
    news: &'a [Contestant],
    old_paths: FxHashMap<NameId, u64>,
    new_paths: FxHashMap<NameId, u64>,
    to_old: FxHashMap<NameId, NameId>,
    taken: FxHashSet<NameId>,
}

type Class<'a> = (Vec<&'a Contestant>, Vec<&'a Contestant>);

impl<'a> Pairing<'a> {
    fn kind(contestant: &Contestant) -> Kind {
        (contestant.path, contestant.facts.map(|facts| (facts.erased, facts.abi)))
    }

    fn content(&self, contestant: &Contestant, new: bool) -> Content {
        let reference = |name: &NameId| {
            if new {
                match (self.to_old.get(name), self.new_paths.get(name)) {
                    (Some(old), _) => Reference::Alone(*old),
                    (None, Some(path)) => Reference::Path(*path),
                    (None, None) => Reference::Name(*name),
                }
            } else if self.taken.contains(name) {
                Reference::Alone(*name)
            } else {
                self.old_paths.get(name).map_or(Reference::Name(*name), |path| Reference::Path(*path))
            }
        };
        (Self::kind(contestant), contestant.own, contestant.refs.iter().map(reference).collect())
    }

    fn free_olds(&self) -> impl Iterator<Item = &'a Contestant> {
        self.olds.iter().filter(|old| !self.taken.contains(&old.name))
    }

    fn free_news(&self) -> impl Iterator<Item = &'a Contestant> {
        self.news.iter().filter(|new| !self.to_old.contains_key(&new.name))
    }

    fn classes<K: std::hash::Hash + Eq>(&self, key: impl Fn(&Contestant, bool) -> K) -> FxHashMap<K, Class<'a>> {
        let mut classes: FxHashMap<K, Class<'a>> = FxHashMap::default();
        for old in self.free_olds() {
            classes.entry(key(old, false)).or_default().0.push(old);
        }
        for new in self.free_news() {
            classes.entry(key(new, true)).or_default().1.push(new);
        }
        classes.retain(|_, class| !class.0.is_empty() && !class.1.is_empty());
        classes
    }

    fn take(&mut self, new: &Contestant, old: &Contestant) {
        self.to_old.insert(new.name, old.name);
        self.taken.insert(old.name);
    }

    /// Pairs those that are alone with their content on each side.
    fn by_content(&mut self) -> bool {
        let classes = self.classes(|contestant, new| self.content(contestant, new));
        let mut found = false;
        for (olds, news) in classes.values() {
            if let ([old], [new]) = (olds.as_slice(), news.as_slice()) {
                self.take(new, old);
                found = true;
            }
        }
        found
    }

    /// Pairs several of equal content: by equal name, else in source order. Only if nothing that they refer to is open.
    fn equals_in_order(&mut self) -> bool {
        let classes = self.classes(|contestant, new| self.content(contestant, new));
        let mut found = false;
        for ((_, _, refs), (mut olds, mut news)) in classes {
            if refs.iter().any(|reference| matches!(reference, Reference::Path(_))) {
                continue;
            }
            found |= self.names_then_order(&mut olds, &mut news);
        }
        found
    }

    fn names_then_order(&mut self, olds: &mut Vec<&'a Contestant>, news: &mut Vec<&'a Contestant>) -> bool {
        if olds.len() == news.len() && same_names(olds, news) {
            for new in news.iter() {
                let Some(old) = olds.iter().find(|old| old.name == new.name) else { continue };
                self.take(new, old);
            }
            return true;
        }
        let order = |contestant: &&Contestant| contestant.facts.map_or(0, |facts| facts.order);
        if olds.iter().chain(news.iter()).any(|contestant| contestant.facts.is_none()) {
            return false;
        }
        olds.sort_by_key(order);
        news.sort_by_key(order);
        for (old, new) in olds.iter().zip(news.iter()) {
            self.take(new, old);
        }
        true
    }

    /// Pairs those of which one of a kind is left on each side: an edit.
    fn last_of_its_kind(&mut self) -> bool {
        let classes = self.classes(|contestant, _| Self::kind(contestant));
        let mut found = false;
        for (olds, news) in classes.values() {
            if let ([old], [new]) = (olds.as_slice(), news.as_slice()) {
                self.take(new, old);
                found = true;
            }
        }
        found
    }

    /// Pairs several of a kind whose set of names did not change: all of them were edited.
    fn by_name(&mut self) -> bool {
        let classes = self.classes(|contestant, _| Self::kind(contestant));
        let mut found = false;
        for (olds, news) in classes.values() {
            if olds.len() == news.len() && same_names(olds, news) {
                for new in news {
                    let Some(old) = olds.iter().find(|old| old.name == new.name) else { continue };
                    self.take(new, old);
                    found = true;
                }
            }
        }
        found
    }
}

fn same_names(olds: &[&Contestant], news: &[&Contestant]) -> bool {
    let mut left: Vec<_> = olds.iter().map(|old| old.name).collect();
    let mut right: Vec<_> = news.iter().map(|new| new.name).collect();
    left.sort_unstable();
    right.sort_unstable();
    left == right
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closure(name: u128, own: u128, order: u64) -> Contestant {
        let facts = Some(FunctionFacts { erased: 1, abi: 1, method_abi: 1, order });
        Contestant { name: NameId(name), path: 1, facts, own, refs: Vec::new() }
    }

    fn shim(name: u128, callee: u128) -> Contestant {
        Contestant { name: NameId(name), path: 2, facts: None, own: 9, refs: vec![NameId(callee)] }
    }

    fn partner(pairs: &FxHashMap<NameId, NameId>, new: u128) -> Option<u128> {
        pairs.get(&NameId(new)).map(|old| old.0)
    }

    #[test]
    fn an_inserted_closure_does_not_take_its_neighbours_names() {
        let olds = [closure(10, 0xa, 0), closure(11, 0xb, 1)];
        let news = [closure(10, 0xc, 0), closure(11, 0xa, 1), closure(12, 0xb, 2)];
        let pairs = pair(&olds, &news);
        assert_eq!([10, 11, 12].map(|new| partner(&pairs, new)), [None, Some(10), Some(11)]);
    }

    #[test]
    fn an_edited_closure_keeps_its_place_among_moved_ones() {
        let olds = [closure(10, 0xa, 0), closure(11, 0xb, 1)];
        let news = [closure(10, 0xb, 0), closure(11, 0xd, 1)];
        let pairs = pair(&olds, &news);
        assert_eq!([10, 11].map(|new| partner(&pairs, new)), [Some(11), Some(10)]);
    }

    #[test]
    fn shims_follow_what_they_call() {
        let olds = [closure(10, 0xa, 0), closure(11, 0xb, 1), shim(20, 10), shim(21, 11)];
        let news = [closure(10, 0xb, 0), closure(11, 0xa, 1), shim(20, 10), shim(21, 11)];
        let pairs = pair(&olds, &news);
        assert_eq!([20, 21].map(|new| partner(&pairs, new)), [Some(21), Some(20)]);
    }

    #[test]
    fn when_all_were_edited_and_none_inserted_names_decide() {
        let olds = [closure(10, 0xa, 0), closure(11, 0xb, 1)];
        let news = [closure(10, 0xc, 0), closure(11, 0xd, 1)];
        let pairs = pair(&olds, &news);
        assert_eq!([10, 11].map(|new| partner(&pairs, new)), [Some(10), Some(11)]);
    }

    #[test]
    fn another_abi_is_another_function() {
        let olds = [closure(10, 0xa, 0)];
        let mut new = closure(10, 0xa, 0);
        new.facts = Some(FunctionFacts { erased: 1, abi: 2, method_abi: 2, order: 0 });
        assert_eq!(partner(&pair(&olds, &[new]), 10), None);
    }

    #[test]
    fn an_edit_and_an_insertion_in_one_save_stay_unpaired() {
        let olds = [closure(10, 0xa, 0)];
        let news = [closure(10, 0xb, 0), closure(11, 0xc, 1)];
        assert!(pair(&olds, &news).is_empty());
    }
}
