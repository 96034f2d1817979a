//! Kinds that add something beside what is there: statements, closures, functions, impls, statics, awaits, lines.

use super::Soundness::{Open, Sound};
use super::{Candidate, Site, Soundness};

fn sound(splices: Vec<super::Splice>) -> Candidate {
    Candidate { splices, soundness: Sound }
}

pub(super) fn comment(site: &Site<'_>) -> Vec<Candidate> {
    let starts = site.facts.statements.iter().map(|statement| statement.start);
    let text = format!("// remark {}\n", site.number);
    starts.chain(site.facts.items.iter().copied()).map(|start| sound(vec![site.insert(start, &*text)])).collect()
}

pub(super) fn top_lines(site: &Site<'_>) -> Vec<Candidate> {
    vec![sound(vec![site.insert(0, "\n".repeat(site.number % 5 + 1))])]
}

pub(super) fn functions_swapped(site: &Site<'_>) -> Vec<Candidate> {
    let functions = &site.facts.functions;
    let neighbours = functions.iter().enumerate().filter_map(|(at, first)| {
        let second = functions.iter().skip(at + 1).find(|second| second.container == first.container)?;
        Some((first, second))
    });
    neighbours.map(|(first, second)| sound(site.swap(&first.whole, &second.whole))).collect()
}

pub(super) fn function(site: &Site<'_>) -> Vec<Candidate> {
    let number = site.number;
    let text = format!("#[allow(dead_code)]\nfn added_{number}(value: u64) -> u64 {{\n    value ^ {number}\n}}\n\n");
    let starts = site.facts.functions.iter().filter(|function| site.facts.items.contains(&function.whole.start));
    starts.map(|function| sound(vec![site.insert(function.whole.start, &*text)])).collect()
}

pub(super) fn method(site: &Site<'_>) -> Vec<Candidate> {
    let number = site.number;
    let text = format!(
        "\n    #[allow(dead_code)]\n    fn added_{number}(&self, value: u64) -> u64 {{\n        value + {number}\n    }}\n"
    );
    site.facts.inherent_impls.iter().map(|end| sound(vec![site.insert(*end, &*text)])).collect()
}

pub(super) fn implementation(site: &Site<'_>) -> Vec<Candidate> {
    let number = site.number;
    let plain = site.facts.types.iter().filter(|ty| !ty.is_generic);
    let candidate = |ty: &super::facts::Type| {
        let text = format!(
            "\n\n#[allow(dead_code)]\ntrait Added{number} {{\n    fn added(&self) -> u64 {{\n        {number}\n    }}\n}}\n\nimpl Added{number} for {} {{}}",
            ty.name
        );
        sound(vec![site.insert(ty.end, text)])
    };
    plain.map(candidate).collect()
}

pub(super) fn nested_function(site: &Site<'_>) -> Vec<Candidate> {
    let number = site.number;
    site.statements(
        Sound,
        &format!("{{ fn nested_{number}(value: u64) -> u64 {{ value ^ {number} }} core::hint::black_box(nested_{number}(3)); }}"),
    )
}

pub(super) fn closure(site: &Site<'_>) -> Vec<Candidate> {
    let number = site.number;
    site.statements(
        Sound,
        &format!(
            "{{ let base = {number}_u64; let added = |value: u64| value.wrapping_mul(base); core::hint::black_box(added(5)); }}"
        ),
    )
}

/// A function that is new, and a call of it.
pub(super) fn call(site: &Site<'_>) -> Vec<Candidate> {
    let number = site.number;
    let function =
        format!("\n#[inline(never)]\nfn called_{number}(value: u64) -> u64 {{ value.rotate_left({}) }}\n", number % 64);
    with_function(site, &function, &format!("core::hint::black_box(called_{number}({number}));"))
}

pub(super) fn generic_call(site: &Site<'_>) -> Vec<Candidate> {
    let number = site.number;
    let function = format!("\nfn generic_{number}<T: Copy, const N: usize>(value: T) -> [T; N] {{ [value; N] }}\n");
    let statement = format!(
        "core::hint::black_box((generic_{number}::<u8, 3>(1), generic_{number}::<&str, 2>(\"x\"), generic_{number}::<[u64; 2], {}>([7, 8])));",
        number % 9 + 1
    );
    with_function(site, &function, &statement)
}

pub(super) fn std_call(site: &Site<'_>) -> Vec<Candidate> {
    let number = site.number;
    let statements = [
        format!(
            "{{ let mut many: Vec<(u{}, String)> = (0..3).map(|nth| (nth, nth.to_string())).collect(); many.sort(); std::hint::black_box(format!(\"{{many:?}} {number}\")); }}",
            [8, 16, 32][number % 3]
        ),
        format!(
            "{{ let map: std::collections::BTreeMap<[u16; {}], &str> = [([1; {0}], \"a\")].into_iter().collect(); std::hint::black_box(map.len()); }}",
            number % 7 + 1
        ),
        format!(
            "{{ let boxed: Box<dyn std::fmt::Debug> = Box::new((Some({number}_i16), \"text {number}\")); std::hint::black_box(format!(\"{{boxed:?}}\")); }}"
        ),
        format!(
            "{{ let caught = std::panic::catch_unwind(|| std::hint::black_box({number}_u32)); std::hint::black_box(caught.is_ok()); }}"
        ),
    ];
    statements.iter().flat_map(|statement| site.statements(Sound, statement)).collect()
}

pub(super) fn panic(site: &Site<'_>) -> Vec<Candidate> {
    let number = site.number;
    site.statements(Sound, &format!("if core::hint::black_box(false) {{ panic!(\"added {number} {{}}\", {number}); }}"))
}

pub(super) fn static_item(site: &Site<'_>) -> Vec<Candidate> {
    let number = site.number;
    site.statements(
        Sound,
        &format!(
            "{{ static ADDED_{number}: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new({number}); \
             let seen = ADDED_{number}.fetch_add(1, core::sync::atomic::Ordering::Relaxed); \
             assert!(seen >= {number} && seen < 1_000_000_000_000, \"CORRUPT: a new static is {{seen}}\"); }}"
        ),
    )
}

pub(super) fn thread_local(site: &Site<'_>) -> Vec<Candidate> {
    let number = site.number;
    site.statements(
        Sound,
        &format!(
            "{{ std::thread_local! {{ static ADDED_{number}: std::cell::Cell<u64> = const {{ std::cell::Cell::new({number}) }}; }} \
             let seen = ADDED_{number}.get(); ADDED_{number}.set(seen + 1); \
             assert!(seen >= {number} && seen < 1_000_000_000_000, \"CORRUPT: a new thread-local is {{seen}}\"); }}"
        ),
    )
}

/// One variable more that a closure captures.
pub(super) fn capture(site: &Site<'_>) -> Vec<Candidate> {
    let number = site.number;
    let closures = site.facts.closures.iter().map(|closure| {
        let body = site.get(&closure.body);
        let splices = vec![
            site.insert(closure.statement, format!("let captured_{number} = core::hint::black_box({number}_u64); ")),
            site.replace(closure.body.clone(), format!("{{ core::hint::black_box(captured_{number}); {body} }}")),
        ];
        (splices, closure.is_move)
    });
    // A closure that is kept has to own what it captures; one that borrows is called where it stands.
    let soundness = |is_move: bool| if is_move { Open } else { Sound };
    closures.map(|(splices, is_move)| Candidate { splices, soundness: soundness(is_move) }).collect()
}

pub(super) fn ready_await(site: &Site<'_>) -> Vec<Candidate> {
    awaits(site, Open, "core::future::ready(()).await;")
}

/// Another variable that a future keeps while it waits.
pub(super) fn local_across_await(site: &Site<'_>) -> Vec<Candidate> {
    let number = site.number;
    let text = format!(
        "{{ let kept_{number} = core::hint::black_box([{number}_u64; 3]); core::future::ready(()).await; \
         assert!(kept_{number} == [{number}; 3], \"CORRUPT: a variable across an await is {{kept_{number}:?}}\"); }}"
    );
    awaits(site, Open, &text)
}

fn awaits(site: &Site<'_>, soundness: Soundness, text: &str) -> Vec<Candidate> {
    let starts = site.facts.statements.iter().filter(|statement| statement.is_async).map(|statement| statement.start);
    starts.map(|start| Candidate { splices: vec![site.insert(start, format!("{text} "))], soundness }).collect()
}

/// A statement at each place, and what it calls at the end of the file.
fn with_function(site: &Site<'_>, function: &str, statement: &str) -> Vec<Candidate> {
    let mut candidates = site.statements(Sound, statement);
    for candidate in &mut candidates {
        candidate.splices.push(site.insert(site.text.len(), function));
    }
    candidates
}
