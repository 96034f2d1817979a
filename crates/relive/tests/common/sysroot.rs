//! Where the compiler is installed.

use std::path::PathBuf;
use std::process::Command;

/// rustc's sysroot.
pub(crate) fn sysroot() -> PathBuf {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let out = Command::new(rustc).args(["--print", "sysroot"]).output().expect("rustc runs");
    PathBuf::from(String::from_utf8(out.stdout).expect("a path").trim())
}
