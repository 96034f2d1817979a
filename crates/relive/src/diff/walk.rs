//! The walk that finds what must come along, from the changed functions on.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::arch::RelocKind;
use crate::binary::names;
use crate::binary::object::{
    Binding, NameId, Object, Place, Reloc, Role, Section, SectionId, Symbol, SymbolId, SymbolKind,
};
use crate::binary::snapshot::Snapshot;
use crate::diff::delta::{Delta, Fate};
use crate::diff::reach::{
    FunctionIndex, Libraries, ObjectIndex, Piece, PieceIndex, PlannedData, PlannedFunction, Problem, Reach, Referent,
};
use crate::diff::running::{Definition, Live, LiveFunction, Running};
use crate::diff::threads::{PlannedThreadLocal, ThreadPlan, ThreadRoom};

/// Follows the references of `delta`'s changed functions. New thread-locals get places in `thread_room`.
pub fn reach(running: &Running, delta: &Delta, thread_room: ThreadRoom, libraries: &mut dyn Libraries) -> Reach {
    let mut walk = Walk {
        running,
        delta,
        libraries,
        reach: Reach { threads: ThreadPlan { room: thread_room, ..ThreadPlan::default() }, ..Reach::default() },
        editable: Vec::new(),
        index_of: FxHashMap::default(),
        defined_new: FxHashMap::default(),
        members: FxHashMap::default(),
        next: 0,
    };
    walk.run();
    let mut reach = walk.reach;
    reach.problems.sort();
    reach.problems.dedup();
    reach
}

struct Walk<'a> {
    running: &'a Running,
    delta: &'a Delta,
    libraries: &'a mut dyn Libraries,
    reach: Reach,
    /// Whether each object belongs to an editable unit (else to a library).
    editable: Vec<bool>,
    index_of: FxHashMap<*const Object, ObjectIndex>,
    /// Names that the delta's objects define.
    defined_new: FxHashMap<NameId, (usize, SymbolId)>,
    members: FxHashMap<String, ObjectIndex>,
    next: usize,
}

impl Walk<'_> {
    fn run(&mut self) {
        for (at, new) in self.delta.objects.iter().enumerate() {
            for (index, symbol) in new.object.symbols.iter().enumerate() {
                if crate::diff::running::is_definition(&new.object, symbol) {
                    self.defined_new.entry(symbol.id).or_insert((at, SymbolId(index as u32)));
                }
            }
        }
        for changed in &self.delta.changed {
            match self.running.resolve(changed.old, &changed.old_text) {
                Ok(Some(Live::Function(live))) if !live.bodies.is_empty() => {
                    let object = self.adopt(&self.delta.objects[changed.object].object, true);
                    self.include_function(object, changed.section, changed.name, Some(live));
                }
                Ok(Some(Live::Function(_))) => {
                    self.problem(Problem::ForeignCopy(changed.text.clone()));
                }
                // Nobody can call what the linker threw away; if new code does, it comes along.
                Ok(None) => {}
                Ok(Some(Live::Data(..) | Live::ThreadLocal(_))) => {
                    self.problem(Problem::AmbiguousSymbol(changed.text.clone()));
                }
                Err(ambiguous) => {
                    self.problem(Problem::AmbiguousSymbol(ambiguous.name));
                }
            }
        }
        while let Some(piece) = self.reach.pieces.get(self.next).copied() {
            self.next += 1;
            self.follow(piece);
        }
    }

    fn problem(&mut self, problem: Problem) -> Referent {
        self.reach.problems.push(problem);
        Referent::Broken
    }

    fn adopt(&mut self, object: &Arc<Object>, editable: bool) -> ObjectIndex {
        if let Some(index) = self.index_of.get(&Arc::as_ptr(object)) {
            return *index;
        }
        let index = ObjectIndex(self.reach.objects.len());
        self.reach.objects.push(Arc::clone(object));
        self.editable.push(editable);
        self.index_of.insert(Arc::as_ptr(object), index);
        index
    }

    fn include(&mut self, object: ObjectIndex, section: SectionId) -> PieceIndex {
        if let Some(piece) = self.reach.piece_at.get(&(object, section)) {
            return *piece;
        }
        let piece = PieceIndex(self.reach.pieces.len());
        self.reach.pieces.push(Piece { object, section });
        self.reach.piece_at.insert((object, section), piece);
        piece
    }

    fn include_function(
        &mut self,
        object: ObjectIndex,
        section: SectionId,
        name: NameId,
        live: Option<LiveFunction>,
    ) -> Referent {
        let piece = self.include(object, section);
        if let Some(function) = self.reach.function_at.get(&piece) {
            return Referent::Function(*function);
        }
        let file = &self.reach.objects[object.0];
        let text = file.function_of(section).map_or_else(String::new, |id| file.name(file.symbol(id)).to_owned());
        let function = FunctionIndex(self.reach.functions.len());
        self.reach.functions.push(PlannedFunction { name, text, piece, live });
        self.reach.function_at.insert(piece, function);
        Referent::Function(function)
    }

    fn follow(&mut self, piece: Piece) {
        let object = Arc::clone(&self.reach.objects[piece.object.0]);
        for reloc in &object.section(piece.section).relocs {
            self.relocation(&object, piece, reloc);
        }
        let frames = object.frames.of.get(&piece.section).cloned().unwrap_or_default();
        for frame in frames {
            if let Some(lsda) = frame.lsda {
                self.include(piece.object, lsda);
            }
            let cie = object.frames.cies.get(frame.cie).map_or(&[][..], |cie| cie.relocs.as_slice());
            for reloc in frame.fde.relocs.iter().chain(cie) {
                self.relocation(&object, piece, reloc);
            }
        }
    }

    fn relocation(&mut self, object: &Arc<Object>, piece: Piece, reloc: &Reloc) {
        let symbol = object.symbol(reloc.symbol);
        if let RelocKind::Unknown(raw) = reloc.kind {
            let section = object.section(piece.section).name.to_string();
            let symbol = object.name(symbol).to_owned();
            self.problem(Problem::UnknownRelocation { section, offset: reloc.offset, raw, symbol });
        }
        if self.reach.referents.contains_key(&(piece.object, reloc.symbol)) {
            return;
        }
        let from = object.section(piece.section).name.to_string();
        let referent = self.resolve(object, piece.object, reloc.symbol, &from);
        self.reach.referents.insert((piece.object, reloc.symbol), referent);
    }

    fn resolve(&mut self, object: &Arc<Object>, at: ObjectIndex, id: SymbolId, from: &str) -> Referent {
        let symbol = object.symbol(id);
        let name = object.name(symbol);
        if let Some(routine) = name.strip_prefix("DW.ref.") {
            let word = self.by_name(NameId::of(routine), routine, symbol, from);
            return Referent::WordOf(Box::new(word));
        }
        let (section, offset) = match symbol.place {
            Place::Undefined => return self.by_name(symbol.id, name, symbol, from),
            Place::Absolute(value) => return Referent::Absolute(value),
            Place::Unknown(raw) => {
                let what = format!("`{name}` in `{from}` lies in a section numbered {raw:#x}");
                return self.problem(Problem::Unreadable(what));
            }
            Place::In(section, offset) => (section, offset),
        };
        if object.is_item(symbol) {
            return self.local_item(object, at, id);
        }
        // A section symbol or private label. One item at the beginning of its own section is meant by name.
        match object.named_at(section, 0) {
            Some(item) if offset == 0 && only_item(object, section, item) => self.local_item(object, at, item),
            Some(_) | None if object.section(section).role.is_mutable() => {
                let name = object.section(section).name.to_string();
                self.problem(Problem::NamelessStorage(format!("`{name}`, used by `{from}`")))
            }
            Some(_) | None => Referent::Piece(self.include(at, section), offset),
        }
    }

    /// An item that the object itself defines.
    fn local_item(&mut self, object: &Arc<Object>, at: ObjectIndex, id: SymbolId) -> Referent {
        let symbol = object.symbol(id);
        let name = object.name(symbol).to_owned();
        let Place::In(section, offset) = symbol.place else { return Referent::Broken };
        if !self.editable.get(at.0).copied().unwrap_or(false) {
            return self.library_item(object, at, symbol, &name);
        }
        if object.section(section).role == Role::Text {
            if object.function_of(section).is_none() {
                return Referent::Piece(self.include(at, section), offset);
            }
            return self.editable_function(symbol.id, &name, object, at, section);
        }
        self.editable_data(object, at, symbol, &name)
    }

    fn editable_function(
        &mut self,
        id: NameId,
        name: &str,
        object: &Arc<Object>,
        at: ObjectIndex,
        section: SectionId,
    ) -> Referent {
        let old = match self.delta.fates.get(&id) {
            Some(Fate::Same(old) | Fate::Changed(old)) => Some(*old),
            Some(Fate::New) => None,
            None => Some(id),
        };
        let old_name = match self.delta.changed.iter().find(|changed| changed.name == id) {
            Some(changed) => changed.old_text.clone(),
            None => self.running.name_of(old.unwrap_or(id)).unwrap_or_else(|| name.to_owned()),
        };
        let live = match old.map(|old| self.running.resolve(old, &old_name)) {
            Some(Ok(Some(Live::Function(live)))) => Some(live),
            Some(Err(ambiguous)) => return self.problem(Problem::AmbiguousSymbol(ambiguous.name)),
            Some(Ok(_)) | None => None,
        };
        let changed = matches!(self.delta.fates.get(&id), Some(Fate::Changed(_)));
        match live {
            Some(live) if !changed && !live.bodies.is_empty() => {
                Referent::LiveFunction { canonical: live.canonical, call: live.call }
            }
            Some(live) if !live.bodies.is_empty() => self.include_function(at, section, id, Some(live)),
            Some(_) | None => {
                debug_assert!(object.function_of(section).is_some());
                self.include_function(at, section, id, None)
            }
        }
    }

    fn editable_data(&mut self, object: &Arc<Object>, at: ObjectIndex, symbol: &Symbol, name: &str) -> Referent {
        let live = match self.delta.renamed.get(&symbol.id) {
            None => self.running.resolve(symbol.id, name),
            Some(Some((id, text))) => self.running.resolve(*id, text),
            Some(None) => Ok(None),
        };
        match live {
            Ok(Some(Live::Data(addr, _))) => return Referent::LiveData(addr),
            Ok(Some(Live::ThreadLocal(offset))) => return Referent::ThreadLocal(offset),
            Ok(Some(Live::Function(_))) | Err(_) => {
                return self.problem(Problem::AmbiguousSymbol(name.to_owned()));
            }
            Ok(None) => {}
        }
        let Place::In(section, offset) = symbol.place else { return Referent::Broken };
        if object.section(section).role.is_tls() {
            return self.new_thread_local(object, at, (section, offset), symbol.id, name);
        }
        let piece = self.include(at, section);
        self.reach.data.push(PlannedData { name: symbol.id, at: (piece, offset), size: symbol.size });
        Referent::Piece(piece, offset)
    }

    /// A thread-local that the process does not have: it gets a place in every thread.
    fn new_thread_local(
        &mut self,
        object: &Object,
        at: ObjectIndex,
        (section, offset): (SectionId, u64),
        id: NameId,
        name: &str,
    ) -> Referent {
        let piece = self.include(at, section);
        let start = match self.reach.threads.place(piece, object.section(section)) {
            Ok(start) => start,
            Err(why) => return self.problem(Problem::NewThreadLocal { name: name.to_owned(), why }),
        };
        let offset = start.wrapping_add(offset as i64);
        self.reach.threads.thread_locals.push(PlannedThreadLocal { name: id, offset });
        Referent::ThreadLocal(offset)
    }

    /// An item of a library member: what the process has is bound to, code and constants may be had twice.
    fn library_item(&mut self, object: &Arc<Object>, at: ObjectIndex, symbol: &Symbol, name: &str) -> Referent {
        let Place::In(section, offset) = symbol.place else { return Referent::Broken };
        let role = object.section(section).role;
        if symbol.binding == Binding::Local && !role.is_mutable() {
            return Referent::Piece(self.include(at, section), offset);
        }
        if symbol.binding == Binding::Local {
            return self.library_local(object, at, symbol, name);
        }
        match self.live(symbol.id, name) {
            Some(referent) => referent,
            None if role.is_tls() => self.new_thread_local(object, at, (section, offset), symbol.id, name),
            None => {
                let piece = self.include(at, section);
                let planned = PlannedData { name: symbol.id, at: (piece, offset), size: symbol.size };
                if role == Role::Text {
                    self.reach.library_functions.push(planned);
                } else {
                    self.reach.data.push(planned);
                }
                Referent::Piece(piece, offset)
            }
        }
    }

    /// A variable private to a library member: the running one is found by the member's own file name.
    fn library_local(&mut self, object: &Arc<Object>, at: ObjectIndex, symbol: &Symbol, name: &str) -> Referent {
        let file = object.symbols.iter().find(|symbol| symbol.kind == SymbolKind::File);
        let file = file.map_or("", |symbol| object.name(symbol));
        let exe = &self.running.exe;
        let mut found = exe.symbols(name).filter(|symbol| exe.unit_name(symbol.unit) == file);
        let Place::In(section, offset) = symbol.place else { return Referent::Broken };
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => self.problem(Problem::AmbiguousSymbol(format!("{name} of `{file}`"))),
            (Some(one), None) if one.kind == SymbolKind::Tls => Referent::ThreadLocal(exe.tp_offset(one.addr.0)),
            (Some(one), None) => Referent::LiveData(self.running.slide.live(one.addr)),
            (None, _) => {
                self.private_variable(object, at, (section, offset), symbol.size, &format!("{name} of `{file}`"))
            }
        }
    }

    /// A variable private to a library member that the program was linked without, called `name` by us: later patches
    /// that bring the same member find it by that.
    fn private_variable(
        &mut self,
        object: &Object,
        at: ObjectIndex,
        (section, offset): (SectionId, u64),
        size: u64,
        name: &str,
    ) -> Referent {
        let id = NameId::of(name);
        if let Some(referent) = self.live(id, name) {
            return referent;
        }
        if object.section(section).role.is_tls() {
            return self.new_thread_local(object, at, (section, offset), id, name);
        }
        let piece = self.include(at, section);
        self.reach.data.push(PlannedData { name: id, at: (piece, offset), size });
        Referent::Piece(piece, offset)
    }

    fn live(&mut self, id: NameId, name: &str) -> Option<Referent> {
        match self.running.resolve(id, name) {
            Ok(Some(Live::Function(live))) => {
                Some(Referent::LiveFunction { canonical: live.canonical, call: live.call })
            }
            Ok(Some(Live::Data(addr, _))) => Some(Referent::LiveData(addr)),
            Ok(Some(Live::ThreadLocal(offset))) => Some(Referent::ThreadLocal(offset)),
            Ok(None) => None,
            Err(ambiguous) => Some(self.problem(Problem::AmbiguousSymbol(ambiguous.name))),
        }
    }

    /// An item that is defined elsewhere: in the new objects, in those that stay, in the executable, in a library.
    fn by_name(&mut self, id: NameId, name: &str, symbol: &Symbol, from: &str) -> Referent {
        if let Some((object, defined)) = self.defined_new.get(&id).copied() {
            let object = Arc::clone(&self.delta.objects[object].object);
            let at = self.adopt(&object, true);
            return self.local_item(&object, at, defined);
        }
        let is_seen = |definition: &&Definition| {
            let object = self.running.object(definition.object);
            object.is_some_and(|new| new.object.symbol(definition.symbol).binding != Binding::Local)
                || names::is_mangled(name)
        };
        let stay = self.running.definitions(id).iter().filter(|def| !self.delta.removed.contains(&def.object));
        let stays = { stay }.find(is_seen).copied();
        if let Some(definition) = stays
            && let Some(new) = self.running.object(definition.object)
        {
            let object = Arc::clone(&new.object);
            let at = self.adopt(&object, true);
            return self.local_item(&object, at, definition.symbol);
        }
        let is_private = self.running.is_private(id, name) && matches!(self.libraries.member(id), Ok(None));
        if !is_private && let Some(referent) = self.live(id, name) {
            return referent;
        }
        if self.running.exe.imports(name) {
            return self.import(name);
        }
        match self.member(id) {
            Ok(Some((object, at))) => {
                let found = (0..object.symbols.len() as u32).map(SymbolId).find(|candidate| {
                    let candidate = object.symbol(*candidate);
                    candidate.id == id && matches!(candidate.place, Place::In(..))
                });
                if let Some(found) = found {
                    return self.local_item(&object, at, found);
                }
            }
            Ok(None) => {}
            Err(why) => return self.problem(Problem::Unreadable(why)),
        }
        if self.libraries.exports(name) {
            return self.import(name);
        }
        if symbol.binding == Binding::Weak {
            return Referent::Null;
        }
        self.problem(Problem::UndefinedSymbol { name: name.to_owned(), from: from.to_owned() })
    }

    fn member(&mut self, id: NameId) -> Result<Option<(Arc<Object>, ObjectIndex)>, String> {
        let Some((name, data)) = self.libraries.member(id)? else { return Ok(None) };
        if let Some(index) = self.members.get(&name) {
            return Ok(Some((Arc::clone(&self.reach.objects[index.0]), *index)));
        }
        let object = Object::parse(data).map_err(|error| format!("`{name}`: {error}"))?;
        let object = Arc::new(object);
        self.constructors(&object, &name);
        let index = self.adopt(&object, false);
        self.members.insert(name, index);
        Ok(Some((object, index)))
    }

    /// Functions that the loader would have run before `main`, or would run at the end. Nobody runs those of an image;
    /// where the executable has all of them, the member is part of it and they have run.
    fn constructors(&mut self, object: &Object, member: &str) {
        let is_list = |name: &str| {
            [".init_array", ".preinit_array", ".fini_array", ".ctors", ".dtors"]
                .iter()
                .any(|list| name.strip_prefix(list).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
        };
        let lists = object.sections.iter().filter(|section| section.size > 0 && is_list(&section.name));
        let new = lists.filter(|list| !has_list(&self.running.exe, object, list));
        let problems: Vec<_> = new
            .map(|list| Problem::Constructors { member: member.to_owned(), section: list.name.to_string() })
            .collect();
        self.reach.problems.extend(problems);
    }

    fn import(&mut self, name: &str) -> Referent {
        let index = self.reach.imports.iter().position(|import| import == name).unwrap_or_else(|| {
            self.reach.imports.push(name.to_owned());
            self.reach.imports.len() - 1
        });
        Referent::Import(index)
    }
}

/// Whether the executable has all functions of a library member's list: then it has the member, and the list.
pub(crate) fn has_list(exe: &Snapshot, object: &Object, list: &Section) -> bool {
    !list.relocs.is_empty() && list.relocs.iter().all(|entry| is_linked(exe, object, entry.symbol))
}

/// Whether the executable has the function of a library member that `id` stands for.
fn is_linked(exe: &Snapshot, object: &Object, id: SymbolId) -> bool {
    let symbol = object.symbol(id);
    let named = match symbol.place {
        Place::In(section, 0) if !object.is_item(symbol) => object.named_at(section, 0),
        Place::In(..) => Some(id),
        // Who has what another object defines says nothing of this one.
        Place::Undefined | Place::Absolute(_) | Place::Unknown(_) => None,
    };
    let Some(symbol) = named.map(|id| object.symbol(id)) else { return false };
    let file = object.symbols.iter().find(|symbol| symbol.kind == SymbolKind::File);
    let file = file.map_or("", |symbol| object.name(symbol));
    exe.symbols(object.name(symbol)).any(|found| {
        found.kind == SymbolKind::Function && (symbol.binding != Binding::Local || exe.unit_name(found.unit) == file)
    })
}

/// Whether `item` is the only item of its section.
fn only_item(object: &Object, section: SectionId, item: SymbolId) -> bool {
    let place = object.symbol(item).place;
    object.defined_in(section).iter().all(|id| {
        let symbol = object.symbol(*id);
        !object.is_item(symbol) || symbol.place == place
    })
}
