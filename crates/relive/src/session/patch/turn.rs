//! Back and forth between switches, and how things stand.

use std::time::Instant;

use relive_process::maps::MemoryMap;

use super::{Course, Patcher, Waiting, saved_again};
use crate::Error;
use crate::compile::Baseline;
use crate::control::{Answer, Generation, Request, Status, Turned};
use crate::session::end::End;
use crate::session::history::{self, Way};
use crate::session::inbox::Inbox;
use crate::session::pending::{pending, stacks};
use crate::swap;
use crate::tell::{Event, Outcome, PatchReport};

impl Patcher {
    /// What was asked from outside, and the answer.
    pub(in crate::session) fn asked(
        &mut self,
        request: Request,
        baseline: &Baseline,
        inbox: &mut Inbox,
        tell: &mut dyn FnMut(&Event),
    ) -> Answer {
        match request {
            Request::Undo { steps } => Answer::Turned(self.turns(Way::Back, steps, baseline, inbox, tell)),
            Request::Redo { steps } => Answer::Turned(self.turns(Way::Forth, steps, baseline, inbox, tell)),
            Request::Status => match self.status() {
                Ok(status) => Answer::Status(status),
                Err(why) => Answer::Impossible { why: why.to_string() },
            },
        }
    }

    /// Switches that led from the program as it was started to what runs.
    pub(in crate::session) fn generation(&self) -> Generation {
        Generation {
            number: self.history.generation(),
            undo: self.history.left(Way::Back),
            redo: self.history.left(Way::Forth),
        }
    }

    /// Takes so many steps, each a switch of its own.
    fn turns(
        &mut self,
        way: Way,
        asked: u32,
        baseline: &Baseline,
        inbox: &mut Inbox,
        tell: &mut dyn FnMut(&Event),
    ) -> Turned {
        let mut turned = Turned { asked, ..Turned::default() };
        while turned.taken < asked {
            let Some(report) = self.turn(way, baseline, inbox, tell) else {
                turned.why = Some(match way {
                    Way::Back => "there is no earlier switch that can be taken back".to_owned(),
                    Way::Forth => "nothing more was taken back".to_owned(),
                });
                break;
            };
            let generation = self.history.generation();
            tell(&Event::Turned { back: way == Way::Back, generation, report: report.clone() });
            turned.reasons = report.reasons;
            turned.why = match report.outcome {
                Outcome::Applied => None,
                Outcome::Superseded => Some("a file was saved first".to_owned()),
                Outcome::Refused => Some("it is not proved sound".to_owned()),
                Outcome::Unchanged | Outcome::CompileError | Outcome::Failed => Some("it failed".to_owned()),
            };
            if turned.why.is_some() {
                break;
            }
            turned.taken += 1;
        }
        turned.generation = self.generation();
        turned
    }

    /// Takes the last step back, or makes the last one that was taken back again; nothing if there is none.
    fn turn(
        &mut self,
        way: Way,
        baseline: &Baseline,
        inbox: &mut Inbox,
        tell: &mut dyn FnMut(&Event),
    ) -> Option<PatchReport> {
        let began = Instant::now();
        let goal = self.history.goal(way)?.clone();
        let mut report = PatchReport::new(0);
        let inputs = baseline.inputs();
        let mut later = |inbox: &mut Inbox| saved_again(inbox, &inputs);
        let now = self.history.generation();
        let generation = if way == Way::Back { now - 1 } else { now + 1 };
        let waiting = Waiting { inbox, later: &mut later, tell };
        let course = Course { baseline, generation, waiting, report: &mut report };
        let end = self.running.get().map(|running| goal.exchange(running)).map_err(End::from);
        let end = end.and_then(|(removed, added)| self.exchange(removed, added, &goal, began, course));
        if end.is_ok() {
            self.run_others(&goal);
            self.history.went(way);
            self.update_binary(baseline);
        }
        self.close(end.map(|_| true), began, &mut report);
        Some(report)
    }

    /// How things stand, as the process says itself.
    fn status(&mut self) -> Result<Status, Error> {
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: self.program.pid(),
            generation: self.generation(),
            functions: self.ledger.functions(),
            altered: self.ledger.altered(&self.program.memory, &self.program.tables)?,
            ..Status::default()
        };
        let map = MemoryMap::read(self.program.pid())?;
        self.unwinder.refresh(&map)?;
        match swap::threads_now(&self.program.memory, &map) {
            Ok(threads) => {
                let agent = self.program.agent.hello().tid;
                let stacks = stacks(&mut self.unwinder, &threads, agent);
                status.pending = pending(&stacks, self.ledger.older());
            }
            Err(Error::Busy(why)) => status.not_looked = Some(why),
            Err(error) => return Err(error),
        }
        Ok(status)
    }

    /// What runs of `goal` is remembered alone, and the newest files wait for the next save.
    fn run_others(&mut self, goal: &history::End) {
        for (unit, cgu) in goal.names() {
            let of_unit = self.files.iter().filter(|((of, _), _)| of == unit);
            self.newest.entry(*unit).or_insert_with(|| of_unit.map(|(_, file)| file.clone()).collect());
            self.files.remove(&(*unit, cgu.clone()));
        }
    }
}
