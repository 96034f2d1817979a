//! The few keys of cargo's configuration that relive must know to stand in for: takes the folder cargo runs in and its
//! arguments, finds the files cargo would read, gives the user's rustc wrappers, build target and runners. Everything else is cargo's business;
//! a file that cannot be read or understood is left for cargo to complain about.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// The configuration files that cargo reads when it runs in `cwd`, the strongest first.
pub(crate) fn files(cwd: &Path) -> Vec<PathBuf> {
    let folders = cwd.ancestors().map(|folder| folder.join(".cargo")).chain(cargo_home());
    let mut found: Vec<PathBuf> = Vec::new();
    for folder in folders {
        // Cargo prefers the name without an ending when both exist.
        let file = ["config", "config.toml"].map(|name| folder.join(name)).into_iter().find(|path| path.is_file());
        found.extend(file.filter(|file| !found.contains(file)));
    }
    found
}

/// Where cargo keeps its registries and checkouts.
pub(crate) fn cargo_home() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| env::home_dir().map(|home| home.join(".cargo")))
}

/// What the user configured.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Configured {
    /// `RUSTC_WRAPPER` or `build.rustc-wrapper`.
    pub(crate) wrapper: Option<OsString>,
    /// `RUSTC_WORKSPACE_WRAPPER` or `build.rustc-workspace-wrapper`.
    pub(crate) workspace_wrapper: Option<OsString>,
    /// `build.target`, if it is one name.
    pub(crate) target: Option<String>,
    /// Whether some target has a runner.
    pub(crate) runner: bool,
}

/// Reads environment, arguments and files as cargo would for a run in `cwd`.
pub(crate) fn read(cwd: &Path, args: &[OsString]) -> Configured {
    let mut found = Configured {
        wrapper: env::var_os("RUSTC_WRAPPER"),
        workspace_wrapper: env::var_os("RUSTC_WORKSPACE_WRAPPER"),
        ..Configured::default()
    };
    for (table, file) in on_command_line(cwd, args) {
        found.add(&table, &file);
    }
    found.wrapper = found.wrapper.or_else(|| env::var_os("CARGO_BUILD_RUSTC_WRAPPER"));
    found.workspace_wrapper = found.workspace_wrapper.or_else(|| env::var_os("CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER"));
    found.runner = env::vars_os()
        .any(|(key, _)| key.to_str().is_some_and(|key| key.starts_with("CARGO_TARGET_") && key.ends_with("_RUNNER")));
    for file in files(cwd) {
        let table = fs::read_to_string(&file).ok().and_then(|text| text.parse::<Table>().ok());
        let Some(table) = table else { continue };
        found.add(&table, &file);
    }
    // An empty name is how a stronger place takes back what a weaker one says.
    for wrapper in [&mut found.wrapper, &mut found.workspace_wrapper] {
        *wrapper = wrapper.take().filter(|name| !name.is_empty());
    }
    found
}

/// What `--config` says, the strongest first, and the file that paths in it are relative to.
fn on_command_line(cwd: &Path, args: &[OsString]) -> Vec<(Table, PathBuf)> {
    let mut found = Vec::new();
    let mut rest = args.iter().map(|arg| arg.to_string_lossy());
    while let Some(arg) = rest.next() {
        let value = match arg.strip_prefix("--config") {
            Some("") => rest.next(),
            Some(value) => value.strip_prefix('=').map(|value| value.to_owned().into()),
            None => None,
        };
        let Some(value) = value else { continue };
        let file = cwd.join(&*value);
        let text = fs::read_to_string(&file).ok();
        let place = if text.is_some() { file } else { cwd.join(".cargo/config.toml") };
        let table = text.as_deref().unwrap_or(&value).parse::<Table>().ok();
        found.extend(table.map(|table| (table, place)));
    }
    found.reverse();
    found
}

impl Configured {
    fn add(&mut self, table: &Table, file: &Path) {
        let build = |key: &str| table.get("build").and_then(|build| build.get(key)).and_then(Value::as_str);
        if let (None, Some(wrapper)) = (&self.wrapper, build("rustc-wrapper")) {
            self.wrapper = Some(program(wrapper, file));
        }
        if let (None, Some(wrapper)) = (&self.workspace_wrapper, build("rustc-workspace-wrapper")) {
            self.workspace_wrapper = Some(program(wrapper, file));
        }
        if let (None, Some(target)) = (&self.target, build("target")) {
            self.target = Some(target.to_owned());
        }
        let targets = table.get("target").and_then(Value::as_table);
        self.runner |= targets.is_some_and(|targets| targets.values().any(|target| target.get("runner").is_some()));
    }
}

/// A program in a configuration file: with a slash it is relative to the folder that holds `.cargo`.
fn program(name: &str, file: &Path) -> OsString {
    match file.parent().and_then(Path::parent) {
        Some(folder) if name.contains('/') => folder.join(name).into(),
        _ => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapper_target_and_runner_are_found() {
        let text = "[build]\nrustc-workspace-wrapper = \"tools/w\"\nrustc-wrapper = \"sccache\"\ntarget = \"x\"\n[target.'cfg(unix)']\nrunner = [\"r\"]\n";
        let mut found = Configured::default();
        found.add(&text.parse().expect("parses"), Path::new("/p/.cargo/config.toml"));
        let weaker = "[build]\nrustc-workspace-wrapper = \"other\"\n";
        found.add(&weaker.parse().expect("parses"), Path::new("/.cargo/config.toml"));
        assert_eq!(found.workspace_wrapper, Some("/p/tools/w".into()));
        assert_eq!(found.wrapper, Some("sccache".into()));
        assert_eq!((found.target.as_deref(), found.runner), (Some("x"), true));
        assert_eq!(program("sccache", Path::new("/p/.cargo/config.toml")), "sccache");
    }

    #[test]
    fn wrappers_on_the_command_line_are_chained_and_the_last_one_counts() {
        let args =
            ["--bin", "app", "--config", "build.rustc-wrapper='first'", "--config=build.rustc-wrapper='tools/w'"];
        let mut found = Configured::default();
        for (table, file) in on_command_line(Path::new("/nowhere/p"), &args.map(OsString::from)) {
            found.add(&table, &file);
        }
        assert_eq!(found.wrapper, Some("/nowhere/p/tools/w".into()));
    }
}
