//! The answer to an edit, as the event file has it, and what many of them took.

use std::fmt::Write as _;

/// The steps of `timings_ms` that are not rustc.
const STEPS: [&str; 6] = ["detect", "diff", "judge", "link", "load", "pause"];

/// One `patch` event.
#[derive(Debug)]
pub(crate) struct Patch {
    pub(crate) outcome: String,
    /// Milliseconds of rustc, and of everything else.
    pub(crate) rustc: f64,
    pub(crate) rest: f64,
    /// Milliseconds of each of `STEPS`.
    steps: [f64; STEPS.len()],
    /// The rules of its reasons.
    pub(crate) rules: Vec<String>,
    /// The line itself.
    pub(crate) line: String,
}

impl Patch {
    /// Reads a line of the event file; `None` if it is no `patch`.
    pub(crate) fn parse(line: &str) -> Option<Result<Patch, String>> {
        let rest = line.strip_prefix("{\"event\":\"patch\",")?;
        Some(Patch::of(rest, line).ok_or_else(|| format!("not understood: {line}")))
    }

    fn of(rest: &str, line: &str) -> Option<Patch> {
        let outcome = rest.split_once("\"outcome\":\"")?.1.split_once('"')?.0;
        let (_, timings) = rest.rsplit_once("\"timings_ms\":{")?; // the last one: names in front of it may be anything
        let step = |name: &str| -> Option<f64> {
            let (_, value) = timings.split_once(&format!("\"{name}\":"))?;
            value.split([',', '}']).next()?.parse().ok()
        };
        let rustc = step("compile")?;
        let mut steps = [0.0; STEPS.len()];
        for (slot, name) in steps.iter_mut().zip(STEPS) {
            *slot = step(name)?;
        }
        let rules = rest.split("{\"rule\":\"").skip(1).filter_map(|reason| reason.split('"').next());
        let rules = rules.map(str::to_owned).collect();
        let (outcome, line) = (outcome.to_owned(), line.to_owned());
        Some(Patch { outcome, rustc, rest: step("total")? - rustc, steps, rules, line })
    }
}

/// The median of everything but rustc, and a table of all steps.
pub(crate) fn summary(patches: &[Patch]) -> (f64, String) {
    let mut table = format!("{:12} {:>9} {:>9} {:>9}\n", "ms", "median", "p90", "max");
    let mut line = |name: &str, of: &dyn Fn(&Patch) -> f64| {
        let values: Vec<f64> = patches.iter().map(of).collect();
        let [median, p90, max] = [50, 90, 100].map(|percent| at(&values, percent));
        let _ = writeln!(table, "{name:12} {median:>9.2} {p90:>9.2} {max:>9.2}");
        median
    };
    line("rustc", &|patch| patch.rustc);
    let rest = line("all the rest", &|patch| patch.rest);
    for (nth, name) in STEPS.iter().enumerate() {
        line(name, &|patch| patch.steps.get(nth).copied().unwrap_or(f64::NAN));
    }
    (rest, table)
}

/// The smallest value that `percent` of all values do not exceed.
fn at(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_owned();
    sorted.sort_by(f64::total_cmp);
    let nth = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(nth).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"event":"patch","id":1,"outcome":"applied","functions":{"changed":1},"reasons":[],"timings_ms":{"detect":0.5,"compile":100.0,"diff":8.5,"judge":5.5,"link":0.5,"load":0.5,"pause":13.0,"total":130.0}}"#;

    #[test]
    fn an_event_is_read() {
        let patch = Patch::parse(LINE).expect("a patch").expect("understood");
        assert_eq!((patch.outcome.as_str(), patch.rustc, patch.rest), ("applied", 100.0, 30.0));
        assert_eq!(patch.steps, [0.5, 8.5, 5.5, 0.5, 0.5, 13.0]);
        assert!(Patch::parse("{\"event\":\"change\",\"id\":1}").is_none());
        assert!(Patch::parse("{\"event\":\"patch\",\"id\":1}").expect("a patch").is_err());
        assert_eq!(summary(&[patch]).0, 30.0);
    }

    #[test]
    fn percentiles_are_of_the_values() {
        let values: Vec<f64> = (1..=30).rev().map(f64::from).collect();
        assert_eq!([50, 90, 100].map(|percent| at(&values, percent)), [15.0, 27.0, 30.0]);
        assert_eq!(at(&[7.0], 50), 7.0);
    }
}
