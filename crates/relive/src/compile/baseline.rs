//! The first build, remembered: takes the user's flags, runs cargo once (a second time for crates whose record is
//! missing), gives the crates the program is linked from with their objects and commands. It starts no program.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::arguments::Role;
use super::cargo::CargoRun;
use super::cargo_inputs::CargoInputs;
use super::config::{self, Configured};
use super::foreign::Foreign;
use super::newest::{self, Fresh};
use super::outputs::{self, Known, Records};
use super::project::Project;
use super::replay::Failure;
use super::{BuildSettings, FirstBuildError, Launch, ObjectFile, as_rlib, cargo, cargo_inputs, mirror, objects, times};
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
    /// Whether it is optimised together with others when the program is linked.
    pub link_time: bool,
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
    /// When the last compilation began, whether it came to something or not.
    pub(crate) tried: SystemTime,
    /// The newest replay, until it is kept for cargo.
    pub(crate) fresh: Option<Fresh>,
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
    /// Files that are inputs of a build script for all one knows.
    pub(crate) unnamed: Vec<PathBuf>,
    /// How often each of these was saved lately without any effect.
    pub(crate) idle: HashMap<PathBuf, u32>,
    /// When cargo last began to look at its inputs.
    pub(crate) looked: SystemTime,
    /// Whether a change that only cargo understands has not been built yet.
    pub(crate) cargo_due: bool,
    _lock: File,
}

/// So many saves without effect, and a file that nobody named is none of the build's.
const IDLE_SAVES: u32 = 5;

/// Builds the program with cargo and remembers how. Lines of cargo's text go to `say`.
pub fn first_build(settings: &BuildSettings, say: &mut dyn FnMut(String)) -> Result<Baseline, FirstBuildError> {
    let configured = config::read(&settings.cwd, &settings.cargo_run_args);
    let mut project = Project::find(settings, say)?;
    project.triples.extend(configured.target.clone());
    if configured.runner {
        say("note: relive starts the program itself; the configured `runner` is not used".to_owned());
    }
    let lock = project.enter(&settings.self_exe)?;
    let looked = SystemTime::now();
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
        manifests: parts.inputs.named,
        unnamed: parts.inputs.unnamed,
        idle: HashMap::new(),
        foreign: parts.foreign,
        uncaptured: Vec::new(),
        lock_text: fs::read(&project.lock_file).ok(),
        looked,
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

impl Unit {
    /// The file that rustc is given, absolute.
    pub fn root_file(&self) -> Option<PathBuf> {
        let record = &self.known.record;
        let mut sources = record.args.iter().map(|arg| Path::new(&arg.0));
        let root = sources.find(|arg| arg.extension().is_some_and(|extension| extension == "rs"))?;
        Some(Path::new(&record.cwd.0).join(root))
    }

    /// The manifest of its package.
    pub fn manifest(&self) -> Option<PathBuf> {
        let (_, folder) = self.known.record.env.iter().find(|(key, _)| key.0 == "CARGO_MANIFEST_DIR")?;
        Some(Path::new(&folder.0).join("Cargo.toml"))
    }
}

impl Baseline {
    /// The manifest of the workspace, which has the profiles.
    pub fn workspace_manifest(&self) -> PathBuf {
        self.project.root.join("Cargo.toml")
    }

    /// What to watch, and which unit each file belongs to.
    pub fn inputs(&self) -> Inputs {
        // What build scripts write, no user saves.
        let generated = |path: &Path| {
            let inside = path.strip_prefix(&self.target_dir).ok();
            inside.is_some_and(|path| path.components().any(|part| part.as_os_str() == "build"))
        };
        let saved =
            |files: &[PathBuf]| -> Vec<PathBuf> { files.iter().filter(|path| !generated(path)).cloned().collect() };
        let idle = |path: &PathBuf| self.idle.get(path).is_some_and(|times| *times >= IDLE_SAVES);
        let unnamed = self.unnamed.iter().filter(|path| !idle(path)).cloned();
        Inputs {
            units: self.units.iter().map(|unit| saved(&unit.inputs)).collect(),
            cargo: self.manifests.iter().cloned().chain(unnamed).collect(),
            lock: self.lock_text.clone().map(|text| (self.project.lock_file.clone(), text)),
        }
    }

    /// Takes note whether saving `files` had any effect. Of files that nobody named as inputs, those that are saved again
    /// and again without any are left alone: the program may write them itself.
    pub fn note_effect(&mut self, files: &[PathBuf], effect: bool) {
        for file in files.iter().filter(|file| self.unnamed.contains(file)) {
            let times = self.idle.entry(file.clone()).or_default();
            *times = if effect { 0 } else { times.saturating_add(1) };
        }
    }

    /// Whether `change` is one that only cargo can build, or comes after one that cargo could not.
    pub fn needs_cargo(&self, change: &Change) -> bool {
        self.cargo_due || !change.manifests.is_empty()
    }

    /// Inputs that were written after they were read: changes that no watcher has seen. Those in `watched` it has.
    pub fn newer_inputs(&self, watched: &Inputs) -> Vec<PathBuf> {
        let watched = watched.files();
        let newer = |path: &Path, read: SystemTime| {
            !watched.contains(path) && fs::metadata(path).is_ok_and(|meta| put_there(&meta) >= read)
        };
        let units = self.units.iter().flat_map(|unit| unit.inputs.iter().map(|path| (path, unit.tried)));
        let cargo = self.manifests.iter().map(|path| (path, self.looked));
        let set: BTreeSet<&PathBuf> =
            units.chain(cargo).filter(|(path, read)| newer(path, *read)).map(|(path, _)| path).collect();
        set.into_iter().cloned().collect()
    }

    /// Looks out for the files that a failed compilation of unit `index` spoke of.
    pub(crate) fn await_files(&mut self, index: usize, failure: &Failure) {
        let Some(unit) = self.units.get_mut(index) else { return };
        unit.tried = failure.started;
        let new: Vec<PathBuf> = failure.files.iter().filter(|file| !unit.inputs.contains(file)).cloned().collect();
        unit.inputs.extend(new);
    }

    /// Keeps what the last replays made for the next cargo run, which then need not compile it again.
    pub fn keep_newest(&mut self) -> Result<(), Error> {
        for unit in &mut self.units {
            if let Some(fresh) = unit.fresh.take() {
                newest::keep(unit, fresh)?;
            }
        }
        Ok(())
    }

    /// Removes kept objects of `unit` that nothing needs: not the first build's, not the newest, none in `live`.
    pub fn release_objects(&self, unit: usize, live: &[ObjectFile]) -> Result<(), Error> {
        let Some(unit) = self.units.get(unit) else { return Ok(()) };
        let in_use = unit.objects.iter().chain(live).filter_map(|object| object.path.parent()).map(Path::to_owned);
        let mut keep: BTreeSet<PathBuf> = in_use.collect();
        keep.extend(newest_folder(&unit.known.folder));
        keep.extend(newest::objects_of(&unit.known.folder));
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
    pub(crate) inputs: CargoInputs,
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
            inputs: cargo_inputs::find(run, records, project, &linked),
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
        link_time: known.parsed.link_time,
        debuginfo: known.parsed.debuginfo.clone(),
        inputs: inputs.collect(),
        deps,
        objects: objects::list(&known.folder.join(name))?,
        built: SystemTime::UNIX_EPOCH + since,
        tried: SystemTime::UNIX_EPOCH + since,
        fresh: None,
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
        let of_record = known.record.objects.iter().map(|(name, _)| known.folder.join(name));
        let keep = of_record.chain(newest::objects_of(&known.folder)).collect();
        remove_objects(&known.folder, &keep)?;
    }
    Ok(())
}

/// When a file was written or got its name. The time of writing alone comes along when an old file is moved there.
fn put_there(meta: &fs::Metadata) -> SystemTime {
    let seconds = Duration::new(meta.ctime().try_into().unwrap_or(0), meta.ctime_nsec().try_into().unwrap_or(0));
    let named = SystemTime::UNIX_EPOCH + seconds;
    meta.modified().map_or(named, |written| written.max(named))
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
