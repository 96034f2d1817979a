//! What a save touches: takes the build's inputs and the files that were written, gives the units to compile and the
//! files that only cargo understands. It compiles nothing, and looks at no file but `Cargo.lock`.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// The files a build depends on.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// Per unit of the baseline, the files it was made from.
    pub units: Vec<Vec<PathBuf>>,
    /// Manifests, configuration, inputs of build scripts and proc macros: what only cargo understands.
    pub cargo: Vec<PathBuf>,
    /// The lock file and its contents: cargo rewrites it by itself, which is no change.
    pub lock: Option<(PathBuf, Vec<u8>)>,
}

impl Inputs {
    /// Every file to watch.
    pub fn files(&self) -> BTreeSet<PathBuf> {
        let lock = self.lock.iter().map(|(path, _)| path);
        self.units.iter().flatten().chain(&self.cargo).chain(lock).cloned().collect()
    }
}

/// What was written since the last change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Units whose own files were written, ascending. What depends on them is not listed.
    pub units: Vec<usize>,
    /// Written files that only cargo understands.
    pub manifests: Vec<PathBuf>,
    /// All written build inputs, sorted.
    pub files: Vec<PathBuf>,
}

impl Change {
    /// Whether nothing was written that a build depends on.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// Sorts `files` by what they mean to the build; files that are no input mean nothing.
pub fn classify(inputs: &Inputs, files: &[PathBuf]) -> Change {
    let written: BTreeSet<&PathBuf> = files.iter().collect();
    let mut change = Change::default();
    for file in written {
        let units = inputs.units.iter().enumerate().filter(|(_, unit)| unit.contains(file)).map(|(index, _)| index);
        let before = change.units.len();
        change.units.extend(units);
        let in_units = change.units.len() > before;
        let for_cargo = match &inputs.lock {
            Some((lock, text)) if lock == file => fs::read(lock).is_ok_and(|now| now != *text),
            _ => inputs.cargo.contains(file),
        };
        if for_cargo {
            change.manifests.push(file.clone());
        }
        if in_units || for_cargo {
            change.files.push(file.clone());
        }
    }
    change.units.sort_unstable();
    change.units.dedup();
    change
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_sorted_by_what_they_mean() {
        let path = PathBuf::from;
        let inputs = Inputs {
            units: vec![vec![path("/lib.rs"), path("/both.txt")], vec![path("/main.rs"), path("/both.txt")]],
            cargo: vec![path("/Cargo.toml")],
            lock: None,
        };
        let change = |files: &[&str]| classify(&inputs, &files.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(change(&["/main.rs", "/main.rs"]).units, [1]);
        assert_eq!(change(&["/both.txt"]).units, [0, 1]);
        assert_eq!(change(&["/Cargo.toml"]).manifests, [path("/Cargo.toml")]);
        assert!(change(&["/.main.rs.swp"]).is_empty());
    }

    #[test]
    fn a_lock_file_rewritten_as_it_was_is_no_change() {
        let lock = std::env::temp_dir().join(format!("relive-lock-{}", std::process::id()));
        fs::write(&lock, "same").expect("writes");
        let mut inputs =
            Inputs { lock: Some((lock.clone(), b"same".to_vec())), cargo: vec![lock.clone()], ..Inputs::default() };
        assert!(classify(&inputs, std::slice::from_ref(&lock)).is_empty());
        inputs.lock = Some((lock.clone(), b"older".to_vec()));
        assert_eq!(classify(&inputs, std::slice::from_ref(&lock)).manifests, std::slice::from_ref(&lock));
        fs::remove_file(&lock).expect("removes");
    }
}
