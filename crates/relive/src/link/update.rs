//! A copy of the executable that begins with the newest code: its entries lead to segments that are appended.
//!
//! Takes the executable, the objects that it was linked from and those of the newest build; gives the steps that make the
//! copy. Objects that were exchanged are linked anew, as a linker would for a fresh build, behind everything that the
//! executable loads. Of what they replace, only that is touched which unchanged code refers to: functions get a jump at their
//! entry, variables their new first bytes. A program begins with first values, so nothing here asks what a running one has;
//! what cannot be had this way is an error that names it.

mod debug_frame;
mod exe;
mod file;
mod image;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use object::LittleEndian as LE;
use object::elf;
use object::read::elf::ProgramHeader as _;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::binary::address::LinkAddr;
use crate::binary::bytes::Bytes;
use crate::binary::object::{Binding, NameId, Object, Place, Section, SectionId, Symbol, SymbolId, SymbolKind};
use crate::diff::reach::Libraries;
use crate::diff::running::{Body, Live};
use crate::diff::{NewObject, ObjectKey, Running, has_list, is_gathered};
use crate::link::globals::{self, Globals};
use crate::link::host::{self, Imports, PERSONALITY_WORD, check_fields, is_mangled, is_variable};
use crate::link::{FileStep, LinkError};
use exe::Exe;
use image::{Image, PAGE};

/// The thread pointer, on the scale on which thread-locals have addresses: out of reach of everything else.
const THREAD_POINTER: u64 = 1 << 44;

/// Where a weak symbol lies that nothing defines. Out of reach too, so that its address comes from a word, which holds 0.
const NOWHERE: u64 = 1 << 45;

/// Steps that make the copy of the executable of `original`, which is described at slide 0 there, with the objects that it was
/// linked from. `current` are the objects of the newest build.
///
/// # Errors
/// If such a copy cannot have what was built, naming the reason.
pub fn steps<'d>(
    original: &'d Running,
    current: &[NewObject],
    libraries: &mut dyn Libraries,
) -> Result<Vec<FileStep<'d>>, LinkError> {
    let data: &[u8] = original.exe.data();
    let exchange = Exchange::between(original, current);
    if exchange.is_nothing() {
        return Ok(vec![FileStep::Write(0, data.into())]);
    }
    let exe = Exe::read(data)?;
    let mut draft = Draft::empty(original, &exe, &exchange.keys);
    for object in &exchange.new {
        draft.check_sections(object, |_| false)?;
        draft.globals.add(&draft.objects, object, false);
        draft.objects.push(Arc::clone(object));
    }
    draft.replace(&exchange)?;
    draft.follow(libraries)?;
    let image = Image::link(&draft)?;
    file::steps(&draft, &image)
}

/// What a build exchanged since the executable was linked.
struct Exchange<'a> {
    new: Vec<Arc<Object>>,
    old: Vec<&'a Object>,
    kept: Vec<&'a Object>,
    /// Those of `kept`, among the executable's objects.
    keys: FxHashSet<ObjectKey>,
}

impl<'a> Exchange<'a> {
    fn between(original: &'a Running, current: &[NewObject]) -> Exchange<'a> {
        let key = |object: &NewObject| (object.unit, object.cgu.clone());
        let now: FxHashMap<_, &NewObject> = current.iter().map(|object| (key(object), object)).collect();
        let is_same = |old: &NewObject, new: &NewObject| {
            Arc::ptr_eq(&old.object, &new.object) || **old.object.data() == **new.object.data()
        };
        let (mut old, mut kept, mut stay) = (Vec::new(), Vec::new(), FxHashSet::default());
        let mut keys = FxHashSet::default();
        for (number, object) in original.objects() {
            if now.get(&key(object)).is_some_and(|new| is_same(object, new)) {
                kept.push(&*object.object);
                stay.insert(key(object));
                keys.insert(number);
            } else {
                old.push(&*object.object);
            }
        }
        let new = current.iter().filter(|object| !stay.contains(&key(object)));
        Exchange { new: new.map(|object| Arc::clone(&object.object)).collect(), old, kept, keys }
    }

    fn is_nothing(&self) -> bool {
        self.new.is_empty() && self.old.is_empty()
    }
}

/// A section of one of [`Draft::objects`].
type Part = (usize, SectionId);

/// An old function and what takes its place.
struct Redirect {
    entry: LinkAddr,
    size: u64,
    to: Part,
    offset: u64,
}

/// What is found out before anything has an address.
struct Draft<'a, 'd> {
    original: &'a Running,
    exe: &'a Exe<'d>,
    /// Those of the build, then members of libraries.
    objects: Vec<Arc<Object>>,
    /// Definitions of all objects.
    globals: Globals,
    /// Members that were taken, by name.
    members: FxHashSet<String>,
    /// Objects that both builds have, of which parts that the executable has not got may come along.
    stay: &'a FxHashSet<ObjectKey>,
    /// What comes along.
    kept: BTreeSet<Part>,
    /// Parts of members that the executable has already.
    bound: BTreeMap<Part, u64>,
    /// Variables that stay where they are, with new first bytes.
    in_place: BTreeMap<Part, u64>,
    outside: BTreeMap<NameId, u64>,
    imports: Imports,
    /// Imports that the executable has not got: number of the import, and by which version number it is asked for.
    new_imports: BTreeMap<usize, u16>,
    redirects: Vec<Redirect>,
    /// What the executable has under its name but the build has no more.
    gone: FxHashSet<NameId>,
}

/// What an object defines for others to see, with the names.
fn definitions(object: &Object) -> impl Iterator<Item = (&Symbol, &str)> {
    let seen = object.symbols.iter().skip(1).filter(|symbol| symbol.binding != Binding::Local);
    seen.filter(|symbol| globals::defines(object, symbol)).map(|symbol| (symbol, object.name(symbol)))
}

/// Whether code can refer to a name without having been compiled against its crate: names that a user chose, and those that
/// rustc gives to what stands between crates.
fn is_known_to_all(name: &str) -> bool {
    !is_mangled(name) || name.contains("7___rustc")
}

/// The address of what the executable has; that of a thread-local is on a scale of its own.
fn address(live: &Live) -> u64 {
    match live {
        Live::Function(function) => function.canonical.0,
        Live::Data(at, _) => at.0,
        Live::ThreadLocal(from_pointer) => THREAD_POINTER.wrapping_add_signed(*from_pointer),
    }
}

impl<'a, 'd> Draft<'a, 'd> {
    fn empty(original: &'a Running, exe: &'a Exe<'d>, stay: &'a FxHashSet<ObjectKey>) -> Draft<'a, 'd> {
        Draft {
            original,
            exe,
            objects: Vec::new(),
            globals: Globals::default(),
            members: FxHashSet::default(),
            stay,
            kept: BTreeSet::new(),
            bound: BTreeMap::new(),
            in_place: BTreeMap::new(),
            outside: BTreeMap::new(),
            imports: Imports::default(),
            new_imports: BTreeMap::new(),
            redirects: Vec::new(),
            gone: FxHashSet::default(),
        }
    }

    /// What a linker collects from all objects was collected already.
    fn check_sections(&self, object: &Object, is_had: impl Fn(&Section) -> bool) -> Result<(), LinkError> {
        let gathered = |section: &&Section| section.role.is_loaded() && section.size > 0 && is_gathered(&section.name);
        match object.sections.iter().filter(gathered).find(|section| !is_had(section)) {
            None => Ok(()),
            Some(section) => Err(LinkError(format!(
                "`{}`, a section that a linker collects from all objects, is in one that comes new",
                section.name
            ))),
        }
    }

    /// Finds what unchanged code refers to in objects that go, and what takes its place.
    fn replace(&mut self, exchange: &Exchange) -> Result<(), LinkError> {
        let undefined = |symbol: &&Symbol| symbol.place == Place::Undefined;
        let wanted: FxHashSet<NameId> =
            exchange.kept.iter().flat_map(|object| object.symbols.iter().filter(undefined)).map(|one| one.id).collect();
        let defined = |objects: &[&Object]| -> FxHashSet<NameId> {
            objects.iter().flat_map(|object| definitions(object)).map(|(symbol, _)| symbol.id).collect()
        };
        let (had, still) = (defined(&exchange.old), defined(&exchange.kept));
        self.gone = had.difference(&still).copied().collect();
        let mut seen = FxHashSet::default();
        for object in &exchange.old {
            for (symbol, name) in definitions(object) {
                let matters = wanted.contains(&symbol.id) || is_known_to_all(name);
                if !matters || name.starts_with(PERSONALITY_WORD) {
                    continue;
                }
                if let Some(live) = self.live(symbol.id, name)?.filter(|_| seen.insert(symbol.id)) {
                    self.replace_one(symbol.id, name, live)?;
                }
            }
        }
        let exports = exchange.old.iter().chain(&exchange.kept).flat_map(|object| definitions(object));
        let exports = { exports }.any(|(_, name)| self.exe.exports(name));
        for object in &self.objects {
            let of_others = |(symbol, name): &(&Symbol, &str)| {
                let is_new = !had.contains(&symbol.id) && !still.contains(&symbol.id);
                is_new && is_known_to_all(name) && !name.starts_with(PERSONALITY_WORD)
            };
            for (symbol, name) in definitions(object).filter(of_others) {
                let is_private = self.original.is_private(symbol.id, name);
                if !is_private && self.live(symbol.id, name)?.is_some() || self.exe.import(name).is_some() {
                    return Err(LinkError(format!(
                        "`{name}` is defined now, and the executable has it from elsewhere"
                    )));
                }
                if wanted.contains(&symbol.id) {
                    return Err(LinkError(format!(
                        "`{name}` is defined now, and unchanged code was linked without it"
                    )));
                }
                if exports {
                    return Err(LinkError(format!("`{name}` is new, and the executable exports what it defines")));
                }
            }
        }
        Ok(())
    }

    fn replace_one(&mut self, id: NameId, name: &str, live: Live) -> Result<(), LinkError> {
        let place = self.globals.get(id).and_then(|(index, symbol)| {
            let symbol = self.objects.get(index)?.symbol(symbol);
            let Place::In(section, offset) = symbol.place else { return None };
            Some(((index, section), offset, symbol.size))
        });
        let Some((part, offset, size)) = place else {
            return Err(LinkError(format!("unchanged code refers to `{name}`, which is defined no more")));
        };
        match &live {
            Live::Function(function) => {
                if function.bodies.is_empty() {
                    return Err(LinkError(format!(
                        "`{name}` is none of the program's own functions in the executable"
                    )));
                }
                let bodies = function.bodies.iter();
                let one = |body: &Body| Redirect { entry: LinkAddr(body.addr.0), size: body.size, to: part, offset };
                self.redirects.extend(bodies.map(one));
            }
            Live::Data(_, old_size) => self.keep_place(name, part, (offset, size), (address(&live), *old_size))?,
            Live::ThreadLocal(_) => {
                let of_name = self.original.exe.symbols(name).find(|symbol| symbol.kind == SymbolKind::Tls);
                let old_size = of_name.map_or(0, |symbol| symbol.size);
                self.keep_place(name, part, (offset, size), (address(&live), old_size))?;
            }
        }
        Ok(())
    }

    /// A variable stays where unchanged code looks for it.
    fn keep_place(
        &mut self,
        name: &str,
        part: Part,
        (offset, size): (u64, u64),
        (at, old_size): (u64, u64),
    ) -> Result<(), LinkError> {
        let section = self.objects.get(part.0).map(|object| object.section(part.1));
        let (section_size, align) = section.map_or((0, 1), |section| (section.size, section.align));
        if offset != 0 || size != section_size || size != old_size {
            return Err(LinkError(format!("unchanged code refers to `{name}`, which has another size now")));
        }
        let block = self.exe.segment(elf::PT_TLS).map_or(1, |block| block.p_align(LE));
        let most = if at >= THREAD_POINTER / 2 { block } else { PAGE };
        if align > most {
            return Err(LinkError(format!("`{name}` is aligned to {align} bytes, which its old place may not be")));
        }
        self.in_place.insert(part, at);
        Ok(())
    }

    /// Where the executable has a name.
    fn live(&self, id: NameId, name: &str) -> Result<Option<Live>, LinkError> {
        let found = self.original.resolve(id, name);
        found.map_err(|several| LinkError(format!("the executable has `{}` {} times", several.name, several.places)))
    }

    /// Follows references from what takes an old place. What no object defines is the executable's, imported, or taken out
    /// of a library.
    fn follow(&mut self, libraries: &mut dyn Libraries) -> Result<(), LinkError> {
        let roots = self.redirects.iter().map(|one| one.to).chain(self.in_place.keys().copied());
        let mut next: Vec<Part> = roots.collect();
        while let Some(part) = next.pop() {
            if self.bound.contains_key(&part) || !self.kept.insert(part) {
                continue;
            }
            let Some(object) = self.objects.get(part.0).cloned() else { continue };
            check_fields(&object, object.section(part.1))?;
            for reloc in object.section(part.1).relocs.iter().chain(object.frames.relocs(part.1)) {
                for symbol in [Some(reloc.symbol), reloc.minus].into_iter().flatten() {
                    next.extend(self.referent(part.0, symbol, libraries)?);
                }
            }
        }
        Ok(())
    }

    /// The part that a symbol stands for; `None` if it is outside.
    fn referent(
        &mut self,
        index: usize,
        id: SymbolId,
        libraries: &mut dyn Libraries,
    ) -> Result<Option<Part>, LinkError> {
        let Some(object) = self.objects.get(index).cloned() else { return Ok(None) };
        if let Some(part) = self.globals.section_of(&self.objects, index, id) {
            return Ok(Some(part));
        }
        let symbol = object.symbol(id);
        let name = object.name(symbol);
        if name.is_empty() || self.outside.contains_key(&symbol.id) {
            return Ok(None);
        }
        let is_private = self.original.is_private(symbol.id, name) && self.member(symbol.id, libraries)?.is_none();
        let live = if is_private { None } else { self.live(symbol.id, name)? };
        let at = if let Some(live) = live.filter(|_| !self.gone.contains(&symbol.id)) {
            address(&live)
        } else if let Some((name, object)) = self.unlinked(symbol.id) {
            self.take(name, object)?;
            return Ok(self.globals.section_of(&self.objects, index, id));
        } else if self.exe.import(name).is_some() {
            self.imports.add(name)
        } else if let Some((member, data)) = self.member(symbol.id, libraries)? {
            let object = Object::parse(data).map_err(|why| LinkError(format!("`{member}`: {why}")))?;
            self.take(member, Arc::new(object))?;
            return Ok(self.globals.section_of(&self.objects, index, id));
        } else if let Some(at) = self.new_import(name, libraries)? {
            at
        } else if symbol.binding == Binding::Weak {
            NOWHERE
        } else {
            return Err(LinkError(format!("nothing defines `{name}`")));
        };
        self.outside.insert(symbol.id, at);
        Ok(None)
    }

    fn member(&self, id: NameId, libraries: &mut dyn Libraries) -> Result<Option<(String, Bytes)>, LinkError> {
        libraries.member(id).map_err(LinkError)
    }

    /// The object of the program that defines what its linker left out, because nothing referred to it; and a name for it.
    fn unlinked(&self, id: NameId) -> Option<(String, Arc<Object>)> {
        let definitions = self.original.definitions(id).iter().filter(|one| self.stay.contains(&one.object));
        let mut objects = definitions.filter_map(|one| Some((one, self.original.object(one.object)?)));
        let (_, found) = objects.find(|(one, new)| new.object.symbol(one.symbol).binding != Binding::Local)?;
        Some((format!("codegen unit {} {}", found.unit, found.cgu), Arc::clone(&found.object)))
    }

    /// Takes an object in. Functions and variables of it that the executable has stay the executable's.
    fn take(&mut self, name: String, object: Arc<Object>) -> Result<(), LinkError> {
        if self.members.contains(&name) {
            return Ok(());
        }
        self.check_sections(&object, |list| has_list(&self.original.exe, &object, list))?;
        let index = self.objects.len();
        for number in 0..object.sections.len() as u32 {
            let part = (index, SectionId(number));
            self.bound.extend(self.had(&object, part.1)?.map(|at| (part, at)));
        }
        self.globals.add(&self.objects, &object, false);
        self.objects.push(object);
        self.members.insert(name);
        Ok(())
    }

    /// Where the executable has what begins a section of a member; `None` if it comes along.
    fn had(&self, object: &Object, section: SectionId) -> Result<Option<u64>, LinkError> {
        let is_loaded = object.section(section).role.is_loaded();
        let item = object.named_at(section, 0).map(|id| object.symbol(id)).filter(|_| is_loaded);
        let Some(item) = item else { return Ok(None) };
        let name = object.name(item);
        let is_others = self.gone.contains(&item.id) || self.globals.get(item.id).is_some();
        if is_others || name.starts_with(PERSONALITY_WORD) {
            Ok(None)
        } else if item.binding != Binding::Local {
            Ok(self.live(item.id, name)?.as_ref().map(address))
        } else if is_variable(object.section(section)) {
            self.private_variable(object, section)
        } else {
            Ok(None)
        }
    }

    fn private_variable(&self, object: &Object, section: SectionId) -> Result<Option<u64>, LinkError> {
        let found = host::host_variable(&self.original.exe, object, section)?;
        Ok(found.map(|symbol| {
            let in_threads = || THREAD_POINTER.wrapping_add_signed(self.original.exe.tp_offset(symbol.addr.0));
            if symbol.kind == SymbolKind::Tls { in_threads() } else { symbol.addr.0 }
        }))
    }

    /// A function of a shared library that the executable asks for, in a version that it asks for as well.
    fn new_import(&mut self, name: &str, libraries: &mut dyn Libraries) -> Result<Option<u64>, LinkError> {
        let shared = libraries.shared_objects();
        let needed = self.exe.needed();
        let found = shared.iter().filter_map(|library| exe::exporter(library, name));
        let Some((library, version)) = { found }.find(|(library, _)| needed.contains(&library.as_slice())) else {
            return Ok(None);
        };
        let Some(number) = self.exe.version(&library, &version) else {
            return Err(LinkError(format!(
                "`{name}` is needed, in version {} of {}, of which the executable uses nothing yet",
                String::from_utf8_lossy(&version),
                String::from_utf8_lossy(&library)
            )));
        };
        let at = self.imports.add(name);
        self.new_imports.insert(self.imports.0.len() - 1, number);
        Ok(Some(at))
    }
}
