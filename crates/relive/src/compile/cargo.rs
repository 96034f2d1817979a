//! One `cargo run` that builds everything and starts nothing: takes the user's flags, relays what cargo says, gives the
//! artifacts of the build and how cargo would have started the program. Which program that is, cargo decides.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread;

use super::cargo_messages::{Artifact, Message, Script};
use super::config::Configured;
use super::project::{self, Project};
use super::record::{self, LaunchRecord};
use super::{BuildSettings, FirstBuildError, Launch, roles};
use crate::Error;

/// What one cargo run says about itself.
#[derive(Debug)]
pub(crate) struct CargoRun {
    pub(crate) artifacts: Vec<Artifact>,
    /// Output folders of build scripts.
    pub(crate) scripts: Vec<Script>,
    pub(crate) launch: Launch,
}

enum Line {
    Text(String),
    Message(String),
}

/// Runs cargo once.
pub(crate) fn run(
    settings: &BuildSettings,
    project: &Project,
    configured: &Configured,
    say: &mut dyn FnMut(String),
) -> Result<CargoRun, FirstBuildError> {
    let launch_file = project.relive_dir.join(format!("launch-{}.json", std::process::id()));
    let mut command = command(settings, project, configured, &launch_file)?;
    let mut child = command.spawn().map_err(|why| Error::file(&settings.cargo, "start", why))?;
    let (artifacts, scripts) = listen(&mut child, project, say);
    let status = child.wait().map_err(|why| Error::file(&settings.cargo, "wait for", why))?;
    let launch = record::read_json::<LaunchRecord>(&launch_file);
    fs::remove_file(&launch_file).ok();
    if !status.success() {
        return Err(FirstBuildError::CargoFailed(status.code().unwrap_or(101)));
    }
    let launch = launch.map_err(|_| {
        let what = "cargo built the program but did not start it through relive; is a `runner` given by `--config`?";
        Error::Fatal(what.to_owned())
    })?;
    Ok(CargoRun { artifacts, scripts, launch: restore(launch, project) })
}

fn command(
    settings: &BuildSettings,
    project: &Project,
    configured: &Configured,
    launch: &Path,
) -> Result<Command, Error> {
    let mut cargo = Command::new(&settings.cargo);
    let wrapper = project::wrapper_path(&project.relive_dir);
    cargo.arg("run").args(&settings.cargo_run_args).arg("--message-format=json-render-diagnostics");
    for key in ["rustc-wrapper", "rustc-workspace-wrapper"] {
        cargo.arg("--config").arg(format!("build.{key}={}", toml_string(&wrapper)?));
    }
    if settings.colour && !settings.cargo_run_args.iter().any(|arg| arg.to_string_lossy().starts_with("--color")) {
        cargo.args(["--color", "always"]);
    }
    let wrapper_text = wrapper.to_string_lossy();
    if wrapper_text.contains(char::is_whitespace) {
        // The environment cannot name a program with a space; an array in the configuration can.
        for triple in &project.triples {
            let runner = format!("[{}, '{}']", toml_string(&wrapper)?, roles::RUNNER_FLAG);
            cargo.arg("--config").arg(format!("target.'{triple}'.runner={runner}"));
        }
    } else {
        let runner = format!("{wrapper_text} {}", roles::RUNNER_FLAG);
        cargo.envs(project.triples.iter().map(|triple| (runner_key(triple), &runner)));
    }
    cargo.arg("--").args(&settings.program_args).current_dir(&settings.cwd);
    // The variables are stronger than `--config`; ours calls the user's.
    for key in WRAPPER_KEYS {
        cargo.env_remove(key);
    }
    let users =
        [(roles::USER_WRAPPER, &configured.wrapper), (roles::USER_WORKSPACE_WRAPPER, &configured.workspace_wrapper)];
    cargo.envs(users.into_iter().filter_map(|(key, wrapper)| Some((key, wrapper.as_ref()?))));
    cargo.env(roles::ROLE, roles::FOR_CARGO).env(roles::DIR, &project.relive_dir).env(roles::LAUNCH, launch);
    cargo.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(cargo)
}

/// cargo's variables for wrappers, which `--config` does not outdo.
const WRAPPER_KEYS: [&str; 2] = ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"];

fn runner_key(triple: &str) -> String {
    format!("CARGO_TARGET_{}_RUNNER", triple.to_uppercase().replace(['-', '.'], "_"))
}

fn toml_string(path: &Path) -> Result<String, Error> {
    let text = path.to_str().ok_or_else(|| Error::file(path, "tell cargo of", "the path is not UTF-8"))?;
    Ok(toml::Value::String(text.to_owned()).to_string())
}

/// Relays cargo's stderr and collects the artifacts from its stdout until both are closed.
fn listen(child: &mut Child, project: &Project, say: &mut dyn FnMut(String)) -> (Vec<Artifact>, Vec<Script>) {
    let (sender, lines) = mpsc::channel();
    forward(child.stderr.take(), sender.clone(), Line::Text);
    forward(child.stdout.take(), sender, Line::Message);
    let wrapper = project::wrapper_path(&project.relive_dir);
    let detour = format!("{} {} ", wrapper.display(), roles::RUNNER_FLAG);
    let (mut artifacts, mut scripts) = (Vec::new(), Vec::new());
    for line in lines {
        match line {
            // Cargo says how it starts the program; the user need not know of the runner.
            Line::Text(text) => say(text.replace(&detour, "")),
            Line::Message(text) => match Message::read(&text) {
                Some(Message::CompilerArtifact(artifact)) => artifacts.push(artifact),
                Some(Message::BuildScriptExecuted(script)) => scripts.push(script),
                Some(Message::Other) => {}
                None => say(text),
            },
        }
    }
    (artifacts, scripts)
}

fn forward<R: Read + Send + 'static>(stream: Option<R>, sender: Sender<Line>, wrap: fn(String) -> Line) {
    let Some(stream) = stream else { return };
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n') {
            let Ok(line) = line else { return };
            let text = String::from_utf8_lossy(&line).into_owned();
            if sender.send(wrap(text)).is_err() {
                return;
            }
        }
    });
}

/// The launch as it would be without relive: our keys gone, the user's own values of the keys we used back.
fn restore(launch: LaunchRecord, project: &Project) -> Launch {
    let mut ours: Vec<OsString> = project.triples.iter().map(|triple| runner_key(triple).into()).collect();
    ours.extend(WRAPPER_KEYS.map(OsString::from));
    let stays = |key: &OsString| !key.to_string_lossy().starts_with("RELIVE_") && !ours.contains(key);
    let env = launch.env.into_iter().map(|(key, value)| (key.0, value.0)).filter(|(key, _)| stays(key));
    let mut env: Vec<(OsString, OsString)> = env.collect();
    env.extend(ours.iter().filter_map(|key| Some((key.clone(), std::env::var_os(key)?))));
    Launch { argv: launch.argv.into_iter().map(|arg| arg.0).collect(), env, cwd: launch.cwd.0.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runner_keys_follow_cargo() {
        assert_eq!(runner_key("x86_64-unknown-linux-gnu"), "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER");
        assert_eq!(runner_key("thumbv8m.main-none"), "CARGO_TARGET_THUMBV8M_MAIN_NONE_RUNNER");
    }
}
