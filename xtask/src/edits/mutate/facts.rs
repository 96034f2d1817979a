//! What one file has that can be mutated: byte ranges of its functions, statements, literals, types.
//!
//! These are the words only; `read` finds what they stand for.

use std::collections::BTreeSet;
use std::ops::Range;

/// Bytes of a file.
pub(crate) type Bytes = Range<usize>;

#[derive(Default)]
pub(crate) struct Facts {
    pub(crate) functions: Vec<Function>,
    pub(crate) statements: Vec<Statement>,
    pub(crate) closures: Vec<Closure>,
    pub(crate) literals: Vec<Literal>,
    pub(crate) operators: Vec<(Bytes, &'static str)>,
    pub(crate) types: Vec<Type>,
    pub(crate) aliases: Vec<Alias>,
    pub(crate) traits: Vec<Trait>,
    /// Ends of the bodies of inherent impls.
    pub(crate) inherent_impls: Vec<usize>,
    /// Types that have `Drop`.
    pub(crate) dropped: BTreeSet<String>,
    /// Starts of items outside of functions.
    pub(crate) items: Vec<usize>,
    /// Literals and patterns of structs with named fields.
    pub(crate) braces: Vec<Brace>,
    pub(crate) matches: Vec<Match>,
    pub(crate) calls: Vec<Call>,
    /// Names that take part in a type: lengths of arrays, arguments of generics.
    pub(crate) in_types: BTreeSet<String>,
}

/// A function with a body.
pub(crate) struct Function {
    pub(crate) name: String,
    /// With attributes and documentation.
    pub(crate) whole: Bytes,
    pub(crate) is_const: bool,
    /// Only its own file can call it: no `pub`, in no trait.
    pub(crate) is_private: bool,
    /// The place before the parenthesis that closes the parameters, and whether there are any without a comma behind.
    pub(crate) parameters_end: usize,
    pub(crate) needs_comma: bool,
    /// The module or impl that it stands in.
    pub(crate) container: usize,
}

/// The start of a statement in a function's body.
pub(crate) struct Statement {
    pub(crate) start: usize,
    /// Directly in an `async` function or block.
    pub(crate) is_async: bool,
}

pub(crate) struct Closure {
    /// The statement that it is in.
    pub(crate) statement: usize,
    pub(crate) body: Bytes,
    pub(crate) is_move: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    Body,
    Const,
    ConstTable,
    Static,
}

pub(crate) struct Literal {
    pub(crate) place: Bytes,
    pub(crate) holder: Holder,
    /// The constant that it is in.
    pub(crate) owner: String,
}

/// A struct with named fields, or an enum.
pub(crate) struct Type {
    pub(crate) name: String,
    pub(crate) is_enum: bool,
    pub(crate) is_generic: bool,
    pub(crate) documentation: String,
    pub(crate) end: usize,
    /// Fields or variants, with what stands before them.
    pub(crate) members: Vec<Bytes>,
    pub(crate) names: Vec<String>,
}

pub(crate) struct Alias {
    pub(crate) documentation: String,
    pub(crate) target: Bytes,
}

pub(crate) struct Trait {
    pub(crate) documentation: String,
    pub(crate) methods: Vec<Bytes>,
}

/// A literal or pattern of a struct.
pub(crate) struct Brace {
    pub(crate) type_name: String,
    /// The place behind the brace.
    pub(crate) inside: usize,
    pub(crate) is_pattern: bool,
    /// It ends with `..`, and so names not all fields.
    pub(crate) has_rest: bool,
}

pub(crate) struct Match {
    /// Names in front of the last one of the arms' paths.
    pub(crate) enums: BTreeSet<String>,
    pub(crate) has_wildcard: bool,
    pub(crate) end: usize,
    pub(crate) needs_comma: bool,
}

pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) arguments_end: usize,
    pub(crate) needs_comma: bool,
}
