//! miniserve under relive: a program from outside, edited while requests go on.
//!
//! In this order: the first build against cargo's; three edits under traffic, where each answer has to be the old page or
//! the new one, byte for byte; thirty edits of a constant, for what everything but rustc takes; restarts and plain builds
//! between them, which may compile nothing twice. With `--endurance N` that many edits more while requests go on.
//!
//! `RELIVE` names the executable; without it the release build is taken. Cargo obtains the program. It writes below
//! `target/xtask/miniserve` only.

mod builds;
mod http;
mod session;
mod source;
mod traffic;

use std::fs;
use std::path::Path;

use session::Session;
use source::{Edit, Source};
use traffic::{Counts, Traffic};

/// The hint in the search field as published, and after the edit under traffic.
const PUBLISHED: &str = "Search...";
const EDITED: &str = "Look for...";
/// Edits of a constant.
const CONSTANT_EDITS: usize = 30;
/// Median of everything but rustc that `--strict` allows, in milliseconds.
const STRICT_MS: f64 = 25.0;

struct Options {
    strict: bool,
    first_build: bool,
    /// Edits while requests go on, besides the three.
    endurance: usize,
}

/// Runs all parts; `Err` if anything was bad.
pub(crate) fn run(root: &Path, args: &[String]) -> Result<(), String> {
    let options = Options::parse(args)?;
    let relive = crate::files::relive(root)?;
    let source = Source::obtain(crate::steps::target_dir(root).join("xtask/miniserve"))?;
    heading("first build");
    let mut session = if options.first_build {
        builds::first(&source, &relive)?
    } else {
        let session = Session::start(&source, &relive)?;
        println!("not measured; started after {:.1} s", session.start_seconds);
        session
    };
    heading("edits while requests go on");
    let mut bad = Vec::new();
    bad.extend(under_traffic(&mut session).err());
    heading(&format!("{CONSTANT_EDITS} edits of a constant"));
    bad.extend(constants(&mut session, options.strict).err());
    if options.endurance > 0 {
        heading(&format!("{} edits while requests go on", options.endurance));
        bad.extend(endurance(&mut session, options.endurance).err());
    }
    session.quit()?;
    heading("restarts");
    bad.extend(builds::restarts(&source, &relive, hint(CONSTANT_EDITS + options.endurance)).err());
    if bad.is_empty() { Ok(()) } else { Err(bad.join("\n")) }
}

/// Three edits while requests go on, and a table of what was answered.
fn under_traffic(session: &mut Session) -> Result<(), String> {
    let mut page = session.page()?;
    let traffic = Traffic::start(session.port, &page);
    let mut bad = Vec::new();
    println!(
        "{:16} {:10} {:>9} {:>9} {:>7} {:>7} {:>5} {:>10} {:>12}",
        "edit", "outcome", "rustc ms", "rest ms", "old", "new", "bad", "slowest ms", "overslept ms"
    );
    for edit in [Edit::hint("text of the page", PUBLISHED, EDITED), Edit::generic(), Edit::top_line()] {
        let after = edit.page_after(&page)?;
        traffic.expect(&page, &after)?;
        let patch = session.edit(&edit)?;
        let counts = traffic.switched()?;
        println!(
            "{:16} {:10} {:>9.0} {:>9.1} {:>7} {:>7} {:>5} {:>10.1} {:>12.1}",
            edit.name,
            patch.outcome,
            patch.rustc,
            patch.rest,
            counts.old,
            counts.new,
            counts.bad,
            counts.slowest.as_secs_f64() * 1e3,
            counts.overslept.as_secs_f64() * 1e3
        );
        bad.extend(counts.first_bad.map(|why| format!("`{}`, {} bad answers: {why}", edit.name, counts.bad)));
        page = after;
    }
    if bad.is_empty() { Ok(()) } else { Err(bad.join("\n")) }
}

/// Many small edits, one after the other, and a table of what the steps took.
fn constants(session: &mut Session, strict: bool) -> Result<(), String> {
    let mut patches = Vec::new();
    let (mut page, mut old) = (session.page()?, EDITED.to_owned());
    for nth in 1..=CONSTANT_EDITS {
        let edit = Edit::hint("constant", &old, &hint(nth));
        page = edit.page_after(&page)?;
        patches.push(session.edit(&edit)?);
        if session.page()? != page {
            return Err(format!("edit {nth} is answered, and not on the page"));
        }
        old = hint(nth);
    }
    let (median, table) = crate::patch::summary(&patches);
    print!("{table}");
    if strict && median > STRICT_MS {
        return Err(format!("everything but rustc takes {median:.1} ms, more than {STRICT_MS} ms"));
    }
    Ok(())
}

/// Edits of a constant while requests go on, each with its own right answers, and what came of all.
fn endurance(session: &mut Session, edits: usize) -> Result<(), String> {
    let (mut page, mut old) = (session.page()?, hint(CONSTANT_EDITS));
    let traffic = Traffic::start(session.port, &page);
    let (mut all, mut patches) = (Counts::default(), Vec::new());
    for nth in CONSTANT_EDITS + 1..=CONSTANT_EDITS + edits {
        let edit = Edit::hint("constant", &old, &hint(nth));
        let after = edit.page_after(&page)?;
        traffic.expect(&page, &after)?;
        patches.push(session.edit(&edit)?);
        all.add(traffic.switched()?);
        (page, old) = (after, hint(nth));
        if (nth - CONSTANT_EDITS).is_multiple_of(100) {
            println!("{} edits: {}", nth - CONSTANT_EDITS, session.usage()?);
        }
    }
    print!("{}", crate::patch::summary(&patches).1);
    println!(
        "{} answers, {} of them bad, the slowest after {:.1} ms (a connection overslept {:.1} ms at most)",
        all.old + all.new + all.bad,
        all.bad,
        all.slowest.as_secs_f64() * 1e3,
        all.overslept.as_secs_f64() * 1e3
    );
    all.first_bad.map_or(Ok(()), |why| Err(format!("{} bad answers: {why}", all.bad)))
}

fn hint(nth: usize) -> String {
    format!("Seek {nth}...")
}

/// Announces a part, with the load that its figures are to be read by.
fn heading(part: &str) {
    println!("\n=== {part} (load {})", load());
}

/// Processes that wanted to run in the last minute, on average.
fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or("unknown").to_owned()
}

impl Options {
    fn parse(args: &[String]) -> Result<Options, String> {
        let mut options = Options { strict: false, first_build: true, endurance: 0 };
        let mut words = args.iter();
        while let Some(flag) = words.next() {
            match flag.as_str() {
                "--strict" => options.strict = true,
                "--no-first-build" => options.first_build = false,
                "--endurance" => {
                    let edits = words.next().and_then(|count| count.parse().ok());
                    options.endurance = edits.ok_or("`--endurance` takes a number of edits")?;
                }
                _ => return Err(format!("`{flag}` is unknown: --strict, --no-first-build, --endurance N")),
            }
        }
        Ok(options)
    }
}
