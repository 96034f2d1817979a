//! The delta between what runs and a new build.
//!
//! Takes what runs, the objects that the build took away and those it brought, and what debug information says about
//! functions; gives the fate of every item in the new objects. Pure; it does not judge whether an edit is sound.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::binary::names;
use crate::binary::object::{NameId, Object};
use crate::diff::delta::{ChangedFunction, Delta, Fate, LocationMove, StaticChange};
use crate::diff::pair::{self, Contestant, FactsOf, FunctionFacts};
use crate::diff::print::LocationRef;
use crate::diff::running::{NewObject, ObjectKey, Running};
use crate::diff::side::{Item, Side, Variable, path_hash};
/// From how many objects on the two sides are read at the same time.
const WORTH_A_THREAD: usize = 4;

/// Compares `running` with a build that takes `removed` away and brings `added`.
pub fn compare(
    running: &Running,
    mut removed: Vec<ObjectKey>,
    mut added: Vec<NewObject>,
    facts: &mut FactsOf<'_>,
) -> Delta {
    loop {
        let mut sides = Sides::collect(running, &removed, &added);
        sides.contest(running, &removed, &added, facts);
        let mut delta = sides.delta();
        let more = sides.dragged_along(running, &removed);
        if more.is_empty() {
            delta.removed = removed;
            delta.objects = added;
            return delta;
        }
        for key in more {
            if let Some(object) = running.object(key) {
                added.push(object.clone());
                removed.push(key);
            }
        }
    }
}

struct Sides {
    old: Side,
    new: Side,
    /// Contested new names and their partners.
    partner: FxHashMap<NameId, Option<NameId>>,
    contested_old: FxHashSet<NameId>,
    /// New names of immutable variables with another value, and what they were called.
    renewed: FxHashMap<NameId, NameId>,
}

impl Sides {
    fn collect(running: &Running, removed: &[ObjectKey], added: &[NewObject]) -> Sides {
        let old = || Side::collect(removed.iter().filter_map(|key| running.object(*key)));
        let new = || Side::collect(added.iter());
        let (old, new) = if added.len() < WORTH_A_THREAD { (old(), new()) } else { rayon::join(old, new) };
        Sides {
            old,
            new,
            partner: FxHashMap::default(),
            contested_old: FxHashSet::default(),
            renewed: FxHashMap::default(),
        }
    }

    /// Finds the functions that names alone do not settle, and pairs them. Debug information is asked only if there are
    /// any: where all code is the same there is nothing to ask about.
    fn contest(&mut self, running: &Running, removed: &[ObjectKey], added: &[NewObject], facts: &mut FactsOf<'_>) {
        let gone: FxHashSet<_> = removed.iter().copied().collect();
        let stays = |name: NameId| running.definitions(name).iter().any(|def| !gone.contains(&def.object));
        let mut contested = self.contested(&stays);
        let (mut olds, mut news) = self.contested_variables(&stays);
        if contested.is_empty() && olds.is_empty() && news.is_empty() {
            return;
        }
        self.old.learn(removed.iter().filter_map(|key| running.object(*key)), facts);
        self.new.learn(added.iter(), facts);
        contested.extend(self.new_signatures());
        news.extend(contested.iter().filter_map(|name| self.new.contestant(*name)));
        let is_gone = |name: &NameId| !self.new.functions.contains_key(name) && !stays(*name);
        let leaves = self.old.functions.keys().filter(|name| is_gone(name) || contested.contains(name));
        olds.extend(leaves.filter_map(|name| self.old.contestant(*name)));
        olds.sort_by_key(|old| old.name);
        news.sort_by_key(|new| new.name);
        let pairs = pair::pair(&olds, &news);
        self.contested_old = olds.iter().map(|old| old.name).collect();
        self.partner = news.iter().map(|new| (new.name, pairs.get(&new.name).copied())).collect();
        self.overrides();
        while self.renew() {}
    }

    /// Pairs a method of an impl with the trait's default of it for the same type, where one took the other's place:
    /// nobody else calls a default that is made for that type.
    fn overrides(&mut self) {
        let taken: FxHashSet<_> = self.partner.values().flatten().copied().collect();
        // What a new method is looked up by: a default by its own path, a method of an impl by the default's.
        let mut olds: FxHashMap<MethodKey, Option<NameId>> = FxHashMap::default();
        for old in self.contested_old.iter().filter(|old| !taken.contains(old)) {
            for key in self.old.functions.get(old).into_iter().flat_map(method_keys) {
                olds.entry(key.other_side()).and_modify(|several| *several = None).or_insert(Some(*old));
            }
        }
        let alone = self.partner.iter().filter(|(_, old)| old.is_none()).map(|(name, _)| *name);
        let pair = |name: NameId| {
            let keys = method_keys(self.new.functions.get(&name)?);
            let old = keys.into_iter().find_map(|key| olds.get(&key).copied().flatten())?;
            Some((name, old))
        };
        let mut found: Vec<_> = alone.filter_map(pair).collect();
        found.sort_unstable();
        for (name, old) in found {
            if !self.partner.values().any(|taken| *taken == Some(old)) {
                self.partner.insert(name, Some(old));
            }
        }
    }

    /// Parts immutable variables from their partners where the value is another one, as constants without a name are:
    /// the new one is an item of its own, and what refers to it is other code, or another value, for that. Whether there
    /// were any; then others may have to follow.
    ///
    /// The storage of the old one is not written to: references into it are alive, a thread may have read one half of
    /// it, and no write of more than a word is whole if relive is killed.
    fn renew(&mut self) -> bool {
        let other = |(name, new): (&NameId, &Variable)| {
            let old_name = self.translate(*name)?;
            let old = self.old.variables.get(&old_name).filter(|old| old.immutable && new.immutable)?;
            let differs = old.own != new.own || old.size != new.size || !self.same_refs(&old.refs, &new.refs);
            // What is exported under a name of the user's choice may be read by code that is not ours.
            (differs && names::is_mangled(&new.text)).then_some((*name, old_name))
        };
        let found: Vec<_> = self.new.variables.iter().filter_map(other).collect();
        for (name, old) in &found {
            self.partner.insert(*name, None);
            self.contested_old.insert(*old);
            self.renewed.insert(*name, *old);
        }
        !found.is_empty()
    }

    /// Variables of every path on which one came, went or changed. Variables of one path are told apart by numbers in
    /// their names (a `static` in a block, in a closure, in a macro), and another one's number is another one's storage.
    fn contested_variables(&self, stays: &dyn Fn(NameId) -> bool) -> (Vec<Contestant>, Vec<Contestant>) {
        let (old, new) = (&self.old.variables, &self.new.variables);
        let same = |name: &NameId, variable: &Variable| {
            old.get(name)
                .is_some_and(|old| old.own == variable.own && old.refs == variable.refs && old.size == variable.size)
        };
        let moved = new.iter().filter(|(name, variable)| !same(name, variable) && !stays(**name));
        let left = old.iter().filter(|(name, _)| !new.contains_key(*name) && !stays(**name));
        let paths: FxHashSet<u64> = moved.chain(left).map(|(_, variable)| path_hash(&variable.text)).collect();
        let on_them = |side: &FxHashMap<NameId, Variable>| {
            side.iter()
                .filter(|(name, variable)| paths.contains(&path_hash(&variable.text)) && !stays(**name))
                .map(|(name, variable)| variable.contestant(*name))
                .collect::<Vec<_>>()
        };
        (on_them(old), on_them(new))
    }

    /// New functions whose name is not known, or known with another content.
    fn contested(&self, stays: &dyn Fn(NameId) -> bool) -> FxHashSet<NameId> {
        let contested = |name: &NameId, item: &Item| match self.old.functions.get(name) {
            Some(old) => old.print.own != item.print.own || old.refs != item.refs,
            None => !stays(*name),
        };
        self.new.functions.iter().filter(|(name, item)| contested(name, item)).map(|(name, _)| *name).collect()
    }

    /// Functions with the same name and code, but for other types: what they pass on is not what they passed on before.
    fn new_signatures(&self) -> Vec<NameId> {
        let other = |name: &NameId, item: &Item| {
            let (Some(old), Some(new)) = (self.old.functions.get(name).and_then(|old| old.facts), item.facts) else {
                return false;
            };
            (old.erased, old.abi) != (new.erased, new.abi)
        };
        self.new.functions.iter().filter(|(name, item)| other(name, item)).map(|(name, _)| *name).collect()
    }

    /// What a name of the new build was called in the old one; `None` if nothing was.
    fn translate(&self, name: NameId) -> Option<NameId> {
        self.partner.get(&name).copied().unwrap_or(Some(name))
    }

    /// Whether a name means another item now than it did.
    fn moved(&self, name: NameId) -> bool {
        self.translate(name) != Some(name) && self.contested_old.contains(&name)
    }

    fn same_refs(&self, old: &[NameId], new: &[NameId]) -> bool {
        old.len() == new.len() && old.iter().zip(new).all(|(old, new)| self.translate(*new) == Some(*old))
    }

    /// Objects that did not change, but refer to a name that means something else now.
    fn dragged_along(&self, running: &Running, removed: &[ObjectKey]) -> Vec<ObjectKey> {
        if !self.partner.keys().any(|name| self.moved(*name)) {
            return Vec::new();
        }
        let gone: FxHashSet<_> = removed.iter().copied().collect();
        let refers = |object: &Object| object.symbols.iter().any(|symbol| self.moved(symbol.id));
        running.objects().filter(|(key, new)| !gone.contains(key) && refers(&new.object)).map(|(key, _)| key).collect()
    }

    fn delta(&self) -> Delta {
        let mut delta = Delta::default();
        let mut names: Vec<_> = self.new.functions.iter().collect();
        names.sort_by(|left, right| left.1.text.cmp(&right.1.text));
        for (name, item) in names {
            let fate = self.function_fate(*name, item);
            self.record(&mut delta, *name, item, fate);
        }
        self.kept_old(&mut delta);
        self.variables(&mut delta);
        delta.unsplit = differing(&self.old.unsplit, &self.new.unsplit).map(|(text, _)| text.clone()).collect();
        delta.unsplit.sort();
        let names: FxHashSet<&str> =
            self.old.gathered.keys().chain(self.new.gathered.keys()).map(|name| &**name).collect();
        let differs = |name: &&str| self.old.gathered.get(*name) != self.new.gathered.get(*name);
        delta.gathered = names.into_iter().filter(differs).map(str::to_owned).collect();
        delta.gathered.sort();
        delta
    }

    fn function_fate(&self, name: NameId, item: &Item) -> Fate {
        let Some(old_name) = self.translate(name) else { return Fate::New };
        match self.old.functions.get(&old_name) {
            Some(old) if old.print.own == item.print.own && self.same_refs(&old.refs, &item.refs) => {
                Fate::Same(old_name)
            }
            Some(_) => Fate::Changed(old_name),
            // Another codegen unit that did not change defines it: a copy of the same item.
            None => Fate::Same(name),
        }
    }

    fn record(&self, delta: &mut Delta, name: NameId, item: &Item, fate: Fate) {
        delta.fates.insert(name, fate);
        match fate {
            Fate::Same(old) => {
                if let Some(before) = self.old.functions.get(&old)
                    && before.copies_agree
                    && item.copies_agree
                {
                    record_moves(delta, old, before, item);
                }
            }
            Fate::Changed(old) => {
                let before = self.old.functions.get(&old);
                delta.changed.push(ChangedFunction {
                    name,
                    old,
                    text: item.text.clone(),
                    old_text: before.map_or_else(|| item.text.clone(), |before| before.text.clone()),
                    object: item.object,
                    section: item.section,
                });
            }
            Fate::New => delta.added.push(item.text.clone()),
        }
    }

    /// Old functions without partner, and the new ones that are called the same: another signature, captures or state.
    fn kept_old(&self, delta: &mut Delta) {
        let partners: FxHashSet<_> = self.partner.values().flatten().copied().collect();
        let item = |item: &Item| (path_hash(&item.text), item.facts.map(|facts| facts.erased));
        let mut alone: FxHashMap<_, Vec<NameId>> = FxHashMap::default();
        for name in self.partner.iter().filter(|(_, old)| old.is_none()).map(|(name, _)| name) {
            if let Some(new) = self.new.functions.get(name) {
                alone.entry(item(new)).or_default().push(*name);
            }
        }
        for name in self.contested_old.iter().filter(|name| !partners.contains(name)) {
            let Some(old) = self.old.functions.get(name) else { continue };
            if let Some(new) = alone.get(&item(old)) {
                delta.kept_old.push(old.text.clone());
                delta.instead.extend(new);
            }
        }
        delta.kept_old.sort();
    }

    fn variables(&self, delta: &mut Delta) {
        for (name, new) in &self.new.variables {
            match self.translate(*name) {
                Some(old_name) => {
                    let Some(old) = self.old.variables.get(&old_name) else { continue };
                    if old_name != *name {
                        delta.renamed.insert(*name, Some((old_name, old.text.clone())));
                    }
                    self.variable(old, new, old_name != *name, delta);
                }
                None => {
                    delta.renamed.insert(*name, None);
                    let old = self.renewed.get(name).and_then(|old| self.old.variables.get(old));
                    delta.statics.extend(old.map(|old| change(old, new, true, true)));
                }
            }
        }
        delta.statics.sort_by(|left, right| left.name.cmp(&right.name));
        delta.ambiguous = self.ambiguous();
    }

    /// Paths on which both an old and a new variable have no partner: nothing tells which storage is whose.
    fn ambiguous(&self) -> Vec<String> {
        let partners: FxHashSet<_> = self.partner.values().flatten().copied().collect();
        let lost = self.contested_old.iter().filter(|name| !partners.contains(name));
        // What nothing can write to has no state that could be another one's.
        let lost = lost.filter_map(|name| self.old.variables.get(name)).filter(|old| !old.immutable);
        let lost: FxHashSet<u64> = lost.map(|old| path_hash(&old.text)).collect();
        let alone = self.partner.iter().filter(|(_, old)| old.is_none());
        let alone = alone.filter_map(|(name, _)| self.new.variables.get(name)).filter(|new| !new.immutable);
        let mut out: Vec<_> =
            alone.filter(|new| lost.contains(&path_hash(&new.text))).map(|new| new.text.clone()).collect();
        out.sort();
        out
    }

    fn variable(&self, old: &Variable, new: &Variable, renamed: bool, delta: &mut Delta) {
        // An initial value that only refers to what is renewed was not edited.
        let was = |name: &NameId| self.renewed.get(name).copied().or_else(|| self.translate(*name));
        let same_refs =
            old.refs.len() == new.refs.len() && old.refs.iter().zip(&new.refs).all(|(old, new)| was(new) == Some(*old));
        let value = old.own != new.own || !same_refs;
        if value || renamed || old.size != new.size {
            delta.statics.push(change(old, new, value, false));
        }
    }
}

/// What a method is known by beside one of the other kind: the path of the trait's default for the type, and the ABI.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct MethodKey {
    /// It is such a default, and no method of an impl.
    is_default: bool,
    default_path: u64,
    abi: u64,
}

impl MethodKey {
    /// The key that a method of the other kind has. Two of one kind never take each other's place here: equal paths do not
    /// make them the same, for what they are generic over may be a closure or an async state with other contents.
    fn other_side(self) -> MethodKey {
        MethodKey { is_default: !self.is_default, ..self }
    }
}

fn method_keys(item: &Item) -> Vec<MethodKey> {
    let Some(facts) = item.facts else { return Vec::new() };
    let text = names::path_key(&item.text);
    let default = text.strip_prefix('<').and_then(|rest| rest.split_once(">::")).and_then(|(impl_of, method)| {
        let (of_type, of_trait) = impl_of.split_once(" as ")?;
        let plain = !of_trait.contains('<') && !of_type.contains(['<', '{']) && !method.contains("::");
        plain.then(|| FunctionFacts::path(&format!("{of_trait}::{method}<{of_type}>")))
    });
    let key = |is_default, default_path| MethodKey { is_default, default_path, abi: facts.method_abi };
    [Some(key(true, facts.erased)), default.map(|path| key(false, path))].into_iter().flatten().collect()
}

fn change(old: &Variable, new: &Variable, value: bool, renewed: bool) -> StaticChange {
    StaticChange {
        name: new.text.clone(),
        old_name: old.text.clone(),
        size: (old.size, new.size),
        thread_local: new.thread_local,
        value,
        renewed,
    }
}

/// Entries that one side does not have, or has with another value.
fn differing<'a, T: PartialEq>(
    old: &'a FxHashMap<NameId, T>,
    new: &'a FxHashMap<NameId, T>,
) -> impl Iterator<Item = &'a T> {
    let changed = new.iter().filter(|(name, value)| old.get(*name) != Some(*value));
    let gone = old.iter().filter(|(name, _)| !new.contains_key(*name));
    changed.chain(gone).map(|(_, value)| value)
}

fn record_moves(delta: &mut Delta, old: NameId, before: &Item, after: &Item) {
    let place = |location: &LocationRef| (location.line, location.column);
    for (was, is) in before.print.locations.iter().zip(&after.print.locations) {
        if place(was) != place(is) && was.offset == is.offset {
            delta.moves.push(LocationMove {
                function: old,
                text: before.text.clone(),
                field: (was.offset, was.addend),
                line: (place(was), place(is)),
            });
        }
    }
}
