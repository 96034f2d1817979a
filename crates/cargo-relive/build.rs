//! Builds the agent, a shared object, and leaves it in `OUT_DIR` for `include_bytes!`.
//!
//! Takes the sources beside this crate, gives `$OUT_DIR/relive-agent.so`. It builds with a cargo of its own, because
//! the agent needs `panic = "abort"` and none of the wrappers and flags that the outer build runs under.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Settings of the outer build that would reach into the agent's.
const NOT_FOR_THE_AGENT: [&str; 13] = [
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "CLIPPY_ARGS",
    "RELIVE_ROLE",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
];

fn main() {
    let crates = required("CARGO_MANIFEST_DIR");
    let crates = Path::new(&crates).parent().expect("this crate lies beside the agent's");
    let manifest = crates.join("relive-agent/Cargo.toml");
    for source in ["relive-agent/src", "relive-agent/Cargo.toml", "relive-wire/src", "relive-wire/Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", crates.join(source).display());
    }
    let out = PathBuf::from(required("OUT_DIR"));
    let target_dir = out.join("agent-target");
    let locked = crates.parent().is_some_and(|root| root.join("Cargo.lock").exists());
    // What the outer build was told about the network and the lock file does not reach a build script; the strictest
    // setting comes first, so that a locked or offline build stays one.
    let strict: &[&str] = if locked { &["--offline", "--locked"] } else { &["--offline"] };
    if let Err(first) = build(&manifest, &target_dir, strict)
        && let Err(second) = build(&manifest, &target_dir, &[])
    {
        panic!("the agent does not build\n--- with {strict:?}\n{first}\n--- with the network\n{second}");
    }
    let built = target_dir.join(required("TARGET")).join("release/librelive_agent.so");
    let kept = out.join("relive-agent.so");
    if let Err(why) = fs::copy(&built, &kept) {
        panic!("cannot copy the agent from `{}` to `{}`: {why}", built.display(), kept.display());
    }
}

/// Runs cargo for the agent; its output if it failed.
fn build(manifest: &Path, target_dir: &Path, flags: &[&str]) -> Result<(), String> {
    let mut cargo = Command::new(required("CARGO"));
    cargo.args(["build", "--release", "--manifest-path"]).arg(manifest);
    cargo.arg("--target-dir").arg(target_dir).arg("--target").arg(required("TARGET")).args(flags);
    for key in NOT_FOR_THE_AGENT {
        cargo.env_remove(key);
    }
    cargo.env("CARGO_PROFILE_RELEASE_PANIC", "abort").env("CARGO_PROFILE_RELEASE_DEBUG", "false");
    let output = cargo.output().map_err(|why| format!("cannot run {cargo:?}: {why}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// A variable that cargo always sets for a build script.
fn required(key: &str) -> OsString {
    env::var_os(key).unwrap_or_else(|| panic!("`{key}` is not set: this program is a build script of cargo"))
}
