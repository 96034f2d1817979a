//! Where one object's debug information speaks of given types: who may keep a value of one, and which functions are handed
//! one.
//!
//! A type *speaks of* the sought ones if it is one, or reaches one through its fields, variants, elements, pointees,
//! template arguments or parameters, at any depth. References count like values: a reference may lead into constants, and
//! whoever keeps it reads them. A pointer to a trait object speaks of whatever has a table for that trait.
//!
//! Gives facts only. Whether they amount to a proof is the judge's question.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::identity::Identity;
use super::tables::{Id, Kind, NONE, Name, Node, Part, Role, Tables};
use super::{ObjectTypes, describe, walk_chain};

/// What is looked for.
#[derive(Clone, Debug, Default)]
pub struct Sought {
    /// Paths of types, as [`super::TypeDef::key`] has them.
    pub keys: FxHashSet<u64>,
    /// Traits whose objects may hold one, such as `app::Shape`, without arguments.
    pub traits: FxHashSet<String>,
    /// Names of the crates whose own types and functions are looked into rather than distrusted.
    pub own_crates: FxHashSet<String>,
}

/// What one object says.
#[derive(Clone, Debug, Default)]
pub struct Occurrences {
    /// What may keep a value longer than a call lasts.
    pub holders: Vec<Holder>,
    /// Functions whose signature speaks of the types.
    pub handlers: Vec<Handler>,
    /// Traits for which a type that speaks of them has a table.
    pub traits: FxHashSet<String>,
}

/// Something that may keep a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    /// What it is.
    pub kind: HolderKind,
    /// Its type, path or name, as debug information has it.
    pub name: String,
}

/// What kind of thing keeps a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HolderKind {
    /// A static.
    Static,
    /// A thread-local.
    ThreadLocal,
    /// A type of another crate that owns memory or hands values on: `Vec`, `Arc`, `Box`.
    Container,
    /// A union, `MaybeUninit` included: what it holds need not have its type.
    Union,
    /// The state of an async function or generator.
    Coroutine,
    /// A generic function of another crate.
    ForeignFunction,
}

/// A function that is handed a value, or gives one.
#[derive(Clone, Debug)]
pub struct Handler {
    /// The name of its symbol.
    pub linkage_name: String,
    /// A parameter or its result speaks of the types: only who has one, or gets one, can call it. Otherwise it is generic over
    /// one and may make it for itself.
    pub is_handed: bool,
    /// Source file.
    pub file: Option<Arc<str>>,
}

impl ObjectTypes {
    /// Where this object speaks of `sought`.
    #[must_use]
    pub fn occurrences(&self, sought: &Sought) -> Occurrences {
        let speaks = Speaks::of(&self.tables, sought);
        if !speaks.any {
            return Occurrences::default();
        }
        let mut found = Occurrences::default();
        for id in 0..self.tables.nodes.len() as Id {
            if let Some(node) = self.tables.node(id) {
                speaks.look(id, node, &mut found);
            }
        }
        found.holders.sort();
        found.holders.dedup();
        found
    }
}

/// Which nodes speak of the sought types.
struct Speaks<'a> {
    tables: &'a Tables,
    sought: &'a Sought,
    of: Vec<bool>,
    any: bool,
}

impl<'a> Speaks<'a> {
    fn of(tables: &'a Tables, sought: &'a Sought) -> Speaks<'a> {
        let identity = Identity::new(tables);
        let begins = |(id, node): (usize, &Node)| {
            let is_type = matches!(node.kind, Kind::Struct | Kind::Union | Kind::Enumeration);
            is_type
                && (sought.keys.contains(&identity.path(id as Id).erased)
                    || names_trait(tables.bytes(node.name), &sought.traits))
        };
        let of: Vec<bool> = tables.nodes.iter().enumerate().map(begins).collect();
        let any = of.iter().any(|speaks| *speaks);
        let mut speaks = Speaks { tables, sought, of, any };
        while any && speaks.spread() {}
        speaks
    }

    /// One pass over all types; whether it found another one.
    fn spread(&mut self) -> bool {
        let mut found = false;
        for (id, node) in self.tables.nodes.iter().enumerate() {
            if self.of.get(id).copied().unwrap_or(true) || matches!(node.kind, Kind::Function | Kind::Variable) {
                continue;
            }
            if self.is(node.target) || self.parts(node).any(|part| self.is(part.target)) {
                if let Some(speaks) = self.of.get_mut(id) {
                    *speaks = true;
                }
                found = true;
            }
        }
        found
    }

    fn is(&self, id: Id) -> bool {
        self.of.get(id as usize).copied().unwrap_or(false)
    }

    fn parts(&self, node: &Node) -> impl Iterator<Item = &'a Part> {
        let counts = |part: &&Part| !matches!(part.role, Role::Enumerator | Role::Length | Role::Tag);
        self.tables.parts(node).iter().filter(counts)
    }

    fn look(&self, id: Id, node: &Node, found: &mut Occurrences) {
        match node.kind {
            Kind::Variable => self.variable(id, node, found),
            Kind::Function => self.function(id, node, found),
            Kind::Struct | Kind::Union | Kind::Enumeration | Kind::Pointer if self.is(id) => {
                if let Some(kind) = self.keeps(id, node) {
                    found.holders.push(Holder { kind, name: describe::path(self.tables, id) });
                }
            }
            Kind::Struct
            | Kind::Union
            | Kind::Enumeration
            | Kind::Pointer
            | Kind::Namespace
            | Kind::Base
            | Kind::Array
            | Kind::Subroutine
            | Kind::Other(_) => {}
        }
    }

    /// What kind of holder a type that speaks of the sought ones is, if it is one.
    fn keeps(&self, id: Id, node: &Node) -> Option<HolderKind> {
        let name = self.tables.bytes(node.name);
        if node.kind == Kind::Union {
            return Some(HolderKind::Union);
        }
        if is_coroutine(name) {
            return Some(HolderKind::Coroutine);
        }
        // The struct of a variant is part of its enum.
        let parent = self.tables.node(node.parent).map(|parent| parent.kind);
        if matches!(parent, Some(Kind::Struct | Kind::Union | Kind::Enumeration)) {
            return None;
        }
        let path = describe::path(self.tables, id);
        (!self.is_trusted(&path)).then_some(HolderKind::Container)
    }

    /// Whether what is called `path` neither owns memory nor hands values on in ways that debug information does not show:
    /// own code, which is looked into; `core`, which has no memory to own; tuples, references and the like.
    fn is_trusted(&self, path: &str) -> bool {
        let crate_end = path.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(path.len());
        match path.split_at_checked(crate_end) {
            Some(("", _)) => true,
            // `fn(&T) -> u8`; a crate's name is followed by `::`.
            Some((name, rest)) if rest.starts_with("::") => name == "core" || self.sought.own_crates.contains(name),
            // A table's type, a closure's own name, or a name without a path.
            _ => true,
        }
    }

    fn variable(&self, id: Id, node: &Node, found: &mut Occurrences) {
        let name = self.tables.text(node.name);
        if let Some(table) = name.strip_suffix("::{vtable}") {
            found.traits.extend(self.table(table));
            return;
        }
        let has_place = self.tables.is_named(node.linkage) || node.placed;
        if has_place && self.is(node.target) {
            let kind = if node.thread_local { HolderKind::ThreadLocal } else { HolderKind::Static };
            found.holders.push(Holder { kind, name: describe::path(self.tables, id) });
        }
    }

    /// The trait of the table `<T as Trait>`, if `T` speaks of the sought types.
    fn table(&self, table: &str) -> Option<String> {
        let (of, of_trait) = table.strip_prefix('<')?.strip_suffix('>')?.rsplit_once(" as ")?;
        let named = |(id, node): (usize, &Node)| {
            let last = self.tables.bytes(node.name);
            self.is(id as Id)
                && of.as_bytes().ends_with(last)
                && !last.is_empty()
                && describe::path(self.tables, id as Id) == of
        };
        let speaks = self.tables.nodes.iter().enumerate().any(named);
        // Arguments and associated types are written in other ways in tables and in objects.
        let path = of_trait.split('<').next().unwrap_or(of_trait);
        (speaks && of_trait != "_").then(|| path.to_owned())
    }

    fn function(&self, id: Id, node: &Node, found: &mut Occurrences) {
        let function = walk_chain(self.tables, id, node);
        let parts: Vec<&Part> = function.parts.iter().collect();
        let speaking: Vec<&&Part> = parts.iter().filter(|part| self.is(part.target)).collect();
        let result = self.is(function.result);
        if speaking.is_empty() && !result {
            return;
        }
        let name = self.path_of_function(function.scope, function.name);
        if !self.is_trusted(&name) && !only_reads(&name) {
            found.holders.push(Holder { kind: HolderKind::ForeignFunction, name });
        }
        let node = function.described;
        let file = (node.file as usize).checked_sub(1).and_then(|index| self.tables.files.get(index)).cloned();
        found.handlers.push(Handler {
            linkage_name: self.tables.text(function.linkage),
            is_handed: result || speaking.iter().any(|part| part.role == Role::Parameter),
            file,
        });
    }

    fn path_of_function(&self, scope: Id, name: Name) -> String {
        let scope = if scope == NONE { String::new() } else { describe::path(self.tables, scope) + "::" };
        scope + &self.tables.text(name)
    }
}

/// Functions of `alloc` and `std` that look at a value to make text of it and keep nothing.
fn only_reads(path: &str) -> bool {
    ["alloc::string::", "alloc::fmt::"].iter().any(|prefix| path.starts_with(prefix))
}

/// Whether a type's name is of an object of one of `traits`: `&dyn app::Shape`, `Box<dyn app::Shape + Send, ..>`.
fn names_trait(name: &[u8], traits: &FxHashSet<String>) -> bool {
    if traits.is_empty() {
        return false;
    }
    let Ok(name) = std::str::from_utf8(name) else { return true };
    let ends = |rest: &str| rest.is_empty() || rest.starts_with([' ', '<', '>', ',', ')', '+', ']', ';']);
    let mut rest = name;
    while let Some((_, object)) = rest.split_once("dyn ") {
        if traits.iter().any(|name| object.strip_prefix(name.as_str()).is_some_and(ends)) {
            return true;
        }
        // A bound behind the first one: `dyn core::marker::Send + app::Shape` does not occur, but in doubt it is one.
        rest = object;
    }
    false
}

/// Whether a type is the state of a function that can be left and entered again.
fn is_coroutine(name: &[u8]) -> bool {
    let holds = |what: &[u8]| name.windows(what.len()).any(|window| window == what);
    name.starts_with(b"{")
        && holds(b"_env#")
        && [&b"{async"[..], b"{coroutine", b"{gen"].iter().any(|kind| name.starts_with(kind))
}
