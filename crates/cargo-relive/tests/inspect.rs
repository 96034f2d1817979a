//! `cargo relive inspect` as a user calls it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const RELIVE: &str = env!("CARGO_BIN_EXE_cargo-relive");

/// A folder of its own for a test.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("inspect-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("the target directory is writable");
    folder
}

/// A copy of relive itself, outside of any target directory that it was used in.
fn binary(folder: &Path) -> PathBuf {
    let binary = folder.join("program");
    fs::copy(RELIVE, &binary).expect("relive can be copied");
    binary
}

fn inspect(cache: &Path, args: &[&str], binary: &Path) -> Output {
    let mut command = Command::new(RELIVE);
    command.arg("inspect").args(args).arg(binary).env("XDG_CACHE_HOME", cache);
    command.output().expect("relive runs")
}

fn document(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

#[test]
fn the_document_has_everything_and_the_index_is_used_again() {
    let folder = folder("document");
    let (cache, binary) = (folder.join("cache"), binary(&folder));
    let first = document(&inspect(&cache, &["--json"], &binary));
    assert_eq!(first["index"]["source"], "built");
    assert_eq!(
        (&first["format"], &first["machine"], &first["kind"]),
        (&"ELF".into(), &"x86-64".into(), &"executable".into())
    );
    assert_eq!(first["key"]["what"], "build-id");
    assert!(first["segments"].as_array().is_some_and(|all| all.iter().any(|segment| segment["access"] == "r-x")));
    assert!(first["symbols"].is_null());
    let again = document(&inspect(&cache, &["--json", "--symbols"], &binary));
    assert_eq!(again["index"]["source"], "kept");
    let path = again["index"]["path"].as_str().expect("a path");
    assert!(Path::new(path).starts_with(cache.join("relive")) && Path::new(path).is_file(), "{path}");
    let symbols = again["symbols"].as_array().expect("symbols");
    assert_eq!(first["counts"], again["counts"]);
    assert_eq!(symbols.len() as u64, again["counts"]["symbols"].as_u64().expect("a number"));
    let main = symbols.iter().find(|symbol| symbol["name"] == "main").expect("it has a `main`");
    assert_eq!(
        (&main["kind"], &main["binding"], &main["shared"]),
        (&"function".into(), &"global".into(), &false.into())
    );
    assert!(main["room"].as_u64() >= main["size"].as_u64());
}

#[test]
fn a_session_s_folder_is_preferred() {
    let folder = folder("session");
    let target = folder.join("target");
    fs::create_dir_all(target.join("relive/tool")).expect("a folder");
    let binary = binary(&target);
    let said = document(&inspect(&folder.join("cache"), &["--json"], &binary));
    let path = said["index"]["path"].as_str().expect("a path");
    assert!(
        Path::new(path).ends_with(Path::new("relive/snapshots").join(Path::new(path).file_name().expect("a name")))
    );
    assert!(!folder.join("cache").exists());
}

#[test]
fn a_page_for_people_and_a_cache_that_cannot_be_written() {
    let folder = folder("page");
    let (cache, binary) = (folder.join("cache"), binary(&folder));
    fs::write(&cache, "no folder").expect("the folder is ours");
    let output = inspect(&cache, &[], &binary);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    for line in
        ["build-id ", "segment ", "symbols ", "functions ", "units ", "index        built, and not kept: ", "read in "]
    {
        assert!(text.lines().any(|found| found.starts_with(line)), "no `{line}` in:\n{text}");
    }
}

#[test]
fn what_is_no_binary_is_an_error_with_path_and_step() {
    let folder = folder("error");
    let text = folder.join("text");
    fs::write(&text, "text").expect("the folder is ours");
    let output = inspect(&folder, &["--json"], &text);
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(125), true));
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(said.contains(&format!("cannot read the symbols of `{}`: file header", text.display())), "{said}");
}
