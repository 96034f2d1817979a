//! A patch for programs with a jump table of their own (the subsecond runtime): a shared object with the new code, and which
//! old function is replaced by which address of it.
//!
//! Takes the index of the program that runs and the new objects. New code refers to what the program has, functions,
//! statics and thread-locals, by the distance from one symbol, `main`, which the loader finds in the program by its name;
//! so nothing needs to know where the program was loaded. What an instruction can reach only when it is near is refused by
//! name. It judges nothing: whoever uses a jump table answers for types himself.

mod places;
mod unchanged;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::arch::Machine;
use crate::binary::address::LinkAddr;
use crate::binary::archive::ArchiveIndex;
use crate::binary::executable::exports;
use crate::binary::object::{Binding, Format, NameId, Object, Place, SectionId, Symbol, SymbolId, SymbolKind};
use crate::binary::snapshot::{BinarySymbol, Snapshot};
use crate::link::LinkError;
use crate::link::buffer::{Buffer, ObjectId, Room};
use crate::link::globals::Globals;
use crate::link::host::{Imports, check_fields, host_variable, is_variable, item_name, only};
use crate::link::shared::{Dynamic, Named, SharedObject};
use places::{Bytes, Places};
use unchanged::Words;

/// The symbol that program and library are counted from.
pub const ANCHOR: &str = "main";

/// Where the program lies for the library's code: out of reach, so that everything that counts on being near is found.
const HOST: u64 = 1 << 46;

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

/// Links `objects` for the program that `host` describes, whose executable is `data`. What they lack is taken out of
/// `archives`.
///
/// # Errors
/// If the program cannot take such a patch, something is undefined or ambiguous, a thread-local is new, or an instruction
/// would have to be near the program; each by name.
pub fn patch(
    host: &Snapshot,
    data: &[u8],
    objects: Vec<Arc<Object>>,
    archives: &ArchiveIndex,
) -> Result<JumpPatch, LinkError> {
    let anchor = host.symbols(ANCHOR).find(|symbol| symbol.kind == SymbolKind::Function);
    let is_exported = exports(data).contains(&NameId::of(ANCHOR));
    let anchor = anchor.filter(|_| is_exported).ok_or_else(|| {
        LinkError("the program does not export `main`, which the runtime counts from; link it with `-rdynamic`".into())
    })?;
    let (format, machine) = (host.identity().format, host.identity().machine);
    if (format, machine) != (Format::Elf, Machine::X86_64) {
        return Err(LinkError(format!(
            "the program is {format:?} for {machine:?}; only ELF for x86-64 can be patched so"
        )));
    }
    let words = Words::read(data).map_err(|error| LinkError(format!("dynamic relocations: {error}")))?;
    let mut draft = Draft { words, ..Draft::default() };
    for object in objects {
        draft.add(object);
    }
    draft.match_functions(host);
    draft.reach(host, archives)?;
    // The thread pointer, on the scale of the program's thread-local symbols, which count from the block's start.
    let thread_pointer = host.tp_offset(0).wrapping_neg() as u64;
    let mut buffer = Buffer::new(machine, Room::new(0..0, 0..0), false, thread_pointer);
    for object in draft.objects.clone() {
        let id = buffer.add(object.clone())?;
        draft.bind(host, &mut buffer, id, &object)?;
    }
    for (name, at) in &draft.outside {
        buffer.define(*name, *at);
    }
    draft.check_all_fields()?;
    let parts = Places::lay_out(&mut buffer, &draft.objects)?;
    let bytes = parts.resolve(&mut buffer)?;
    draft.finish(machine, anchor.addr, &buffer, bytes)
}

/// What is found out before anything has an address.
#[derive(Default)]
struct Draft {
    words: Words,
    objects: Vec<Arc<Object>>,
    globals: Globals,
    /// What the replaced functions need, themselves included.
    kept: BTreeSet<(usize, SectionId)>,
    /// Functions that cannot lie in a library and are as the program's, which serve instead.
    left: BTreeMap<(usize, SectionId), LinkAddr>,
    /// What other parts of the library refer to.
    referred: BTreeSet<(usize, SectionId)>,
    outside: BTreeMap<NameId, u64>,
    imports: Imports,
    new_variables: Vec<String>,
    ambiguous: Vec<String>,
    /// Old address, and the object and symbol that replace it.
    functions: Vec<(LinkAddr, usize, SymbolId)>,
}

impl Draft {
    fn add(&mut self, object: Arc<Object>) {
        self.globals.add(&self.objects, &object, false);
        self.objects.push(object);
    }

    /// Where an object defines what a symbol of object `index` stands for.
    fn definition(&self, index: usize, id: SymbolId) -> Option<(usize, SectionId)> {
        self.globals.section_of(&self.objects, index, id)
    }

    /// Finds the program's functions that the objects' replace.
    fn match_functions(&mut self, host: &Snapshot) {
        for (index, object) in self.objects.iter().enumerate() {
            for (number, symbol) in object.symbols.iter().enumerate() {
                let (name, defined) = (object.name(symbol), matches!(symbol.place, Place::In(..)));
                if symbol.kind != SymbolKind::Function || !defined || name.is_empty() || name == ANCHOR {
                    continue;
                }
                match only(host, name, Some(object)) {
                    Ok(Some(old)) if old.kind == SymbolKind::Function => {
                        self.functions.push((old.addr, index, SymbolId(number as u32)));
                    }
                    Ok(_) => {}
                    Err(_) => self.ambiguous.push(name.to_owned()),
                }
            }
        }
    }

    /// Follows references from the replaced functions. An object also holds code that nothing refers to, which a linker
    /// drops. What no object defines is the program's, imported, or taken out of `archives`.
    fn reach(&mut self, host: &Snapshot, archives: &ArchiveIndex) -> Result<(), LinkError> {
        let place = |(_, index, id): &(LinkAddr, usize, SymbolId)| {
            let Place::In(section, _) = self.objects.get(*index)?.symbol(*id).place else { return None };
            Some((*index, section))
        };
        let mut next: Vec<(usize, SectionId)> = self.functions.iter().filter_map(place).collect();
        let mut missing = BTreeSet::new();
        while let Some((index, section)) = next.pop() {
            if !self.kept.insert((index, section)) {
                continue;
            }
            let Some(object) = self.objects.get(index).cloned() else { continue };
            if let Some(old) = self.unchanged(host, index, section) {
                self.left.insert((index, section), old);
                continue;
            }
            for reloc in object.section(section).relocs.iter().chain(object.frames.relocs(section)) {
                match self.referent(host, archives, index, reloc.symbol)? {
                    Referent::Own(section) => {
                        self.referred.insert(section);
                        next.push(section);
                    }
                    Referent::Outside => {}
                    Referent::Missing => {
                        missing.insert(object.name(object.symbol(reloc.symbol)).to_owned());
                    }
                }
            }
        }
        if missing.is_empty() {
            return self.check_left(host);
        }
        let names: Vec<&str> = missing.iter().map(String::as_str).collect();
        Err(LinkError(format!(
            "neither the program nor what was given defines `{}`; give the objects or libraries that do",
            names.join("`, `")
        )))
    }

    fn referent(
        &mut self,
        host: &Snapshot,
        archives: &ArchiveIndex,
        index: usize,
        id: SymbolId,
    ) -> Result<Referent, LinkError> {
        let Some(object) = self.objects.get(index).cloned() else { return Ok(Referent::Missing) };
        let symbol = object.symbol(id);
        if let Some(place) = self.definition(index, id) {
            return Ok(Referent::Own(place));
        }
        let name = object.name(symbol);
        if name.is_empty() || self.outside.contains_key(&symbol.id) {
            return Ok(Referent::Outside);
        }
        let at = if let Some(found) = only(host, name, None)? {
            at_host(&found)
        } else if host.imports(name) {
            self.imports.add(name)
        } else if let Some(member) = member(name, archives)? {
            self.add(Arc::new(member));
            return Ok(self.definition(index, id).map_or(Referent::Missing, Referent::Own));
        } else if symbol.binding == Binding::Weak {
            0
        } else {
            return Ok(Referent::Missing);
        };
        self.outside.insert(symbol.id, at);
        Ok(Referent::Outside)
    }

    /// Leads variables and thread-locals that the program has to the program's.
    fn bind(&mut self, host: &Snapshot, buffer: &mut Buffer, id: ObjectId, object: &Object) -> Result<(), LinkError> {
        for (number, section) in object.sections.iter().enumerate() {
            let at = SectionId(number as u32);
            if let Some(old) = self.left.get(&(id.0, at)) {
                buffer.bind(id, at, HOST.wrapping_add(old.0))?;
                continue;
            }
            if !self.kept.contains(&(id.0, at)) {
                buffer.exclude(id, at);
                continue;
            }
            if section.name.starts_with(".init_array") || section.name.starts_with(".ctors") {
                return Err(LinkError(format!("`{}`: a constructor, which would run again", section.name)));
            }
            if !is_variable(section) {
                continue;
            }
            let name = item_name(object, at);
            match host_variable(host, object, at)? {
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

    /// Refuses code of models in which a loader would have to write to code or constants, or an address is 4 bytes.
    fn check_all_fields(&self) -> Result<(), LinkError> {
        for (index, at) in self.kept.iter().filter(|place| !self.left.contains_key(place)) {
            let Some(object) = self.objects.get(*index) else { continue };
            let section = object.section(*at);
            check_fields(object, section)?;
        }
        Ok(())
    }

    fn finish(
        self,
        machine: Machine,
        old_anchor: LinkAddr,
        buffer: &Buffer,
        bytes: Bytes,
    ) -> Result<JumpPatch, LinkError> {
        let mut relocations = Vec::new();
        for (at, value) in buffer.pointers() {
            if value == 0 {
                continue; // A weak symbol that nobody defines.
            } else if value < HOST / 2 {
                relocations.push((at, Dynamic::Own(value)));
            } else if Imports::is_beyond(value) {
                let import = self.imports.find(value);
                let (index, addend) =
                    import.ok_or_else(|| LinkError(format!("an address that is nowhere: {value:#x}")))?;
                relocations.push((at, Dynamic::Import(index, addend)));
            } else {
                let from_host = value.wrapping_sub(HOST) as i64;
                relocations.push((at, Dynamic::Exported(from_host.wrapping_sub(old_anchor.0 as i64))));
            }
        }
        let mut symbols = Vec::new();
        for (number, object) in self.objects.iter().enumerate() {
            let ours = functions(object).filter(|(_, section, _)| !self.left.contains_key(&(number, *section)));
            symbols.extend(ours.filter_map(|(symbol, section, offset)| {
                let (start, _) = buffer.atom(ObjectId(number), section)?;
                let (name, size) = (object.name(symbol).to_owned(), symbol.size);
                Some(Named { name, at: start + offset, size, is_code: true })
            }));
        }
        let mut map = Vec::new();
        for (old, index, id) in &self.functions {
            let place = self.objects.get(*index).map(|object| object.symbol(*id).place);
            let Some(Place::In(section, offset)) = place else { continue };
            let is_ours = !self.left.contains_key(&(*index, section));
            if let Some((start, _)) = buffer.atom(ObjectId(*index), section).filter(|_| is_ours) {
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
            imports: self.imports.0,
            relocations,
            symbols,
        };
        let (new_variables, ambiguous) = (self.new_variables, self.ambiguous);
        Ok(JumpPatch { library: library.write()?, map, old_anchor, new_anchor, new_variables, ambiguous })
    }
}

fn at_host(symbol: &BinarySymbol) -> u64 {
    if symbol.kind == SymbolKind::Tls { symbol.addr.0 } else { HOST.wrapping_add(symbol.addr.0) }
}

fn member(name: &str, archives: &ArchiveIndex) -> Result<Option<Object>, LinkError> {
    let member =
        archives.find(NameId::of(name)).map_err(|error| LinkError(format!("looking for `{name}`: {error}")))?;
    let Some(member) = member else { return Ok(None) };
    Object::parse(member.data).map(Some).map_err(|error| LinkError(format!("`{}`: {error}", member.name)))
}

/// What a reference leads to.
enum Referent {
    Own((usize, SectionId)),
    Outside,
    Missing,
}

fn functions(object: &Object) -> impl Iterator<Item = (&Symbol, SectionId, u64)> {
    object.symbols.iter().filter(|symbol| symbol.kind == SymbolKind::Function).filter_map(|symbol| match symbol.place {
        Place::In(section, offset) => Some((symbol, section, offset)),
        Place::Undefined | Place::Absolute(_) | Place::Unknown(_) => None,
    })
}
