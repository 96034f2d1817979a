//! Where a cargo project keeps things: takes the user's flags, asks cargo, gives folders and manifests, and makes
//! relive's own folder below the target directory with its lock and tool links. It builds nothing.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::Deserialize;

use super::{BuildSettings, FirstBuildError};
use crate::Error;

/// What cargo says about the project.
#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) target_dir: PathBuf,
    pub(crate) relive_dir: PathBuf,
    /// Manifests, lock file, toolchain file and cargo's configuration: what only cargo understands.
    pub(crate) manifests: Vec<PathBuf>,
    pub(crate) lock_file: PathBuf,
    /// The workspace's folder, where cargo starts rustc for members.
    pub(crate) root: PathBuf,
    /// Targets that the program may be built for; the host is always among them.
    pub(crate) triples: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    manifest_path: PathBuf,
}

impl Project {
    /// Asks cargo about the project that `settings` select; what cargo says against it is given to `say`.
    pub(crate) fn find(settings: &BuildSettings, say: &mut dyn FnMut(String)) -> Result<Project, FirstBuildError> {
        let flags = Flags::of(&settings.cargo_run_args);
        let metadata = ask(settings, ["metadata", "--no-deps", "--format-version", "1"], &flags.for_metadata)?;
        let version = ask(settings, ["-vV"], &[])?;
        let metadata = answer(settings, metadata, say)?;
        let version = answer(settings, version, say)?;
        let metadata: Metadata = serde_json::from_slice(&metadata)
            .map_err(|why| Error::file(&settings.cargo, "understand the metadata of", why))?;
        let target_dir = match &flags.target_dir {
            Some(given) => settings.cwd.join(given),
            None => metadata.target_directory,
        };
        let mut manifests: Vec<PathBuf> = metadata.packages.into_iter().map(|package| package.manifest_path).collect();
        let root = &metadata.workspace_root;
        manifests.extend(["Cargo.toml", "rust-toolchain", "rust-toolchain.toml"].map(|name| root.join(name)));
        manifests.extend(super::config::files(&settings.cwd));
        manifests.retain(|path| path.is_file());
        manifests.sort();
        manifests.dedup();
        let mut triples = flags.triples;
        triples.extend(host(&version));
        Ok(Project {
            relive_dir: target_dir.join("relive"),
            target_dir,
            lock_file: root.join("Cargo.lock"),
            root: root.clone(),
            manifests,
            triples,
        })
    }

    /// Makes relive's folder with its tool links and takes the lock on it; dropping the file gives the lock back.
    pub(crate) fn enter(&self, self_exe: &Path) -> Result<File, Error> {
        tag_target_dir(&self.target_dir)?;
        let linkers = self.relive_dir.join("tool").join("linker");
        fs::create_dir_all(&linkers).map_err(|why| Error::file(&linkers, "create", why))?;
        let lock = lock(&self.relive_dir)?;
        point(&wrapper_path(&self.relive_dir), self_exe)?;
        Ok(lock)
    }
}

/// The path under which cargo knows our wrapper. It stays the same for a target directory, because cargo keeps the
/// outputs of each wrapper apart by its path.
pub(crate) fn wrapper_path(relive_dir: &Path) -> PathBuf {
    relive_dir.join("tool").join("rustc-wrapper")
}

/// Makes `link` a symbolic link to `to`, unless it is one.
pub(crate) fn point(link: &Path, to: &Path) -> Result<(), Error> {
    if fs::read_link(link).is_ok_and(|now| now == to) {
        return Ok(());
    }
    let temporary = link.with_extension(format!("{}.tmp", std::process::id()));
    std::os::unix::fs::symlink(to, &temporary).map_err(|why| Error::file(&temporary, "create", why))?;
    fs::rename(&temporary, link).map_err(|why| Error::file(link, "put in place", why))
}

/// Cargo marks a target directory as a cache when it creates it; since relive's folder can come first, so does relive.
fn tag_target_dir(target_dir: &Path) -> Result<(), Error> {
    if target_dir.exists() {
        return Ok(());
    }
    fs::create_dir_all(target_dir).map_err(|why| Error::file(target_dir, "create", why))?;
    let tag = target_dir.join("CACHEDIR.TAG");
    let text = "Signature: 8a477f597d28d172789f06886806bc55\n\
                # This file is a cache directory tag created by cargo.\n\
                # For information about cache directory tags see https://bford.info/cachedir/\n";
    fs::write(&tag, text).map_err(|why| Error::file(&tag, "write", why))
}

fn lock(relive_dir: &Path) -> Result<File, Error> {
    let path = relive_dir.join("lock");
    let failed = |why: std::io::Error| Error::file(&path, "lock", why);
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(failed)?;
            let (pid, folder) = (pid.trim(), relive_dir.display());
            return Err(Error::Busy(format!(
                "another relive session (pid {pid}) uses `{folder}`; end it, or give this one its own `--target-dir`"
            )));
        }
        Err(TryLockError::Error(why)) => return Err(failed(why)),
    }
    file.set_len(0).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

/// The flags of `cargo run` that say where things are.
struct Flags {
    for_metadata: Vec<OsString>,
    target_dir: Option<PathBuf>,
    triples: Vec<String>,
}

impl Flags {
    fn of(args: &[OsString]) -> Flags {
        let mut flags = Flags { for_metadata: Vec::new(), target_dir: None, triples: Vec::new() };
        flags.triples.extend(std::env::var("CARGO_BUILD_TARGET").ok().as_deref().map(triple_of));
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let text = arg.to_string_lossy();
            let (name, inline) = match text.split_once('=') {
                Some((name, _)) if name.starts_with("--") => (name.to_owned(), Some(after_equals(arg))),
                _ => (text.into_owned(), None),
            };
            match name.as_str() {
                "--offline" | "--locked" | "--frozen" => flags.for_metadata.push(arg.clone()),
                "--manifest-path" | "--config" | "--target-dir" | "--target" | "-Z" | "--lockfile-path" => {
                    if let Some(value) = inline.or_else(|| rest.next().cloned()) {
                        flags.take(&name, value);
                    }
                }
                _ => {}
            }
        }
        flags
    }

    fn take(&mut self, name: &str, value: OsString) {
        match name {
            "--target-dir" => self.target_dir = Some(value.into()),
            "--target" => self.triples.push(triple_of(&value.to_string_lossy())),
            _ => self.for_metadata.extend([name.into(), value]),
        }
    }
}

fn after_equals(arg: &OsStr) -> OsString {
    let bytes = arg.as_bytes();
    let at = bytes.iter().position(|&byte| byte == b'=').map_or(bytes.len(), |at| at.saturating_add(1));
    OsStr::from_bytes(bytes.get(at..).unwrap_or_default()).to_owned()
}

/// A target is given by name or by a JSON file with that name.
fn triple_of(target: &str) -> String {
    match target.strip_suffix(".json") {
        Some(path) => Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned(),
        None => target.to_owned(),
    }
}

fn host(version: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(version);
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned)
}

fn ask<const N: usize>(settings: &BuildSettings, args: [&str; N], more: &[OsString]) -> Result<Child, Error> {
    let mut cargo = Command::new(&settings.cargo);
    cargo.args(args).args(more).current_dir(&settings.cwd);
    cargo.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    cargo.spawn().map_err(|why| Error::file(&settings.cargo, "start", why))
}

fn answer(settings: &BuildSettings, child: Child, say: &mut dyn FnMut(String)) -> Result<Vec<u8>, FirstBuildError> {
    let output = child.wait_with_output().map_err(|why| Error::file(&settings.cargo, "wait for", why))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    String::from_utf8_lossy(&output.stderr).lines().for_each(|line| say(line.to_owned()));
    Err(FirstBuildError::CargoFailed(output.status.code().unwrap_or(101)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_say_where_things_are() {
        let args =
            ["-p", "app", "--target-dir=t", "--manifest-path", "a/Cargo.toml", "--target", "x/my-os.json", "--locked"];
        let flags = Flags::of(&args.map(OsString::from));
        assert_eq!(flags.target_dir.as_deref(), Some(Path::new("t")));
        assert_eq!(flags.for_metadata, ["--manifest-path", "a/Cargo.toml", "--locked"]);
        assert!(flags.triples.contains(&"my-os".to_owned()));
    }
}
