//! The text of a program of some hundred codegen units: modules with types, trait objects, closures, generics, jump
//! tables and statics, in the mixture of an ordinary application, and one module of many functions that share a constant.

use std::fmt::Write as _;

/// Modules; each becomes one or two codegen units.
const MODULES: usize = 160;
/// Functions that use the shared constant.
pub(crate) const SHARING: usize = 200;

/// A state of the program: `constant` stands in one function, `shared` in [`SHARING`] others.
pub(crate) fn text(constant: u64, shared: u64) -> String {
    let mut out = String::from("#![allow(dead_code)]\n");
    let mut calls = String::new();
    for at in 0..MODULES {
        let constant = if at == MODULES / 2 { constant } else { 7 };
        out.push_str(&MODULE.replace("@CONSTANT", &constant.to_string()).replace('@', &at.to_string()));
        let _ = writeln!(calls, "    sum = sum.wrapping_add(m{at}::act(sum));");
    }
    let _ = writeln!(out, "pub mod sharing {{\n    pub const SHARED: u64 = {shared};");
    for at in 0..SHARING {
        let _ = writeln!(out, "{}", FUNCTION.replace('@', &at.to_string()));
        let _ = writeln!(calls, "    sum = sum.wrapping_add(sharing::f{at}(sum, &mut names));");
    }
    let _ = write!(out, "}}\nfn main() {{\n    let mut sum = 1u64;\n    let mut names = Vec::new();\n{calls}");
    out.push_str("    println!(\"{sum} {}\", names.len());\n}\n");
    out
}

const FUNCTION: &str = r#"
    pub fn f@(sum: u64, names: &mut Vec<String>) -> u64 {
        let step = sum.wrapping_mul(SHARED) ^ @;
        if step % 3 == 1 { names.push(format!("f@ {step:>8} of {}", names.len())); }
        names.last().map_or(step, |name| step.wrapping_add(name.len() as u64))
    }"#;

const MODULE: &str = r#"
pub mod m@ {
    use std::collections::{BTreeMap, HashMap};
    use std::fmt;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    pub static CALLS: AtomicU64 = AtomicU64::new(@);
    pub static SEEN: Mutex<Vec<Item@>> = Mutex::new(Vec::new());
    thread_local! { static DEPTH: std::cell::Cell<u32> = const { std::cell::Cell::new(@) }; }

    #[derive(Clone, Debug, Default, PartialEq, PartialOrd)]
    pub struct Item@ { pub id: u64, pub name: String, pub parts: Vec<u32>, pub next: Option<Box<Item@>> }

    #[derive(Clone, Debug, PartialEq)]
    pub enum Shape@ { Dot, Line { from: (i32, i32), to: (i32, i32) }, Many(Vec<Item@>), Named(String, u8) }

    #[derive(Debug)]
    pub enum Error@ { Empty, Number(std::num::ParseIntError), TooLong(usize) }

    impl From<std::num::ParseIntError> for Error@ {
        fn from(error: std::num::ParseIntError) -> Self { Error@::Number(error) }
    }

    impl fmt::Display for Shape@ {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Shape@::Dot => f.write_str("dot@"),
                Shape@::Line { from, to } => write!(f, "line {from:?} to {to:?}"),
                Shape@::Many(items) => write!(f, "{} items", items.len()),
                Shape@::Named(name, size) => write!(f, "{name:>12}: {size:04}"),
            }
        }
    }

    pub trait Draw@ {
        fn draw(&self, depth: u32) -> String;
        fn area(&self) -> u64 { self.draw(1).len() as u64 + @ }
    }

    impl Draw@ for Item@ {
        fn draw(&self, depth: u32) -> String {
            let inner = self.next.as_ref().map_or(String::new(), |next| next.draw(depth + 1));
            format!("{}{}:{:?}{inner}", " ".repeat(depth as usize), self.name, self.parts)
        }
    }

    impl Draw@ for Shape@ {
        fn draw(&self, depth: u32) -> String { format!("{depth} {self}") }
        fn area(&self) -> u64 {
            match self { Shape@::Dot => 0, Shape@::Line { from, to } => from.0.abs_diff(to.1).into(), _ => 3 }
        }
    }

    pub struct Stack@<T> { items: Vec<T>, top: usize }

    impl<T: Clone + fmt::Debug> Stack@<T> {
        pub fn new() -> Self { Stack@ { items: Vec::new(), top: 0 } }
        pub fn push(&mut self, item: T) -> &mut Self { self.items.push(item); self.top += 1; self }
        pub fn map<U>(&self, f: impl Fn(&T) -> U) -> Vec<U> { self.items.iter().map(f).collect() }
        pub fn text(&self) -> String { format!("{:?}", self.items.first()) }
    }

    impl<T> Drop for Stack@<T> { fn drop(&mut self) { CALLS.fetch_add(self.top as u64, Ordering::Relaxed); } }

    pub fn code(n: u64) -> u32 {
        match n % 12 { 0 => 17, 1 => 4, 2 => 250, 3 => 9, 4 => 81, 5 => 6, 6 => 77, 7 => 12, 8 => 5, 9 => 31, _ => 2 }
    }

    pub fn parse(text: &str) -> Result<Vec<u64>, Error@> {
        if text.is_empty() { return Err(Error@::Empty); }
        let numbers: Result<Vec<u64>, _> = text.split(',').map(|part| part.trim().parse::<u64>()).collect();
        let numbers = numbers?;
        if numbers.len() > 64 { Err(Error@::TooLong(numbers.len())) } else { Ok(numbers) }
    }

    pub fn group(items: &[Item@]) -> BTreeMap<String, Vec<u64>> {
        let mut groups = BTreeMap::new();
        for item in items { groups.entry(item.name.clone()).or_insert_with(Vec::new).push(item.id); }
        groups
    }

    pub fn index(items: &[Item@]) -> HashMap<u64, Item@> {
        items.iter().map(|item| (item.id, item.clone())).collect()
    }

    pub fn adders(n: u64) -> Vec<Box<dyn Fn(u64) -> u64 + Send>> {
        let label = format!("adder {n}");
        vec![Box::new(move |x| x + n), Box::new(|x| x * 3 + @), Box::new(move |x| x ^ label.len() as u64)]
    }

    pub fn act(n: u64) -> u64 {
        let mut items: Vec<Item@> = (0..n % 5 + 1)
            .map(|id| Item@ { id, name: format!("item {}", id % 2), parts: vec![id as u32; 3], next: None })
            .collect();
        items.sort_by(|a, b| b.name.cmp(&a.name).then_with(|| a.id.cmp(&b.id)));
        let shapes = [Shape@::Dot, Shape@::Many(items.clone()), Shape@::Named("n".into(), @CONSTANT as u8)];
        let drawn: Vec<Box<dyn Draw@>> = shapes.iter().map(|shape| Box::new(shape.clone()) as Box<dyn Draw@>).collect();
        let mut stack = Stack@::new();
        for shape in &shapes { stack.push(shape.to_string()); }
        let lengths: usize = stack.map(|text| text.len()).iter().sum();
        let areas: u64 = drawn.iter().map(|shape| shape.area()).sum();
        let through = adders(n).iter().fold(n % 1000, |n, adder| adder(n) % 100_000);
        DEPTH.with(|depth| depth.set(depth.get() + code(n)));
        let parsed = parse("1, 2,3").map_or(0, |numbers| numbers.iter().sum());
        let found = index(&items).get(&(n % 3)).map_or(0, |item| item.id);
        if let Ok(mut seen) = SEEN.lock() { seen.extend(items.iter().cloned()); }
        group(&items).len() as u64 + lengths as u64 + areas + through + parsed + found
    }
}
"#;
