//! Plain `cargo build` of the program, before, between and beside relive, and what each of them compiled.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::session::Session;
use super::source::{Edit, Source};
use crate::files::context;

/// What one `cargo build` did.
pub(crate) struct Build {
    seconds: f64,
    /// `Compiling` lines.
    compiled: Vec<String>,
    /// Artifacts that were not there already.
    stale: usize,
    /// Crates that rustc compiled.
    rustc: usize,
}

/// What a step may have rustc compile.
#[derive(Clone, Copy)]
enum May {
    Anything,
    /// The edited program, and none of its dependencies.
    Program,
    /// Nothing: what cargo misses was made while the program ran.
    Kept,
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

/// Starts relive again and again, with plain builds between. What was built is not built again: a start after an edit needs
/// no rustc, a plain build after one compiles the program alone, and what has no edit before it compiles nothing. `hint` is
/// the text on the page now.
pub(crate) fn restarts(source: &Source, relive: &Path, hint: String) -> Result<(), String> {
    let mut table = Restarts { source, relive, hint, edits: 0, bad: Vec::new() };
    println!("{:30} {:>9} {:>9} {:>9} {:>9}", "step", "compiled", "stale", "rustc", "seconds");
    table.run("run, after edits and a quit", May::Kept, false)?;
    table.build("cargo build", May::Anything)?;
    table.build("cargo build, again", May::Nothing)?;
    table.run("run, after that; edit, quit", May::Nothing, true)?;
    table.run("run; quit", May::Kept, false)?;
    table.run("run, again; edit, quit", May::Nothing, true)?;
    table.build("cargo build", May::Program)?;
    table.build("cargo build, again", May::Nothing)?;
    if table.bad.is_empty() { Ok(()) } else { Err(table.bad.join("\n")) }
}

impl Restarts<'_> {
    /// Starts relive, edits if wanted, and ends it.
    fn run(&mut self, name: &str, may: May, edits: bool) -> Result<(), String> {
        self.source.rustc_calls()?;
        let mut session = Session::start(self.source, self.relive)?;
        let (compiled, rustc, seconds) = (session.compiled(), self.source.rustc_calls()?, session.start_seconds);
        println!("{name:30} {:>9} {:>9} {rustc:>9} {seconds:>9.1}", compiled.len(), "");
        self.judge(name, may, &compiled, 0, rustc);
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
        let (compiled, rustc) = (build.compiled.len(), build.rustc);
        println!("{name:30} {compiled:>9} {:>9} {rustc:>9} {:>9.1}", build.stale, build.seconds);
        self.judge(name, may, &build.compiled, build.stale, rustc);
        Ok(())
    }

    fn judge(&mut self, name: &str, may: May, compiled: &[String], stale: usize, rustc: usize) {
        let right = match may {
            May::Anything => true,
            May::Program => compiled.iter().all(|package| package == "miniserve"),
            May::Kept => compiled.iter().all(|package| package == "miniserve") && rustc == 0,
            May::Nothing => compiled.is_empty() && stale == 0 && rustc == 0,
        };
        if !right {
            let compiled = names(compiled);
            self.bad.push(format!("`{name}` compiled {compiled}, {stale} artifacts were stale, {rustc} rustc calls"));
        }
    }
}

/// `cargo build` and relive's first build, each from an empty target directory. The session runs on. On a machine that
/// has other work too, the ratio of processor time says more than that of the clock.
pub(crate) fn first<'a>(source: &'a Source, relive: &Path) -> Result<Session<'a>, String> {
    let (beside, target) = (source.path("target-cargo"), source.path("target"));
    empty(&beside)?;
    let before = processor_seconds("self");
    let build = build(source, &beside)?;
    let cargo = (build.seconds, processor_seconds("self") - before);
    empty(&beside)?;
    let line = |name: &str, (clock, processor): (f64, f64), packages: usize| {
        println!("{name:12} {packages:>9} {clock:>9.1} {processor:>12.1} {:>9}", super::load());
    };
    println!("{:12} {:>9} {:>9} {:>12} {:>9}", "from nothing", "packages", "seconds", "processor s", "load");
    line("cargo build", cargo, build.compiled.len());
    empty(&target)?;
    let session = Session::start(source, relive)?;
    let first = (session.start_seconds, processor_seconds(&session.relive_id()));
    line("relive", first, session.compiled().len());
    println!("{:12} {:>9} {:>9.3} {:>12.3}   (aim 1.05)", "ratio", "", first.0 / cargo.0, first.1 / cargo.1);
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
    command.env("RUSTC_WRAPPER", source.counter());
    source.rustc_calls()?;
    crate::steps::without_cargos_variables(&mut command);
    let start = Instant::now();
    let output = command.output().map_err(|why| format!("cannot start cargo: {why}"))?;
    let seconds = start.elapsed().as_secs_f64();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        return Err(format!("`cargo build` failed: {stderr}"));
    }
    Ok(Build { seconds, compiled: compiled(&stderr), stale: stale(&stdout), rustc: source.rustc_calls()? })
}

fn stale(messages: &str) -> usize {
    let artifacts = messages.lines().filter(|line| line.starts_with("{\"reason\":\"compiler-artifact\""));
    artifacts.filter(|line| !line.trim_end().ends_with("\"fresh\":true}")).count()
}

/// Processor time of a process and of the children that it waited for.
fn processor_seconds(process: &str) -> f64 {
    fs::read_to_string(format!("/proc/{process}/stat")).ok().and_then(|stat| ticks(&stat)).map_or(f64::NAN, |ticks| {
        Duration::from_millis(ticks * 10).as_secs_f64() // Linux tells 100 ticks a second, whatever the kernel's own rate
    })
}

/// `utime`, `stime`, `cutime` and `cstime` of a line of /proc/PID/stat.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?; // the name in front may hold anything
    let times: Option<Vec<u64>> = fields.split(' ').skip(11).take(4).map(|field| field.parse().ok()).collect();
    times.filter(|times| times.len() == 4).map(|times| times.iter().sum())
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

    #[test]
    fn processor_time_is_read_behind_the_name() {
        let stat = "12 (a) b (c) S 1 12 12 0 -1 4194304 5 6 7 8 100 20 3000 400 20 0 1 0";
        assert_eq!(ticks(stat), Some(3520));
        assert_eq!(ticks("12 (a) S 1 x"), None);
        assert!(processor_seconds("self") >= 0.0);
    }
}
