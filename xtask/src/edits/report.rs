//! What became of the edits, by kind.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::choice::{RESTORED, TWO};
use super::mutate::{KINDS, Soundness};

/// The edits that bring a file back to what it was.
pub(crate) const PUT_BACK: &str = "put back";

/// The comparison after the last edit of a session.
pub(crate) const AT_END: &str = "at the end";

/// What one edit came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// rustc does not take it, and cargo says the same.
    CompileError,
    Applied,
    Unchanged,
    /// By these rules.
    Refused(Vec<String>),
}

/// Counts of one kind.
#[derive(Default)]
struct Row {
    compile_errors: u64,
    applied: u64,
    unchanged: u64,
    refused: BTreeMap<String, u64>,
    refusals: u64,
    sound: u64,
    sound_refused: u64,
    faults: u64,
}

/// Counts of a run.
#[derive(Default)]
pub(crate) struct Report {
    rows: BTreeMap<&'static str, Row>,
    /// Edits that compiled.
    pub(crate) counted: u64,
    /// Fresh builds that a patched program was compared with.
    pub(crate) twins: u64,
    /// Executables that were brought up to date, started and compared with a fresh build.
    pub(crate) restarted: u64,
    /// Those that stayed as they were, by the reason.
    pub(crate) kept: BTreeMap<String, u64>,
    /// Applied edits that change values, and those of them that the next answers showed.
    pub(crate) values: u64,
    pub(crate) values_shown: u64,
    /// Edits after which the program ends or hangs, patched or not.
    pub(crate) deadly: u64,
    pub(crate) faults: Vec<String>,
}

impl Report {
    pub(crate) fn add(&mut self, kind: &'static str, soundness: Soundness, verdict: &Verdict) {
        let row = self.rows.entry(kind).or_default();
        if *verdict == Verdict::CompileError {
            row.compile_errors += 1;
            return;
        }
        self.counted += 1;
        let sound = u64::from(soundness == Soundness::Sound);
        row.sound += sound;
        match verdict {
            Verdict::Applied => row.applied += 1,
            Verdict::Unchanged | Verdict::CompileError => row.unchanged += 1,
            Verdict::Refused(rules) => {
                row.refusals += 1;
                row.sound_refused += sound;
                for rule in rules {
                    *row.refused.entry(rule.clone()).or_default() += 1;
                }
            }
        }
    }

    /// An edit that changes values was applied; `shown` if the next answers were others than without it.
    pub(crate) fn shown(&mut self, shown: bool) {
        self.values += 1;
        self.values_shown += u64::from(shown);
    }

    /// An executable was not brought up to date.
    pub(crate) fn kept(&mut self, why: String) {
        *self.kept.entry(why).or_default() += 1;
    }

    pub(crate) fn fault(&mut self, kind: &'static str, text: String) {
        self.rows.entry(kind).or_default().faults += 1;
        self.faults.push(text);
    }

    /// Sound edits that were refused, in percent of all sound ones.
    pub(crate) fn refused_share(&self) -> f64 {
        let sum = |of: fn(&Row) -> u64| self.rows.values().map(of).sum::<u64>();
        let sound = u32::try_from(sum(|row| row.sound)).unwrap_or(u32::MAX).max(1);
        100.0 * f64::from(u32::try_from(sum(|row| row.sound_refused)).unwrap_or(u32::MAX)) / f64::from(sound)
    }

    pub(crate) fn table(&self) -> String {
        let mut table = format!(
            "{:21} {:>6} {:>7} {:>8} {:>9} {:>8} {:>6} {:>8} {:>7}  rules\n",
            "kind", "tried", "rustc-", "applied", "unchanged", "refused", "sound", "-refused", "faults"
        );
        for name in KINDS.iter().map(|kind| kind.name).chain([TWO, RESTORED, PUT_BACK, AT_END]) {
            let Some(row) = self.rows.get(name) else { continue };
            let tried = row.compile_errors + row.applied + row.unchanged + row.refusals;
            let rules: Vec<String> = row.refused.iter().map(|(rule, count)| format!("{rule} {count}")).collect();
            let _ = writeln!(
                table,
                "{name:21} {tried:>6} {:>7} {:>8} {:>9} {:>8} {:>6} {:>8} {:>7}  {}",
                row.compile_errors,
                row.applied,
                row.unchanged,
                row.refusals,
                row.sound,
                row.sound_refused,
                row.faults,
                rules.join(", ")
            );
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_of_the_sound_edits_that_compile() {
        let mut report = Report::default();
        report.add("comment", Soundness::Sound, &Verdict::Applied);
        report.add("comment", Soundness::Sound, &Verdict::Refused(vec!["no-room".to_owned()]));
        report.add("comment", Soundness::Unsound, &Verdict::Refused(vec!["type-layout".to_owned()]));
        report.add("comment", Soundness::Sound, &Verdict::CompileError);
        assert_eq!((report.counted, report.refused_share()), (3, 50.0));
        assert!(report.table().contains("no-room 1, type-layout 1"));
    }
}
