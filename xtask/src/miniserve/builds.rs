//! Plain `cargo build` of the program, before, between and beside relive, and what each of them compiled.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::context;
use super::session::Session;
use super::source::{Edit, Source};

/// What one `cargo build` did.
pub(crate) struct Build {
    seconds: f64,
    /// `Compiling` lines.
    compiled: Vec<String>,
    /// Artifacts that were not there already.
    stale: usize,
}

/// What a step may compile.
#[derive(Clone, Copy)]
enum May {
    Anything,
    /// The edited program, and none of its dependencies.
    Program,
    Nothing,
}

/// One table of starts and plain builds.
struct Restarts<'a> {
    source: &'a Source,
    relive: &'a Path,
    /// The hint on the page, and how often it was edited here.
    hint: String,
    edits: usize,
    bad: Vec<String>,
}

/// Starts relive again and again, with plain builds between. What was built is not built again: after an edit, each side
/// compiles the program once, and what has no edit before it compiles nothing. `hint` is the text on the page now.
pub(crate) fn restarts(source: &Source, relive: &Path, hint: String) -> Result<(), String> {
    let mut table = Restarts { source, relive, hint, edits: 0, bad: Vec::new() };
    println!("{:30} {:>9} {:>9} {:>9}", "step", "compiled", "stale", "seconds");
    table.run("run, after edits and a quit", May::Program, false)?;
    table.build("cargo build", May::Anything)?;
    table.build("cargo build, again", May::Nothing)?;
    table.run("run, after that; edit, quit", May::Nothing, true)?;
    table.run("run; quit", May::Program, false)?;
    table.run("run, again; edit, quit", May::Nothing, true)?;
    table.build("cargo build", May::Program)?;
    table.build("cargo build, again", May::Nothing)?;
    if table.bad.is_empty() { Ok(()) } else { Err(table.bad.join("\n")) }
}

impl Restarts<'_> {
    /// Starts relive, edits if wanted, and ends it.
    fn run(&mut self, name: &str, may: May, edits: bool) -> Result<(), String> {
        let mut session = Session::start(self.source, self.relive)?;
        let (compiled, seconds) = (session.compiled(), session.start_seconds);
        println!("{name:30} {:>9} {:>9} {seconds:>9.1}", compiled.len(), "");
        self.judge(name, may, &compiled, 0);
        if edits {
            self.edits += 1;
            let new = format!("Once more, {}...", self.edits);
            let edit = Edit::hint("edit after a restart", &self.hint, &new);
            let wanted = edit.page_after(&session.page()?)?;
            session.edit(&edit)?;
            if session.page()? != wanted {
                self.bad.push(format!("`{name}`: the edit is answered, and not on the page"));
            }
            self.hint = new;
        }
        session.quit()
    }

    fn build(&mut self, name: &str, may: May) -> Result<(), String> {
        let build = build(self.source, &self.source.path("target"))?;
        println!("{name:30} {:>9} {:>9} {:>9.1}", build.compiled.len(), build.stale, build.seconds);
        self.judge(name, may, &build.compiled, build.stale);
        Ok(())
    }

    fn judge(&mut self, name: &str, may: May, compiled: &[String], stale: usize) {
        let right = match may {
            May::Anything => true,
            May::Program => compiled.iter().all(|package| package == "miniserve"),
            May::Nothing => compiled.is_empty() && stale == 0,
        };
        if !right {
            self.bad.push(format!("`{name}` compiled {}, {stale} artifacts were stale", names(compiled)));
        }
    }
}

/// `cargo build` and relive's first build, each from an empty target directory. The session runs on.
pub(crate) fn first<'a>(source: &'a Source, relive: &Path) -> Result<Session<'a>, String> {
    let (beside, target) = (source.path("target-cargo"), source.path("target"));
    empty(&beside)?;
    let build = build(source, &beside)?;
    empty(&beside)?;
    println!("cargo build, from nothing: {:.1} s ({} packages)", build.seconds, build.compiled.len());
    empty(&target)?;
    let session = Session::start(source, relive)?;
    let (seconds, packages) = (session.start_seconds, session.compiled().len());
    println!("relive, from nothing:      {seconds:.1} s ({packages} packages)");
    println!("ratio:                     {:.3} (aim 1.05)", seconds / build.seconds);
    Ok(session)
}

/// The packages in cargo's `Compiling` lines.
pub(crate) fn compiled(stderr: &str) -> Vec<String> {
    let lines = stderr.lines().filter_map(|line| line.trim_start().strip_prefix("Compiling "));
    lines.map(|rest| rest.split(' ').next().unwrap_or(rest).to_owned()).collect()
}

fn build(source: &Source, target: &Path) -> Result<Build, String> {
    let mut command = Command::new("cargo");
    command.args(["build", "--offline", "--locked", "--message-format=json", "--manifest-path"]).arg(source.manifest());
    command.env("CARGO_TARGET_DIR", target).current_dir(source.path("package")).stdin(Stdio::null());
    crate::steps::without_cargos_variables(&mut command);
    let start = Instant::now();
    let output = command.output().map_err(|why| format!("cannot start cargo: {why}"))?;
    let seconds = start.elapsed().as_secs_f64();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        return Err(format!("`cargo build` failed: {stderr}"));
    }
    Ok(Build { seconds, compiled: compiled(&stderr), stale: stale(&stdout) })
}

fn stale(messages: &str) -> usize {
    let artifacts = messages.lines().filter(|line| line.starts_with("{\"reason\":\"compiler-artifact\""));
    artifacts.filter(|line| !line.trim_end().ends_with("\"fresh\":true}")).count()
}

fn names(packages: &[String]) -> String {
    let shown: Vec<&str> = packages.iter().take(5).map(String::as_str).collect();
    format!("{} packages ({}{})", packages.len(), shown.join(", "), if packages.len() > 5 { ", ..." } else { "" })
}

fn empty(folder: &Path) -> Result<(), String> {
    if folder.exists() { fs::remove_dir_all(folder).map_err(context("remove", folder)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_words_are_read() {
        let stderr = "   Compiling libc v0.2.1\n   Compiling miniserve v0.35.0 (folder)\n    Finished `dev`\n";
        assert_eq!(compiled(stderr), ["libc", "miniserve"]);
        let artifact = |fresh| format!("{{\"reason\":\"compiler-artifact\",\"executable\":null,\"fresh\":{fresh}}}\n");
        let stdout = artifact(true) + &artifact(false) + "{\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(stale(&stdout), 1);
    }
}
