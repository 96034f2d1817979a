//! One change from its files to its answer: the eight steps.
//!
//! Each step takes what the one before gave. Whatever ends the way early (a compile error, a refusal, a later save, a
//! failure) leaves the program as it was, and is an answer like any other.

use std::time::{Duration, Instant};

use relive_process::launch::Child;
use relive_process::maps::MemoryMap;
use relive_process::unwind::Unwinder;
use rustc_hash::FxHashMap;

use crate::Error;
use crate::binary::names;
use crate::change::{self, Change};
use crate::compile::{self, Baseline, Build, ObjectFile, Rebuilt};
use crate::diff::{self, Delta, NewObject, ObjectKey, Reach, Running};
use crate::judge::{self, DeltaFacts, Facts, TypeSet, Verdict};
use crate::link::{self, Layout, Placement};
use crate::load::{self, Entries, Loaded};
use crate::session::adopt::adopt;
use crate::session::facts::{self, TypeCache};
use crate::session::inbox::Inbox;
use crate::session::known::{self, Background, KnownLibraries, ObjectReader};
use crate::session::lines;
use crate::session::pending::pending;
use crate::session::places;
use crate::session::program::Program;
use crate::swap::{self, Committed, Moved};
use crate::tell::{Event, Outcome, PatchReport, Reason, Timings};

/// How long a switch is tried before the user is told who is in the way.
const TELL_AFTER: Duration = Duration::from_millis(250);
/// Pause between two tries, so that the thread in the way gets on.
const TRY_AGAIN: Duration = Duration::from_millis(2);
/// Longest pause between two tries: longer than ordinary timeouts, which every stop starts anew.
const TRY_AGAIN_MOST: Duration = Duration::from_millis(1000);
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
    let facts = DeltaFacts { no_agent: Some(why.to_owned()), ..DeltaFacts::default() };
    let reasons = judge::judge_late(&facts).into_iter().map(told).collect();
    PatchReport { outcome: Outcome::Refused, reasons, ..PatchReport::new(id) }
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
        if let Err(error) = self.release(baseline) {
            tell(&Event::Note(error.to_string()));
        }
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
        let changed_dependencies = build.uncaptured.clone();
        let (removed, added) = self.exchanged(build)?;
        if !changed_dependencies.is_empty() {
            let mut reasons = judge::judge_late(&DeltaFacts { changed_dependencies, ..DeltaFacts::default() });
            places::place(&mut reasons, &TypeSet::default(), baseline);
            return Err(End::Refused(reasons.into_iter().map(told).collect()));
        }
        self.libraries.extend(&baseline.rlibs)?;
        let types = &mut self.types;
        let running = self.running.get()?;
        let delta = diff::compare(running, removed, added, &mut |objects| {
            types.read_ahead(objects.iter().copied());
            objects.iter().map(|new| types.of(new).functions.clone()).collect()
        });
        if delta.is_empty() {
            self.commit_objects(delta, None)?;
            return Err(End::Unchanged);
        }
        let reach = diff::reach(running, &delta, &mut self.libraries);
        let entries = load::examine(running, &reach, &self.program.memory)?;
        let moved = lines::moved(running, &delta.moves, &self.program.memory)?;
        report.timings.diff = ms(clock.elapsed());
        if brings_something(&delta, &reach) {
            let judged = timed(&mut report.timings.judge, || self.judge(baseline, &delta, &reach, &entries));
            report.reasons = judged?;
        }
        if later(inbox) {
            return Err(End::Superseded);
        }
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
    fn exchanged(&mut self, build: Build) -> Result<(Vec<ObjectKey>, Vec<NewObject>), Error> {
        for rebuilt in build.units {
            self.newest.insert(rebuilt.unit, rebuilt.objects);
        }
        let running = self.running.get()?;
        let mut reader = ObjectReader::default();
        let mut before = ObjectReader::default();
        let mut removed = Vec::new();
        let mut wanted = Vec::new();
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
                wanted.push((*unit, file.clone()));
            }
            let stays = |cgu: &str| objects.iter().any(|file| file.cgu == cgu);
            removed
                .extend(running.objects().filter(|(_, old)| old.unit == *unit && !stays(&old.cgu)).map(|(key, _)| key));
        }
        Ok((removed, known::read_all(&wanted)?))
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

    /// Removes kept objects that are neither the newest nor those that run.
    fn release(&self, baseline: &Baseline) -> Result<(), Error> {
        let mut live: FxHashMap<usize, Vec<ObjectFile>> = self.newest.clone();
        for ((unit, _), file) in &self.files {
            live.entry(*unit).or_default().push(file.clone());
        }
        live.iter().try_for_each(|(unit, objects)| baseline.release_objects(*unit, objects))
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
        self.types.read_ahead(old.iter().copied().chain(&delta.objects));
        let old: Vec<_> = old.into_iter().map(|object| self.types.of(object)).collect();
        let new: Vec<_> = delta.objects.iter().map(|object| self.types.of(object)).collect();
        let mut delta_facts = facts::delta_facts(baseline, running, delta, reach, entries, &mut self.types);
        delta_facts.wrong_binary = self.program.mismatch()?;
        let facts = Facts {
            old: TypeSet { objects: old.iter().filter_map(|known| known.types.as_ref()).collect() },
            new: TypeSet { objects: new.iter().filter_map(|known| known.types.as_ref()).collect() },
            delta: delta_facts,
        };
        match judge::judge(&facts) {
            Verdict::Accepted(mut notes) => {
                places::place(&mut notes, &facts.new, baseline);
                Ok(notes.into_iter().map(told).collect())
            }
            Verdict::Refused(mut reasons) => {
                places::place(&mut reasons, &facts.new, baseline);
                Err(End::Refused(reasons.into_iter().map(told).collect()))
            }
        }
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
            let full = format!("the table of patched functions has {} entries left", program.tables.left());
            return Err(refused(DeltaFacts { tables_full: Some(full), ..DeltaFacts::default() }));
        }
        let size = layout.size(reach);
        let Some(reserved) = program.room.find(size) else {
            let none =
                format!("{size} bytes are needed near the program's code and {} slots are left", program.room.left());
            return Err(refused(DeltaFacts { no_room: Some(none), ..DeltaFacts::default() }));
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
        let mut pause = TRY_AGAIN;
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
            let debugger = why.contains("a debugger (pid");
            if !told && began.elapsed() > TELL_AFTER {
                tell(&Event::Note(format!("the switch waits: {why}")));
                told = true;
            }
            if !debugger && began.elapsed() > GIVE_UP_AFTER {
                return Err(End::Failed(Error::Busy(why)));
            }
            inbox.wait(pause);
            pause = (pause * 2).min(TRY_AGAIN_MOST);
        }
    }
}

/// Whether there is anything to judge: where no code and no variable is new, what runs goes on as it was.
fn brings_something(delta: &Delta, reach: &Reach) -> bool {
    !(reach.functions.is_empty()
        && reach.problems.is_empty()
        && delta.statics.is_empty()
        && delta.gathered.is_empty()
        && delta.unsplit.is_empty()
        && delta.ambiguous.is_empty())
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
    let rebuilt = if baseline.needs_cargo(change) {
        compile::rebuild_with_cargo(baseline, &mut |line| tell(&Event::Relayed(line)))
    } else {
        compile::rebuild(baseline, change, cancelled)
    };
    report.timings.compile = ms(clock.elapsed());
    match rebuilt? {
        Rebuilt::Built(build) => {
            build.rendered.iter().for_each(|text| tell(&Event::Relayed(text.clone())));
            report.timings.compile = ms(build.compile);
            Ok(build)
        }
        Rebuilt::Cancelled => Err(End::Superseded),
        // Half of the files of a save that takes a moment.
        Rebuilt::CompileError { .. } if cancelled() => Err(End::Superseded),
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

/// The refusal by what linking or loading ran into.
fn refused(facts: DeltaFacts) -> End {
    End::Refused(judge::judge_late(&facts).into_iter().map(told).collect())
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
