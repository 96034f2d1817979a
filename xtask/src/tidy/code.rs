//! Rust text to the same text with comments and the insides of literals blanked out, line by line the same length.
//!
//! It is no lexer: it knows just enough not to take a quote in a comment for a string, or a lifetime for a character.

/// `text` with everything blanked that is not code.
pub(crate) fn bare(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment(rest)
        } else if first == '"' {
            string(rest)
        } else if rest.starts_with("r\"") || rest.starts_with("r#") {
            raw_string(rest)
        } else if first == '\'' {
            character(rest)
        } else {
            0
        };
        let (gone, kept) = if skip > 0 { (skip, "") } else { (first.len_utf8(), &rest[..first.len_utf8()]) };
        out.push_str(kept);
        if skip > 0 {
            out.extend(rest[..gone].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = &rest[gone..];
    }
    out
}

/// Length of the comment at the start of `text`; comments nest.
fn comment(text: &str) -> usize {
    let mut depth = 0_u32;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Length of the string at the start of `text`.
fn string(text: &str) -> usize {
    let mut escaped = true; // the opening quote ends nothing
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of the raw string at the start of `text`, 0 for a raw identifier.
fn raw_string(text: &str) -> usize {
    let hashes = text[1..].chars().take_while(|c| *c == '#').count();
    let open = 1 + hashes + 1;
    if !text[1 + hashes..].starts_with('"') {
        return 0;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    text[open..].find(&close).map_or(text.len(), |at| open + at + close.len())
}

/// Length of the character literal at the start of `text`, 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut inside = text[1..].char_indices();
    match inside.next() {
        Some((_, '\\')) => text[3.min(text.len())..].find('\'').map_or(text.len(), |at| 3 + at + 1),
        Some((_, first)) if text[1 + first.len_utf8()..].starts_with('\'') => 1 + first.len_utf8() + 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked() {
        assert_eq!(bare("a // unsafe\nb"), "a          \nb");
        assert_eq!(bare("a /* x /* y */ z */ b"), format!("a {} b", " ".repeat(17)));
        assert_eq!(bare("f(\"un\\\"safe\") + 1"), format!("f({}) + 1", " ".repeat(10)));
        assert_eq!(bare("f(r#\"a\"b\"#)"), format!("f({})", " ".repeat(8)));
        assert_eq!(bare("r#type + 'a' + '\\'' + '\"'"), "r#type +     +      +    ");
        assert_eq!(bare("fn f<'a>(x: &'a str) {}"), "fn f<'a>(x: &'a str) {}");
    }
}
