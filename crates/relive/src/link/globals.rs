//! Which definition of a name counts: the first strong one, else the first.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::binary::object::{Binding, NameId, Object, Place, SectionId, Symbol, SymbolId};

/// The definitions that count, as number of the object and symbol.
#[derive(Default)]
pub(super) struct Globals(FxHashMap<NameId, (usize, SymbolId)>);

/// Whether an object has what a symbol of it stands for. What is not loaded, such as a note for debuggers, it has not.
pub(super) fn defines(object: &Object, symbol: &Symbol) -> bool {
    match symbol.place {
        Place::In(section, _) => object.section(section).role.is_loaded(),
        Place::Absolute(_) => true,
        Place::Undefined | Place::Unknown(_) => false,
    }
}

impl Globals {
    /// Takes the definitions of `object`, which becomes the next of `objects`; with `newest`, they count instead of those
    /// before. Gives the names that lead to it now.
    pub(super) fn add(&mut self, objects: &[Arc<Object>], object: &Object, newest: bool) -> Vec<NameId> {
        let mut changed = Vec::new();
        for (number, symbol) in object.symbols.iter().enumerate().skip(1) {
            if !defines(object, symbol) || symbol.binding == Binding::Local {
                continue;
            }
            let is_weak = |(old, id): &(usize, SymbolId)| {
                objects.get(*old).is_some_and(|object| object.symbol(*id).binding == Binding::Weak)
            };
            let old = self.0.get(&symbol.id);
            if newest || old.is_none_or(|old| is_weak(old) && symbol.binding != Binding::Weak) {
                self.0.insert(symbol.id, (objects.len(), SymbolId(number as u32)));
                changed.push(symbol.id);
            }
        }
        changed
    }

    /// Where one of `objects` defines what a symbol of the one numbered `index` stands for.
    pub(super) fn section_of(&self, objects: &[Arc<Object>], index: usize, id: SymbolId) -> Option<(usize, SectionId)> {
        let symbol = objects.get(index)?.symbol(id);
        let (index, id) = match symbol.binding {
            Binding::Local => (index, id),
            Binding::Global | Binding::Weak => self.get(symbol.id)?,
        };
        match objects.get(index)?.symbol(id).place {
            Place::In(section, _) => Some((index, section)),
            Place::Undefined | Place::Absolute(_) | Place::Unknown(_) => None,
        }
    }

    /// The definition of `name`.
    pub(super) fn get(&self, name: NameId) -> Option<(usize, SymbolId)> {
        self.0.get(&name).copied()
    }
}
