//! The linker's command line: takes it as rustc gives it, gives it with response files expanded, and finds the files on
//! it. Reads response files and nothing else.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::Error;

/// How deep response files may name others; a file that names itself must end somewhere.
const NESTING: usize = 8;

/// `args` with every `@file` replaced by what the file says.
pub(crate) fn expand(args: &[OsString]) -> Result<Vec<OsString>, Error> {
    let mut out = Vec::with_capacity(args.len());
    expand_into(args, NESTING, &mut out)?;
    Ok(out)
}

fn expand_into(args: &[OsString], depth: usize, out: &mut Vec<OsString>) -> Result<(), Error> {
    for arg in args {
        match arg.as_bytes().split_first() {
            Some((b'@', name)) if depth > 0 => {
                let path = PathBuf::from(OsStr::from_bytes(name));
                let text = fs::read(&path).map_err(|why| Error::file(&path, "read response file", why))?;
                expand_into(&words(&text), depth - 1, out)?;
            }
            _ => out.push(arg.clone()),
        }
    }
    Ok(())
}

/// Words of a response file in the GNU manner: white space separates, quotes group, a backslash takes the next byte.
fn words(text: &[u8]) -> Vec<OsString> {
    let mut all = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote: Option<u8> = None;
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => word.get_or_insert_default().extend(bytes.next()),
            b if quote == Some(b) => quote = None,
            b'"' | b'\'' if quote.is_none() => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            b if b.is_ascii_whitespace() && quote.is_none() => all.extend(word.take().map(OsString::from_vec)),
            b => word.get_or_insert_default().push(b),
        }
    }
    all.extend(word.map(OsString::from_vec));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_words_follow_the_gnu_rules() {
        let found = words(b"-o a\\ b\n\"c d\" 'e \"f'\n\\\\x ''\n");
        assert_eq!(found, ["-o", "a b", "c d", "e \"f", "\\x", ""]);
        assert!(words(b" \n").is_empty());
    }

    #[test]
    fn files_are_expanded_in_place() {
        let path = std::env::temp_dir().join(format!("relive-response-{}", std::process::id()));
        fs::write(&path, "b.o\nc.o\n").expect("writes");
        let mut at = OsString::from("@");
        at.push(&path);
        let found = expand(&["a.o".into(), at, "-lc".into()]).expect("expands");
        fs::remove_file(&path).expect("removes");
        assert_eq!(found, ["a.o", "b.o", "c.o", "-lc"]);
    }
}
