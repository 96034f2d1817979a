//! Debug information of objects, read once each, and what the judge and the pairing want to know of it.

use std::sync::Arc;

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use relive_wire::reserve::RESERVE_ALIGN;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::binary::names;
use crate::binary::object::{NameId, Object, Place, SectionId, Symbol, SymbolId};
use crate::binary::types::{self, Level, ObjectTypes};
use crate::compile::{Baseline, Build};
use crate::diff::pair::{FunctionFacts, ObjectFacts};
use crate::diff::reach::Problem;
use crate::diff::threads::THREAD_ROOM;
use crate::diff::{Delta, Fate, NewObject, NoThreadRoom, Reach, Running};
use crate::judge::{
    AmbiguousSymbol, ChangedStatic, DeltaFacts, FullThreadReserve, Item, MissingTypes, NoEntryRoom, NoThreadStorage,
    OptimisedUnit, UndefinedSymbol, UnknownRelocation, Vtable, VtableSlot,
};
use crate::load::Entries;

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
        let read: Vec<_> = unknown.par_iter().map(|new| types::read(new.object.data())).collect();
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
    let fact = |(at, function): (usize, &types::Function)| {
        let order = u64::from(function.line.unwrap_or(0)) << 32 | at as u64;
        let facts = FunctionFacts {
            erased: FunctionFacts::path(&function.erased),
            abi: function.abi,
            method_abi: function.method_abi,
            order,
        };
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
    let before = |name: NameId| match delta.fates.get(&name) {
        Some(Fate::Same(old) | Fate::Changed(old)) => Some(*old),
        Some(Fate::New) => None,
        None => Some(name),
    };
    let mut facts = DeltaFacts {
        missing_types: missing_types(baseline, delta, cache),
        optimised_units: optimised_units(baseline, delta),
        old_vtables: vtables(&old, &Some, cache),
        new_vtables: vtables(&delta.objects, &before, cache),
        renamed_statics: delta.renamed.iter().map(|(name, old)| (*name, old.as_ref().map(|(old, _)| *old))).collect(),
        ..DeltaFacts::default()
    };
    for change in &delta.statics {
        facts.changed_statics.push(ChangedStatic {
            item: Item::named(names::readable(&change.name)),
            old_size: change.size.0,
            new_size: change.size.1,
            initialiser_changed: change.value,
            renewed: change.renewed,
            in_new_code: reach.data.iter().any(|data| data.name == NameId::of(&change.name)),
        });
    }
    for (function, why) in &entries.without_room {
        let function = Item::named(names::readable(function));
        facts.without_room.push(NoEntryRoom { function, why: why.clone() });
    }
    for problem in &reach.problems {
        match problem {
            Problem::NewThreadLocal { name, why } => no_thread_room(name, *why, &mut facts),
            Problem::UnknownRelocation { section, offset, raw, symbol } => {
                facts.unknown_relocations.push(UnknownRelocation {
                    item: Item::named(function_in(section)),
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
                facts.undefined_symbols.push(UndefinedSymbol { name: names::readable(name), from: function_in(from) })
            }
            Problem::NamelessStorage(what) => facts.nameless_storage.push(what.clone()),
            Problem::ForeignCopy(name) => facts.foreign_copies.push(Item::named(names::readable(name))),
            Problem::Constructors { member, section } => {
                facts.constructors.push(format!("`{member}` has one in its section `{section}`"));
            }
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

fn no_thread_room(name: &str, why: NoThreadRoom, facts: &mut DeltaFacts) {
    let item = Item::named(names::readable(name));
    let why = match why {
        NoThreadRoom::Full { size, used } => {
            facts.thread_reserve_full.push(FullThreadReserve { item, size, used, total: THREAD_ROOM });
            return;
        }
        NoThreadRoom::Aligned(align) => format!("it is aligned to {align} bytes, and {RESERVE_ALIGN} are possible"),
        NoThreadRoom::Absent => "the program's threads were made without a reserve for it".to_owned(),
    };
    facts.without_thread_storage.push(NoThreadStorage { item, why });
}

/// The function that a section holds, by the section's name.
fn function_in(section: &str) -> String {
    names::readable(section.strip_prefix(".text.").unwrap_or(section))
}

fn place(running: &Running, symbol: &crate::binary::snapshot::BinarySymbol) -> String {
    format!("{:#x} in `{}`", symbol.addr.0, running.exe.unit_name(symbol.unit))
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

/// Rebuilt units of a program that is optimised as a whole.
pub(super) fn link_time_units(baseline: &Baseline, build: &Build) -> Vec<String> {
    if !baseline.units.iter().any(|unit| unit.link_time) {
        return Vec::new();
    }
    build.units.iter().map(|rebuilt| unit_name(baseline, rebuilt.unit)).collect()
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

/// The tables of trait objects in `objects`, each once; `before` says what a function was called in the program.
fn vtables(objects: &[NewObject], before: &dyn Fn(NameId) -> Option<NameId>, cache: &mut TypeCache) -> Vec<Vtable> {
    let known: Vec<_> = objects.iter().map(|new| cache.of(new)).collect();
    let abi = |id: NameId| known.iter().find_map(|known| known.functions.get(&id)).map(|facts| facts.abi);
    let slot = |object: &Object, id: SymbolId| match function_of(object, id) {
        Some(symbol) => {
            VtableSlot { function: names::path_key(object.name(symbol)), item: before(symbol.id), abi: abi(symbol.id) }
        }
        None => VtableSlot { function: "a table".to_owned(), item: None, abi: None },
    };
    let mut out: Vec<Vtable> = Vec::new();
    let mut named: FxHashSet<&str> = FxHashSet::default();
    for (new, known) in objects.iter().zip(&known) {
        for vtable in known.types.iter().flat_map(|types| &types.vtables) {
            let Some(place) = vtable.place else { continue };
            if named.insert(&vtable.name) {
                let at = (SectionId(place.section as u32), place.offset);
                out.push(table(&vtable.name, vtable.slots, &new.object, at, &slot));
            }
        }
    }
    out
}

/// The table of `words` words at a place of an object.
fn table(
    name: &str,
    words: u64,
    object: &Object,
    (section, offset): (SectionId, u64),
    slot_of: &dyn Fn(&Object, SymbolId) -> VtableSlot,
) -> Vtable {
    let count = usize::try_from(words.saturating_sub(VTABLE_HEAD)).unwrap_or(0).min(1 << 16);
    let mut out = Vtable { name: name.to_owned(), drops: false, slots: vec![VtableSlot::default(); count] };
    for reloc in &object.section(section).relocs {
        let Some(word) = reloc.offset.checked_sub(offset).map(|at| at / 8) else { continue };
        out.drops |= word == 0;
        let slot = word.checked_sub(VTABLE_HEAD).and_then(|slot| out.slots.get_mut(slot as usize));
        if let Some(slot) = slot {
            *slot = slot_of(object, reloc.symbol);
        }
    }
    out
}

/// Words of every table before the methods: drop, size, align.
const VTABLE_HEAD: u64 = 3;

/// What a symbol of a table stands for; nothing for another table.
fn function_of(object: &Object, id: SymbolId) -> Option<&Symbol> {
    let symbol = object.symbol(id);
    let named = match symbol.place {
        Place::In(section, _) if !object.is_item(symbol) => object.named_at(section, 0),
        Place::In(..) | Place::Undefined | Place::Absolute(_) | Place::Unknown(_) => Some(id),
    };
    named.map(|id| object.symbol(id))
}
