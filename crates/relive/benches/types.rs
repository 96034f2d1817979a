//! Debug information to types: of one object, and of the 36 that a larger edit may touch, one after the other and as many
//! at a time as there are processors. Then what an edit of 36 units costs in all: both sides read, and judged.

mod common;

use std::num::NonZero;
use std::thread;

use criterion::Criterion;
use relive::binary::types::{self, ObjectTypes};
use relive::judge::{self, DeltaFacts, Facts, TypeSet, Verdict};

use common::{Named, Subject};

/// Objects of a larger edit.
const SEVERAL: usize = 36;

fn read(objects: &[&Named]) -> Vec<ObjectTypes> {
    objects.iter().map(|object| types::read(&object.1).unwrap()).collect()
}

fn in_parallel(objects: &[&Named], threads: usize) -> Vec<ObjectTypes> {
    thread::scope(|scope| {
        let parts: Vec<_> =
            objects.chunks(objects.len().div_ceil(threads)).map(|part| scope.spawn(|| read(part))).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    })
}

fn read_types(criterion: &mut Criterion) {
    let subject = Subject::new();
    let one: Vec<&Named> = subject.one.iter().take(1).collect();
    let step = (subject.objects.len() / SEVERAL).max(1);
    let several: Vec<&Named> = subject.objects.iter().step_by(step).take(SEVERAL).collect();
    let threads = thread::available_parallelism().map_or(1, NonZero::get);

    let mut group = criterion.benchmark_group("types");
    group.sample_size(20);
    group.bench_function("one object", |bencher| bencher.iter_with_large_drop(|| read(&one)));
    group.sample_size(10);
    group.bench_function("36 objects", |bencher| bencher.iter_with_large_drop(|| read(&several)));
    group.bench_function("36 objects, in parallel", |bencher| {
        bencher.iter_with_large_drop(|| in_parallel(&several, threads));
    });
    let (old, new) = both_sides(&subject, &several);
    group.bench_function("36 units, old and new read", |bencher| {
        bencher.iter_with_large_drop(|| (in_parallel(&old, threads), in_parallel(&new, threads)));
    });
    let (old_types, new_types) = (in_parallel(&old, threads), in_parallel(&new, threads));
    group.bench_function("36 units, judged", |bencher| bencher.iter(|| verdict(&old_types, &new_types)));
    group.bench_function("36 units, old and new read and judged", |bencher| {
        bencher.iter_with_large_drop(|| {
            let (old, new) = (in_parallel(&old, threads), in_parallel(&new, threads));
            assert!(matches!(verdict(&old, &new), Verdict::Accepted(_)), "the edit changes no type");
            (old, new)
        });
    });
    group.finish();
}

/// The objects of 36 units before and after an edit: those that the larger edit changes, and others as they are.
fn both_sides<'a>(subject: &'a Subject, several: &[&'a Named]) -> (Vec<&'a Named>, Vec<&'a Named>) {
    let before = |new: &Named| subject.objects.iter().find(|old| old.0 == new.0);
    let changed = subject.many.iter().filter_map(|new| Some((before(new)?, new)));
    let is_changed = |old: &&&Named| subject.many.iter().any(|new| new.0 == old.0);
    let others = several.iter().filter(|old| !is_changed(old)).map(|old| (*old, *old));
    changed.chain(others).take(SEVERAL).unzip()
}

fn verdict(old: &[ObjectTypes], new: &[ObjectTypes]) -> Verdict {
    let (old, new) = (TypeSet { objects: old.iter().collect() }, TypeSet { objects: new.iter().collect() });
    judge::judge(&Facts { old, new, delta: DeltaFacts::default() })
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    read_types(&mut criterion);
    criterion.final_summary();
}
