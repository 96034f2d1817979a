//! Our own output folder for rustc, one for each of cargo's: takes cargo's folder, gives ours, and puts ours back to what
//! cargo has before cargo builds. Replays write here only, so cargo's files are never touched.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::outputs::Records;
use super::record::{self, Identity};
use crate::Error;

/// The folder that stands for `cargo_dir`.
pub(crate) fn folder(relive_dir: &Path, cargo_dir: &Path) -> PathBuf {
    let name = xxh3_64(cargo_dir.as_os_str().as_encoded_bytes());
    relive_dir.join("out").join(format!("{name:016x}"))
}

/// The file in `folder` that stands for `path`, if there is one.
pub(crate) fn ours(folder: &Path, path: &Path) -> Option<PathBuf> {
    Some(folder.join(path.file_name()?)).filter(|ours| ours.is_file())
}

/// The same, if it is the very file that cargo has.
pub(crate) fn linked(folder: &Path, path: &Path) -> Option<PathBuf> {
    let same = |ours: &PathBuf| matches!((Identity::of(ours), Identity::of(path)), (Ok(a), Ok(b)) if a == b);
    ours(folder, path).filter(same)
}

/// Makes every file in our folders the one that cargo has. A replay that no cargo run followed left newer libraries, and
/// cargo must not build upon them.
pub(crate) fn reset(records: &Records) -> Result<(), Error> {
    let pairs = records.iter().filter_map(|known| {
        let output: &Path = Path::new(&known.record.output.0);
        Some((PathBuf::from(&known.record.out_dir.0), output.parent()?.to_owned()))
    });
    let pairs: BTreeMap<PathBuf, PathBuf> = pairs.filter(|(ours, cargo)| ours != cargo).collect();
    for (ours, cargo) in pairs {
        for file in fs::read_dir(&ours).into_iter().flatten().flatten().map(|entry| entry.path()) {
            let theirs = cargo.join(file.file_name().unwrap_or_default());
            match (Identity::of(&file), Identity::of(&theirs)) {
                (Ok(mine), Ok(now)) if mine == now => {}
                (_, Ok(_)) if file.extension().is_some_and(|end| end == "d") => {}
                (_, Ok(_)) => record::link_or_copy(&theirs, &file)?,
                // Split debug info has no counterpart; executables name it by its place here.
                (_, Err(_)) if file.extension().is_some_and(|end| end == "dwo") => {}
                // A rustc that was killed leaves folders for what it was about to write.
                (_, Err(_)) if file.is_dir() => {
                    fs::remove_dir_all(&file).map_err(|why| Error::file(&file, "remove", why))?;
                }
                (_, Err(_)) => fs::remove_file(&file).map_err(|why| Error::file(&file, "remove", why))?,
            }
        }
    }
    Ok(())
}
