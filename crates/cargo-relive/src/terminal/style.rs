//! Colours: the words they are put on, and how to take them off.

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whether escape sequences are written.
    pub colour: bool,
}

/// What a piece of text is, which decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// Our name at the start of a line.
    Name,
    /// An error.
    Error,
    /// A thing to know.
    Note,
    /// A title, a message.
    Strong,
    /// Line drawing, as rustc has it.
    Frame,
    /// A change that is live.
    Good,
}

impl Style {
    /// `text` in its colour.
    #[must_use]
    pub fn paint(self, ink: Ink, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match ink {
            Ink::Name => "1;36",
            Ink::Error => "1;31",
            Ink::Note => "1;33",
            Ink::Strong => "1",
            Ink::Frame => "1;34",
            Ink::Good => "1;32",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// A relayed line as it may be shown.
    #[must_use]
    pub fn relayed(self, line: &str) -> String {
        if self.colour { line.to_owned() } else { plain(line) }
    }
}

/// `text` without escape sequences.
#[must_use]
pub fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_put_on_only_where_it_is_wanted() {
        assert_eq!(Style { colour: false }.paint(Ink::Error, "error"), "error");
        assert_eq!(Style { colour: true }.paint(Ink::Error, "error"), "\u{1b}[1;31merror\u{1b}[0m");
    }

    #[test]
    fn relayed_lines_lose_their_colours_where_none_are_wanted() {
        let line = "\u{1b}[1m\u{1b}[32m   Compiling\u{1b}[0m x";
        assert_eq!(Style { colour: false }.relayed(line), "   Compiling x");
        assert_eq!(Style { colour: true }.relayed(line), line);
    }
}
