//! Builds the tests with the mutants in them and runs them with one chosen, as many at a time as there are processors.

use std::io::Read;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;

use super::find::Mutant;
use crate::steps::without_cargos_variables;

/// The tests of the judge: the targets and which of their tests, the quick ones first. The first is the library itself.
const TESTS: [(&str, &str); 4] = [("relive", "judge::"), ("judge", ""), ("types_pages", ""), ("types", "")];

/// What a run may cost; a mutant may leave a loop without an end. Kibibytes and seconds.
const LIMITS: &str = "ulimit -v 8388608; exec timeout --kill-after=1 60 \"$@\"";

/// What `timeout` says when the time is up.
const TIME_IS_UP: i32 = 124;

/// What became of a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A test failed.
    Killed,
    /// A test did not come to its end.
    Endless,
    /// Every test passed.
    Survived,
}

/// The executables of [`TESTS`], with all mutants in them.
pub(super) struct Built {
    tests: Vec<(PathBuf, &'static str)>,
    /// Where tests are run, as cargo would.
    folder: PathBuf,
}

/// A place that the compiler complains about.
pub(super) struct Complaint {
    pub(super) message: String,
    pub(super) file: String,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Builds the tests in `tree`; the inner error is what the compiler says.
pub(super) fn build(tree: &Path, target: &Path) -> Result<Result<Built, Vec<Complaint>>, String> {
    let mut command = Command::new("cargo");
    command.args(["test", "--locked", "--package", "relive", "--lib"]);
    for (target, _) in TESTS.iter().skip(1) {
        command.args(["--test", target]);
    }
    command.args(["--no-run", "--message-format=json"]).current_dir(tree).env("CARGO_TARGET_DIR", target);
    without_cargos_variables(&mut command);
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output();
    let output = output.map_err(|why| format!("cannot start cargo: {why}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let messages: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if !output.status.success() {
        return Ok(Err(messages.iter().filter_map(complaint).collect()));
    }
    let executable = |(name, filter): &(&'static str, &'static str)| {
        let made = |message: &&Value| message["target"]["name"] == *name && message["profile"]["test"] == true;
        let path = messages.iter().filter(made).find_map(|message| message["executable"].as_str());
        path.map(|path| (PathBuf::from(path), *filter)).ok_or_else(|| format!("cargo did not build the tests `{name}`"))
    };
    let tests = TESTS.iter().map(executable).collect::<Result<_, _>>()?;
    Ok(Ok(Built { tests, folder: tree.join("crates/relive") }))
}

fn complaint(message: &Value) -> Option<Complaint> {
    let message = message.get("message").filter(|inner| inner["level"] == "error")?;
    let spans = message["spans"].as_array()?;
    let span = spans.iter().find(|span| span["is_primary"] == true)?;
    let number = |key: &str| span[key].as_u64().and_then(|number| usize::try_from(number).ok());
    Some(Complaint {
        message: message["rendered"].as_str().unwrap_or_default().to_owned(),
        file: span["file_name"].as_str()?.to_owned(),
        start: number("byte_start")?,
        end: number("byte_end")?,
    })
}

impl Built {
    /// Runs the tests on the judge as it is, which has to pass them. The objects that they compile are kept for the others.
    pub(super) fn unharmed(&self) -> Result<(), String> {
        match self.outcome(0)? {
            Outcome::Survived => Ok(()),
            Outcome::Killed | Outcome::Endless => Err("the tests fail without any mutant".to_owned()),
        }
    }

    /// What becomes of each.
    pub(super) fn try_all(&self, mutants: &[&Mutant]) -> Vec<Outcome> {
        let next = AtomicUsize::new(0);
        let outcomes: Vec<Mutex<Outcome>> = mutants.iter().map(|_| Mutex::new(Outcome::Survived)).collect();
        let work = || {
            while let Some((mutant, place)) = {
                let at = next.fetch_add(1, Ordering::Relaxed);
                mutants.get(at).zip(outcomes.get(at))
            } {
                let outcome = self.outcome(mutant.number).unwrap_or(Outcome::Survived);
                *place.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = outcome;
            }
        };
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
                scope.spawn(work);
            }
        });
        outcomes.into_iter().map(|outcome| outcome.into_inner().unwrap_or(Outcome::Survived)).collect()
    }

    fn outcome(&self, number: usize) -> Result<Outcome, String> {
        for (executable, filter) in &self.tests {
            let mut command = Command::new("sh");
            command
                .args(["-c", LIMITS, "sh"])
                .arg(executable)
                .arg("--quiet")
                .args((!filter.is_empty()).then_some(filter));
            command.env("RELIVE_MUTANT", number.to_string()).current_dir(&self.folder);
            without_cargos_variables(&mut command);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut child = command.spawn().map_err(|why| format!("cannot start `{}`: {why}", executable.display()))?;
            let mut text = String::new();
            if let Some(mut out) = child.stdout.take() {
                let _ = out.read_to_string(&mut text);
            }
            let status = child.wait().map_err(|why| format!("cannot wait for `{}`: {why}", executable.display()))?;
            match status.code() {
                Some(0) if text.contains("running 0 tests") => return Err("no test of the judge was run".to_owned()),
                Some(0) => {}
                Some(TIME_IS_UP) => return Ok(Outcome::Endless),
                Some(_) | None => return Ok(Outcome::Killed),
            }
        }
        Ok(Outcome::Survived)
    }
}
