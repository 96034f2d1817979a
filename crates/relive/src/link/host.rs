//! What a program has under a name, for code that is linked onto its executable.
//!
//! Takes the index of an executable; local symbols are told apart by the codegen unit that they come from.

use crate::arch::RelocKind;
use crate::arch::reloc::{Field, Form, Operand};
use crate::binary::address::LinkAddr;
use crate::binary::object::{Binding, NameId, Object, Place, Role, Section, SectionId, Symbol, SymbolKind};
use crate::binary::snapshot::{BinarySymbol, Snapshot};
use crate::link::LinkError;

/// Whether it is storage that the program has as well. The pointers of unwinding tables, one in every object, are not.
pub(super) fn is_variable(section: &Section) -> bool {
    section.role.is_mutable() && section.size > 0 && !section.name.contains(PERSONALITY_WORD)
}

/// How the name begins of a word that unwind entries find a personality routine through. Every object has one.
pub(super) const PERSONALITY_WORD: &str = "DW.ref.";

/// The name of what begins where the section does; empty if it has none.
pub(super) fn item_name(object: &Object, section: SectionId) -> &str {
    object.named_at(section, 0).map_or("", |id| object.name(object.symbol(id)))
}

/// The program's storage for a variable of an object.
pub(super) fn host_variable(
    host: &Snapshot,
    object: &Object,
    section: SectionId,
) -> Result<Option<BinarySymbol>, LinkError> {
    let name = item_name(object, section);
    if name.is_empty() { Ok(None) } else { only(host, name, Some(object)) }
}

/// The program's symbol of a name. Of several local ones, the one whose codegen unit is `object`'s.
pub(super) fn only(host: &Snapshot, name: &str, object: Option<&Object>) -> Result<Option<BinarySymbol>, LinkError> {
    let mut found: Vec<BinarySymbol> = host.symbols(name).collect();
    found.sort_by_key(|symbol| symbol.addr);
    found.dedup_by_key(|symbol| symbol.addr);
    // Mangled names have a hash in them: what has the same is the same. Others may stand for one thing in each object.
    let is_local = found.iter().any(|symbol| symbol.binding == Binding::Local);
    if (found.len() > 1 || is_local && !is_mangled(name))
        && let Some(object) = object.filter(|object| is_local_in(object, name))
    {
        let is_file = |symbol: &&Symbol| symbol.kind == SymbolKind::File;
        let files: Vec<&str> = object.symbols.iter().filter(is_file).map(|symbol| object.name(symbol)).collect();
        found.retain(|symbol| files.contains(&host.unit_name(symbol.unit)));
    }
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        several => Err(LinkError(format!("the program has {} symbols called `{name}`", several.len()))),
    }
}

/// Whether rustc made the name, so that only who has read the crate can know it.
pub(super) fn is_mangled(name: &str) -> bool {
    name.starts_with("_ZN") || name.starts_with("_R")
}

/// Whether an object has a symbol of this name for itself.
fn is_local_in(object: &Object, name: &str) -> bool {
    let id = NameId::of(name);
    object.symbols.iter().any(|symbol| symbol.id == id && symbol.binding == Binding::Local)
}

/// Refuses code of models in which a loader would have to write to code or constants, or an address is 4 bytes.
pub(super) fn check_fields(object: &Object, section: &Section) -> Result<(), LinkError> {
    for reloc in &section.relocs {
        let RelocKind::Of(operand, form, Field::Int(width, _)) = reloc.kind else { continue };
        let is_address = matches!(operand, Operand::Symbol | Operand::Branch | Operand::Got | Operand::GotLoad);
        let is_absolute = matches!(object.symbol(reloc.symbol).place, Place::Absolute(_));
        let is_writable = matches!(section.role, Role::RelRo | Role::Data | Role::TlsData);
        let may_be = match form {
            Form::Absolute => width == 8 && is_writable && !is_absolute,
            Form::Relative => width == 4,
            Form::Page | Form::FromGot => false,
        };
        if is_address && !may_be {
            let name = object.name(object.symbol(reloc.symbol));
            return Err(LinkError(format!(
                "{:?} at {:#x} of `{}` against `{name}`: code that can be loaded anywhere cannot have that; compile for \
                 position-independent code",
                reloc.kind, reloc.offset, section.name
            )));
        }
    }
    Ok(())
}

/// Names that other binaries define. Each stands for an address that nothing can reach, in the middle of a room of its own, so
/// that an addend of either sign stays in it.
#[derive(Default)]
pub(super) struct Imports(pub(super) Vec<String>);

impl Imports {
    /// Where they begin: everything that has an address lies below.
    const FIRST: u64 = 1 << 47;
    const ROOM: u64 = 1 << 32;

    /// The address that stands for `name` from now on.
    pub(super) fn add(&mut self, name: &str) -> u64 {
        self.0.push(name.to_owned());
        Imports::FIRST + Imports::ROOM * (self.0.len() as u64 - 1) + Imports::ROOM / 2
    }

    /// The number of the import that an address stands for, and what is added to it.
    pub(super) fn find(&self, addr: u64) -> Option<(usize, i64)> {
        let distance = addr.checked_sub(Imports::FIRST).filter(|at| at / Imports::ROOM < self.0.len() as u64)?;
        Some(((distance / Imports::ROOM) as usize, (distance % Imports::ROOM) as i64 - (Imports::ROOM / 2) as i64))
    }

    /// Whether an address is none that anything has.
    pub(super) fn is_beyond(addr: u64) -> bool {
        addr >= Imports::FIRST
    }
}

/// Whether two functions of different names share the code at `addr`, which a jump there would lead both to one place.
pub(super) fn names_at(host: &Snapshot, addr: LinkAddr) -> Vec<String> {
    let at = host.all().filter(|symbol| symbol.kind == SymbolKind::Function && symbol.addr == addr);
    let mut names: Vec<String> = at.map(|symbol| host.name(&symbol).to_owned()).collect();
    names.sort_unstable();
    names.dedup();
    names
}
