//! Identity as numbers: hashes of names, layouts and signatures.
//!
//! Three questions have to be answered for thousands of entries per save: is this the same type (its path), does it
//! look the same in memory (its layout), and may old and new code call each other (a function's ABI). Each is one
//! 64-bit hash here. Named types enter a signature by name only: whether such a type kept its layout is the judge's
//! question. Types that cannot be named (closures, coroutines) and everything built of them enter with all they hold,
//! because nothing else tells an old one from a new one.

use xxhash_rust::xxh3::xxh3_64;

use super::erase::erase_bytes;
use super::tables::{Id, Kind, Name, Node, Part, Role, Tables};

/// How a name, together with the scopes around it, identifies its entry.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PathFacts {
    /// Hash of the path without the numbers of closures and impls.
    pub(super) erased: u64,
    /// Hash of the path as it is.
    pub(super) exact: u64,
    /// The path goes through something numbered, so that other entries can have the same erased path.
    pub(super) numbered: bool,
    /// The name speaks of a closure or coroutine.
    pub(super) unnameable: bool,
}

/// Answers for the nodes of one object, each computed once.
pub(super) struct Identity<'a> {
    tables: &'a Tables,
    paths: Vec<PathFacts>,
    /// Hashes of types as part of a signature; 0 when not known yet.
    types: Vec<u64>,
    open: Vec<Id>,
    /// How many more types may be entered for the present signature.
    budget: u32,
}

/// Types inside types inside types: beyond this a type counts by its exact name, which at worst tells apart what is
/// the same.
const DEEPEST: usize = 100;

/// The same for their number: types that hold each other are entered once for each way that leads to them.
const BUDGET: u32 = 20_000;

/// Mixes `value` into `state`; not commutative.
pub(super) fn mix(state: u64, value: u64) -> u64 {
    let product = u128::from(state ^ 0xa076_1d64_78bd_642f) * u128::from(value ^ 0xe703_7ed1_a0b4_28db);
    (product as u64) ^ ((product >> 64) as u64)
}

impl<'a> Identity<'a> {
    pub(super) fn new(tables: &'a Tables) -> Identity<'a> {
        let mut paths: Vec<PathFacts> = Vec::with_capacity(tables.nodes.len());
        for node in &tables.nodes {
            let outer = paths.get(node.parent as usize).copied().unwrap_or_default();
            paths.push(path(outer, tables.bytes(node.name)));
        }
        Identity { tables, paths, types: vec![0; tables.nodes.len()], open: Vec::new(), budget: BUDGET }
    }

    pub(super) fn path(&self, id: Id) -> PathFacts {
        self.paths.get(id as usize).copied().unwrap_or_default()
    }

    /// The hash of a function's signature. `parts` are its parameters, captures and template arguments.
    pub(super) fn abi(&mut self, function: &Function<'_>) -> u64 {
        let mut hash = mix(1, self.type_hash(function.result));
        let floor = function.parts.iter().filter(|part| is_held_by_value(part)).map(|part| part.place).min();
        for part in function.parts {
            hash = mix(hash, part.role as u64);
            hash = mix(hash, self.type_hash(part.target));
            if part.role == Role::Capture {
                let place = if is_held_by_value(part) { part.place.wrapping_sub(floor.unwrap_or(0)) } else { 0 };
                hash = mix(hash, xxh3_64(self.tables.bytes(part.name)));
                hash = mix(mix(hash, place as u64), part.value.map_or(0, |value| value as u64));
            }
        }
        if let Some(linkage) = function.only_itself {
            hash = mix(hash, xxh3_64(self.tables.bytes(linkage)));
        }
        hash
    }

    /// The hash of a type's name as it is written, without numbers, and without looking inside.
    pub(super) fn display_hash(&self, id: Id) -> u64 {
        self.display(id, 32)
    }

    /// `depth` bounds arrays of arrays, which only hostile input makes deep.
    fn display(&self, id: Id, depth: u32) -> u64 {
        let Some(node) = self.tables.node(id).filter(|_| depth > 0) else { return 0 };
        if node.kind == Kind::Array {
            let count = self.tables.parts(node).iter().fold(1, |hash, part| mix(hash, length(part)));
            return mix(mix(2, self.display(node.target, depth - 1)), count);
        }
        if node.kind == Kind::Pointer && !self.tables.is_named(node.name) {
            return mix(3, self.display(node.target, depth - 1));
        }
        mix(4, self.path(id).erased)
    }

    /// The hash of a type as part of a signature.
    pub(super) fn type_hash(&mut self, id: Id) -> u64 {
        self.budget = BUDGET;
        self.visit(id).0
    }

    /// The hash, and how far down the stack of open types it depends on one of them.
    fn visit(&mut self, id: Id) -> (u64, usize) {
        let tables = self.tables;
        let Some(node) = tables.node(id) else { return (0, usize::MAX) };
        if let Some(hash) = self.types.get(id as usize).filter(|hash| **hash != 0) {
            return (*hash, usize::MAX);
        }
        let facts = self.path(id);
        let transparent = match node.kind {
            Kind::Array | Kind::Subroutine => true,
            Kind::Pointer | Kind::Struct | Kind::Union | Kind::Enumeration => {
                facts.unnameable || facts.numbered || !tables.is_named(node.name) || self.names_function(node.name)
            }
            Kind::Base | Kind::Namespace | Kind::Function | Kind::Variable | Kind::Other(_) => false,
        };
        if !transparent {
            let hash = mix(mix(5, facts.erased), node.size.unwrap_or(0) * u64::from(node.kind == Kind::Base));
            self.remember(id, hash);
            return (hash, usize::MAX);
        }
        self.enter(id, node)
    }

    /// The hash of a type with all that it holds; types that hold themselves are only entered once.
    fn enter(&mut self, id: Id, node: &Node) -> (u64, usize) {
        let facts = self.path(id);
        if let Some(depth) = self.open.iter().position(|open| *open == id) {
            return (mix(6, facts.erased), depth);
        }
        self.budget = self.budget.saturating_sub(1);
        if self.open.len() > DEEPEST || self.budget == 0 {
            return (mix(7, facts.exact), 0);
        }
        self.open.push(id);
        let (hash, lowest) = self.inside(id, node);
        self.open.pop();
        if lowest >= self.open.len() {
            self.remember(id, hash);
            return (hash, usize::MAX);
        }
        (hash, lowest)
    }

    fn remember(&mut self, id: Id, hash: u64) {
        if let Some(known) = self.types.get_mut(id as usize) {
            *known = hash;
        }
    }

    /// The name speaks of a function type: rustc gives function items and function pointers the same name.
    pub(super) fn names_function(&self, name: Name) -> bool {
        let bytes = self.tables.bytes(name);
        let at = |index: &usize| bytes.get(index.wrapping_sub(2)..*index) == Some(b"fn");
        bytes.iter().enumerate().filter(|(_, byte)| **byte == b'(').any(|(index, _)| at(&index))
    }

    fn inside(&mut self, id: Id, node: &Node) -> (u64, usize) {
        let tables = self.tables;
        let facts = self.path(id);
        let (target, mut lowest) = self.visit(node.target);
        let mut hash = mix(mix(8, if node.kind == Kind::Subroutine { 0 } else { facts.erased }), target);
        hash = mix(mix(hash, node.size.unwrap_or(0)), u64::from(node.align));
        let mut sum = 0u64;
        for part in tables.parts(node) {
            let (inner, low) = match part.role {
                // The struct of a variant is part of its enum.
                Role::Variant => match tables.node(part.target) {
                    Some(variant) => self.enter(part.target, variant),
                    None => (0, usize::MAX),
                },
                Role::Field
                | Role::Tag
                | Role::Enumerator
                | Role::Length
                | Role::Parameter
                | Role::Template
                | Role::Capture => self.visit(part.target),
            };
            lowest = lowest.min(low);
            let piece = mix(placed(part, xxh3_64(tables.bytes(part.name)), 9), inner);
            if matches!(part.role, Role::Parameter | Role::Length) {
                hash = mix(hash, piece);
            } else {
                sum = sum.wrapping_add(piece);
            }
        }
        (mix(hash, sum), lowest)
    }

    /// What a type looks like in memory, one level deep: (layout, shape). The shape leaves out places and sizes, so
    /// that it differs only when the type's own definition was edited.
    pub(super) fn layout(&self, id: Id) -> (u64, u64) {
        let Some(node) = self.tables.node(id) else { return (0, 0) };
        self.layout_within(node, true)
    }

    fn layout_within(&self, node: &Node, variants: bool) -> (u64, u64) {
        let kind = u64::from(node.kind.number());
        let mut layout = mix(mix(mix(10, kind), node.size.unwrap_or(u64::MAX)), u64::from(node.align));
        let shape = mix(11, kind);
        if node.kind == Kind::Enumeration {
            layout = mix(layout, self.display_hash(node.target));
        }
        let (mut layouts, mut shapes) = (0u64, 0u64);
        for part in self.tables.parts(node) {
            if part.role == Role::Template {
                continue;
            }
            let inner = self.tables.node(part.target);
            let text = xxh3_64(self.tables.bytes(part.name));
            let (own, name) = (placed(part, text, 12), mix(part.role as u64, text));
            match (part.role, inner) {
                (Role::Variant, Some(inner)) if variants => {
                    let (inner_layout, inner_shape) = self.layout_within(inner, false);
                    layouts = layouts.wrapping_add(mix(own, inner_layout));
                    shapes = shapes.wrapping_add(mix(name, inner_shape));
                }
                _ => {
                    let size = inner.and_then(|inner| inner.size).unwrap_or(0);
                    let display = self.display_hash(part.target);
                    layouts = layouts.wrapping_add(mix(mix(own, display), size));
                    let value = part.value.filter(|_| part.role == Role::Enumerator).unwrap_or(0);
                    let display = if part.role == Role::Tag { 0 } else { display };
                    shapes = shapes.wrapping_add(mix(mix(name, display), value as u64));
                }
            }
        }
        (mix(layout, layouts), mix(shape, shapes))
    }
}

/// What a signature is made of.
pub(super) struct Function<'a> {
    pub(super) result: Id,
    pub(super) parts: &'a [Part],
    /// The function must only ever be paired with one of this very linkage name.
    pub(super) only_itself: Option<Name>,
}

fn path(outer: PathFacts, name: &[u8]) -> PathFacts {
    let exact = xxh3_64(name);
    let (mut erased, mut numbered, mut unnameable) = (exact, outer.numbered, false);
    if memchr::memchr(b'{', name).is_some() {
        let text = erase_bytes(name);
        erased = xxh3_64(&text);
        unnameable = memchr::memmem::find(&text, b"_env}").is_some();
        numbered |= text.len() != name.len();
    }
    numbered |= name == b"_";
    PathFacts { erased: mix(outer.erased, erased), exact: mix(outer.exact, exact), numbered, unnameable }
}

/// A closure called by value has its captures in its own frame: only their distances count, not where the frame has them.
fn is_held_by_value(part: &Part) -> bool {
    part.role == Role::Capture && part.value.is_none()
}

/// A part without its type; `name` is the hash of its name.
fn placed(part: &Part, name: u64, seed: u64) -> u64 {
    let hash = mix(mix(seed, part.role as u64), name);
    let value = part.value.map_or(0, |value| mix(13, value as u64));
    mix(mix(mix(hash, part.place as u64), value), u64::from(part.align))
}

fn length(part: &Part) -> u64 {
    part.value.map_or(u64::MAX, |value| value as u64)
}
