//! One change from its files to its answer: the eight steps.
//!
//! Each step takes what the one before gave. Whatever ends the way early (a compile error, a refusal, a later save, a
//! failure) leaves the program as it was, and is an answer like any other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use relive_process::launch::Child;
use relive_process::maps::MemoryMap;
use relive_process::unwind::Unwinder;
use rustc_hash::FxHashMap;

use crate::Error;
use crate::binary::names;
use crate::binary::types::ObjectTypes;
use crate::change::{self, Change};
use crate::compile::{self, Baseline, Build, ObjectFile, Rebuilt};
use crate::diff::{self, Delta, Live, NewObject, ObjectKey, Reach, Running};
use crate::judge::{self, DeltaFacts, Facts, Liveness, TypeSet, Verdict};
use crate::link::{self, Layout, Placement};
use crate::load::{self, Entries, Loaded};
use crate::session::adopt::adopt;
use crate::session::end::{End, failure, refused, told};
use crate::session::facts::{self, Known, TypeCache};
use crate::session::inbox::Inbox;
use crate::session::known::{self, Background, KnownLibraries, ObjectReader};
use crate::session::lines;
use crate::session::liveness::{self, Gone, Retired};
use crate::session::opaque::OpaqueCode;
use crate::session::pending::{may_be_on, pending, stacks};
use crate::session::places;
use crate::session::program::Program;
use crate::swap::{self, Attempt, Committed, FirstValues, Moved};
use crate::tell::{Event, Outcome, PatchReport, Reason, Timings};

/// How long a switch is tried before the user is told who is in the way.
const TELL_AFTER: Duration = Duration::from_millis(250);
/// First pause between two tries, so that the thread in the way gets on.
const TRY_AGAIN: Duration = Duration::from_millis(2);
/// Longest pause between two tries: longer than ordinary timeouts, which every stop starts anew.
const TRY_AGAIN_MOST: Duration = Duration::from_millis(1000);
/// How long a switch is tried at all. A debugger may stay attached for as long as it likes.
const GIVE_UP_AFTER: Duration = Duration::from_secs(15);
/// How long a switch waits for functions that must not be on a stack. A loop that handles the type never leaves them.
const QUIET_WITHIN: Duration = Duration::from_secs(3);

/// The pauses between tries, each twice as long as the one before.
struct Pauses(Duration);

impl Pauses {
    fn rest(&mut self, inbox: &mut Inbox) {
        inbox.wait(self.0);
        self.0 = (self.0 * 2).min(TRY_AGAIN_MOST);
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
    /// Old code that may still run and is no part of the current build.
    retired: Vec<Retired>,
    gone: Gone,
    opaque: OpaqueCode,
}

/// An accepted change: what to tell about it, and the proof that it rests on, if there is one.
type Accepted = (Vec<Reason>, Option<Liveness>);

impl Patcher {
    pub(super) fn new(baseline: &Baseline, program: Program) -> Patcher {
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
        if report.outcome != Outcome::Applied {
            for list in [&mut report.changed, &mut report.added, &mut report.kept_old] {
                list.clear();
            }
        }
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
        // A later save is a change of its own: what was compiled is on disk until then.
        self.opaque.note(change.files.iter().cloned());
        if change.manifests.is_empty() {
            self.opaque.note_unknown(source_files(baseline));
        } else {
            // A build script may have written its files anew.
            self.opaque.note(source_files(baseline).cloned());
        }
        let mut later = |inbox: &mut Inbox| saved_again(inbox, &inputs);
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
        let types = &mut self.types;
        let running = self.running.get()?;
        let delta = diff::compare(running, removed, added, &mut |objects| {
            types.read_ahead(objects.iter().copied());
            objects.iter().map(|new| types.of(new).functions.clone()).collect()
        });
        if delta.is_empty() && !self.other_layout(&delta)? {
            self.commit_objects(delta, None)?;
            return Err(End::Unchanged);
        }
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
        if later(inbox) {
            return Err(End::Superseded);
        }
        self.describe(&delta, &reach, report);
        if let Some(proof) = proof.as_ref().filter(|proof| !proof.quiet.is_empty()) {
            self.await_quiet(proof, inbox, &mut later)?;
        }
        if reach.functions.is_empty() {
            for location in &moved {
                self.program.memory.write(location.addr, &location.bytes()).map_err(Error::from)?;
            }
            self.commit_objects(delta, None)?;
            return Ok(());
        }
        let loaded = self.link_and_load(&reach, &entries, report)?;
        let committed = self.switch(&loaded, &moved, proof.as_ref(), inbox, &mut later, tell)?;
        report.timings.pause = ms(committed.pause);
        let agent = self.program.agent.hello().tid;
        let stacks = stacks(&mut self.unwinder, &committed.threads, agent);
        report.pending = pending(&stacks, &loaded.image.functions);
        self.retired.retain(|retired| retired.can_be_entered || may_be_on(&stacks, &retired.bodies));
        let replaced = replaced(self.running.get()?, &delta);
        self.retired.extend(replaced.into_iter().filter(|old| may_be_on(&stacks, &old.bodies)));
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
        let running = self.running.get()?;
        self.retired.extend(liveness::left_behind(running, &delta));
        for object in delta.removed.iter().filter_map(|key| running.object(*key)) {
            self.gone.keep(object, self.types.of(object).types.as_ref());
        }
        adopt(running, delta, image);
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

    /// Waits until no thread is inside a function that may hold a value of a changed type, before anything is loaded: a
    /// refusal leaves no trace. The switch looks again.
    fn await_quiet(
        &mut self,
        proof: &Liveness,
        inbox: &mut Inbox,
        later: &mut dyn FnMut(&mut Inbox) -> bool,
    ) -> Result<(), End> {
        let began = Instant::now();
        let map = MemoryMap::read(self.program.pid()).map_err(Error::from)?;
        self.unwinder.refresh(&map).map_err(Error::from)?;
        let agent = self.program.agent.hello().tid;
        let mut pauses = Pauses(TRY_AGAIN);
        loop {
            if later(inbox) {
                return Err(End::Superseded);
            }
            let quiet = swap::Quiet { functions: &proof.quiet, agent };
            match swap::held_now(&self.program.memory, &map, &mut self.unwinder, &quiet) {
                Ok(None) | Err(Error::Busy(_)) => return Ok(()),
                Ok(Some((thread, function))) if began.elapsed() > QUIET_WITHIN => {
                    return Err(End::held_up(proof, &thread, &function));
                }
                Ok(Some(_)) => {}
                Err(error) => return Err(End::Failed(error)),
            }
            pauses.rest(inbox);
        }
    }

    fn switch(
        &mut self,
        loaded: &Loaded,
        moved: &[Moved],
        proof: Option<&Liveness>,
        inbox: &mut Inbox,
        later: &mut dyn FnMut(&mut Inbox) -> bool,
        tell: &mut dyn FnMut(&Event),
    ) -> Result<Committed, End> {
        let began = Instant::now();
        let map = MemoryMap::read(self.program.pid()).map_err(Error::from)?;
        self.unwinder.refresh(&map).map_err(Error::from)?;
        let thread_room = loaded.image.thread_room;
        let first_values = FirstValues::new(&loaded.image, &self.program.threads);
        if !first_values.is_empty() {
            self.program.threads.writing(&thread_room);
        }
        let mut told = false;
        let mut pauses = Pauses(TRY_AGAIN);
        let agent = self.program.agent.hello().tid;
        let quiet = proof.map(|proof| swap::Quiet { functions: &proof.quiet, agent });
        let mut switch = swap::Switch { loaded, moved, first_values, quiet };
        loop {
            if later(inbox) {
                return Err(End::Superseded);
            }
            let program = &mut self.program;
            let (tables, unwinder) = (&mut program.tables, &mut self.unwinder);
            let attempt = swap::commit(&program.memory, &map, unwinder, tables, &mut switch);
            let why = match (attempt, proof) {
                (Ok(Attempt::Done(committed)), _) => {
                    program.threads.taken(thread_room);
                    return Ok(committed);
                }
                (Ok(Attempt::Held { thread, function }), Some(proof)) if began.elapsed() > QUIET_WITHIN => {
                    return Err(End::held_up(proof, &thread, &function));
                }
                (Ok(Attempt::Held { thread, function }), _) => format!("thread {thread} is inside `{function}`"),
                (Err(Error::Busy(why)), _) => why,
                (Err(error), _) => return Err(End::Failed(error)),
            };
            let debugger = why.contains("a debugger (pid");
            if !told && began.elapsed() > TELL_AFTER {
                tell(&Event::Note(format!("the switch waits: {why}")));
                told = true;
            }
            if !debugger && began.elapsed() > GIVE_UP_AFTER {
                return Err(refused(DeltaFacts { in_the_way: Some(why), ..DeltaFacts::default() }));
            }
            pauses.rest(inbox);
        }
    }
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
