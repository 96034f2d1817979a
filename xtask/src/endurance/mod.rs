//! Ten thousand switches of one program, sixteen threads of which do nothing but call the two functions that are switched.
//!
//! First so many edits as the session remembers, each compiled; then they are taken back and made again, over and over: every
//! step of that is compared, judged, linked, loaded and switched like an edit. In between the program is looked at: that it
//! runs what it should, that nothing it computed was wrong, and that mappings, descriptors and memory stay as they should.
//!
//! `RELIVE` names the executable; without it the release build is taken. It writes below `target/xtask/endurance` only.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::events::Events;
use crate::files::{context, save};
use crate::patch::Patch;
use crate::usage::{self, Usage, ended};

const MANIFEST: &str =
    "[package]\nname = \"endurance-program\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n";
const MAIN: &str = include_str!("program/main.rs");
/// Functions that one edit changes.
const FUNCTIONS: u64 = 2;
/// Edits that are compiled.
const EDITS: u32 = 50;
/// Switches from one line of the table to the next.
const LINE_EVERY: u64 = 1000;
/// Longest wait for a build and a start.
const START: Duration = Duration::from_secs(120);
/// Longest wait for the answer to an edit, and for the program to show it.
const SOON: Duration = Duration::from_secs(30);
/// What a switch may take of the program's memory besides what its image has.
const BESIDE_IMAGE: u64 = 4096;
/// Mappings that an arena has; there is one for some hundred switches.
const MAPS_PER_ARENA: u64 = 4;
const SWITCHES_PER_ARENA: u64 = 400;
/// Mappings and descriptors that may come and go for other reasons, such as the heaps of threads.
const SPARE: u64 = 4;

struct Session {
    folder: PathBuf,
    relive: Child,
    program: Pid,
    lines: Receiver<String>,
    events: Events,
}

/// A line of the program.
#[derive(Clone, Copy, Debug)]
struct Beat {
    left: u32,
    right: u32,
    calls: u64,
    wrong: u64,
}

/// How things stand after some switches.
#[derive(Clone, Copy)]
struct Mark {
    switches: u64,
    program: Usage,
    relive: Usage,
    loaded: u64,
    disk: u64,
}

/// Switches as often as is asked for; `Err` if anything was bad.
pub(crate) fn run(root: &Path, args: &[String]) -> Result<(), String> {
    let wanted = switches(args)?;
    let relive = crate::files::relive(root)?;
    let mut session = Session::start(crate::steps::target_dir(root).join("xtask/endurance"), &relive)?;
    for edit in 1..=EDITS {
        session.edit(edit)?;
    }
    println!(
        "{:>8} {:>6} {:>6} {:>12} {:>12} {:>10} {:>12} {:>9}",
        "switches", "maps", "files", "own kB", "images kB", "disk kB", "relive kB", "ms each"
    );
    let mut done = u64::from(EDITS);
    let first = session.mark(done)?;
    first.print(0.0);
    let (mut last, mut clock, mut back) = (first, Instant::now(), true);
    while done < wanted {
        session.turn(if back { "undo" } else { "redo" })?;
        done += u64::from(EDITS);
        session.shows(if back { 0 } else { EDITS })?;
        back = !back;
        if done.is_multiple_of(LINE_EVERY) || done >= wanted {
            let each = clock.elapsed().as_secs_f64() * 1000.0 / (done - last.switches) as f64;
            last = session.mark(done)?;
            last.print(each);
            clock = Instant::now();
        }
    }
    let beat = session.end()?;
    println!("{} functions switched in {done} switches; {} calls, {} wrong", done * FUNCTIONS, beat.calls, beat.wrong);
    judge(&first, &last)
}

fn switches(args: &[String]) -> Result<u64, String> {
    match args {
        [] => Ok(10_000),
        [flag, count] if flag == "--switches" => count.parse().map_err(|_| format!("`{count}` is no number")),
        _ => Err("endurance takes `--switches N`".into()),
    }
}

/// Whether things stayed as they should from `first` to `last`.
fn judge(first: &Mark, last: &Mark) -> Result<(), String> {
    let switches = last.switches - first.switches;
    let mut bad = Vec::new();
    let mut most = |what: &str, before: u64, after: u64, more: u64| {
        println!("{what}: {before} -> {after}, at most {} more", more);
        if after > before + more {
            bad.push(format!("{what} grew from {before} to {after}"));
        }
    };
    let arenas = switches.div_ceil(SWITCHES_PER_ARENA);
    most("mappings", first.program.maps, last.program.maps, arenas * MAPS_PER_ARENA + SPARE);
    most("descriptors", first.program.files, last.program.files, SPARE);
    most("threads", first.program.threads, last.program.threads, 0);
    most("relive's descriptors", first.relive.files, last.relive.files, SPARE);
    let images = last.loaded - first.loaded;
    most("memory of the program", first.program.private, last.program.private, images + switches * BESIDE_IMAGE);
    if bad.is_empty() { Ok(()) } else { Err(bad.join("\n")) }
}

impl Mark {
    fn print(&self, each: f64) {
        let [own, images, disk, relive] =
            [self.program.private, self.loaded, self.disk, self.relive.private].map(|bytes| bytes / 1024);
        let (maps, files) = (self.program.maps, self.program.files);
        println!(
            "{:>8} {maps:>6} {files:>6} {own:>12} {images:>12} {disk:>10} {relive:>12} {each:>9.1}",
            self.switches
        );
    }
}

impl Session {
    /// Writes the sources below `folder`, starts relive, and waits until the program beats.
    fn start(folder: PathBuf, relive: &Path) -> Result<Session, String> {
        save(&folder.join("Cargo.toml"), MANIFEST)?;
        save(&folder.join("src/main.rs"), MAIN)?;
        for (name, more) in [("left", 0), ("right", 1)] {
            save(&folder.join(format!("src/{name}.rs")), &module(more))?;
        }
        save(&folder.join("src/generation.rs"), &generation(0))?;
        let (err, events) = (folder.join("relive.err"), folder.join("events"));
        let mut reader = Events::at(events.clone());
        let mut command = command(relive, &folder);
        command.arg("run").arg("--manifest-path").arg(folder.join("Cargo.toml")).arg("--events").arg(&events);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(File::create(&err).map_err(context("create", &err))?);
        let mut relive = command.spawn().map_err(context("start", relive))?;
        let lines = lines_of(&mut relive);
        let program = match reader.started(START, || ended(&mut relive)) {
            Ok(program) => program,
            Err(why) => {
                let _ = relive.kill();
                return Err(format!("{why}\n{}", fs::read_to_string(&err).unwrap_or_default()));
            }
        };
        let session = Session { folder, relive, program, lines, events: reader };
        session.shows(0)?;
        Ok(session)
    }

    /// Saves an edit that changes both functions, and waits until it runs.
    fn edit(&mut self, number: u32) -> Result<(), String> {
        save(&self.folder.join("src/generation.rs"), &generation(number))?;
        let patch = self.events.wait(SOON, || ended(&mut self.relive), Patch::parse)??;
        if patch.outcome != "applied" {
            return Err(format!("not applied: {}", patch.line));
        }
        self.shows(number)
    }

    /// Takes all edits back, or makes them again.
    fn turn(&self, what: &str) -> Result<(), String> {
        let mut command = command(&self.relive_exe()?, &self.folder);
        command.arg(what).arg(EDITS.to_string()).arg("--manifest-path").arg(self.folder.join("Cargo.toml"));
        let output = command.output().map_err(|why| format!("cannot start `{what}`: {why}"))?;
        let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(()) } else { Err(format!("`{what}` failed: {said}{complained}")) }
    }

    fn relive_exe(&self) -> Result<PathBuf, String> {
        let link = PathBuf::from(format!("/proc/{}/exe", self.relive.id()));
        fs::read_link(&link).map_err(context("read", &link))
    }

    /// Waits until the program runs edit `number` in all it does; nothing of what it did before may have been wrong.
    fn shows(&self, number: u32) -> Result<(), String> {
        let until = Instant::now() + SOON;
        loop {
            let beat = self.beat(until)?;
            if beat.wrong > 0 {
                return Err(format!("the program computed nonsense: {beat:?}"));
            }
            if (beat.left, beat.right) == (number, number) {
                return Ok(());
            }
        }
    }

    fn beat(&self, until: Instant) -> Result<Beat, String> {
        let left = until.saturating_duration_since(Instant::now());
        let line = self.lines.recv_timeout(left).map_err(|why| format!("the program beats no more ({why})"))?;
        Beat::parse(&line).ok_or_else(|| format!("the program says: {line}"))
    }

    fn mark(&self, switches: u64) -> Result<Mark, String> {
        let (loaded, disk) = usage::images(&self.folder.join("target/relive/session"))?;
        let relive = Usage::of(Pid::from_raw(self.relive.id().cast_signed()))?;
        Ok(Mark { switches, program: Usage::of(self.program)?, relive, loaded, disk })
    }

    /// Closes the program's stdin and waits for its good end; gives the last thing it said.
    fn end(mut self) -> Result<Beat, String> {
        drop(self.relive.stdin.take());
        let mut last = None;
        while let Ok(line) = self.lines.recv_timeout(SOON) {
            last = Some(Beat::parse(&line).ok_or_else(|| format!("the program says: {line}"))?);
        }
        let status = self.relive.wait().map_err(|why| format!("cannot wait for relive: {why}"))?;
        if !status.success() {
            return Err(format!("it ended badly: {status}"));
        }
        last.ok_or_else(|| "the program never said anything".into())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.relive.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = nix::sys::signal::kill(self.program, nix::sys::signal::Signal::SIGKILL);
            let _ = self.relive.kill();
            let _ = self.relive.wait();
        }
    }
}

impl Beat {
    fn parse(line: &str) -> Option<Beat> {
        let mut words = line.strip_prefix("beat ")?.split(' ');
        let mut word = || words.next();
        let (left, right) = (word()?.parse().ok()?, word()?.parse().ok()?);
        Some(Beat { left, right, calls: word()?.parse().ok()?, wrong: word()?.parse().ok()? })
    }
}

fn command(relive: &Path, folder: &Path) -> Command {
    let mut command = Command::new(relive);
    command.env("CARGO_TARGET_DIR", folder.join("target")).current_dir(folder);
    crate::steps::without_cargos_variables(&mut command);
    command
}

fn lines_of(relive: &mut Child) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    let stdout = relive.stdout.take();
    thread::spawn(move || {
        let lines = stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines().map_while(Result::ok));
        lines.map(|line| sender.send(line)).take_while(Result::is_ok).for_each(drop);
    });
    lines
}

fn generation(number: u32) -> String {
    format!("pub const GENERATION: u32 = {number};\n")
}

fn module(more: u32) -> String {
    format!(
        "use crate::generation::GENERATION;\n\n#[inline(never)]\npub fn value(from: u64) -> (u32, u64) {{\n    \
         (GENERATION, crate::expected(GENERATION, from) + {more})\n}}\n"
    )
}
