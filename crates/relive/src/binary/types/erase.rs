//! Names without the numbers that change when a neighbour is inserted.
//!
//! rustc numbers closures, impls and the like by their order: `app::build::{closure#1}` becomes `{closure#2}` when a
//! closure is written before it. Erasing gives `app::build::{closure}`, the same before and after.

/// `text` without the numbers in braces: `{closure#1}` becomes `{closure}`.
pub fn erase(text: &str) -> String {
    if !text.contains('#') {
        return text.to_string();
    }
    String::from_utf8_lossy(&erase_bytes(text.as_bytes())).into_owned()
}

/// The same for bytes.
pub(super) fn erase_bytes(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(hash) = rest.iter().position(|byte| *byte == b'#') {
        let (head, tail) = rest.split_at(hash);
        out.extend_from_slice(head);
        let digits = tail.iter().skip(1).take_while(|byte| byte.is_ascii_digit()).count();
        if digits > 0 && tail.get(1 + digits) == Some(&b'}') {
            rest = tail.get(1 + digits..).unwrap_or(&[]);
        } else {
            out.push(b'#');
            rest = tail.get(1..).unwrap_or(&[]);
        }
    }
    out.extend_from_slice(rest);
    out
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
