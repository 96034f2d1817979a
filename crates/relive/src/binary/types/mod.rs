//! What the debug information of one object says: functions and their signatures, types and their layouts, statics.
//!
//! Takes the bytes of a relocatable ELF object (DWARF 4 or 5), gives flat lists with hashes that can be compared
//! across two versions of the object. Pure; does not decide what a difference means, that is the judge's part.
//! Objects without debug information give empty lists and say so in [`ObjectTypes::level`].

mod describe;
mod entries;
mod erase;
mod identity;
mod occur;
mod said;
mod sections;
mod tables;
mod walk;

use std::fmt;
use std::sync::Arc;

pub use describe::{Description, Field, Variant};
pub use erase::erase;
use identity::Identity;
use object::{Object, ObjectSection};
pub use occur::{Handler, Holder, HolderKind, Occurrences, Sought};
pub use sections::Place;
use tables::{Id, Kind, NONE, Name, Node, Part, Role, Tables};

/// How much an object says about its contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Level {
    /// No debug information.
    Absent,
    /// Names and lines, but no types: `debug = 1` or `"line-tables-only"`.
    LinesOnly,
    /// The types are in this other file: `split-debuginfo`.
    Split(String),
    /// Functions, types and variables.
    Full,
}

/// What one object says.
pub struct ObjectTypes {
    /// How much there was to read.
    pub level: Level,
    /// The functions that have code in this object.
    pub functions: Vec<Function>,
    /// The types defined in this object that can be named, and the tuples, arrays and wide pointers made of them.
    pub types: Vec<TypeDef>,
    /// The tables of trait objects.
    pub vtables: Vec<Vtable>,
    /// Statics and thread-locals.
    pub statics: Vec<Static>,
    /// Hash of what the compiler calls the codegen unit, which stays the same from build to build.
    pub codegen_unit: u64,
    /// Hash of what `types` are called and look like, in their order, and of the codegen unit.
    pub layouts: u64,
    tables: Tables,
}

/// A function with code.
#[derive(Clone, Debug)]
pub struct Function {
    /// The name of its symbol.
    pub linkage_name: String,
    /// Its path with generics, such as `app::shapes::{impl#3}::area<u8>`.
    pub qualified: String,
    /// The same without the numbers in braces.
    pub erased: String,
    /// Equal hashes of functions with equal `erased` mean: old and new code may call each other. Named types count by
    /// name; whether such a type has kept its layout is the judge's question.
    pub abi: u64,
    /// The same without its generic arguments: a default method has its type among them, a method of an impl has not.
    pub method_abi: u64,
    /// Source file.
    pub file: Option<Arc<str>>,
    /// Line in it, from 1.
    pub line: Option<u32>,
}

/// What kind of type it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeKind {
    /// `struct`.
    Struct,
    /// `union`.
    Union,
    /// `enum`, with or without fields.
    Enum,
    /// A tuple or wide pointer: not defined anywhere, only built of other types.
    Structural,
}

/// A type with a layout.
#[derive(Clone, Debug)]
pub struct TypeDef {
    /// Hash of the path without the numbers of closures and impls: what old and new are matched by.
    pub key: u64,
    /// Hash of the path as it is.
    pub exact_key: u64,
    /// What it is.
    pub kind: TypeKind,
    /// Size in bytes.
    pub size: u64,
    /// Hash of size, alignment, fields, variants and discriminants, one level deep.
    pub layout: u64,
    /// Hash of field names, type names and variant names alone: differs when the definition itself was edited.
    pub shape: u64,
    node: u32,
}

/// The table of one type for one trait.
#[derive(Clone, Debug)]
pub struct Vtable {
    /// Such as `<app::Circle as app::Shape>`.
    pub name: String,
    /// Number of words, the three of every table (drop, size, align) included.
    pub slots: u64,
    /// Where it is in the object.
    pub place: Option<Place>,
}

/// A static or thread-local.
#[derive(Clone, Debug)]
pub struct Static {
    /// The name of its symbol.
    pub linkage_name: String,
    /// Its path.
    pub qualified: String,
    /// The same without the numbers in braces.
    pub erased: String,
    /// Its type, as written.
    pub type_name: String,
    /// Hash of its type: of its name, and of all it holds where a name does not tell it from others.
    pub type_key: u64,
    /// Size of its type in bytes, where known.
    pub size: Option<u64>,
    /// Each thread has its own.
    pub thread_local: bool,
    /// Where it is in the object, unless it is thread-local.
    pub place: Option<Place>,
    /// The section it is in can be written to; thread-locals always can.
    pub writable: Option<bool>,
    /// Source file.
    pub file: Option<Arc<str>>,
    /// Line in it, from 1.
    pub line: Option<u32>,
}

/// Why an object's debug information could not be read.
#[derive(Debug)]
pub enum TypesError {
    /// It is no object file.
    Object(object::Error),
    /// A section could not be read.
    Section {
        /// Its name.
        section: String,
        /// Why not.
        why: object::Error,
    },
    /// The debug information contradicts itself.
    Dwarf(gimli::Error),
    /// A relocation that is not understood.
    Relocation {
        /// The section it stands in.
        section: String,
        /// Where in the section.
        offset: u64,
        /// What the file says.
        raw: String,
    },
}

impl TypesError {
    fn section(section: &str, why: object::Error) -> TypesError {
        TypesError::Section { section: section.to_string(), why }
    }

    fn relocation(section: &str, offset: u64, raw: &str) -> TypesError {
        TypesError::Relocation { section: section.to_string(), offset, raw: raw.to_string() }
    }
}

impl fmt::Display for TypesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TypesError::Object(why) => write!(f, "not an object file: {why}"),
            TypesError::Section { section, why } => write!(f, "section `{section}` cannot be read: {why}"),
            TypesError::Dwarf(why) => write!(f, "the debug information cannot be read: {why}"),
            TypesError::Relocation { section, offset, raw } => {
                write!(f, "unknown relocation in `{section}` at {offset:#x}: {raw}")
            }
        }
    }
}

impl std::error::Error for TypesError {}

impl From<gimli::Error> for TypesError {
    fn from(why: gimli::Error) -> TypesError {
        TypesError::Dwarf(why)
    }
}

/// Reads the debug information of one object.
pub fn read(object_bytes: &[u8]) -> Result<ObjectTypes, TypesError> {
    let file = sections::open(object_bytes)?;
    let sections = sections::load(&file)?;
    let tables = walk::walk(&sections)?;
    let level = if !tables.any_unit {
        Level::Absent
    } else if let Some(file) = &tables.split {
        Level::Split(file.clone())
    } else if tables.full || !sections.has_code {
        Level::Full
    } else {
        Level::LinesOnly
    };
    let mut lists = Lists::new(&tables);
    for id in 0..tables.nodes.len() as u32 {
        lists.node(id);
    }
    let Lists { functions, types, vtables, mut statics, .. } = lists;
    for variable in &mut statics {
        variable.writable = if variable.thread_local { Some(true) } else { is_writable(&file, variable.place) };
    }
    let layouts = types.iter().fold(tables.codegen_unit, |hash, def| {
        let def = [def.key, def.exact_key, def.layout, def.shape].into_iter().fold(2, identity::mix);
        identity::mix(hash, def)
    });
    let codegen_unit = tables.codegen_unit;
    Ok(ObjectTypes { level, functions, types, vtables, statics, codegen_unit, layouts, tables })
}

fn is_writable(file: &sections::File, place: Option<Place>) -> Option<bool> {
    let section = file.section_by_index(object::SectionIndex(place?.section)).ok()?;
    Some(matches!(section.kind(), object::SectionKind::Data | object::SectionKind::UninitializedData))
}

/// A function whose description is spread over an instance, a declaration and an abstract origin, put together.
struct Described<'a> {
    name: Name,
    linkage: Name,
    /// Where the outermost declaration stands: it gives the path.
    scope: Id,
    parts: &'a [Part],
    result: Id,
    /// The entry that has a line.
    described: &'a Node,
}

/// Follows the references from a function's entry to the ones that say the rest.
fn walk_chain<'a>(tables: &'a Tables, id: Id, node: &'a Node) -> Described<'a> {
    let mut chain = vec![(id, node)];
    while let Some((_, last)) = chain.last().filter(|(_, last)| last.origin != NONE && chain.len() < 4) {
        let Some(next) = tables.node(last.origin) else { break };
        chain.push((last.origin, next));
    }
    let nodes = || chain.iter().map(|(_, node)| *node);
    let name = nodes().map(|node| node.name).find(|name| tables.is_named(*name)).unwrap_or(node.name);
    let parts = nodes().rev().map(|node| tables.parts(node)).find(|parts| !parts.is_empty());
    Described {
        name,
        linkage: nodes().map(|node| node.linkage).find(|name| tables.is_named(*name)).unwrap_or(name),
        scope: nodes().next_back().map_or(node.parent, |node| node.parent),
        parts: parts.unwrap_or(&[]),
        result: nodes().map(|node| node.target).find(|target| *target != NONE).unwrap_or(NONE),
        described: nodes().find(|node| node.line > 0).unwrap_or(node),
    }
}

/// The lists of an object while they grow.
struct Lists<'a> {
    tables: &'a Tables,
    identity: Identity<'a>,
    functions: Vec<Function>,
    types: Vec<TypeDef>,
    vtables: Vec<Vtable>,
    statics: Vec<Static>,
}

impl<'a> Lists<'a> {
    fn new(tables: &'a Tables) -> Lists<'a> {
        let identity = Identity::new(tables);
        let (functions, types, vtables, statics) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Lists { tables, identity, functions, types, vtables, statics }
    }

    fn node(&mut self, id: u32) {
        let tables = self.tables;
        let Some(node) = tables.node(id) else { return };
        match node.kind {
            Kind::Function if node.placed => self.function(id, node),
            Kind::Variable => self.variable(id, node),
            Kind::Struct | Kind::Union | Kind::Enumeration if !node.declaration => self.type_def(id, node),
            Kind::Function
            | Kind::Struct
            | Kind::Union
            | Kind::Enumeration
            | Kind::Namespace
            | Kind::Base
            | Kind::Pointer
            | Kind::Array
            | Kind::Subroutine
            | Kind::Other(_) => {}
        }
    }

    fn function(&mut self, id: u32, node: &Node) {
        let tables = self.tables;
        let Described { name, linkage, scope, parts, result, described } = walk_chain(tables, id, node);
        let qualified = self.path(scope, name);
        let only_itself = self.identity.names_function(name).then_some(linkage);
        let abi = self.identity.abi(&identity::Function { result, parts, only_itself });
        let values: Vec<_> = parts.iter().filter(|part| part.role != Role::Template).copied().collect();
        let method_abi = self.identity.abi(&identity::Function { result, parts: &values, only_itself });
        let (file, line) = self.source(described);
        self.functions.push(Function {
            linkage_name: tables.text(linkage),
            erased: erase(&qualified),
            qualified,
            abi,
            method_abi,
            file,
            line,
        });
    }

    fn variable(&mut self, id: u32, node: &Node) {
        let tables = self.tables;
        let name = tables.text(node.name);
        if let Some(name) = name.strip_suffix("::{vtable}") {
            let slots = tables.node(node.target).and_then(|table| table.size).unwrap_or(0) / 8;
            self.vtables.push(Vtable { name: name.to_string(), slots, place: tables.place(id) });
            return;
        }
        if !tables.is_named(node.linkage) && !node.placed {
            return;
        }
        let qualified = describe::path(tables, id);
        let (file, line) = self.source(node);
        let linkage = if tables.is_named(node.linkage) { node.linkage } else { node.name };
        self.statics.push(Static {
            linkage_name: tables.text(linkage),
            erased: erase(&qualified),
            qualified,
            type_name: describe::type_name(tables, node.target),
            type_key: self.identity.type_hash(node.target),
            size: describe::size(tables, node.target),
            thread_local: node.thread_local,
            place: tables.place(id),
            writable: None,
            file,
            line,
        });
    }

    fn type_def(&mut self, id: u32, node: &Node) {
        let tables = self.tables;
        let facts = self.identity.path(id);
        let in_type = tables
            .node(node.parent)
            .is_some_and(|parent| matches!(parent.kind, Kind::Struct | Kind::Union | Kind::Enumeration));
        let name = tables.bytes(node.name);
        // Unnameable types are told apart by the signatures they occur in; the struct of a variant is part of its enum.
        if facts.unnameable || in_type || name.is_empty() || name.ends_with(b"::{vtable_type}") {
            return;
        }
        let has_variants = tables.parts(node).iter().any(|part| matches!(part.role, Role::Variant | Role::Tag));
        let kind = if node.kind == Kind::Union {
            TypeKind::Union
        } else if node.kind == Kind::Enumeration || has_variants {
            TypeKind::Enum
        } else if node.parent == NONE {
            TypeKind::Structural
        } else {
            TypeKind::Struct
        };
        let (layout, shape) = self.identity.layout(id);
        self.types.push(TypeDef {
            key: facts.erased,
            exact_key: facts.exact,
            kind,
            size: node.size.unwrap_or(0),
            layout,
            shape,
            node: id,
        });
    }

    fn source(&self, node: &Node) -> (Option<Arc<str>>, Option<u32>) {
        let file = (node.file as usize).checked_sub(1).and_then(|index| self.tables.files.get(index)).cloned();
        (file, Some(node.line).filter(|line| *line > 0))
    }

    fn path(&self, scope: u32, name: Name) -> String {
        let mut path = describe::path(self.tables, scope);
        if !path.is_empty() {
            path.push_str("::");
        }
        path.push_str(&self.tables.text(name));
        path
    }
}
