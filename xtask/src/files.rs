//! Files on disk for the tasks that edit a program, and packages that cargo obtains.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A package that is only there to have cargo fetch others.
const FETCH: &str = "[package]\nname = \"fetch\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\n";

/// Gives an error of the file system its step and file.
pub(crate) fn context<'a>(step: &'a str, path: &'a Path) -> impl FnOnce(std::io::Error) -> String + 'a {
    move |why| format!("cannot {step} `{}`: {why}", path.display())
}

/// The executable under test: `RELIVE`, or the release build.
pub(crate) fn relive(root: &Path) -> Result<PathBuf, String> {
    let built = || crate::steps::target_dir(root).join("release/cargo-relive");
    let relive = env::var_os("RELIVE").map_or_else(built, PathBuf::from);
    if relive.exists() {
        Ok(relive)
    } else {
        Err(format!("there is no `{}`: run `cargo build --release`, or set RELIVE", relive.display()))
    }
}

/// Writes a file that is not so already.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    if fs::read(path).is_ok_and(|now| now == bytes) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(context("create", folder))?;
    }
    fs::write(path, bytes).map_err(context("write", path))
}

/// Writes a file in one rename, unless it is so already.
pub(crate) fn save(path: &Path, text: &str) -> Result<(), String> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let scratch = path.with_extension("saving~");
    fs::create_dir_all(path.parent().unwrap_or(Path::new(""))).map_err(context("make the folder of", path))?;
    fs::write(&scratch, text).map_err(context("write", &scratch))?;
    fs::rename(&scratch, path).map_err(context("write", path))
}

/// Has cargo copy packages as they were published into `folder`, each once, as `NAME-VERSION`.
pub(crate) fn obtain(folder: &Path, packages: &[(&str, &str)]) -> Result<(), String> {
    let place = |(name, version): &(&str, &str)| folder.join(format!("{name}-{version}"));
    if packages.iter().all(|package| place(package).exists()) {
        return Ok(());
    }
    let (fetch, vendored) = (folder.join("fetch"), folder.join("vendored"));
    let manifest = fetch.join("Cargo.toml");
    let lines = packages.iter().map(|(name, version)| format!("{name} = \"={version}\"\n"));
    write(&fetch.join("src/lib.rs"), b"")?;
    write(&manifest, format!("{FETCH}{}\n[workspace]\n", lines.collect::<String>()).as_bytes())?;
    let to = vendored.to_str().ok_or("the target directory has a name that is not UTF-8")?;
    cargo(&["vendor", "--versioned-dirs", to], &manifest)?;
    for package in packages.iter().filter(|package| !place(package).exists()) {
        let (from, to) = (vendored.join(place(package).file_name().unwrap_or_default()), place(package));
        fs::rename(&from, to).map_err(context("take", &from))?;
    }
    fs::remove_dir_all(&vendored).map_err(context("remove", &vendored))
}

/// Runs cargo on a manifest.
pub(crate) fn cargo(words: &[&str], manifest: &Path) -> Result<(), String> {
    let mut command = Command::new("cargo");
    command.args(words).arg("--manifest-path").arg(manifest);
    crate::steps::without_cargos_variables(&mut command);
    let output = command.output().map_err(|why| format!("cannot start cargo: {why}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("`cargo {}` failed:\n{}", words.join(" "), String::from_utf8_lossy(&output.stderr)))
    }
}
