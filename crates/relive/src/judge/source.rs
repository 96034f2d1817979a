//! Where an item is in the source: the path that debug information has for it to a file and a line.
//!
//! Debug information has lines for functions and variables, but none for types and traits. So the crate's own files are
//! read along the item's path, from the root through the modules it names, by a function that the session hands in. What
//! macros make is not found, and of several items of one name in a function only the function: no line is better than a
//! wrong one.
#![allow(clippy::wildcard_enum_match_arm, reason = "the syntax of Rust has more kinds of items than those looked for")]

use std::path::{Path, PathBuf};

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Ident, Item, ItemMod};

/// A crate that the program is made of.
#[derive(Clone, Debug)]
pub struct SourceCrate {
    /// Its name in paths.
    pub name: String,
    /// The file that the compiler was given.
    pub root: PathBuf,
}

/// The sources of the program.
pub struct Sources<'a> {
    /// Its crates; a library and an executable may have the same name.
    pub crates: Vec<SourceCrate>,
    /// The manifests that say how they are compiled, those of the crates before the workspace's.
    pub manifests: Vec<PathBuf>,
    /// Gives the text of a file, or nothing if it cannot be read.
    pub read: &'a dyn Fn(&Path) -> Option<String>,
}

/// A place in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The file, as the crate's root was named.
    pub file: PathBuf,
    /// Line in it, from 1.
    pub line: u32,
}

/// Modules in modules before it is given up.
const DEEPEST: usize = 64;

impl Sources<'_> {
    /// Where the type, trait, static or function `item` is defined; the line of the first of its `parts` (fields,
    /// variants, methods) that it has, otherwise the line of its name.
    pub(super) fn find(&self, item: &str, parts: &[&str]) -> Option<Spot> {
        let path: Vec<&str> = item.split('<').next()?.split("::").collect();
        let (name, rest) = path.split_first()?;
        let crates = self.crates.iter().filter(|known| known.name == *name);
        crates.filter_map(|known| self.in_crate(known, rest, parts)).next()
    }

    /// The first line of a manifest that sets one of `keys`.
    pub(super) fn setting(&self, keys: &[&str]) -> Option<Spot> {
        let sets = |line: &str| {
            let rest = keys.iter().find_map(|key| line.trim_start().strip_prefix(key));
            rest.is_some_and(|rest| rest.trim_start().starts_with(['=', '.']))
        };
        self.manifests.iter().find_map(|file| {
            let at = (self.read)(file)?.lines().position(sets)?;
            Some(Spot { file: file.clone(), line: u32::try_from(at + 1).ok()? })
        })
    }

    fn in_crate(&self, known: &SourceCrate, path: &[&str], parts: &[&str]) -> Option<Spot> {
        let mut module =
            Module { file: known.root.clone(), folder: known.root.parent()?.to_path_buf(), items: Vec::new() };
        module.items = self.items(&module.file)?;
        let mut path = path;
        for _ in 0..DEEPEST {
            let (name, rest) = path.split_first()?;
            let named = |item: &Item| matches!(item, Item::Mod(inner) if inner.ident == name);
            match module.items.iter().position(named).filter(|_| !rest.is_empty()) {
                Some(at) => module = self.enter(module, at)?,
                None => return Some(Spot { line: defined(&module.items, path, parts)?, file: module.file }),
            }
            path = rest;
        }
        None
    }

    /// The module that is the item `at` of `outer`: its items are between its braces or in a file of their own.
    fn enter(&self, mut outer: Module, at: usize) -> Option<Module> {
        let Item::Mod(inner) = outer.items.swap_remove(at) else { return None };
        let name = inner.ident.to_string();
        let name = name.strip_prefix("r#").unwrap_or(&name);
        let given = path_attribute(&inner);
        if let Some((_, items)) = inner.content {
            return Some(Module { file: outer.file, folder: outer.folder.join(name), items });
        }
        if let Some(given) = given {
            let file = outer.file.parent()?.join(given);
            return Some(Module { folder: file.parent()?.to_path_buf(), items: self.items(&file)?, file });
        }
        let (flat, deep) = (outer.folder.join(format!("{name}.rs")), outer.folder.join(name).join("mod.rs"));
        let (file, items) = [flat, deep].into_iter().find_map(|file| self.items(&file).map(|items| (file, items)))?;
        Some(Module { file, folder: outer.folder.join(name), items })
    }

    fn items(&self, file: &Path) -> Option<Vec<Item>> {
        Some(syn::parse_file(&(self.read)(file)?).ok()?.items)
    }
}

/// A module and where the files of the modules in it are.
struct Module {
    file: PathBuf,
    folder: PathBuf,
    items: Vec<Item>,
}

/// `#[path = "..."]`.
fn path_attribute(module: &ItemMod) -> Option<String> {
    let attribute = module.attrs.iter().find(|attribute| attribute.path().is_ident("path"))?;
    let syn::Expr::Lit(value) = &attribute.meta.require_name_value().ok()?.value else { return None };
    let syn::Lit::Str(text) = &value.lit else { return None };
    Some(text.value())
}

/// The line of the definition that `path` leads to, in functions and impls too. Of several in one function it is the
/// function's line; of others none is taken.
fn defined(items: &[Item], path: &[&str], parts: &[&str]) -> Option<u32> {
    let (name, outer) = path.split_last()?;
    let mut search =
        Search { name, function: outer.last().copied(), impls: 0, block: None, inside: Vec::new(), found: Vec::new() };
    items.iter().for_each(|item| search.visit_item(item));
    let mut found = search.found;
    // What the path says of the function that it is in decides, unless it has no name; then which impl that is in.
    if found.len() > 1 {
        found.retain(|definition| definition.fits);
    }
    let block = outer.iter().find_map(|part| part.strip_prefix("{impl#")?.strip_suffix('}')?.parse::<usize>().ok());
    if found.len() > 1 && found.iter().any(|definition| definition.block == block) {
        found.retain(|definition| definition.block == block);
    }
    let line = match found.as_slice() {
        [definition] => {
            let part = parts.iter().find_map(|part| definition.parts.iter().find(|(known, _)| known == part));
            part.map_or(definition.line, |(_, line)| *line)
        }
        [first, rest @ ..] => {
            let function = first.function.filter(|line| rest.iter().all(|other| other.function == Some(*line)));
            function?
        }
        [] => return None,
    };
    u32::try_from(line).ok()
}

/// A definition of the name that is looked for.
struct Definition {
    line: usize,
    /// It stands where the path says.
    fits: bool,
    /// The line of the function that it stands in.
    function: Option<usize>,
    /// The number of the impl that it stands in, as the compiler counts those that no macro makes.
    block: Option<usize>,
    /// Its fields, variants or methods and their lines.
    parts: Vec<(String, usize)>,
}

/// Looks for definitions of a name.
struct Search<'a> {
    name: &'a str,
    /// The last part of the path before the name.
    function: Option<&'a str>,
    /// Impls of the module so far, and which of them is around the present place.
    impls: usize,
    block: Option<usize>,
    /// The functions around the present place and their lines, outermost first.
    inside: Vec<(String, usize)>,
    found: Vec<Definition>,
}

impl Search<'_> {
    fn offer(&mut self, ident: &Ident, parts: Vec<(String, usize)>) {
        if ident == self.name {
            let around = self.inside.last();
            self.found.push(Definition {
                line: line_of(ident.span()),
                fits: around.map(|(name, _)| name.as_str()) == self.function,
                function: around.map(|(_, line)| *line),
                block: self.block,
                parts,
            });
        }
    }

    fn within(&mut self, ident: &Ident, look: impl FnOnce(&mut Self)) {
        self.inside.push((ident.to_string(), line_of(ident.span())));
        look(self);
        self.inside.pop();
    }

    /// `static NAME`, `struct NAME` and the like among what a macro is given, such as `thread_local!`.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut last = String::new();
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if matches!(last.as_str(), "static" | "struct" | "enum" | "union" | "trait" | "fn") {
                        self.offer(&ident, Vec::new());
                    }
                    last = ident.to_string();
                }
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Punct(_) | TokenTree::Literal(_) => last.clear(),
            }
        }
    }
}

impl<'ast> Visit<'ast> for Search<'_> {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.offer(&item.ident, fields(item.fields.iter()));
    }

    fn visit_item_union(&mut self, item: &'ast syn::ItemUnion) {
        self.offer(&item.ident, fields(item.fields.named.iter()));
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        let variants = item.variants.iter().map(|variant| (variant.ident.to_string(), line_of(variant.ident.span())));
        let inner = item.variants.iter().flat_map(|variant| fields(variant.fields.iter()));
        self.offer(&item.ident, variants.chain(inner).collect());
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        let method = |item: &syn::TraitItem| match item {
            syn::TraitItem::Fn(method) => Some((method.sig.ident.to_string(), line_of(method.sig.ident.span()))),
            _ => None,
        };
        self.offer(&item.ident, item.items.iter().filter_map(method).collect());
        visit::visit_item_trait(self, item);
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.offer(&item.ident, Vec::new());
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.offer(&item.sig.ident, Vec::new());
        self.within(&item.sig.ident, |search| visit::visit_item_fn(search, item));
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        // Those in functions are counted for themselves.
        if self.inside.is_empty() {
            self.block = Some(self.impls);
            self.impls += 1;
        }
        visit::visit_item_impl(self, item);
        if self.inside.is_empty() {
            self.block = None;
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.within(&item.sig.ident, |search| visit::visit_impl_item_fn(search, item));
    }

    fn visit_item_mod(&mut self, _: &'ast ItemMod) {
        // Another path.
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(call.tokens.clone());
    }
}

fn fields<'a>(of: impl Iterator<Item = &'a syn::Field>) -> Vec<(String, usize)> {
    let line = |(at, field): (usize, &syn::Field)| match &field.ident {
        Some(ident) => (ident.to_string(), line_of(ident.span())),
        None => (format!("__{at}"), first_line(&field.ty)),
    };
    of.enumerate().map(line).collect()
}

/// Debug information calls the fields of a tuple `__0`, `__1` and so on; in the source they have a type alone.
fn first_line(of: &syn::Type) -> usize {
    line_of(syn::spanned::Spanned::span(of))
}

fn line_of(span: Span) -> usize {
    span.start().line
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: &str =
        "mod shapes;\nmod inner {\n    mod deep;\n    struct Here;\n}\n#[path = \"odd/name.rs\"]\nmod odd;
struct World {
    name: String,
    speed: u64,
}
struct Pair(
    u8,
    u16,
);
enum Mode { Slow,
    Fast { gear: u8,
        top: u8 } }
thread_local! {
    static DEPTH: u8 = 3;
}
trait Animal {
    fn name(&self);
    fn legs(&self) { struct Four; }
}
impl Pair {
    fn go() { struct Local; }
    fn come() {
        struct Local;
        struct Only;
    }
}
union Bits { a: u8,
    b: f32 }
fn go() { static COUNT: u8 = 3; }
fn end() {
    static COUNT: u8 = 3;
}
mod World {}
impl World {
    fn come() { struct Local { a: u8,
        b: u8 } }
}
fn twice() {
    { struct Same; }
    { struct Same; }
}
";

    fn read(path: &Path) -> Option<String> {
        let text = match path.to_str()? {
            "/p/src/main.rs" => MAIN,
            "/p/src/shapes/mod.rs" => "mod round;\nstruct Dot;",
            "/p/src/shapes/round.rs" => "\nstruct Disk;",
            "/p/src/inner/deep.rs" => "\n\nstruct Low;",
            "/p/src/odd/name.rs" => "mod more;",
            "/p/src/odd/more.rs" => "\n\n\nstruct Odd;",
            "/p/src/lib.rs" => "struct OfLibrary;",
            "/p/Cargo.toml" => "[dependencies]\nlogging = \"1\"\nlog.workspace = true\n",
            "/Cargo.toml" => "[profile.dev]\n opt-level = 1\n",
            _ => return None,
        };
        Some(text.to_owned())
    }

    fn sources() -> Sources<'static> {
        let known = |name: &str, root: &str| SourceCrate { name: name.into(), root: root.into() };
        Sources {
            crates: vec![known("app", "/p/src/main.rs"), known("app", "/p/src/lib.rs"), known("gone", "/q/lib.rs")],
            manifests: vec!["/p/Cargo.toml".into(), "/Cargo.toml".into()],
            read: &read,
        }
    }

    #[track_caller]
    fn found(item: &str, parts: &[&str], expected: &str) {
        let spot = sources().find(item, parts).map(|spot| format!("{}:{}", spot.file.display(), spot.line));
        assert_eq!(spot.unwrap_or_default(), expected, "{item}");
    }

    #[test]
    fn modules_are_followed_into_their_files() {
        found("app::World", &[], "/p/src/main.rs:8");
        found("app::shapes::Dot", &[], "/p/src/shapes/mod.rs:2");
        found("app::shapes::round::Disk", &[], "/p/src/shapes/round.rs:2");
        found("app::inner::Here", &[], "/p/src/main.rs:4");
        found("app::inner::deep::Low", &[], "/p/src/inner/deep.rs:3");
        found("app::odd::more::Odd", &[], "/p/src/odd/more.rs:4");
        found("app::OfLibrary", &[], "/p/src/lib.rs:1");
        found("app::World<app::shapes::Dot>", &[], "/p/src/main.rs:8");
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for item in ["app::Nothing", "other::World", "gone::World", "app::inner::World", "app", "", "app::shapes"] {
            found(item, &[], "");
        }
    }

    #[test]
    fn parts_have_their_own_lines() {
        found("app::World", &["app", "speed", "name"], "/p/src/main.rs:10");
        found("app::Pair", &["__1"], "/p/src/main.rs:14");
        found("app::Mode", &["Fast"], "/p/src/main.rs:17");
        found("app::Mode", &["top"], "/p/src/main.rs:18");
        found("app::Animal", &["legs"], "/p/src/main.rs:24");
        found("app::Bits", &["b"], "/p/src/main.rs:34");
        found("app::World", &["gone"], "/p/src/main.rs:8");
    }

    #[test]
    fn items_in_functions_and_macros_are_found_if_there_is_one() {
        found("app::DEPTH", &[], "/p/src/main.rs:20");
        found("app::{impl#0}::come::Only", &[], "/p/src/main.rs:30");
        found("app::{impl#0}::come::Local", &[], "/p/src/main.rs:29");
        found("app::Animal::legs::Four", &[], "/p/src/main.rs:24");
        found("app::end::COUNT", &[], "/p/src/main.rs:37");
        found("app::COUNT", &[], "");
    }

    #[test]
    fn items_of_one_name_go_by_their_impl_or_else_by_their_function() {
        found("app::{impl#1}::come::Local", &["b"], "/p/src/main.rs:42");
        found("app::{impl#7}::come::Local", &[], "");
        found("app::twice::Same", &[], "/p/src/main.rs:44");
    }

    #[test]
    fn settings_are_found_in_manifests() {
        let line = |keys: &[&str]| sources().setting(keys).map(|spot| (spot.file, spot.line));
        assert_eq!(line(&["opt-level"]), Some(("/Cargo.toml".into(), 2)));
        assert_eq!(line(&["log"]), Some(("/p/Cargo.toml".into(), 3)));
        assert_eq!(line(&["debug", "logging"]), Some(("/p/Cargo.toml".into(), 2)));
        assert_eq!(line(&["lo"]), None);
    }
}
