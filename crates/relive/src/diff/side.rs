//! One side of a comparison: the functions, variables and gathered sections of some objects, by name.

use rustc_hash::FxHashMap;

use crate::binary::names;
use crate::binary::object::{NameId, Object, Place, Role, SectionId, SymbolId, SymbolKind};
use crate::diff::pair::{Contestant, FactsOf, FunctionFacts};
use crate::diff::print::{Print, Printer};
use crate::diff::running::{NewObject, is_definition};

/// A function on one side: all its copies there.
pub(super) struct Item {
    pub(super) text: String,
    pub(super) object: usize,
    pub(super) section: SectionId,
    pub(super) print: Print,
    pub(super) refs: Vec<NameId>,
    pub(super) facts: Option<FunctionFacts>,
    pub(super) copies_agree: bool,
}

pub(super) struct Variable {
    pub(super) text: String,
    pub(super) size: u64,
    pub(super) thread_local: bool,
    /// Whether the program can never write to it.
    pub(super) immutable: bool,
    pub(super) own: u128,
    pub(super) refs: Vec<NameId>,
}

impl Variable {
    pub(super) fn contestant(&self, name: NameId) -> Contestant {
        // Never of the same path as a function.
        let path = !path_hash(&self.text);
        Contestant { name, path, facts: None, own: self.own, refs: self.refs.clone() }
    }
}

#[derive(Default)]
pub(super) struct Side {
    pub(super) functions: FxHashMap<NameId, Item>,
    pub(super) variables: FxHashMap<NameId, Variable>,
    pub(super) unsplit: FxHashMap<NameId, (String, u128)>,
    /// Content of gathered sections by name, over all objects.
    pub(super) gathered: FxHashMap<Box<str>, u128>,
}

impl Side {
    pub(super) fn collect<'a>(objects: impl Iterator<Item = &'a NewObject>) -> Side {
        let mut side = Side::default();
        for (at, new) in objects.enumerate() {
            side.add(at, &new.object);
        }
        side
    }

    pub(super) fn learn<'a>(&mut self, objects: impl Iterator<Item = &'a NewObject>, facts: &mut FactsOf<'_>) {
        let objects: Vec<_> = objects.collect();
        for known in facts(&objects) {
            for (name, facts) in known.iter() {
                if let Some(item) = self.functions.get_mut(name) {
                    item.facts = item.facts.or(Some(*facts));
                }
            }
        }
    }

    fn add(&mut self, at: usize, object: &Object) {
        let mut printer = Printer::new(object);
        for (index, section) in object.sections.iter().enumerate() {
            if section.role.is_loaded() && section.size > 0 && is_gathered(&section.name) {
                let print = printer.section(SectionId(index as u32));
                let names = print.refs.iter().map(|id| object.symbol(*id).id.0);
                let content = names.fold(print.own, |sum, name| sum.rotate_left(1) ^ name);
                let known = self.gathered.entry(section.name.clone()).or_insert(0);
                *known = known.wrapping_add(content);
            }
        }
        for (index, symbol) in object.symbols.iter().enumerate() {
            if !is_definition(object, symbol) {
                continue;
            }
            let Place::In(section, offset) = symbol.place else { continue };
            let id = SymbolId(index as u32);
            let text = object.name(symbol);
            if object.section(section).role == Role::Text {
                if object.function_of(section) == Some(id) {
                    let print = printer.section(section);
                    self.add_function(symbol.id, at, object, section, print, text);
                } else if object.function_of(section).is_none() {
                    let print = printer.section(section);
                    let names = print.refs.iter().map(|id| object.symbol(*id).id.0);
                    let content = names.fold(print.own, |sum, name| sum.rotate_left(1) ^ name);
                    self.unsplit.entry(symbol.id).or_insert((text.to_owned(), content));
                }
            } else {
                let print = printer.section(section);
                let refs = print.refs.iter().map(|id| object.symbol(*id).id).collect();
                self.variables.entry(symbol.id).or_insert(Variable {
                    text: text.to_owned(),
                    size: symbol.size,
                    thread_local: symbol.kind == SymbolKind::Tls,
                    immutable: matches!(object.section(section).role, Role::ReadOnly | Role::RelRo),
                    own: print.own ^ u128::from(offset),
                    refs,
                });
            }
        }
    }

    fn add_function(&mut self, name: NameId, at: usize, object: &Object, section: SectionId, print: Print, text: &str) {
        let refs: Vec<_> = print.refs.iter().map(|id| object.symbol(*id).id).collect();
        match self.functions.get_mut(&name) {
            // A second copy in another codegen unit: the same item. Should it differ, the item counts as changed.
            Some(item) => {
                if item.print.own != print.own || item.refs != refs {
                    item.print.own ^= print.own.rotate_left(1) | 1;
                    item.copies_agree = false;
                }
            }
            None => {
                let item =
                    Item { text: text.to_owned(), object: at, section, print, refs, facts: None, copies_agree: true };
                self.functions.insert(name, item);
            }
        }
    }

    pub(super) fn contestant(&self, name: NameId) -> Option<Contestant> {
        let item = self.functions.get(&name)?;
        Some(Contestant {
            name,
            path: path_hash(&item.text),
            facts: item.facts,
            own: item.print.own,
            refs: item.refs.clone(),
        })
    }
}

/// Whether sections of this name are collected by the linker or loader for somebody who looks for them by section: all
/// but the names that compilers use for code and data.
#[must_use]
pub fn is_gathered(name: &str) -> bool {
    const ORDINARY: [&str; 9] =
        [".text", ".rodata", ".data", ".bss", ".tdata", ".tbss", ".eh_frame", ".gcc_except_table", ".lrodata"];
    let ordinary =
        |prefix: &&str| name.strip_prefix(*prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    !ORDINARY.iter().any(ordinary)
}

pub(super) fn path_hash(text: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(names::path_key(text).as_bytes())
}
