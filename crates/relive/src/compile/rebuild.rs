//! A `Change` to a `Build`: which crates must be compiled, in which order, by rustc alone or by cargo. What failed or was
//! cancelled stays on the list, so that a build always stands for everything on disk.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::baseline::{Baseline, Parts, Unit, build_recorded};
use super::replay::{self, Replayed};
use super::{Build, FirstBuildError, FirstError, ObjectFile, Rebuilt, RebuiltUnit};
use crate::Error;
use crate::change::Change;

/// Compiles what `change` touches and everything that depends on it. `cancelled` is asked every few milliseconds.
pub fn rebuild(
    baseline: &mut Baseline,
    change: &Change,
    cancelled: &mut dyn FnMut() -> bool,
) -> Result<Rebuilt, Error> {
    baseline.dirty.extend(change.units.iter().copied());
    let mut build = Build { units: Vec::new(), rendered: Vec::new(), compile: Duration::ZERO };
    for index in affected(baseline) {
        match replay::replay(baseline, index, cancelled)? {
            Replayed::Cancelled => return Ok(Rebuilt::Cancelled),
            Replayed::Failed(first, rendered) => {
                build.rendered.extend(rendered);
                return Ok(Rebuilt::CompileError { rendered: build.rendered, first });
            }
            Replayed::Built(new) => {
                build.compile += new.took;
                build.rendered.extend(new.rendered);
                build.units.push(RebuiltUnit { unit: index, objects: new.objects });
                if let Some(unit) = baseline.units.get_mut(index) {
                    (unit.inputs, unit.built) = (new.inputs, new.started);
                    unit.replayed = unit.is_lib;
                }
            }
        }
    }
    baseline.dirty.clear();
    Ok(Rebuilt::Built(build))
}

/// Lets cargo build everything once, for changes that only cargo understands; the crates it compiled are the build. What
/// cargo says goes to `say`.
pub fn rebuild_with_cargo(baseline: &mut Baseline, say: &mut dyn FnMut(String)) -> Result<Rebuilt, Error> {
    let clock = Instant::now();
    let mut said = Vec::new();
    let mut hear = |line: String| {
        said.push(line.clone());
        say(line);
    };
    let built = build_recorded(&baseline.settings, &baseline.project, &baseline.configured, &mut hear);
    let (run, records) = match built {
        Ok(built) => built,
        Err(FirstBuildError::Own(error)) => return Err(error),
        Err(FirstBuildError::CargoFailed(_)) => {
            let message = said.iter().find(|line| line.contains("error")).cloned();
            let message = message.unwrap_or_else(|| "cargo failed".to_owned());
            return Ok(Rebuilt::CompileError {
                rendered: Vec::new(),
                first: FirstError { message, file: None, line: None },
            });
        }
    };
    let compile = clock.elapsed();
    let parts = Parts::assemble(&run, &records, &baseline.project)?;
    (baseline.rlibs, baseline.link_args, baseline.manifests) = (parts.rlibs, parts.link_args, parts.manifests);
    let units = adopt(baseline, parts.units);
    baseline.dirty.clear();
    Ok(Rebuilt::Built(Build { units, rendered: Vec::new(), compile }))
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

/// Takes over what cargo built: known crates keep their index and their first objects, new ones are appended.
fn adopt(baseline: &mut Baseline, fresh: Vec<Unit>) -> Vec<RebuiltUnit> {
    let mut places: Vec<usize> = Vec::new();
    let mut rebuilt = Vec::new();
    for mut unit in fresh {
        unit.deps = unit.deps.iter().filter_map(|&dep| places.get(dep).copied()).collect();
        let same = |old: &Unit| old.crate_name == unit.crate_name && old.is_lib == unit.is_lib;
        let place = baseline.units.iter().position(|old| old.key == unit.key);
        let place = place.or_else(|| baseline.units.iter().position(same));
        let index = place.unwrap_or(baseline.units.len());
        places.push(index);
        let objects: Vec<ObjectFile> = unit.objects.clone();
        match baseline.units.get_mut(index) {
            Some(old) => {
                let newer = old.replayed || unit.built > old.built;
                unit.objects = std::mem::take(&mut old.objects);
                *old = unit;
                if newer {
                    rebuilt.push(RebuiltUnit { unit: index, objects });
                }
            }
            None => {
                baseline.units.push(unit);
                rebuilt.push(RebuiltUnit { unit: index, objects });
            }
        }
    }
    baseline.order = places;
    rebuilt
}
