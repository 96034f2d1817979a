//! rustc's dep-info (a makefile): takes its text, gives the files the crate was made from and the environment variables that
//! its sources ask for.

use std::collections::HashSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The files named in `text` that exist, without `..` in their names.
#[must_use]
pub fn existing(text: &str, cwd: &Path) -> Vec<PathBuf> {
    let plain = |path: PathBuf| match path.components().any(|part| part == Component::ParentDir) {
        true => fs::canonicalize(&path).unwrap_or(path),
        false => path,
    };
    inputs(text, cwd).into_iter().filter(|path| path.is_file()).map(plain).collect()
}

/// The environment variables that the sources read while they are compiled: `# env-dep:NAME=VALUE`, or without a value.
#[must_use]
pub fn variables(text: &str) -> Vec<&str> {
    let named = text.lines().filter_map(|line| line.strip_prefix("# env-dep:"));
    named.map(|line| line.split('=').next().unwrap_or(line)).collect()
}

/// The prerequisites named in `text`, relative ones below `cwd`, each once, in their order.
fn inputs(text: &str, cwd: &Path) -> Vec<PathBuf> {
    // rustc names all of them again for each of its outputs.
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((_, list)) = line.split_once(": ") else { continue };
        for name in names(list) {
            let path = cwd.join(name);
            if seen.insert(path.clone()) {
                found.push(path);
            }
        }
    }
    found
}

/// Splits at spaces; a backslash keeps the space behind it in the name.
fn names(list: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut name = String::new();
    let mut chars = list.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek() == Some(&' ') => {
                chars.next();
                name.push(' ');
            }
            ' ' => all.push(std::mem::take(&mut name)),
            c => name.push(c),
        }
    }
    all.push(name);
    all.retain(|name| !name.is_empty());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_spaces_and_environment_lines() {
        let text =
            "/t/app.d: src/main.rs src/a\\ b.rs /abs/x.txt\n\n/t/app: src/main.rs\n\nsrc/main.rs:\n# env-dep:X=1: y\n";
        let expected = ["/w/src/main.rs", "/w/src/a b.rs", "/abs/x.txt"].map(PathBuf::from);
        assert_eq!(inputs(text, Path::new("/w")), expected);
        assert_eq!(variables(text), ["X"]);
        assert!(inputs("", Path::new("/w")).is_empty());
    }
}
