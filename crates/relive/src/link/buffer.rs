//! Atoms in a buffer: objects of any machine and format, placed where the caller wants them, with every relocation resolved.
//!
//! Takes objects, an address for each of their atoms, and addresses of what lies outside. Gives the bytes to be written,
//! to a process, to a file, or to both. Words of addresses (GOT and its like) and stubs for branches that do not reach are
//! made where they are needed, in room that the caller sets aside. When something moves, exactly the places that refer to
//! it are resolved again, and only they are written. It knows nothing of running programs; for those, `layout` and
//! `relocate` add what patches need.

mod footprint;
mod frames;
mod links;
mod room;

use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::arch::{Machine, RelocKind};
use crate::binary::object::{Binding, NameId, Object, Place, Role, SectionId, SymbolId, SymbolKind};
use crate::link::LinkError;
use crate::link::apply::{Target, WordKind, apply};
use crate::link::globals::Globals;

use footprint::{footprint, sequence_end};
pub use frames::Frames;
use links::Links;
pub use room::Room;

/// An object of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId(pub usize);

/// Bytes to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where.
    pub at: u64,
    /// What was written there before; empty for what was not written yet.
    pub old: Vec<u8>,
    /// The bytes.
    pub new: Vec<u8>,
}

/// What [`Buffer::resolve`] did.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// What is to be written, by address.
    pub writes: Vec<Write>,
    /// How many relocations were computed for it.
    pub relocations: usize,
    /// How many words of addresses.
    pub words: usize,
}

/// What a reference leads to, as far as it moves by itself: a symbol of the whole program, or one of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key {
    Name(NameId),
    Local(usize, SymbolId),
}

/// A place that holds or depends on an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    /// Relocation of an atom, by its number in the section.
    Reloc(usize, usize),
    Word(usize),
}

struct Atom {
    object: usize,
    section: SectionId,
    at: Option<u64>,
    bytes: Vec<u8>,
    /// Whether its bytes were given out since it was placed.
    written: bool,
    /// Whether it is there already and not ours to write.
    foreign: bool,
}

/// See the module.
pub struct Buffer {
    machine: Machine,
    /// Whether loads from words become addresses where the instruction allows it.
    relax: bool,
    objects: Vec<Arc<Object>>,
    atoms: Vec<Atom>,
    atom_of: FxHashMap<(usize, SectionId), usize>,
    globals: Globals,
    outside: FxHashMap<NameId, u64>,
    /// The thread pointer, on the scale of the addresses of thread-local atoms.
    thread_pointer: u64,
    room: Room,
    users: FxHashMap<Key, Vec<Use>>,
    dirty: BTreeSet<Use>,
    /// Fields that were computed and not given out yet.
    fields: Vec<Write>,
}

impl Buffer {
    /// An empty buffer for code of `machine`. Words and stubs are made in `room`; with `relax`, a load from a word becomes the
    /// address where the instruction has such a form. `thread_pointer` is where it would point if the thread-local block
    /// lay at the addresses of its atoms.
    #[must_use]
    pub fn new(machine: Machine, room: Room, relax: bool, thread_pointer: u64) -> Buffer {
        Buffer {
            machine,
            relax,
            objects: Vec::new(),
            atoms: Vec::new(),
            atom_of: FxHashMap::default(),
            globals: Globals::default(),
            outside: FxHashMap::default(),
            thread_pointer,
            room,
            users: FxHashMap::default(),
            dirty: BTreeSet::new(),
            fields: Vec::new(),
        }
    }

    /// Makes words and stubs in `room` from now on. Those that were made elsewhere are forgotten: only for a buffer of which
    /// nothing is resolved yet.
    pub fn set_room(&mut self, room: Room) {
        self.room = room;
    }

    /// Adds an object; its atoms have no address yet. Of several definitions of a name the first strong one counts, else the
    /// first.
    ///
    /// # Errors
    /// If it is made for another machine.
    pub fn add(&mut self, object: Arc<Object>) -> Result<ObjectId, LinkError> {
        self.add_as(object, false)
    }

    /// Adds an object whose definitions count instead of those before: whatever refers to their names will lead to them.
    ///
    /// # Errors
    /// If it is made for another machine.
    pub fn replace(&mut self, object: Arc<Object>) -> Result<ObjectId, LinkError> {
        self.add_as(object, true)
    }

    fn add_as(&mut self, object: Arc<Object>, newest: bool) -> Result<ObjectId, LinkError> {
        if object.machine != self.machine {
            return Err(LinkError(format!("an object for {:?} among those for {:?}", object.machine, self.machine)));
        }
        let index = self.objects.len();
        for name in self.globals.add(&self.objects, &object, newest) {
            self.touch(Key::Name(name));
        }
        for (number, section) in object.sections.iter().enumerate() {
            if !section.role.is_loaded() || section.role == Role::EhFrame {
                continue;
            }
            let id = SectionId(number as u32);
            let mut bytes = object.bytes(id).to_vec();
            if section.file_range.is_empty() {
                bytes.clear(); // Zeroed storage is nobody's to write.
            }
            self.atom_of.insert((index, id), self.atoms.len());
            for (number, reloc) in section.relocs.iter().enumerate() {
                let at = Use::Reloc(self.atoms.len(), number);
                for symbol in [Some(reloc.symbol), reloc.minus].into_iter().flatten() {
                    self.users.entry(key(&object, index, symbol)).or_default().push(at);
                }
            }
            self.atoms.push(Atom { object: index, section: id, at: None, bytes, written: false, foreign: false });
        }
        self.objects.push(object);
        Ok(ObjectId(index))
    }

    /// The atoms of an object: section, size and alignment in bytes.
    pub fn atoms(&self, object: ObjectId) -> impl Iterator<Item = (SectionId, &crate::binary::object::Section)> {
        let of_object = self.atoms.iter().filter(move |atom| atom.object == object.0);
        of_object.filter_map(|atom| Some((atom.section, self.objects.get(atom.object)?.section(atom.section))))
    }

    /// Gives an atom its address, or a new one. The address of a thread-local's atom is a place in the thread-local block.
    ///
    /// # Errors
    /// If there is no such atom or the address is not aligned for it.
    pub fn place(&mut self, object: ObjectId, section: SectionId, at: u64) -> Result<(), LinkError> {
        let index = self.atom_of.get(&(object.0, section)).copied();
        let atom = index.and_then(|index| self.atoms.get_mut(index));
        let (Some(index), Some(atom), Some(of)) = (index, atom, self.objects.get(object.0).cloned()) else {
            return Err(LinkError(format!("there is no atom {section:?} of {object:?}")));
        };
        let data = of.section(section);
        if !at.is_multiple_of(data.align) || at.checked_add(data.size).is_none() {
            return Err(LinkError(format!("`{}` cannot lie at {at:#x}: its alignment is {}", data.name, data.align)));
        }
        if atom.at == Some(at) {
            return Ok(());
        }
        let is_new = atom.at.replace(at).is_none();
        atom.written = false;
        let own = data.relocs.iter().enumerate().filter(|(_, reloc)| is_new || reloc.kind.is_relative());
        self.dirty.extend(own.map(|(number, _)| Use::Reloc(index, number)));
        self.touch_defined(object.0, section, &of);
        Ok(())
    }

    /// Says that an atom is there already: what refers to it leads to `at`, and nothing of it is computed or written.
    ///
    /// # Errors
    /// If there is no such atom.
    pub fn bind(&mut self, object: ObjectId, section: SectionId, at: u64) -> Result<(), LinkError> {
        let index = self.atom_of.get(&(object.0, section)).copied();
        let atom = index.and_then(|index| self.atoms.get_mut(index));
        let (Some(atom), Some(of)) = (atom, self.objects.get(object.0).cloned()) else {
            return Err(LinkError(format!("there is no atom {section:?} of {object:?}")));
        };
        (atom.at, atom.foreign) = (Some(at), true);
        self.touch_defined(object.0, section, &of);
        Ok(())
    }

    /// Leaves an atom out: it gets no address from [`Buffer::place_all`].
    pub fn exclude(&mut self, object: ObjectId, section: SectionId) {
        let index = self.atom_of.get(&(object.0, section)).copied();
        if let Some(atom) = index.and_then(|index| self.atoms.get_mut(index)) {
            (atom.at, atom.foreign) = (None, true);
        }
    }

    fn touch_defined(&mut self, object: usize, section: SectionId, of: &Object) {
        for id in of.defined_in(section) {
            let symbol = of.symbol(*id);
            self.touch(Key::Local(object, *id));
            if self.globals.get(symbol.id) == Some((object, *id)) {
                self.touch(Key::Name(symbol.id));
            }
        }
    }

    /// Gives atoms of `roles` that have none yet their addresses, one behind the other from `at`. Gives the end.
    ///
    /// # Errors
    /// If they do not end within the address space.
    pub fn place_all(&mut self, roles: &[Role], mut at: u64) -> Result<u64, LinkError> {
        for index in 0..self.atoms.len() {
            let is_open = |atom: &&Atom| atom.at.is_none() && !atom.foreign;
            let Some(atom) = self.atoms.get(index).filter(is_open) else { continue };
            let (object, section) = (ObjectId(atom.object), atom.section);
            let Some(data) = self.objects.get(object.0).map(|object| object.section(section)) else { continue };
            if roles.contains(&data.role) {
                let (align, size) = (data.align, data.size);
                let start = at.checked_next_multiple_of(align);
                let end = start.and_then(|start| start.checked_add(size));
                let (Some(start), Some(end)) = (start, end) else {
                    return Err(LinkError(format!("`{}` does not fit behind {at:#x}", data.name)));
                };
                self.place(object, section, start)?;
                at = end;
            }
        }
        Ok(at)
    }

    /// The address of what no object defines, or a new one.
    pub fn define(&mut self, name: NameId, at: u64) {
        if self.outside.insert(name, at) != Some(at) && self.globals.get(name).is_none() {
            self.touch(Key::Name(name));
        }
    }

    /// Names that are referred to and have no address: neither a placed atom's nor one from outside.
    #[must_use]
    pub fn undefined(&self) -> Vec<String> {
        let mut out = BTreeSet::new();
        for atom in self.atoms.iter().filter(|atom| atom.at.is_some() && !atom.foreign) {
            let Some(object) = self.objects.get(atom.object) else { continue };
            for reloc in &object.section(atom.section).relocs {
                let symbol = object.symbol(reloc.symbol);
                let is_global = symbol.binding != Binding::Local;
                if is_global && self.globals.get(symbol.id).is_none() && !self.outside.contains_key(&symbol.id) {
                    out.insert(object.name(symbol).to_owned());
                }
            }
        }
        out.into_iter().collect()
    }

    /// The address of a name: a definition's in a placed atom, else from outside.
    #[must_use]
    pub fn address(&self, name: NameId) -> Option<u64> {
        self.key_address(Key::Name(name))
    }

    /// The address of an atom.
    #[must_use]
    pub fn atom(&self, object: ObjectId, section: SectionId) -> Option<(u64, &[u8])> {
        let atom = self.atoms.get(*self.atom_of.get(&(object.0, section))?)?;
        Some((atom.at?, &atom.bytes))
    }

    /// Computes what changed since the last time: new and moved atoms, and every place that refers to something that moved.
    ///
    /// # Errors
    /// If a relocation cannot be computed, naming it; what was not computed is tried again the next time.
    pub fn resolve(&mut self) -> Result<Resolved, LinkError> {
        let mut out = Resolved::default();
        while let Some(next) = self.dirty.first().copied() {
            match next {
                Use::Reloc(atom, number) => {
                    if let Some(write) = self.resolve_one(atom, number, &mut out)? {
                        self.fields.push(write);
                    }
                }
                Use::Word(index) => {
                    let (key, kind) =
                        self.room.word(index).ok_or_else(|| LinkError("a word that is not there".into()))?;
                    let value = self.word_value(key, kind)?;
                    self.room.set_word(index, value);
                    out.words += 1;
                }
            }
            self.dirty.remove(&next);
        }
        for atom in self.atoms.iter_mut().filter(|atom| !atom.written && !atom.foreign) {
            let Some(at) = atom.at.filter(|_| !atom.bytes.is_empty()) else { continue };
            out.writes.push(Write { at, old: Vec::new(), new: atom.bytes.clone() });
            atom.written = true;
        }
        out.writes.append(&mut self.fields);
        out.writes.append(&mut self.room.take_writes());
        out.writes.sort_by_key(|write| write.at);
        Ok(out)
    }

    /// Every place of 8 bytes that holds an address, with the address: what must be written again when all of it is loaded
    /// elsewhere. Call it after [`Buffer::resolve`].
    #[must_use]
    pub fn pointers(&self) -> Vec<(u64, u64)> {
        let mut out = self.room.pointers();
        for atom in self.atoms.iter().filter(|atom| !atom.foreign) {
            let (Some(at), Some(of)) = (atom.at, self.objects.get(atom.object)) else { continue };
            for reloc in &of.section(atom.section).relocs {
                let is_address = reloc.kind == RelocKind::ABS64 && reloc.minus.is_none();
                let field = usize::try_from(reloc.offset).ok().and_then(|at| atom.bytes.get(at..)?.first_chunk());
                if let Some(field) = field.filter(|_| is_address) {
                    out.push((at + reloc.offset, u64::from_le_bytes(*field)));
                }
            }
        }
        out.sort_unstable();
        out
    }

    fn resolve_one(&mut self, atom: usize, number: usize, out: &mut Resolved) -> Result<Option<Write>, LinkError> {
        let lost = || LinkError("an atom that is not there".into());
        let (object, section, at, mut bytes, written) = {
            let atom = self.atoms.get_mut(atom).ok_or_else(lost)?;
            // What has no address yet is computed when it gets one.
            let Some(at) = atom.at.filter(|_| !atom.foreign) else { return Ok(None) };
            (atom.object, atom.section, at, std::mem::take(&mut atom.bytes), atom.written)
        };
        let of = self.objects.get(object).cloned().ok_or_else(lost)?;
        let relocs = &of.section(section).relocs;
        let Some(reloc) = relocs.get(number) else { return Err(lost()) };
        // Rewritten instructions are rewritten anew from what the compiler made.
        let range = footprint(self.machine, reloc.kind, reloc.offset, of.bytes(section));
        let old = bytes.get(range.clone()).unwrap_or_default().to_vec();
        if let (Some(field), Some(source)) = (bytes.get_mut(range.clone()), of.bytes(section).get(range.clone())) {
            field.copy_from_slice(source);
        }
        let belongs = number > 0 && relocs.get(number - 1).is_some_and(|before| reloc.offset < sequence_end(before));
        let mut target = Target { machine: self.machine, code: true, at, bytes: &mut bytes };
        let mut links = Links { buffer: self, object, of: &of };
        let result = if belongs {
            Ok(0)
        } else {
            apply(&mut links, &mut target, reloc).or_else(|why| links.through_word(&mut target, reloc).ok_or(why))
        };
        // What could not be computed stays what was given out.
        if let (Err(_), Some(field)) = (&result, bytes.get_mut(range.clone())) {
            field.copy_from_slice(&old);
        }
        let new = bytes.get(range.clone()).unwrap_or_default().to_vec();
        if let Some(atom) = self.atoms.get_mut(atom) {
            atom.bytes = bytes;
        }
        result.map_err(|why| {
            let (name, symbol) = (&of.section(section).name, target_name(&of, reloc.symbol));
            LinkError(format!("relocation at {:#x} of `{name}` against `{symbol}`: {why}", reloc.offset))
        })?;
        out.relocations += 1;
        Ok((written && old != new).then(|| Write { at: at + range.start as u64, old, new }))
    }

    fn word_value(&self, key: Key, kind: WordKind) -> Result<u64, LinkError> {
        let addr =
            self.key_address(key).ok_or_else(|| LinkError(format!("`{}` has no address", self.key_text(key))))?;
        Ok(match kind {
            WordKind::Address | WordKind::Descriptor => addr,
            WordKind::ThreadOffset => {
                let offset = addr.wrapping_sub(self.thread_pointer);
                if i32::try_from(offset.cast_signed()).is_err() {
                    let name = self.key_text(key);
                    return Err(LinkError(format!("`{name}` is no thread-local of this program's own block")));
                }
                offset
            }
        })
    }

    /// The name of what a key stands for, as the first object has it that speaks of it.
    fn key_text(&self, key: Key) -> String {
        let of = |object: &Object, id: SymbolId| target_name(object, id).to_owned();
        match key {
            Key::Local(object, id) => self.objects.get(object).map_or_else(String::new, |object| of(object, id)),
            Key::Name(name) => {
                let mut found = self.objects.iter().filter_map(|object| {
                    let at = object.symbols.iter().position(|symbol| symbol.id == name)?;
                    Some(of(object, SymbolId(at as u32)))
                });
                found.next().unwrap_or_default()
            }
        }
    }

    fn key_address(&self, key: Key) -> Option<u64> {
        let (object, id) = match key {
            Key::Local(object, id) => (object, id),
            Key::Name(name) => match self.globals.get(name) {
                Some(definition) => definition,
                None => return self.outside.get(&name).copied(),
            },
        };
        match self.objects.get(object)?.symbol(id).place {
            Place::In(section, offset) => {
                let atom = self.atoms.get(*self.atom_of.get(&(object, section))?)?;
                Some(atom.at?.wrapping_add(offset))
            }
            Place::Absolute(value) => Some(value),
            Place::Undefined if id.0 == 0 => Some(0),
            Place::Undefined | Place::Unknown(_) => None,
        }
    }

    fn touch(&mut self, key: Key) {
        self.dirty.extend(self.users.get(&key).into_iter().flatten());
    }

    fn word(&mut self, key: Key, kind: WordKind) -> Result<u64, String> {
        let (at, new) = self.room.word_for(key, kind)?;
        if let Some(index) = new {
            self.users.entry(key).or_default().push(Use::Word(index));
            self.dirty.insert(Use::Word(index));
        }
        Ok(at)
    }
}

fn key(object: &Object, index: usize, id: SymbolId) -> Key {
    let symbol = object.symbol(id);
    if symbol.binding == Binding::Local { Key::Local(index, id) } else { Key::Name(symbol.id) }
}

/// What a relocation's symbol is called: one that stands for a section, like what begins there.
fn target_name(object: &Object, id: SymbolId) -> &str {
    let symbol = object.symbol(id);
    let Place::In(section, _) = symbol.place else { return object.name(symbol) };
    let named = if symbol.kind == SymbolKind::Section { object.named_at(section, 0) } else { Some(id) };
    named.map_or(&object.section(section).name, |id| object.name(object.symbol(id)))
}
