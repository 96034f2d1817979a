//! The program that is patched: its sources on disk, and the one line that is edited.
//!
//! All 24 functions return one constant, so that one save, in one rename, changes them all.

use std::path::PathBuf;

use super::trace::What;

const MANIFEST: &str =
    "[package]\nname = \"kill-grid-program\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n";
const MAIN: &str = include_str!("program/main.rs");
const MODULES: [&str; 3] = ["one", "two", "three"];
const FUNCTIONS_PER_MODULE: usize = 8;

/// Where everything of a run is.
pub(crate) struct Subject {
    folder: PathBuf,
    /// The executable under test.
    pub(crate) relive: PathBuf,
    pub(crate) what: What,
}

impl Subject {
    /// Writes the sources below `folder`. What was built there before is kept.
    pub(crate) fn write(folder: PathBuf, relive: PathBuf, what: What) -> Result<Subject, String> {
        let subject = Subject { folder, relive, what };
        subject.put("Cargo.toml", MANIFEST)?;
        subject.put("src/main.rs", MAIN)?;
        for name in MODULES {
            subject.put(&format!("src/{name}.rs"), &module())?;
        }
        subject.save(super::OLD)?;
        Ok(subject)
    }

    /// A file or folder of the run.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Has every function return `generation`.
    pub(crate) fn save(&self, generation: u32) -> Result<(), String> {
        self.put("src/generation.rs", &format!("pub const GENERATION: u32 = {generation};\n"))
    }

    /// Writes a file in one rename, unless it is as it should be.
    fn put(&self, name: &str, text: &str) -> Result<(), String> {
        crate::files::save(&self.path(name), text)
    }
}

fn module() -> String {
    let names: Vec<_> = (0..FUNCTIONS_PER_MODULE).map(|index| format!("f{index}")).collect();
    let mut text = format!(
        "use crate::generation::GENERATION;\n\npub const CALLS: [fn(u64) -> (u32, u64); {FUNCTIONS_PER_MODULE}] = [{}];\n",
        names.join(", ")
    );
    for name in names {
        text += &format!("\nfn {name}(from: u64) -> (u32, u64) {{\n    (GENERATION, (from..from + 4).sum())\n}}\n");
    }
    text
}
