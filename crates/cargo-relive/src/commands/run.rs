//! `run`: a session, with the terminal and the event file as its readers.

use std::env;
use std::io;

use relive::session::{self, SessionError, Settings};
use relive::tell::Event;

use super::fail;
use crate::AGENT;
use crate::events::Log;
use crate::exit::Exit;
use crate::flags::Run;
use crate::signals::Relay;
use crate::terminal::{self, Terminal};

/// Builds, starts and patches until the program ends.
#[must_use]
pub fn run(flags: &Run) -> Exit {
    let style = terminal::style(flags.color);
    let (settings, mut readers) = match prepare(flags, style) {
        Ok(ready) => ready,
        Err(why) => return fail(&why),
    };
    if let Err(why) = session::end_when_shortened(Exit::Own.code()) {
        return fail(&relive::Error::Denied(format!("cannot handle signals: {why}")));
    }
    match session::run(settings, &mut |event| readers.tell(event)) {
        Ok(code) => Exit::Program(code),
        Err(SessionError::BuildFailed) => Exit::BuildFailed,
        Err(SessionError::Own(error)) => fail(&error),
    }
}

/// Everything that reads the events of the session.
struct Readers {
    terminal: Terminal,
    log: Option<Log>,
    signals: Relay,
}

impl Readers {
    fn tell(&mut self, event: &Event) {
        match event {
            Event::Starting => self.signals.program_starts(),
            Event::Spawned { pid } => self.signals.program_runs(*pid),
            Event::Exited { .. } => self.signals.program_ended(),
            Event::Relayed(_)
            | Event::Note(_)
            | Event::BuildFailed { .. }
            | Event::Started { .. }
            | Event::Change { .. }
            | Event::Patch(_)
            | Event::Turned { .. }
            | Event::Executable { .. } => {}
        }
        if let Some(log) = &mut self.log
            && let Err(why) = log.tell(event)
        {
            self.log = None; // said once
            terminal::write_line(&format!("relive: cannot write to the event file, which ends here: {why}"));
        }
        self.terminal.tell(event);
    }
}

fn prepare(flags: &Run, style: terminal::style::Style) -> Result<(Settings, Readers), relive::Error> {
    let cwd = super::cwd()?;
    let self_exe = env::current_exe().map_err(|why| relive::Error::file("/proc/self/exe", "find", why))?;
    let log = match &flags.events {
        Some(sink) => Some(Log::open(sink).map_err(|why| relive::Error::file(sink.path(), "open", why))?),
        None => None,
    };
    let signals =
        Relay::start().map_err(|why: io::Error| relive::Error::Fatal(format!("no signal handlers: {why}")))?;
    let settings = Settings {
        cargo: super::cargo(),
        self_exe,
        cargo_run_args: flags.cargo_args(),
        program_args: flags.program_args.clone(),
        cwd: cwd.clone(),
        colour: style.colour,
        agent: AGENT,
        restart_on_refusal: flags.restart_on_refusal,
        update_binary: flags.update_binary,
    };
    Ok((settings, Readers { terminal: Terminal::new(style, cwd), log, signals }))
}
