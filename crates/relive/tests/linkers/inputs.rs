//! Objects to compare with: the compiler's libraries, libraries of this workspace's dependencies, and C.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use relive::arch::Machine;
use relive::binary::archive::members;
use relive::binary::bytes::Bytes;
use relive::binary::object::{Binding, Format, Object, Place};

use crate::c;
use crate::sysroot::sysroot;

/// A machine and format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) format: Format,
    pub(crate) machine: Machine,
}

/// One object, in a file of its own.
pub(crate) struct Input {
    pub(crate) path: PathBuf,
    pub(crate) object: Object,
}

/// Objects that are linked together.
#[derive(Default)]
pub(crate) struct Group {
    /// What the linker is told besides.
    pub(crate) flags: Vec<&'static str>,
    pub(crate) inputs: Vec<Input>,
}

impl Target {
    pub(crate) fn triple(self) -> &'static str {
        match (self.format, self.machine) {
            (Format::Elf, Machine::X86_64) => "x86_64-unknown-linux-gnu",
            (Format::Elf, Machine::Aarch64) => "aarch64-unknown-linux-gnu",
            (Format::MachO, Machine::X86_64) => "x86_64-apple-darwin",
            (Format::MachO, Machine::Aarch64) => "aarch64-apple-darwin",
        }
    }

    /// What is not there to run the comparison.
    pub(crate) fn missing(self) -> Option<String> {
        if !self.linker().exists() {
            return Some(format!("there is no {}", self.linker().display()));
        }
        let libraries = self.libraries();
        (!libraries.exists()).then(|| format!("the target {} is not installed", self.triple()))
    }

    fn libraries(self) -> PathBuf {
        sysroot().join("lib/rustlib").join(self.triple()).join("lib")
    }

    /// The linker that comes with the compiler, in the flavour of its name.
    pub(crate) fn linker(self) -> PathBuf {
        let name = match self.format {
            Format::Elf => "ld.lld",
            Format::MachO => "ld64.lld",
        };
        sysroot().join("lib/rustlib/x86_64-unknown-linux-gnu/bin/gcc-ld").join(name)
    }
}

/// Everything there is for `target`, its objects written to files in `dir`; and what there is not, told.
pub(crate) fn collect(target: Target, dir: &Path) -> (Vec<Group>, Vec<String>) {
    let mut missing = Vec::new();
    let mut archives = rlibs(&target.libraries());
    let built = if target == (Target { format: Format::Elf, machine: Machine::X86_64 }) {
        Ok(own_libraries())
    } else {
        dependencies(target)
    };
    match built {
        Ok(dir) => archives.extend(newest_of_each(rlibs(&dir))),
        Err(why) => missing.push(why),
    }
    let mut rust = Group { flags: Vec::new(), inputs: from_archives(&archives, dir) };
    // ELF's linker can be told to take the first of two definitions, Mach-O's cannot.
    if target.format == Format::MachO {
        let dropped = drop_second_definitions(&mut rust.inputs);
        missing.extend((dropped > 0).then(|| format!("{dropped} objects that define again what others define")));
    }
    let mut groups = vec![rust];
    groups.extend(c::groups(target, dir, &mut missing));
    (groups, missing)
}

fn from_archives(archives: &[PathBuf], dir: &Path) -> Vec<Input> {
    let mut out = Vec::new();
    let mut seen = HashSet::new();
    for archive in archives {
        let data = Bytes::new(fs::read(archive).expect("a library that was just listed"));
        for member in members(&data).expect("an archive") {
            // The first member of a library is the compiler's own data, in an object that is none.
            let Ok(object) = Object::parse_any(member.clone()) else { continue };
            let is_metadata = |section: &relive::binary::object::Section| section.name.ends_with(".rmeta");
            if object.sections.iter().any(is_metadata) || !seen.insert(xxhash_rust::xxh3::xxh3_128(&member)) {
                continue;
            }
            let path = dir.join(format!("{}.o", out.len()));
            fs::write(&path, &*member).expect("a file in a new folder");
            out.push(Input { path, object });
        }
    }
    out
}

/// Leaves out objects that define a symbol that one before them defines. Gives their number.
fn drop_second_definitions(inputs: &mut Vec<Input>) -> usize {
    let mut seen = HashMap::new();
    let before = inputs.len();
    let mut index = 0;
    inputs.retain(|input| {
        index += 1;
        let strong: Vec<_> = input
            .object
            .symbols
            .iter()
            .filter(|symbol| symbol.binding == Binding::Global && matches!(symbol.place, Place::In(..)))
            .map(|symbol| symbol.id)
            .collect();
        if strong.iter().any(|id| seen.contains_key(id)) {
            return false;
        }
        seen.extend(strong.into_iter().map(|id| (id, index)));
        true
    });
    before - inputs.len()
}

fn rlibs(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a folder of libraries").filter_map(Result::ok).map(|entry| entry.path());
    let mut out: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|ext| ext == "rlib")).collect();
    out.sort();
    out
}

/// Where cargo put the libraries that this test is built of.
fn own_libraries() -> PathBuf {
    std::env::current_exe().expect("this test is a file").parent().expect("in a folder").to_owned()
}

/// Packages of this workspace's lock file that build for every target without a linker.
const PACKAGES: [&str; 7] = ["clap_builder", "gimli", "iced-x86", "object", "rustc-demangle", "serde_json", "toml"];

/// Builds [`PACKAGES`] for `target`, once: cargo keeps what it built. Gives the folder of the libraries.
fn dependencies(target: Target) -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("linkers");
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--quiet", "--locked", "--target", target.triple(), "--target-dir"]).arg(&root);
    command.args(PACKAGES.iter().flat_map(|name| ["--package", name])).current_dir(env!("CARGO_MANIFEST_DIR"));
    // Mach-O's linker leaves debug information where it is; code that is not optimised has more relocations, and sooner.
    command.args(["--config", "profile.dev.opt-level=0", "--config", "profile.dev.package.'*'.opt-level=0"]);
    let result = command.env("CARGO_PROFILE_DEV_DEBUG", "0").output().map_err(|error| format!("cargo: {error}"))?;
    if !result.status.success() {
        return Err(format!("packages for {}: {}", target.triple(), String::from_utf8_lossy(&result.stderr)));
    }
    Ok(root.join(target.triple()).join("debug/deps"))
}

/// One library of each crate name: older builds lie beside the newest.
fn newest_of_each(paths: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut newest = BTreeMap::new();
    for path in paths {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let name = name.rsplit_once('-').map_or(name.clone(), |(name, _)| name.to_owned());
        let time = fs::metadata(&path).and_then(|data| data.modified()).ok();
        let entry = newest.entry(name).or_insert((time, path.clone()));
        if time > entry.0 {
            *entry = (time, path);
        }
    }
    newest.into_values().map(|(_, path)| path).collect()
}
