//! A patch for programs with a jump table of their own (the subsecond runtime): a shared object with the new code, and which
//! old function is replaced by which address of it.
//!
//! Takes the index of the program that runs and the new objects. New code refers to what the program has, functions,
//! statics and thread-locals, by the distance from one symbol, `main`, which the loader finds in the program by its name;
//! so nothing needs to know where the program was loaded. What an instruction can reach only when it is near is refused by
//! name. It judges nothing: whoever uses a jump table answers for types himself.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::arch::Machine;
use crate::binary::archive::ArchiveIndex;
use crate::binary::executable::{ExeSymbol, LinkAddr, Snapshot};
use crate::binary::object::{Binding, NameId, Object, Place, Role, SectionId, Symbol, SymbolKind};
use crate::link::LinkError;
use crate::link::buffer::{Buffer, ObjectId, Room};
use crate::link::shared::{Dynamic, FIRST, Named, Part, SEGMENT_ALIGN, SharedObject};

/// The symbol that program and library are counted from.
pub const ANCHOR: &str = "main";

/// Where the program lies for the library's code: out of reach, so that everything that counts on being near is found.
const HOST: u64 = 1 << 46;
/// Where names that others define lie, each in a room of its own.
const IMPORTS: u64 = 1 << 47;
const IMPORT_ROOM: u64 = 1 << 32;

/// A patch for a program with a jump table.
#[derive(Clone, Debug)]
pub struct JumpPatch {
    /// The shared object's file.
    pub library: Vec<u8>,
    /// Old functions and what replaces them: address in the program's file, address in the library's.
    pub map: Vec<(LinkAddr, u64)>,
    /// Address of `main` in the program's file.
    pub old_anchor: LinkAddr,
    /// Address of `main` in the library's file, which is no function but a place to count from.
    pub new_anchor: u64,
    /// Variables that the program does not have: they begin with their initial values.
    pub new_variables: Vec<String>,
    /// Local functions that the program has several of by one name, so that none of them is replaced.
    pub ambiguous: Vec<String>,
}

/// Links `objects` for the program that `host` describes. What they lack is taken out of `archives`. `exports_anchor` says
/// whether the program exports `main`.
///
/// # Errors
/// If the program cannot take such a patch, something is undefined or ambiguous, a thread-local is new, or an instruction
/// would have to be near the program; each by name.
pub fn patch(
    host: &Snapshot,
    exports_anchor: bool,
    objects: Vec<Arc<Object>>,
    archives: &ArchiveIndex,
) -> Result<JumpPatch, LinkError> {
    let anchor = host.symbols(ANCHOR).find(|symbol| symbol.kind == SymbolKind::Function);
    let anchor = anchor.filter(|_| exports_anchor).ok_or_else(|| {
        LinkError("the program does not export `main`, which the runtime counts from; link it with `-rdynamic`".into())
    })?;
    let mut draft = Draft::default();
    let objects = draft.close(host, objects, archives)?;
    let machine = objects.first().map_or(Machine::X86_64, |object| object.machine);
    // The thread pointer, on the scale of the program's thread-local symbols, which count from the block's start.
    let thread_pointer = host.tp_offset(0).wrapping_neg() as u64;
    let mut buffer = Buffer::new(machine, Room::new(0..0, 0..0), false, thread_pointer);
    for object in &objects {
        let id = buffer.add(object.clone())?;
        draft.bind(host, &mut buffer, id, object)?;
        draft.match_functions(host, id, object);
    }
    for (name, at) in &draft.outside {
        buffer.define(*name, *at);
    }
    let parts = Places::lay_out(&mut buffer, &objects)?;
    let bytes = parts.resolve(&mut buffer)?;
    draft.finish(machine, anchor.addr, &buffer, &objects, bytes)
}

/// What is found out before anything has an address.
#[derive(Default)]
struct Draft {
    outside: Vec<(NameId, u64)>,
    imports: Vec<String>,
    new_variables: Vec<String>,
    ambiguous: Vec<String>,
    /// Old address, and the object and symbol that replace it.
    functions: Vec<(LinkAddr, ObjectId, Symbol)>,
}

impl Draft {
    /// Adds members of `archives` until everything is defined, by an object, by the program, or by what it imports.
    fn close(
        &mut self,
        host: &Snapshot,
        mut objects: Vec<Arc<Object>>,
        archives: &ArchiveIndex,
    ) -> Result<Vec<Arc<Object>>, LinkError> {
        let mut defined: BTreeSet<NameId> = BTreeSet::new();
        let mut seen: BTreeSet<NameId> = BTreeSet::new();
        let mut missing = Vec::new();
        let mut next = 0;
        while let Some(object) = objects.get(next).cloned() {
            next += 1;
            let global = |symbol: &&Symbol| symbol.binding != Binding::Local && symbol.place != Place::Undefined;
            defined.extend(object.symbols.iter().filter(global).map(|symbol| symbol.id));
            for symbol in object.symbols.iter().skip(1).filter(|symbol| symbol.place == Place::Undefined) {
                let name = object.name(symbol);
                if name.is_empty() || defined.contains(&symbol.id) || !seen.insert(symbol.id) {
                    continue;
                }
                if let Some(found) = only(host, name, None)? {
                    self.outside.push((symbol.id, at_host(&found)));
                } else if host.imports(name) {
                    self.outside.push((symbol.id, IMPORTS + IMPORT_ROOM * self.imports.len() as u64));
                    self.imports.push(name.to_owned());
                } else if symbol.binding == Binding::Weak {
                    self.outside.push((symbol.id, 0));
                } else {
                    missing.push((symbol.id, name.to_owned()));
                }
            }
            if next == objects.len()
                && let Some(member) = take_member(&mut missing, &defined, archives)?
            {
                objects.push(Arc::new(member));
            }
        }
        missing.retain(|(id, _)| !defined.contains(id));
        let names: Vec<&str> = missing.iter().map(|(_, name)| name.as_str()).collect();
        match names.as_slice() {
            [] => Ok(objects),
            names => Err(LinkError(format!(
                "neither the program nor what was given defines `{}`; give the objects or libraries that do",
                names.join("`, `")
            ))),
        }
    }

    /// Leads variables and thread-locals that the program has to the program's.
    fn bind(&mut self, host: &Snapshot, buffer: &mut Buffer, id: ObjectId, object: &Object) -> Result<(), LinkError> {
        for (number, section) in object.sections.iter().enumerate() {
            let at = SectionId(number as u32);
            if section.name.starts_with(".init_array") || section.name.starts_with(".ctors") {
                return Err(LinkError(format!("`{}`: a constructor, which would run again", section.name)));
            }
            // A pointer for unwinding tables, one in every object: no variable of anybody's.
            let is_variable = section.role.is_mutable() && section.size > 0 && !section.name.contains("DW.ref.");
            if !is_variable {
                continue;
            }
            let named = object.named_at(at, 0).map(|id| object.symbol(id));
            let name = named.map_or("", |symbol| object.name(symbol));
            let found = if name.is_empty() { None } else { only(host, name, Some(object))? };
            match found {
                Some(found) => buffer.bind(id, at, at_host(&found))?,
                None if section.role.is_tls() => {
                    return Err(LinkError(format!(
                        "`{}` is a thread-local that the program does not have; a library of this kind cannot bring one",
                        if name.is_empty() { &section.name } else { name }
                    )));
                }
                None => {
                    self.new_variables.push(if name.is_empty() { section.name.to_string() } else { name.to_owned() })
                }
            }
        }
        Ok(())
    }

    /// Finds the program's functions that the object's replace.
    fn match_functions(&mut self, host: &Snapshot, id: ObjectId, object: &Object) {
        for symbol in object.symbols.iter().filter(|symbol| symbol.kind == SymbolKind::Function) {
            let (name, defined) = (object.name(symbol), matches!(symbol.place, Place::In(..)));
            if !defined || name.is_empty() || name == ANCHOR {
                continue;
            }
            match only(host, name, Some(object)) {
                Ok(Some(old)) if old.kind == SymbolKind::Function => {
                    self.functions.push((old.addr, id, symbol.clone()));
                }
                Ok(_) => {}
                Err(_) => self.ambiguous.push(name.to_owned()),
            }
        }
    }

    fn finish(
        self,
        machine: Machine,
        old_anchor: LinkAddr,
        buffer: &Buffer,
        objects: &[Arc<Object>],
        bytes: Bytes,
    ) -> Result<JumpPatch, LinkError> {
        let mut relocations = Vec::new();
        for (at, value) in buffer.pointers() {
            let from_host = value.wrapping_sub(HOST) as i64;
            if value == 0 {
                continue; // A weak symbol that nobody defines.
            } else if value < HOST / 2 {
                relocations.push((at, Dynamic::Own(value)));
            } else if value < IMPORTS / 2 + HOST / 2 {
                relocations.push((at, Dynamic::Exported(from_host.wrapping_sub(old_anchor.0 as i64))));
            } else {
                let distance = value - IMPORTS;
                let index = (distance / IMPORT_ROOM) as usize;
                relocations.push((at, Dynamic::Import(index, (distance % IMPORT_ROOM) as i64)));
            }
        }
        let mut symbols = Vec::new();
        for (number, object) in objects.iter().enumerate() {
            symbols.extend(functions(object).filter_map(|(symbol, section, offset)| {
                let (start, _) = buffer.atom(ObjectId(number), section)?;
                let (name, size) = (object.name(symbol).to_owned(), symbol.size);
                Some(Named { name, at: start + offset, size, is_code: true })
            }));
        }
        let mut map = Vec::new();
        for (old, id, symbol) in &self.functions {
            let Place::In(section, offset) = symbol.place else { continue };
            if let Some((start, _)) = buffer.atom(*id, section) {
                map.push((*old, start + offset));
            }
        }
        map.sort_unstable();
        map.dedup();
        let new_anchor = bytes.text.at;
        let library = SharedObject {
            machine,
            constants: bytes.constants,
            frames: bytes.frames,
            search: bytes.search,
            text: bytes.text,
            data: bytes.data,
            export: Named { name: ANCHOR.into(), at: new_anchor, size: 0, is_code: true },
            imports: self.imports,
            relocations,
            symbols,
        };
        let (new_variables, ambiguous) = (self.new_variables, self.ambiguous);
        Ok(JumpPatch { library: library.write()?, map, old_anchor, new_anchor, new_variables, ambiguous })
    }
}

fn at_host(symbol: &ExeSymbol) -> u64 {
    if symbol.kind == SymbolKind::Tls { symbol.addr.0 } else { HOST.wrapping_add(symbol.addr.0) }
}

/// The program's symbol of a name. Of several local ones, the one whose codegen unit is `object`'s.
fn only(host: &Snapshot, name: &str, object: Option<&Object>) -> Result<Option<ExeSymbol>, LinkError> {
    let mut found: Vec<ExeSymbol> = host.symbols(name).collect();
    found.sort_by_key(|symbol| symbol.addr);
    found.dedup_by_key(|symbol| symbol.addr);
    if found.len() > 1
        && let Some(object) = object
    {
        let is_file = |symbol: &&Symbol| symbol.kind == SymbolKind::File;
        let files: Vec<&str> = object.symbols.iter().filter(is_file).map(|symbol| object.name(symbol)).collect();
        found.retain(|symbol| files.contains(&host.file_name(symbol.file)));
    }
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        several => Err(LinkError(format!("the program has {} symbols called `{name}`", several.len()))),
    }
}

fn take_member(
    missing: &mut Vec<(NameId, String)>,
    defined: &BTreeSet<NameId>,
    archives: &ArchiveIndex,
) -> Result<Option<Object>, LinkError> {
    missing.retain(|(id, _)| !defined.contains(id));
    for (id, name) in missing.iter() {
        let member = archives.find(*id).map_err(|error| LinkError(format!("looking for `{name}`: {error}")))?;
        if let Some(member) = member {
            let object = Object::parse(member.data);
            return Ok(Some(object.map_err(|error| LinkError(format!("`{}`: {error}", member.name)))?));
        }
    }
    Ok(None)
}

fn functions(object: &Object) -> impl Iterator<Item = (&Symbol, SectionId, u64)> {
    object.symbols.iter().filter(|symbol| symbol.kind == SymbolKind::Function).filter_map(|symbol| match symbol.place {
        Place::In(section, offset) => Some((symbol, section, offset)),
        Place::Undefined | Place::Absolute(_) | Place::Unknown(_) => None,
    })
}

/// Where the parts of the library are: each with a beginning and an end.
struct Places {
    constants: (u64, u64),
    search: u64,
    frames: u64,
    text: (u64, u64),
    data: (u64, u64),
}

struct Bytes {
    constants: Part,
    search: Part,
    frames: Part,
    text: Part,
    data: Part,
}

impl Places {
    fn lay_out(buffer: &mut Buffer, objects: &[Arc<Object>]) -> Result<Places, LinkError> {
        let relocs = || objects.iter().flat_map(|object| object.sections.iter().flat_map(|section| &section.relocs));
        // Every relocation may want a word and a stub, and no symbol more than one.
        let symbols = objects.iter().map(|object| object.symbols.len()).sum::<usize>().min(relocs().count()) as u64;
        let entries = objects.iter().flat_map(|object| object.frames.of.values().flatten());
        let entries_len = entries.clone().map(|frame| frame.fde.range.end - frame.fde.range.start).sum::<u64>();
        let cies = objects.iter().flat_map(|object| &object.frames.cies);
        let cies_len = cies.map(|cie| cie.range.end - cie.range.start).sum::<u64>();
        let constants = (FIRST, buffer.place_all(&[Role::ReadOnly, Role::Lsda], FIRST)?);
        let search = constants.1.next_multiple_of(16);
        let frames = (search + 12 + 8 * entries.count() as u64).next_multiple_of(16);
        let text = (frames + entries_len + cies_len + 4).next_multiple_of(SEGMENT_ALIGN);
        let stubs = buffer.place_all(&[Role::Text], text)?.next_multiple_of(16);
        let text = (text, stubs + 16 * symbols);
        let data = text.1.next_multiple_of(SEGMENT_ALIGN);
        let variables = buffer.place_all(&[Role::RelRo, Role::Data, Role::Bss], data)?;
        let words = variables.next_multiple_of(16);
        let data = (data, words + 8 * symbols);
        buffer.set_room(Room::new(words..data.1, stubs..text.1));
        Ok(Places { constants, search, frames, text, data })
    }

    fn resolve(&self, buffer: &mut Buffer) -> Result<Bytes, LinkError> {
        let part = |(start, end): (u64, u64)| Part { at: start, bytes: vec![0; (end - start) as usize] };
        let (mut constants, mut text, mut data) = (part(self.constants), part(self.text), part(self.data));
        let frames = buffer.frames(self.frames)?;
        let search = frames.header(self.search, self.frames)?;
        let mut bytes = frames.bytes;
        bytes.extend([0; 4]);
        for write in buffer.resolve()?.writes {
            let mut parts = [&mut constants, &mut text, &mut data].into_iter();
            let field = parts.find_map(|part| {
                let start = usize::try_from(write.at.checked_sub(part.at)?).ok()?;
                part.bytes.get_mut(start..start + write.new.len())
            });
            field.ok_or_else(|| LinkError("a part outside the library".into()))?.copy_from_slice(&write.new);
        }
        let (search, frames) = (Part { at: self.search, bytes: search }, Part { at: self.frames, bytes });
        Ok(Bytes { constants, search, frames, text, data })
    }
}
