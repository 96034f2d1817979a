//! The fences, as a task and as a test: each check takes the tree and gives findings, one line each.

mod code;
mod edges;
mod files;
mod rules;

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the tree.
pub(crate) struct File {
    /// From the root, with `/`.
    path: String,
    /// Its text.
    text: String,
}

/// A check and what it is called.
type Check = (&'static str, fn(&[File]) -> Vec<String>);

const CHECKS: [Check; 8] = [
    ("crates use only what they may", edges::crates),
    ("modules use only what lies to their left", edges::modules),
    ("the pure stages are pure", edges::purity),
    ("unsafe is where it may be", files::unsafe_code),
    ("only the terminal prints", files::printing),
    ("every source file says what it is", files::openings),
    ("no path of a machine", files::machine_paths),
    ("every rule has a file, a page and a case", rules::rules),
];

/// Runs every check and prints what it found.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    let files = read_tree(root)?;
    for long in files::long(&files) {
        println!("is this one subject? {long}");
    }
    let findings = findings(&files);
    if findings.is_empty() { Ok(()) } else { Err(findings.join("\n")) }
}

fn findings(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, check) in CHECKS {
        found.extend(check(files).into_iter().map(|line| format!("{name}: {line}")));
    }
    found
}

/// Every text file of the tree that is ours.
fn read_tree(root: &Path) -> Result<Vec<File>, String> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|why| format!("cannot list `{}`: {why}", folder.display()))?;
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                if is_ours(&entry.file_name().to_string_lossy()) {
                    folders.push(path);
                }
            } else if entry.file_name() == ".git" {
                // In a worktree it is a file, and names the repository's place on this machine.
            } else if let Ok(text) = fs::read_to_string(&path) {
                files.push(File { path: relative(root, path), text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn is_ours(folder: &str) -> bool {
    matches!(folder, ".ci" | ".cargo") || !(folder.starts_with('.') || folder == "target" || folder == "__pycache__")
}

fn relative(root: &Path, path: PathBuf) -> String {
    path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/")
}

impl File {
    /// Whether this is Rust of ours, and not the sources of an example that is edited.
    fn is_rust(&self) -> bool {
        let examples = ["tests/cases/", "tests/guests/", "crates/cargo-relive/demo/"];
        self.path.ends_with(".rs") && !examples.iter().any(|folder| self.path.starts_with(folder))
    }

    /// The code without comments, strings and its tests.
    fn code(&self) -> String {
        let code = code::bare(&self.text);
        match code.find("#[cfg(test)]\nmod ") {
            Some(tests) => code[..tests].to_owned(),
            None => code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn the_tree_is_tidy() {
        let files = read_tree(&crate::root()).expect("a tree");
        assert!(files.iter().any(|file| file.path == "crates/relive/src/lib.rs"), "the tree was not found");
        let findings = findings(&files);
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }

    #[test]
    fn code_ends_where_its_tests_begin() {
        let file = file("a.rs", "fn a() {} // unsafe\n#[cfg(test)]\nmod tests { unsafe {} }\n");
        assert!(!file.code().contains("unsafe"));
        assert!(file.code().contains("fn a"));
    }
}
