//! What runs: the objects of the last committed build, and where each of their items lives in the process.
//!
//! Takes the first build's objects and the executable's snapshot, and from then on committed deltas. `resolve` answers
//! where a name of the current build lives: what patches changed is in an overlay, everything else is where the executable
//! has it. It reads no files and does not know that a process exists.

use std::sync::Arc;

use relive_wire::LiveAddr;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::binary::address::Slide;
use crate::binary::names;
use crate::binary::object::{Binding, NameId, Object, SymbolId, SymbolKind};
use crate::binary::snapshot::{BinarySymbol, Snapshot};

/// One object of a build, for as long as it is part of what runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(pub u32);

/// An object as a build delivers it.
#[derive(Clone, Debug)]
pub struct NewObject {
    /// Index of the unit it belongs to.
    pub unit: usize,
    /// Name of its codegen unit.
    pub cgu: String,
    /// The parsed object.
    pub object: Arc<Object>,
}

/// Where a definition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The object.
    pub object: ObjectKey,
    /// The symbol in it.
    pub symbol: SymbolId,
}

/// Hidden names that linkers and start files define in each executable.
const LINKERS: [&str; 5] = ["__dso_handle", "__ehdr_start", "_DYNAMIC", "_GLOBAL_OFFSET_TABLE_", "__TMC_END__"];

/// Code of a function in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    /// First byte.
    pub addr: LiveAddr,
    /// Bytes, without padding.
    pub size: u64,
}

/// A function in the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveFunction {
    /// The address that pointers to it hold, now and for ever.
    pub canonical: LiveAddr,
    /// Where it is called: the canonical entry, or the stub once it has one.
    pub call: LiveAddr,
    /// Its entry in the table, once it has been patched or came with a patch.
    pub index: Option<u32>,
    /// The newest code; several if the executable has copies and none was patched yet.
    pub bodies: Vec<Body>,
    /// Older code that may still be on a stack.
    pub older: Vec<Body>,
}

/// Where an item lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Live {
    /// A function.
    Function(LiveFunction),
    /// A variable or named constant: its address and size.
    Data(LiveAddr, u64),
    /// A thread-local: its offset from the thread pointer.
    ThreadLocal(i64),
}

/// What the overlay says about a name.
#[derive(Clone, Debug)]
enum Overlay {
    Live(Live),
    /// The executable has this name, but it means something else now.
    Absent,
}

/// Why a name cannot be resolved to one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ambiguous {
    /// The name.
    pub name: String,
    /// How many places have it.
    pub places: usize,
}

/// The current build and where it lives.
#[derive(Debug)]
pub struct Running {
    /// The executable.
    pub exe: Arc<Snapshot>,
    /// How far it is moved in the process.
    pub slide: Slide,
    objects: Vec<Option<NewObject>>,
    by_cgu: FxHashMap<(usize, String), ObjectKey>,
    definitions: FxHashMap<NameId, Vec<Definition>>,
    overlay: FxHashMap<NameId, Overlay>,
    /// Codegen units that the executable was linked from and that may be edited.
    original_cgus: FxHashSet<String>,
}

impl Running {
    /// A program that was just started: `objects` are those that its executable was linked from.
    #[must_use]
    pub fn new(exe: Arc<Snapshot>, slide: Slide, objects: Vec<NewObject>) -> Running {
        let mut running = Running {
            exe,
            slide,
            objects: Vec::new(),
            by_cgu: FxHashMap::default(),
            definitions: FxHashMap::default(),
            overlay: FxHashMap::default(),
            original_cgus: objects.iter().map(|object| object.cgu.clone()).collect(),
        };
        for object in objects {
            running.insert(object);
        }
        running
    }

    /// Adds an object; one of the same unit and name must have been removed before.
    pub fn insert(&mut self, new: NewObject) -> ObjectKey {
        let key = ObjectKey(self.objects.len() as u32);
        for (index, symbol) in new.object.symbols.iter().enumerate() {
            if is_definition(&new.object, symbol) {
                let definition = Definition { object: key, symbol: SymbolId(index as u32) };
                self.definitions.entry(symbol.id).or_default().push(definition);
            }
        }
        self.by_cgu.insert((new.unit, new.cgu.clone()), key);
        self.objects.push(Some(new));
        key
    }

    /// Takes an object out.
    pub fn remove(&mut self, key: ObjectKey) {
        let Some(old) = self.objects.get_mut(key.0 as usize).and_then(Option::take) else { return };
        for symbol in &old.object.symbols {
            if is_definition(&old.object, symbol)
                && let Some(list) = self.definitions.get_mut(&symbol.id)
            {
                list.retain(|definition| definition.object != key);
                if list.is_empty() {
                    self.definitions.remove(&symbol.id);
                }
            }
        }
        if self.by_cgu.get(&(old.unit, old.cgu.clone())) == Some(&key) {
            self.by_cgu.remove(&(old.unit, old.cgu));
        }
    }

    /// The object of a unit's codegen unit.
    #[must_use]
    pub fn by_cgu(&self, unit: usize, cgu: &str) -> Option<ObjectKey> {
        self.by_cgu.get(&(unit, cgu.to_owned())).copied()
    }

    /// The object with a key.
    #[must_use]
    pub fn object(&self, key: ObjectKey) -> Option<&NewObject> {
        self.objects.get(key.0 as usize).and_then(Option::as_ref)
    }

    /// All objects.
    pub fn objects(&self) -> impl Iterator<Item = (ObjectKey, &NewObject)> {
        self.objects.iter().enumerate().filter_map(|(at, object)| Some((ObjectKey(at as u32), object.as_ref()?)))
    }

    /// Where the current build defines a name.
    #[must_use]
    pub fn definitions(&self, name: NameId) -> &[Definition] {
        self.definitions.get(&name).map_or(&[], Vec::as_slice)
    }

    /// The text of a name that the current build defines.
    #[must_use]
    pub fn name_of(&self, name: NameId) -> Option<String> {
        let definition = self.definitions(name).first()?;
        let object = &self.object(definition.object)?.object;
        Some(object.name(object.symbol(definition.symbol)).to_owned())
    }

    /// Says where a name lives from now on; `None`: nowhere, whatever the executable has under it.
    pub fn set(&mut self, name: NameId, live: Option<Live>) {
        self.overlay.insert(name, live.map_or(Overlay::Absent, Overlay::Live));
    }

    /// Whether the current build defines the name in some object for all others to see.
    fn is_visible_item(&self, name: NameId) -> bool {
        self.definitions(name).iter().any(|definition| {
            let object = self.object(definition.object);
            object.is_some_and(|new| new.object.symbol(definition.symbol).binding != Binding::Local)
        })
    }

    /// Whether all that the executable has under a name that anybody could choose is private to an object: static functions
    /// and variables of C, labels of assembly. Another object's reference is to something else of that name. A hidden name is
    /// private in an executable as well; who finds it defined in a library has to believe that.
    #[must_use]
    pub fn is_private(&self, id: NameId, name: &str) -> bool {
        let mut found = self.exe.symbols(name).peekable();
        found.peek().is_some()
            && found.all(|symbol| symbol.binding == Binding::Local && !self.exe.unit_name(symbol.unit).is_empty())
            && !LINKERS.contains(&name)
            && !self.is_overlaid(id)
            && !self.is_visible_item(id)
            && !names::is_mangled(name)
    }

    /// Whether a patch has said something about the name.
    #[must_use]
    pub fn is_overlaid(&self, name: NameId) -> bool {
        self.overlay.contains_key(&name)
    }

    /// Where the item called `name` lives; `None` if it is not in the process.
    ///
    /// # Errors
    /// If the executable has several different variables of that name.
    pub fn resolve(&self, id: NameId, name: &str) -> Result<Option<Live>, Ambiguous> {
        match self.overlay.get(&id) {
            Some(Overlay::Live(live)) => return Ok(Some(live.clone())),
            Some(Overlay::Absent) => return Ok(None),
            None => {}
        }
        let mut found: Vec<BinarySymbol> = self.exe.symbols(name).collect();
        if found.iter().any(|symbol| symbol.binding != Binding::Local) {
            found.retain(|symbol| symbol.binding != Binding::Local);
        }
        found.sort_by_key(|symbol| symbol.addr);
        found.dedup_by_key(|symbol| symbol.addr);
        let Some(first) = found.first() else { return Ok(None) };
        let live = |symbol: &BinarySymbol| self.slide.live(symbol.addr);
        match first.kind {
            SymbolKind::Function => {
                // A private copy in another crate may be optimised for its own callers: never ours to redirect. Some
                // linkers put what was visible in its object, and is private now, behind a file without a name.
                let visible = self.is_visible_item(id);
                let is_ours = |symbol: &&BinarySymbol| {
                    let file = self.exe.unit_name(symbol.unit);
                    symbol.binding != Binding::Local
                        || self.original_cgus.contains(file)
                        || (visible && file.is_empty())
                };
                let ours: Vec<_> = found.iter().filter(is_ours).collect();
                let bodies = ours.iter().map(|symbol| Body { addr: live(symbol), size: symbol.size }).collect();
                if ours.is_empty() && found.len() > 1 {
                    return Err(Ambiguous { name: name.to_owned(), places: found.len() });
                }
                let canonical = live(ours.first().copied().unwrap_or(first));
                Ok(Some(Live::Function(LiveFunction {
                    canonical,
                    call: canonical,
                    index: None,
                    bodies,
                    older: Vec::new(),
                })))
            }
            SymbolKind::Tls if found.len() == 1 => Ok(Some(Live::ThreadLocal(self.exe.tp_offset(first.addr.0)))),
            SymbolKind::Object | SymbolKind::Unsaid if found.len() == 1 => {
                Ok(Some(Live::Data(live(first), first.size)))
            }
            SymbolKind::Object
            | SymbolKind::Unsaid
            | SymbolKind::Tls
            | SymbolKind::Section
            | SymbolKind::File
            | SymbolKind::Unknown(_) => Err(Ambiguous { name: name.to_owned(), places: found.len() }),
        }
    }
}

/// Whether a symbol defines an item of the program in its object.
#[must_use]
pub fn is_definition(object: &Object, symbol: &crate::binary::object::Symbol) -> bool {
    matches!(symbol.place, crate::binary::object::Place::In(..)) && object.is_item(symbol)
}
