//! `cargo xtask mutants`: whether a test notices when a rule of the judge is missing or wrong.
//!
//! Takes a copy of the workspace below the target directory and writes every mutant of crates/relive/src/judge into it at
//! once, each behind a number; `RELIVE_MUTANT` chooses one when a test runs. So there is one build, and a mutant costs no
//! more than the judge's tests. Rule by rule these are: the rule is not in the table, and its check accepts everything.
//! With `--all` so is every comparison, condition, early return and statement of the folder (`find` has the list).
//!
//! Prints what survived, and the score. It fails if a mutant of a whole rule survives; of the others it only tells.

mod edit;
mod find;
mod run;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use self::find::{Kind, Mutant};
use self::run::{Built, Outcome};
use crate::steps::target_dir;

/// The folder that is mutated.
const JUDGE: &str = "crates/relive/src/judge";

/// What is copied: everything that the judge's tests are built from or read.
const TREE: [&str; 6] = ["Cargo.toml", "Cargo.lock", ".cargo", "crates", "docs", "xtask"];

/// Builds that may fail because of mutants that are no Rust, one after the other, before it is given up.
const ROUNDS: usize = 8;

/// The task. Words: `--all`, and names of files of the judge that alone are looked at.
pub(crate) fn run(root: &Path, words: &[String]) -> Result<(), String> {
    let all = words.iter().any(|word| word == "--all");
    let only: Vec<&String> = words.iter().filter(|word| !word.starts_with("--")).collect();
    let scratch = Scratch::new(root)?;
    let mut mutants = scratch.mutants()?;
    let built = scratch.build(&mut mutants)?;
    let wanted = |mutant: &&Mutant| {
        let in_file = only.is_empty() || only.iter().any(|name| mutant.file.strip_suffix(".rs") == Some(name));
        in_file && (all || mutant.kind == Kind::Rule)
    };
    let chosen: Vec<&Mutant> = mutants.iter().filter(wanted).collect();
    built.unharmed()?;
    println!("{} mutants of {JUDGE}, one build", chosen.len());
    report(&chosen, &built.try_all(&chosen))
}

/// What became of each, and whether that is enough.
fn report(mutants: &[&Mutant], outcomes: &[Outcome]) -> Result<(), String> {
    let mut rules = Score::default();
    let mut others = Score::default();
    for (mutant, outcome) in mutants.iter().zip(outcomes) {
        let score = if mutant.kind == Kind::Rule { &mut rules } else { &mut others };
        score.count += 1;
        match outcome {
            Outcome::Killed => score.killed += 1,
            Outcome::Endless => {
                score.killed += 1;
                score.endless += 1;
            }
            Outcome::Survived => println!("survived: {JUDGE}/{}:{}: {}", mutant.file, mutant.line, mutant.what),
        }
    }
    println!("rules missing or accepting everything: {}", rules.words());
    if others.count > 0 {
        println!("conditions, statements and results: {}", others.words());
    }
    if rules.killed == rules.count {
        Ok(())
    } else {
        Err(format!("no test notices that {} rules are missing or accept everything", rules.count - rules.killed))
    }
}

#[derive(Default)]
struct Score {
    count: usize,
    killed: usize,
    /// Killed because they did not come to an end.
    endless: usize,
}

impl Score {
    fn words(&self) -> String {
        let percent = self.killed as f64 * 100.0 / self.count.max(1) as f64;
        let endless = if self.endless == 0 { String::new() } else { format!(", {} by not ending", self.endless) };
        format!("{} of {} killed ({percent:.1} %{endless})", self.killed, self.count)
    }
}

/// The copy of the workspace.
struct Scratch {
    tree: PathBuf,
    build: PathBuf,
    /// The judge's files as they are.
    files: Vec<(String, String)>,
}

impl Scratch {
    fn new(root: &Path) -> Result<Scratch, String> {
        let folder = target_dir(root).join("mutants");
        let scratch = Scratch { tree: folder.join("tree"), build: folder.join("build"), files: judge(root)? };
        for part in TREE {
            copy(&root.join(part), &scratch.tree.join(part))?;
        }
        Ok(scratch)
    }

    /// Every mutant, numbered from 1 in the order of the files.
    fn mutants(&self) -> Result<Vec<Mutant>, String> {
        let mut out = Vec::new();
        for (name, text) in &self.files {
            out.extend(find::mutants(name, text).map_err(|why| format!("{JUDGE}/{name}: {why}"))?);
        }
        for (at, mutant) in out.iter_mut().enumerate() {
            mutant.number = at + 1;
        }
        Ok(out)
    }

    /// The tests with all mutants in them. Those that are no Rust are left out.
    fn build(&self, mutants: &mut Vec<Mutant>) -> Result<Built, String> {
        for _ in 0..ROUNDS {
            let written = self.write(mutants)?;
            let errors = match run::build(&self.tree, &self.build)? {
                Ok(built) => return Ok(built),
                Err(errors) => errors,
            };
            let bad: BTreeSet<usize> = errors
                .iter()
                .filter_map(|error| {
                    let text = written.iter().find(|(name, _)| error.file.ends_with(&format!("{JUDGE}/{name}")))?;
                    text.1.innermost(error.start, error.end)
                })
                .collect();
            if bad.is_empty() {
                let first = errors.first().map_or("no reason was given", |error| &error.message);
                return Err(format!("the copy with the mutants does not compile: {first}"));
            }
            for mutant in mutants.iter().filter(|mutant| bad.contains(&mutant.number)) {
                println!("is no Rust: {JUDGE}/{}:{}: {}", mutant.file, mutant.line, mutant.what);
            }
            mutants.retain(|mutant| !bad.contains(&mutant.number));
        }
        Err("the copy with the mutants does not compile".to_owned())
    }

    /// Writes the judge's files with their mutants, and the module that chooses one.
    fn write(&self, mutants: &[Mutant]) -> Result<Vec<(String, edit::Edited)>, String> {
        let folder = self.tree.join(JUDGE);
        let mut out = Vec::new();
        for (name, text) in &self.files {
            let own: Vec<&Mutant> = mutants.iter().filter(|mutant| mutant.file == *name).collect();
            let mut edited = edit::apply(text, &own);
            if name == "mod.rs" {
                edited.text.push_str(edit::CHOOSER);
            }
            replace(&folder.join(name), edited.text.as_bytes())?;
            out.push((name.clone(), edited));
        }
        Ok(out)
    }
}

/// Name and text of each file of the judge, by name.
fn judge(root: &Path) -> Result<Vec<(String, String)>, String> {
    let folder = root.join(JUDGE);
    let entries = fs::read_dir(&folder).map_err(|why| format!("cannot list `{}`: {why}", folder.display()))?;
    let mut out = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "rs")) {
        let text = fs::read_to_string(&path).map_err(|why| format!("cannot read `{}`: {why}", path.display()))?;
        out.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), text));
    }
    out.sort();
    Ok(out)
}

/// Copies a file or a folder. What is the same already keeps its time, so that cargo does not build it again; the judge's
/// own files are left to [`Scratch::write`].
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    if from.is_dir() {
        let entries = fs::read_dir(from).map_err(|why| format!("cannot list `{}`: {why}", from.display()))?;
        for entry in entries.flatten().filter(|entry| entry.file_name() != "target") {
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    if !from.exists() || from.parent().is_some_and(|parent| parent.ends_with(JUDGE)) {
        return Ok(());
    }
    let bytes = fs::read(from).map_err(|why| format!("cannot read `{}`: {why}", from.display()))?;
    replace(to, &bytes)
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), String> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(path);
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(path, bytes));
    written.map_err(|why| format!("cannot write `{}`: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_both_of_its_mutants() {
        let files = judge(&crate::root()).expect("the judge");
        let table = &files.iter().find(|(name, _)| name == "mod.rs").expect("its table").1;
        let rules = table.lines().filter(|line| line.trim_start().starts_with("Applied { rule: ")).count();
        let found = files.iter().flat_map(|(name, text)| find::mutants(name, text).expect("Rust"));
        let whole = found.filter(|mutant| mutant.kind == Kind::Rule).count();
        assert!(rules > 20, "{rules} rules");
        assert_eq!(whole, 2 * rules);
    }

    #[test]
    fn a_rule_that_nothing_tests_is_a_failure() {
        let mutant =
            |kind| Mutant { kind, ..find::mutants("a.rs", "fn f() -> bool { true }").expect("Rust").remove(0) };
        let (rule, other) = (mutant(Kind::Rule), mutant(Kind::Other));
        assert!(report(&[&rule, &other], &[Outcome::Killed, Outcome::Survived]).is_ok());
        assert!(report(&[&rule, &other], &[Outcome::Survived, Outcome::Killed]).is_err());
    }
}
