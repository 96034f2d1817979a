//! Text to facts about the code that is surely compiled: items under `#[cfg(..)]` and the insides of macros are left out.
//!
//! It knows no types: a name is a name.
#![expect(clippy::wildcard_enum_match_arm, reason = "what is mutated is a few shapes of all that Rust has")]

use std::collections::BTreeSet;

use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

use super::facts::{
    Alias, Brace, Bytes, Call, Closure, Facts, Function, Holder, Literal, Match, Statement, Trait, Type,
};

/// Reads a file; `None` if it is no Rust.
pub(crate) fn facts(text: &str) -> Option<Facts> {
    proc_macro2::extra::invalidate_current_thread_spans(); // those of the files before; they are never used again
    let file = syn::parse_file(text).ok()?;
    let mut reader = Reader { facts: Facts::default(), at: At::default(), containers: 0 };
    reader.visit_file(&file);
    Some(reader.facts)
}

struct Reader {
    facts: Facts,
    at: At,
    containers: usize,
}

/// Where the reader is.
#[derive(Clone, Default)]
struct At {
    container: usize,
    self_type: String,
    in_trait: bool,
    /// In a body whose code runs.
    in_body: bool,
    is_async: bool,
    statement: usize,
    holder: Option<(Holder, String)>,
}

impl Reader {
    /// Does something with another idea of where it is.
    fn within(&mut self, change: impl FnOnce(&mut At), action: impl FnOnce(&mut Reader)) {
        let before = self.at.clone();
        change(&mut self.at);
        action(self);
        self.at = before;
    }

    fn new_container(&mut self) -> usize {
        self.containers += 1;
        self.containers
    }

    fn function(&mut self, whole: Bytes, visible: bool, sig: &syn::Signature, block: &syn::Block) {
        let is_const = sig.constness.is_some();
        let close = sig.paren_token.span.close().byte_range().start;
        self.facts.functions.push(Function {
            name: sig.ident.to_string(),
            whole,
            is_const,
            is_private: !visible && !self.at.in_trait,
            parameters_end: close,
            needs_comma: !sig.inputs.is_empty() && !sig.inputs.trailing_punct(),
            container: self.at.container,
        });
        let is_async = sig.asyncness.is_some();
        let container = self.new_container();
        let change = |at: &mut At| {
            (at.in_body, at.is_async, at.container, at.holder) = (!is_const, is_async, container, None);
        };
        self.within(change, |reader| reader.visit_block(block));
    }

    fn literal(&mut self, place: Bytes) {
        let (holder, owner) = match &self.at.holder {
            Some(holder) => holder.clone(),
            None if self.at.in_body => (Holder::Body, String::new()),
            None => return,
        };
        self.facts.literals.push(Literal { place, holder, owner });
    }

    fn constant(&mut self, name: &syn::Ident, expr: &syn::Expr, is_static: bool) {
        let holder = match expr {
            _ if is_static => Holder::Static,
            syn::Expr::Array(_) => Holder::ConstTable,
            syn::Expr::Reference(reference) if matches!(*reference.expr, syn::Expr::Array(_)) => Holder::ConstTable,
            _ => Holder::Const,
        };
        let holder = Some((holder, name.to_string()));
        self.within(|at| at.holder = holder, |reader| reader.visit_expr(expr));
    }

    fn brace(&mut self, path: &syn::Path, inside: usize, is_pattern: bool, has_rest: bool) {
        let Some(type_name) = path.segments.last().map(|last| self.named(&last.ident)) else { return };
        self.facts.braces.push(Brace { type_name, inside, is_pattern, has_rest });
    }

    /// A name, with `Self` resolved.
    fn named(&self, ident: &syn::Ident) -> String {
        if ident == "Self" { self.at.self_type.clone() } else { ident.to_string() }
    }

    fn call(&mut self, name: String, paren: &syn::token::Paren, needs_comma: bool) {
        self.facts.calls.push(Call { name, arguments_end: paren.span.close().byte_range().start, needs_comma });
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if attributes(item).is_some_and(is_conditional) {
            return;
        }
        if !self.at.in_body && !matches!(item, syn::Item::Use(_) | syn::Item::ExternCrate(_)) {
            self.facts.items.push(item.span().byte_range().start);
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let container = self.new_container();
        self.within(|at| at.container = container, |reader| visit::visit_item_mod(reader, module));
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        let visible = !matches!(item.vis, syn::Visibility::Inherited);
        self.function(item.span().byte_range(), visible, &item.sig, &item.block);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let self_type = last_name(&item.self_ty);
        let trait_name = item.trait_.as_ref().and_then(|(_, path, _)| path.segments.last());
        if trait_name.is_some_and(|last| last.ident == "Drop") {
            self.facts.dropped.insert(self_type.clone());
        }
        let (in_trait, container) = (item.trait_.is_some(), self.new_container());
        if !in_trait {
            self.facts.inherent_impls.push(item.brace_token.span.close().byte_range().start);
        }
        let change = |at: &mut At| {
            *at = At { container, self_type, in_trait, ..At::default() };
        };
        self.within(change, |reader| item.items.iter().for_each(|item| reader.visit_impl_item(item)));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_conditional(&item.attrs) {
            let visible = !matches!(item.vis, syn::Visibility::Inherited);
            self.function(item.span().byte_range(), visible, &item.sig, &item.block);
        }
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        let methods = item.items.iter().filter(|item| matches!(item, syn::TraitItem::Fn(_)));
        let methods = methods.map(|item| item.span().byte_range()).collect();
        self.facts.traits.push(Trait { documentation: documentation(&item.attrs), methods });
        let container = self.new_container();
        let change = |at: &mut At| *at = At { container, in_trait: true, ..At::default() };
        self.within(change, |reader| item.items.iter().for_each(|item| reader.visit_trait_item(item)));
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(item.span().byte_range(), true, &item.sig, block);
        }
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.visit_type(&item.ty);
        self.constant(&item.ident, &item.expr, false);
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.constant(&item.ident, &item.expr, false);
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.visit_type(&item.ty);
        self.constant(&item.ident, &item.expr, true);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        visit::visit_item_struct(self, item);
        let syn::Fields::Named(fields) = &item.fields else { return };
        let names = fields.named.iter().filter_map(|field| field.ident.as_ref().map(ToString::to_string));
        self.facts.types.push(Type {
            name: item.ident.to_string(),
            is_enum: false,
            is_generic: !item.generics.params.is_empty(),
            documentation: documentation(&item.attrs),
            end: item.span().byte_range().end,
            members: fields.named.iter().map(|field| field.span().byte_range()).collect(),
            names: names.collect(),
        });
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        for variant in &item.variants {
            visit::visit_fields(self, &variant.fields); // discriminants are no literals of a body
        }
        self.facts.types.push(Type {
            name: item.ident.to_string(),
            is_enum: true,
            is_generic: !item.generics.params.is_empty(),
            documentation: documentation(&item.attrs),
            end: item.span().byte_range().end,
            members: item.variants.iter().map(|variant| variant.span().byte_range()).collect(),
            names: item.variants.iter().map(|variant| variant.ident.to_string()).collect(),
        });
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        let target = item.ty.span().byte_range();
        self.facts.aliases.push(Alias { documentation: documentation(&item.attrs), target });
        self.visit_type(&item.ty);
    }

    fn visit_type(&mut self, ty: &'ast syn::Type) {
        let mut names = Names::default();
        names.visit_type(ty);
        self.facts.in_types.extend(names.found);
    }

    fn visit_generic_argument(&mut self, argument: &'ast syn::GenericArgument) {
        let mut names = Names::default();
        names.visit_generic_argument(argument);
        self.facts.in_types.extend(names.found);
    }

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    fn visit_pat(&mut self, pattern: &'ast syn::Pat) {
        if let syn::Pat::Struct(pattern) = pattern {
            let inside = pattern.brace_token.span.open().byte_range().end;
            self.brace(&pattern.path, inside, true, pattern.rest.is_some());
        }
        if !matches!(pattern, syn::Pat::Lit(_) | syn::Pat::Range(_) | syn::Pat::Const(_)) {
            visit::visit_pat(self, pattern);
        }
    }

    fn visit_stmt(&mut self, statement: &'ast syn::Stmt) {
        let start = statement.span().byte_range().start;
        if self.at.in_body && !matches!(statement, syn::Stmt::Item(_)) {
            self.facts.statements.push(Statement { start, is_async: self.at.is_async });
        }
        self.within(|at| at.statement = start, |reader| visit::visit_stmt(reader, statement));
    }

    fn visit_expr_closure(&mut self, closure: &'ast syn::ExprClosure) {
        if self.at.in_body {
            let body = closure.body.span().byte_range();
            let is_move = closure.capture.is_some();
            self.facts.closures.push(Closure { statement: self.at.statement, body, is_move });
        }
        self.within(|at| at.is_async = false, |reader| visit::visit_expr_closure(reader, closure));
    }

    fn visit_expr_async(&mut self, block: &'ast syn::ExprAsync) {
        self.within(|at| at.is_async = true, |reader| visit::visit_expr_async(reader, block));
    }

    fn visit_expr_lit(&mut self, literal: &'ast syn::ExprLit) {
        if matches!(literal.lit, syn::Lit::Int(_) | syn::Lit::Str(_)) {
            self.literal(literal.lit.span().byte_range());
        }
    }

    fn visit_expr_repeat(&mut self, repeat: &'ast syn::ExprRepeat) {
        let mut names = Names::default();
        names.visit_expr(&repeat.len);
        self.facts.in_types.extend(names.found);
        self.visit_expr(&repeat.expr);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let formats = ["format", "write", "writeln", "panic"];
        if !call.path.segments.last().is_some_and(|last| formats.iter().any(|name| last.ident == name)) {
            return;
        }
        let first = call.tokens.clone().into_iter().find_map(|token| match token {
            proc_macro2::TokenTree::Literal(literal) => Some(literal),
            proc_macro2::TokenTree::Group(_) | proc_macro2::TokenTree::Ident(_) | proc_macro2::TokenTree::Punct(_) => {
                None
            }
        });
        if let Some(literal) = first.filter(|literal| literal.to_string().starts_with('"')) {
            self.literal(literal.span().byte_range());
        }
    }

    fn visit_expr_binary(&mut self, binary: &'ast syn::ExprBinary) {
        let other = match binary.op {
            syn::BinOp::Add(_) => Some("-"),
            syn::BinOp::Sub(_) => Some("+"),
            syn::BinOp::Lt(_) => Some("<="),
            syn::BinOp::Gt(_) => Some(">="),
            syn::BinOp::Eq(_) => Some("!="),
            syn::BinOp::And(_) => Some("||"),
            syn::BinOp::BitXor(_) => Some("|"),
            _ => None,
        };
        if let Some(other) = other.filter(|_| self.at.in_body && self.at.holder.is_none()) {
            self.facts.operators.push((binary.op.span().byte_range(), other));
        }
        visit::visit_expr_binary(self, binary);
    }

    fn visit_expr_struct(&mut self, literal: &'ast syn::ExprStruct) {
        let inside = literal.brace_token.span.open().byte_range().end;
        self.brace(&literal.path, inside, false, literal.rest.is_some());
        visit::visit_expr_struct(self, literal);
    }

    fn visit_expr_match(&mut self, expr: &'ast syn::ExprMatch) {
        visit::visit_expr_match(self, expr);
        let mut enums = Enums::default();
        expr.arms.iter().for_each(|arm| enums.visit_pat(&arm.pat));
        let enums = enums.found.iter().map(|ident| self.named(ident)).collect();
        let is_wildcard =
            |arm: &syn::Arm| arm.guard.is_none() && matches!(arm.pat, syn::Pat::Wild(_) | syn::Pat::Ident(_));
        let last = expr.arms.last();
        self.facts.matches.push(Match {
            enums,
            has_wildcard: expr.arms.iter().any(is_wildcard),
            end: expr.brace_token.span.close().byte_range().start,
            needs_comma: last.is_some_and(|arm| arm.comma.is_none() && !matches!(*arm.body, syn::Expr::Block(_))),
        });
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let syn::Expr::Path(path) = &*call.func
            && let Some(last) = path.path.segments.last()
        {
            self.call(last.ident.to_string(), &call.paren_token, needs_comma(&call.args));
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.call(call.method.to_string(), &call.paren_token, needs_comma(&call.args));
        visit::visit_expr_method_call(self, call);
    }
}

/// The identifiers of a type.
#[derive(Default)]
struct Names {
    found: BTreeSet<String>,
}

impl<'ast> Visit<'ast> for Names {
    fn visit_ident(&mut self, ident: &'ast proc_macro2::Ident) {
        self.found.insert(ident.to_string());
    }
}

/// The last but one names of the paths of a pattern.
#[derive(Default)]
struct Enums {
    found: Vec<syn::Ident>,
}

impl<'ast> Visit<'ast> for Enums {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.found.extend(path.segments.iter().rev().nth(1).map(|segment| segment.ident.clone()));
    }
}

fn needs_comma(arguments: &syn::punctuated::Punctuated<syn::Expr, syn::Token![,]>) -> bool {
    !arguments.is_empty() && !arguments.trailing_punct()
}

fn last_name(ty: &syn::Type) -> String {
    match ty {
        syn::Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default(),
        _ => String::new(),
    }
}

fn is_conditional(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| ["cfg", "cfg_attr", "test"].iter().any(|name| attribute.path().is_ident(name)))
}

fn attributes(item: &syn::Item) -> Option<&[syn::Attribute]> {
    Some(match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => return None,
    })
}

/// The text of the documentation comments.
fn documentation(attributes: &[syn::Attribute]) -> String {
    let mut text = String::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("doc")) {
        if let syn::Meta::NameValue(pair) = &attribute.meta
            && let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(line), .. }) = &pair.value
        {
            text.push_str(&line.value());
        }
    }
    text
}
