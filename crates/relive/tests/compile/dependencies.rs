//! Crates beside the workspace: path dependencies, dependencies that come and go, and what relive does not compile.

use std::fs;
use std::path::{Path, PathBuf};

use relive::change::{Change, classify};
use relive::compile::{Baseline, Build, ObjectFile, Rebuilt, rebuild, rebuild_with_cargo};

use crate::support::*;

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("a_path_dependency_is_a_unit", a_path_dependency_is_a_unit),
    (
        "a_path_dependency_of_cargos_own_build_is_made_once_more",
        a_path_dependency_of_cargos_own_build_is_made_once_more,
    ),
    ("a_users_edit_and_build_between_sessions", a_users_edit_and_build_between_sessions),
    ("a_dependency_added_leaves_the_crate_its_name", a_dependency_added_leaves_the_crate_its_name),
    ("another_version_of_a_fetched_crate_is_uncaptured", another_version_of_a_fetched_crate_is_uncaptured),
    ("a_fetched_crate_that_uses_an_edited_one_is_a_unit", a_fetched_crate_that_uses_an_edited_one_is_a_unit),
    ("native_code_in_a_unit_is_uncaptured", native_code_in_a_unit_is_uncaptured),
    ("a_script_that_names_nothing_reads_its_package", a_script_that_names_nothing_reads_its_package),
    ("libraries_of_macros_are_cargos_business", libraries_of_macros_are_cargos_business),
    ("what_cargo_could_not_build_stays_cargos", what_cargo_could_not_build_stays_cargos),
];

fn a_path_dependency_is_a_unit() {
    let folder = with_path_dependency("path");
    let (mut baseline, _) = build(&folder);
    assert_eq!(names(&baseline), ["outer", "base", "app", "app"]);
    assert!(baseline.manifests.contains(&folder.parent().expect("has one").join("path-outer/Cargo.toml")));
    let said = cargo_build(&folder);
    assert!(said.contains("Compiling base") && !said.contains("Compiling outer"), "{said}");
    let change = outer_edited(&baseline, &folder);
    assert_eq!((change.units.as_slice(), change.manifests.len()), (&[0][..], 0));
    let new = built(rebuild(&mut baseline, &change, &mut || false));
    assert_eq!(new.units.iter().map(|unit| unit.unit).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_ne!(ids(&new.units[0].objects), ids(&baseline.units[0].objects));
    assert_eq!(new.uncaptured, Vec::<String>::new());
    let said = cargo_build(&folder);
    assert!(said.contains("Compiling outer"), "a replay is none of cargo's business: {said}");
    assert_eq!(output_of(&folder.join("target/debug/app")), "one 6\n");
}

fn a_path_dependency_of_cargos_own_build_is_made_once_more() {
    let folder = with_path_dependency("again");
    cargo_build(&folder);
    let (baseline, said) = build(&folder);
    assert_eq!(names(&baseline), ["outer", "base", "app", "app"]);
    assert!(said.iter().any(|line| line.contains("Compiling outer")), "{said:?}");
    let said = cargo_build(&folder);
    assert!(!said.contains("Compiling"), "{said}");
    // And what the user had compiled against the first one goes together with the second.
    edit(&folder.join("app/src/main.rs"), "one", "two");
    let said = cargo_build(&folder);
    assert!(said.contains("Compiling app") && !said.contains("Compiling base"), "{said}");
    assert_eq!(output_of(&folder.join("target/debug/app")), "two 3\n");
    drop(baseline);
    let (_, said) = build(&folder);
    assert!(!said.iter().any(|line| line.contains("Compiling outer")), "{said:?}");
}

fn a_users_edit_and_build_between_sessions() {
    let folder = with_path_dependency("between");
    drop(build(&folder));
    edit(&outer(&folder), "    1", "    4");
    cargo_build(&folder);
    let (baseline, _) = build(&folder);
    assert_eq!(names(&baseline), ["outer", "base", "app", "app"]);
    assert_eq!(output_of(&baseline.run_exe), "one 6\n");
    assert!(!cargo_build(&folder).contains("Compiling"));
}

fn a_dependency_added_leaves_the_crate_its_name() {
    let folder = workspace("added");
    let (mut baseline, _) = build(&folder);
    let keys: Vec<String> = baseline.units.iter().map(|unit| unit.key.clone()).collect();
    let new = folder.join("../added-new");
    write(&new.join("Cargo.toml"), &package("new"));
    write(&new.join("src/lib.rs"), "pub fn word() -> &'static str {\n    \"two\"\n}\n");
    append(&folder.join("app/Cargo.toml"), "new = { path = \"../../added-new\" }\n");
    edit(&folder.join("app/src/main.rs"), "\"one\"", "new::word()");
    let build = with_cargo(&mut baseline);
    assert_eq!(names(&baseline), ["base", "app", "app", "new"]);
    assert_eq!(baseline.units.iter().map(|unit| unit.key.clone()).collect::<Vec<_>>()[..3], keys);
    assert_eq!((build.uncaptured.len(), units(&build)), (0, vec![1, 2, 3]));
    let bin = &build.units.iter().find(|unit| unit.unit == 2).expect("is built").objects;
    let known = &baseline.units[2].objects;
    // One function is new; a crate with another name has nothing in common with the old one.
    let content = |object: &ObjectFile| fs::read(&object.path).expect("reads");
    let same = bin.iter().filter(|new| known.iter().any(|old| old.cgu == new.cgu && content(old) == content(new)));
    assert!(same.count() + 3 >= bin.len(), "{bin:?}\n{known:?}");
    // An edit of either crate is an ordinary one from now on.
    append(&new.join("src/lib.rs"), "pub const MORE: &str = \"three\";\n");
    edit(&folder.join("app/src/main.rs"), "new::word()", "new::MORE");
    let files = [fs::canonicalize(new.join("src/lib.rs")).expect("exists"), folder.join("app/src/main.rs")];
    let change = classify(&baseline.inputs(), &files);
    assert_eq!((change.units.as_slice(), change.manifests.len()), (&[2, 3][..], 0));
    assert_eq!(units(&built(rebuild(&mut baseline, &change, &mut || false))), [1, 2, 3]);
    // Taken back, everything is what it was.
    edit(&folder.join("app/src/main.rs"), "new::MORE", "\"one\"");
    edit(&folder.join("app/Cargo.toml"), "new = { path = \"../../added-new\" }\n", "");
    let build = with_cargo(&mut baseline);
    assert!(units(&build).contains(&2));
    assert_eq!(baseline.units[2].key, keys[2]);
}

fn another_version_of_a_fetched_crate_is_uncaptured() {
    let folder = with_fetched("version");
    let (mut baseline, _) = build(&folder);
    assert_eq!(names(&baseline), ["base", "app", "app"]);
    assert!(baseline.rlibs.iter().any(|path| path.to_string_lossy().contains("libfetched-")));
    let manifest = folder.join("base/Cargo.toml");
    edit(&manifest, "=1.0.0", "=1.0.1");
    let first = with_cargo(&mut baseline);
    assert_eq!(first.uncaptured, ["fetched"]);
    // It stays so for every later edit.
    edit(&folder.join("app/src/main.rs"), "one", "two");
    let change = change(&baseline, &folder, "app/src/main.rs");
    assert_eq!(built(rebuild(&mut baseline, &change, &mut || false)).uncaptured, ["fetched"]);
    edit(&manifest, "=1.0.1", "=1.0.0");
    assert_eq!(with_cargo(&mut baseline).uncaptured, Vec::<String>::new());
    // The lock file alone says it as well.
    edit(&manifest, "=1.0.0", "1");
    assert_eq!(with_cargo(&mut baseline).uncaptured, Vec::<String>::new());
    let lock = folder.join("Cargo.lock");
    assert!(classify(&baseline.inputs(), std::slice::from_ref(&lock)).is_empty());
    edit(&lock, "\"1.0.0\"", "\"1.0.1\"");
    assert!(baseline.needs_cargo(&classify(&baseline.inputs(), &[lock])));
    assert_eq!(with_cargo(&mut baseline).uncaptured, ["fetched"]);
}

fn a_fetched_crate_that_uses_an_edited_one_is_a_unit() {
    let folder = with_fetched("patched");
    let fetched = folder.join("../patched-fetched/fetched-1.0.0");
    append(&fetched.join("Cargo.toml"), "[dependencies]\ninner = \"1\"\n");
    write(&fetched.join("src/lib.rs"), "pub fn value() -> u32 {\n    inner::value()\n}\n");
    let inner = folder.join("../patched-inner");
    write(&inner.join("Cargo.toml"), &package("inner").replace("0.1.0", "1.0.0"));
    write(&inner.join("src/lib.rs"), "#[inline]\npub fn value() -> u32 {\n    3\n}\n");
    append(&folder.join("Cargo.toml"), "[patch.crates-io]\ninner = { path = \"../patched-inner\" }\n");
    let (mut baseline, _) = build(&folder);
    assert_eq!(names(&baseline), ["inner", "fetched", "base", "app", "app"]);
    let source = fs::canonicalize(inner.join("src/lib.rs")).expect("exists");
    edit(&source, "    3", "    4");
    let change = classify(&baseline.inputs(), &[source]);
    assert_eq!(units(&built(rebuild(&mut baseline, &change, &mut || false))), [0, 1, 2, 3, 4]);
}

fn native_code_in_a_unit_is_uncaptured() {
    let folder = workspace("native");
    append(&folder.join("base/Cargo.toml"), "build = \"build.rs\"\n");
    let manifest = fs::read_to_string(folder.join("base/Cargo.toml")).expect("reads");
    write(&folder.join("base/Cargo.toml"), &manifest.replace("[package]", "[package]\nlinks = \"three\""));
    let script = "use std::process::Command;\nfn main() {\n    let out = std::env::var(\"OUT_DIR\").unwrap();\n    \
                  let object = format!(\"{out}/three.o\");\n    \
                  let run = |command: &mut Command| assert!(command.status().unwrap().success());\n    \
                  run(Command::new(\"cc\").args([\"-c\", \"three.c\", \"-o\", &object]));\n    \
                  run(Command::new(\"ar\").args([\"crsD\", &format!(\"{out}/libthree.a\"), &object]));\n    \
                  println!(\"cargo:rerun-if-changed=three.c\\ncargo:rustc-link-search=native={out}\");\n    \
                  println!(\"cargo:rustc-link-lib=static=three\");\n}\n";
    write(&folder.join("base/build.rs"), script);
    write(&folder.join("base/three.c"), "unsigned three(void) { return 3; }\n");
    write(
        &folder.join("base/src/lib.rs"),
        "extern \"C\" {\n    fn three() -> u32;\n}\npub fn value() -> u32 {\n    unsafe { three() }\n}\n",
    );
    let (mut baseline, _) = build(&folder);
    let source = folder.join("base/three.c");
    assert!(baseline.needs_cargo(&change(&baseline, &folder, "base/three.c")));
    append(&source, "/* the same code */\n");
    assert_eq!(with_cargo(&mut baseline).uncaptured, Vec::<String>::new());
    edit(&source, "return 3", "return 4");
    assert_eq!(with_cargo(&mut baseline).uncaptured, ["native code of base"]);
}

fn a_script_that_names_nothing_reads_its_package() {
    let folder = workspace("unnamed");
    let script = "fn main() {\n    let three = std::fs::read_to_string(\"data/three.txt\").unwrap();\n    \
                  let out = std::env::var(\"OUT_DIR\").unwrap();\n    \
                  std::fs::write(format!(\"{out}/three.rs\"), format!(\"pub const THREE: u32 = {three};\")).unwrap();\n}\n";
    write(&folder.join("base/build.rs"), script);
    write(&folder.join("base/data/three.txt"), "3");
    let source = "include!(concat!(env!(\"OUT_DIR\"), \"/three.rs\"));\npub fn value() -> u32 {\n    THREE\n}\n";
    write(&folder.join("base/src/lib.rs"), source);
    let (mut baseline, _) = build(&folder);
    let data = folder.join("base/data/three.txt");
    let watched = baseline.inputs();
    assert!(watched.files().contains(&data) && watched.cargo.contains(&folder.join("base/build.rs")));
    let generated = |path: &PathBuf| path.ends_with("out/three.rs");
    assert!(baseline.units[0].inputs.iter().any(generated) && !watched.files().iter().any(generated));
    assert_eq!(change(&baseline, &folder, "base/src/lib.rs").manifests, Vec::<PathBuf>::new());
    write(&data, "4");
    let build = with_cargo(&mut baseline);
    assert!(units(&build).contains(&0) && build.uncaptured.is_empty(), "{build:?}");
    // A file that changes nothing, however often it is saved, is the program's own.
    let mut saves = 0;
    while !classify(&baseline.inputs(), std::slice::from_ref(&data)).is_empty() {
        baseline.note_effect(std::slice::from_ref(&data), false);
        saves += 1;
    }
    assert!((2..10).contains(&saves));
}

fn libraries_of_macros_are_cargos_business() {
    let folder = workspace("macros");
    let beside = |name: &str| folder.join(format!("../macros-{name}"));
    write(&beside("shared").join("Cargo.toml"), &package("shared"));
    write(&beside("shared").join("src/lib.rs"), "pub fn text() -> &'static str {\n    \"3\"\n}\n");
    let uses = "[lib]\nproc-macro = true\n[dependencies]\nshared = { path = \"../macros-shared\" }\n";
    write(&beside("number").join("Cargo.toml"), &(package("number") + uses));
    write(
        &beside("number").join("src/lib.rs"),
        "#[proc_macro]\npub fn number(_: proc_macro::TokenStream) -> proc_macro::TokenStream {\n    \
         shared::text().parse().unwrap()\n}\n",
    );
    append(&folder.join("base/Cargo.toml"), "[dependencies]\nnumber = { path = \"../../macros-number\" }\n");
    write(&folder.join("base/src/lib.rs"), "pub fn value() -> u32 {\n    number::number!()\n}\n");
    let source = fs::canonicalize(beside("shared").join("src/lib.rs")).expect("exists");
    cargo_build(&folder);
    let (mut baseline, _) = build(&folder);
    assert_eq!(names(&baseline), ["base", "app", "app"]);
    assert!(!cargo_build(&folder).contains("Compiling"));
    edit(&source, "\"3\"", "\"4\"");
    assert!(baseline.needs_cargo(&classify(&baseline.inputs(), &[source])));
    let build = with_cargo(&mut baseline);
    assert!(units(&build).contains(&0) && build.uncaptured.is_empty(), "{build:?}");
}

fn what_cargo_could_not_build_stays_cargos() {
    let folder = workspace("due");
    let (mut baseline, _) = build(&folder);
    append(&folder.join("app/Cargo.toml"), "[features]\ndefault = [\"loud\"]\nloud = []\n");
    edit(&folder.join("app/src/main.rs"), "\"one\"", "cfg!(feature = \"loud\")");
    let failed = rebuild_with_cargo(&mut baseline, &mut |_| {});
    assert!(matches!(failed, Ok(Rebuilt::CompileError { .. })), "{failed:?}");
    edit(&folder.join("app/src/main.rs"), "cfg!(feature = \"loud\")", "\"one\"");
    assert!(baseline.needs_cargo(&change(&baseline, &folder, "app/src/main.rs")));
    with_cargo(&mut baseline);
    assert!(!baseline.needs_cargo(&Change::default()));
}

/// The workspace, whose `base` uses a crate that lies beside it.
fn with_path_dependency(name: &str) -> PathBuf {
    let folder = workspace(name);
    let beside = folder.join(format!("../{name}-outer"));
    write(&beside.join("Cargo.toml"), &package("outer"));
    write(&beside.join("src/lib.rs"), "pub fn one() -> u32 {\n    1\n}\n");
    append(&folder.join("base/Cargo.toml"), &format!("[dependencies]\nouter = {{ path = \"../../{name}-outer\" }}\n"));
    write(&folder.join("base/src/lib.rs"), "pub fn value() -> u32 {\n    outer::one() + 2\n}\n");
    folder
}

fn outer(folder: &Path) -> PathBuf {
    let name = folder.file_name().expect("has a name").to_string_lossy();
    fs::canonicalize(folder.join(format!("../{name}-outer/src/lib.rs"))).expect("exists")
}

fn outer_edited(baseline: &Baseline, folder: &Path) -> Change {
    edit(&outer(folder), "    1", "    4");
    classify(&baseline.inputs(), &[outer(folder)])
}

/// The workspace, whose `base` uses version 1.0.0 of a crate that cargo takes from a folder as if from a registry.
fn with_fetched(name: &str) -> PathBuf {
    let folder = workspace(name);
    let fetched = folder.join(format!("../{name}-fetched"));
    for version in ["1.0.0", "1.0.1"] {
        let package_folder = fetched.join(format!("fetched-{version}"));
        write(&package_folder.join("Cargo.toml"), &package("fetched").replace("0.1.0", version));
        write(&package_folder.join("src/lib.rs"), "pub fn value() -> u32 {\n    3\n}\n");
        write(&package_folder.join(".cargo-checksum.json"), "{\"files\":{}}");
    }
    let config = format!(
        "[source.crates-io]\nreplace-with = \"here\"\n[source.here]\ndirectory = \"../{name}-fetched\"\n\
         [net]\noffline = true\n"
    );
    write(&folder.join(".cargo/config.toml"), &config);
    append(&folder.join("base/Cargo.toml"), "[dependencies]\nfetched = \"=1.0.0\"\n");
    write(&folder.join("base/src/lib.rs"), "pub fn value() -> u32 {\n    fetched::value()\n}\n");
    folder
}

fn with_cargo(baseline: &mut Baseline) -> Build {
    let mut said = Vec::new();
    let rebuilt = rebuild_with_cargo(baseline, &mut |line| said.push(line));
    match rebuilt {
        Ok(Rebuilt::Built(build)) => build,
        other => panic!("{other:?}\n{}", said.join("\n")),
    }
}

fn names(baseline: &Baseline) -> Vec<&str> {
    baseline.units.iter().map(|unit| unit.crate_name.as_str()).collect()
}

fn units(build: &Build) -> Vec<usize> {
    let mut units: Vec<usize> = build.units.iter().map(|unit| unit.unit).collect();
    units.sort_unstable();
    units
}
