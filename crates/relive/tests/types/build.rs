//! Small programs to objects, by the real compiler.

use std::path::PathBuf;
use std::process::Command;

use relive::binary::types::{ObjectTypes, read};

/// What the object of `source` says; `name` and `version` keep the files of different tests apart.
pub(crate) fn object(name: &str, version: &str, source: &str) -> ObjectTypes {
    object_with(name, version, source, &[])
}

/// The same with further flags for rustc.
pub(crate) fn object_with(name: &str, version: &str, source: &str, flags: &[&str]) -> ObjectTypes {
    read(&bytes(name, version, source, flags)).unwrap()
}

/// The object of `source`, a library crate called `app`.
pub(crate) fn bytes(name: &str, version: &str, source: &str, flags: &[&str]) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("types").join(name).join(version);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("app.rs"), source).unwrap();
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .current_dir(&folder)
        .args(["--edition=2024", "--crate-type=lib", "--crate-name=app", "--emit=obj", "-Ccodegen-units=1"])
        .args(["-Cdebuginfo=2", "-Awarnings", "-o", "app.o"])
        .args(flags)
        .arg("app.rs")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(folder.join("app.o")).unwrap()
}
