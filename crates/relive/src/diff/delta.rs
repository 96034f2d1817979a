//! What a build changes: the answer of a comparison, which everything after it works from.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::binary::object::{NameId, SectionId};
use crate::diff::running::{NewObject, ObjectKey};

/// What becomes of an item that a new object defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is the running item of this name, and equal to it.
    Same(NameId),
    /// It is the running item of this name, with another content.
    Changed(NameId),
    /// Nothing that runs is the same item.
    New,
}

/// A function of the new build with an old partner and another content.
#[derive(Clone, Debug)]
pub struct ChangedFunction {
    /// Its name now.
    pub name: NameId,
    /// Its partner's name.
    pub old: NameId,
    /// Its linkage name.
    pub text: String,
    /// Its partner's linkage name.
    pub old_text: String,
    /// Index of its object in [`Delta::objects`].
    pub object: usize,
    /// Its section.
    pub section: SectionId,
}

/// A `Location` whose line moved while the code that refers to it stayed the same.
#[derive(Clone, Debug)]
pub struct LocationMove {
    /// The running function that refers to it.
    pub function: NameId,
    /// The function's linkage name.
    pub text: String,
    /// Offset of the field that leads to it, and its addend.
    pub field: (u64, i64),
    /// Old and new (line, column).
    pub line: ((u32, u32), (u32, u32)),
}

/// A variable whose definition changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticChange {
    /// Its linkage name.
    pub name: String,
    /// Its linkage name before, if its hash moved.
    pub old_name: String,
    /// Sizes in bytes.
    pub size: (u64, u64),
    /// Whether it is a thread-local.
    pub thread_local: bool,
    /// Whether its initial value is another one.
    pub value: bool,
    /// Whether it is an immutable one that gets storage of its own, beside the old one's.
    pub renewed: bool,
}

/// What a build changes.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// Objects that go.
    pub removed: Vec<ObjectKey>,
    /// Objects that come.
    pub objects: Vec<NewObject>,
    /// What becomes of each item that `objects` define.
    pub fates: FxHashMap<NameId, Fate>,
    /// Functions with new content.
    pub changed: Vec<ChangedFunction>,
    /// Linkage names of functions that nothing running is the same as.
    pub added: Vec<String>,
    /// Linkage names of old functions whose path is still there, but that have no partner: their holders keep them.
    pub kept_old: Vec<String>,
    /// The new functions that are called the same as those.
    pub instead: FxHashSet<NameId>,
    /// Lines that moved.
    pub moves: Vec<LocationMove>,
    /// Variables that changed.
    pub statics: Vec<StaticChange>,
    /// Variables whose name does not say what they are: the old name and its text, or nothing if they are new.
    pub renamed: FxHashMap<NameId, Option<(NameId, String)>>,
    /// Paths of variables of which several moved at once, so that nothing tells which is which.
    pub ambiguous: Vec<String>,
    /// Sections with several functions whose content changed, which cannot be taken apart.
    pub unsplit: Vec<String>,
    /// Sections that the linker or the loader gathers from all objects (constructors, registries) and whose content changed:
    /// the running program has gathered its own already.
    pub gathered: Vec<String>,
}

impl Delta {
    /// Whether nothing of what runs has to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty()
            && self.statics.is_empty()
            && self.moves.is_empty()
            && self.unsplit.is_empty()
            && self.gathered.is_empty()
            && self.ambiguous.is_empty()
    }
}
