//! The first build, remembered: takes the user's flags, runs cargo once (a second time for crates whose record is
//! missing), gives the crates the program is linked from with their objects and commands. It starts no program.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::arguments::Role;
use super::cargo::CargoRun;
use super::config::{self, Configured};
use super::outputs::{self, Known, Records};
use super::project::Project;
use super::foreign::Foreign;
use super::{
    BuildSettings, FirstBuildError, Launch, ObjectFile, as_rlib, cargo, cargo_inputs, mirror, objects, times,
};
use crate::Error;
use crate::change::{Change, Inputs};

/// A crate that the program is linked from and that relive can compile again.
#[derive(Debug)]
pub struct Unit {
    /// Crate name and hash; the name of its folder below `target/relive/units/`.
    pub key: String,
    /// The crate.
    pub crate_name: String,
    /// A library, not the executable itself.
    pub is_lib: bool,
    /// rustc's `opt-level`, as given.
    pub opt_level: String,
    /// rustc's `debuginfo`, as given.
    pub debuginfo: String,
    /// The files it was made from, absolute; those that exist.
    pub inputs: Vec<PathBuf>,
    /// Indices of the units it uses directly.
    pub deps: Vec<usize>,
    /// The objects of the first build, sorted by codegen unit.
    pub objects: Vec<ObjectFile>,
    /// rustc's command and where it left what.
    pub(crate) known: Known,
    /// When the compilation began whose objects are the newest.
    pub(crate) built: SystemTime,
}

/// The program as it was built and is about to run.
#[derive(Debug)]
pub struct Baseline {
    /// The crates, dependencies first (crates that a later cargo run brought in follow at the end).
    pub units: Vec<Unit>,
    /// Our own hard link of the executable.
    pub exe: PathBuf,
    /// What to start: the executable under cargo's name.
    pub run_exe: PathBuf,
    /// How to start it.
    pub launch: Launch,
    /// The linker's arguments, response files expanded.
    pub link_args: Vec<std::ffi::OsString>,
    /// The libraries on the link line that are no units: dependencies and the sysroot's.
    pub rlibs: Vec<PathBuf>,
    /// Where rustc's own libraries are.
    pub sysroot: PathBuf,
    /// Files that only cargo understands: manifests, lock file, configuration, inputs of build scripts and proc macros.
    pub manifests: Vec<PathBuf>,
    /// cargo's target directory.
    pub target_dir: PathBuf,
    /// relive's folder in it.
    pub relive_dir: PathBuf,
    pub(crate) settings: BuildSettings,
    pub(crate) project: Project,
    pub(crate) configured: Configured,
    /// Units whose files changed since their last successful build.
    pub(crate) dirty: BTreeSet<usize>,
    /// The order to compile in, if a cargo run changed it.
    pub(crate) order: Vec<usize>,
    /// What else the running program is linked from.
    pub(crate) foreign: Foreign,
    /// What of that the newest build has another one of.
    pub(crate) uncaptured: Vec<String>,
    /// The lock file's contents in the newest build.
    pub(crate) lock_text: Option<Vec<u8>>,
    /// Whether a change that only cargo understands has not been built yet.
    pub(crate) cargo_due: bool,
    _lock: File,
}

/// Builds the program with cargo and remembers how. Lines of cargo's text go to `say`.
pub fn first_build(settings: &BuildSettings, say: &mut dyn FnMut(String)) -> Result<Baseline, FirstBuildError> {
    let configured = config::read(&settings.cwd);
    let mut project = Project::find(settings, say)?;
    project.triples.extend(configured.target.clone());
    if configured.runner {
        say("note: relive starts the program itself; the configured `runner` is not used".to_owned());
    }
    let lock = project.enter(&settings.self_exe)?;
    let (run, records) = build_recorded(settings, &project, &configured, say)?;
    let parts = Parts::assemble(&run, &records, &project)?;
    prune(&records)?;
    Ok(Baseline {
        order: (0..parts.units.len()).collect(),
        units: parts.units,
        exe: parts.exe,
        run_exe: run.launch.program(),
        launch: run.launch,
        link_args: parts.link_args,
        rlibs: parts.rlibs,
        sysroot: parts.sysroot,
        manifests: parts.manifests,
        foreign: parts.foreign,
        uncaptured: Vec::new(),
        lock_text: fs::read(&project.lock_file).ok(),
        cargo_due: false,
        target_dir: project.target_dir.clone(),
        relive_dir: project.relive_dir.clone(),
        settings: settings.clone(),
        project,
        configured,
        dirty: BTreeSet::new(),
        _lock: lock,
    })
}

impl Baseline {
    /// What to watch, and which unit each file belongs to.
    pub fn inputs(&self) -> Inputs {
        Inputs {
            units: self.units.iter().map(|unit| unit.inputs.clone()).collect(),
            cargo: self.manifests.clone(),
            lock: self.lock_text.clone().map(|text| (self.project.lock_file.clone(), text)),
        }
    }

    /// Whether `change` is one that only cargo can build, or comes after one that cargo could not.
    pub fn needs_cargo(&self, change: &Change) -> bool {
        self.cargo_due || !change.manifests.is_empty()
    }

    /// Inputs that were written after the compilation of their unit began: changes that no watcher has seen.
    pub fn newer_inputs(&self) -> Vec<PathBuf> {
        let newer = |unit: &Unit, path: &PathBuf| {
            let written = fs::metadata(path).and_then(|meta| meta.modified());
            written.is_ok_and(|written| written >= unit.built)
        };
        let all = self.units.iter().flat_map(|unit| unit.inputs.iter().filter(|path| newer(unit, path)));
        let set: BTreeSet<&PathBuf> = all.collect();
        set.into_iter().cloned().collect()
    }

    /// Removes kept objects of `unit` that nothing needs: not the first build's, not the newest, none in `live`.
    pub fn release_objects(&self, unit: usize, live: &[ObjectFile]) -> Result<(), Error> {
        let Some(unit) = self.units.get(unit) else { return Ok(()) };
        let in_use = unit.objects.iter().chain(live).filter_map(|object| object.path.parent()).map(Path::to_owned);
        let mut keep: BTreeSet<PathBuf> = in_use.collect();
        keep.extend(newest_folder(&unit.known.folder));
        keep.extend(unit.known.record.objects.iter().map(|(name, _)| unit.known.folder.join(name)));
        remove_objects(&unit.known.folder, &keep)
    }
}

/// Runs cargo until every crate that matters has a record: once as a rule, twice when records are missing.
pub(crate) fn build_recorded(
    settings: &BuildSettings,
    project: &Project,
    configured: &Configured,
    say: &mut dyn FnMut(String),
) -> Result<(CargoRun, Records), FirstBuildError> {
    times::forget(&project.relive_dir);
    mirror::reset(&Records::load(&project.relive_dir))?;
    let run = cargo::run(settings, project, configured, say)?;
    let records = Records::load(&project.relive_dir);
    let missing = outputs::missing(&run, &records);
    if missing.is_empty() {
        return Ok((run, records));
    }
    times::note(&project.relive_dir, &run.artifacts)?;
    missing.into_iter().try_for_each(outputs::force)?;
    let run = cargo::run(settings, project, configured, say);
    times::forget(&project.relive_dir);
    let (run, records) = (run?, Records::load(&project.relive_dir));
    match outputs::missing(&run, &records).first() {
        Some(artifact) => Err(outputs::unrecorded(artifact).into()),
        None => Ok((run, records)),
    }
}

/// What a cargo run and its records say about the program.
pub(crate) struct Parts {
    pub(crate) units: Vec<Unit>,
    pub(crate) exe: PathBuf,
    pub(crate) link_args: Vec<std::ffi::OsString>,
    pub(crate) rlibs: Vec<PathBuf>,
    pub(crate) sysroot: PathBuf,
    pub(crate) manifests: Vec<PathBuf>,
    pub(crate) foreign: Foreign,
}

impl Parts {
    /// Puts the program together from the records.
    pub(crate) fn assemble(run: &CargoRun, records: &Records, project: &Project) -> Result<Parts, Error> {
        let started = run.launch.program();
        let unknown = || Error::file(&started, "find the build of", "cargo started another file than it built");
        let root = records.of(&started).filter(|known| known.parsed.role() == Role::Bin).ok_or_else(unknown)?;
        let objects = root.record.objects.as_ref().ok_or_else(unknown)?;
        let line = objects::link_line(&root.folder.join(&objects.0))?;
        let link_args: Vec<_> = line.args.into_iter().map(|arg| arg.0).collect();
        let cwd = PathBuf::from(line.cwd.0);
        let is_rlib = |path: &PathBuf| path.extension().is_some_and(|end| end == "rlib");
        let on_line = link_args.iter().map(|arg| cwd.join(arg)).filter(is_rlib);
        let mut linked: Vec<&Known> = vec![root];
        let mut rlibs = Vec::new();
        for path in on_line {
            match records.of(&path).or_else(|| records.named(&path)) {
                Some(known) => linked.push(known),
                None => rlibs.extend(kept_rlib(path, root)),
            }
        }
        let sysroot = sysroot(root, &rlibs)?;
        let units = units(&linked)?;
        Ok(Parts {
            units,
            exe: root.folder.join("exe"),
            foreign: Foreign::read(&link_args, &cwd, &linked, &rlibs)?,
            link_args,
            rlibs,
            sysroot,
            manifests: cargo_inputs::find(run, records, project, &linked),
        })
    }
}

/// The library at `path`, or the one it is a copy of: rustc links copies of some and removes them.
fn kept_rlib(path: PathBuf, root: &Known) -> Option<PathBuf> {
    let original = Path::new(&root.record.output.0).with_file_name(path.file_name()?);
    [path, original].into_iter().find(|path| path.is_file())
}

/// The units of `linked`, dependencies first; the first one is the executable.
fn units(linked: &[&Known]) -> Result<Vec<Unit>, Error> {
    let position = |path: &Path| {
        let rlib = as_rlib(path);
        linked.iter().position(|known| Path::new(&known.record.output.0) == rlib)
    };
    let deps: Vec<Vec<usize>> = linked
        .iter()
        .map(|known| {
            let cwd = Path::new(&known.record.cwd.0);
            known.parsed.externs.iter().filter_map(|(_, path)| position(&cwd.join(path))).collect()
        })
        .collect();
    let mut order = Vec::new();
    (0..linked.len()).for_each(|at| visit(at, &deps, &mut order));
    let place = |of: usize| order.iter().position(|&at| at == of);
    let known = order.iter().filter_map(|&at| Some((*linked.get(at)?, deps.get(at)?)));
    let sorted = |deps: &[usize]| deps.iter().filter_map(|&dep| place(dep)).collect::<BTreeSet<_>>();
    known.map(|(known, deps)| unit(known, sorted(deps).into_iter().collect())).collect()
}

fn visit(at: usize, deps: &[Vec<usize>], order: &mut Vec<usize>) {
    if order.contains(&at) {
        return;
    }
    for &dep in deps.get(at).into_iter().flatten().filter(|&&dep| dep != at) {
        visit(dep, deps, order);
    }
    order.push(at);
}

fn unit(known: &Known, deps: Vec<usize>) -> Result<Unit, Error> {
    let (name, _) = known.record.objects.clone().unwrap_or_default();
    let inputs = known.record.inputs.iter().map(|path| PathBuf::from(&path.0)).filter(|path| path.is_file());
    let since = Duration::from_nanos(u64::try_from(known.record.started_ns).unwrap_or(u64::MAX));
    Ok(Unit {
        key: known.parsed.key(),
        crate_name: known.parsed.crate_name.clone(),
        is_lib: known.parsed.role() == Role::Lib,
        opt_level: known.parsed.opt_level.clone(),
        debuginfo: known.parsed.debuginfo.clone(),
        inputs: inputs.collect(),
        deps,
        objects: objects::list(&known.folder.join(name))?,
        built: SystemTime::UNIX_EPOCH + since,
        known: known.clone(),
    })
}

fn sysroot(root: &Known, rlibs: &[PathBuf]) -> Result<PathBuf, Error> {
    let of = |path: &PathBuf| path.ancestors().find(|folder| folder.ends_with("lib/rustlib")).map(Path::to_owned);
    if let Some(rustlib) = rlibs.iter().find_map(of) {
        return Ok(rustlib.ancestors().nth(2).unwrap_or(&rustlib).to_owned());
    }
    let rustc = root.record.program.last().map(|program| program.0.clone()).unwrap_or_default();
    let failed = |why: String| Error::file(&rustc, "ask for the sysroot", why);
    let output = std::process::Command::new(&rustc).args(["--print", "sysroot"]).output();
    let output = output.map_err(|why| failed(why.to_string()))?;
    let text = String::from_utf8(output.stdout).map_err(|why| failed(why.to_string()))?;
    Ok(PathBuf::from(text.trim_end()))
}

/// Removes what no session can use: stale folders, objects of replays in earlier sessions and of builds cut off.
fn prune(records: &Records) -> Result<(), Error> {
    for folder in &records.stale {
        fs::remove_dir_all(folder).map_err(|why| Error::file(folder, "remove", why))?;
    }
    for known in records.iter() {
        let keep = known.record.objects.iter().map(|(name, _)| known.folder.join(name)).collect();
        remove_objects(&known.folder, &keep)?;
    }
    Ok(())
}

fn newest_folder(unit: &Path) -> Option<PathBuf> {
    let next = objects::next_folder(unit);
    let number: u64 = next.file_name()?.to_str()?.strip_prefix("objects-")?.parse().ok()?;
    Some(unit.join(format!("objects-{}", number.checked_sub(1)?)))
}

fn remove_objects(unit: &Path, keep: &BTreeSet<PathBuf>) -> Result<(), Error> {
    let entries = fs::read_dir(unit).map_err(|why| Error::file(unit, "list", why))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("objects-"));
        if ours && !keep.contains(&path) {
            fs::remove_dir_all(&path).map_err(|why| Error::file(&path, "remove", why))?;
        }
    }
    Ok(())
}
