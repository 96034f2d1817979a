//! Objects to compare with: the compiler's libraries, the libraries that this crate is built of, and C compiled by clang.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use relive::binary::archive::members;
use relive::binary::bytes::Bytes;
use relive::binary::object::Object;

/// A machine and format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    ElfX86_64,
    ElfAarch64,
}

/// One object, in a file of its own.
pub(crate) struct Input {
    pub(crate) path: PathBuf,
    pub(crate) object: Object,
}

impl Target {
    pub(crate) fn triple(self) -> &'static str {
        match self {
            Target::ElfX86_64 => "x86_64-unknown-linux-gnu",
            Target::ElfAarch64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// What is not there to run the comparison.
    pub(crate) fn missing(self) -> Option<String> {
        if !linker().exists() {
            return Some(format!("there is no {}", linker().display()));
        }
        let libraries = self.libraries();
        (!libraries.exists()).then(|| format!("the target {} is not installed", self.triple()))
    }

    fn libraries(self) -> PathBuf {
        sysroot().join("lib/rustlib").join(self.triple()).join("lib")
    }
}

pub(crate) fn sysroot() -> PathBuf {
    let out = Command::new("rustc").args(["--print", "sysroot"]).output().expect("rustc runs");
    PathBuf::from(String::from_utf8(out.stdout).expect("a path").trim())
}

/// The linker that comes with the compiler, in the flavour of its name.
pub(crate) fn linker() -> PathBuf {
    sysroot().join("lib/rustlib/x86_64-unknown-linux-gnu/bin/gcc-ld/ld.lld")
}

/// Writes the objects to files in `dir`.
pub(crate) fn collect(target: Target, dir: &Path) -> Vec<Input> {
    let mut archives = rlibs(&target.libraries());
    if target == Target::ElfX86_64 {
        archives.extend(newest_of_each(rlibs(&own_libraries())));
    }
    let mut out = Vec::new();
    let mut seen = HashSet::new();
    for archive in archives {
        let data = Bytes::new(fs::read(&archive).expect("a library that was just listed"));
        for member in members(&data).expect("an archive") {
            let Ok(object) = Object::parse_any(member.clone()) else { continue };
            if !seen.insert(xxhash_rust::xxh3::xxh3_128(&member)) {
                continue;
            }
            let path = dir.join(format!("{}.o", out.len()));
            fs::write(&path, &*member).expect("a file in a new folder");
            out.push(Input { path, object });
        }
    }
    out
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
