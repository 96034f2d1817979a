//! Edits of real crates at random: each is made while the program runs, and what it answers afterwards is compared with
//! builds of the same sources that know nothing of relive.
//!
//! A batch is one session: some forty edits, one on the other. `--seed S` chooses another sequence, `--count N` how many
//! edits have to compile; `--only BATCH.STEP` repeats a batch up to one step, as it was printed with a fault. `--strict`
//! asks that at most 5 % of the sound edits are refused.
//!
//! `RELIVE` names the executable; without it the release build is taken. Cargo obtains the crates. It writes below
//! `target/xtask/edits` only; what a fault needs to be looked at is kept in `faults` there.

mod batch;
mod choice;
mod diff;
mod inputs;
mod mutate;
mod process;
mod report;
mod rng;
mod session;
mod subject;
mod twin;

use std::path::Path;
use std::time::Instant;

use batch::{Batch, Next};
use report::{AT_END, Report};
use subject::Subject;
use twin::Twin;

/// Edits of one session.
const STEPS: usize = 40;
/// Sound edits that `--strict` allows to be refused, in percent.
const STRICT_PERCENT: f64 = 5.0;
/// Faults after which it is known well enough that something is wrong.
const ENOUGH: usize = 25;
/// Lines of an edit that are printed.
const DIFF_LINES: usize = 24;

#[derive(Debug, PartialEq, Eq)]
struct Options {
    seed: u64,
    count: u64,
    /// The only batch, and the step to end with.
    only: Option<(u64, usize)>,
    strict: bool,
}

/// Makes the edits; `Err` if there was a single fault.
pub(crate) fn run(root: &Path, args: &[String]) -> Result<(), String> {
    let options = Options::parse(args)?;
    let relive = crate::files::relive(root)?;
    let mut subject = Subject::obtain(crate::steps::target_dir(root).join("xtask/edits"), relive)?;
    subject.reset()?;
    let pristine = Twin::build(&subject, "pristine")?;
    subject.edit_only(&Twin::dep_info(&subject)?);
    let (start, mut report) = (Instant::now(), Report::default());
    let first = options.only.map_or(0, |(batch, _)| batch);
    for number in first.. {
        batch(&subject, &mut report, &pristine, &options, number)?;
        let seconds = start.elapsed().as_secs_f64();
        println!("batch {number}: {} edits, {} faults, {seconds:.0} s", report.counted, report.faults.len());
        if options.only.is_some() || report.counted >= options.count || report.faults.len() >= ENOUGH {
            break;
        }
    }
    println!("\n{}", report.table());
    let (counted, seconds, twins) = (report.counted, start.elapsed().as_secs_f64(), report.twins);
    println!("seed {}: {counted} edits in {seconds:.0} s, {twins} fresh builds compared", options.seed);
    println!("{} executables brought up to date on disk and compared with them", report.restarted);
    for (why, count) in &report.kept {
        println!("{count} stayed as they were: {why}");
    }
    println!("{} of {} applied edits of values showed at once in the answers", report.values_shown, report.values);
    println!("{} edits end the program in a fresh build as well", report.deadly);
    println!("sound edits refused: {:.1} % (aim {STRICT_PERCENT} %)", report.refused_share());
    verdict(&report, options.strict)
}

fn verdict(report: &Report, strict: bool) -> Result<(), String> {
    if !report.faults.is_empty() {
        let firsts: Vec<&str> = report.faults.iter().filter_map(|fault| fault.lines().next()).collect();
        return Err(format!("faults: {}\n{}", firsts.len(), firsts.join("\n")));
    }
    if strict && report.refused_share() > STRICT_PERCENT {
        return Err("too many sound edits are refused".to_owned());
    }
    Ok(())
}

/// One session. What is wrong in it goes into the report; `Err` is for what is no fault of an edit.
fn batch(
    subject: &Subject,
    report: &mut Report,
    pristine: &Path,
    options: &Options,
    number: u64,
) -> Result<(), String> {
    let batch = Batch::start(subject, report, pristine, options.seed, number)?;
    if let Some((kind, text)) = steps(subject, batch, options, number)? {
        println!("{text}");
        report.fault(kind, text);
    }
    Ok(())
}

/// Makes the steps of a batch; gives the kind and the text of a fault.
fn steps(
    subject: &Subject,
    mut batch: Batch<'_>,
    options: &Options,
    number: u64,
) -> Result<Option<(&'static str, String)>, String> {
    for step in 1..=options.only.map_or(STEPS, |(_, step)| step) {
        match batch.step() {
            Ok(Next::Step) => {}
            Ok(Next::Over) => return Ok(None),
            Err(why) => {
                let kind = batch.current.as_ref().map_or(AT_END, |(edit, _)| edit.kind);
                return keep(subject, &batch, options.seed, &format!("{number}.{step}"), &why)
                    .map(|text| Some((kind, text)));
            }
        }
    }
    batch.current = None;
    match batch.end() {
        Ok(()) => Ok(None),
        Err(why) => {
            keep(subject, &batch, options.seed, &format!("{number}.end"), &why).map(|text| Some((AT_END, text)))
        }
    }
}

/// Keeps what is known of a fault in a step; gives the text to print.
fn keep(subject: &Subject, batch: &Batch<'_>, seed: u64, step: &str, why: &str) -> Result<String, String> {
    let mut texts = vec![("why.txt".to_owned(), why.to_owned()), ("inputs".to_owned(), batch.history.join("\n"))];
    texts.extend(batch.sources().map(|file| (format!("before/{}", file.path), file.text.clone())));
    let mut shown = String::new();
    if let Some((edit, before)) = &batch.current {
        for (path, old) in before {
            let Some((_, new)) = edit.files.iter().find(|(other, _)| other == path) else { continue };
            shown.push_str(&diff::lines(path, old, new));
            texts.push((format!("after/{path}"), new.clone()));
            texts.retain(|(name, _)| *name != format!("before/{path}"));
            texts.push((format!("before/{path}"), old.clone()));
        }
    }
    texts.push(("edit.diff".to_owned(), shown.clone()));
    let place = subject.keep(&format!("{seed}-{step}"), &texts)?;
    Ok(told(step, why, &shown, &place))
}

fn told(step: &str, why: &str, diff: &str, place: &Path) -> String {
    let lines: Vec<&str> = diff.lines().take(DIFF_LINES).collect();
    format!("FAULT {step}: {why}\n{}\n  kept in {}", lines.join("\n"), place.display())
}

impl Options {
    fn parse(args: &[String]) -> Result<Options, String> {
        let mut options = Options { seed: 1, count: 100, only: None, strict: false };
        let mut words = args.iter();
        while let Some(flag) = words.next() {
            if flag == "--strict" {
                options.strict = true;
                continue;
            }
            let value = words.next().ok_or_else(|| format!("`{flag}` needs a value"))?;
            let number = |text: &str| text.parse::<u64>().map_err(|why| format!("`{value}`: {why}"));
            match flag.as_str() {
                "--seed" => options.seed = number(value)?,
                "--count" => options.count = number(value)?,
                "--only" => {
                    let (batch, step) = value.split_once('.').ok_or_else(|| format!("`{value}` is no BATCH.STEP"))?;
                    let step = if step == "end" { STEPS } else { usize::try_from(number(step)?).unwrap_or(STEPS) };
                    options.only = Some((number(batch)?, step));
                }
                _ => return Err(format!("`{flag}` is unknown: --seed, --count, --only, --strict")),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_are_read() {
        let parse = |text: &str| Options::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let all = Options { seed: 3, count: 9, only: Some((2, 7)), strict: true };
        assert_eq!(parse("--seed 3 --strict --count 9 --only 2.7"), Ok(all));
        assert_eq!(parse("--only 2.end").map(|options| options.only), Ok(Some((2, STEPS))));
        assert!(parse("--seed").is_err());
        assert!(parse("--only 7").is_err());
        assert!(parse("--to 4").is_err());
    }
}
