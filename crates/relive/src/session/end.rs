//! Why a change ends early, and how the user is told.

use crate::Error;
use crate::judge::{self, DeltaFacts, Liveness};
use crate::tell::Reason;

/// Why a change ends early.
pub(super) enum End {
    Refused(Vec<Reason>),
    CompileError(Vec<Reason>),
    Superseded,
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> End {
        End::Failed(error)
    }
}

impl End {
    pub(super) fn held_up(proof: &Liveness, thread: &str, function: &str) -> End {
        End::Refused(vec![told(judge::held_up(proof, thread, function))])
    }
}

pub(super) fn told(reason: judge::Reason) -> Reason {
    Reason {
        rule: reason.rule.to_owned(),
        item: reason.item,
        message: reason.message,
        help: reason.help,
        file: reason.file,
        line: reason.line,
    }
}

/// The refusal by what linking or loading ran into.
pub(super) fn refused(facts: DeltaFacts) -> End {
    End::Refused(judge::judge_late(&facts).into_iter().map(told).collect())
}

pub(super) fn failure(error: &Error) -> Reason {
    Reason {
        rule: "failed".into(),
        item: String::new(),
        message: error.to_string(),
        help: "The program runs what it ran before; the next save is tried again.".into(),
        file: None,
        line: None,
    }
}
