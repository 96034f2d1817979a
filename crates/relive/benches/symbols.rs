//! Symbols by name: reading those of a large executable and of the compiler's libraries, and looking some up.

mod common;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion};
use relive::binary::archive::ArchiveIndex;
use relive::binary::snapshot::Snapshot;

use common::{Subject, System, parsed, rlibs};

/// Names looked up at a time.
const NAMES: usize = 1000;

fn symbols(criterion: &mut Criterion) {
    let subject = Subject::new();
    let exe = Snapshot::read(subject.exe.clone()).unwrap();
    let mut names: Vec<String> = Vec::new();
    for new in subject.objects.iter().map(parsed) {
        let found = new.object.symbols.iter().map(|symbol| new.object.name(symbol));
        names.extend(found.filter(|name| exe.symbols(name).next().is_some()).map(str::to_owned));
    }
    names.sort();
    names.dedup();
    let step = (names.len() / NAMES).max(1);
    let hits: Vec<String> = names.into_iter().step_by(step).take(NAMES).collect();
    let misses: Vec<String> = hits.iter().map(|name| format!("{name}.")).collect();
    let found = |names: &[String]| names.iter().filter(|name| exe.symbols(name).next().is_some()).count();
    assert_eq!((found(&hits), found(&misses)), (NAMES, 0));

    let mut group = criterion.benchmark_group("symbols");
    group.sample_size(20);
    group.bench_function("read the executable", |bencher| {
        bencher.iter_with_large_drop(|| Snapshot::read(subject.exe.clone()).unwrap());
    });
    group.bench_function("look up 1000 that are there", |bencher| bencher.iter(|| found(&hits)));
    group.bench_function("look up 1000 that are not", |bencher| bencher.iter(|| found(&misses)));
    libraries(&mut group);
    group.finish();
}

fn libraries(group: &mut BenchmarkGroup<'_, WallTime>) {
    let rlibs = rlibs();
    group.bench_function("index the sysroot", |bencher| {
        let add_all = |rlibs: Vec<_>| {
            let mut index = ArchiveIndex::default();
            rlibs.into_iter().try_for_each(|rlib| index.add(rlib)).unwrap();
            index
        };
        bencher.iter_batched(|| rlibs.clone(), add_all, BatchSize::LargeInput);
    });
    let system = System::read();
    let name = relive::binary::object::NameId::of("rust_eh_personality");
    assert!(system.archives.find(name).unwrap().is_some());
    group.bench_function("find a member", |bencher| bencher.iter(|| system.archives.find(name).unwrap()));
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    symbols(&mut criterion);
    criterion.final_summary();
}
