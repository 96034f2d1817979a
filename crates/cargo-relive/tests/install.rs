//! `cargo install --path crates/cargo-relive` is the whole installation: it works when the clone is gone. Slow, so it is
//! ignored here and a step of its own in `cargo xtask ci`.

mod support;

use std::fs;
use std::path::Path;

use support::{Scratch, command, copy};

#[test]
#[ignore = "builds everything anew: a step of `cargo xtask ci`"]
fn what_is_installed_works_with_the_clone_deleted() {
    let scratch = Scratch::new("install");
    let (clone, root) = (scratch.0.join("clone"), scratch.0.join("root"));
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    copy(&tree, &clone, &|name| matches!(name, "target" | ".git"));
    let mut install = command("cargo", &clone);
    install.args(["install", "--locked", "--debug", "--path", "crates/cargo-relive", "--root"]).arg(&root);
    // Dependencies that the tests have built already are used again; what is ours is built from the clone.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a target directory");
    let status = install.env("CARGO_TARGET_DIR", target).status().expect("cargo runs");
    assert!(status.success());
    fs::remove_dir_all(&clone).expect("the clone goes away");
    let demo = command(root.join("bin/cargo-relive"), &scratch.0).arg("demo").output().expect("it runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&demo.stdout), String::from_utf8_lossy(&demo.stderr));
    assert!(demo.status.success(), "{stdout}\n{stderr}");
    assert_eq!(stdout.matches("\n  applied: ").count(), 3, "{stdout}\n{stderr}");
    assert_eq!(stdout.matches("\n  refused: ").count(), 1, "{stdout}\n{stderr}");
}
