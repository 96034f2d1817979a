//! What can be changed in a file of the judge: its text to a list of mutants, each with the places it is written into.
//!
//! A mutant is put around an expression or a statement, or behind a brace, and decides when it runs whether it is on.
//! Tests, constants and what macros other than `format!` and `vec!` are given stay as they are.
#![allow(clippy::wildcard_enum_match_arm, reason = "the syntax of Rust has more kinds of expressions than are mutated")]

use std::ops::Range;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{BinOp, Block, Expr, Item, Lit, Pat, ReturnType, Stmt, Type, UnOp};

/// Where the chooser is; see `edit`.
const ON: &str = "crate::judge::mutants::on(@)";

/// Methods that give a `bool`.
const TELLING: [&str; 10] = [
    "all",
    "any",
    "contains",
    "ends_with",
    "is_alphanumeric",
    "is_empty",
    "is_none",
    "is_some",
    "is_some_and",
    "starts_with",
];

/// Methods whose closure gives a `bool`.
const ASKING: [&str; 7] = ["all", "any", "filter", "find", "is_some_and", "position", "retain"];

/// Whether a whole rule is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A rule is missing, or accepts everything.
    Rule,
    /// Anything else.
    Other,
}

/// One change.
pub(super) struct Mutant {
    /// From 1; what `RELIVE_MUTANT` says.
    pub(super) number: usize,
    /// The file's name in the folder of the judge.
    pub(super) file: String,
    pub(super) line: usize,
    pub(super) kind: Kind,
    /// In words.
    pub(super) what: String,
    /// What it is put around, in bytes; nothing if another mutant's text does its work.
    pub(super) ranges: Vec<Range<usize>>,
    /// Put before and behind; `@` stands for the number.
    pub(super) before: String,
    pub(super) after: String,
}

/// The mutants of a file.
pub(super) fn mutants(name: &str, text: &str) -> Result<Vec<Mutant>, String> {
    let file = syn::parse_file(text).map_err(|why| format!("is no Rust: {why}"))?;
    let mut finder = Finder { name, text, offset: offset(text, &file), found: Vec::new() };
    finder.table(&file);
    finder.visit_file(&file);
    Ok(finder.found)
}

/// Spans may count from anywhere; the first item's own text says where.
fn offset(text: &str, file: &syn::File) -> usize {
    let Some(first) = file.items.first() else { return 0 };
    let range = first.span().byte_range();
    let text_of = first.span().source_text().unwrap_or_default();
    text.find(&text_of).map_or(0, |at| range.start.saturating_sub(at))
}

struct Finder<'a> {
    name: &'a str,
    text: &'a str,
    offset: usize,
    found: Vec<Mutant>,
}

impl Finder<'_> {
    fn range(&self, of: &impl Spanned) -> Range<usize> {
        let Range { start, end } = of.span().byte_range();
        start.saturating_sub(self.offset)..end.saturating_sub(self.offset)
    }

    fn source(&self, of: &impl Spanned) -> String {
        let text = self.text.get(self.range(of)).unwrap_or_default();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn push(&mut self, kind: Kind, what: String, ranges: Vec<Range<usize>>, before: &str, after: &str) {
        let start = ranges.first().map_or(0, |range| range.start);
        let line = 1 + self.text.get(..start).unwrap_or_default().matches('\n').count();
        let (before, after) = (before.to_owned(), after.to_owned());
        self.found.push(Mutant { number: 0, file: self.name.to_owned(), line, kind, what, ranges, before, after });
    }

    fn around(&mut self, of: &impl Spanned, what: &str, before: &str, after: &str) {
        let what = format!("{what}: `{}`", cut(&self.source(of)));
        self.push(Kind::Other, what, vec![self.range(of)], before, after);
    }

    /// One mutant for each rule of the table: the table without it. The first one's text does the work of all.
    fn table(&mut self, file: &syn::File) {
        let table = file.items.iter().find_map(|item| match item {
            Item::Const(item) if item.ident == "RULES" => Some(item),
            _ => None,
        });
        let Some(table) = table else { return };
        let Expr::Reference(reference) = &*table.expr else { return };
        let Expr::Array(array) = &*reference.expr else { return };
        let mut uses = Uses { of: "RULES", found: Vec::new() };
        file.items.iter().filter(|item| !is_test(item)).for_each(|item| uses.visit_item(item));
        let mut uses: Vec<_> = uses.found.iter().map(|path| self.range(path)).collect();
        for rule in &array.elems {
            let what = format!("a rule is not in the table: `{}`", cut(&self.source(rule)));
            self.push(Kind::Rule, what, std::mem::take(&mut uses), "crate::judge::mutants::table(@, ", ")");
            let line = rule.span().start().line;
            self.found.last_mut().into_iter().for_each(|mutant| mutant.line = line);
        }
    }

    fn condition(&mut self, of: &Expr) {
        if has_let(of) {
            return;
        }
        self.around(of, "always true", &format!("({ON} || ("), "))");
        self.around(of, "always false", &format!("(!{ON} && ("), "))");
    }

    /// The function gives something else without looking.
    fn body(&mut self, signature: &syn::Signature, block: &Block) {
        let results: &[&str] = match &signature.output {
            ReturnType::Default => &[""],
            ReturnType::Type(_, of) => without_looking(of),
        };
        let open = block.brace_token.span.open().byte_range().end.saturating_sub(self.offset);
        let is_rule = signature.ident == "check";
        for result in results {
            let (kind, what) = match (is_rule, *result) {
                (true, _) => (Kind::Rule, "a rule that accepts everything".to_owned()),
                (false, "") => (Kind::Other, format!("`{}` does nothing", signature.ident)),
                (false, result) => (Kind::Other, format!("`{}` gives `{result}`", signature.ident)),
            };
            self.push(
                kind,
                what,
                std::iter::once(open..open).collect(),
                &format!(" if {ON} {{ return {result}; }} "),
                "",
            );
        }
    }

    /// The same expression with another operator.
    fn other_operator(&mut self, whole: &syn::ExprBinary, operator: &str) {
        let (left, right) = (self.source(&whole.left), self.source(&whole.right));
        let before = format!("(if {ON} {{ {left} {operator} {right} }} else {{ ");
        self.around(whole, &format!("`{operator}`"), &before, " })");
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(item) && !matches!(item, Item::Const(_) | Item::Static(_)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if function.sig.constness.is_none() {
            self.body(&function.sig, &function.block);
            visit::visit_item_fn(self, function);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if function.sig.constness.is_none() {
            self.body(&function.sig, &function.block);
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        // What stands behind `else` has to leave.
        local.init.iter().for_each(|init| self.visit_expr(&init.expr));
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        let goes = match statement {
            Stmt::Expr(Expr::ForLoop(_), _) => true,
            Stmt::Expr(expr, Some(_)) => matches!(
                expr,
                Expr::MethodCall(_)
                    | Expr::Call(_)
                    | Expr::Assign(_)
                    | Expr::Binary(_)
                    | Expr::Continue(_)
                    | Expr::Return(_)
                    | Expr::Break(_)
            ),
            Stmt::Expr(..) | Stmt::Local(_) | Stmt::Item(_) | Stmt::Macro(_) => false,
        };
        if goes {
            self.around(statement, "is left out", &format!("if !{ON} {{ "), " }");
        }
        visit::visit_stmt(self, statement);
    }

    fn visit_expr_if(&mut self, expr: &'ast syn::ExprIf) {
        self.condition(&expr.cond);
        visit::visit_expr_if(self, expr);
    }

    fn visit_expr_match(&mut self, expr: &'ast syn::ExprMatch) {
        let catches_all = expr.arms.last().is_some_and(|arm| catches_all(&arm.pat));
        for (at, arm) in expr.arms.iter().enumerate() {
            match &arm.guard {
                Some((_, guard)) => self.condition(guard),
                None if catches_all && at + 1 < expr.arms.len() => {
                    let end = self.range(&arm.pat).end;
                    let what = format!("an arm that never matches: `{}`", cut(&self.source(&arm.pat)));
                    self.push(Kind::Other, what, std::iter::once(end..end).collect(), &format!(" if !{ON}"), "");
                }
                None => {}
            }
        }
        visit::visit_expr_match(self, expr);
    }

    fn visit_expr_binary(&mut self, expr: &'ast syn::ExprBinary) {
        let number = |side: &Expr| matches!(side, Expr::Lit(lit) if matches!(lit.lit, Lit::Int(_)));
        let counts = number(&expr.left) || number(&expr.right);
        match expr.op {
            BinOp::Eq(_) | BinOp::Ne(_) => self.around(expr, "turned round", FLIP, ")"),
            BinOp::Lt(_) => self.other_operator(expr, "<="),
            BinOp::Le(_) => self.other_operator(expr, "<"),
            BinOp::Gt(_) => self.other_operator(expr, ">="),
            BinOp::Ge(_) => self.other_operator(expr, ">"),
            BinOp::Add(_) if counts => self.other_operator(expr, "-"),
            BinOp::Sub(_) if counts => self.other_operator(expr, "+"),
            _ => {}
        }
        if matches!(expr.op, BinOp::Lt(_) | BinOp::Le(_) | BinOp::Gt(_) | BinOp::Ge(_)) {
            self.around(expr, "turned round", FLIP, ")");
        }
        for side in [&expr.left, &expr.right].into_iter().filter(|side| !has_let(side)) {
            match expr.op {
                BinOp::And(_) => self.around(&**side, "always true", &format!("({ON} || ("), "))"),
                BinOp::Or(_) => self.around(&**side, "always false", &format!("(!{ON} && ("), "))"),
                _ => {}
            }
        }
        visit::visit_expr_binary(self, expr);
    }

    fn visit_expr_unary(&mut self, expr: &'ast syn::ExprUnary) {
        if matches!(expr.op, UnOp::Not(_)) {
            self.around(expr, "turned round", FLIP, ")");
        }
        visit::visit_expr_unary(self, expr);
    }

    fn visit_expr_lit(&mut self, expr: &'ast syn::ExprLit) {
        if matches!(expr.lit, Lit::Bool(_)) {
            self.around(expr, "turned round", FLIP, ")");
        }
    }

    fn visit_expr_method_call(&mut self, expr: &'ast syn::ExprMethodCall) {
        let name = expr.method.to_string();
        if TELLING.contains(&name.as_str()) {
            self.around(expr, "turned round", FLIP, ")");
        }
        for argument in expr.args.iter().filter(|_| ASKING.contains(&name.as_str())) {
            if let Expr::Closure(closure) = argument {
                self.condition(&closure.body);
            }
        }
        visit::visit_expr_method_call(self, expr);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if !(call.path.is_ident("format") || call.path.is_ident("vec")) {
            return;
        }
        let parser = syn::punctuated::Punctuated::<Expr, syn::Token![,]>::parse_terminated;
        if let Ok(arguments) = call.parse_body_with(parser) {
            arguments.iter().for_each(|argument| self.visit_expr(argument));
        }
    }
}

const FLIP: &str = "crate::judge::mutants::flip(@, ";

/// Values of a type that a careless function could give.
fn without_looking(of: &Type) -> &'static [&'static str] {
    match of {
        Type::Reference(reference) => match &*reference.elem {
            Type::Path(path) if path.path.is_ident("str") => &["\"\""],
            _ => &[],
        },
        Type::Path(path) => match path.path.segments.last().map(|segment| segment.ident.to_string()).as_deref() {
            Some("bool") => &["true", "false"],
            Some("String") => &["String::new()"],
            Some("Option") => &["None"],
            Some("Vec") => &["Vec::new()"],
            Some("u64" | "usize" | "u32") => &["0"],
            _ => &[],
        },
        _ => &[],
    }
}

/// A name in capitals is a variant.
fn catches_all(pattern: &Pat) -> bool {
    match pattern {
        Pat::Wild(_) => true,
        Pat::Ident(name) => name.ident.to_string().starts_with(|letter: char| letter.is_lowercase()),
        _ => false,
    }
}

fn is_test(item: &Item) -> bool {
    let attributes = match item {
        Item::Mod(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        _ => return false,
    };
    attributes.iter().any(|attribute| attribute.path().is_ident("cfg"))
}

/// A chain with `let` is no expression of its own.
fn has_let(expr: &Expr) -> bool {
    match expr {
        Expr::Let(_) => true,
        Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        _ => false,
    }
}

/// Short enough for a line.
fn cut(text: &str) -> String {
    const LONG: usize = 70;
    if text.chars().count() <= LONG { text.to_owned() } else { text.chars().take(LONG).collect::<String>() + ".." }
}

/// Where a name is used.
struct Uses<'a> {
    of: &'a str,
    found: Vec<proc_macro2::Span>,
}

impl<'ast> Visit<'ast> for Uses<'_> {
    fn visit_expr_path(&mut self, path: &'ast syn::ExprPath) {
        if path.path.is_ident(self.of) {
            self.found.push(path.span());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::edit;
    use super::*;

    /// What each mutant makes of `text`, with `on()` and `flip()` cut short.
    fn all(text: &str) -> Vec<String> {
        let found = mutants("a.rs", text).unwrap();
        let short = |text: String| text.replace("crate::judge::mutants::", "").replace("on(0)", "on");
        found.iter().map(|mutant| short(edit::apply(text, &[mutant]).text)).collect()
    }

    #[test]
    fn conditions_comparisons_and_statements_are_mutated() {
        assert_eq!(
            all("fn f() { if a == b { g(); } }"),
            [
                "fn f() { if on { return ; }  if a == b { g(); } }",
                "fn f() { if (on || (a == b)) { g(); } }",
                "fn f() { if (!on && (a == b)) { g(); } }",
                "fn f() { if flip(0, a == b) { g(); } }",
                "fn f() { if a == b { if !on { g(); } } }",
            ]
        );
        assert_eq!(all("fn f() -> &str { match x { A => 1, _ => 2 } }").len(), 2);
        assert_eq!(all("fn f() -> T { format!(\"{}\", a < b) }").len(), 2);
    }

    #[test]
    fn tests_and_constants_stay() {
        assert!(all("const A: bool = true;\n#[cfg(test)]\nmod tests { fn f() { g(); } }").is_empty());
        assert!(
            all("fn f() -> T { let Some(x) = y else { return z; }; if let Some(q) = x { q } else { w } }").is_empty()
        );
    }

    #[test]
    fn a_rule_leaves_the_table_wherever_it_is_used() {
        let text = "const RULES: &[R] = &[R, S];\nfn f() -> T { g(RULES, RULES.iter()) }";
        let found = mutants("mod.rs", text).unwrap();
        assert_eq!(found.iter().map(|mutant| (mutant.kind, mutant.line)).collect::<Vec<_>>(), [(Kind::Rule, 1); 2]);
        let edited = edit::apply(text, &found.iter().collect::<Vec<_>>()).text;
        assert!(
            edited.ends_with(
                "g(crate::judge::mutants::table(0, RULES), crate::judge::mutants::table(0, RULES).iter()) }"
            )
        );
    }
}
