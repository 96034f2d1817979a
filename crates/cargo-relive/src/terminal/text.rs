//! Events to lines. Pure: the same event gives the same lines.

use std::path::{Path, PathBuf};

use relive::tell::{Event, Outcome, PatchReport, Pending, Reason, Timings};

use super::style::{Ink, Style};

/// Names in the line of a patch before it says how many more there are.
const NAMES: usize = 3;

/// How lines look and from where paths are seen.
#[derive(Clone, Debug)]
pub struct Page {
    style: Style,
    cwd: PathBuf,
}

impl Page {
    /// A page in `style`, with paths as seen from `cwd`.
    #[must_use]
    pub fn new(style: Style, cwd: PathBuf) -> Page {
        Page { style, cwd }
    }

    /// The lines of `event`, without newlines.
    #[must_use]
    pub fn lines(&self, event: &Event) -> Vec<String> {
        let lines = match event {
            Event::Relayed(line) => vec![self.style.relayed(line)],
            Event::Note(text) => vec![self.ours(text)],
            Event::Started { pid, build_ms } => {
                vec![self.ours(&format!("started process {pid} after {}; save a file to change it", span(*build_ms)))]
            }
            Event::BuildFailed { message } => vec![self.ours(&format!("the first build failed: {message}"))],
            Event::Starting | Event::Spawned { .. } | Event::Change { .. } => Vec::new(), // what follows says it all
            Event::Patch(report) => self.patch(&format!("patch {}", report.id), report),
            Event::Turned { back, generation, report } => {
                let word = if *back { "undo" } else { "redo" };
                self.patch(&format!("{word} to generation {}", goal(*back, *generation, report)), report)
            }
            Event::Executable { file, ms, why_not: None, .. } => {
                vec![self.ours(&format!("{} begins with this code from now on ({})", self.seen(file), span(*ms)))]
            }
            Event::Executable { file, why_not: Some(why), .. } => {
                let title = self.style.paint(Ink::Note, "note");
                vec![self.ours(&format!("{title}: {} stays as it is: {why}", self.seen(file)))]
            }
            Event::Exited { code, live_edits } => vec![self.ours(&exited(*code, *live_edits))],
        };
        lines.iter().flat_map(|line| line.split('\n').map(str::to_owned)).collect()
    }

    fn ours(&self, text: &str) -> String {
        format!("{} {text}", self.style.paint(Ink::Name, "relive:"))
    }

    /// What became of `what`, such as `patch 3`.
    fn patch(&self, what: &str, report: &PatchReport) -> Vec<String> {
        let took = span(report.timings.total);
        let head = match report.outcome {
            Outcome::Applied => format!("{what}: {} in {took} ({})", functions(report), steps(&report.timings)),
            Outcome::Unchanged => format!("{what}: nothing differs from what runs, seen in {took}"),
            Outcome::Refused => format!("{what}: refused in {took}; the program runs on untouched"),
            Outcome::CompileError => format!("{what}: does not compile; the program runs on untouched"),
            Outcome::Superseded => format!("{what}: superseded by a later save"),
            Outcome::Failed => format!("{what}: failed after {took}; the program runs what it ran before"),
        };
        let ink = match report.outcome {
            Outcome::Applied => Some(Ink::Good),
            Outcome::Refused | Outcome::CompileError | Outcome::Failed => Some(Ink::Error),
            Outcome::Unchanged | Outcome::Superseded => None,
        };
        let mut lines = vec![self.ours(&ink.map_or(head.clone(), |ink| self.style.paint(ink, &head)))];
        let level = match report.outcome {
            Outcome::Refused | Outcome::Failed => Some(("error", Ink::Error)),
            Outcome::Applied | Outcome::Unchanged => Some(("note", Ink::Note)),
            Outcome::CompileError | Outcome::Superseded => None, // rustc's own lines were relayed
        };
        if let Some((level, ink)) = level {
            lines.extend(report.reasons.iter().flat_map(|reason| self.reason(reason, level, ink)));
        }
        lines.extend(report.pending.iter().map(|pending| self.pending(pending)));
        lines
    }

    /// The reasons for a no, or what should be known of a yes.
    #[must_use]
    pub fn reasons(&self, reasons: &[Reason], refused: bool) -> Vec<String> {
        let (level, ink) = if refused { ("error", Ink::Error) } else { ("note", Ink::Note) };
        reasons.iter().flat_map(|reason| self.reason(reason, level, ink)).collect()
    }

    fn reason(&self, reason: &Reason, level: &str, ink: Ink) -> Vec<String> {
        let title = self.style.paint(ink, &format!("{level}[{}]", reason.rule));
        let message = reason.message.replace('\n', "\n    ");
        let mut lines = vec![format!("{title}: {}", self.style.paint(Ink::Strong, &message))];
        if let Some(file) = &reason.file {
            let line = reason.line.map_or(String::new(), |line| format!(":{line}"));
            lines.push(format!("  {} {}{line}", self.style.paint(Ink::Frame, "-->"), self.seen(file)));
        }
        let margin = self.style.paint(Ink::Frame, "=");
        if !reason.help.is_empty() {
            let help = reason.help.replace('\n', "\n           ");
            lines.push(format!("   {margin} help: {help}"));
        }
        if level == "error" && relive::judge::rule(&reason.rule).is_some() {
            lines.push(format!("   {margin} note: `cargo relive explain {}` says more", reason.rule));
        }
        lines
    }

    /// The line of a function whose old code is on a stack.
    #[must_use]
    pub fn pending(&self, pending: &Pending) -> String {
        let Pending { function, thread, why } = pending;
        let title = self.style.paint(Ink::Note, "pending");
        format!("{title}: `{function}` still runs its old code in thread {thread}: {why}")
    }

    fn seen(&self, file: &Path) -> String {
        file.strip_prefix(&self.cwd).unwrap_or(file).display().to_string()
    }
}

/// The generation that a step leads to, whether it was taken or not.
fn goal(back: bool, now: u64, report: &PatchReport) -> u64 {
    match (report.outcome == Outcome::Applied, back) {
        (true, _) => now,
        (false, true) => now.saturating_sub(1),
        (false, false) => now.saturating_add(1),
    }
}

/// `2 functions changed, 1 added (a, b, c)`, kept ones included.
fn functions(report: &PatchReport) -> String {
    let counts =
        [(report.changed.len(), "changed"), (report.added.len(), "added"), (report.kept_old.len(), "kept old")];
    let mut parts: Vec<String> = Vec::new();
    for (count, word) in counts.into_iter().filter(|(count, _)| *count > 0) {
        let noun = match (parts.is_empty(), count) {
            (true, 1) => " function",
            (true, _) => " functions",
            (false, _) => "",
        };
        parts.push(format!("{count}{noun} {word}"));
    }
    if parts.is_empty() {
        return "no function changed".to_owned();
    }
    let mut names: Vec<&str> = report.changed.iter().chain(&report.added).map(String::as_str).collect();
    names.sort_by_key(|name| is_of_std(name)); // stable: what the user wrote comes first
    let more = if names.len() > NAMES { ", ..." } else { "" };
    let names = names.get(..NAMES).unwrap_or(&names).join(", ");
    if names.is_empty() { parts.join(", ") } else { format!("{} ({names}{more})", parts.join(", ")) }
}

/// Whether a function is the standard library's, or an instance of one.
fn is_of_std(name: &str) -> bool {
    let path = name.trim_start_matches(['<', '&', '*', '[', '(']);
    ["core::", "alloc::", "std::"].iter().any(|start| path.starts_with(start))
}

fn steps(timings: &Timings) -> String {
    let steps = [
        ("detect", timings.detect),
        ("rustc", timings.compile),
        ("diff", timings.diff),
        ("judge", timings.judge),
        ("link", timings.link),
        ("load", timings.load),
        ("pause", timings.pause),
    ];
    let told: Vec<String> = steps.iter().map(|(step, ms)| format!("{step} {}", number(*ms))).collect();
    told.join(", ")
}

fn exited(code: i32, live_edits: u64) -> String {
    let edits = match live_edits {
        0 => "no edit was live".to_owned(),
        1 => "1 edit was live, and the next start builds it".to_owned(),
        n => format!("{n} edits were live, and the next start builds them all"),
    };
    format!("the program ended with code {code}; {edits}")
}

/// Milliseconds in a line: as many digits as mean something.
pub(crate) fn number(ms: f64) -> String {
    if ms < 9.95 { format!("{ms:.1}") } else { format!("{ms:.0}") }
}

/// A time with its unit.
fn span(ms: f64) -> String {
    if ms < 9_999.5 { format!("{} ms", number(ms)) } else { format!("{:.1} s", ms / 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(event: &Event) -> String {
        Page::new(Style { colour: false }, "/p".into()).lines(event).join("\n")
    }

    fn report(outcome: Outcome) -> PatchReport {
        let timings = Timings {
            detect: 0.2,
            compile: 151.2,
            diff: 1.2,
            judge: 0.1,
            link: 0.4,
            load: 0.3,
            pause: 0.5,
            total: 164.4,
        };
        let (changed, added) = (vec!["world::tick".into(), "world::grow".into()], vec!["world::shrink".into()]);
        let (kept_old, pending, reasons) = (vec![], vec![], vec![]);
        PatchReport { id: 3, outcome, changed, added, kept_old, pending, reasons, timings }
    }

    fn layout() -> Reason {
        Reason {
            rule: "type-layout".into(),
            item: "world::Item".into(),
            message: "`world::Item` grew from 24 to 32 bytes".into(),
            help: "restart the program".into(),
            file: Some("/p/src/world.rs".into()),
            line: Some(12),
        }
    }

    #[test]
    fn an_applied_patch_is_one_line() {
        assert_eq!(
            lines(&Event::Patch(report(Outcome::Applied))),
            "relive: patch 3: 2 functions changed, 1 added (world::tick, world::grow, world::shrink) in 164 ms \
             (detect 0.2, rustc 151, diff 1.2, judge 0.1, link 0.4, load 0.3, pause 0.5)"
        );
    }

    #[test]
    fn an_executable_that_was_updated_or_not_is_one_line() {
        let file = PathBuf::from("/p/target/debug/app");
        let said = |why_not: Option<&str>| {
            let why_not = why_not.map(str::to_owned);
            lines(&Event::Executable { file: file.clone(), generation: 2, ms: 31.25, why_not })
        };
        assert_eq!(said(None), "relive: target/debug/app begins with this code from now on (31 ms)");
        assert_eq!(said(Some("no room")), "relive: note: target/debug/app stays as it is: no room");
    }

    #[test]
    fn a_step_says_what_it_leads_to() {
        let step = |back, outcome| lines(&Event::Turned { back, generation: 4, report: report(outcome) });
        assert!(
            step(true, Outcome::Applied).starts_with("relive: undo to generation 4: 2 functions changed, 1 added (")
        );
        let refused = "relive: undo to generation 3: refused in 164 ms; the program runs on untouched";
        assert_eq!(step(true, Outcome::Refused), refused);
        assert_eq!(step(false, Outcome::Superseded), "relive: redo to generation 5: superseded by a later save");
    }

    #[test]
    fn many_names_are_cut_and_one_function_is_one() {
        let mut report = report(Outcome::Applied);
        report.changed = vec!["a".into(), "b".into(), "c".into(), "d".into()];
        report.added.clear();
        assert_eq!(functions(&report), "4 functions changed (a, b, c, ...)");
        report.changed =
            vec!["core::ptr::drop_in_place<a::B>".into(), "<alloc::Vec<u8> as X>::y".into(), "z::w".into()];
        assert!(functions(&report).ends_with("(z::w, core::ptr::drop_in_place<a::B>, <alloc::Vec<u8> as X>::y)"));
        report.changed = vec!["a".into()];
        report.kept_old = vec!["old".into()];
        assert_eq!(functions(&report), "1 function changed, 1 kept old (a)");
        report.changed.clear();
        report.kept_old.clear();
        assert_eq!(functions(&report), "no function changed");
    }

    #[test]
    fn a_refusal_is_laid_out_like_a_compiler_error() {
        let report = PatchReport { reasons: vec![layout()], ..report(Outcome::Refused) };
        assert_eq!(
            lines(&Event::Patch(report)),
            "relive: patch 3: refused in 164 ms; the program runs on untouched\n\
             error[type-layout]: `world::Item` grew from 24 to 32 bytes\n  \
             --> src/world.rs:12\n   \
             = help: restart the program\n   \
             = note: `cargo relive explain type-layout` says more"
        );
    }

    #[test]
    fn what_should_be_known_of_an_applied_patch_is_a_note() {
        let reason = Reason { file: None, help: String::new(), ..layout() };
        let pending = Pending { function: "main".into(), thread: "main (7)".into(), why: "it never returned".into() };
        let report = PatchReport { reasons: vec![reason], pending: vec![pending], ..report(Outcome::Applied) };
        let text = lines(&Event::Patch(report));
        let rest: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(
            rest,
            [
                "note[type-layout]: `world::Item` grew from 24 to 32 bytes",
                "pending: `main` still runs its old code in thread main (7): it never returned"
            ]
        );
    }

    #[test]
    fn a_compile_error_leaves_the_word_to_rustc() {
        let report = PatchReport { reasons: vec![layout()], ..report(Outcome::CompileError) };
        assert_eq!(lines(&Event::Patch(report)), "relive: patch 3: does not compile; the program runs on untouched");
    }

    #[test]
    fn the_end_says_what_becomes_of_the_edits() {
        assert_eq!(
            lines(&Event::Exited { code: 0, live_edits: 2 }),
            "relive: the program ended with code 0; 2 edits were live, and the next start builds them all"
        );
        assert_eq!(
            lines(&Event::Exited { code: 1, live_edits: 0 }),
            "relive: the program ended with code 1; no edit was live"
        );
    }

    #[test]
    fn times_have_the_digits_that_mean_something() {
        assert_eq!([number(0.04), number(9.94), number(9.96), number(151.2)], ["0.0", "9.9", "10", "151"]);
        assert_eq!([span(3.0), span(9999.0), span(12_345.0)], ["3.0 ms", "9999 ms", "12.3 s"]);
    }

    #[test]
    fn relayed_colours_are_taken_off() {
        assert_eq!(lines(&Event::Relayed("\u{1b}[32mok\u{1b}[0m".into())), "ok");
    }
}
