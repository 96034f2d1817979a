//! What an object's debug information says, as a set that can be compared with what others have said.
//!
//! A session keeps the objects that its edits take away, because values made by their code may live on. Most of them say
//! nothing that another one has not said: a constant is edited ten times, and types and functions stay the same.

use rustc_hash::FxHashSet;
use xxhash_rust::xxh3::xxh3_64;

use super::ObjectTypes;
use super::identity::{Identity, mix};
use super::tables::{Id, Kind, Node};

/// Types without a name in types without a name; only hostile input goes deeper.
const DEEPEST: u32 = 16;

impl ObjectTypes {
    /// One number for each type, function and variable: its path, what it is made of, and for a function where it is
    /// written. Objects of which one says all that the other says have the same [`ObjectTypes::occurrences`] together as
    /// the first one has alone.
    #[must_use]
    pub fn statements(&self) -> FxHashSet<u64> {
        let said = Said { types: self, identity: Identity::new(&self.tables) };
        let nodes = self.tables.nodes.iter().enumerate();
        nodes.filter(|(_, node)| node.kind != Kind::Namespace).map(|(id, node)| said.node(id as Id, node)).collect()
    }
}

struct Said<'a> {
    types: &'a ObjectTypes,
    identity: Identity<'a>,
}

impl Said<'_> {
    fn node(&self, id: Id, node: &Node) -> u64 {
        let tables = &self.types.tables;
        let mut hash = mix(mix(21, self.named(id, DEEPEST)), xxh3_64(tables.bytes(node.linkage)));
        hash = mix(mix(hash, u64::from(node.thread_local)), u64::from(node.placed));
        if node.kind == Kind::Function {
            let file = (node.file as usize).checked_sub(1).and_then(|index| tables.files.get(index));
            hash = mix(hash, file.map_or(0, |file| xxh3_64(file.as_bytes())));
        }
        mix(mix(hash, self.named(node.target, DEEPEST)), self.inside(id, node, DEEPEST))
    }

    /// A node by its path; one without a name by what it is made of.
    fn named(&self, id: Id, depth: u32) -> u64 {
        let tables = &self.types.tables;
        let Some(node) = tables.node(id).filter(|_| depth > 0) else { return 22 };
        let path = mix(node.kind.number().into(), self.identity.path(id).exact);
        if tables.is_named(node.name) {
            return path;
        }
        let rest = mix(self.named(node.target, depth - 1), self.named(node.origin, depth - 1));
        mix(mix(path, rest), self.inside(id, node, depth - 1))
    }

    fn inside(&self, id: Id, node: &Node, depth: u32) -> u64 {
        let tables = &self.types.tables;
        let (layout, _) = self.identity.layout(id);
        tables.parts(node).iter().fold(layout, |hash, part| {
            let name = mix(part.role as u64, xxh3_64(tables.bytes(part.name)));
            mix(mix(hash, name), self.named(part.target, depth))
        })
    }
}
