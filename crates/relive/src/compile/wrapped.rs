//! What cargo asks of the rustc wrapper: takes the wrapper's command line, gives rustc's with the user's own wrappers
//! before it, and says whether the crate is one to keep. It runs nothing.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::arguments::Arguments;
use super::{config, link_line, project, roles};
use crate::Error;

/// One call of the wrapper.
pub(crate) struct Wrapped {
    /// The user's own wrappers, then rustc.
    pub(crate) program: Vec<OsString>,
    /// rustc's arguments as given.
    pub(crate) given: Vec<OsString>,
    /// The same without response files.
    pub(crate) args: Vec<OsString>,
    pub(crate) parsed: Arguments,
    /// Whether cargo calls this a crate of the workspace.
    member: bool,
}

impl Wrapped {
    /// Understands `command`: `rustc args..`, with our name before it once more for a member of the workspace, because
    /// cargo puts the workspace's wrapper inside the general one.
    pub(crate) fn parse(command: &[OsString], relive: &Path) -> Result<Wrapped, Error> {
        let ours = project::wrapper_path(relive);
        let (member, command) = match command.split_first() {
            Some((first, rest)) if Path::new(first) == ours => (true, rest),
            _ => (false, command),
        };
        let Some((rustc, given)) = command.split_first() else {
            return Err(Error::Fatal("the rustc wrapper was started without rustc's name".to_owned()));
        };
        let mut program: Vec<OsString> = std::env::var_os(roles::USER_WRAPPER).into_iter().collect();
        program.extend(std::env::var_os(roles::USER_WORKSPACE_WRAPPER).filter(|_| member));
        program.push(rustc.clone());
        let args = link_line::expand(given)?;
        let parsed = Arguments::parse(&args, std::env::var_os("CARGO_BIN_NAME").is_some());
        Ok(Wrapped { program, given: given.to_vec(), args, parsed, member })
    }

    /// Whether the crate can change while the program runs: the user edits it, or it uses a crate that he edits.
    pub(crate) fn is_kept(&self, relive: &Path) -> bool {
        let units = relive.join("units");
        let mut libraries = self.parsed.externs.iter().map(|(_, path)| path);
        let mut uses_kept = || libraries.any(|path| key_of(path).is_some_and(|key| units.join(key).is_dir()));
        self.parsed.makes_a_crate() && (self.member || is_edited_here() || uses_kept())
    }
}

/// Whether the package lies where the user keeps his sources: not where cargo unpacks or checks out, and not among
/// vendored sources, which cargo holds to a checksum.
fn is_edited_here() -> bool {
    let Some(package) = std::env::var_os("CARGO_MANIFEST_DIR").map(|folder| real(Path::new(&folder))) else {
        return false;
    };
    let cargo = config::cargo_home().map(|home| real(&home)).unwrap_or_default();
    let fetched = ["registry", "git"].iter().any(|folder| package.starts_with(cargo.join(folder)));
    !fetched && !package.join(".cargo-checksum.json").is_file()
}

fn real(path: &Path) -> std::path::PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// The name of the unit that made the library at `path`.
fn key_of(path: &Path) -> Option<&str> {
    path.file_stem()?.to_str()?.strip_prefix("lib")
}
