//! One session of relive and the edits in it: each is saved, its verdict taken, and the answers after it compared.
//!
//! An edit that was applied stays. As long as edits change no answer, the patched program and its twin get the same lines
//! and have to give the same answers, on state that is as old as the session. After an edit that changes answers the twin
//! is built anew: the patched program makes its parts anew, its state is loaded into the twin, and from then on the answers
//! have to be the same again. What is refused or does not compile is taken back, and has to leave no trace.

use std::path::{Path, PathBuf};

use super::choice;
use super::inputs;
use super::mutate::{Edit, Effect, Soundness, SourceFile};
use super::report::{PUT_BACK, Report, Verdict};
use super::rng::Rng;
use super::session::Session;
use super::subject::{self, Subject};
use super::twin::Twin;

/// Rounds of inputs after each edit, and for a twin that was built.
const ROUNDS: usize = 10;
const TWIN_ROUNDS: usize = 20;
/// Rounds by which two builds are compared from their start.
const LONG_ROUNDS: usize = 60;

pub(crate) struct Batch<'a> {
    subject: &'a Subject,
    report: &'a mut Report,
    packages: Vec<Vec<SourceFile>>,
    session: Session<'a>,
    twin: Twin,
    edits: Rng,
    inputs: Rng,
    /// Number of the step, from 0.
    step: usize,
    /// Edits were applied since the twin was built.
    unconfirmed: bool,
    /// What the patched program was asked, and notes.
    pub(crate) history: Vec<String>,
    /// The edit of this step, and the texts of its files before.
    pub(crate) current: Option<(Edit, Vec<(String, String)>)>,
}

/// How a batch goes on after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Step,
    /// The edit ends the program in a fresh build too.
    Over,
}

impl<'a> Batch<'a> {
    /// Starts relive on the unedited program, and the twin `executable` beside it.
    pub(crate) fn start(
        subject: &'a Subject,
        report: &'a mut Report,
        executable: &Path,
        seed: u64,
        number: u64,
    ) -> Result<Batch<'a>, String> {
        let packages = subject.reset()?;
        let session = Session::start(subject)?;
        let twin = Twin::start(executable)?;
        let (edits, inputs) = (Rng::new(seed, number * 2), Rng::new(seed, number * 2 + 1));
        let (unconfirmed, history, current) = (false, Vec::new(), None);
        let mut batch =
            Batch { subject, report, packages, session, twin, edits, inputs, step: 0, unconfirmed, history, current };
        batch.in_step(ROUNDS)?; // values and parked futures have to be there before the first edit
        Ok(batch)
    }

    /// Makes one edit. `Err` is a fault.
    pub(crate) fn step(&mut self) -> Result<Next, String> {
        self.step += 1;
        self.current = None;
        let edit = choice::next(&self.packages, self.subject.pristine(), &mut self.edits, self.step)
            .ok_or("no edit was found")?;
        let before = subject::before(&self.packages, &edit);
        self.history.push(format!("# step {}: {}", self.step, edit.kind));
        self.current = Some((edit.clone(), before.clone()));
        let verdict = self.save(&edit.files)?;
        if verdict == Verdict::CompileError && Twin::build(self.subject, "compile-error").is_ok() {
            return Err("relive reports a compile error, and cargo builds it".to_owned());
        }
        self.report.add(edit.kind, edit.soundness, &verdict);
        match verdict {
            Verdict::CompileError | Verdict::Refused(_) => {
                self.take_back(&before)?;
                self.in_step(1)?;
                Ok(Next::Step)
            }
            Verdict::Applied if edit.soundness == Soundness::Unsound => {
                Err("applied, although values or tables of the old shape are alive".to_owned())
            }
            Verdict::Applied | Verdict::Unchanged => {
                subject::adopt(&mut self.packages, &edit);
                self.applied(&edit, &before)
            }
        }
    }

    /// Compares the whole of the edits with a fresh build, and ends the program.
    pub(crate) fn end(&mut self) -> Result<(), String> {
        if self.unconfirmed {
            self.compare_with_fresh()?;
        }
        self.session.end()
    }

    /// The texts of all files as they are now.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &SourceFile> {
        self.packages.iter().flatten()
    }

    fn save(&mut self, files: &[(String, String)]) -> Result<Verdict, String> {
        let patch = self.session.save(files)?;
        self.history.push(format!("# {} {}", patch.outcome, patch.rules.join(" ")));
        match patch.outcome.as_str() {
            "applied" => Ok(Verdict::Applied),
            "unchanged" => Ok(Verdict::Unchanged),
            "compile-error" => Ok(Verdict::CompileError),
            "refused" => Ok(Verdict::Refused(patch.rules)),
            _ => Err(format!("the answer is {}", patch.line)),
        }
    }

    fn applied(&mut self, edit: &Edit, before: &[(String, String)]) -> Result<Next, String> {
        self.unconfirmed = true;
        let lines = self.lines(ROUNDS);
        let answers = match self.ask(&lines) {
            Ok(answers) => answers,
            Err(why) => return self.excused(&lines, why),
        };
        if edit.effect == Effect::New {
            let old = self.twin.program.ask(&lines); // a twin of the code before; it is not needed any more
            self.report.shown(old.is_ok_and(|old| old != answers));
            return self.new_answers(before, &answers);
        }
        let wanted = self.twin.program.ask(&lines).map_err(|why| format!("the twin fails: {why}"))?;
        if let Some(difference) = difference(&lines, &answers, &wanted) {
            // Perhaps the edit changes answers after all: then two builds differ as well.
            let (old, new) = (self.twin.executable.clone(), self.build()?);
            let long = inputs::lines(&mut self.inputs, LONG_ROUNDS);
            let [old, new] = [old, new].map(|executable| Twin::start(&executable)?.program.ask(&long));
            if old? == new? {
                return Err(difference);
            }
            return self.new_answers(before, &answers);
        }
        if edit.effect == Effect::SameHere {
            return self.put_back(before, None);
        }
        Ok(Next::Step)
    }

    /// The twin is built anew. Half of such edits are put back then, and all that make the program panic a lot.
    fn new_answers(&mut self, before: &[(String, String)], answers: &[String]) -> Result<Next, String> {
        let panics = answers.iter().filter(|answer| answer.starts_with("panic")).count();
        let old = self.twin.executable.clone();
        if self.compare_with_fresh()? == Next::Over {
            return Ok(Next::Over);
        }
        if panics * 6 > answers.len() || self.edits.next().is_multiple_of(2) {
            return self.put_back(before, Some(old));
        }
        Ok(Next::Step)
    }

    /// Brings the files of an edit back. `old` is a build of what they are then, if the twin is none.
    fn put_back(&mut self, before: &[(String, String)], old: Option<PathBuf>) -> Result<Next, String> {
        let verdict = self.save(before)?;
        self.report.add(PUT_BACK, Soundness::Sound, &verdict);
        if matches!(verdict, Verdict::CompileError | Verdict::Refused(_)) {
            return Err(format!("what ran before is not taken back: {verdict:?}"));
        }
        for (path, text) in before {
            let edit = Edit { files: vec![(path.clone(), text.clone())], ..Edit::nothing() };
            subject::adopt(&mut self.packages, &edit);
        }
        match old {
            Some(executable) => self.compare_with(&executable, false),
            None => self.in_step(1).map(|()| Next::Step),
        }
    }

    /// Takes an edit back that was not applied: what runs and what is on disk are the same again.
    fn take_back(&mut self, before: &[(String, String)]) -> Result<(), String> {
        match self.save(before)? {
            Verdict::Applied | Verdict::Unchanged => Ok(()),
            verdict @ (Verdict::CompileError | Verdict::Refused(_)) => {
                Err(format!("taken back after it was not applied, and the answer is {verdict:?}"))
            }
        }
    }

    /// Both programs get the same lines and have to answer the same.
    fn in_step(&mut self, rounds: usize) -> Result<(), String> {
        let lines = self.lines(rounds);
        let answers = self.ask(&lines)?;
        let wanted = self.twin.program.ask(&lines).map_err(|why| format!("the twin fails: {why}"))?;
        difference(&lines, &answers, &wanted).map_or(Ok(()), Err)
    }

    /// Builds a twin of the sources as they are, gives it the state, and compares. Either it is in step then, or the edit
    /// ends the program in a fresh build too.
    fn compare_with_fresh(&mut self) -> Result<Next, String> {
        let executable = self.build()?;
        self.unconfirmed = false;
        self.compare_with(&executable, true)
    }

    /// `same_lines`: it was built from the very sources that run, so that a panic is at the same place in both.
    fn compare_with(&mut self, executable: &Path, same_lines: bool) -> Result<Next, String> {
        let renewed = self.ask(&["renew".to_owned(), "dump".to_owned()]);
        let dump = match renewed.as_deref() {
            Ok([_, dump]) => dump.clone(),
            Ok(_) => return Err("no dump".to_owned()),
            Err(why) => return self.excused(&["renew".to_owned()], why.clone()),
        };
        let mut lines = self.lines(TWIN_ROUNDS);
        lines.push("place".to_owned());
        let twin = Twin::loaded(executable, &dump);
        let twin = twin.and_then(|mut twin| twin.program.ask(&lines).map(|wanted| (twin, wanted)));
        match (self.ask(&lines), twin) {
            (Ok(mut answers), Ok((twin, mut wanted))) => {
                if !same_lines || !answers.iter().any(|answer| answer.starts_with("panic")) {
                    answers.pop(); // a place that has moved, or of a panic of long ago
                    wanted.pop();
                }
                self.twin = twin;
                if let Some(difference) = difference(&lines, &answers, &wanted) {
                    return Err(difference);
                }
                if same_lines {
                    self.compare_executable(&dump, &lines, &wanted)?;
                }
                Ok(Next::Step)
            }
            (Err(_), Err(_)) => Ok(self.deadly()),
            (Err(why), Ok(_)) => Err(why),
            (Ok(_), Err(why)) => Err(format!("a fresh build fails, and the patched program does not: {why}")),
        }
    }

    /// The executable on disk, which relive brings up to date, has to be what a fresh build is.
    fn compare_executable(&mut self, dump: &str, lines: &[String], wanted: &[String]) -> Result<(), String> {
        let executable = match self.session.executable()? {
            Ok(executable) => executable,
            Err(why) => {
                self.report.kept(why);
                return Ok(());
            }
        };
        let failed = |why: String| format!("the executable on disk, brought up to date: {why}");
        let mut answers = Twin::loaded(&executable, dump).and_then(|mut it| it.program.ask(lines)).map_err(failed)?;
        answers.truncate(wanted.len());
        self.report.restarted += 1;
        difference(lines, &answers, wanted).map_or(Ok(()), |difference| Err(failed(difference)))
    }

    /// The patched program failed. That is no fault of relive if a fresh build with the state before fails as well.
    fn excused(&mut self, lines: &[String], why: String) -> Result<Next, String> {
        let executable = self.build()?;
        let dump = self.twin.program.ask_one("dump").map_err(|why| format!("the twin fails: {why}"))?;
        let fresh = Twin::loaded(&executable, &dump).and_then(|mut twin| twin.program.ask(lines));
        if fresh.is_err() { Ok(self.deadly()) } else { Err(why) }
    }

    fn deadly(&mut self) -> Next {
        self.report.deadly += 1;
        Next::Over
    }

    fn build(&mut self) -> Result<PathBuf, String> {
        self.report.twins += 1;
        let name = if self.twin.executable.ends_with("even") { "odd" } else { "even" };
        Twin::build(self.subject, name).map_err(|why| format!("applied, and cargo does not build it:\n{why}"))
    }

    /// Inputs, and a look for what should be impossible.
    fn lines(&mut self, rounds: usize) -> Vec<String> {
        let mut lines = inputs::lines(&mut self.inputs, rounds);
        lines.push("check".to_owned());
        lines
    }

    fn ask(&mut self, lines: &[String]) -> Result<Vec<String>, String> {
        self.history.extend(lines.iter().cloned());
        self.session.program.ask(lines)
    }
}

/// The first line that was not answered as wanted.
fn difference(lines: &[String], answers: &[String], wanted: &[String]) -> Option<String> {
    let triples = lines.iter().zip(answers).zip(wanted);
    let (line, answer, wanted) =
        triples.map(|((line, answer), wanted)| (line, answer, wanted)).find(|(_, answer, wanted)| answer != wanted)?;
    Some(format!("`{line}` is answered\n    {answer}\nand the twin answers\n    {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn a_difference_names_the_line() {
        let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(difference(&lines("a b"), &lines("1 2"), &lines("1 2")), None);
        let told = difference(&lines("a b"), &lines("1 2"), &lines("1 3"));
        assert_eq!(told.as_deref(), Some("`b` is answered\n    2\nand the twin answers\n    3"));
    }
}
