//! What must come along: the sections that the changed functions need and the process does not have.
//!
//! Takes a delta and follows every reference from its changed functions. What lives in the process is bound to; what does
//! not (new functions, constants, functions that the linker threw away, instances that only a library has) becomes a
//! `Piece` of the image. What stands in the way is collected by name for the judge, all of it, instead of ending the walk.

use std::sync::Arc;

use relive_wire::LiveAddr;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::binary::bytes::Bytes;
use crate::binary::object::{NameId, Object, SectionId, SymbolId};
use crate::diff::running::LiveFunction;
use crate::diff::threads::{NoThreadRoom, ThreadPlan};

/// Index of an object in [`Reach::objects`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectIndex(pub usize);

/// Index of a piece in [`Reach::pieces`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PieceIndex(pub usize);

/// Index of a function in [`Reach::functions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionIndex(pub usize);

/// A section that becomes part of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The object it is in.
    pub object: ObjectIndex,
    /// The section.
    pub section: SectionId,
}

/// A function of an editable unit that becomes part of the image.
#[derive(Clone, Debug)]
pub struct PlannedFunction {
    /// Its name.
    pub name: NameId,
    /// Its linkage name.
    pub text: String,
    /// Its code.
    pub piece: PieceIndex,
    /// The running function that it replaces.
    pub live: Option<LiveFunction>,
}

/// A variable or constant that gets its storage in the image.
#[derive(Clone, Debug)]
pub struct PlannedData {
    /// Its name.
    pub name: NameId,
    /// Its piece, and the offset in it.
    pub at: (PieceIndex, u64),
    /// Its size in bytes.
    pub size: u64,
}

/// What a symbol of an object in the image refers to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Referent {
    /// A place in a piece.
    Piece(PieceIndex, u64),
    /// A function of the image that others may redirect or point to.
    Function(FunctionIndex),
    /// A function of the process: the address that pointers hold, and where to call it.
    LiveFunction {
        /// For pointers.
        canonical: LiveAddr,
        /// For calls.
        call: LiveAddr,
    },
    /// A variable or constant of the process.
    LiveData(LiveAddr),
    /// A thread-local of the process or a new one, by its offset from the thread pointer.
    ThreadLocal(i64),
    /// A symbol of a shared object: index in [`Reach::imports`].
    Import(usize),
    /// A word that holds the address of an import or function (personality routines).
    WordOf(Box<Referent>),
    /// A number.
    Absolute(u64),
    /// An undefined weak symbol: address 0.
    Null,
    /// One of [`Reach::problems`].
    Broken,
}

/// What stands in the way of linking.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// A thread-local that the process does not have and has no room for.
    NewThreadLocal {
        /// Its name.
        name: String,
        /// Why there is no room.
        why: NoThreadRoom,
    },
    /// A relocation that is not understood.
    UnknownRelocation {
        /// The section it is in.
        section: String,
        /// Offset there.
        offset: u64,
        /// Its number.
        raw: u32,
        /// The symbol it refers to.
        symbol: String,
    },
    /// A name that stands for several things.
    AmbiguousSymbol(String),
    /// A name that nothing defines.
    UndefinedSymbol {
        /// The name.
        name: String,
        /// Who refers to it.
        from: String,
    },
    /// Variables without a name, which could not be bound to the running ones.
    NamelessStorage(String),
    /// A changed function of which the process only has private copies in crates that are not edited.
    ForeignCopy(String),
    /// A library member, and its section of constructors or destructors that the process has not got.
    Constructors {
        /// The member.
        member: String,
        /// The section.
        section: String,
    },
    /// An object or archive that could not be read.
    Unreadable(String),
}

/// Everything that the image will hold.
#[derive(Debug, Default)]
pub struct Reach {
    /// Objects that pieces come from.
    pub objects: Vec<Arc<Object>>,
    /// The pieces; unwind entries and debug information come on top.
    pub pieces: Vec<Piece>,
    /// Functions with an entry in the table.
    pub functions: Vec<PlannedFunction>,
    /// Data that later patches bind to.
    pub data: Vec<PlannedData>,
    /// Functions from libraries that later patches bind to.
    pub library_functions: Vec<PlannedData>,
    /// New thread-locals.
    pub threads: ThreadPlan,
    /// Names that come from shared objects.
    pub imports: Vec<String>,
    /// What stands in the way.
    pub problems: Vec<Problem>,
    pub(super) referents: FxHashMap<(ObjectIndex, SymbolId), Referent>,
    pub(super) piece_at: FxHashMap<(ObjectIndex, SectionId), PieceIndex>,
    pub(super) function_at: FxHashMap<PieceIndex, FunctionIndex>,
}

impl Reach {
    /// What `symbol` of `object` refers to.
    #[must_use]
    pub fn referent(&self, object: ObjectIndex, symbol: SymbolId) -> &Referent {
        self.referents.get(&(object, symbol)).unwrap_or(&Referent::Broken)
    }

    /// The piece that a section became.
    #[must_use]
    pub fn piece_of(&self, object: ObjectIndex, section: SectionId) -> Option<PieceIndex> {
        self.piece_at.get(&(object, section)).copied()
    }

    /// The planned function whose code a piece is.
    #[must_use]
    pub fn function_of(&self, piece: PieceIndex) -> Option<&PlannedFunction> {
        self.functions.get(self.function_at.get(&piece)?.0)
    }

    /// The pieces that code entered through one of the functions for which `entered` holds can come to.
    pub fn reachable(&self, entered: impl Fn(&PlannedFunction) -> bool) -> FxHashSet<PieceIndex> {
        let mut open: Vec<PieceIndex> =
            self.functions.iter().filter(|function| entered(function)).map(|function| function.piece).collect();
        let mut found: FxHashSet<PieceIndex> = open.iter().copied().collect();
        while let Some(at) = open.pop() {
            let Some(piece) = self.pieces.get(at.0) else { continue };
            let Some(object) = self.object(piece.object) else { continue };
            for reloc in &object.section(piece.section).relocs {
                let next = match self.referent(piece.object, reloc.symbol) {
                    Referent::Piece(piece, _) => Some(*piece),
                    Referent::Function(function) => self.functions.get(function.0).map(|function| function.piece),
                    Referent::ThreadLocal(offset) => self.threads.piece_at(*offset),
                    Referent::LiveFunction { .. }
                    | Referent::LiveData(_)
                    | Referent::Import(_)
                    | Referent::WordOf(_)
                    | Referent::Absolute(_)
                    | Referent::Null
                    | Referent::Broken => None,
                };
                open.extend(next.filter(|piece| found.insert(*piece)));
            }
        }
        found
    }

    /// The object of a piece.
    #[must_use]
    pub fn object(&self, index: ObjectIndex) -> Option<&Arc<Object>> {
        self.objects.get(index.0)
    }
}

/// Where libraries and shared objects are asked for a symbol.
pub trait Libraries {
    /// The archive member that defines a symbol.
    ///
    /// # Errors
    /// With the reason, if an archive is damaged.
    fn member(&mut self, name: NameId) -> Result<Option<(String, Bytes)>, String>;

    /// Whether a shared object in the process exports the name.
    fn exports(&mut self, name: &str) -> bool;

    /// The shared objects in the process.
    fn shared_objects(&mut self) -> Vec<Bytes>;
}
