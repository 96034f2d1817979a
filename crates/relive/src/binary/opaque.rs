//! What a source file says about code that debug information cannot see through: functions with `unsafe` in them, and macros
//! whose code comes from other crates.
//!
//! Takes the text of one file, gives the functions and items in which a value may be turned into something else without a
//! trace in any type: transmuted, read as bytes, written through a raw pointer. A file that cannot be read as Rust is all
//! of that kind. Pure: it resolves no names and reads no other file.

use proc_macro2::{TokenStream, TokenTree};
use rustc_hash::FxHashSet;
use syn::visit::{self, Visit};

/// What one file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFacts {
    /// Where nothing can be told about what happens to a value.
    pub opaque: Vec<Opaque>,
    /// Macros that the file defines, and what is in them.
    pub macros: Vec<MacroDefinition>,
    /// Names of the functions that are written out in it.
    pub functions: FxHashSet<String>,
}

/// A function or item that cannot be seen through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opaque {
    /// Its name, for messages.
    pub name: String,
    /// Every identifier in it, the type of its impl block included.
    pub words: FxHashSet<String>,
    /// What makes it so.
    pub cause: Cause,
}

/// What makes code opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// `unsafe`, or a function that foreign code calls.
    Unsafe,
    /// A macro of this name that is not the standard library's; it may be one of the program's own.
    Macro(String),
    /// The file cannot be read as Rust: why.
    Unreadable(String),
}

/// A `macro_rules!` definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MacroDefinition {
    /// Its name.
    pub name: String,
    /// There is `unsafe` in it.
    pub has_unsafe: bool,
    /// Macros that it uses in turn.
    pub uses: Vec<String>,
}

/// Reads one file.
#[must_use]
pub fn read(text: &str) -> SourceFacts {
    let mut reader = Reader::default();
    match syn::parse_file(text) {
        Ok(file) => reader.visit_file(&file),
        Err(why) => reader.facts.opaque.push(Opaque {
            name: "this file".into(),
            words: FxHashSet::default(),
            cause: Cause::Unreadable(why.to_string()),
        }),
    }
    reader.facts
}

/// Macros of the standard library, none of which hands a value to anybody who keeps it.
const STANDARD_MACROS: [&str; 40] = [
    "addr_of",
    "assert",
    "assert_eq",
    "assert_ne",
    "cfg",
    "column",
    "compile_error",
    "concat",
    "dbg",
    "debug_assert",
    "debug_assert_eq",
    "debug_assert_ne",
    "env",
    "eprint",
    "eprintln",
    "file",
    "format",
    "format_args",
    "include",
    "include_bytes",
    "include_str",
    "join",
    "line",
    "macro_rules",
    "matches",
    "module_path",
    "option_env",
    "panic",
    "pin",
    "print",
    "println",
    "ready",
    "stringify",
    "thread_local",
    "todo",
    "unimplemented",
    "unreachable",
    "vec",
    "write",
    "writeln",
];

/// Attributes and derives that generate nothing, or only code of the standard library's.
const KNOWN_ATTRIBUTES: [&str; 38] = [
    "allow",
    "automatically_derived",
    "cfg",
    "cfg_attr",
    "cold",
    "default",
    "deny",
    "deprecated",
    "derive",
    "doc",
    "expect",
    "export_name",
    "forbid",
    "global_allocator",
    "ignore",
    "inline",
    "link",
    "link_name",
    "link_section",
    "macro_export",
    "macro_use",
    "must_use",
    "no_mangle",
    "non_exhaustive",
    "path",
    "repr",
    "rustfmt",
    "should_panic",
    "target_feature",
    "test",
    "track_caller",
    "type_length_limit",
    "unsafe",
    "used",
    "warn",
    "recursion_limit",
    "no_std",
    "feature",
];
const KNOWN_DERIVES: [&str; 11] =
    ["Clone", "Copy", "Debug", "Default", "Eq", "Hash", "Ord", "PartialEq", "PartialOrd", "Serialize", "Deserialize"];

#[derive(Default)]
struct Reader {
    facts: SourceFacts,
    /// The words of the types whose impl blocks are open.
    within: Vec<FxHashSet<String>>,
}

/// What one item's tokens hold.
#[derive(Default)]
struct Tokens {
    words: FxHashSet<String>,
    has_unsafe: bool,
    is_extern: bool,
    macros: Vec<String>,
}

impl Tokens {
    fn of(stream: TokenStream) -> Tokens {
        let mut tokens = Tokens::default();
        tokens.take(stream);
        tokens
    }

    fn take(&mut self, stream: TokenStream) {
        // A macro is called by its name, an exclamation mark and a group.
        let (mut before, mut marked): (Option<String>, Option<String>) = (None, None);
        for token in stream {
            let word = match &token {
                TokenTree::Ident(ident) => Some(ident.to_string().trim_start_matches("r#").to_owned()),
                TokenTree::Group(group) => {
                    self.macros.extend(marked.take());
                    self.take(group.stream());
                    None
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => None,
            };
            let is_mark = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '!');
            marked = before.take().filter(|_| is_mark);
            if let Some(word) = &word {
                self.has_unsafe |= word == "unsafe";
                self.is_extern |= word == "extern";
                self.words.insert(word.clone());
            }
            before = word;
        }
    }
}

impl Reader {
    fn function(&mut self, name: &syn::Ident, item: &impl quote::ToTokens, attributes: &[syn::Attribute]) {
        self.facts.functions.insert(name.to_string());
        self.item(&name.to_string(), item, attributes);
    }

    /// Notes one item, if anything in it is opaque.
    fn item(&mut self, name: &str, item: &impl quote::ToTokens, attributes: &[syn::Attribute]) {
        let mut tokens = Tokens::of(item.to_token_stream());
        let mut causes: Vec<Cause> = Vec::new();
        if tokens.has_unsafe || tokens.is_extern {
            causes.push(Cause::Unsafe);
        }
        tokens.macros.retain(|name| !STANDARD_MACROS.contains(&name.as_str()) && !is_operand(name));
        causes.extend(std::mem::take(&mut tokens.macros).into_iter().map(Cause::Macro));
        causes.extend(generators(attributes).into_iter().map(Cause::Macro));
        let mut words = tokens.words;
        words.extend(self.within.iter().flatten().cloned());
        let opaque = |cause| Opaque { name: name.to_owned(), words: words.clone(), cause };
        self.facts.opaque.extend(causes.into_iter().map(opaque));
    }
}

/// `return !x` and `in !x` are no macros.
fn is_operand(word: &str) -> bool {
    [
        "return", "in", "if", "while", "match", "else", "break", "move", "as", "mut", "await", "dyn", "impl", "for",
        "where",
    ]
    .contains(&word)
}

/// Attributes that generate code nobody knows here.
fn generators(attributes: &[syn::Attribute]) -> Vec<String> {
    let mut found = Vec::new();
    for attribute in attributes {
        let Some(name) = attribute.path().segments.last().map(|segment| segment.ident.to_string()) else { continue };
        if name == "derive" {
            let each = attribute.parse_nested_meta(|derive| {
                let name = derive.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
                if !KNOWN_DERIVES.contains(&name.as_str()) {
                    found.push(name);
                }
                Ok(())
            });
            if each.is_err() {
                found.push(name);
            }
        } else if !KNOWN_ATTRIBUTES.contains(&name.as_str()) && name != "serde" {
            found.push(name);
        }
    }
    found
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.function(&function.sig.ident, function, &function.attrs);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.function(&function.sig.ident, function, &function.attrs);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        self.function(&function.sig.ident, function, &function.attrs);
        visit::visit_trait_item_fn(self, function);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.within.push(Tokens::of(quote::ToTokens::to_token_stream(&item.self_ty)).words);
        visit::visit_item_impl(self, item);
        self.within.pop();
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.item(&item.ident.to_string(), item, &item.attrs);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.item(&item.ident.to_string(), item, &item.attrs);
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.item(&item.ident.to_string(), item, &item.attrs);
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.item(&item.ident.to_string(), item, &item.attrs);
    }

    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        let invoked = item.mac.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
        if let (Some(name), "macro_rules") = (&item.ident, invoked.as_str()) {
            let tokens = Tokens::of(item.mac.tokens.clone());
            let uses = tokens.macros.into_iter().filter(|name| !STANDARD_MACROS.contains(&name.as_str())).collect();
            let definition = MacroDefinition { name: name.to_string(), has_unsafe: tokens.has_unsafe, uses };
            self.facts.macros.push(definition);
        } else {
            self.item(&invoked, item, &item.attrs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn causes(text: &str) -> Vec<(String, Cause)> {
        read(text).opaque.into_iter().map(|opaque| (opaque.name, opaque.cause)).collect()
    }

    #[test]
    fn ordinary_code_is_clear() {
        let text = "#[derive(Clone, Debug)]\nstruct S { a: u8 }\nimpl S {\n    fn f(&self) -> String { if self.a != (1) { return !(1); } format!(\"{}\", !self.ok()) }\n}\n";
        assert_eq!(causes(text), []);
    }

    #[test]
    fn unsafe_code_is_found_where_it_is() {
        let text = "fn f() {}\nstruct S;\nimpl S {\n    fn g(&self) {\n        let c = || unsafe { h() };\n    }\n}\n";
        let facts = read(text);
        assert_eq!(facts.opaque.len(), 1);
        assert_eq!(facts.opaque[0].name, "g");
        assert!(facts.functions.contains("f") && facts.functions.contains("g"));
        assert!(facts.opaque[0].words.contains("S"), "the type that `Self` stands for");
        assert_eq!(causes("extern \"C\" fn callback(s: S) {}"), [("callback".into(), Cause::Unsafe)]);
    }

    #[test]
    fn foreign_macros_are_found_and_own_ones_described() {
        let text =
            "macro_rules! get { ($x:expr) => { unsafe { other!($x) } } }\nfn f() { get!(1); vec![2]; println!(); }\n";
        let facts = read(text);
        let definition = MacroDefinition { name: "get".into(), has_unsafe: true, uses: vec!["other".into()] };
        assert_eq!(facts.macros, [definition]);
        assert_eq!(causes(text), [("f".into(), Cause::Macro("get".into()))]);
        assert_eq!(causes("#[derive(Pod, Clone)]\nstruct S;"), [("S".into(), Cause::Macro("Pod".into()))]);
        assert_eq!(causes("#[tokio::main]\nasync fn main() {}"), [("main".into(), Cause::Macro("main".into()))]);
        assert_eq!(causes("lazy! { static X: u8 = 1; }"), [("lazy".into(), Cause::Macro("lazy".into()))]);
    }

    #[test]
    fn what_is_no_rust_is_opaque_as_a_whole() {
        assert!(matches!(&causes("fn f( {")[..], [(_, Cause::Unreadable(_))]));
    }
}
