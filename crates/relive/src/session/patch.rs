//! One change from its files to its answer: the eight steps.
//!
//! Each step takes what the one before gave. Whatever ends the way early (a compile error, a refusal, a later save, a
//! failure) leaves the program as it was, and is an answer like any other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use relive_process::launch::Child;
use relive_process::unwind::Unwinder;
use rustc_hash::FxHashMap;

use crate::binary::names;
use crate::binary::object::NameId;
use crate::binary::types::ObjectTypes;
use crate::change::{self, Change};
use crate::compile::{self, Baseline, Build, ObjectFile, Rebuilt};
use crate::diff::{self, Delta, Live, NewObject, ObjectKey, Reach, Running};
use crate::error::{Error, advice};
use crate::judge::{self, DeltaFacts, Facts, Liveness, TypeSet, Verdict};
use crate::link;
use crate::load::{self, Entries};
use crate::session::adopt::adopt;
use crate::session::end::{End, failure, refused, told};
use crate::session::facts::{self, Known, TypeCache};
use crate::session::history::{self, History, Step};
use crate::session::inbox::Inbox;
use crate::session::known::{self, Background, KnownLibraries, ObjectReader};
use crate::session::ledger::Ledger;
use crate::session::lines;
use crate::session::liveness::{self, Gone, Retired};
use crate::session::opaque::OpaqueCode;
use crate::session::pending::{may_be_on, pending, stacks};
use crate::session::places;
use crate::session::program::Program;
use crate::session::update::Updater;
use crate::tell::{Event, Outcome, PatchReport, Reason, Timings};

mod switch;
mod turn;

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
    /// Old code that may still run and is no part of the current build.
    retired: Vec<Retired>,
    gone: Gone,
    opaque: OpaqueCode,
    history: History,
    ledger: Ledger,
    /// Whether the executable is to be brought up to date, and who does, from the first change on.
    update_binary: bool,
    updater: Option<Updater>,
}

/// What a change meets on its way from the objects to the switch.
struct Course<'a> {
    baseline: &'a Baseline,
    /// What it leads to.
    generation: u64,
    waiting: Waiting<'a>,
    report: &'a mut PatchReport,
}

/// What goes on while a change waits for something.
struct Waiting<'a> {
    inbox: &'a mut Inbox,
    /// Whether something came that the change has to give way to.
    later: &'a mut dyn FnMut(&mut Inbox) -> bool,
    tell: &'a mut dyn FnMut(&Event),
}

impl Waiting<'_> {
    /// Ends the change if it has to give way.
    fn go_on(&mut self) -> Result<(), End> {
        if (self.later)(self.inbox) { Err(End::Superseded) } else { Ok(()) }
    }
}

/// An accepted change: what to tell about it, and the proof that it rests on, if there is one.
type Accepted = (Vec<Reason>, Option<Liveness>);

impl Patcher {
    pub(super) fn new(baseline: &Baseline, program: Program, update_binary: bool) -> Patcher {
        let mut files = FxHashMap::default();
        for (unit, what) in baseline.units.iter().enumerate() {
            files.extend(what.objects.iter().map(|file| ((unit, file.cgu.clone()), file.clone())));
        }
        let mut opaque = OpaqueCode::default();
        opaque.note_unknown(source_files(baseline));
        Patcher {
            retired: Vec::new(),
            gone: Gone::default(),
            opaque,
            history: History::default(),
            ledger: Ledger::default(),
            update_binary,
            updater: None,
            running: known::running(baseline, program.exe_start, program.memory.clone()),
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
        let end = self.steps(change, baseline, inbox, tell, &mut report);
        let end = end.map(|(step, applied)| {
            self.run_newest();
            if applied {
                self.history.switched(step)
            } else {
                self.history.settled(step)
            }
            applied
        });
        let is_done = end.is_ok();
        self.close(end, saved, &mut report);
        if is_done {
            self.update_binary(baseline);
        }
        if let Err(error) = self.release(baseline) {
            tell(&Event::Note(error.to_string()));
        }
        report
    }

    /// Has the executable brought to what runs, beside everything else.
    fn update_binary(&mut self, baseline: &Baseline) {
        if let (Some(updater), Ok(running)) = (&mut self.updater, self.running.get()) {
            updater.bring(running, baseline, self.history.generation());
        }
    }

    /// Waits for what goes on beside the program.
    pub(super) fn finish(self) {
        if let Some(updater) = self.updater {
            updater.finish();
        }
    }

    /// Says in `report` how it ended; `Ok` has whether something was switched.
    fn close(&mut self, end: Result<bool, End>, began: Instant, report: &mut PatchReport) {
        (report.outcome, report.reasons) = match end {
            Ok(true) => (Outcome::Applied, std::mem::take(&mut report.reasons)),
            Ok(false) => (Outcome::Unchanged, Vec::new()),
            Err(End::Superseded) => (Outcome::Superseded, Vec::new()),
            Err(End::Refused(reasons)) => (Outcome::Refused, reasons),
            Err(End::CompileError(reasons)) => (Outcome::CompileError, reasons),
            Err(End::Failed(error)) => (Outcome::Failed, vec![failure(&error)]),
        };
        if report.outcome != Outcome::Applied {
            for list in [&mut report.changed, &mut report.added, &mut report.kept_old] {
                list.clear();
            }
        }
        self.types.tidy();
        report.timings.total = ms(began.elapsed());
    }

    /// From the files to the switch; gives what was exchanged, and whether anything runs differently for it.
    fn steps(
        &mut self,
        change: &Change,
        baseline: &mut Baseline,
        inbox: &mut Inbox,
        tell: &mut dyn FnMut(&Event),
        report: &mut PatchReport,
    ) -> Result<(Step, bool), End> {
        let before = baseline.inputs();
        let build = compile_change(change, baseline, &mut || saved_again(inbox, &before), tell, report)?;
        let inputs = baseline.inputs();
        // A later save is a change of its own: what was compiled is on disk until then.
        self.opaque.note(change.files.iter().cloned());
        if change.manifests.is_empty() {
            self.opaque.note_unknown(source_files(baseline));
        } else {
            // A build script may have written its files anew.
            self.opaque.note(source_files(baseline).cloned());
        }
        let clock = Instant::now();
        let link_time_units = facts::link_time_units(baseline, &build);
        if !link_time_units.is_empty() {
            return Err(refused(DeltaFacts { link_time_units, ..DeltaFacts::default() }));
        }
        let changed_dependencies = build.uncaptured.clone();
        let (removed, added) = self.exchanged(build)?;
        if !changed_dependencies.is_empty() {
            let mut reasons = judge::judge_late(&DeltaFacts { changed_dependencies, ..DeltaFacts::default() });
            places::place(&mut reasons, &TypeSet::default(), baseline);
            return Err(End::Refused(reasons.into_iter().map(told).collect()));
        }
        self.libraries.extend(&baseline.rlibs)?;
        let mut later = |inbox: &mut Inbox| saved_again(inbox, &inputs);
        let generation = self.history.generation() + 1;
        let waiting = Waiting { inbox, later: &mut later, tell };
        let course = Course { baseline, generation, waiting, report };
        self.exchange(removed, added, &history::End::default(), clock, course)
    }

    /// From the objects that go and come to the switch. Variables that only `goal` remembers keep their storage.
    fn exchange(
        &mut self,
        removed: Vec<ObjectKey>,
        added: Vec<NewObject>,
        goal: &history::End,
        clock: Instant,
        course: Course<'_>,
    ) -> Result<(Step, bool), End> {
        let types = &mut self.types;
        let running = self.running.get()?;
        if self.update_binary && self.updater.is_none() {
            let tell = course.waiting.inbox.events();
            self.updater = Some(Updater::start(running, course.baseline, &self.program, tell));
        }
        let mut delta = diff::compare(running, removed, added, &mut |objects| {
            types.read_ahead(objects.iter().copied());
            objects.iter().map(|new| types.of(new).functions.clone()).collect()
        });
        if delta.is_empty() && !self.other_layout(&delta)? {
            return Ok((self.commit_objects(delta, None)?, false));
        }
        let restored = restore(self.running.get()?, &mut delta, goal);
        let step = self.judge_and_switch(delta, clock, course);
        if step.is_err() {
            let running = self.running.get()?;
            restored.into_iter().for_each(|name| running.set(name, None));
        }
        Ok((step?, true))
    }

    fn judge_and_switch(&mut self, delta: Delta, clock: Instant, course: Course<'_>) -> Result<Step, End> {
        let Course { baseline, generation, mut waiting, report } = course;
        let running = self.running.get()?;
        let reach = diff::reach(running, &delta, self.program.threads.room(), &mut self.libraries);
        let entries = load::examine(running, &reach, &self.program.memory)?;
        let moved = lines::moved(running, &delta.moves, &self.program.memory)?;
        report.timings.diff = ms(clock.elapsed());
        let mut proof = None;
        if brings_something(&delta, &reach) || self.other_layout(&delta)? {
            let judged = timed(&mut report.timings.judge, || self.judge(baseline, &delta, &reach, &entries));
            (report.reasons, proof) = judged?;
        }
        waiting.go_on()?;
        self.describe(&delta, &reach, report);
        if let Some(proof) = proof.as_ref().filter(|proof| !proof.quiet.is_empty()) {
            self.await_quiet(proof, &mut waiting)?;
        }
        if reach.functions.is_empty() {
            for location in &moved {
                self.program.memory.write(location.addr, &location.bytes()).map_err(Error::from)?;
            }
            return Ok(self.commit_objects(delta, None)?);
        }
        let loaded = self.link_and_load(&reach, &entries, &mut waiting, report)?;
        let committed = self.switch(&loaded, &moved, proof.as_ref(), &mut waiting)?;
        report.timings.pause = ms(committed.pause);
        let agent = self.program.agent.hello().tid;
        let stacks = stacks(&mut self.unwinder, &committed.threads, agent);
        let functions = &loaded.image.functions;
        report.pending = pending(&stacks, functions.iter().map(|one| (one.text.as_str(), one.older.as_slice())));
        self.ledger.note(&loaded.image, generation);
        self.retired.retain(|retired| retired.can_be_entered || may_be_on(&stacks, &retired.bodies));
        let replaced = replaced(self.running.get()?, &delta);
        self.retired.extend(replaced.into_iter().filter(|old| may_be_on(&stacks, &old.bodies)));
        Ok(self.commit_objects(delta, Some(&loaded.image))?)
    }

    /// Objects of the units on disk that differ from those that run.
    fn exchanged(&mut self, build: Build) -> Result<(Vec<ObjectKey>, Vec<NewObject>), Error> {
        for rebuilt in build.units {
            self.newest.insert(rebuilt.unit, rebuilt.objects);
        }
        let running = self.running.get()?;
        let mut reader = ObjectReader::default();
        let mut removed = Vec::new();
        let mut wanted = Vec::new();
        for (unit, objects) in &self.newest {
            for file in objects {
                if let Some(key) = running.by_cgu(*unit, &file.cgu) {
                    let known = self.files.get(&(*unit, file.cgu.clone()));
                    let same_file = known.is_some_and(|known| known.id == file.id && known.range == file.range);
                    let now = running.object(key).map(|now| now.object.data());
                    if same_file || now.map(|now| &**now) == Some(&*reader.bytes(file)?) {
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

    /// What `delta` brings is what runs now.
    fn commit_objects(&mut self, delta: Delta, image: Option<&link::Image>) -> Result<Step, Error> {
        let running = self.running.get()?;
        self.retired.extend(liveness::left_behind(running, &delta));
        for object in delta.removed.iter().filter_map(|key| running.object(*key)) {
            self.gone.keep(object, self.types.of(object).types.as_ref());
        }
        let step = Step::of(running, &delta);
        adopt(running, delta, image);
        Ok(step.done(running))
    }

    /// What runs is read from the newest files.
    fn run_newest(&mut self) {
        for (unit, objects) in self.newest.drain() {
            self.files.retain(|(of, _), _| *of != unit);
            self.files.extend(objects.into_iter().map(|file| ((unit, file.cgu.clone()), file)));
        }
    }

    /// Removes kept objects that are neither the newest nor those that run.
    fn release(&self, baseline: &Baseline) -> Result<(), Error> {
        let mut live: FxHashMap<usize, Vec<ObjectFile>> = self.newest.clone();
        for ((unit, _), file) in &self.files {
            live.entry(*unit).or_default().push(file.clone());
        }
        live.iter().try_for_each(|(unit, objects)| baseline.release_objects(*unit, objects))
    }

    /// What debug information says about the objects that `delta` takes away, and about those that it brings.
    fn exchanged_types(&mut self, delta: &Delta) -> Result<[Vec<Arc<Known>>; 2], Error> {
        let running = self.running.get()?;
        let old: Vec<_> = delta.removed.iter().filter_map(|key| running.object(*key)).collect();
        self.types.read_ahead(old.iter().copied().chain(&delta.objects));
        let old = old.into_iter().map(|object| self.types.of(object)).collect();
        Ok([old, delta.objects.iter().map(|object| self.types.of(object)).collect()])
    }

    /// Whether a type looks different in the objects that `delta` exchanges. It can while no code does; unless that is judged,
    /// nothing is compared with the old values ever after.
    fn other_layout(&mut self, delta: &Delta) -> Result<bool, Error> {
        let [old, new] = self.exchanged_types(delta)?;
        let facts = Facts::new(types_of(&old), types_of(&new), DeltaFacts::default());
        Ok(judge::layout_changes(&facts).is_some())
    }

    fn judge(&mut self, baseline: &Baseline, delta: &Delta, reach: &Reach, entries: &Entries) -> Result<Accepted, End> {
        let [old, new] = self.exchanged_types(delta)?;
        let running = self.running.get()?;
        let mut delta_facts = facts::delta_facts(baseline, running, delta, reach, entries, &mut self.types);
        delta_facts.wrong_binary = self.program.mismatch()?;
        let (mut before, after) = (types_of(&old), types_of(&new));
        let (come_back, forgotten) = self.gone.come_back(&before, &after);
        delta_facts.forgotten_types = forgotten;
        before.extend(&come_back);
        let mut facts = Facts::new(before, after, delta_facts);
        if let Some(changes) = judge::layout_changes(&facts) {
            let program = liveness::Program { baseline, running, delta, retired: &self.retired, gone: &self.gone };
            facts.delta.liveness = Some(liveness::gather(&program, &mut self.opaque, &changes));
        }
        match judge::judge(&facts) {
            Verdict::Accepted(mut notes) => {
                places::place(&mut notes, &facts.new, baseline);
                Ok((notes.into_iter().map(told).collect(), facts.delta.liveness))
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
}

/// Lets variables that only `goal` has live where they did; gives their names.
fn restore(running: &mut Running, delta: &mut Delta, goal: &history::End) -> Vec<NameId> {
    let mut restored = Vec::new();
    let new: Vec<NameId> = delta.renamed.iter().filter(|(_, old)| old.is_none()).map(|(name, _)| *name).collect();
    for name in new {
        if let Some(live) = goal.place_of(running, name).cloned() {
            delta.renamed.remove(&name);
            running.set(name, Some(live));
            restored.push(name);
        }
    }
    restored
}

/// The types of the objects that have any.
fn types_of(objects: &[Arc<Known>]) -> Vec<&ObjectTypes> {
    objects.iter().filter_map(|known| known.types.as_ref()).collect()
}

/// The sources of the units.
fn source_files(baseline: &Baseline) -> impl Iterator<Item = &std::path::PathBuf> {
    baseline.units.iter().flat_map(|unit| &unit.inputs)
}

/// The old code of the functions that `delta` changes.
fn replaced(running: &Running, delta: &Delta) -> Vec<Retired> {
    let mut found = Vec::new();
    for changed in &delta.changed {
        let Ok(Some(Live::Function(live))) = running.resolve(changed.old, &changed.old_text) else { continue };
        let old = running.definitions(changed.old).first();
        if let Some(definition) = old
            && let Some(object) = running.object(definition.object)
        {
            let (object, bodies) = (object.clone(), live.bodies);
            found.push(Retired { object, function: definition.symbol, bodies, can_be_entered: false });
        }
    }
    found
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

const TRIED_AGAIN: &str = "The program runs on as it was; the next save is tried again.";
const LIBRARY_GONE: &str = "The program runs on as it was. A library that this crate is built from is not there any more, \
                            because of `cargo clean` perhaps: start relive again.";

/// Whether rustc speaks of a library's file, which no edit of a source brings back.
fn lacks_library(message: &str) -> bool {
    let gone = message.starts_with("extern location for ") && message.contains(" does not exist");
    gone || message.starts_with("found invalid metadata files for crate")
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
            let advice = advice(&first.message);
            if let Some(advice) = advice {
                tell(&Event::Note(advice.to_owned()));
            }
            Err(End::CompileError(vec![Reason {
                rule: "rustc".into(),
                item: first.file.as_ref().map_or_else(String::new, |file| file.display().to_string()),
                help: match advice {
                    Some(advice) => format!("First {advice}. {TRIED_AGAIN}"),
                    None => if lacks_library(&first.message) { LIBRARY_GONE } else { TRIED_AGAIN }.to_owned(),
                },
                message: first.message,
                file: first.file,
                line: first.line,
            }]))
        }
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
