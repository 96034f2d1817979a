//! Small programs to objects, by the real compiler.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use relive::binary::types::{ObjectTypes, read};

/// What the object of `source` says; `name` and `version` keep the files of different tests apart.
pub(crate) fn object(name: &str, version: &str, source: &str) -> ObjectTypes {
    object_with(name, version, source, &[])
}

/// The same with further flags for rustc.
pub(crate) fn object_with(name: &str, version: &str, source: &str, flags: &[&str]) -> ObjectTypes {
    read(&bytes(name, version, source, flags)).unwrap()
}

/// The object of `source`, a library crate called `app`. One that was made of the same by the same compiler is taken again.
pub(crate) fn bytes(name: &str, version: &str, source: &str, flags: &[&str]) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("types").join(name).join(version);
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let made_of = format!("{}\n{flags:?}\n{source}", version_of(&rustc));
    let stamp = folder.join("made-of");
    if std::fs::read_to_string(&stamp).is_ok_and(|known| known == made_of) {
        return std::fs::read(folder.join("app.o")).unwrap();
    }
    std::fs::create_dir_all(&folder).unwrap();
    let _ = std::fs::remove_file(&stamp);
    std::fs::write(folder.join("app.rs"), source).unwrap();
    let output = Command::new(rustc)
        .current_dir(&folder)
        .args(["--edition=2024", "--crate-type=lib", "--crate-name=app", "--emit=obj", "-Ccodegen-units=1"])
        .args(["-Cdebuginfo=2", "-Awarnings", "-o", "app.o"])
        .args(flags)
        .arg("app.rs")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::write(stamp, made_of).unwrap();
    std::fs::read(folder.join("app.o")).unwrap()
}

fn version_of(rustc: &std::ffi::OsStr) -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        let output = Command::new(rustc).arg("-vV").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    })
}
