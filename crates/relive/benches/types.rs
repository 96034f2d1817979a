//! Debug information to types: of one object, and of the 36 that a larger edit may touch, one after the other and as many
//! at a time as there are processors.

mod common;

use std::num::NonZero;
use std::thread;

use criterion::Criterion;
use relive::binary::types::{self, ObjectTypes};

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
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    read_types(&mut criterion);
    criterion.final_summary();
}
