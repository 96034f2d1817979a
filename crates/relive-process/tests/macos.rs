//! The calls of macOS compile for both of its machines. They are not run: that takes a Mac.
//!
//! A target that is not installed is said and left out; `.ci/run` installs both.

use std::path::Path;
use std::process::Command;

#[test]
fn control_of_a_process_compiles_for_both_machines_of_macos() {
    for target in ["aarch64-apple-darwin", "x86_64-apple-darwin"] {
        let libraries = Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output();
        let libraries = String::from_utf8(libraries.expect("rustc is there").stdout).expect("it is a path");
        if !Path::new(libraries.trim()).exists() {
            eprintln!("{target} is not installed: rustup target add {target}");
            continue;
        }
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["check", "--quiet", "--locked", "--lib", "--target", target, "--manifest-path"]);
        cargo.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
        cargo.arg("--target-dir").arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("macos"));
        cargo.env("RUSTFLAGS", "-D warnings").env_remove("RUSTC_WORKSPACE_WRAPPER");
        assert!(cargo.status().is_ok_and(|status| status.success()), "{cargo:?} works");
    }
}
