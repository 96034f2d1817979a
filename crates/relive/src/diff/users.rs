//! Which functions may call certain others, and which tables hold them.
//!
//! Takes an object and names of functions, gives the functions of the object that refer to one of them, directly or through
//! a constant, and the data that does. Whoever does not refer to a function, and is not handed its address, cannot call it.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::binary::object::{NameId, Object, Place, Role, SectionId, SymbolId, SymbolKind};

/// Functions whose users are looked for; for each whether one must have, or gets, a value to call it.
pub type Wanted = FxHashMap<NameId, bool>;

/// Who refers to them in one object.
#[derive(Clone, Debug, Default)]
pub struct Users {
    /// Functions.
    pub functions: Vec<SymbolId>,
    /// Functions that stand in a table, a constant or a static: tables of trait objects need not be described anywhere.
    pub tabled: Vec<NameId>,
    /// Code that is not divided into functions and refers to one: a name in it.
    pub unsplit: Vec<String>,
}

/// Looks through `object`.
#[must_use]
pub fn users(object: &Object, wanted: &Wanted) -> Users {
    let mut users = Users::default();
    if !object.symbols.iter().any(|symbol| wanted.contains_key(&symbol.id)) {
        return users;
    }
    for (index, section) in object.sections.iter().enumerate() {
        let id = SectionId(index as u32);
        if !section.role.is_loaded() || section.relocs.is_empty() {
            continue;
        }
        if section.role == Role::Text {
            if refers(object, id, wanted) {
                match object.function_of(id) {
                    Some(function) => users.functions.push(function),
                    None => users.unsplit.push(section.name.to_string()),
                }
            }
        } else if is_data(object, id) {
            let targets = section.relocs.iter().filter_map(|reloc| function_at(object, reloc.symbol));
            users.tabled.extend(targets.filter(|name| wanted.contains_key(name)));
        }
    }
    users
}

/// Whether a section refers to a wanted function, itself or through constants.
fn refers(object: &Object, section: SectionId, wanted: &Wanted) -> bool {
    let mut seen: FxHashSet<SectionId> = [section].into_iter().collect();
    let mut open = vec![section];
    while let Some(section) = open.pop() {
        for reloc in &object.section(section).relocs {
            if function_at(object, reloc.symbol).is_some_and(|name| wanted.contains_key(&name)) {
                return true;
            }
            if let Place::In(next, _) = object.symbol(reloc.symbol).place
                && is_data(object, next)
                && seen.insert(next)
            {
                open.push(next);
            }
        }
    }
    false
}

fn is_data(object: &Object, section: SectionId) -> bool {
    match object.section(section).role {
        Role::ReadOnly | Role::RelRo | Role::Data | Role::Bss | Role::TlsData | Role::TlsBss => true,
        Role::Text | Role::EhFrame | Role::CompactUnwind | Role::Lsda | Role::Debug | Role::Ignored => false,
    }
}

/// The name of the item that a symbol stands for: section symbols stand for the function of their section.
fn function_at(object: &Object, symbol: SymbolId) -> Option<NameId> {
    let symbol = object.symbol(symbol);
    match symbol.place {
        Place::In(section, _) if symbol.kind == SymbolKind::Section => {
            object.function_of(section).map(|function| object.symbol(function).id)
        }
        Place::In(..) | Place::Undefined | Place::Absolute(_) | Place::Unknown(_) => Some(symbol.id),
    }
}
