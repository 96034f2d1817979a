//! Debug information of objects, read once each, and what the judge and the pairing want to know of it.

use std::hash::Hasher;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHasher};

use crate::binary::names;
use crate::binary::object::{NameId, Object, Place, SectionId};
use crate::binary::types::{self, Level, ObjectTypes};
use crate::compile::Baseline;
use crate::diff::compare::ObjectFacts;
use crate::diff::pair::FunctionFacts;
use crate::diff::reach::Problem;
use crate::diff::{Delta, NewObject, Reach, Running};
use crate::judge::{
    AmbiguousSymbol, ChangedStatic, DeltaFacts, Item, MissingTypes, NoEntryRoom, OptimisedUnit, UndefinedSymbol,
    UnknownRelocation, VtableChange,
};
use crate::load::Entries;
use crate::session::known::in_parallel;

/// Debug information of one object.
pub(super) struct Known {
    /// `None` if it could not be read.
    pub(super) types: Option<ObjectTypes>,
    pub(super) functions: Arc<ObjectFacts>,
}

/// Debug information of the objects that comparisons asked for.
#[derive(Default)]
pub(super) struct TypeCache {
    known: FxHashMap<*const Object, (Arc<Object>, Arc<Known>)>,
    unreadable: Vec<String>,
}

impl TypeCache {
    /// Reads what is not known yet of `objects`, several at a time.
    pub(super) fn read_ahead<'a>(&mut self, objects: impl Iterator<Item = &'a NewObject>) {
        let unknown: Vec<&NewObject> =
            objects.filter(|new| !self.known.contains_key(&Arc::as_ptr(&new.object))).collect();
        let read = |part: &[&NewObject]| part.iter().map(|new| types::read(new.object.data())).collect::<Vec<_>>();
        let read = in_parallel(&unknown, read).into_iter().flatten();
        for (new, types) in unknown.iter().zip(read) {
            self.learn(new, types);
        }
    }

    /// What the object's debug information says; nothing if it cannot be read, which [`TypeCache::unreadable`] tells.
    pub(super) fn of(&mut self, new: &NewObject) -> Arc<Known> {
        let key = Arc::as_ptr(&new.object);
        if let Some((_, known)) = self.known.get(&key) {
            return Arc::clone(known);
        }
        self.learn(new, types::read(new.object.data()))
    }

    fn learn(&mut self, new: &NewObject, read: Result<ObjectTypes, types::TypesError>) -> Arc<Known> {
        let types = match read {
            Ok(types) => Some(types),
            Err(error) => {
                self.unreadable.push(format!("codegen unit `{}`: {error}", new.cgu));
                None
            }
        };
        let functions = Arc::new(types.as_ref().map_or_else(ObjectFacts::default, functions));
        let known = Arc::new(Known { types, functions });
        self.known.insert(Arc::as_ptr(&new.object), (Arc::clone(&new.object), Arc::clone(&known)));
        known
    }

    /// Objects whose debug information could not be read since the last call.
    pub(super) fn unreadable(&mut self) -> Vec<String> {
        std::mem::take(&mut self.unreadable)
    }

    /// Forgets objects that nothing else refers to any more.
    pub(super) fn tidy(&mut self) {
        self.known.retain(|_, (object, _)| Arc::strong_count(object) > 1);
    }
}

fn functions(types: &ObjectTypes) -> ObjectFacts {
    let hash = |text: &str| {
        let mut hasher = FxHasher::default();
        hasher.write(text.as_bytes());
        hasher.finish()
    };
    let fact = |(at, function): (usize, &types::Function)| {
        let order = u64::from(function.line.unwrap_or(0)) << 32 | at as u64;
        let facts = FunctionFacts { erased: hash(&function.erased), abi: function.abi, order };
        (NameId::of(&function.linkage_name), facts)
    };
    types.functions.iter().enumerate().map(fact).collect()
}

/// Everything the comparison and the linker found, in the judge's terms.
pub(super) fn delta_facts(
    baseline: &Baseline,
    running: &Running,
    delta: &Delta,
    reach: &Reach,
    entries: &Entries,
    cache: &mut TypeCache,
) -> DeltaFacts {
    let old: Vec<_> = delta.removed.iter().filter_map(|key| running.object(*key)).cloned().collect();
    let mut facts = DeltaFacts {
        missing_types: missing_types(baseline, delta, cache),
        optimised_units: optimised_units(baseline, delta),
        vtables: vtable_changes(&old, &delta.objects, cache),
        ..DeltaFacts::default()
    };
    for change in &delta.statics {
        facts.changed_statics.push(ChangedStatic {
            item: Item::named(names::readable(&change.name)),
            old_size: change.size.0,
            new_size: change.size.1,
            initialiser_changed: change.value,
        });
    }
    for (function, why) in &entries.without_room {
        let function = Item::named(names::readable(function));
        facts.without_room.push(NoEntryRoom { function, why: why.clone() });
    }
    for problem in &reach.problems {
        match problem {
            Problem::NewThreadLocal(name) => facts.added_thread_locals.push(Item::named(names::readable(name))),
            Problem::UnknownRelocation { section, offset, raw, symbol } => {
                facts.unknown_relocations.push(UnknownRelocation {
                    item: Item::named(function_of(section)),
                    section: section.clone(),
                    offset: *offset,
                    raw: *raw,
                    symbol: names::readable(symbol),
                });
            }
            Problem::AmbiguousSymbol(name) => {
                let candidates = running.exe.symbols(name).map(|symbol| place(running, &symbol)).collect();
                facts.ambiguous_symbols.push(AmbiguousSymbol { name: names::readable(name), candidates });
            }
            Problem::UndefinedSymbol { name, from } => {
                facts.undefined_symbols.push(UndefinedSymbol { name: names::readable(name), from: function_of(from) })
            }
            Problem::NamelessStorage(what) => facts.nameless_storage.push(what.clone()),
            Problem::ForeignCopy(name) => facts.foreign_copies.push(Item::named(names::readable(name))),
            Problem::Unreadable(what) => facts.unreadable_objects.push(what.clone()),
        }
    }
    let item = |name: &String| Item::named(names::readable(name));
    facts.unsplit_code = delta.unsplit.iter().map(item).collect();
    facts.altered_entries = entries.altered.iter().map(item).collect();
    facts.gathered_sections = delta.gathered.clone();
    facts.never_entered = never_entered(baseline, delta, reach);
    facts.unreadable_types = cache.unreadable();
    for name in &delta.ambiguous {
        let candidates = vec!["before".to_owned(), "after".to_owned()];
        facts.ambiguous_symbols.push(AmbiguousSymbol { name: names::readable(name), candidates });
    }
    facts
}

/// The function that a section holds, by the section's name.
fn function_of(section: &str) -> String {
    names::readable(section.strip_prefix(".text.").unwrap_or(section))
}

fn place(running: &Running, symbol: &crate::binary::executable::ExeSymbol) -> String {
    format!("{:#x} in `{}`", symbol.addr.0, running.exe.file_name(symbol.file))
}

fn unit_name(baseline: &Baseline, unit: usize) -> String {
    baseline
        .units
        .get(unit)
        .map_or_else(String::new, |unit| format!("{} ({})", unit.crate_name, if unit.is_lib { "lib" } else { "bin" }))
}

fn missing_types(baseline: &Baseline, delta: &Delta, cache: &mut TypeCache) -> Vec<MissingTypes> {
    let mut found: Vec<MissingTypes> = Vec::new();
    let mut units = Vec::new();
    for changed in &delta.changed {
        let Some(new) = delta.objects.get(changed.object) else { continue };
        let known = cache.of(new);
        let level = known.types.as_ref().map_or(Level::Absent, |types| types.level.clone());
        // An object of nothing but `fn()`s has no types to tell of, whatever it was compiled with.
        let full = baseline.units.get(new.unit).is_some_and(|unit| matches!(unit.debuginfo.as_str(), "2" | "full"));
        let told = level == Level::Full || (level == Level::LinesOnly && full);
        if !told && !units.contains(&new.unit) {
            units.push(new.unit);
            found.push(MissingTypes { unit: unit_name(baseline, new.unit), level });
        }
    }
    found
}

/// Functions that are other functions now (their signature, captures or state changed) and that only `main` leads to:
/// `main` runs and is not called again, so the new ones never would be.
fn never_entered(baseline: &Baseline, delta: &Delta, reach: &Reach) -> Vec<Item> {
    if delta.instead.is_empty() {
        return Vec::new();
    }
    let mains: Vec<_> = baseline.units.iter().map(|unit| format!("{}::main", unit.crate_name)).collect();
    let entered =
        reach.reachable(|function| function.live.is_some() && !mains.contains(&names::readable(&function.text)));
    let never = reach.functions.iter().filter(|function| {
        function.live.is_none() && !entered.contains(&function.piece) && delta.instead.contains(&function.name)
    });
    never.map(|function| Item::named(names::readable(&function.text))).collect()
}

fn optimised_units(baseline: &Baseline, delta: &Delta) -> Vec<OptimisedUnit> {
    let mut units: Vec<_> = delta.objects.iter().map(|new| new.unit).collect();
    units.sort_unstable();
    units.dedup();
    let optimised = |unit: usize| {
        let opt_level = baseline.units.get(unit)?.opt_level.clone();
        (opt_level != "0").then(|| OptimisedUnit { unit: unit_name(baseline, unit), opt_level })
    };
    units.into_iter().filter_map(optimised).collect()
}

/// Tables of trait objects whose slots are no longer what live objects' tables have. Old and new tables of one trait are
/// compared whatever type they are for: new code calls the slots of every live object of the trait. Traits of the standard
/// library do not change.
fn vtable_changes(old: &[NewObject], new: &[NewObject], cache: &mut TypeCache) -> Vec<VtableChange> {
    let before = vtables(old, cache);
    let after = vtables(new, cache);
    let mut changes = Vec::new();
    for is in &after {
        for was in before.iter().filter(|was| was.of_trait == is.of_trait) {
            // Closures have numbers, which may be another one's now.
            let same_type = was.name == is.name && !is.name.contains('{');
            let new: Vec<_> = was.slots.iter().zip(&is.slots).map(|(was, is)| is.compared(was, same_type)).collect();
            let old: Vec<_> = was.slots.iter().map(|slot| slot.text.clone()).collect();
            let differs = was.slots.len() != is.slots.len() || old != new;
            if differs && !changes.iter().any(|change: &VtableChange| change.name == is.name) {
                let new = if was.slots.len() == is.slots.len() {
                    new
                } else {
                    is.slots.iter().map(|slot| slot.text.clone()).collect()
                };
                changes.push(VtableChange { name: is.name.clone(), old, new });
            }
        }
    }
    changes.sort_by(|left, right| left.name.cmp(&right.name));
    changes
}

/// A table of one type for one trait.
struct Table {
    name: String,
    of_trait: String,
    slots: Vec<Slot>,
}

/// A function in a table.
struct Slot {
    /// Its readable path; empty if the slot is vacant.
    text: String,
    /// What debug information says about it, where an object on this side has it.
    facts: Option<FunctionFacts>,
}

impl Slot {
    fn method(&self) -> &str {
        self.text.rsplit("::").next().unwrap_or(&self.text)
    }

    /// How this slot reads beside the old one: as the old one if live objects may be called through either.
    fn compared(&self, old: &Slot, same_type: bool) -> String {
        if self.text.is_empty() || old.text.is_empty() {
            return old.text.clone();
        }
        if self.method() != old.method() {
            return self.text.clone();
        }
        if same_type && self.text != old.text {
            return format!("{} (in place of {})", self.text, old.text);
        }
        match (old.facts, self.facts) {
            (Some(was), Some(is)) if same_type && was.abi != is.abi => format!("{} (another signature)", self.text),
            _ => old.text.clone(),
        }
    }
}

fn vtables(objects: &[NewObject], cache: &mut TypeCache) -> Vec<Table> {
    let known: Vec<_> = objects.iter().map(|new| cache.of(new)).collect();
    let facts = |id: NameId| known.iter().find_map(|known| known.functions.get(&id).copied());
    let mut out: Vec<Table> = Vec::new();
    for (new, known) in objects.iter().zip(&known) {
        for vtable in known.types.iter().flat_map(|types| &types.vtables) {
            let (Some(place), Some(of_trait)) = (vtable.place, trait_of(&vtable.name)) else { continue };
            let slots = slots(&new.object, SectionId(place.section as u32), place.offset, vtable.slots, &facts);
            if !out.iter().any(|table| table.name == vtable.name) {
                out.push(Table { name: vtable.name.clone(), of_trait: of_trait.to_owned(), slots });
            }
        }
    }
    out
}

/// The trait of `<T as Trait>`, unless it is one of the standard library's or there is none.
fn trait_of(table: &str) -> Option<&str> {
    let of_trait = table.strip_suffix('>')?.rsplit_once(" as ")?.1;
    let foreign = ["core::", "alloc::", "std::"].iter().any(|start| of_trait.starts_with(start));
    (!foreign && of_trait != "_").then_some(of_trait)
}

/// The functions in a table, after drop, size and align.
fn slots(
    object: &Object,
    section: SectionId,
    offset: u64,
    count: u64,
    facts: &dyn Fn(NameId) -> Option<FunctionFacts>,
) -> Vec<Slot> {
    let count = usize::try_from(count.saturating_sub(3)).unwrap_or(0).min(1 << 16);
    let mut out: Vec<_> = (0..count).map(|_| Slot { text: String::new(), facts: None }).collect();
    for reloc in &object.section(section).relocs {
        let slot = reloc.offset.checked_sub(offset).map(|at| at / 8).and_then(|slot| slot.checked_sub(3));
        let Some(entry) = slot.and_then(|slot| out.get_mut(slot as usize)) else { continue };
        let symbol = object.symbol(reloc.symbol);
        let named = match symbol.place {
            Place::In(section, _) if !object.is_item(symbol) => object.named_at(section, 0),
            Place::In(..) | Place::Undefined | Place::Absolute(_) | Place::Unknown(_) => Some(reloc.symbol),
        };
        *entry = match named.map(|id| object.symbol(id)) {
            Some(symbol) => Slot { text: names::path_key(object.name(symbol)), facts: facts(symbol.id) },
            None => Slot { text: "a table".to_owned(), facts: None },
        };
    }
    out
}
