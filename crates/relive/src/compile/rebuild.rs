//! A `Change` to a `Build`: which crates must be compiled, in which order, by rustc alone or by cargo. What failed or was
//! cancelled stays on the list, so that a build always stands for everything on disk.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant, SystemTime};

use super::baseline::{Baseline, Parts, Unit, build_recorded};
use super::identity::{self, Place};
use super::replay::{self, Replayed};
use super::{Build, FirstBuildError, FirstError, ObjectFile, Rebuilt, RebuiltUnit, diagnostics};
use crate::Error;
use crate::change::Change;

/// Compiles what `change` touches and everything that depends on it. `cancelled` is asked every few milliseconds.
pub fn rebuild(
    baseline: &mut Baseline,
    change: &Change,
    cancelled: &mut dyn FnMut() -> bool,
) -> Result<Rebuilt, Error> {
    baseline.dirty.extend(change.units.iter().copied());
    let uncaptured = baseline.uncaptured.clone();
    let mut build = Build { units: Vec::new(), uncaptured, rendered: Vec::new(), compile: Duration::ZERO };
    for index in affected(baseline) {
        match replay::replay(baseline, index, cancelled)? {
            Replayed::Cancelled => return Ok(Rebuilt::Cancelled),
            Replayed::Failed(failure) => {
                baseline.await_files(index, &failure);
                build.rendered.extend(failure.rendered);
                return Ok(Rebuilt::CompileError { rendered: build.rendered, first: failure.first });
            }
            Replayed::Built(new) => {
                build.compile += new.took;
                build.rendered.extend(new.rendered);
                build.units.push(RebuiltUnit { unit: index, objects: new.objects });
                if let Some(unit) = baseline.units.get_mut(index) {
                    (unit.inputs, unit.built, unit.tried) = (new.inputs, new.fresh.started, new.fresh.started);
                    unit.fresh = Some(new.fresh);
                }
            }
        }
    }
    baseline.dirty.clear();
    Ok(Rebuilt::Built(build))
}

/// Lets cargo build everything once, for changes that only cargo understands; the crates it compiled are the build, under
/// the names they have in the running program. What cargo says goes to `say`.
pub fn rebuild_with_cargo(baseline: &mut Baseline, say: &mut dyn FnMut(String)) -> Result<Rebuilt, Error> {
    let clock = Instant::now();
    let mut said = Vec::new();
    let mut hear = |line: String| {
        said.push(line.clone());
        say(line);
    };
    baseline.cargo_due = true;
    baseline.looked = SystemTime::now();
    let built = build_recorded(&baseline.settings, &baseline.project, &baseline.configured, &mut hear);
    baseline.lock_text = fs::read(&baseline.project.lock_file).ok();
    let (run, records) = match built {
        Ok(built) => built,
        Err(FirstBuildError::Own(error)) => return Err(error),
        Err(FirstBuildError::CargoFailed(_)) => {
            let folders = [baseline.settings.cwd.clone(), baseline.project.root.clone()];
            let files = diagnostics::files_in_text(&said);
            let places = files.iter().flat_map(|file| folders.iter().map(move |folder| folder.join(file)));
            baseline.manifests.extend(places);
            return Ok(failed(&said));
        }
    };
    let parts = Parts::assemble(&run, &records, &baseline.project)?;
    let compile = clock.elapsed();
    baseline.uncaptured = baseline.foreign.changed(&parts.foreign);
    (baseline.rlibs, baseline.link_args) = (parts.rlibs, parts.link_args);
    (baseline.manifests, baseline.unnamed) = (parts.inputs.named, parts.inputs.unnamed);
    baseline.dirty.clear();
    let units = adopt(baseline, parts.units);
    baseline.cargo_due = false;
    match rebuild(baseline, &Change::default(), &mut || false)? {
        Rebuilt::Built(mut build) => {
            let newest = |unit: &RebuiltUnit| !build.units.iter().any(|again| again.unit == unit.unit);
            let units: Vec<RebuiltUnit> = units.into_iter().filter(newest).collect();
            build.units.extend(units);
            build.compile += compile;
            Ok(Rebuilt::Built(build))
        }
        other @ (Rebuilt::CompileError { .. } | Rebuilt::Cancelled) => {
            // What cargo built is not handed out, so it is still due.
            baseline.dirty.extend(units.iter().map(|unit| unit.unit));
            Ok(other)
        }
    }
}

/// cargo's own errors have no place that it tells; rustc's were relayed.
fn failed(said: &[String]) -> Rebuilt {
    let message = said.iter().find(|line| line.contains("error")).cloned();
    let message = message.unwrap_or_else(|| "cargo failed".to_owned());
    Rebuilt::CompileError { rendered: Vec::new(), first: FirstError { message, file: None, line: None } }
}

/// The units to compile, in order: those whose files changed, and all that use them.
fn affected(baseline: &Baseline) -> Vec<usize> {
    let mut found: BTreeSet<usize> = baseline.dirty.clone();
    for &index in &baseline.order {
        let deps = baseline.units.get(index).map(|unit| unit.deps.as_slice()).unwrap_or_default();
        if deps.iter().any(|dep| found.contains(dep)) {
            found.insert(index);
        }
    }
    baseline.order.iter().copied().filter(|index| found.contains(index)).collect()
}

/// Takes over what cargo built: known crates keep their index, their first objects and their name, new ones are appended.
/// Those that have another name by now are due for a compilation under the old one; the others are the build.
fn adopt(baseline: &mut Baseline, mut fresh: Vec<Unit>) -> Vec<RebuiltUnit> {
    let places = identity::places(&baseline.units, &fresh);
    identity::keep(&baseline.units, &mut fresh, &places);
    let mut order: Vec<Option<usize>> = Vec::new();
    let mut rebuilt = Vec::new();
    for (mut unit, place) in fresh.into_iter().zip(places) {
        unit.deps = unit.deps.iter().filter_map(|&dep| *order.get(dep)?).collect();
        let index = match place {
            Place::Same(at) | Place::Renamed(at) => at,
            Place::New => baseline.units.len(),
            Place::Unclear => {
                baseline.uncaptured.push(unit.crate_name);
                order.push(None);
                continue;
            }
        };
        order.push(Some(index));
        let objects: Vec<ObjectFile> = unit.objects.clone();
        let newer = match baseline.units.get_mut(index) {
            Some(old) => {
                let newer = unit.built != old.built;
                unit.objects = std::mem::take(&mut old.objects);
                *old = unit;
                newer
            }
            None => {
                baseline.units.push(unit);
                true
            }
        };
        match place {
            Place::Renamed(_) => drop(baseline.dirty.insert(index)),
            Place::Same(_) | Place::New | Place::Unclear if newer => rebuilt.push(RebuiltUnit { unit: index, objects }),
            Place::Same(_) | Place::New | Place::Unclear => {}
        }
    }
    baseline.order = order.into_iter().flatten().collect();
    rebuilt
}
