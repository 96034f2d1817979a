//! What the rules look at: types before and after, and what comparing and linking have found.

use std::cell::OnceCell;
use std::path::PathBuf;

use rustc_hash::FxHashMap;

use super::Liveness;
use super::matching::{self, Change};
use crate::binary::object::NameId;
use crate::binary::types::{Level, ObjectTypes};

/// All that is judged.
#[derive(Default)]
pub struct Facts<'a> {
    /// Types of the objects that run now and have a changed successor.
    pub old: TypeSet<'a>,
    /// Types of the changed objects.
    pub new: TypeSet<'a>,
    /// What comparing and linking have found.
    pub delta: DeltaFacts,
    /// Found by the first rule that asks.
    pub(super) changes: OnceCell<Vec<Change<'a>>>,
}

/// The types of several objects.
#[derive(Default)]
pub struct TypeSet<'a> {
    /// One for each object.
    pub objects: Vec<&'a ObjectTypes>,
}

impl<'a> Facts<'a> {
    /// The types before and after, and what else was found.
    #[must_use]
    pub fn new(old: Vec<&'a ObjectTypes>, new: Vec<&'a ObjectTypes>, delta: DeltaFacts) -> Facts<'a> {
        Facts { old: TypeSet { objects: old }, new: TypeSet { objects: new }, delta, changes: OnceCell::new() }
    }

    /// The types that look different, sorted by path.
    pub(super) fn changes(&self) -> &[Change<'a>] {
        self.changes.get_or_init(|| matching::changed(&self.old, &self.new))
    }
}

/// What comparing and linking have found. A list that its stage does not know of stays empty.
#[derive(Clone, Debug, Default)]
pub struct DeltaFacts {
    /// The running program is not the one that was built: why, in a clause.
    pub wrong_binary: Option<String>,
    /// Changed objects without types, of units that have functions.
    pub missing_types: Vec<MissingTypes>,
    /// Changed objects whose debug information cannot be read: which and why, in a clause.
    pub unreadable_types: Vec<String>,
    /// Edited units that were compiled with optimisation.
    pub optimised_units: Vec<OptimisedUnit>,
    /// Tables of trait objects in the objects that go.
    pub old_vtables: Vec<Vtable>,
    /// Tables of trait objects in the objects that come.
    pub new_vtables: Vec<Vtable>,
    /// Paths of types that left the program, come back looking different, and of which nothing else is known any more.
    pub forgotten_types: Vec<String>,
    /// Statics that run under another name, and what it is; nothing for those that are new in spite of their name.
    pub renamed_statics: FxHashMap<NameId, Option<NameId>>,
    /// Statics with another initial value or size.
    pub changed_statics: Vec<ChangedStatic>,
    /// New thread-locals that cannot get storage.
    pub without_thread_storage: Vec<NoThreadStorage>,
    /// New thread-locals that are too large for what is left.
    pub thread_reserve_full: Vec<FullThreadReserve>,
    /// Names that stand for several things in the running program.
    pub ambiguous_symbols: Vec<AmbiguousSymbol>,
    /// Names that are nowhere in the program or its libraries.
    pub undefined_symbols: Vec<UndefinedSymbol>,
    /// Writable data without a symbol that new code refers to: where, in words.
    pub nameless_storage: Vec<String>,
    /// Objects and archive members that cannot be read: which and why, as a sentence.
    pub unreadable_objects: Vec<String>,
    /// Changed code that is not divided into functions, by a name in it.
    pub unsplit_code: Vec<Item>,
    /// Relocations that the linker does not know.
    pub unknown_relocations: Vec<UnknownRelocation>,
    /// Functions whose old code has no room for a jump.
    pub without_room: Vec<NoEntryRoom>,
    /// Functions whose first bytes in memory are not the built ones.
    pub altered_entries: Vec<Item>,
    /// Sections that are gathered at link or load time and changed, by name.
    pub gathered_sections: Vec<String>,
    /// Library members that new code needs and whose constructors have not run: which, as a sentence.
    pub constructors: Vec<String>,
    /// Edited units that are optimised as a whole when the program is linked.
    pub link_time_units: Vec<String>,
    /// A thread that stayed where the switch had to write, for as long as it was tried: which and where, in a clause.
    pub in_the_way: Option<String>,
    /// Changed functions that the program has only as private copies of crates that were not compiled again.
    pub foreign_copies: Vec<Item>,
    /// Functions with another ABI that nothing but `main` leads to.
    pub never_entered: Vec<Item>,
    /// The agent does not answer in the program: why, in a clause.
    pub no_agent: Option<String>,
    /// Crates on the link line that cargo rebuilt and whose objects are not followed.
    pub changed_dependencies: Vec<String>,
    /// No memory near the program: what was looked for, in a clause.
    pub no_room: Option<String>,
    /// A fixed table of the agent is full: which, in a clause.
    pub tables_full: Option<String>,
    /// What is known about the values of the types that look different; gathered only if there are any.
    pub liveness: Option<Liveness>,
}

/// Something in the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// Readable path.
    pub name: String,
    /// Source file, if known.
    pub file: Option<PathBuf>,
    /// Line in it, from 1.
    pub line: Option<u32>,
}

/// A changed object without types.
#[derive(Clone, Debug)]
pub struct MissingTypes {
    /// The unit it belongs to, such as `app (bin)`.
    pub unit: String,
    /// What it has instead.
    pub level: Level,
}

/// An edited unit that was compiled with optimisation.
#[derive(Clone, Debug)]
pub struct OptimisedUnit {
    /// The unit, such as `app (bin)`.
    pub unit: String,
    /// Its opt-level as rustc has it: `1`, `2`, `3`, `s` or `z`.
    pub opt_level: String,
}

/// The table of one type's objects of one trait.
#[derive(Clone, Debug)]
pub struct Vtable {
    /// Such as `<app::Circle as app::Shape>`.
    pub name: String,
    /// Whether its objects have something to drop.
    pub drops: bool,
    /// What comes behind drop, size and align.
    pub slots: Vec<VtableSlot>,
}

/// A function in a table.
#[derive(Clone, Debug, Default)]
pub struct VtableSlot {
    /// Its readable path; empty if the slot is vacant.
    pub function: String,
    /// Which function of the running program it is, or takes the place of.
    pub item: Option<NameId>,
    /// What must be the same for a call of the old one to be a call of the new one, where debug information tells.
    pub abi: Option<u64>,
}

/// A static that is another one after the edit.
#[derive(Clone, Debug)]
pub struct ChangedStatic {
    /// The static.
    pub item: Item,
    /// Size of its storage in the running program, in bytes.
    pub old_size: u64,
    /// Size in the new object, in bytes.
    pub new_size: u64,
    /// Its initial value is another one.
    pub initialiser_changed: bool,
    /// It is immutable, and new code has the new value in storage of its own.
    pub renewed: bool,
    /// New code refers to it.
    pub in_new_code: bool,
}

/// A new thread-local that cannot get storage.
#[derive(Clone, Debug)]
pub struct NoThreadStorage {
    /// The thread-local.
    pub item: Item,
    /// Why, in a clause.
    pub why: String,
}

/// A new thread-local that is too large for what is left of the reserve in every thread.
#[derive(Clone, Debug)]
pub struct FullThreadReserve {
    /// The thread-local.
    pub item: Item,
    /// Bytes that it needs.
    pub size: u64,
    /// Bytes of the reserve that others have.
    pub used: u64,
    /// Bytes of the reserve.
    pub total: u64,
}

/// A name that stands for several things.
#[derive(Clone, Debug)]
pub struct AmbiguousSymbol {
    /// Readable name.
    pub name: String,
    /// Where they are, in words.
    pub candidates: Vec<String>,
}

/// A name that is nowhere.
#[derive(Clone, Debug)]
pub struct UndefinedSymbol {
    /// Readable name.
    pub name: String,
    /// What refers to it.
    pub from: String,
}

/// A relocation that the linker does not know.
#[derive(Clone, Debug)]
pub struct UnknownRelocation {
    /// Function or section that it stands in.
    pub item: Item,
    /// Section of the object.
    pub section: String,
    /// Offset in it, in bytes.
    pub offset: u64,
    /// Number of the relocation type as the file has it.
    pub raw: u32,
    /// What it refers to.
    pub symbol: String,
}

/// A function whose old code has no room for a jump.
#[derive(Clone, Debug)]
pub struct NoEntryRoom {
    /// The function.
    pub function: Item,
    /// Why, in a clause.
    pub why: String,
}

impl Item {
    /// An item of which only the name is known.
    pub fn named(name: impl Into<String>) -> Item {
        Item { name: name.into(), file: None, line: None }
    }
}
