//! Runs code on many inputs and says on which it panicked, took too long or wanted too much memory.
//!
//! Each input may take a second of processor time and 64 times its own size of memory, plus what the code needs for
//! any input. How many inputs there are is a number, not a time: two runs do the same. `RELIVE_FUZZ_ITERATIONS` sets it.
//! Besides what a test makes itself, it begins from the files of `tests/corpus/NAME`: small inputs, and what was found once.
//! With `RELIVE_FUZZ_SECONDS` damaged copies follow for so long that no run has seen; a finding names its number.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, Once};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use super::mutate::Seed;

/// How much memory an input may cost: so many times its size, and what every input costs.
const TIMES: u64 = 64;
const FIXED: u64 = 2 << 20;

/// How long an input may take.
const SLOW: Duration = Duration::from_secs(1);

/// After this time nobody believes that an input ends, however busy the machine is.
const STUCK: Duration = Duration::from_secs(120);

thread_local! {
    /// Where the last panic of this thread was, while a driver wants to know.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// How many inputs to try where `usual` are tried when nobody asks for more.
pub(crate) fn iterations(usual: usize) -> usize {
    std::env::var("RELIVE_FUZZ_ITERATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// How long to go on after that, if somebody asks for it.
fn seconds() -> Option<Duration> {
    let text = std::env::var("RELIVE_FUZZ_SECONDS").ok()?;
    Some(Duration::from_secs(text.parse().expect("RELIVE_FUZZ_SECONDS is a number of seconds")))
}

/// Runs `target` on `seeds` as they are and on [`iterations`]`(usual)` damaged copies of them, or a few more.
///
/// # Panics
/// If `target` did on one of them, or was slow or greedy.
pub(crate) fn survives(name: &'static str, seeds: Vec<Seed>, usual: usize, target: impl Fn(&[u8]) + Send + 'static) {
    let whole = iterations(usual);
    let count = whole.div_ceil(seeds.len());
    let corpus = corpus(name);
    run(name, move |watch| {
        for seed in &seeds {
            let before = watch.tried;
            watch.try_one(&format!("{}, unharmed", seed.name), &seed.bytes, &target);
            for bytes in seed.prefixes(count / 4) {
                watch.try_one(&format!("{}, first {} bytes", seed.name, bytes.len()), &bytes, &target);
            }
            for (at, bytes) in seed.giants(count / 4).iter().enumerate() {
                watch.try_one(&format!("{}, giant number {at}", seed.name), bytes, &target);
            }
            // There are only so many of those; the others are mutants, half of them at least.
            let mutants = (count + 1).saturating_sub(watch.tried - before).max(count / 2);
            for number in 0..mutants as u64 {
                watch.try_one(&format!("{}, mutant {number}", seed.name), &seed.mutant(number), &target);
            }
        }
        for seed in &corpus {
            watch.try_one(&format!("{}, unharmed", seed.name), &seed.bytes, &target);
            for number in 0..whole as u64 / 100 {
                watch.try_one(&format!("{}, mutant {number}", seed.name), &seed.mutant(number), &target);
            }
        }
        assert!(watch.tried > whole, "{} inputs", watch.tried);
        eprintln!("{name}: {} inputs", watch.tried);
        watch.go_on(|watch, number| {
            for seed in seeds.iter().chain(&corpus) {
                watch.try_one(&format!("{}, mutant {number}", seed.name), &seed.mutant(number), &target);
            }
        });
    });
}

/// The files of the corpus of a target.
fn corpus(name: &str) -> Vec<Seed> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
    let mut files: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().map(|file| file.unwrap().path()).collect();
    files.sort();
    let seed = |file: PathBuf| Seed::records(file.display().to_string(), std::fs::read(&file).unwrap());
    files.into_iter().map(seed).collect()
}

/// Runs `work` in a thread of its own and reports what it found; gives it up if nothing happens any more.
pub(crate) fn run(name: &'static str, work: impl FnOnce(&mut Watch) + Send + 'static) {
    remember_panics();
    let current = Arc::new(Mutex::new(String::new()));
    let (sign, signs) = mpsc::channel();
    let mut watch = Watch { name, current: Arc::clone(&current), sign, found: BTreeMap::new(), tried: 0 };
    let worker = thread::spawn(move || {
        work(&mut watch);
        (watch.tried, watch.found)
    });
    loop {
        match signs.recv_timeout(STUCK) {
            Ok(()) => {}
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("{name} does not come back from {}", current.lock().unwrap()),
        }
    }
    let (tried, found) = worker.join().unwrap();
    let lines: Vec<_> =
        found.iter().map(|(what, (where_, times))| format!("{what} ({times} times, {where_})")).collect();
    assert!(found.is_empty(), "{name}, {tried} inputs:\n{}", lines.join("\n"));
}

/// What was found so far.
pub(crate) struct Watch {
    name: &'static str,
    current: Arc<Mutex<String>>,
    sign: mpsc::Sender<()>,
    /// Findings, with the first input of each and how often it occurred.
    found: BTreeMap<String, (String, usize)>,
    tried: usize,
}

impl Watch {
    /// Runs `target` on one input.
    pub(crate) fn try_one(&mut self, what: &str, bytes: &[u8], target: &impl Fn(&[u8])) {
        what.clone_into(&mut self.current.lock().unwrap());
        self.sign.send(()).unwrap();
        self.tried += 1;
        let start = processor_time();
        let mut failed = false;
        let memory = allocation_counter::measure(|| {
            failed = panic::catch_unwind(AssertUnwindSafe(|| target(bytes))).is_err();
        });
        let time = processor_time().saturating_sub(start);
        if failed {
            let place = PANIC.with(|panic| panic.borrow_mut().take()).unwrap_or_default();
            self.note(what, bytes, format!("panicked at {place}"));
        }
        if time > SLOW {
            self.note(what, bytes, "took more than a second".to_owned());
        }
        if memory.bytes_max > TIMES * bytes.len() as u64 + FIXED {
            self.note(what, bytes, format!("took more than {TIMES} times the memory of its input"));
        }
    }

    /// Has `more` try inputs by numbers that begin where the clock says, until the time is up that somebody asked for.
    pub(crate) fn go_on(&mut self, more: impl Fn(&mut Watch, u64)) {
        let Some(seconds) = seconds() else { return };
        let began = Instant::now();
        let first = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
        let before = self.tried;
        (first..=u64::MAX).take_while(|_| began.elapsed() < seconds).for_each(|number| more(self, number));
        assert!(self.tried > before, "no input was tried in {seconds:?}");
        eprintln!("{}: {} more inputs in {:.0?}", self.name, self.tried - before, began.elapsed());
    }

    /// Remembers a finding and keeps the first input that shows it, to look at.
    fn note(&mut self, what: &str, bytes: &[u8], finding: String) {
        let number = self.found.len();
        let name = self.name;
        let entry = self.found.entry(finding).or_insert_with(|| {
            let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("hostile");
            let file = folder.join(format!("{name}-{number}"));
            let kept = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, bytes));
            (
                format!(
                    "first on {what}: {}",
                    kept.map_or_else(|why| why.to_string(), |()| file.display().to_string())
                ),
                0,
            )
        });
        entry.1 += 1;
    }
}

fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Panics in the drivers' threads are findings and are not printed; where they were is remembered.
fn remember_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if thread::current().name().is_some() {
                return usual(info);
            }
            let payload = info.payload();
            let text = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
            let text = text.unwrap_or("?");
            let place = info.location().map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
            PANIC.with(|panic| *panic.borrow_mut() = Some(format!("{place}: {text}")));
        }));
    });
}
