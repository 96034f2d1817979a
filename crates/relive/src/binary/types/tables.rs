//! The flat tables that one object's debug information is turned into.

use std::sync::Arc;

use super::sections::Place;

/// Number of a [`Node`]; [`NONE`] stands for "void" or "not there".
pub(super) type Id = u32;
pub(super) const NONE: Id = u32::MAX;

/// Where a name begins in [`Tables::text`]; it ends before the next zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name(pub(super) u32);

impl Name {
    /// An entry without name.
    pub(super) const NONE: Name = Name(u32::MAX);
}

/// What a node stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Namespace,
    Base,
    Struct,
    Union,
    Enumeration,
    Pointer,
    Array,
    Subroutine,
    Function,
    Variable,
    /// A type tag that Rust does not use, by its raw number.
    Other(u16),
}

impl Kind {
    /// A number of its own.
    pub(super) fn number(self) -> u16 {
        match self {
            Kind::Namespace => 1,
            Kind::Base => 2,
            Kind::Struct => 3,
            Kind::Union => 4,
            Kind::Enumeration => 5,
            Kind::Pointer => 6,
            Kind::Array => 7,
            Kind::Subroutine => 8,
            Kind::Function => 9,
            Kind::Variable => 10,
            Kind::Other(tag) => tag.saturating_add(11),
        }
    }
}

/// One namespace, type, function or variable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// The enclosing node: a namespace, or the enum that a variant's struct belongs to.
    pub(super) parent: Id,
    pub(super) name: Name,
    pub(super) linkage: Name,
    pub(super) size: Option<u64>,
    pub(super) align: u32,
    /// Pointee, element, representation, return type or type of a variable.
    pub(super) target: Id,
    /// The entry that says the rest: specification or abstract origin.
    pub(super) origin: Id,
    /// 1 + index in [`Tables::files`]; 0 when not given.
    pub(super) file: u32,
    pub(super) line: u32,
    pub(super) declaration: bool,
    /// A function with code, or a variable with a fixed place.
    pub(super) placed: bool,
    pub(super) thread_local: bool,
    /// First of its parts, and behind the last one.
    pub(super) parts: (u32, u32),
}

/// What a part is to its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Field,
    /// The discriminant of an enum or coroutine.
    Tag,
    Variant,
    Enumerator,
    Length,
    Parameter,
    Template,
    /// A variable of a closure's outermost scope: what it captured.
    Capture,
}

/// One piece of a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) owner: Id,
    pub(super) role: Role,
    pub(super) name: Name,
    pub(super) target: Id,
    /// Offset in the owner in bytes; for captures the offset in the frame.
    pub(super) place: i64,
    /// Discriminant, enumerator, array length, or a capture's location without its frame offset.
    pub(super) value: Option<i64>,
    pub(super) align: u32,
}

/// Everything one object says.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) text: Vec<u8>,
    pub(super) nodes: Vec<Node>,
    pub(super) parts: Vec<Part>,
    /// Where variables are, by ascending node number.
    pub(super) places: Vec<(Id, Place)>,
    pub(super) files: Vec<Arc<str>>,
    /// A unit is there at all.
    pub(super) any_unit: bool,
    /// Hash of what the compiler calls the codegen unit of the first one.
    pub(super) codegen_unit: u64,
    /// Something is there that only full debug info has.
    pub(super) full: bool,
    /// The rest of the description is in this other file.
    pub(super) split: Option<String>,
}

impl Tables {
    /// The bytes of a name.
    pub(super) fn bytes(&self, name: Name) -> &[u8] {
        let rest = self.text.get(name.0 as usize..).unwrap_or(&[]);
        memchr::memchr(0, rest).and_then(|end| rest.get(..end)).unwrap_or(rest)
    }

    /// The same as text.
    pub(super) fn text(&self, name: Name) -> String {
        let bytes = self.bytes(name);
        match std::str::from_utf8(bytes) {
            Ok(text) => text.to_string(),
            Err(_) => String::from_utf8_lossy(bytes).into_owned(),
        }
    }

    pub(super) fn is_named(&self, name: Name) -> bool {
        self.text.get(name.0 as usize).is_some_and(|byte| *byte != 0)
    }

    pub(super) fn node(&self, id: Id) -> Option<&Node> {
        self.nodes.get(id as usize)
    }

    pub(super) fn parts(&self, node: &Node) -> &[Part] {
        self.parts.get(node.parts.0 as usize..node.parts.1 as usize).unwrap_or(&[])
    }

    pub(super) fn place(&self, id: Id) -> Option<Place> {
        let index = self.places.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.places.get(index).map(|(_, place)| *place)
    }
}
