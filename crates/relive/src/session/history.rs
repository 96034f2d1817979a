//! The switches of a session that can be taken back, and those that were and can be made again.
//!
//! Taking a step back is a change like any other: the objects that ran before are compared with those that run, judged and
//! switched in. Only what they are is not compiled but remembered here, together with where their variables live, so that
//! a variable that the step took away comes back with its value.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::binary::object::{NameId, SymbolKind};
use crate::diff::running::is_definition;
use crate::diff::{Delta, Live, NewObject, ObjectKey, Running};

/// Steps that are remembered, and objects that may be kept for them.
const STEPS: usize = 100;
const OBJECTS: usize = 512;

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Back,
    Forth,
}

/// What one end of a step has and the other has not.
#[derive(Clone, Default)]
pub(super) struct End {
    /// The object of each codegen unit that the step exchanges; nothing where there is none.
    objects: FxHashMap<(usize, String), Option<NewObject>>,
    /// Where variables live that only this end has.
    variables: FxHashMap<NameId, Live>,
}

/// One switch.
#[derive(Clone, Default)]
pub(super) struct Step {
    before: End,
    after: End,
}

/// The steps, the last one first to be taken back.
#[derive(Default)]
pub(super) struct History {
    past: VecDeque<Step>,
    future: Vec<Step>,
    /// Steps that are no longer remembered.
    forgotten: u64,
}

impl History {
    /// How many switches led from the program as it was started to what runs.
    pub(super) fn generation(&self) -> u64 {
        self.forgotten + self.past.len() as u64
    }

    /// How many steps can be taken.
    pub(super) fn left(&self, way: Way) -> usize {
        match way {
            Way::Back => self.past.len(),
            Way::Forth => self.future.len(),
        }
    }

    /// What a step that way leads to.
    pub(super) fn goal(&self, way: Way) -> Option<&End> {
        match way {
            Way::Back => self.past.back().map(|step| &step.before),
            Way::Forth => self.future.last().map(|step| &step.after),
        }
    }

    /// That step was taken.
    pub(super) fn went(&mut self, way: Way) {
        match way {
            Way::Back => self.future.extend(self.past.pop_back()),
            Way::Forth => self.past.extend(self.future.pop()),
        }
    }

    /// A change was switched in. What was taken back before it cannot be made again.
    pub(super) fn switched(&mut self, step: Step) {
        self.future.clear();
        self.past.push_back(step);
        let objects = |past: &VecDeque<Step>| past.iter().map(|step| step.before.objects.len()).sum::<usize>();
        // The last one can always be taken back.
        while self.past.len() > STEPS || (self.past.len() > 1 && objects(&self.past) > OBJECTS) {
            self.past.pop_front();
            self.forgotten += 1;
        }
    }

    /// Objects were exchanged by others that say the same: part of the step before.
    pub(super) fn settled(&mut self, step: Step) {
        if let Some(last) = self.past.back_mut() {
            for (key, object) in step.before.objects {
                last.before.objects.entry(key).or_insert(object);
            }
            last.after.objects.extend(step.after.objects);
            last.before.variables.extend(step.before.variables);
            last.after.variables.extend(step.after.variables);
        }
    }
}

impl Step {
    /// What `delta` exchanges in `running`, before it does.
    pub(super) fn of(running: &Running, delta: &Delta) -> Step {
        let mut step = Step::default();
        let removed: Vec<&NewObject> = delta.removed.iter().filter_map(|key| running.object(*key)).collect();
        for object in &removed {
            step.before.objects.insert(key_of(object), Some((*object).clone()));
            step.after.objects.insert(key_of(object), None);
        }
        for object in &delta.objects {
            step.before.objects.entry(key_of(object)).or_insert(None);
            step.after.objects.insert(key_of(object), Some(object.clone()));
        }
        let kept: FxHashSet<NameId> = delta.objects.iter().flat_map(variables).map(|(name, _)| name).collect();
        let left = removed.into_iter().flat_map(variables).filter(|(name, _)| !kept.contains(name));
        step.before.variables = left.filter_map(|(name, text)| Some((name, place(running, name, text)?))).collect();
        step
    }

    /// Where the variables that came live, now that it is done.
    pub(super) fn done(mut self, running: &Running) -> Step {
        let before = self.before.objects.values().flatten().flat_map(variables);
        let known: FxHashSet<NameId> = before.map(|(name, _)| name).collect();
        let came = self.after.objects.values().flatten().flat_map(variables).filter(|(name, _)| !known.contains(name));
        self.after.variables = came.filter_map(|(name, text)| Some((name, place(running, name, text)?))).collect();
        self
    }
}

impl End {
    /// What has to go and to come in `running` to get there.
    pub(super) fn exchange(&self, running: &Running) -> (Vec<ObjectKey>, Vec<NewObject>) {
        let (mut removed, mut added) = (Vec::new(), Vec::new());
        let mut all: Vec<_> = self.objects.iter().collect();
        all.sort_by_key(|(key, _)| *key);
        for ((unit, cgu), object) in all {
            let key = running.by_cgu(*unit, cgu);
            let now = key.and_then(|key| running.object(key));
            let is_there = match (now, object) {
                (Some(now), Some(object)) => Arc::ptr_eq(&now.object, &object.object),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            if !is_there {
                removed.extend(key);
                added.extend(object.clone());
            }
        }
        (removed, added)
    }

    /// The codegen units that it is about.
    pub(super) fn names(&self) -> impl Iterator<Item = &(usize, String)> {
        self.objects.keys()
    }

    /// Where a variable lives that nothing in `running` has.
    pub(super) fn place_of(&self, running: &Running, name: NameId) -> Option<&Live> {
        self.variables.get(&name).filter(|_| running.definitions(name).is_empty())
    }
}

fn key_of(object: &NewObject) -> (usize, String) {
    (object.unit, object.cgu.clone())
}

fn place(running: &Running, name: NameId, text: &str) -> Option<Live> {
    running.resolve(name, text).ok().flatten().filter(|live| !matches!(live, Live::Function(_)))
}

/// The variables that an object defines for others to see.
fn variables(object: &NewObject) -> impl Iterator<Item = (NameId, &str)> {
    let object = &object.object;
    let defined = object.symbols.iter().filter(|symbol| is_definition(object, symbol));
    let is_variable = |kind| matches!(kind, SymbolKind::Object | SymbolKind::Tls | SymbolKind::Unsaid);
    defined.filter(move |symbol| is_variable(symbol.kind)).map(|symbol| (symbol.id, object.name(symbol)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(objects: usize) -> Step {
        let mut step = Step::default();
        step.before.objects.extend((0..objects).map(|number| ((0, number.to_string()), None)));
        step
    }

    #[test]
    fn steps_go_back_and_forth_until_another_is_made() {
        let mut history = History::default();
        assert!(history.goal(Way::Back).is_none() && history.goal(Way::Forth).is_none());
        (0..3).for_each(|_| history.switched(step(1)));
        history.went(Way::Back);
        history.went(Way::Back);
        assert_eq!((history.generation(), history.left(Way::Back), history.left(Way::Forth)), (1, 1, 2));
        history.went(Way::Forth);
        assert_eq!((history.generation(), history.left(Way::Back), history.left(Way::Forth)), (2, 2, 1));
        history.switched(step(1));
        assert_eq!((history.generation(), history.left(Way::Back), history.left(Way::Forth)), (3, 3, 0));
    }

    #[test]
    fn what_is_forgotten_still_counts_as_a_generation() {
        let mut history = History::default();
        (0..STEPS + 20).for_each(|_| history.switched(step(1)));
        assert_eq!((history.generation(), history.left(Way::Back)), (STEPS as u64 + 20, STEPS));
        history.switched(step(OBJECTS + 1));
        assert_eq!((history.generation(), history.left(Way::Back)), (STEPS as u64 + 21, 1));
    }

    #[test]
    fn objects_that_settle_are_part_of_the_step_before() {
        let mut history = History::default();
        history.settled(step(3));
        assert_eq!(history.generation(), 0);
        history.switched(step(1));
        history.settled(step(3));
        assert_eq!(history.generation(), 1);
        assert_eq!(history.goal(Way::Back).map(|end| end.names().count()), Some(3));
    }
}
