//! From what was accepted to the switch: linking, loading, and waiting for threads that are in the way.

use std::time::{Duration, Instant};

use relive_process::maps::MemoryMap;
use relive_process::stop::{held, is_filtered};
use relive_wire::near::ARENA_TEXT;

use super::{Patcher, Waiting, ms};
use crate::Error;
use crate::diff::Reach;
use crate::judge::{DeltaFacts, Liveness};
use crate::link::{self, Layout};
use crate::load::{self, Arena, Entries, Loaded};
use crate::session::end::{End, refused};
use crate::session::inbox::Inbox;
use crate::session::program::Program;
use crate::swap::{self, Attempt, Committed, FirstValues, Moved};
use crate::tell::{Event, PatchReport};

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

/// The pauses between tries, each twice as long as the one before, and whether the user knows what they are for.
struct Pauses {
    next: Duration,
    told: bool,
}

impl Default for Pauses {
    fn default() -> Pauses {
        Pauses { next: TRY_AGAIN, told: false }
    }
}

impl Pauses {
    fn rest(&mut self, inbox: &mut Inbox) {
        inbox.wait(self.next);
        self.next = (self.next * 2).min(TRY_AGAIN_MOST);
    }

    fn tell(&mut self, why: &str, waiting: &mut Waiting<'_>) {
        if !std::mem::replace(&mut self.told, true) {
            (waiting.tell)(&Event::Note(format!("the switch waits: {why}")));
        }
    }
}

impl Patcher {
    pub(super) fn link_and_load(
        &mut self,
        reach: &Reach,
        entries: &Entries,
        waiting: &mut Waiting<'_>,
        report: &mut PatchReport,
    ) -> Result<Loaded, End> {
        let clock = Instant::now();
        let fatal = |error: link::LinkError| Error::Fatal(error.to_string());
        let layout = Layout::new(reach, &entries.plans).map_err(fatal)?;
        let program = &mut self.program;
        if layout.new_entries() as u64 > program.tables.left() {
            let full = format!("the table of patched functions has {} entries left", program.tables.left());
            return Err(refused(DeltaFacts { tables_full: Some(full), ..DeltaFacts::default() }));
        }
        let needs = layout.needs();
        let Some(reserved) = program.room_for(&needs, link::debug_size(reach)) else {
            let bytes = needs.text.size + needs.constants.size + needs.variables.size + needs.frames.size;
            let left = program.room.left();
            let none = format!("{bytes} bytes are needed near the program's code, where {left} arenas are unused");
            return Err(refused(DeltaFacts { no_room: Some(none), ..DeltaFacts::default() }));
        };
        program.check_folder()?;
        program.room.take(&reserved);
        if reserved.is_new {
            // If it fails, this one is not tried again.
            program.arena = None;
            let arena = Arena::create(&reserved, &program.folder)?;
            self.with_agent(waiting, |program, alive| arena.open(&mut program.agent, alive))?;
            self.program.arena = Some(arena);
        }
        let imports = if reach.imports.is_empty() {
            Vec::new()
        } else {
            self.with_agent(waiting, |program, alive| load::imports(&reach.imports, &mut program.agent, alive))?
        };
        let program = &mut self.program;
        let Some(arena) = &mut program.arena else { return Err(Error::Fatal("an arena was never made".into()).into()) };
        let tables = &program.tables;
        let placement = reserved.placement(arena.contents(), &imports, tables.word(), tables.next_index());
        let image = link::place(reach, &layout, &entries.plans, &placement).map_err(fatal)?;
        report.timings.link = ms(clock.elapsed());
        let clock = Instant::now();
        let loaded = load::load(image, &reserved, arena, &program.memory)?;
        let code = reserved.start.plus(ARENA_TEXT)..reserved.start.plus(ARENA_TEXT + reserved.used.text);
        self.unwinder.add(code, reserved.search()).map_err(Error::from)?;
        report.timings.load = ms(clock.elapsed());
        Ok(loaded)
    }

    /// Has the agent do something, which it cannot while a debugger or a signal holds its thread, and must not where the
    /// program has put its thread under a filter.
    fn with_agent<T>(
        &mut self,
        waiting: &mut Waiting<'_>,
        mut ask: impl FnMut(&mut Program, &dyn Fn() -> bool) -> Result<T, Error>,
    ) -> Result<T, End> {
        let child = self.program.child();
        let (pid, agent) = (child.pid(), self.program.agent.hello().tid);
        let mut pauses = Pauses::default();
        loop {
            if is_filtered(pid, agent) {
                let why = "it has put all its threads under a seccomp filter, which may not allow what is needed";
                return Err(refused(DeltaFacts { no_agent: Some(why.into()), ..DeltaFacts::default() }));
            }
            let Some(holder) = held(pid, agent) else {
                match ask(&mut self.program, &|| child.is_alive()) {
                    Err(Error::Busy(_)) if held(pid, agent).is_some() => continue,
                    answer => return Ok(answer?),
                }
            };
            pauses.tell(&holder, waiting);
            waiting.go_on()?;
            pauses.rest(waiting.inbox);
        }
    }

    /// Waits until no thread is inside a function that may hold a value of a changed type, before anything is loaded: a
    /// refusal leaves no trace. The switch looks again.
    pub(super) fn await_quiet(&mut self, proof: &Liveness, waiting: &mut Waiting<'_>) -> Result<(), End> {
        let began = Instant::now();
        let map = MemoryMap::read(self.program.pid()).map_err(Error::from)?;
        self.unwinder.refresh(&map).map_err(Error::from)?;
        let agent = self.program.agent.hello().tid;
        let mut pauses = Pauses::default();
        loop {
            waiting.go_on()?;
            let quiet = swap::Quiet { functions: &proof.quiet, agent };
            match swap::held_now(&self.program.memory, &map, &mut self.unwinder, &quiet) {
                Ok(None) | Err(Error::Busy(_)) => return Ok(()),
                Ok(Some((thread, function))) if began.elapsed() > QUIET_WITHIN => {
                    return Err(End::held_up(proof, &thread, &function));
                }
                Ok(Some(_)) => {}
                Err(error) => return Err(End::Failed(error)),
            }
            pauses.rest(waiting.inbox);
        }
    }

    pub(super) fn switch(
        &mut self,
        loaded: &Loaded,
        moved: &[Moved],
        proof: Option<&Liveness>,
        waiting: &mut Waiting<'_>,
    ) -> Result<Committed, End> {
        let began = Instant::now();
        let map = MemoryMap::read(self.program.pid()).map_err(Error::from)?;
        self.unwinder.refresh(&map).map_err(Error::from)?;
        let thread_room = loaded.image.thread_room;
        let first_values = FirstValues::new(&loaded.image, &self.program.threads);
        if !first_values.is_empty() {
            self.program.threads.writing(&thread_room);
        }
        let mut pauses = Pauses::default();
        let agent = self.program.agent.hello().tid;
        let quiet = proof.map(|proof| swap::Quiet { functions: &proof.quiet, agent });
        let mut switch = swap::Switch { loaded, moved, first_values, quiet };
        loop {
            waiting.go_on()?;
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
            if began.elapsed() > TELL_AFTER {
                pauses.tell(&why, waiting);
            }
            if !debugger && began.elapsed() > GIVE_UP_AFTER {
                return Err(refused(DeltaFacts { in_the_way: Some(why), ..DeltaFacts::default() }));
            }
            pauses.rest(waiting.inbox);
        }
    }
}
