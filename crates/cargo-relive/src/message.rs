//! The only place that renders relive's own errors: the error, its causes, and a hint after a blank line.

use std::error::Error as _;

use relive::Error;

/// The lines of `error`, its chain of causes and what to do about it.
#[must_use]
pub fn lines(error: &Error) -> Vec<String> {
    let mut lines = vec![format!("relive: error: {error}")];
    let mut cause = error.source();
    while let Some(error) = cause {
        lines.push(format!("  because: {error}"));
        cause = error.source();
    }
    lines.extend(hint(error).into_iter().flat_map(with_hint));
    lines.iter().flat_map(|line| line.split('\n').map(str::to_owned)).collect()
}

/// The lines of a hint under something that went wrong.
#[must_use]
pub fn with_hint(hint: &str) -> [String; 2] {
    [String::new(), format!("  help: {hint}")]
}

fn hint(error: &Error) -> Option<&'static str> {
    match error {
        Error::Busy(_) => Some("try again when it is free"),
        Error::Fatal(_) => Some("this should not happen; please report it with the text above"),
        Error::Gone(_) | Error::Denied(_) | Error::File { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_where_nothing_can_be_done() {
        assert_eq!(
            lines(&Error::file("/x/y.o", "read", "it ends early")),
            ["relive: error: cannot read `/x/y.o`: it ends early"]
        );
    }

    #[test]
    fn the_hint_comes_after_a_blank_line() {
        assert_eq!(
            lines(&Error::Busy("a debugger\nholds process 7".into())),
            ["relive: error: a debugger", "holds process 7", "", "  help: try again when it is free"]
        );
    }
}
