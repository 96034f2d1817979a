//! The project: what cargo says of it, and settings that take something away.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{Examination, Finding};
use crate::Error;
use crate::compile::{self, FirstBuildError, ProjectFacts};

/// Looks at it; gives the folder that relive would have.
pub(super) fn look(examination: &Examination<'_>, findings: &mut Vec<Finding>) -> Option<PathBuf> {
    let mut said = Vec::new();
    let asked = compile::project_facts(
        examination.cargo.clone(),
        examination.cwd.clone(),
        examination.cargo_args.clone(),
        &mut |line| said.push(line),
    );
    let facts = match asked {
        Ok(facts) => facts,
        Err(FirstBuildError::CargoFailed(_)) => {
            findings.push(Finding::bad("project", said.join("\n"), "run it in the folder of a package"));
            return None;
        }
        Err(FirstBuildError::Own(why)) => {
            findings.push(Finding::bad("project", why.to_string(), "install cargo and rustc"));
            return None;
        }
    };
    if let Err(why) = std::fs::create_dir_all(&facts.relive_dir) {
        let why = Error::file(&facts.relive_dir, "create", why);
        findings.push(Finding::bad("project", why.to_string(), "relive keeps its files there, as cargo keeps its own"));
        return None;
    }
    findings.push(Finding::good("project", format!("its files go to `{}`", facts.relive_dir.display())));
    target(&facts, findings);
    linking(&facts.root, findings);
    let manifest = facts.root.join("Cargo.toml");
    let table = std::fs::read_to_string(&manifest).ok().and_then(|text| text.parse::<Table>().ok());
    if let Some(profile) = table.as_ref().and_then(dev_profile) {
        settings(profile, &manifest, findings);
    }
    Some(facts.relive_dir)
}

fn target(facts: &ProjectFacts, findings: &mut Vec<Finding>) {
    const OURS: &str = "x86_64-unknown-linux-gnu";
    let help = "build for it where programs are edited: `--target x86_64-unknown-linux-gnu`, or without `build.target`";
    match &facts.target {
        Some(target) if target != OURS => {
            findings.push(Finding::bad(
                "target",
                format!("the program is built for {target}, and not for {OURS}"),
                help,
            ));
        }
        None if facts.host.as_deref().is_some_and(|host| host != OURS) => {
            let host = facts.host.clone().unwrap_or_default();
            findings.push(Finding::bad("target", format!("rustc builds for {host}, and not for {OURS}"), help));
        }
        _ => findings.push(Finding::good("target", OURS)),
    }
}

/// A program that is linked statically has no loader that could bring the agent in.
fn linking(root: &Path, findings: &mut Vec<Finding>) {
    let of_variables = ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)));
    let home = std::env::home_dir().map(|home| home.join(".cargo"));
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or(home);
    let folders = root.ancestors().map(|folder| folder.join(".cargo")).chain(home);
    let files = folders.flat_map(|folder| ["config.toml", "config"].map(|name| folder.join(name)));
    let of_files = files.filter_map(|file| Some((file.display().to_string(), std::fs::read_to_string(&file).ok()?)));
    if let Some((place, _)) = of_variables.chain(of_files).find(|(_, text)| text.contains("+crt-static")) {
        findings.push(Finding::limited(
            "linking",
            format!(
                "`+crt-static` in `{place}`: where it is in force, programs are linked statically and edits are refused \
                 (`no-agent`)"
            ),
            "remove it where programs are edited",
        ));
    }
}

fn dev_profile(manifest: &Table) -> Option<&Table> {
    manifest.get("profile")?.get("dev")?.as_table()
}

/// Settings of the profile that code is edited in.
fn settings(profile: &Table, manifest: &Path, findings: &mut Vec<Finding>) {
    let place = manifest.display();
    let is = |key: &str, values: &[Value]| profile.get(key).is_some_and(|value| values.contains(value));
    let text = |value: &str| Value::String(value.into());
    let mut limited = |what: String, help: String| findings.push(Finding::limited("profile", what, help));
    if is(
        "debug",
        &[Value::Integer(0), Value::Boolean(false), text("none"), text("line-tables-only"), Value::Integer(1)],
    ) {
        limited(
            format!("`debug` in `{place}` leaves types out, so edits are refused (`no-type-info`)"),
            "remove it, or set `debug = 2`".into(),
        );
    }
    if profile.get("opt-level").is_some_and(|level| *level != Value::Integer(0)) {
        limited(
            format!(
                "`opt-level` in `{place}` optimises the code that is edited, so edits are refused (`optimised-unit`)"
            ),
            "remove it, or set it for dependencies alone: `[profile.dev.package.\"*\"]`".into(),
        );
    }
    if is("strip", &[Value::Boolean(true), text("symbols")]) {
        limited(format!("`strip` in `{place}` removes what functions are found by"), "set `strip = false`".into());
    }
    if profile.get("lto").is_some_and(|lto| ![Value::Boolean(false), text("off")].contains(lto)) {
        limited(
            format!(
                "`lto` in `{place}` joins units when the program is linked, so edits are refused (`link-time-optimised`)"
            ),
            "set `lto = false`".into(),
        );
    }
}
