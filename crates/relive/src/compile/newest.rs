//! What the newest replay of a crate made, kept for cargo: takes a replay that succeeded, leaves its libraries, messages and
//! dep-info below `target/relive/units/KEY/newest/`, and gives them back when cargo asks for the same compilation of the
//! same files. A start after an edit then has nothing to compile: what is left is to link.
//!
//! It says yes only to the very same command on the very same inputs; in doubt rustc is asked. What it gives to cargo is
//! what rustc would have made once more.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::arguments::{Arguments, Role};
use super::baseline::Unit;
use super::objects;
use super::record::{self, Identity, Raw, lasting_env};
use super::{dep_info, mirror};
use crate::Error;

/// Version of the format; what another version left counts as nothing.
const VERSION: u32 = 1;

/// What a successful replay left behind that its objects do not tell.
#[derive(Clone, Debug)]
pub(crate) struct Fresh {
    /// The folder of its objects.
    pub(crate) objects: PathBuf,
    /// What rustc said, as it said it.
    pub(crate) said: Vec<u8>,
    pub(crate) started: SystemTime,
}

/// One compilation and all that decided about its result.
#[derive(Serialize, Deserialize)]
struct Made {
    version: u32,
    program: Vec<Raw>,
    args: Vec<Raw>,
    cwd: Raw,
    env: Vec<(Raw, Raw)>,
    inputs: Vec<(Raw, Identity)>,
    /// The libraries that it used, in the order of the command line.
    libraries: Vec<Identity>,
    objects: (String, usize),
    started_ns: u128,
}

/// What cargo asks for.
pub(crate) struct Question<'a> {
    pub(crate) program: &'a [OsString],
    pub(crate) args: &'a [OsString],
    pub(crate) parsed: &'a Arguments,
    pub(crate) cwd: &'a Path,
    /// The folder in which the outputs are expected.
    pub(crate) out: &'a Path,
    /// The unit's folder.
    pub(crate) unit: &'a Path,
}

/// A compilation that need not be done.
pub(crate) struct Answer {
    pub(crate) objects: (String, usize),
    pub(crate) started_ns: u128,
    pub(crate) said: Vec<u8>,
}

/// Keeps what `fresh`, the newest replay of `unit`, made. Nothing is kept when an input was saved meanwhile.
pub(crate) fn keep(unit: &Unit, fresh: Fresh) -> Result<(), Error> {
    let known = &unit.known;
    let folder = known.folder.join("newest");
    forget(&folder)?;
    let out = Path::new(&known.record.out_dir.0);
    let cwd = Path::new(&known.record.cwd.0);
    let before = |identity: &Identity| identity.modified() < fresh.started;
    let inputs: Option<Vec<(Raw, Identity)>> = unit
        .inputs
        .iter()
        .map(|path| Some((Raw::from(path.clone()), Identity::of(path).ok().filter(before)?)))
        .collect();
    let Some(inputs) = inputs else { return Ok(()) };
    fs::create_dir_all(&folder).map_err(|why| Error::file(&folder, "create", why))?;
    for file in outputs(&known.parsed) {
        record::link_or_copy(&out.join(&file), &folder.join(&file))?;
    }
    let said = folder.join("said");
    fs::write(&said, &fresh.said).map_err(|why| Error::file(&said, "write", why))?;
    let name = fresh.objects.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let made = Made {
        version: VERSION,
        program: known.record.program.clone(),
        args: known.record.args.clone(),
        cwd: known.record.cwd.clone(),
        env: deciding(&known.record.env, &dep_info_text(&folder, &known.parsed)?),
        inputs,
        libraries: libraries(&known.parsed, |path| mirror::ours(out, path).unwrap_or_else(|| cwd.join(path)))?,
        objects: (name, objects::list(&fresh.objects)?.len()),
        started_ns: fresh.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos(),
    };
    record::write_json(&folder.join("made.json"), &made)
}

/// Puts what `question` asks for in its place, if the newest replay made just that.
pub(crate) fn answer(question: &Question<'_>) -> Option<Answer> {
    let folder = question.unit.join("newest");
    let made: Made = record::read_json(&folder.join("made.json")).ok()?;
    made.answers(question, &folder)?;
    let said = fs::read(folder.join("said")).ok()?;
    for file in outputs(question.parsed) {
        record::link_or_copy(&folder.join(&file), &question.out.join(&file)).ok()?;
    }
    if question.parsed.role() == Role::Bin {
        link(question, &question.unit.join(&made.objects.0))?;
    }
    Some(Answer { objects: made.objects, started_ns: made.started_ns, said })
}

/// The folder of the objects that belong to what is kept in `unit`.
pub(crate) fn objects_of(unit: &Path) -> Option<PathBuf> {
    let made: Made = record::read_json(&unit.join("newest").join("made.json")).ok()?;
    Some(unit.join(made.objects.0))
}

impl Made {
    fn answers(&self, question: &Question<'_>, folder: &Path) -> Option<()> {
        let same = |ours: &[Raw], theirs: &[OsString]| ours.iter().map(|raw| &raw.0).eq(theirs);
        let found = |path: &Path| {
            let path = question.cwd.join(path);
            mirror::linked(question.out, &path).unwrap_or(path)
        };
        let unchanged = |(path, identity): &(Raw, Identity)| Identity::of(Path::new(&path.0)).ok() == Some(*identity);
        // rustc itself packs debug information after it has linked.
        let packs = |arg: &OsString| arg.as_bytes().ends_with(b"split-debuginfo=packed");
        let list = objects::list(&question.unit.join(&self.objects.0)).ok()?;
        let holds = self.version == VERSION
            && same(&self.program, question.program)
            && same(&self.args, question.args)
            && Path::new(&self.cwd.0) == question.cwd
            && self.env == deciding(&lasting_env(), &dep_info_text(folder, question.parsed).ok()?)
            && self.libraries == libraries(question.parsed, found).ok()?
            && self.inputs.iter().all(unchanged)
            && list.len() == self.objects.1
            && !question.args.iter().any(packs);
        holds.then_some(())
    }
}

/// What rustc makes beside objects and executables, by name.
fn outputs(parsed: &Arguments) -> Vec<String> {
    let stem = parsed.stem();
    let mut files = vec![format!("{stem}.d")];
    if parsed.role() == Role::Lib {
        files.extend(["rlib", "rmeta"].map(|end| format!("lib{stem}.{end}")));
    }
    files
}

fn dep_info_text(folder: &Path, parsed: &Arguments) -> Result<String, Error> {
    let path = folder.join(format!("{}.d", parsed.stem()));
    fs::read_to_string(&path).map_err(|why| Error::file(&path, "read", why))
}

/// The part of an environment that decides what rustc makes: cargo's and rustc's own keys, and those the sources ask for.
fn deciding(env: &[(Raw, Raw)], dep_info: &str) -> Vec<(Raw, Raw)> {
    const NEVER: [&str; 4] = ["RUST_BACKTRACE", "RUST_LOG", "RUST_RECURSION_COUNT", "RUSTUP_TOOLCHAIN"];
    let asked = dep_info::variables(dep_info);
    let decides = |key: &OsStr| {
        let prefixed = ["CARGO", "RUST"].iter().any(|prefix| key.as_bytes().starts_with(prefix.as_bytes()));
        let text = key.to_string_lossy();
        (prefixed && !NEVER.contains(&&*text)) || asked.iter().any(|name| **name == *text)
    };
    let mut found: Vec<_> = env.iter().filter(|(key, _)| decides(&key.0)).cloned().collect();
    found.sort_by(|left, right| left.0.0.cmp(&right.0.0));
    found
}

fn libraries(parsed: &Arguments, place: impl Fn(&Path) -> PathBuf) -> Result<Vec<Identity>, Error> {
    parsed.externs.iter().map(|(_, path)| Identity::of(&place(path))).collect()
}

/// Links the kept objects as rustc had them linked in the replay, which linked nothing.
fn link(question: &Question<'_>, objects: &Path) -> Option<()> {
    let line = objects::link_line(objects).ok()?;
    let kept = |arg: &OsStr| Some(objects.join(Path::new(arg).file_name()?)).filter(|path| path.is_file());
    let args: Vec<OsString> =
        line.args.iter().map(|arg| kept(&arg.0).map_or_else(|| arg.0.clone(), OsString::from)).collect();
    // What else was in rustc's temporary folder is gone.
    let is_temporary = |arg: &OsStr| {
        let names_one = |part: &Path| part.file_name().is_some_and(|name| name.as_bytes().starts_with(b"rustc"));
        Path::new(arg).strip_prefix(question.out).is_ok_and(|rest| rest.ancestors().any(names_one))
            && !arg.as_bytes().ends_with(b"/raw-dylibs")
    };
    let complete = |arg: &OsString| {
        let path = Path::new(arg);
        let is_file = path.is_absolute() && path.extension().is_some_and(|end| end == "o" || end == "rlib");
        !is_temporary(arg) && (!is_file || path.is_file())
    };
    if !args.iter().all(complete) {
        return None;
    }
    let mut linker = Command::new(question.parsed.linker_or_default());
    linker.args(&args).current_dir(Path::new(&line.cwd.0)).stdin(Stdio::null());
    if let Some(path) = &line.path {
        linker.env("PATH", &path.0);
    }
    for key in super::roles::KEYS {
        linker.env_remove(key);
    }
    // rustc says better what is wrong with a link that fails.
    let done = linker.stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?;
    done.success().then_some(())
}

fn forget(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Ok(()) => Ok(()),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(why) => Err(Error::file(folder, "empty", why)),
    }
}

impl Identity {
    fn modified(&self) -> SystemTime {
        let seconds = Duration::from_secs(u64::try_from(self.mtime_s).unwrap_or(0));
        let nanoseconds = Duration::from_nanos(u64::try_from(self.mtime_ns).unwrap_or(0));
        UNIX_EPOCH + seconds + nanoseconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decides_is_what_cargo_says_and_what_the_sources_ask_for() {
        let env = ["TERM", "ASKED", "CARGO_PKG_NAME", "RUSTFLAGS", "RUST_BACKTRACE", "HOME"];
        let env: Vec<_> = env.map(|key| (Raw(key.into()), Raw("1".into()))).into();
        let found = deciding(&env, "/t/app.d: src/main.rs\n\n# env-dep:ASKED=1\n# env-dep:GONE\n");
        let keys: Vec<_> = found.iter().map(|(key, _)| key.0.to_string_lossy().into_owned()).collect();
        assert_eq!(keys, ["ASKED", "CARGO_PKG_NAME", "RUSTFLAGS"]);
    }
}
