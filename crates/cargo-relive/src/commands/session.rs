//! `undo`, `redo` and `status`: what is asked of a running session from another terminal.
//!
//! What was asked for goes to stdout, everything about it that went wrong to stderr.

use std::env;
use std::fmt::Write as _;

use relive::compile;
use relive::control::{self, Answer, Generation, Request, Status, Turned};

use super::{fail, print};
use crate::exit::Exit;
use crate::flags;
use crate::terminal::style::Style;
use crate::terminal::text::Page;
use crate::terminal::write_line;

/// Functions that `status` lists by name before it says how many more there are.
const FUNCTIONS: usize = 40;

/// Takes edits back.
#[must_use]
pub fn undo(flags: &flags::Steps) -> Exit {
    turn(&flags.session, Request::Undo { steps: flags.steps }, "taken back")
}

/// Switches edits in again.
#[must_use]
pub fn redo(flags: &flags::Steps) -> Exit {
    turn(&flags.session, Request::Redo { steps: flags.steps }, "switched in again")
}

/// Says how things stand.
#[must_use]
pub fn status(flags: &flags::Status) -> Exit {
    match ask(&flags.session, Request::Status) {
        Ok(Answer::Status(status)) if flags.json => match serde_json::to_string(&status) {
            Ok(text) => done_if(print(format!("{text}\n").as_bytes()), status.altered.is_empty()),
            Err(why) => fail(&relive::Error::Fatal(why.to_string())),
        },
        Ok(Answer::Status(status)) => done_if(print(page(&status).as_bytes()), status.altered.is_empty()),
        Ok(answer) => unexpected(answer),
        Err(why) => fail(&why),
    }
}

fn turn(session: &flags::Session, request: Request, what: &str) -> Exit {
    match ask(session, request) {
        Ok(Answer::Turned(turned)) => {
            let Turned { asked, taken, generation, why, reasons } = &turned;
            let edits = if *taken == 1 { "1 edit".to_owned() } else { format!("{taken} edits") };
            let exit = print(format!("{edits} {what}; {}\n", stands(*generation)).as_bytes());
            let page = Page::new(Style { colour: false }, env::current_dir().unwrap_or_default());
            if let Some(why) = why {
                write_line(&format!("relive: error: step {} of {asked} was not made: {why}", taken + 1));
            }
            page.reasons(reasons, why.is_some()).iter().for_each(|line| write_line(line));
            done_if(exit, why.is_none())
        }
        Ok(answer) => unexpected(answer),
        Err(why) => fail(&why),
    }
}

fn done_if(exit: Exit, good: bool) -> Exit {
    if exit == Exit::Done && !good { Exit::No } else { exit }
}

fn unexpected(answer: Answer) -> Exit {
    let why = match answer {
        Answer::Impossible { why } => why,
        Answer::Turned(_) | Answer::Status(_) => "the session answered another question".to_owned(),
    };
    fail(&relive::Error::Denied(why))
}

fn ask(session: &flags::Session, request: Request) -> Result<Answer, relive::Error> {
    let relive_dir = compile::relive_dir(super::cargo(), super::cwd()?, session.cargo_args())?;
    control::ask(&relive_dir, request)
}

fn stands(generation: Generation) -> String {
    let Generation { number, undo, redo } = generation;
    format!("generation {number} runs ({undo} can be taken back, {redo} can be made again)")
}

fn page(status: &Status) -> String {
    let mut out = format!("process {}: {}\n", status.pid, stands(status.generation));
    let functions = &status.functions;
    let noun = if functions.len() == 1 { "function runs" } else { "functions run" };
    let _ = writeln!(out, "{} {noun} code that came with a patch", functions.len());
    for function in functions.iter().take(FUNCTIONS) {
        let (generation, address, size) = (function.generation, function.address, function.size);
        let _ = writeln!(out, "  {generation:>4}  {address:#x}  {size:>6} bytes  {}", function.name);
    }
    if functions.len() > FUNCTIONS {
        let _ = writeln!(out, "  and {} more (`--json` has them all)", functions.len() - FUNCTIONS);
    }
    for pending in &status.pending {
        let _ = writeln!(out, "pending: `{}` still runs older code in thread {}", pending.function, pending.thread);
    }
    if let Some(why) = &status.not_looked {
        let _ = writeln!(out, "which older code is running was not looked at: {why}");
    }
    match status.altered.as_slice() {
        [] => out.push_str("everything is in memory as relive put it there\n"),
        altered => {
            for what in altered {
                let _ = writeln!(out, "ALTERED: {what}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use relive::control::LiveCode;
    use relive::tell::Pending;

    use super::*;

    #[test]
    fn a_page_has_everything_that_stands() {
        let function = |name: &str| LiveCode { name: name.into(), generation: 3, address: 0x5000, size: 77 };
        let pending = Pending { function: "app::main".into(), thread: "main (7)".into(), why: String::new() };
        let mut status = Status {
            version: "1".into(),
            pid: 7,
            generation: Generation { number: 3, undo: 2, redo: 1 },
            functions: vec![function("app::tick")],
            pending: vec![pending],
            ..Status::default()
        };
        assert_eq!(
            page(&status),
            "process 7: generation 3 runs (2 can be taken back, 1 can be made again)\n\
             1 function runs code that came with a patch\n     \
             3  0x5000      77 bytes  app::tick\n\
             pending: `app::main` still runs older code in thread main (7)\n\
             everything is in memory as relive put it there\n"
        );
        status.altered = vec!["the stub of `app::tick` is another".into()];
        status.not_looked = Some("a debugger (pid 9) is attached".into());
        status.functions = (0..50).map(|at| function(&format!("app::f{at}"))).collect();
        let text = page(&status);
        assert!(text.ends_with("ALTERED: the stub of `app::tick` is another\n"), "{text}");
        assert!(text.contains("and 10 more") && text.contains("not looked at: a debugger"), "{text}");
    }
}
