//! From the bytes of the objects that an edit changed to what must come along: parsing, comparing, following references.
//!
//! The program that runs has some hundred codegen units; it was read before, as a session does in the background.

mod common;

use criterion::Criterion;

use common::{Facts, Subject, System, changes};

fn diff(criterion: &mut Criterion) {
    let subject = Subject::new();
    let running = subject.running();
    let mut system = System::read();
    let mut group = criterion.benchmark_group("diff");
    for (name, edit, functions) in
        [("one function", &subject.one, 1), ("200 functions", &subject.many, subject.at_least)]
    {
        let facts = Facts::of(&running, edit);
        let (delta, _) = changes(&running, edit, &facts, &mut system);
        assert!(delta.changed.len() >= functions, "{name}: {} functions changed", delta.changed.len());
        group.bench_function(name, |bencher| bencher.iter(|| changes(&running, edit, &facts, &mut system)));
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    diff(&mut criterion);
    criterion.final_summary();
}
