//! What the program is linked from and relive does not compile: takes a link line and the crates that relive knows, gives
//! a value to compare with that of a later build. Libraries that cargo made are told by which file they are, native code
//! by what is in it, for build scripts like to write the same once more. What differs is not loaded here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::arguments::Role;
use super::objects;
use super::outputs::Known;
use super::record::Identity;
use crate::Error;

/// The foreign parts of one build of the program.
#[derive(Debug, Default)]
pub(crate) struct Foreign {
    /// Libraries of crates, by path.
    rlibs: BTreeMap<PathBuf, Identity>,
    /// Native libraries and objects by path, and native code inside a crate's library by the crate's name.
    native: BTreeMap<PathBuf, u64>,
}

impl Foreign {
    /// Looks at the linker's `args` for a program made of the crates `linked`; `rlibs` are the other libraries on it.
    pub(crate) fn read(args: &[OsString], cwd: &Path, linked: &[&Known], rlibs: &[PathBuf]) -> Result<Foreign, Error> {
        let mut found = Foreign::default();
        for path in rlibs {
            found.rlibs.insert(path.clone(), Identity::of(path)?);
        }
        for path in native_files(args, cwd) {
            let content = fs::read(&path).map_err(|why| Error::file(&path, "read", why))?;
            found.native.insert(path, xxh3_64(&content));
        }
        for known in linked.iter().filter(|known| known.parsed.role() == Role::Lib) {
            if let Some(content) = objects::native_members(Path::new(&known.record.output.0))? {
                let inside = format!("native code of {}", known.parsed.crate_name);
                found.native.insert(inside.into(), content);
            }
        }
        Ok(found)
    }

    /// Names of what is another one in `now`, or gone where it cannot just be unused. Additions are none.
    pub(crate) fn changed(&self, now: &Foreign) -> Vec<String> {
        let added: Vec<String> =
            now.rlibs.keys().filter(|path| !self.rlibs.contains_key(*path)).map(|path| crate_of(path)).collect();
        let rlibs = self.rlibs.iter().filter(|(path, was)| match now.rlibs.get(*path) {
            Some(is) => is != *was,
            // Another version, or with other features. The standard library's crates are never just unused.
            None => added.contains(&crate_of(path)) || path.components().any(|part| part.as_os_str() == "rustlib"),
        });
        let native = self.native.iter().filter(|(path, was)| now.native.get(*path) != Some(was));
        let mut names: Vec<String> = rlibs.map(|(path, _)| crate_of(path)).collect();
        names.extend(native.map(|(path, _)| path.display().to_string()));
        names.sort();
        names.dedup();
        names
    }
}

/// `libserde-0123abcd.rlib` is `serde`.
fn crate_of(rlib: &Path) -> String {
    let stem = rlib.file_stem().unwrap_or_default().to_string_lossy();
    let name = stem.strip_prefix("lib").unwrap_or(&stem);
    name.rsplit_once('-').map_or(name, |(name, _)| name).to_owned()
}

/// The native files on a link line: named as they are, or by `-l` and found in a folder of `-L`. The system's own are in
/// none of these folders.
fn native_files(args: &[OsString], cwd: &Path) -> Vec<PathBuf> {
    let after = |flag: &[u8]| -> Vec<PathBuf> {
        let inline = args.iter().filter_map(|arg| arg.as_bytes().strip_prefix(flag).filter(|rest| !rest.is_empty()));
        let apart = args.iter().zip(args.iter().skip(1)).filter(|(arg, _)| arg.as_bytes() == flag);
        let bytes = inline.chain(apart.map(|(_, value)| value.as_bytes()));
        bytes.map(|bytes| PathBuf::from(OsString::from_vec(bytes.to_vec()))).collect()
    };
    let (folders, libraries, output) = (after(b"-L"), after(b"-l"), after(b"-o"));
    let mut found = Vec::new();
    for name in libraries.iter().map(|name| name.to_string_lossy()) {
        // A colon says that this is the whole file name.
        let files = match name.strip_prefix(':') {
            Some(file) => vec![file.to_owned()],
            None => vec![format!("lib{name}.so"), format!("lib{name}.a")],
        };
        let places = folders.iter().map(|folder| cwd.join(folder));
        let files = places.flat_map(|folder| files.iter().map(move |file| folder.join(file)).collect::<Vec<_>>());
        found.extend(files.filter(|path| path.is_file()));
    }
    let native = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let ours = name.ends_with(".rcgu.o") || name.ends_with(".rlib");
        !ours && [".o", ".a", ".so"].iter().any(|end| name.ends_with(end)) && path.is_file()
    };
    let named = args.iter().filter(|arg| !arg.as_bytes().starts_with(b"-")).map(PathBuf::from);
    let named = named.filter(|path| !output.contains(path)).map(|path| cwd.join(path));
    found.extend(named.filter(native));
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foreign(rlibs: &[(&str, u64)], native: &[(&str, u64)]) -> Foreign {
        let identity = |ino: u64| Identity { dev: 1, ino, size: 0, mtime_s: 0, mtime_ns: 0 };
        Foreign {
            rlibs: rlibs.iter().map(|(path, ino)| (path.into(), identity(*ino))).collect(),
            native: native.iter().map(|(path, content)| (path.into(), *content)).collect(),
        }
    }

    #[test]
    fn another_file_another_version_and_other_native_code_are_changes() {
        let rlibs = [("/d/libserde-1a.rlib", 1), ("/d/libold-2b.rlib", 2), ("/s/rustlib/libpanic_unwind-3.rlib", 3)];
        let first = foreign(&rlibs, &[("/o/libz.a", 7), ("native code of sys", 8)]);
        let same = foreign(&rlibs, &[("/o/libz.a", 7), ("native code of sys", 8)]);
        assert!(first.changed(&same).is_empty());
        let now = [("/d/libserde-1a.rlib", 9), ("/d/libnew-2b.rlib", 2), ("/s/rustlib/libpanic_unwind-3.rlib", 3)];
        assert_eq!(first.changed(&foreign(&now, &[("/o/libz.a", 7), ("native code of sys", 8)])), ["serde"]);
        let now = [("/d/libserde-1a.rlib", 1), ("/d/libold-4d.rlib", 4)];
        let changed = first.changed(&foreign(&now, &[("/o/libz.a", 6)]));
        assert_eq!(changed, ["/o/libz.a", "native code of sys", "old", "panic_unwind"]);
    }

    #[test]
    fn native_files_are_named_or_searched_for() {
        let folder = std::env::temp_dir().join(format!("relive-native-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("creates");
        for file in ["libz.a", "extra.o", "out.so", "app.1.rcgu.o"] {
            fs::write(folder.join(file), file).expect("writes");
        }
        let mut search = OsString::from("-L");
        search.push(&folder);
        let line = ["-lz", "-lc", "extra.o", "app.1.rcgu.o", "-o", "out.so"].map(OsString::from);
        let args: Vec<OsString> = [search].into_iter().chain(line).collect();
        let found = native_files(&args, &folder);
        fs::remove_dir_all(&folder).expect("removes");
        assert_eq!(found, [folder.join("extra.o"), folder.join("libz.a")]);
    }
}
