//! Types in words: paths, type names, fields and variants, for messages. Only made when something is to be said.

use std::fmt::Write;

use super::tables::{Id, Kind, NONE, Node, Part, Role, Tables};
use super::{ObjectTypes, TypeDef};

/// A type with all that its layout consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Size in bytes.
    pub size: u64,
    /// Alignment in bytes; 0 when not given.
    pub align: u64,
    /// Fields of a struct or union, in the order of the source.
    pub fields: Vec<Field>,
    /// The discriminant of an enum, where it is stored.
    pub tag: Option<Field>,
    /// Variants of an enum, in the order of the source.
    pub variants: Vec<Variant>,
}

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name; `0`, `1` and so on for tuples.
    pub name: String,
    /// Its type, as written.
    pub type_name: String,
    /// Offset in bytes.
    pub offset: i64,
    /// Size in bytes, where known.
    pub size: Option<u64>,
}

/// One variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// Its discriminant; none for the variant that all other values stand for.
    pub discriminant: Option<i128>,
    /// Its fields.
    pub fields: Vec<Field>,
}

impl ObjectTypes {
    /// Path of a type, with generics.
    pub fn path(&self, def: &TypeDef) -> String {
        path(&self.tables, def.node)
    }

    /// The type in words.
    pub fn describe(&self, def: &TypeDef) -> Option<Description> {
        let node = self.tables.node(def.node)?;
        Some(describe(&self.tables, node))
    }

    /// The types that `def` holds by value, in fields, variants, tuples and arrays, at any depth.
    pub fn held_by_value(&self, def: &TypeDef) -> Vec<&TypeDef> {
        let mut seen = vec![def.node];
        let mut held = Vec::new();
        let mut next = 0;
        while let Some(id) = seen.get(next).copied() {
            next += 1;
            let Some(node) = self.tables.node(id) else { continue };
            if id != def.node {
                let index = self.types.binary_search_by_key(&id, |def| def.node).ok();
                held.extend(index.and_then(|index| self.types.get(index)));
            }
            let element = Some(node.target).filter(|_| node.kind == Kind::Array);
            let parts = self.tables.parts(node).iter();
            let inner = parts.filter(|part| matches!(part.role, Role::Field | Role::Variant)).map(|part| part.target);
            for inner in inner.chain(element) {
                if !seen.contains(&inner) {
                    seen.push(inner);
                }
            }
        }
        held
    }
}

/// The path of a node: its scopes and its name.
pub(super) fn path(tables: &Tables, id: Id) -> String {
    let mut chain = Vec::new();
    let mut at = id;
    while let Some(node) = tables.node(at) {
        chain.push(node.name);
        // A parent always comes first, which also ends this on any input.
        at = if node.parent < at { node.parent } else { NONE };
    }
    let mut bytes = Vec::new();
    for name in chain.iter().rev() {
        if !bytes.is_empty() {
            bytes.extend_from_slice(b"::");
        }
        bytes.extend_from_slice(tables.bytes(*name));
    }
    String::from_utf8(bytes).unwrap_or_else(|why| String::from_utf8_lossy(why.as_bytes()).into_owned())
}

/// A type as it is written in Rust.
pub(super) fn type_name(tables: &Tables, id: Id) -> String {
    type_name_within(tables, id, 32)
}

fn type_name_within(tables: &Tables, id: Id, depth: u32) -> String {
    let Some(node) = tables.node(id).filter(|_| depth > 0) else { return "()".to_string() };
    match node.kind {
        Kind::Array => {
            let mut text = format!("[{}", type_name_within(tables, node.target, depth - 1));
            for part in tables.parts(node) {
                let _ = match part.value {
                    Some(count) => write!(text, "; {count}"),
                    None => write!(text, "; _"),
                };
            }
            text + "]"
        }
        Kind::Pointer if !tables.is_named(node.name) => {
            format!("*{}", type_name_within(tables, node.target, depth - 1))
        }
        Kind::Subroutine => "fn".to_string(),
        Kind::Namespace
        | Kind::Base
        | Kind::Struct
        | Kind::Union
        | Kind::Enumeration
        | Kind::Pointer
        | Kind::Function
        | Kind::Variable
        | Kind::Other(_) => path(tables, id),
    }
}

/// Size of a type in bytes. Pointers say none; they are one word.
pub(super) fn size(tables: &Tables, id: Id) -> Option<u64> {
    let mut count = 1u64;
    let mut at = id;
    for _ in 0..32 {
        let node = tables.node(at)?;
        match (node.kind, node.size) {
            (_, Some(size)) => return size.checked_mul(count),
            (Kind::Pointer, None) => return Some(8 * count),
            (Kind::Array, None) => {
                let lengths =
                    tables.parts(node).iter().map(|part| part.value.and_then(|count| u64::try_from(count).ok()));
                for length in lengths {
                    count = count.checked_mul(length?)?;
                }
                at = node.target;
            }
            (_, None) => return None,
        }
    }
    None
}

fn describe(tables: &Tables, node: &Node) -> Description {
    let tag = parts_of(tables, node, Role::Tag).map(|part| field(tables, part)).next();
    let tag_type = tag.as_ref().map_or_else(|| type_name(tables, node.target), |tag| tag.type_name.clone());
    let is_unsigned = tag_type.starts_with('u');
    let discriminant =
        |part: &Part| part.value.map(|value| if is_unsigned { i128::from(value as u64) } else { i128::from(value) });
    let with_fields = parts_of(tables, node, Role::Variant).map(|part| Variant {
        name: variant_name(tables, part),
        discriminant: discriminant(part),
        fields: tables.node(part.target).map(|inner| fields(tables, inner)).unwrap_or_default(),
    });
    let plain = parts_of(tables, node, Role::Enumerator).map(|part| Variant {
        name: name(tables, part),
        discriminant: discriminant(part),
        fields: Vec::new(),
    });
    Description {
        size: node.size.unwrap_or(0),
        align: u64::from(node.align),
        fields: fields(tables, node),
        variants: with_fields.chain(plain).collect(),
        tag,
    }
}

fn parts_of<'a>(tables: &'a Tables, node: &Node, role: Role) -> impl Iterator<Item = &'a Part> {
    tables.parts(node).iter().filter(move |part| part.role == role)
}

fn fields(tables: &Tables, node: &Node) -> Vec<Field> {
    parts_of(tables, node, Role::Field).map(|part| field(tables, part)).collect()
}

fn field(tables: &Tables, part: &Part) -> Field {
    Field {
        name: name(tables, part),
        type_name: type_name(tables, part.target),
        offset: part.place,
        size: size(tables, part.target),
    }
}

fn variant_name(tables: &Tables, part: &Part) -> String {
    let inner = tables.node(part.target).map(|inner| tables.text(inner.name));
    inner.filter(|name| !name.is_empty()).unwrap_or_else(|| name(tables, part))
}

fn name(tables: &Tables, part: &Part) -> String {
    let text = tables.text(part.name);
    text.strip_prefix("__").filter(|rest| rest.parse::<u32>().is_ok()).map(str::to_string).unwrap_or(text)
}
