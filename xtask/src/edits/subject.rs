//! The program on disk: its own package, the published crates that it uses, where each is built, and what is edited.
//!
//! The crates are copied by cargo as they were published and get a manifest of a few lines, so that they are path
//! dependencies without dependencies of their own. They are built as any edited package is: without optimisation.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::mutate::{Edit, SourceFile};
use crate::files::{context, obtain, save, write};

/// Published crates: name, version, edition.
const CRATES: [(&str, &str, &str); 9] = [
    ("fixedbitset", "0.5.9", "2021"),
    ("heck", "0.5.0", "2021"),
    ("humantime", "2.4.0", "2021"),
    ("percent-encoding", "2.3.2", "2018"),
    ("semver", "1.0.28", "2021"),
    ("shlex", "1.3.0", "2015"),
    ("slab", "0.4.12", "2018"),
    ("strsim", "0.11.1", "2015"),
    ("textwrap", "0.16.4", "2021"),
];
/// Features of all of them, as far as they have any.
const FEATURES: &str = "[features]\ndefault = [\"alloc\", \"std\"]\nalloc = []\nstd = []\n";
/// The program's own files; those that say `false` are not edited.
const OWN: [(&str, &str, bool); 11] = [
    ("canary", include_str!("program/canary.rs"), false),
    ("jobs", include_str!("program/jobs.rs"), true),
    ("main", include_str!("program/main.rs"), false),
    ("plain", include_str!("program/plain.rs"), false),
    ("published", include_str!("program/published.rs"), true),
    ("ring", include_str!("program/ring.rs"), true),
    ("scratch", include_str!("program/scratch.rs"), true),
    ("shop", include_str!("program/shop.rs"), true),
    ("tasks", include_str!("program/tasks.rs"), true),
    ("threads", include_str!("program/threads.rs"), true),
    ("words", include_str!("program/words.rs"), true),
];

/// The folder of a run.
pub(crate) struct Subject {
    folder: PathBuf,
    /// The executable under test.
    pub(crate) relive: PathBuf,
    /// All packages as they are before any edit; the program's own comes first.
    pristine: Vec<Vec<SourceFile>>,
}

impl Subject {
    /// Obtains the crates and reads them. Nothing is written below `program` and `crates` before `reset`.
    pub(crate) fn obtain(folder: PathBuf, relive: PathBuf) -> Result<Subject, String> {
        let published = folder.join("published");
        obtain(&published, &CRATES.map(|(name, version, _)| (name, version)))?;
        let own = OWN.map(|(name, text, editable)| SourceFile {
            path: format!("program/src/{name}.rs"),
            text: text.to_owned(),
            editable,
        });
        let mut pristine = vec![own.to_vec()];
        for (name, version, _) in CRATES {
            let mut files = Vec::new();
            read(&published.join(format!("{name}-{version}/src")), &format!("crates/{name}/src"), &mut files)?;
            files.sort_by(|left, right| left.path.cmp(&right.path));
            pristine.push(files);
        }
        Ok(Subject { folder, relive, pristine })
    }

    /// Brings the files on disk back to what they were before any edit; gives the packages.
    pub(crate) fn reset(&self) -> Result<Vec<Vec<SourceFile>>, String> {
        let dependencies = CRATES.map(|(name, ..)| format!("{name} = {{ path = \"../crates/{name}\" }}\n")).concat();
        let manifest =
            format!("{}\n[dependencies]\n{dependencies}\n[workspace]\n", head("edits-program", "0.1.0", "2024"));
        save(&self.manifest(), &manifest)?;
        for (name, version, edition) in CRATES {
            let manifest = format!("{}\n{FEATURES}", head(name, version, edition));
            save(&self.path(&format!("crates/{name}/Cargo.toml")), &manifest)?;
        }
        for file in self.pristine.iter().flatten() {
            save(&self.path(&file.path), &file.text)?;
        }
        Ok(self.pristine.clone())
    }

    /// Leaves alone what rustc does not read: `dep_info` is what it wrote about a build.
    pub(crate) fn edit_only(&mut self, dep_info: &str) {
        let read: BTreeSet<&str> = dep_info.split_whitespace().collect();
        for file in self.pristine.iter_mut().flatten() {
            let own = file.path.strip_prefix("program/"); // told from where cargo runs
            file.editable &= own.is_some_and(|own| read.contains(own))
                || read.contains(self.folder.join(&file.path).to_str().unwrap_or_default());
        }
    }

    /// Whether rustc reads a file: a save of it is a change.
    pub(crate) fn is_read(&self, path: &str) -> bool {
        let known = |file: &SourceFile| file.path == path && (file.editable || path.starts_with("program/"));
        self.pristine.iter().flatten().any(known)
    }

    /// The packages as they are before any edit.
    pub(crate) fn pristine(&self) -> &[Vec<SourceFile>] {
        &self.pristine
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn manifest(&self) -> PathBuf {
        self.path("program/Cargo.toml")
    }

    /// Saves the new texts of files, each in one rename.
    pub(crate) fn save(&self, files: &[(String, String)]) -> Result<(), String> {
        files.iter().try_for_each(|(path, text)| save(&self.path(path), text))
    }

    /// Keeps what is needed to look at a fault: texts under names, in a folder that is given back.
    pub(crate) fn keep(&self, name: &str, texts: &[(String, String)]) -> Result<PathBuf, String> {
        let folder = self.path("faults").join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(context("remove", &folder))?;
        }
        for (file, text) in texts {
            write(&folder.join(file), text.as_bytes())?;
        }
        for file in ["events", "relive.err"] {
            let _ = fs::copy(self.path(file), folder.join(file)); // whichever there is
        }
        Ok(folder)
    }
}

/// Has the edited texts in the packages.
pub(crate) fn adopt(packages: &mut [Vec<SourceFile>], edit: &Edit) {
    for (path, text) in &edit.files {
        if let Some(file) = packages.iter_mut().flatten().find(|file| file.path == *path) {
            file.text.clone_from(text);
        }
    }
}

/// The texts as they are in `packages` of the files that an edit changes.
pub(crate) fn before(packages: &[Vec<SourceFile>], edit: &Edit) -> Vec<(String, String)> {
    let changed = |file: &&SourceFile| edit.files.iter().any(|(path, _)| *path == file.path);
    packages.iter().flatten().filter(changed).map(|file| (file.path.clone(), file.text.clone())).collect()
}

/// The first lines of a manifest.
fn head(name: &str, version: &str, edition: &str) -> String {
    format!("[package]\nname = \"{name}\"\nversion = \"{version}\"\nedition = \"{edition}\"\n")
}

/// Reads the sources below a folder. Tests are no part of the program.
fn read(folder: &Path, name: &str, files: &mut Vec<SourceFile>) -> Result<(), String> {
    for entry in fs::read_dir(folder).map_err(context("list", folder))? {
        let path = entry.map_err(context("list", folder))?.path();
        let Some(last) = path.file_name().and_then(|last| last.to_str()) else { continue };
        let name = format!("{name}/{last}");
        if path.is_dir() {
            read(&path, &name, files)?;
        } else if last.ends_with(".rs") {
            let text = fs::read_to_string(&path).map_err(context("read", &path))?;
            files.push(SourceFile { path: name, text, editable: last != "tests.rs" });
        }
    }
    Ok(())
}
