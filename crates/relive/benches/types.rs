//! Debug information to types: of one object, and of the 36 that a larger edit may touch, one after the other and as many
//! at a time as there are processors. Then what an edit of 36 units costs in all: both sides read, and judged.

mod common;

use criterion::Criterion;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use relive::binary::types::{self, ObjectTypes};
use relive::judge::{self, DeltaFacts, Facts, Verdict};

use common::{Named, Subject};

/// Objects of a larger edit.
const SEVERAL: usize = 36;

fn read(objects: &[&Named]) -> Vec<ObjectTypes> {
    objects.iter().map(|object| types::read(&object.1).unwrap()).collect()
}

fn in_parallel(objects: &[&Named]) -> Vec<ObjectTypes> {
    objects.par_iter().map(|object| types::read(&object.1).unwrap()).collect()
}

fn read_types(criterion: &mut Criterion) {
    let subject = Subject::new();
    let one: Vec<&Named> = subject.one.iter().take(1).collect();
    let step = (subject.objects.len() / SEVERAL).max(1);
    let several: Vec<&Named> = subject.objects.iter().step_by(step).take(SEVERAL).collect();

    let mut group = criterion.benchmark_group("types");
    group.sample_size(20);
    group.bench_function("one object", |bencher| bencher.iter_with_large_drop(|| read(&one)));
    group.sample_size(10);
    group.bench_function("36 objects", |bencher| bencher.iter_with_large_drop(|| read(&several)));
    group.bench_function("36 objects, in parallel", |bencher| {
        bencher.iter_with_large_drop(|| in_parallel(&several));
    });
    let (old, new) = both_sides(&subject, &several);
    // As a session does it: both sides at once.
    let all: Vec<&Named> = old.iter().chain(&new).copied().collect();
    group.bench_function("36 units, old and new read", |bencher| {
        bencher.iter_with_large_drop(|| in_parallel(&all));
    });
    let (old_types, new_types) = (in_parallel(&old), in_parallel(&new));
    group.bench_function("36 units, judged", |bencher| bencher.iter(|| verdict(&old_types, &new_types)));
    // In another order nothing is known to be the same, so that every type is looked at.
    let mut moved: Vec<&ObjectTypes> = old_types.iter().collect();
    moved.rotate_left(1);
    group.bench_function("36 units, judged type by type", |bencher| {
        let facts = || Facts::new(moved.clone(), old_types.iter().collect(), DeltaFacts::default());
        bencher.iter(|| judge::judge(&facts()));
    });
    group.bench_function("36 units, old and new read and judged", |bencher| {
        bencher.iter_with_large_drop(|| {
            let all = in_parallel(&all);
            let (old, new) = all.split_at(old.len());
            assert!(matches!(verdict(old, new), Verdict::Accepted(_)), "the edit changes no type");
            all
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
    judge::judge(&Facts::new(old.iter().collect(), new.iter().collect(), DeltaFacts::default()))
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    read_types(&mut criterion);
    criterion.final_summary();
}
