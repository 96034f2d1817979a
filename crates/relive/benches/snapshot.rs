//! The snapshot of large binaries: building the index of one, opening it again, and what parsing with the `object` crate
//! into a map from names to addresses costs instead, in the same run.
//!
//! Two binaries are generated (250 MB with 120,000 symbols; 2 GB with 2,000,000), one is real: rustc's own library. Memory
//! is measured once for each, before the benches, in a process of its own, which this executable is when
//! `RELIVE_BENCH_MEMORY` names a binary.
#![allow(clippy::print_stdout, reason = "the figures of memory are this bench's own")]

#[path = "common/large.rs"]
mod large;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use std::{env, fs};

use criterion::Criterion;
use object::{Object, ObjectSymbol};
use relive::binary::bytes::Bytes;
use relive::binary::snapshot::Snapshot;
use relive::snapshots::{self, Source};
use relive_process::MappedFile;
use rustix::time::{ClockId, clock_gettime};

const MEMORY: &str = "RELIVE_BENCH_MEMORY";

struct Subject {
    name: &'static str,
    binary: PathBuf,
    /// A symbol that it has.
    symbol: String,
}

fn subjects() -> Vec<Subject> {
    let mut all = vec![
        Subject {
            name: "250 MB, 120k symbols",
            binary: large::executable(250_000_000, 120_000),
            symbol: large::name(7),
        },
        Subject {
            name: "2 GB, 2M symbols",
            binary: large::executable(2_000_000_000, 2_000_000),
            symbol: large::name(7),
        },
    ];
    let driver = driver();
    let snapshot = Snapshot::read(map(&driver)).unwrap();
    let symbol = snapshot.all().map(|symbol| snapshot.name(&symbol).to_owned()).find(|name| !name.is_empty());
    all.push(Subject { name: "librustc_driver", binary: driver, symbol: symbol.unwrap() });
    all
}

fn driver() -> PathBuf {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(["--print", "sysroot"]).output().unwrap();
    let folder = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()).join("lib");
    let mut files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.to_string_lossy().contains("librustc_driver-")).expect("rustc has a driver")
}

fn map(path: &Path) -> Bytes {
    Bytes::new(MappedFile::open(path).unwrap())
}

/// What a tool without an index does.
fn eager(path: &Path) -> HashMap<String, (u64, u64)> {
    let data = MappedFile::open(path).unwrap();
    let file = object::File::parse(&*data).unwrap();
    let symbols = || file.symbols().filter(|symbol| symbol.is_definition());
    let named =
        |symbol: object::Symbol<'_, '_>| Some((symbol.name().ok()?.to_owned(), (symbol.address(), symbol.size())));
    let mut map: HashMap<_, _> = symbols().filter_map(named).collect();
    if map.is_empty() {
        map = file.dynamic_symbols().filter(|symbol| symbol.is_definition()).filter_map(named).collect();
    }
    map
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("large").join("indexes")
}

fn compare(criterion: &mut Criterion, subject: &Subject) {
    let mut group = criterion.benchmark_group(format!("snapshot of {}", subject.name));
    group.sample_size(10);
    let Subject { binary, symbol, .. } = subject;
    let found = |snapshot: &Snapshot| assert!(snapshot.symbols(symbol).next().is_some());
    assert!(eager(binary).contains_key(symbol));
    group.bench_function("eager", |bencher| bencher.iter_with_large_drop(|| eager(binary)));
    group.bench_function("cold", |bencher| {
        bencher.iter_with_large_drop(|| {
            let snapshot = Snapshot::read(map(binary)).unwrap();
            found(&snapshot);
            snapshot
        });
    });
    group.bench_function("cold and kept", |bencher| {
        bencher.iter_with_large_drop(|| {
            let _ = fs::remove_dir_all(folder());
            let opened = snapshots::open(binary, None, Some(&folder())).unwrap();
            assert!(matches!(opened.source, Source::Built(_)));
            opened
        });
    });
    group.bench_function("warm", |bencher| {
        bencher.iter(|| {
            let opened = snapshots::open(binary, None, Some(&folder())).unwrap();
            assert!(matches!(opened.source, Source::Kept(_)));
            found(&opened.snapshot);
        });
    });
    group.finish();
}

/// Says what this process has used so far.
fn say_memory(step: &str) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let lines = status.lines().filter(|line| line.starts_with("RssAnon") || line.starts_with("VmHWM"));
    let lines: Vec<_> = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    println!("    {step}: {}", lines.join(", "));
}

/// Highest anonymous memory while `work` runs, in kB, as seen by a thread that looks all the time.
fn highest<T>(work: impl FnOnce() -> T) -> (T, u64) {
    use std::sync::atomic::{AtomicBool, Ordering};
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut highest = 0;
            while !done.load(Ordering::Relaxed) {
                let status = fs::read_to_string("/proc/self/status").unwrap();
                let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
                highest = highest.max(line.trim_end_matches("kB").trim().parse().unwrap());
            }
            highest
        });
        let value = work();
        done.store(true, Ordering::Relaxed);
        (value, watcher.join().unwrap())
    })
}

fn measure_memory(binary: &Path) {
    say_memory("before");
    let (snapshot, anonymous) = highest(|| Snapshot::read(map(binary)).unwrap());
    say_memory("after building");
    println!("    highest while building: RssAnon: {anonymous} kB; index: {} bytes", snapshot.index().len());
    drop(snapshot);
    let times = (0..7).map(|_| {
        let (wall, processor) = (Instant::now(), clock_gettime(ClockId::ProcessCPUTime));
        drop(Snapshot::read(map(binary)).unwrap());
        let used = clock_gettime(ClockId::ProcessCPUTime) - processor;
        (wall.elapsed().as_secs_f64() * 1e3, (used.tv_sec as f64) * 1e3 + (used.tv_nsec as f64) / 1e6)
    });
    let (wall, processor) = times.fold((f64::MAX, f64::MAX), |best, time| (best.0.min(time.0), best.1.min(time.1)));
    println!("    shortest of 7 builds: {wall:.1} ms by the clock, {processor:.1} ms of all processors");
}

fn main() {
    if let Some(binary) = env::var_os(MEMORY) {
        return measure_memory(Path::new(&binary));
    }
    let subjects = subjects();
    for subject in &subjects {
        println!("memory for {}", subject.name);
        let status = Command::new(env::current_exe().unwrap()).env(MEMORY, &subject.binary).status().unwrap();
        assert!(status.success());
    }
    let mut criterion = Criterion::default().configure_from_args();
    subjects.iter().for_each(|subject| compare(&mut criterion, subject));
    criterion.final_summary();
}
