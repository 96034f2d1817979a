//! What the sources of the running program, and of everything it was patched with, say about code that cannot be seen through.
//!
//! Old text is gone when a save is noticed, so all of it is read when the session begins and after every change; what was
//! found once stays, since old code may still be at work. Read only when a proof asks for it.

use std::fs;
use std::path::{Path, PathBuf};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::binary::opaque::{self, Cause, MacroDefinition, Opaque, SourceFacts};

/// Texts of one file that were not looked at yet are looked at when there are so many.
const UNREAD: usize = 16;

/// The sources.
#[derive(Default)]
pub(super) struct OpaqueCode {
    files: FxHashMap<PathBuf, SourceFile>,
}

#[derive(Default)]
struct SourceFile {
    unread: Vec<String>,
    facts: SourceFacts,
}

impl OpaqueCode {
    /// Takes what is in `files` now.
    pub(super) fn note(&mut self, files: impl Iterator<Item = PathBuf>) {
        for path in files.filter(|path| path.extension().is_some_and(|end| end == "rs")) {
            // What is not there cannot have been compiled.
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let file = self.files.entry(path).or_default();
            if file.unread.last() != Some(&text) {
                file.unread.push(text);
            }
            if file.unread.len() > UNREAD {
                file.digest();
            }
        }
    }

    /// Takes what is in those of `files` of which nothing is known: they became sources without being saved since, or are
    /// written by a build script.
    pub(super) fn note_unknown<'a>(&mut self, files: impl Iterator<Item = &'a PathBuf>) {
        let unknown: Vec<PathBuf> = files.filter(|path| !self.files.contains_key(*path)).cloned().collect();
        self.note(unknown.into_iter());
    }

    /// Everything known by now.
    pub(super) fn facts(&mut self) -> Known<'_> {
        self.files.values_mut().for_each(SourceFile::digest);
        let files: Vec<_> = self.files.iter().map(|(path, file)| (path.as_path(), &file.facts)).collect();
        let mut macros: FxHashMap<&str, Vec<&MacroDefinition>> = FxHashMap::default();
        for definition in files.iter().flat_map(|(_, facts)| &facts.macros) {
            macros.entry(&definition.name).or_default().push(definition);
        }
        Known { files, macros }
    }
}

impl SourceFile {
    fn digest(&mut self) {
        for text in std::mem::take(&mut self.unread) {
            let SourceFacts { opaque: found, macros, functions } = opaque::read(&text);
            for new in found {
                if !self.facts.opaque.contains(&new) {
                    self.facts.opaque.push(new);
                }
            }
            for new in macros {
                if !self.facts.macros.contains(&new) {
                    self.facts.macros.push(new);
                }
            }
            self.facts.functions.extend(functions);
        }
    }
}

/// The facts of all sources.
pub(super) struct Known<'a> {
    files: Vec<(&'a Path, &'a SourceFacts)>,
    macros: FxHashMap<&'a str, Vec<&'a MacroDefinition>>,
}

/// Functions that the derives of the standard library write.
const DERIVED: [&str; 17] = [
    "assert_fields_are_eq",
    "assert_receiver_is_total_eq",
    "clone",
    "cmp",
    "default",
    "deserialize",
    "eq",
    "expecting",
    "fmt",
    "ge",
    "gt",
    "hash",
    "le",
    "lt",
    "ne",
    "partial_cmp",
    "serialize",
];

impl Known<'_> {
    /// Why a function cannot be seen through; `None` if it can. `path` is its readable path, `file` where it is written.
    pub(super) fn opacity(&self, path: &str, file: &Path) -> Option<String> {
        let segments: FxHashSet<&str> = path.split(|letter: char| !letter.is_alphanumeric() && letter != '_').collect();
        // Paths are compared by their last part: the compiler and cargo may write the others differently.
        let mut of_name = self.files.iter().filter(|(path, _)| path.file_name() == file.file_name()).peekable();
        if of_name.peek().is_none() {
            return Some("is written in a file that is no known source".into());
        }
        let mut is_written = false;
        for (_, facts) in of_name {
            let whole = facts.opaque.iter().filter(|opaque| matches!(opaque.cause, Cause::Unreadable(_)));
            let named = facts.opaque.iter().filter(|opaque| segments.contains(opaque.name.as_str()));
            if let Some(why) = whole.chain(named).find_map(|opaque| self.why(opaque)) {
                return Some(why);
            }
            is_written |= segments.iter().any(|name| facts.functions.contains(*name) || DERIVED.contains(name));
        }
        (!is_written).then(|| "is made by a macro".into())
    }

    /// Code that cannot be seen through and names one of `types`: its name and why.
    pub(super) fn opaque_about(&self, types: &FxHashSet<&str>) -> Vec<(String, String)> {
        let all = self.files.iter().flat_map(|(_, facts)| &facts.opaque);
        let about = all.filter(|opaque| opaque.words.iter().any(|word| types.contains(word.as_str())));
        about.filter_map(|opaque| Some((opaque.name.clone(), self.why(opaque)?))).collect()
    }

    fn why(&self, opaque: &Opaque) -> Option<String> {
        match &opaque.cause {
            Cause::Unsafe => Some("handles one, and is `unsafe` or is called from outside Rust".into()),
            Cause::Unreadable(why) => Some(format!("cannot be read as Rust ({why})")),
            Cause::Macro(name) => self.is_opaque(name, 8).then(|| format!("is in part made by the macro `{name}`")),
        }
    }

    /// Whether a macro is of another crate, has `unsafe` in it, or uses one that is or has.
    fn is_opaque(&self, name: &str, depth: u32) -> bool {
        let Some(definitions) = self.macros.get(name).filter(|_| depth > 0) else { return true };
        definitions
            .iter()
            .any(|own| own.has_unsafe || own.uses.iter().any(|used| used != name && self.is_opaque(used, depth - 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(text: &str) -> OpaqueCode {
        let mut sources = OpaqueCode::default();
        let file = SourceFile { unread: vec![text.to_owned()], ..SourceFile::default() };
        sources.files.insert("/w/src/main.rs".into(), file);
        sources
    }

    #[test]
    fn own_macros_are_looked_into() {
        let text = "macro_rules! fine { () => { also!() } }\nmacro_rules! also { () => { 1 } }\n\
                    macro_rules! deep { () => { raw!() } }\nmacro_rules! raw { () => { unsafe { 1 } } }\n\
                    fn good() { fine!() }\nfn bad() { deep!() }\nfn foreign() { tokio::select!() }\n";
        let mut sources = sources(text);
        let known = sources.facts();
        let opacity = |path: &str| known.opacity(path, Path::new("/other/src/main.rs"));
        assert_eq!(opacity("app::good"), None);
        assert_eq!(opacity("app::good::{closure#0}"), None);
        assert_eq!(opacity("app::bad").as_deref(), Some("is in part made by the macro `deep`"));
        assert!(opacity("app::foreign").is_some_and(|why| why.contains("`select`")));
        assert_eq!(opacity("app::nowhere").as_deref(), Some("is made by a macro"));
        assert_eq!(opacity("<app::S as core::clone::Clone>::clone"), None);
        assert!(known.opacity("app::good", Path::new("/w/src/lib.rs")).is_some());
    }

    #[test]
    fn what_was_unsafe_once_stays_so() {
        let mut sources = sources("struct S;\nfn f() { unsafe { g(S) } }\n");
        let file = sources.files.get_mut(Path::new("/w/src/main.rs")).expect("is there");
        file.unread.push("struct S;\nfn f() {}\n".into());
        let known = sources.facts();
        assert!(known.opacity("app::f", Path::new("main.rs")).is_some());
        assert_eq!(known.opaque_about(&["S"].into_iter().collect()).len(), 1);
        assert!(known.opaque_about(&["T"].into_iter().collect()).is_empty());
    }
}
