//! Names without the numbers that change when a neighbour is inserted.
//!
//! rustc numbers closures, impls and the like by their order: `app::build::{closure#1}` becomes `{closure#2}` when a
//! closure is written before it. Erasing gives `app::build::{closure}`, the same before and after.

use std::borrow::Cow;

/// `text` without the numbers in braces: `{closure#1}` becomes `{closure}`.
pub fn erase(text: &str) -> String {
    match erase_bytes(text.as_bytes()) {
        Cow::Borrowed(_) => text.to_string(),
        Cow::Owned(bytes) => {
            String::from_utf8(bytes).unwrap_or_else(|why| String::from_utf8_lossy(why.as_bytes()).into_owned())
        }
    }
}

/// The same for bytes.
pub(super) fn erase_bytes(text: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr(b'#', text) else { return Cow::Borrowed(text) };
    let (head, mut rest) = text.split_at(first);
    let mut out = Vec::with_capacity(text.len());
    out.extend_from_slice(head);
    while let Some(tail) = rest.strip_prefix(b"#") {
        let digits = tail.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let is_number = digits > 0 && tail.get(digits) == Some(&b'}');
        if !is_number {
            out.push(b'#');
        }
        let tail = tail.get(if is_number { digits } else { 0 }..).unwrap_or(&[]);
        let (head, next) = tail.split_at(memchr::memchr(b'#', tail).unwrap_or(tail.len()));
        out.extend_from_slice(head);
        rest = next;
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::erase;

    #[test]
    fn numbers_in_braces_go_and_others_stay() {
        assert_eq!(erase("app::f::{closure#12}::{impl#3}"), "app::f::{closure}::{impl}");
        assert_eq!(erase("Map<u32, app::f::{closure_env#0}<T#1>>"), "Map<u32, app::f::{closure_env}<T#1>>");
        assert_eq!(erase("r#type"), "r#type");
        assert_eq!(erase("{closure#}"), "{closure#}");
    }
}
