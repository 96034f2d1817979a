//! One change from its files to its answer: the eight steps.
//!
//! Each step takes what the one before gave. Whatever ends the way early (a compile error, a refusal, a later save, a
//! failure) leaves the program as it was, and is an answer like any other.

use std::time::{Duration, Instant};

use relive_process::launch::Child;
use relive_process::maps::MemoryMap;
use relive_process::unwind::Unwinder;
use rustc_hash::FxHashMap;

use crate::binary::names;
use crate::change::{self, Change};
use crate::compile::{self, Baseline, Build, ObjectFile, Rebuilt};
use crate::diff::reach::Problem;
use crate::diff::{self, Delta, NewObject, ObjectKey, Reach, Running};
use crate::judge::{self, Facts, TypeSet, Verdict};
use crate::link::{self, Layout, Placement};
use crate::load::{self, Entries, Loaded};
use crate::session::adopt::adopt;
use crate::session::facts::{self, TypeCache};
use crate::session::inbox::Inbox;
use crate::session::known::{self, Background, KnownLibraries, ObjectReader};
use crate::session::lines;
use crate::session::pending::pending;
use crate::session::program::Program;
use crate::swap::{self, Committed, Moved};
use crate::tell::{Event, Outcome, PatchReport, Reason, Timings};
use crate::Error;

/// How long a switch is tried before the user is told who is in the way.
const TELL_AFTER: Duration = Duration::from_millis(250);
/// Pause between two tries, so that the thread in the way gets on.
const TRY_AGAIN: Duration = Duration::from_millis(2);
/// How long a switch is tried at all. A debugger may stay attached for as long as it likes.
const GIVE_UP_AFTER: Duration = Duration::from_secs(15);

/// Why a change ends early.
enum End {
    Refused(Vec<Reason>),
    CompileError(Vec<Reason>),
    Unchanged,
    Superseded,
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> End {
        End::Failed(error)
    }
}

/// Ends the program, for a restart.
pub(super) fn end_program(child: &Child) -> Result<(), Error> {
    const SIGTERM: i32 = 15;
    child.signal(SIGTERM)?;
    child.wait()?;
    Ok(())
}

/// The answer to every change of a program that the agent could not be loaded into.
pub(super) fn unreachable(id: u64, why: &str) -> PatchReport {
    let reason = refusal("no-agent", "the running program", format!("the program cannot be reached: {why}"));
    PatchReport { outcome: Outcome::Refused, reasons: vec![reason], ..PatchReport::new(id) }
}

/// Answers changes of one running program.
pub(super) struct Patcher {
    program: Program,
    running: Background<Running>,
    libraries: KnownLibraries,
    types: TypeCache,
    unwinder: Unwinder,
    /// The newest objects of each unit, whether they run or not.
    newest: FxHashMap<usize, Vec<ObjectFile>>,
    /// The files that the running objects were read from.
    files: FxHashMap<(usize, String), ObjectFile>,
}

impl Patcher {
    pub(super) fn new(baseline: &Baseline, program: Program) -> Patcher {
        let mut files = FxHashMap::default();
        for (unit, what) in baseline.units.iter().enumerate() {
            files.extend(what.objects.iter().map(|file| ((unit, file.cgu.clone()), file.clone())));
        }
        Patcher {
            running: known::running(baseline, program.exe_start),
            libraries: KnownLibraries::start(baseline, program.memory.clone()),
            types: TypeCache::default(),
            unwinder: Unwinder::new(program.memory.clone()),
            newest: FxHashMap::default(),
            files,
            program,
        }
    }

    /// The answer to `change`, whose last file was saved at `saved`.
    pub(super) fn answer(
        &mut self,
        id: u64,
        change: &Change,
        saved: Instant,
        baseline: &mut Baseline,
        inbox: &mut Inbox,
        tell: &mut dyn FnMut(&Event),
    ) -> PatchReport {
        let mut report = PatchReport::new(id);
        report.timings.detect = ms(saved.elapsed());
        let end = self.steps(change, baseline, inbox, tell, &mut report).err();
        (report.outcome, report.reasons) = match end {
            None => (Outcome::Applied, std::mem::take(&mut report.reasons)),
            Some(End::Unchanged) => (Outcome::Unchanged, Vec::new()),
            Some(End::Superseded) => (Outcome::Superseded, Vec::new()),
            Some(End::Refused(reasons)) => (Outcome::Refused, reasons),
            Some(End::CompileError(reasons)) => (Outcome::CompileError, reasons),
            Some(End::Failed(error)) => (Outcome::Failed, vec![failure(&error)]),
        };
        self.types.tidy();
        report.timings.total = ms(saved.elapsed());
        report
    }

    fn steps(
        &mut self,
        change: &Change,
        baseline: &mut Baseline,
        inbox: &mut Inbox,
        tell: &mut dyn FnMut(&Event),
        report: &mut PatchReport,
    ) -> Result<(), End> {
        let before = baseline.inputs();
        let build = compile_change(change, baseline, &mut || saved_again(inbox, &before), tell, report)?;
        let inputs = baseline.inputs();
        let mut later = |inbox: &mut Inbox| saved_again(inbox, &inputs);
        let clock = Instant::now();
        let (removed, added) = self.exchanged(baseline, build)?;
        let types = &mut self.types;
        let running = self.running.get()?;
        let delta = diff::compare(running, removed, added, &mut |new| types.of(new).functions.clone());
        if delta.is_empty() {
            self.commit_objects(delta, None)?;
            return Err(End::Unchanged);
        }
        let reach = diff::reach(running, &delta, &mut self.libraries);
        let entries = load::examine(running, &reach, &self.program.memory)?;
        let moved = lines::moved(running, &delta.moves, &self.program.memory)?;
        report.timings.diff = ms(clock.elapsed());
        let notes = timed(&mut report.timings.judge, || self.judge(baseline, &delta, &reach, &entries))?;
        if later(inbox) {
            return Err(End::Superseded);
        }
        report.reasons = notes;
        self.describe(&delta, &reach, report);
        if reach.functions.is_empty() {
            for location in &moved {
                self.program.memory.write(location.addr, &location.bytes()).map_err(Error::from)?;
            }
            self.commit_objects(delta, None)?;
            return Ok(());
        }
        let loaded = self.link_and_load(&reach, &entries, report)?;
        let committed = self.switch(&loaded, &moved, inbox, &mut later, tell)?;
        report.timings.pause = ms(committed.pause);
        let agent = self.program.agent.hello().tid;
        report.pending = pending(&mut self.unwinder, &committed.threads, &loaded.image.functions, agent);
        self.commit_objects(delta, Some(&loaded.image))?;
        Ok(())
    }

    /// Objects of the units on disk that differ from those that run.
    fn exchanged(&mut self, baseline: &Baseline, build: Build) -> Result<(Vec<ObjectKey>, Vec<NewObject>), Error> {
        for rebuilt in build.units {
            self.newest.insert(rebuilt.unit, rebuilt.objects);
        }
        let _ = baseline;
        let running = self.running.get()?;
        let mut reader = ObjectReader::default();
        let mut before = ObjectReader::default();
        let mut removed = Vec::new();
        let mut added = Vec::new();
        for (unit, objects) in &self.newest {
            for file in objects {
                let old = running.by_cgu(*unit, &file.cgu);
                let known = self.files.get(&(*unit, file.cgu.clone()));
                if let (Some(key), Some(known)) = (old, known) {
                    let same_file = known.id == file.id && known.range == file.range;
                    let same = same_file || *reader.bytes(file)? == *before.bytes(known)?;
                    if same {
                        continue;
                    }
                    removed.push(key);
                }
                added.push(reader.read(*unit, file)?);
            }
            let stays = |cgu: &str| objects.iter().any(|file| file.cgu == cgu);
            removed.extend(
                running.objects().filter(|(_, old)| old.unit == *unit && !stays(&old.cgu)).map(|(key, _)| key),
            );
        }
        Ok((removed, added))
    }

    /// What runs is the newest build now.
    fn commit_objects(&mut self, delta: Delta, image: Option<&link::Image>) -> Result<(), Error> {
        adopt(self.running.get()?, delta, image);
        for (unit, objects) in self.newest.drain() {
            self.files.retain(|(of, _), _| *of != unit);
            self.files.extend(objects.into_iter().map(|file| ((unit, file.cgu.clone()), file)));
        }
        Ok(())
    }

    fn judge(
        &mut self,
        baseline: &Baseline,
        delta: &Delta,
        reach: &Reach,
        entries: &Entries,
    ) -> Result<Vec<Reason>, End> {
        let running = self.running.get()?;
        let old: Vec<_> = delta.removed.iter().filter_map(|key| running.object(*key)).collect();
        let old: Vec<_> = old.into_iter().map(|object| self.types.of(object)).collect();
        let new: Vec<_> = delta.objects.iter().map(|object| self.types.of(object)).collect();
        let mut delta_facts = facts::delta_facts(baseline, running, delta, reach, entries, &mut self.types);
        delta_facts.wrong_binary = self.program.mismatch()?;
        let facts = Facts {
            old: TypeSet { objects: old.iter().filter_map(|known| known.types.as_ref()).collect() },
            new: TypeSet { objects: new.iter().filter_map(|known| known.types.as_ref()).collect() },
            delta: delta_facts,
        };
        let mut refusals = self.unlinkable(delta, reach, entries);
        refusals.extend(never_entered(baseline, delta, reach));
        match judge::judge(&facts) {
            Verdict::Accepted(notes) if refusals.is_empty() => Ok(notes.into_iter().map(told).collect()),
            Verdict::Accepted(_) => Err(End::Refused(refusals)),
            Verdict::Refused(mut reasons) => {
                refusals.splice(0..0, reasons.drain(..).map(told));
                Err(End::Refused(refusals))
            }
        }
    }

    fn unlinkable(&mut self, delta: &Delta, reach: &Reach, entries: &Entries) -> Vec<Reason> {
        let mut out = Vec::new();
        for problem in &reach.problems {
            out.extend(match problem {
                Problem::UndefinedSymbol { name, from } => Some(refusal(
                    "undefined-symbol",
                    &names::readable(name),
                    format!("`{}`, which `{from}` needs, is not in the program, nor in its libraries", names::readable(name)),
                )),
                Problem::NamelessStorage(what) => {
                    Some(refusal("nameless-storage", what, format!("{what} is storage without a name of its own")))
                }
                Problem::ForeignCopy(name) => {
                    let name = names::readable(name);
                    let text = format!("the only copies of `{name}` in the program belong to a crate that is not edited");
                    Some(refusal("foreign-copy", &name, text))
                }
                Problem::Unreadable(what) => Some(refusal("unreadable-object", what, what.clone())),
                Problem::NewThreadLocal(_) | Problem::UnknownRelocation { .. } | Problem::AmbiguousSymbol(_) => None,
            });
        }
        for name in &delta.unsplit {
            let name = names::readable(name);
            let text = format!("the code around `{name}` changed and cannot be taken apart into functions");
            out.push(refusal("unsplit-code", &name, text));
        }
        for name in &delta.gathered {
            let text = format!(
                "section `{name}` changed: it is gathered when a program is linked or loaded (constructors, registries), \
                 which has happened"
            );
            out.push(refusal("gathered-section", name, text));
        }
        for name in &entries.altered {
            let name = names::readable(name);
            let text = format!("the code of `{name}` in memory is not the built one: a breakpoint or another tool's hook");
            out.push(refusal("entry-altered", &name, text));
        }
        for what in self.types.unreadable() {
            out.push(refusal("no-type-info", &what, format!("debug information cannot be read: {what}")));
        }
        out
    }

    fn describe(&self, delta: &Delta, reach: &Reach, report: &mut PatchReport) {
        let readable = |text: &str| names::readable(text);
        let (old, new): (Vec<_>, Vec<_>) = reach.functions.iter().partition(|function| function.live.is_some());
        report.changed = old.iter().map(|function| readable(&function.text)).collect();
        report.added = new.iter().map(|function| readable(&function.text)).collect();
        report.kept_old = delta.kept_old.iter().map(|text| readable(text)).collect();
        for list in [&mut report.changed, &mut report.added, &mut report.kept_old] {
            list.sort();
        }
    }

    fn link_and_load(&mut self, reach: &Reach, entries: &Entries, report: &mut PatchReport) -> Result<Loaded, End> {
        let clock = Instant::now();
        let fatal = |error: link::LinkError| Error::Fatal(error.to_string());
        let layout = Layout::new(reach, &entries.plans).map_err(fatal)?;
        let program = &mut self.program;
        if layout.new_entries() as u64 > program.tables.left() {
            let text = format!("the table of patched functions has {} entries left", program.tables.left());
            return Err(End::Refused(vec![refusal("tables-full", "table", text)]));
        }
        let size = layout.size(reach);
        let Some(reserved) = program.room.find(size) else {
            let text = format!("{size} bytes are needed near the program's code and {} slots are left", program.room.left());
            return Err(End::Refused(vec![refusal("no-room", "memory", text)]));
        };
        program.room.take(&reserved);
        let placement = Placement {
            base: reserved.base,
            room: reserved.size,
            table_word: program.tables.word(),
            first_index: program.tables.next_index(),
        };
        let image = link::place(reach, &layout, &entries.plans, &placement).map_err(fatal)?;
        report.timings.link = ms(clock.elapsed());
        let clock = Instant::now();
        let child = program.child();
        let loaded =
            load::load(image, &reserved, &program.folder, &mut program.agent, &program.memory, &|| child.is_alive())?;
        report.timings.load = ms(clock.elapsed());
        Ok(loaded)
    }

    fn switch(
        &mut self,
        loaded: &Loaded,
        moved: &[Moved],
        inbox: &mut Inbox,
        later: &mut dyn FnMut(&mut Inbox) -> bool,
        tell: &mut dyn FnMut(&Event),
    ) -> Result<Committed, End> {
        let began = Instant::now();
        let map = MemoryMap::read(self.program.pid()).map_err(Error::from)?;
        self.unwinder.refresh(&map).map_err(Error::from)?;
        let mut told = false;
        loop {
            if later(inbox) {
                return Err(End::Superseded);
            }
            let program = &mut self.program;
            let why = match swap::commit(&program.memory, &map, &mut program.tables, loaded, moved) {
                Ok(committed) => return Ok(committed),
                Err(Error::Busy(why)) => why,
                Err(error) => return Err(End::Failed(error)),
            };
            let debugger = why.contains("debugger");
            if !told && began.elapsed() > TELL_AFTER {
                tell(&Event::Note(format!("the switch waits: {why}")));
                told = true;
            }
            if !debugger && began.elapsed() > GIVE_UP_AFTER {
                return Err(End::Failed(Error::Busy(why)));
            }
            inbox.wait(TRY_AGAIN);
        }
    }
}

/// Whether a build input was saved since, or the program ended.
fn saved_again(inbox: &mut Inbox, inputs: &change::Inputs) -> bool {
    inbox.has(&mut |saved| !change::classify(inputs, &saved.files).is_empty())
}

fn compile_change(
    change: &Change,
    baseline: &mut Baseline,
    cancelled: &mut dyn FnMut() -> bool,
    tell: &mut dyn FnMut(&Event),
    report: &mut PatchReport,
) -> Result<Build, End> {
    let clock = Instant::now();
    let rebuilt = if change.manifests.is_empty() {
        compile::rebuild(baseline, change, cancelled)
    } else {
        compile::rebuild_with_cargo(baseline, &mut |line| tell(&Event::Relayed(line)))
    };
    report.timings.compile = ms(clock.elapsed());
    match rebuilt? {
        Rebuilt::Built(build) => {
            build.rendered.iter().for_each(|text| tell(&Event::Relayed(text.clone())));
            report.timings.compile = ms(build.compile);
            Ok(build)
        }
        Rebuilt::Cancelled => Err(End::Superseded),
        Rebuilt::CompileError { rendered, first } => {
            rendered.into_iter().for_each(|text| tell(&Event::Relayed(text)));
            Err(End::CompileError(vec![Reason {
                rule: "rustc".into(),
                item: first.file.as_ref().map_or_else(String::new, |file| file.display().to_string()),
                message: first.message,
                help: "The program runs on as it was; the next save is tried again.".into(),
                file: first.file,
                line: first.line,
            }]))
        }
    }
}

/// Functions that are other functions now (their signature, captures or state changed) and that only `main` leads to:
/// `main` runs and is not called again, so the new ones never would be.
fn never_entered(baseline: &Baseline, delta: &Delta, reach: &Reach) -> Vec<Reason> {
    if delta.kept_old.is_empty() {
        return Vec::new();
    }
    let mains: Vec<_> = baseline.units.iter().map(|unit| format!("{}::main", unit.crate_name)).collect();
    let entered = reach.reachable(|function| {
        function.live.is_some() && !mains.contains(&names::readable(&function.text))
    });
    let kept: Vec<_> = delta.kept_old.iter().map(|text| names::path_key(text)).collect();
    let never = reach.functions.iter().filter(|function| {
        function.live.is_none()
            && !entered.contains(&function.piece)
            && kept.contains(&names::path_key(&function.text))
    });
    never
        .map(|function| {
            let name = names::readable(&function.text);
            let text = format!(
                "`{name}` has another signature, captures or state now, and only `main` leads to it, which runs already \
                 and goes on calling the old one"
            );
            refusal("only-main-calls", &name, text)
        })
        .collect()
}

fn told(reason: judge::Reason) -> Reason {
    Reason {
        rule: reason.rule.to_owned(),
        item: reason.item,
        message: reason.message,
        help: reason.help,
        file: reason.file,
        line: reason.line,
    }
}

fn refusal(rule: &str, item: &str, message: String) -> Reason {
    let help = "To take the edit as it is, stop the program and start it again with `cargo relive run`.".to_owned();
    Reason { rule: rule.to_owned(), item: item.to_owned(), message, help, file: None, line: None }
}

fn failure(error: &Error) -> Reason {
    Reason {
        rule: "failed".into(),
        item: String::new(),
        message: error.to_string(),
        help: "The program runs what it ran before; the next save is tried again.".into(),
        file: None,
        line: None,
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn timed<T>(field: &mut f64, step: impl FnOnce() -> T) -> T {
    let clock = Instant::now();
    let value = step();
    *field = ms(clock.elapsed());
    value
}

impl PatchReport {
    fn new(id: u64) -> PatchReport {
        PatchReport {
            id,
            outcome: Outcome::Failed,
            changed: Vec::new(),
            added: Vec::new(),
            kept_old: Vec::new(),
            pending: Vec::new(),
            reasons: Vec::new(),
            timings: Timings::default(),
        }
    }
}
