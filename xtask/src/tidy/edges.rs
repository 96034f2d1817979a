//! Who may use whom: between the crates, and between the stages inside `relive`.

use toml::{Table, Value};

use super::File;

/// The edges between our crates; there are no others.
const EDGES: [(&str, &[&str]); 6] = [
    ("cargo-relive", &["relive", "relive-wire"]),
    ("relive", &["relive-process", "relive-wire"]),
    ("relive-agent", &["relive-wire"]),
    ("relive-process", &["relive-wire"]),
    ("relive-wire", &[]),
    ("xtask", &[]),
];

/// What the agent may use besides: it lives in somebody else's process.
const AGENT_MAY: [&str; 2] = ["relive-wire", "libc"];

/// Crates for terminals and flags, which only `cargo-relive` may use.
const SHELL_ONLY: [&str; 8] =
    ["anstream", "anstyle", "clap", "clap_complete", "clap_mangen", "crossterm", "ratatui", "signal-hook"];

/// Stages that know neither files nor processes nor clocks.
const PURE: [&str; 5] = ["arch", "binary", "diff", "judge", "link"];

/// What a pure stage may not name, in both ways of writing it.
const IMPURE: [&str; 4] = ["fs", "process", "env", "time"];

const STAGES: &str = "crates/relive/src/";

/// Cargo.toml files against the list of edges.
pub(crate) fn crates(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| is_manifest(&file.path)) {
        let Ok(table) = file.text.parse::<Table>() else {
            found.push(format!("{} is not TOML", file.path));
            continue;
        };
        let name = table.get("package").and_then(|package| package.get("name")).and_then(Value::as_str).unwrap_or("");
        let Some((_, allowed)) = EDGES.iter().find(|(from, _)| *from == name) else {
            found.push(format!("`{name}` in {} is not in the list of crates", file.path));
            continue;
        };
        for dependency in dependencies(&table) {
            let ours = EDGES.iter().any(|(to, _)| *to == dependency);
            let agent = name == "relive-agent" && !AGENT_MAY.contains(&dependency.as_str());
            let shell = name != "cargo-relive" && SHELL_ONLY.contains(&dependency.as_str());
            if (ours && !allowed.contains(&dependency.as_str())) || agent || shell {
                found.push(format!("{name} may not use {dependency}"));
            }
        }
    }
    found
}

/// `crate::` paths inside `relive` against the order of the `mod` lines.
pub(crate) fn modules(files: &[File]) -> Vec<String> {
    let order = stages(files);
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let Some((stage, _)) = file.path.strip_prefix(STAGES).and_then(|path| path.split_once('/')) else { continue };
        if stage == "session" {
            continue; // it connects them all
        }
        let Some(mine) = order.iter().position(|name| name == stage) else {
            found.push(format!("`{stage}` is not in the `mod` lines of lib.rs"));
            continue;
        };
        for used in used_modules(&file.code()) {
            let place = order.iter().position(|name| *name == used);
            let allowed = match place {
                Some(place) => place <= mine,
                None => matches!(used.as_str(), "error" | "Error"),
            };
            if !allowed {
                found.push(format!("{} may not use crate::{used}", file.path));
            }
        }
    }
    found
}

/// The pure stages against what they may not name.
pub(crate) fn purity(files: &[File]) -> Vec<String> {
    let pure = |file: &&File| PURE.iter().any(|stage| file.path.starts_with(&format!("{STAGES}{stage}/")));
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()).filter(pure) {
        let code = file.code();
        for name in IMPURE {
            let grouped = code.lines().any(|line| line.contains("std::{") && words(line).any(|word| word == name));
            if code.contains(&format!("std::{name}")) || grouped {
                found.push(format!("{} names std::{name}", file.path));
            }
        }
        if code.contains("relive_process") {
            found.push(format!("{} names relive_process", file.path));
        }
    }
    found
}

fn is_manifest(path: &str) -> bool {
    path == "xtask/Cargo.toml"
        || (path.starts_with("crates/") && path.ends_with("/Cargo.toml") && path.matches('/').count() == 2)
}

/// The names of every dependency in a manifest, those of tests, build scripts and single platforms included.
fn dependencies(table: &Table) -> Vec<String> {
    let kinds = ["dependencies", "build-dependencies", "dev-dependencies"];
    let targets = table.get("target").and_then(Value::as_table).into_iter().flat_map(|targets| targets.values());
    let tables = targets.filter_map(Value::as_table).chain([table]);
    let names = tables.flat_map(|table| kinds.iter().filter_map(|kind| table.get(*kind)?.as_table()));
    names.flat_map(|table| table.keys().cloned()).collect()
}

/// The stages in the order of the `mod` lines: those that are folders.
fn stages(files: &[File]) -> Vec<String> {
    let lib = files.iter().find(|file| file.path == format!("{STAGES}lib.rs")).map_or("", |file| &file.text);
    let names = lib.lines().filter_map(|line| line.strip_prefix("pub mod ").or(line.strip_prefix("mod ")));
    let names = names.filter_map(|name| name.strip_suffix(';'));
    names.filter(|name| !matches!(*name, "error" | "session")).map(str::to_owned).collect()
}

/// The first words after `crate::`, groups in braces included.
fn used_modules(code: &str) -> Vec<String> {
    let mut used = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
            continue; // the end of another word
        }
        let path = &code[at + "crate::".len()..];
        match path.strip_prefix('{') {
            Some(group) => used.extend(group_heads(group)),
            None => used.extend(words(path).next().map(str::to_owned)),
        }
    }
    used
}

/// The first word of each member of a group whose opening brace is gone.
fn group_heads(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut heads = Vec::new();
    let mut member = String::new();
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.extend(words(&std::mem::take(&mut member)).next().map(str::to_owned)),
            _ if depth == 0 => member.push(character),
            _ => {}
        }
    }
    heads.extend(words(&member).next().map(str::to_owned));
    heads
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::tests::file;
    use super::*;

    fn tree(path: &str, text: &str) -> Vec<File> {
        let order = "pub mod arch;\npub mod binary;\npub mod diff;\npub mod judge;\npub mod tell;\npub mod error;\n";
        vec![file("crates/relive/src/lib.rs", order), file(path, text)]
    }

    #[test]
    fn a_stage_uses_what_lies_to_its_left() {
        let text = "use crate::diff::Delta;\nuse crate::{arch, binary::{names, types}, Error};\n";
        assert!(modules(&tree("crates/relive/src/judge/mod.rs", text)).is_empty());
        let found = modules(&tree("crates/relive/src/diff/mod.rs", "use crate::{arch, judge::Verdict};\n"));
        assert_eq!(found, ["crates/relive/src/diff/mod.rs may not use crate::judge"]);
        let found = modules(&tree("crates/relive/src/diff/mod.rs", "fn f(x: &crate::tell::Event) {}\n"));
        assert_eq!(found, ["crates/relive/src/diff/mod.rs may not use crate::tell"]);
    }

    #[test]
    fn a_pure_stage_names_no_file_and_no_clock() {
        let path = "crates/relive/src/diff/mod.rs";
        assert_eq!(purity(&tree(path, "use std::fs;\n")), [format!("{path} names std::fs")]);
        assert_eq!(purity(&tree(path, "use std::{fmt, time::Instant};\n")), [format!("{path} names std::time")]);
        assert!(purity(&tree(path, "use std::fmt; // not std::fs\n")).is_empty());
        assert!(purity(&tree("crates/relive/src/change/mod.rs", "use std::fs;\n")).is_empty());
    }

    #[test]
    fn a_crate_uses_only_what_is_listed() {
        let manifest = |name: &str, uses: &str| {
            let text = format!("[package]\nname = \"{name}\"\n[dependencies]\n{uses} = \"1\"\n");
            crates(&[file(&format!("crates/{name}/Cargo.toml"), &text)])
        };
        assert!(manifest("relive", "relive-process").is_empty());
        assert!(manifest("relive-agent", "libc").is_empty());
        assert_eq!(manifest("relive-agent", "log"), ["relive-agent may not use log"]);
        assert_eq!(manifest("relive", "clap"), ["relive may not use clap"]);
        assert_eq!(manifest("relive-process", "relive"), ["relive-process may not use relive"]);
    }
}
