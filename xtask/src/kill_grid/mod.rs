//! The kill grid: relive is killed at every system call of one switch, and the program has to live on.
//!
//! For n = 1, 2, ...: a program of four threads and 24 functions is started under relive, an edit changes all functions,
//! and relive is killed at its n-th stop at a system call (entry or exit) of the switch. The program must then run on with
//! no thread stopped or traced, all 24 functions must be the old ones or all the new ones, as the one word says that
//! switches, and it must end by itself with exit code 0. The next point starts a new relive over what the killed one left;
//! now and then one is not killed, and must patch.
//!
//! With `--update-binary`, relive is killed while it brings the executable up to date instead, and the file must then be the
//! old one or the new one: it is started.
//!
//! `RELIVE` names the executable; without it the release build is taken. It writes below `target/xtask` only.

mod phase;
mod session;
mod subject;
mod trace;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use phase::Phase;
use session::Session;
use subject::Subject;
use trace::{Death, Flip, What};

/// What the functions return before the edit, and after it.
const OLD: u32 = 1;
const NEW: u32 = 2;
/// Points between two runs without a kill.
const CONTROL_EVERY: u64 = 50;
/// Bad points after which it is known well enough that something is wrong.
const ENOUGH: u64 = 20;

/// Which points are tried.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    from: u64,
    step: u64,
    max: u64,
    what: What,
}

/// What became of the points of one phase.
#[derive(Clone, Copy, Default)]
struct Counts {
    old: u64,
    new: u64,
    bad: u64,
}

/// Runs the grid; `Err` if a single point was bad.
pub(crate) fn run(root: &Path, args: &[String]) -> Result<(), String> {
    let range = Range::parse(args)?;
    let subject = prepare(root, range.what)?;
    control(&subject, usize::MAX)?;
    let mut counts: BTreeMap<Phase, Counts> = BTreeMap::new();
    let (start, mut points, mut bad, mut last) = (Instant::now(), 0, 0, None);
    for nth in (range.from..=range.max).step_by(usize::try_from(range.step).unwrap_or(usize::MAX)) {
        let (death, result) = point(&subject, nth);
        points += 1;
        if let Err(why) = &result {
            bad += 1;
            println!("BAD point {nth}, {}: {why}", death.map_or_else(|| "not killed".to_owned(), describe));
        }
        if let Some(death) = death {
            counts.entry(death.phase).or_default().add(&result);
        }
        if points % CONTROL_EVERY == 0 {
            println!("{points} points, {bad} bad, {:.1} s", start.elapsed().as_secs_f64());
            bad += failed(control(&subject, 1));
        }
        last = death.filter(|death| death.complete);
        if bad >= ENOUGH || last.is_some() {
            break;
        }
    }
    bad += failed(control(&subject, 1));
    print_table(&counts);
    println!("{points} points in {:.1} s", start.elapsed().as_secs_f64());
    if let Some(last) = last {
        println!("the last switch was complete after {} stops", last.stops);
    }
    if bad == 0 { Ok(()) } else { Err(format!("{bad} bad")) }
}

/// Finds the executable under test and writes the program.
fn prepare(root: &Path, what: What) -> Result<Subject, String> {
    let relive = crate::files::relive(root)?;
    nix::sys::prctl::set_child_subreaper(true).map_err(|why| format!("cannot become a reaper: {why}"))?;
    Subject::write(crate::steps::target_dir(root).join("xtask/kill-grid"), relive, what)
}

/// One kill, and what is to be said against what followed.
fn point(subject: &Subject, nth: u64) -> (Option<Death>, Result<u32, String>) {
    let mut death = None;
    let mut attempt = || {
        subject.save(OLD)?;
        let mut session = Session::start(subject, 1)?;
        let died = trace::kill_at(session.relive, subject.what, nth, || subject.save(NEW));
        let died = died.map_err(|why| format!("{why}\n{}", session.stderr()))?;
        death = Some(died);
        let generation = session.settled()?;
        died.flip.check(generation).map_err(|why| format!("what runs: {why}"))?;
        session.end(generation, false)?;
        if subject.what == What::Switch {
            return Ok(generation);
        }
        let on_disk = session::start_executable(subject)?;
        died.put.check(on_disk).map_err(|why| format!("the executable: {why}"))?;
        Ok(on_disk)
    };
    let result = attempt();
    (death, result)
}

/// A run without a kill: the edit must be applied.
fn control(subject: &Subject, rustc_calls: usize) -> Result<(), String> {
    subject.save(OLD)?;
    let mut session = Session::start(subject, rustc_calls)?;
    subject.save(NEW)?;
    let applied = session.applied().and_then(|()| session.settled());
    let generation = applied.map_err(|why| format!("without a kill: {why}\n{}", session.stderr()))?;
    if generation != NEW {
        return Err(format!("without a kill: generation {generation} runs after the edit was applied"));
    }
    let on_disk = session.end(NEW, true).and_then(|()| match subject.what {
        What::Switch => Ok(()),
        What::Executable => session::start_executable(subject).and_then(|found| Flip::Done.check(found)),
    });
    on_disk.map_err(|why| format!("without a kill: {why}"))
}

fn failed(control: Result<(), String>) -> u64 {
    match control {
        Ok(()) => 0,
        Err(why) => {
            println!("BAD {why}");
            1
        }
    }
}

fn describe(death: Death) -> String {
    let side = if death.at_entry { "before" } else { "after" };
    let Death { phase, call, flip, put, .. } = death;
    format!("killed in {phase:?} {side} system call {call}, switch {flip:?}, file {put:?}")
}

fn print_table(counts: &BTreeMap<Phase, Counts>) {
    let line = |name: &str, counts: Counts| {
        let all = counts.old + counts.new + counts.bad;
        println!("{name:10} {all:>6} {:>6} {:>6} {:>6}", counts.old, counts.new, counts.bad);
    };
    println!("\n{:10} {:>6} {:>6} {:>6} {:>6}", "phase", "points", "old", "new", "bad");
    let mut sum = Counts::default();
    for (phase, counts) in counts {
        line(&format!("{phase:?}"), *counts);
        sum = Counts { old: sum.old + counts.old, new: sum.new + counts.new, bad: sum.bad + counts.bad };
    }
    line("all", sum);
}

impl Range {
    fn parse(args: &[String]) -> Result<Range, String> {
        let mut range = Range { from: 1, step: 1, max: u64::MAX, what: What::Switch };
        let is_flag = |arg: &&String| *arg == "--update-binary";
        if args.iter().any(|arg| is_flag(&arg)) {
            range.what = What::Executable;
        }
        let numbers: Vec<_> = args.iter().filter(|arg| !is_flag(arg)).cloned().collect();
        for pair in numbers.chunks(2) {
            let [flag, value] = pair else { return Err(format!("`{}` needs a number", pair.concat())) };
            let value = value.parse().map_err(|why| format!("`{value}`: {why}"))?;
            match flag.as_str() {
                "--from" => range.from = value,
                "--step" => range.step = value,
                "--max" => range.max = value,
                _ => return Err(format!("`{flag}` is unknown: --from, --step, --max, --update-binary")),
            }
        }
        if range.from == 0 || range.step == 0 { Err("counting begins at 1".to_owned()) } else { Ok(range) }
    }
}

impl Flip {
    fn check(self, found: u32) -> Result<(), String> {
        let expected: &[u32] = match self {
            Flip::Before => &[OLD],
            Flip::Begun => &[OLD, NEW],
            Flip::Done => &[NEW],
        };
        if expected.contains(&found) { Ok(()) } else { Err(format!("generation {found}, expected {expected:?}")) }
    }
}

impl Counts {
    fn add(&mut self, result: &Result<u32, String>) {
        match result {
            Ok(OLD) => self.old += 1,
            Ok(_) => self.new += 1,
            Err(_) => self.bad += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_is_read() {
        let parse = |text: &str| Range::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(parse("--from 3 --max 9"), Ok(Range { from: 3, step: 1, max: 9, what: What::Switch }));
        assert_eq!(parse("--step 2 --update-binary").map(|range| (range.step, range.what)), Ok((2, What::Executable)));
        assert!(parse("--from").is_err());
        assert!(parse("--step 0").is_err());
        assert!(parse("--to 4").is_err());
    }
}
