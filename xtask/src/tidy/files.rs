//! What single files may hold.

use super::File;

/// The only files that may hold `unsafe`.
const UNSAFE_MAY: [&str; 4] = [
    "crates/relive-agent/src/sys.rs",
    "crates/relive-agent/src/sys/store.rs",
    "crates/relive-process/src/sys.rs",
    "crates/relive-process/src/control/macos/sys.rs",
];

/// Writes to stderr by itself: rustc's wrapper and the linker run in processes of their own, without a session.
const PRINTS_MAY: [&str; 1] = ["crates/relive/src/compile/roles.rs"];

/// Crate roots that forbid it altogether. The other two deny it, for the sake of their `sys`.
const FORBIDS: [&str; 5] = [
    "crates/cargo-relive/src/lib.rs",
    "crates/cargo-relive/src/main.rs",
    "crates/relive-wire/src/lib.rs",
    "crates/relive/src/lib.rs",
    "xtask/src/main.rs",
];
const DENIES: [&str; 2] = ["crates/relive-agent/src/lib.rs", "crates/relive-process/src/lib.rs"];

/// Non-blank lines above which a file is asked whether it is one subject.
const LONG: usize = 600;

/// `unsafe` outside the `sys.rs`, and crates that do not forbid it.
pub(crate) fn unsafe_code(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let path = file.path.as_str();
        if !UNSAFE_MAY.contains(&path) && has_word(&super::code::bare(&file.text), "unsafe") {
            found.push(format!("{path} holds `unsafe`"));
        }
        let wanted = [(&FORBIDS[..], "#![forbid(unsafe_code)]"), (&DENIES[..], "#![deny(unsafe_code)]")];
        for (roots, line) in wanted {
            if roots.contains(&path) && !file.text.contains(line) {
                found.push(format!("{path} does not say {line}"));
            }
        }
    }
    found
}

/// Print macros in the crates: all text of ours goes through the terminal.
pub(crate) fn printing(files: &[File]) -> Vec<String> {
    let sources = files.iter().filter(|file| file.is_rust() && file.path.starts_with("crates/"));
    let mut found = Vec::new();
    let sources = sources.filter(|file| file.path.contains("/src/") && !PRINTS_MAY.contains(&file.path.as_str()));
    for file in sources {
        let code = file.code();
        for name in ["print", "println", "eprint", "eprintln", "dbg"] {
            if code.match_indices(&format!("{name}!")).any(|(at, _)| !continues_a_word(&code[..at])) {
                found.push(format!("{} uses {name}!", file.path));
            }
        }
    }
    found
}

/// Source files that do not open with what they take and give.
pub(crate) fn openings(files: &[File]) -> Vec<String> {
    let silent = |file: &&File| file.is_rust() && !file.text.starts_with("//!");
    files.iter().filter(silent).map(|file| format!("{} does not open with a `//!` paragraph", file.path)).collect()
}

/// Paths that exist on one machine only.
pub(crate) fn machine_paths(files: &[File]) -> Vec<String> {
    let homes = ["home", "root", "Users", "work"].map(|folder| format!("/{folder}/"));
    let mut found = Vec::new();
    for file in files {
        for (number, line) in file.text.lines().enumerate() {
            if let Some(home) = homes.iter().find(|home| starts_a_path(line, home)) {
                found.push(format!("{}:{} names a path under {home}", file.path, number + 1));
            }
        }
    }
    found
}

/// The files that are longer than one reads at a time.
pub(crate) fn long(files: &[File]) -> Vec<String> {
    let sources = files.iter().filter(|file| file.is_rust() && !file.path.contains("/tests/"));
    let counted = sources.map(|file| (&file.path, file.text.lines().filter(|line| !line.trim().is_empty()).count()));
    counted.filter(|(_, lines)| *lines > LONG).map(|(path, lines)| format!("{path}: {lines} non-blank lines")).collect()
}

/// Whether `home` begins an absolute path in `line`, rather than standing inside a longer one.
fn starts_a_path(line: &str, home: &str) -> bool {
    line.match_indices(home).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}' | '/' | '*' | '$'))
    })
}

fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let after = code[at + word.len()..].chars().next();
        !continues_a_word(&code[..at]) && !after.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

fn continues_a_word(before: &str) -> bool {
    before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::super::tests::file;
    use super::*;

    #[test]
    fn unsafe_has_an_address() {
        let text = "//! x\nfn f() { unsafe { g() } }\n";
        assert_eq!(unsafe_code(&[file("crates/relive/src/a.rs", text)]), ["crates/relive/src/a.rs holds `unsafe`"]);
        assert!(unsafe_code(&[file("crates/relive-agent/src/sys.rs", text)]).is_empty());
        assert!(unsafe_code(&[file("crates/relive/src/a.rs", "// unsafe\nlet unsafe_code = \"unsafe\";")]).is_empty());
        let root = file("crates/relive/src/lib.rs", "//! x\n");
        assert_eq!(unsafe_code(&[root]), ["crates/relive/src/lib.rs does not say #![forbid(unsafe_code)]"]);
    }

    #[test]
    fn only_the_terminal_prints() {
        let text = "//! x\nfn f() { eprintln!(\"x\") }\n#[cfg(test)]\nmod tests { println!() }\n";
        assert_eq!(printing(&[file("crates/relive/src/a.rs", text)]), ["crates/relive/src/a.rs uses eprintln!"]);
        assert!(printing(&[file("crates/relive/build.rs", text)]).is_empty());
    }

    #[test]
    fn a_machine_is_not_named() {
        let home = format!("/{}/x/y", "home");
        assert_eq!(machine_paths(&[file("a.md", &format!("see `{home}`"))]).len(), 1);
        assert!(machine_paths(&[file("a.md", &format!("see https://example.org{home}"))]).is_empty());
    }

    #[test]
    fn a_file_opens_with_its_paragraph() {
        assert_eq!(openings(&[file("xtask/src/a.rs", "use x;\n")]).len(), 1);
        assert!(openings(&[file("xtask/src/a.rs", "//! x\n"), file("tests/cases/a/b.rs", "x")]).is_empty());
    }
}
