//! A program like any other, patched as a session would.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use relive_process::LaunchSpec;
use relive_process::agent::{AgentLink, AgentListener};
use relive_process::launch::{self, AgentSpec, Child};
use relive_process::memory::Memory;
use relive_process::stop::{self, StopOptions};

use super::{Examination, Finding};
use crate::Error;
use crate::link::{Extent, Needs};
use crate::load::{Arena, Room};

/// How long the patient may take for each answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Steps, and what it means when one fails.
const STEPS: [(&str, &str); 4] = [
    ("agent", "without the agent no edit can be applied: look for what keeps `LD_PRELOAD` from working here"),
    ("image", "code of patches is opened from there: see whether a mount, a sandbox or SELinux forbids it"),
    ("ptrace", "edits are switched in with ptrace: allow it, in a container with `--cap-add=SYS_PTRACE`"),
    ("memory", "edits are written through /proc/PID/mem: see whether the kernel restricts it"),
];

/// Starts the patient and does to it what a session does to a program.
pub(super) fn look(examination: &Examination<'_>, relive_dir: &Path, findings: &mut Vec<Finding>) {
    let folder = relive_dir.join(format!("doctor-{}", std::process::id()));
    let mut done = 0;
    let end = treat(examination, &folder, &mut done);
    for (subject, _) in STEPS.iter().take(done) {
        findings.push(Finding::good(subject, "works"));
    }
    if let Err(why) = end {
        let (subject, help) = STEPS[done.min(STEPS.len() - 1)];
        findings.push(Finding::bad(subject, why.to_string(), help));
    }
    // What is left behind is a few kilobytes in a folder of relive's own.
    let _ = fs::remove_dir_all(&folder);
}

/// The patient; it is killed when it is no longer needed.
struct Patient(Child);

impl Drop for Patient {
    fn drop(&mut self) {
        const SIGKILL: i32 = 9;
        let _ = self.0.signal(SIGKILL);
        let _ = self.0.wait();
    }
}

/// All steps; `done` counts those that worked.
fn treat(examination: &Examination<'_>, folder: &Path, done: &mut usize) -> Result<(), Error> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|why| Error::file(folder, "create", why))?;
    let library = folder.join("agent.so");
    fs::write(&library, examination.agent).map_err(|why| Error::file(&library, "write the agent to", why))?;
    let listener = AgentListener::listen(folder)?;
    let (program, args) = examination.patient.clone();
    let spec = LaunchSpec { program, args, env: std::env::vars_os().collect(), ..LaunchSpec::default() };
    let agent = AgentSpec { library: &library, image_dir: folder, listener: &listener };
    let patient = Patient(launch::spawn(&spec, Some(&agent))?);
    drop(listener);
    let child = &patient.0;
    let alive = || child.is_alive();
    let mut agent = AgentLink::connect(folder, child.pid(), PATIENCE, &alive)?;
    let near =
        agent.hello().near().ok_or_else(|| Error::Denied("there is no free memory below the program's code".into()))?;
    *done = 1;
    let few = Extent { size: 16, align: 16 };
    let needs = Needs { text: few, constants: few, variables: few, frames: few, searched: 1 };
    let none = || Error::Fatal("an empty program has no room for an image".into());
    let reserved = Room::new(near).find(&needs).ok_or_else(none)?;
    Arena::create(&reserved, folder)?.open(&mut agent, &alive)?;
    *done = 2;
    let memory = Memory::open(child.pid())?;
    let stopped = stop::stop(&memory, &StopOptions::default())?;
    *done = 3;
    memory.write(reserved.text, &[0xc3; 16])?;
    if memory.read_vec(reserved.text, 16)? != [0xc3; 16] {
        return Err(Error::Fatal("what was written to the program's code is not there".into()));
    }
    stopped.resume()?;
    *done = 4;
    Ok(())
}
