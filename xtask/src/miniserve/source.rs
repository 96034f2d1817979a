//! The program's sources: obtained through cargo, brought back to what was published, edited.
//!
//! The package is copied by `cargo vendor` and made a workspace of its own; its Cargo.lock is kept. Files that are
//! right already are not written, so that a second run finds a warm build.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::files::{cargo, context, obtain, write};

pub(crate) const VERSION: &str = "0.35.0";
/// What the program serves; the times in its pages must not pass.
const SERVED: [&str; 3] = ["one.txt", "two.txt", "three.txt"];
const SERVED_AGE: Duration = Duration::from_secs(20 * 366 * 24 * 3600);

const FOOTER: &str = "// Partial: version footer\nfn version_footer";
const FOOTER_TEXT: &str = "(format!(\"/{}\", crate_version!()))";
/// A function over an instance of a generic that the executable does not have.
const TALLY: &str = r#"fn tally_of(words: &[&str]) -> String {
    let mut tally: std::collections::BTreeMap<String, Vec<f32>> = std::collections::BTreeMap::new();
    for (at, word) in words.iter().enumerate() {
        tally.entry((*word).to_owned()).or_default().push(at as f32);
    }
    format!("{tally:?}")
}

"#;
const TALLY_TEXT: &str = "(format!(\"/{} {}\", crate_version!(), tally_of(&[\"a\", \"b\", \"a\"])))";
const TALLY_PAGE: &str = " {&quot;a&quot;: [0.0, 2.0], &quot;b&quot;: [1.0]}";

/// The folder of a run: the program's package, what it serves, and where it is built.
pub(crate) struct Source {
    folder: PathBuf,
}

/// One edit: texts of one file that are replaced, and what that does to the page.
pub(crate) struct Edit {
    pub(crate) name: &'static str,
    file: &'static str,
    texts: Vec<(String, String)>,
    page: Option<(String, String)>,
}

impl Source {
    /// Obtains the package, and resets the copy to what was published.
    pub(crate) fn obtain(folder: PathBuf) -> Result<Source, String> {
        let source = Source { folder };
        let published = source.path("published");
        obtain(&published, &[("miniserve", VERSION)])?;
        copy(&published.join(format!("miniserve-{VERSION}")), &source.path("package"))?;
        cargo(&["fetch", "--locked"], &source.manifest())?;
        source.write_served()?;
        source.write_counter()?;
        Ok(source)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn manifest(&self) -> PathBuf {
        self.path("package/Cargo.toml")
    }

    /// A wrapper of rustc that notes each crate it compiles.
    pub(crate) fn counter(&self) -> PathBuf {
        self.path("counter")
    }

    /// How many crates rustc has compiled since this was last asked.
    pub(crate) fn rustc_calls(&self) -> Result<usize, String> {
        let log = self.path("rustc-calls");
        let calls = fs::read_to_string(&log).unwrap_or_default().lines().count();
        fs::write(&log, "").map_err(context("empty", &log))?;
        Ok(calls)
    }

    fn write_counter(&self) -> Result<(), String> {
        let (path, log) = (self.counter(), self.path("rustc-calls"));
        let log = log.display();
        let text = format!("#!/bin/sh\ncase \" $* \" in *\" --emit\"*) echo call >> '{log}';; esac\nexec \"$@\"\n");
        write(&path, text.as_bytes())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(context("make executable", &path))
    }

    /// Saves an edit, in one rename.
    pub(crate) fn save(&self, edit: &Edit) -> Result<(), String> {
        let path = self.path("package/src").join(edit.file);
        let mut text = fs::read_to_string(&path).map_err(context("read", &path))?;
        for (old, new) in &edit.texts {
            if !text.contains(old) {
                return Err(format!("`{}` does not have {old:?}", path.display()));
            }
            text = text.replacen(old, new, 1);
        }
        let beside = self.path("saved");
        fs::write(&beside, text).map_err(context("write", &beside))?;
        fs::rename(&beside, &path).map_err(context("save", &path))
    }

    fn write_served(&self) -> Result<(), String> {
        let time = SystemTime::UNIX_EPOCH + SERVED_AGE;
        for name in SERVED {
            let path = self.path("served").join(name);
            write(&path, name.as_bytes())?;
            let file = File::options().write(true).open(&path);
            file.and_then(|file| file.set_modified(time)).map_err(context("date", &path))?;
        }
        Ok(())
    }
}

impl Edit {
    /// The hint in the search field.
    pub(crate) fn hint(name: &'static str, old: &str, new: &str) -> Edit {
        let of = |text: &str| format!("placeholder=\"{text}\"");
        Edit { name, file: "renderer.rs", texts: vec![(of(old), of(new))], page: Some((of(old), of(new))) }
    }

    /// A new function whose result gets into the footer.
    pub(crate) fn generic() -> Edit {
        let function = (FOOTER.to_owned(), format!("{TALLY}{FOOTER}"));
        let version = format!("/{VERSION}");
        Edit {
            name: "new instances",
            file: "renderer.rs",
            texts: vec![function, (FOOTER_TEXT.to_owned(), TALLY_TEXT.to_owned())],
            page: Some((version.clone(), version + TALLY_PAGE)),
        }
    }

    /// A line at the top of a file.
    pub(crate) fn top_line() -> Edit {
        let texts = vec![(String::new(), "// a line at the top\n".to_owned())];
        Edit { name: "line at the top", file: "listing.rs", texts, page: None }
    }

    /// Whether code has to change for it.
    pub(crate) fn changes_code(&self) -> bool {
        self.page.is_some()
    }

    /// The page after the edit, from the one before.
    pub(crate) fn page_after(&self, page: &[u8]) -> Result<Vec<u8>, String> {
        let Some((old, new)) = &self.page else { return Ok(page.to_owned()) };
        let text = String::from_utf8_lossy(page);
        match text.matches(old.as_str()).count() {
            1 => Ok(text.replace(old.as_str(), new).into_bytes()),
            times => Err(format!("the page has {times} times {old:?}:\n{text}")),
        }
    }
}

/// Copies a package, and makes it a workspace of its own.
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    for entry in fs::read_dir(from).map_err(context("list", from))? {
        let path = entry.map_err(context("list", from))?.path();
        let Some(name) = path.file_name() else { continue };
        if path.is_dir() {
            copy(&path, &to.join(name))?;
            continue;
        }
        let mut bytes = fs::read(&path).map_err(context("read", &path))?;
        if name == "Cargo.toml" && path.with_file_name("Cargo.lock").exists() {
            bytes.extend(b"\n[workspace]\n");
        }
        write(&to.join(name), &bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_says_what_the_page_becomes() {
        let edit = Edit::hint("", "a", "b");
        assert_eq!(edit.page_after(b"x placeholder=\"a\" y"), Ok(b"x placeholder=\"b\" y".to_vec()));
        assert!(edit.page_after(b"x").is_err());
        assert_eq!(Edit::top_line().page_after(b"x"), Ok(b"x".to_vec()));
    }
}
