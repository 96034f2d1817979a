//! Gathers what the judge's proof needs that no old value of a type is left (`judge::Liveness` has the steps).
//!
//! Looks at every object of the running program, which takes a moment on a large one: it is asked only when a type looks
//! different. Old code that is no longer part of the current build but may still run counts as well.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::binary::bytes::Bytes;
use crate::binary::names;
use crate::binary::object::{NameId, Object, SymbolId};
use crate::binary::types::{self, Level, ObjectTypes, Occurrences, Sought};
use crate::compile::Baseline;
use crate::diff::running::Body;
use crate::diff::users::Wanted;
use crate::diff::{self, Delta, Fate, Live, NewObject, ObjectKey, Running};
use crate::judge::{LayoutChanges, Liveness, QuietFunction};
use crate::session::opaque::OpaqueCode;

/// Old code that the current build does not have any more.
pub(super) struct Retired {
    /// The object it was in.
    pub(super) object: NewObject,
    /// The function in it.
    pub(super) function: SymbolId,
    /// Its code.
    pub(super) bodies: Vec<Body>,
    /// It may be entered again: no new function took its place.
    pub(super) can_be_entered: bool,
}

/// Everything that the proof looks at.
pub(super) struct Program<'a> {
    pub(super) baseline: &'a Baseline,
    pub(super) running: &'a Running,
    pub(super) delta: &'a Delta,
    pub(super) retired: &'a [Retired],
    /// Objects that earlier edits took away: what their code made may live on.
    pub(super) gone: &'a Gone,
}

/// The objects that a session's edits took away, as far as they said what no other one did: their bytes, and what their
/// types looked like.
#[derive(Default)]
pub(super) struct Gone {
    objects: Vec<(usize, String, Bytes)>,
    /// All that they say, see [`ObjectTypes::statements`].
    said: FxHashSet<u64>,
    /// By [`types::TypeDef::key`]: exact key, layout, and the object, unless there was no more room for it.
    layouts: FxHashMap<u64, Vec<(u64, u64, Option<usize>)>>,
    /// There were more than are kept.
    is_cut: bool,
}

/// How many objects are kept: each holds a file and a mapping.
const GONE_MAX: usize = 512;

impl Gone {
    /// Keeps an object that an edit takes away, and what it says. One whose types cannot be read is kept to say so.
    pub(super) fn keep(&mut self, object: &NewObject, types: Option<&ObjectTypes>) {
        let before = self.said.len();
        self.said.extend(types.map(ObjectTypes::statements).unwrap_or_default());
        if types.is_some() && self.said.len() == before {
            return;
        }
        let at = (self.objects.len() < GONE_MAX).then_some(self.objects.len());
        for def in types.into_iter().flat_map(|types| &types.types) {
            let known = self.layouts.entry(def.key).or_default();
            if !known.iter().any(|(exact, layout, _)| (*exact, *layout) == (def.exact_key, def.layout)) {
                known.push((def.exact_key, def.layout, at));
            }
        }
        match at {
            Some(_) => self.objects.push((object.unit, object.cgu.clone(), object.object.data().clone())),
            None => self.is_cut = true,
        }
    }

    /// The objects.
    pub(super) fn objects(&self) -> Vec<NewObject> {
        let parse = |(unit, cgu, data): &(usize, String, Bytes)| {
            let object = Object::parse(data.clone()).ok()?;
            Some(NewObject { unit: *unit, cgu: cgu.clone(), object: Arc::new(object) })
        };
        self.objects.iter().filter_map(parse).collect()
    }

    /// What the objects say that had a type of `new` which is not in `old`, with another layout: a type that left the build
    /// and comes back. And the paths of those of which only this is known.
    pub(super) fn come_back(&self, old: &[&ObjectTypes], new: &[&ObjectTypes]) -> (Vec<ObjectTypes>, Vec<String>) {
        let known: FxHashSet<u64> = old.iter().flat_map(|types| &types.types).map(|def| def.key).collect();
        let (mut found, mut unknown) = (Vec::new(), Vec::new());
        for (types, def) in new.iter().flat_map(|types| types.types.iter().map(move |def| (types, def))) {
            let before = self.layouts.get(&def.key).into_iter().flatten().filter(|_| !known.contains(&def.key));
            for (.., at) in before.filter(|(_, layout, _)| *layout != def.layout) {
                match at {
                    Some(at) => found.push(*at),
                    None => unknown.push(types.path(def)),
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        unknown.sort_unstable();
        unknown.dedup();
        let read = |at: usize| types::read(&self.objects.get(at)?.2).ok();
        (found.into_iter().filter_map(read).collect(), unknown)
    }
}

/// Functions that handle a value, by readable path, and where each is written.
type Involved = FxHashMap<String, Option<Arc<str>>>;

/// One object of the program, and whether the edit takes it away.
struct Part<'a> {
    key: Option<ObjectKey>,
    object: &'a NewObject,
    types: Result<ObjectTypes, String>,
}

/// What is known about values of the types in `changes`.
pub(super) fn gather(program: &Program<'_>, opaque: &mut OpaqueCode, changes: &LayoutChanges) -> Liveness {
    let mut liveness = Liveness { types: changes.paths.clone(), ..Liveness::default() };
    liveness.unknown.extend(own_stacks(program));
    if program.gone.is_cut {
        liveness.unknown.push("what all the edits of this session left behind".to_owned());
    }
    let gone = program.gone.objects();
    let parts = parts(program, &gone);
    let found = occurrences(program, &parts, changes);
    let mut wanted = Wanted::default();
    for (part, found) in parts.iter().zip(&found) {
        liveness.unknown.extend(unknown(program.baseline, part, found));
        liveness.holders.extend(found.holders.iter().cloned());
        for handler in &found.handlers {
            let is_handed = wanted.entry(NameId::of(&handler.linkage_name)).or_insert(true);
            *is_handed &= handler.is_handed;
        }
    }
    liveness.handlers = wanted.len();
    let mut involved = Involved::default();
    for handler in found.iter().flat_map(|found| &found.handlers) {
        involved.insert(names::readable(&handler.linkage_name), handler.file.clone());
    }
    Callers { program, wanted: &wanted, partners: partners(program.delta) }.look(&parts, &mut liveness, &mut involved);
    see_through(opaque, changes, &involved, &mut liveness);
    liveness.holders.sort();
    for list in [&mut liveness.tabled, &mut liveness.kept, &mut liveness.unknown] {
        list.sort();
        list.dedup();
    }
    liveness.holders.dedup();
    liveness.opaque.sort();
    liveness.opaque.dedup();
    liveness
}

/// What the program switches stacks with, if it does: a stack that belongs to no thread is not seen.
fn own_stacks(program: &Program<'_>) -> Option<String> {
    const CALLS: [&str; 3] = ["makecontext", "setcontext", "swapcontext"];
    const CRATES: [&str; 6] = ["context", "corosensei", "generator", "may", "psm", "switcheroo"];
    let call = CALLS.iter().find(|name| program.running.exe.imports(name)).map(|name| (*name).to_owned());
    let crate_of = |path: &PathBuf| {
        let stem = path.file_stem()?.to_str()?.strip_prefix("lib")?.split('-').next()?.to_owned();
        CRATES.contains(&stem.as_str()).then_some(stem)
    };
    let by = call.or_else(|| program.baseline.rlibs.iter().find_map(crate_of))?;
    Some(format!("the stacks that the program switches by itself (`{by}`)"))
}

/// Old functions that `delta` leaves without partner and that other code may still enter.
pub(super) fn left_behind(running: &Running, delta: &Delta) -> Vec<Retired> {
    let partners = partners(delta);
    let mut found = Vec::new();
    for key in &delta.removed {
        let Some(object) = running.object(*key) else { continue };
        for (index, symbol) in object.object.symbols.iter().enumerate() {
            let function = SymbolId(index as u32);
            if !diff::running::is_definition(&object.object, symbol) || stays(running, delta, symbol.id, &partners) {
                continue;
            }
            let live = running.resolve(symbol.id, object.object.name(symbol));
            if let Ok(Some(Live::Function(live))) = live
                && !live.bodies.is_empty()
            {
                let bodies = live.bodies.iter().chain(&live.older).copied().collect();
                found.push(Retired { object: object.clone(), function, bodies, can_be_entered: true });
            }
        }
    }
    found
}

/// The old functions that a new one takes the place of, or is equal to.
fn partners(delta: &Delta) -> FxHashSet<NameId> {
    let old = |fate: &Fate| match fate {
        Fate::Same(old) | Fate::Changed(old) => Some(*old),
        Fate::New => None,
    };
    delta.fates.values().filter_map(old).collect()
}

fn stays(running: &Running, delta: &Delta, name: NameId, partners: &FxHashSet<NameId>) -> bool {
    let elsewhere = || running.definitions(name).iter().any(|definition| !delta.removed.contains(&definition.object));
    partners.contains(&name) || elsewhere()
}

fn parts<'a>(program: &Program<'a>, gone: &'a [NewObject]) -> Vec<Part<'a>> {
    let current = program.running.objects().map(|(key, object)| (Some(key), object));
    let mut all: Vec<(Option<ObjectKey>, &NewObject)> = current.collect();
    let mut seen: FxHashSet<*const Object> = FxHashSet::default();
    let left = program.retired.iter().map(|retired| &retired.object);
    for object in left.chain(gone) {
        if seen.insert(Arc::as_ptr(&object.object)) {
            all.push((None, object));
        }
    }
    let read = |(key, object): &(Option<ObjectKey>, &'a NewObject)| Part {
        key: *key,
        object,
        types: types::read(object.object.data()).map_err(|why| why.to_string()),
    };
    all.par_iter().map(read).collect()
}

/// What each part says; asked again as long as another trait is found behind whose objects a value may be.
fn occurrences(program: &Program<'_>, parts: &[Part<'_>], changes: &LayoutChanges) -> Vec<Occurrences> {
    let own_crates = program.baseline.units.iter().map(|unit| unit.crate_name.clone()).collect();
    let mut sought = Sought { keys: changes.keys.clone(), traits: FxHashSet::default(), own_crates };
    loop {
        let look = |part: &Part<'_>| part.types.as_ref().map(|types| types.occurrences(&sought)).unwrap_or_default();
        let found: Vec<Occurrences> = parts.par_iter().map(look).collect();
        let before = sought.traits.len();
        sought.traits.extend(found.iter().flat_map(|found| found.traits.iter().cloned()));
        if sought.traits.len() == before {
            return found;
        }
    }
}

/// Why an object's debug information proves nothing, if so.
fn unknown(baseline: &Baseline, part: &Part<'_>, found: &Occurrences) -> Option<String> {
    let unit = baseline.units.get(part.object.unit)?;
    let name = &unit.crate_name;
    let types = match &part.types {
        Ok(types) => types,
        Err(why) => return Some(format!("codegen unit `{}` of `{name}`: {why}", part.object.cgu)),
    };
    let is_full = matches!(unit.debuginfo.as_str(), "2" | "full");
    match types.level {
        _ if !found.handlers.is_empty() && unit.opt_level != "0" => {
            Some(format!("`{name}`, which is optimised at level {}", unit.opt_level))
        }
        Level::Full => None,
        Level::Absent | Level::LinesOnly if is_full => None,
        Level::Absent | Level::LinesOnly | Level::Split(_) => {
            Some(format!("`{name}`, which has no types in its debug info"))
        }
    }
}

/// Whether a file is of the standard library. What its functions do with a value, their types say: those that might keep one
/// are holders.
fn is_of_std(file: &str) -> bool {
    file.starts_with("/rustc/") || file.contains("/lib/rustlib/src/rust/library/")
}

/// Looks for the functions that can call one that is handed a value.
struct Callers<'a> {
    program: &'a Program<'a>,
    wanted: &'a Wanted,
    partners: FxHashSet<NameId>,
}

impl Callers<'_> {
    fn look(&self, parts: &[Part<'_>], liveness: &mut Liveness, involved: &mut Involved) {
        for part in parts {
            let object = &part.object.object;
            let users = diff::users(object, self.wanted);
            liveness.tabled.extend(users.tabled.iter().map(|name| self.readable(parts, *name)));
            liveness.unknown.extend(users.unsplit.iter().map(|name| format!("the code in section `{name}`")));
            for function in users.functions {
                let symbol = object.symbol(function);
                let text = object.name(symbol);
                let readable = names::readable(text);
                involved.insert(readable.clone(), file_of(part, text));
                self.user(part, function, &readable, liveness);
            }
        }
    }

    /// One function that can call one that is handed a value.
    fn user(&self, part: &Part<'_>, function: SymbolId, readable: &str, liveness: &mut Liveness) {
        let object = &part.object.object;
        let symbol = object.symbol(function);
        // One that is handed a value is only entered by others that are looked at here.
        let is_handed = self.wanted.get(&symbol.id) == Some(&true);
        let Some(key) = part.key else {
            let mut of_it = self
                .program
                .retired
                .iter()
                .filter(|retired| Arc::ptr_eq(&retired.object.object, object) && retired.function == function);
            if let Some(retired) = of_it.next() {
                if retired.can_be_entered && !is_handed {
                    liveness.kept.push(readable.to_owned());
                }
                liveness.quiet.push(quiet(readable, &retired.bodies));
            }
            return;
        };
        let running = self.program.running;
        let delta = self.program.delta;
        let goes = delta.removed.contains(&key) && !stays(running, delta, symbol.id, &self.partners);
        if goes && !is_handed {
            liveness.kept.push(readable.to_owned());
        }
        match running.resolve(symbol.id, object.name(symbol)) {
            Ok(Some(Live::Function(live))) => {
                let bodies: Vec<Body> = live.bodies.iter().chain(&live.older).copied().collect();
                liveness.quiet.push(quiet(readable, &bodies));
            }
            Ok(None) => {}
            Ok(Some(Live::Data(..) | Live::ThreadLocal(_))) | Err(_) => {
                liveness.unknown.push(format!("where `{readable}` is"));
            }
        }
    }

    fn readable(&self, parts: &[Part<'_>], name: NameId) -> String {
        let in_part = |part: &Part<'_>| {
            let object = &part.object.object;
            let symbol = object.symbols.iter().find(|symbol| symbol.id == name)?;
            Some(names::readable(object.name(symbol)))
        };
        parts.iter().find_map(in_part).unwrap_or_default()
    }
}

fn quiet(name: &str, bodies: &[Body]) -> QuietFunction {
    let bodies = bodies.iter().map(|body| (body.addr, body.addr.plus(body.size))).collect();
    QuietFunction { name: name.to_owned(), bodies }
}

/// The file that a function of a part is written in.
fn file_of(part: &Part<'_>, linkage_name: &str) -> Option<Arc<str>> {
    let types = part.types.as_ref().ok()?;
    types.functions.iter().find(|function| function.linkage_name == linkage_name)?.file.clone()
}

/// Whether all code that handles a value can be seen through.
fn see_through(opaque: &mut OpaqueCode, changes: &LayoutChanges, involved: &Involved, liveness: &mut Liveness) {
    let known = opaque.facts();
    for (path, file) in involved {
        match file {
            Some(file) if is_of_std(file) => {}
            Some(file) => {
                liveness.opaque.extend(known.opacity(path, Path::new(&**file)).map(|why| (path.clone(), why)));
            }
            // Glue that the compiler makes has no source.
            None if path.contains("drop_in_place") => {}
            None => liveness.opaque.push((path.clone(), "has no source that is known".into())),
        }
    }
    let names: FxHashSet<&str> = changes.paths.iter().map(|path| simple_name(path)).collect();
    liveness.opaque.extend(known.opaque_about(&names));
}

/// The last name of a path, without generic arguments.
fn simple_name(path: &str) -> &str {
    let path = path.split('<').next().unwrap_or(path);
    path.rsplit("::").next().unwrap_or(path)
}
