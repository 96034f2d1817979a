//! From what must come along to the bytes of an image: layout, addresses, relocations, unwind and debug information.

mod common;

use criterion::Criterion;
use relive::arch::EntryPlan;
use relive::diff::Reach;
use relive::link::{self, ArenaFile, Image, Layout};
use relive::load::Room;
use relive_wire::NearLayout;

use common::{EXE_START, Facts, Subject, System, changes, entries};

fn image(reach: &Reach, entries: &[EntryPlan]) -> Image {
    let near = NearLayout::below(EXE_START).unwrap();
    let layout = Layout::new(reach, entries).unwrap();
    let reserved = Room::new(near).find(&layout.needs()).unwrap();
    let (file, _) = ArenaFile::create(reserved.start);
    let imports = vec![EXE_START; reach.imports.len()];
    let placement = reserved.placement(&file, &imports, near.control, 0);
    link::place(reach, &layout, entries, &placement).unwrap()
}

fn link(criterion: &mut Criterion) {
    let subject = Subject::new();
    let running = subject.running();
    let mut system = System::read();
    let mut group = criterion.benchmark_group("link");
    for (name, edit, functions) in
        [("one function", &subject.one, 1), ("200 functions", &subject.many, subject.at_least)]
    {
        let facts = Facts::of(&running, edit);
        let (_, reach) = changes(&running, edit, &facts, &mut system);
        assert_eq!(reach.problems, [], "{name} cannot be linked");
        let entries = entries(&running, &reach);
        let linked = image(&reach, &entries);
        assert!(linked.functions.len() >= functions, "{name}: {} functions in the image", linked.functions.len());
        group.bench_function(name, |bencher| bencher.iter(|| image(&reach, &entries)));
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    link(&mut criterion);
    criterion.final_summary();
}
