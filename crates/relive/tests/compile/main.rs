//! The first build and replays with the real cargo and rustc on small packages made here. This executable is also the
//! rustc wrapper, the linker stand-in and the runner of these builds, and the session that one test kills.

mod dependencies;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use relive::change::{Change, Watcher, classify};
use relive::compile::{FirstBuildError, ObjectFile, Rebuilt, first_build, rebuild, rebuild_with_cargo, roles};

use support::*;

const TESTS: &[(&str, fn())] = &[
    ("a_second_start_compiles_nothing", a_second_start_compiles_nothing),
    ("a_start_after_edits_compiles_nothing", a_start_after_edits_compiles_nothing),
    ("a_start_after_an_unseen_edit_compiles_it", a_start_after_an_unseen_edit_compiles_it),
    ("cargo_and_relive_leave_each_other_fresh", cargo_and_relive_leave_each_other_fresh),
    ("the_program_is_launched_as_cargo_would", the_program_is_launched_as_cargo_would),
    ("an_edit_of_the_bin_is_replayed", an_edit_of_the_bin_is_replayed),
    ("an_edit_of_a_library_rebuilds_its_dependents", an_edit_of_a_library_rebuilds_its_dependents),
    ("a_compile_error_names_file_and_line", a_compile_error_names_file_and_line),
    ("files_that_a_failed_build_speaks_of_are_awaited", files_that_a_failed_build_speaks_of_are_awaited),
    ("a_cancelled_build_stays_due", a_cancelled_build_stays_due),
    ("a_lost_record_is_made_again_alone", a_lost_record_is_made_again_alone),
    ("a_killed_first_build_does_no_harm", a_killed_first_build_does_no_harm),
    ("a_second_session_is_told_of_the_first", a_second_session_is_told_of_the_first),
    ("without_incremental_the_archive_holds_the_objects", without_incremental_the_archive_holds_the_objects),
    ("a_users_wrapper_and_linker_are_chained", a_users_wrapper_and_linker_are_chained),
    ("a_manifest_goes_through_cargo", a_manifest_goes_through_cargo),
    ("saves_are_seen_and_temporary_files_are_not", saves_are_seen_and_temporary_files_are_not),
    ("a_path_with_a_space_works", a_path_with_a_space_works),
];

fn main() -> ExitCode {
    if let Some(role) = roles::role() {
        return roles::play(role);
    }
    if let Some(folder) = std::env::var_os("TEST_FIRST_BUILD_IN") {
        return match first_build(&settings(Path::new(&folder)), &mut |_| {}) {
            Ok(_) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    // A target directory of the outer cargo would be the one of all the packages made here.
    if std::env::var_os("CARGO_TARGET_DIR").is_some() {
        let this = std::env::current_exe().expect("has a path");
        let mut clean = Command::new(this);
        let status = clean.args(std::env::args_os().skip(1)).env_remove("CARGO_TARGET_DIR").status().expect("starts");
        return ExitCode::from(u8::from(!status.success()));
    }
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let mut failed = 0;
    for (name, test) in TESTS.iter().chain(dependencies::TESTS).filter(|(name, _)| name.contains(&wanted)) {
        let clock = Instant::now();
        let passed = std::panic::catch_unwind(test).is_ok();
        failed += usize::from(!passed);
        let verdict = if passed { "ok" } else { "FAILED" };
        eprintln!("test {name} ... {verdict} ({} ms)", clock.elapsed().as_millis());
    }
    if failed == 0 {
        fs::remove_dir_all(scratch("")).expect("removes");
    }
    ExitCode::from(u8::from(failed > 0))
}

fn a_second_start_compiles_nothing() {
    let folder = workspace("second");
    let (first, said) = build(&folder);
    assert!(said.iter().any(|line| line.contains("Compiling app")), "{said:?}");
    let names: Vec<(&str, bool)> = first.units.iter().map(|unit| (unit.crate_name.as_str(), unit.is_lib)).collect();
    assert_eq!(names, [("base", true), ("app", true), ("app", false)]);
    assert_eq!(first.units.iter().map(|unit| unit.deps.clone()).collect::<Vec<_>>(), [vec![], vec![0], vec![0, 1]]);
    assert!(first.units.iter().all(|unit| unit.opt_level == "0" && unit.debuginfo == "2" && !unit.objects.is_empty()));
    assert!(first.rlibs.iter().all(|path| path.is_file()), "{:?}", first.rlibs);
    assert!(first.rlibs.iter().any(|path| path.starts_with(&first.sysroot)));
    assert!(!first.rlibs.iter().any(|path| path.to_string_lossy().contains("libbase")));
    assert_eq!(inode(&first.exe), inode(&first.run_exe));
    let ids = objects(&first);
    drop(first);
    let (second, said) = build(&folder);
    assert!(!said.iter().any(|line| line.contains("Compiling")), "{said:?}");
    assert_eq!(objects(&second), ids);
}

fn a_start_after_edits_compiles_nothing() {
    let folder = workspace("kept");
    let calls = counted(&folder);
    let (mut baseline, _) = build(&folder);
    assert_eq!(calls(), 3);
    edit(&folder.join("base/src/lib.rs"), "    3", "    4");
    append(&folder.join("app/src/main.rs"), "fn not_called() {}\n");
    let lib = change(&baseline, &folder, "base/src/lib.rs");
    let made = built(rebuild(&mut baseline, &lib, &mut || false));
    assert_eq!(calls(), 3);
    baseline.keep_newest().expect("keeps");
    drop(baseline);
    let (mut baseline, said) = build(&folder);
    assert_eq!(calls(), 0, "{said:?}");
    assert!(said.iter().any(|line| line.contains("never used")), "a warning is not lost: {said:?}");
    let objects_of = |made: &relive::compile::Build| made.units.iter().flat_map(|unit| ids(&unit.objects)).collect();
    assert_eq!(objects(&baseline), objects_of(&made));
    assert_eq!(output_of(&baseline.run_exe), "one 4\n");
    assert_eq!(fs::read(&baseline.exe).expect("reads"), fs::read(&baseline.run_exe).expect("reads"));
    // The next edit is compiled against what was kept.
    edit(&folder.join("app/src/main.rs"), "one", "two");
    let bin = change(&baseline, &folder, "app/src/main.rs");
    built(rebuild(&mut baseline, &bin, &mut || false));
    assert_eq!(calls(), 1);
    baseline.keep_newest().expect("keeps");
    drop(baseline);
    let (baseline, said) = build(&folder);
    assert_eq!(calls(), 0, "{said:?}");
    assert_eq!(output_of(&baseline.run_exe), "two 4\n");
}

fn a_start_after_an_unseen_edit_compiles_it() {
    let folder = workspace("unseen");
    let calls = counted(&folder);
    let (mut baseline, _) = build(&folder);
    for (file, compiled) in [("app/src/main.rs", 1), ("base/src/lib.rs", 3)] {
        append(&folder.join(file), "pub fn seen() {}\n");
        let seen = change(&baseline, &folder, file);
        built(rebuild(&mut baseline, &seen, &mut || false));
        baseline.keep_newest().expect("keeps");
        drop(baseline);
        append(&folder.join(file), "pub fn unseen() {}\n");
        calls();
        baseline = build(&folder).0;
        assert_eq!(calls(), compiled, "{file}");
    }
    // A save while rustc was at work may not be in what it made.
    edit(&folder.join("app/src/main.rs"), "one", "two");
    let bin = change(&baseline, &folder, "app/src/main.rs");
    built(rebuild(&mut baseline, &bin, &mut || false));
    edit(&folder.join("app/src/main.rs"), "two", "six");
    baseline.keep_newest().expect("keeps");
    drop(baseline);
    calls();
    let baseline = build(&folder).0;
    assert_eq!((calls(), output_of(&baseline.run_exe).as_str()), (1, "six 3\n"));
}

fn cargo_and_relive_leave_each_other_fresh() {
    let folder = workspace("fresh");
    let compiled = |said: &str| said.contains("Compiling");
    cargo_build(&folder);
    let (baseline, said) = build(&folder);
    assert!(!compiled(&cargo_build(&folder)), "cargo build compiled again after relive");
    assert!(!said.iter().any(|line| line.contains("error")), "{said:?}");
    drop(baseline);
    let (baseline, said) = build(&folder);
    assert!(!said.iter().any(|line| compiled(line)), "relive compiled again after cargo build: {said:?}");
    assert_eq!(inode(&baseline.exe), inode(&baseline.run_exe));
    // A replay in cargo's incremental folder does not disturb cargo either.
    let mut baseline = baseline;
    edit(&folder.join("app/src/main.rs"), "one", "two");
    let change = change(&baseline, &folder, "app/src/main.rs");
    built(rebuild(&mut baseline, &change, &mut || false));
    edit(&folder.join("app/src/main.rs"), "two", "one");
    cargo_build(&folder);
    assert_eq!(output_of(&folder.join("target/debug/app")), "one 3\n");
}

fn the_program_is_launched_as_cargo_would() {
    let folder = workspace("launch");
    let mut settings = settings(&folder.join("app"));
    settings.program_args = vec!["--release".into(), "a b".into()];
    let baseline = first_build(&settings, &mut |_| {}).expect("builds");
    let launch = &baseline.launch;
    assert_eq!(launch.argv.get(1..), Some(&["--release".into(), "a b".into()][..]));
    assert_eq!(launch.cwd, folder.join("app"));
    let keys: BTreeSet<String> = launch.env.iter().map(|(key, _)| key.to_string_lossy().into_owned()).collect();
    assert!(keys.contains("CARGO_MANIFEST_DIR") && keys.contains("PATH"), "{keys:?}");
    let ours = |key: &&String| key.starts_with("RELIVE_") || key.ends_with("_RUNNER") || key.contains("WRAPPER");
    assert_eq!(keys.iter().filter(ours).collect::<Vec<_>>(), Vec::<&String>::new());
    let program = Command::new(&baseline.run_exe).current_dir(&launch.cwd).output().expect("starts");
    assert_eq!(program.stdout, b"one 3\n");
}

fn an_edit_of_the_bin_is_replayed() {
    let folder = workspace("bin");
    let (mut baseline, _) = build(&folder);
    let before = objects(&baseline);
    let exe = fs::read(&baseline.run_exe).expect("reads");
    edit(&folder.join("app/src/main.rs"), "one", "two");
    let change = change(&baseline, &folder, "app/src/main.rs");
    assert_eq!(change.units, [2]);
    let build = built(rebuild(&mut baseline, &change, &mut || false));
    assert_eq!(build.units.iter().map(|unit| unit.unit).collect::<Vec<_>>(), [2]);
    let new = &build.units[0].objects;
    let changed: Vec<&ObjectFile> = new.iter().filter(|object| !before.contains(&object.id)).collect();
    // One string in one function, and the allocator shim, which rustc always makes anew.
    assert_eq!(changed.len(), 2, "{changed:?}");
    let old = &baseline.units[2].objects;
    assert!(changed.iter().all(|new| old.iter().any(|object| object.cgu == new.cgu)), "codegen units keep their names");
    assert_eq!(new.len(), old.len());
    assert_eq!(fs::read(&baseline.run_exe).expect("reads"), exe, "cargo's output is left alone");
    // Saved again without an edit: nothing differs.
    let again = built(rebuild(&mut baseline, &change, &mut || false));
    assert_eq!(ids(&again.units[0].objects).intersection(&ids(new)).count(), new.len() - 1);
    baseline.release_objects(2, new).expect("releases");
    assert!(old_and_new_exist(&baseline, new));
}

fn an_edit_of_a_library_rebuilds_its_dependents() {
    let folder = workspace("lib");
    let (mut baseline, _) = build(&folder);
    let known = objects(&baseline);
    edit(&folder.join("base/src/lib.rs"), "    3", "    4");
    let lib = change(&baseline, &folder, "base/src/lib.rs");
    assert_eq!(lib.units, [0]);
    let build = built(rebuild(&mut baseline, &lib, &mut || false));
    assert_eq!(build.units.iter().map(|unit| unit.unit).collect::<Vec<_>>(), [0, 1, 2]);
    let changed = |unit: usize| build.units[unit].objects.iter().filter(|object| !known.contains(&object.id)).count();
    assert_eq!((changed(0), changed(1), changed(2)), (1, 0, 1), "the allocator shim is always new");
    // The next edit of the bin is compiled against the replayed library: `NEW` exists only there.
    append(&folder.join("base/src/lib.rs"), "pub const NEW: u32 = 5;\n");
    edit(&folder.join("app/src/main.rs"), "base::value()", "base::NEW");
    built(rebuild(&mut baseline, &lib, &mut || false));
    let bin = change(&baseline, &folder, "app/src/main.rs");
    assert_eq!(built(rebuild(&mut baseline, &bin, &mut || false)).units.len(), 1);
}

fn a_compile_error_names_file_and_line() {
    let folder = workspace("error");
    let (mut baseline, _) = build(&folder);
    append(&folder.join("app/src/main.rs"), "fn broken() -> u8 { \"x\" }\n");
    let change = change(&baseline, &folder, "app/src/main.rs");
    let Ok(Rebuilt::CompileError { rendered, first }) = rebuild(&mut baseline, &change, &mut || false) else {
        panic!("it compiles")
    };
    assert_eq!(first.message, "mismatched types");
    assert_eq!(first.file, Some(folder.join("app/src/main.rs")));
    assert_eq!(first.line, Some(4));
    assert!(rendered.concat().contains("E0308"), "{rendered:?}");
    edit(&folder.join("app/src/main.rs"), "fn broken() -> u8 { \"x\" }\n", "");
    // The fix is in another file's save: the broken one is still due.
    let build = built(rebuild(&mut baseline, &Change::default(), &mut || false));
    assert_eq!(build.units.len(), 1);
}

fn files_that_a_failed_build_speaks_of_are_awaited() {
    let folder = workspace("awaited");
    let (mut baseline, _) = build(&folder);
    append(&folder.join("app/src/main.rs"), "mod extra;\nconst TEXT: &str = include_str!(\"text.txt\");\n");
    let (extra, text) = (folder.join("app/src/extra.rs"), folder.join("app/src/text.txt"));
    let saved = change(&baseline, &folder, "app/src/main.rs");
    let failed = |ended: Result<Rebuilt, relive::Error>| assert!(matches!(ended, Ok(Rebuilt::CompileError { .. })));
    let watched = baseline.inputs();
    assert!(!watched.files().contains(&extra) && !watched.files().contains(&text));
    failed(rebuild(&mut baseline, &saved, &mut || false));
    assert_eq!(classify(&baseline.inputs(), std::slice::from_ref(&text)).units, [2]);
    assert_eq!(baseline.newer_inputs(&watched), Vec::<PathBuf>::new());
    write(&text, "text");
    write(&extra, "fn wrong() -> u8 { \"x\" }\n");
    assert_eq!(baseline.newer_inputs(&watched), [extra.clone(), text]);
    failed(rebuild(&mut baseline, &Change::default(), &mut || false));
    write(&extra, "");
    assert_eq!(classify(&baseline.inputs(), &[extra]).units, [2]);
    built(rebuild(&mut baseline, &Change::default(), &mut || false));
}

fn a_cancelled_build_stays_due() {
    let folder = workspace("cancel");
    let (mut baseline, _) = build(&folder);
    edit(&folder.join("base/src/lib.rs"), "    3", "    4");
    let change = change(&baseline, &folder, "base/src/lib.rs");
    let clock = Instant::now();
    let ended = rebuild(&mut baseline, &change, &mut || clock.elapsed() > Duration::from_millis(15));
    assert!(matches!(ended, Ok(Rebuilt::Cancelled)), "{ended:?}");
    assert_eq!(built(rebuild(&mut baseline, &Change::default(), &mut || false)).units.len(), 3);
}

fn a_lost_record_is_made_again_alone() {
    let folder = workspace("lost");
    for lost in ["app-", "base-"] {
        let (baseline, _) = build(&folder);
        let unit = baseline.units.iter().rfind(|unit| unit.key.starts_with(lost)).expect("is a unit");
        let record = baseline.relive_dir.join("units").join(&unit.key).join("record.json");
        drop(baseline);
        fs::remove_file(&record).expect("removes");
        let (baseline, said) = build(&folder);
        assert!(record.is_file());
        assert_eq!(baseline.units.len(), 3);
        let compiled = said.iter().filter(|line| line.contains("Compiling")).count();
        // cargo builds the packages that use `base` again as well.
        assert_eq!(compiled, if lost == "app-" { 1 } else { 2 }, "{said:?}");
    }
    let (baseline, _) = build(&folder);
    let relive_dir = baseline.relive_dir.clone();
    drop(baseline);
    fs::remove_dir_all(relive_dir).expect("removes");
    assert_eq!(build(&folder).0.units.len(), 3);
}

fn a_killed_first_build_does_no_harm() {
    let folder = workspace("killed");
    let this = std::env::current_exe().expect("has a path");
    let mut session = Command::new(this).env("TEST_FIRST_BUILD_IN", &folder).spawn().expect("starts");
    // In the middle of the build: a unit's folder is there, the program is not.
    while !folder.join("target/relive/units").is_dir() {
        std::thread::yield_now();
        assert!(session.try_wait().expect("waits").is_none(), "the build ended too soon");
    }
    session.kill().expect("kills");
    session.wait().expect("waits");
    let (baseline, _) = build(&folder);
    assert_eq!(baseline.units.len(), 3);
    assert_eq!(output_of(&baseline.run_exe), "one 3\n");
}

fn a_second_session_is_told_of_the_first() {
    let folder = workspace("locked");
    let (baseline, _) = build(&folder);
    match first_build(&settings(&folder), &mut |_| {}) {
        Err(FirstBuildError::Own(error)) => {
            assert!(error.to_string().contains(&std::process::id().to_string()), "{error}")
        }
        other => panic!("{other:?}"),
    }
    drop(baseline);
    build(&folder);
}

fn without_incremental_the_archive_holds_the_objects() {
    let folder = workspace("archive");
    append(&folder.join("Cargo.toml"), "[profile.dev]\nincremental = false\n");
    let (mut baseline, _) = build(&folder);
    let (lib, object) = (&baseline.units[0], &baseline.units[0].objects[0]);
    let range = object.range.clone().expect("is a member");
    let bytes = fs::read(&object.path).expect("reads");
    assert_eq!(&bytes[range.start as usize..][..4], b"\x7fELF");
    assert_eq!(lib.objects.len(), 1);
    edit(&folder.join("base/src/lib.rs"), "    3", "    4");
    let change = change(&baseline, &folder, "base/src/lib.rs");
    let build = built(rebuild(&mut baseline, &change, &mut || false));
    assert_eq!(build.units.len(), 3);
    assert_eq!(build.units[0].objects[0].cgu, baseline.units[0].objects[0].cgu);
}

fn a_users_wrapper_and_linker_are_chained() {
    let folder = workspace("chained");
    for (name, command) in [("wrap", ""), ("wrap-all", ""), ("link-gcc", "cc")] {
        logged_tool(&folder, name, command);
    }
    let config = "[build]\nrustc-workspace-wrapper = \".cargo/wrap\"\nrustc-wrapper = \".cargo/wrap-all\"\n[target.'cfg(unix)']\nlinker = \".cargo/link-gcc\"\n";
    write(&folder.join(".cargo/config.toml"), config);
    let (mut baseline, _) = build(&folder);
    let lines = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    assert!(lines("wrap").contains("--crate-name app"), "{}", lines("wrap"));
    assert!(lines("link-gcc").contains("-o "));
    assert!(lines("wrap-all").contains("/wrap ") && lines("wrap-all").contains("--crate-name app"), "one in the other");
    let (wrapped, linked) = (lines("wrap").len(), lines("link-gcc").len());
    let change = change(&baseline, &folder, "app/src/main.rs");
    built(rebuild(&mut baseline, &change, &mut || false));
    assert!(lines("wrap").len() > wrapped);
    assert_eq!(lines("link-gcc").len(), linked, "a replay links nothing");
}

fn a_manifest_goes_through_cargo() {
    let folder = workspace("manifest");
    let (mut baseline, _) = build(&folder);
    append(&folder.join("app/Cargo.toml"), "[features]\ndefault = [\"loud\"]\nloud = []\n");
    edit(&folder.join("app/src/main.rs"), "\"one\"", "if cfg!(feature = \"loud\") { \"ONE\" } else { \"one\" }");
    let files = ["app/Cargo.toml", "app/src/main.rs"].map(|name| folder.join(name));
    let change = classify(&baseline.inputs(), &files);
    assert_eq!((change.manifests.len(), change.units.clone()), (1, vec![2]));
    let known = objects(&baseline);
    let build = built(rebuild_with_cargo(&mut baseline, &mut |_| {}));
    assert!(
        build.units.iter().any(|unit| unit.unit == 2 && unit.objects.iter().any(|object| !known.contains(&object.id)))
    );
    assert!(!build.units.iter().any(|unit| unit.unit == 0), "`base` was fresh");
    assert_eq!(baseline.units.len(), 3);
    assert!(baseline.units[2].objects.iter().all(|object| known.contains(&object.id)), "first objects stay");
}

fn saves_are_seen_and_temporary_files_are_not() {
    let folder = scratch("watch");
    let file = folder.join("a.rs");
    write(&file, "a");
    let (sender, saves) = mpsc::channel();
    let watcher = Watcher::new([file.clone()], sender).expect("watches");
    let next = || saves.recv_timeout(Duration::from_secs(20)).expect("is seen").files;
    let expect_save = || assert_eq!(next(), std::slice::from_ref(&file));
    write(&file, "in place");
    expect_save();
    write(&folder.join(".a.rs.swp"), "x");
    fs::read(&file).expect("reads");
    fs::rename(folder.join(".a.rs.swp"), &file).expect("renames");
    expect_save();
    fs::remove_file(&file).expect("removes");
    write(&file, "anew");
    expect_save();
    fs::remove_file(&file).expect("removes");
    write(&folder.join("other"), "linked");
    fs::hard_link(folder.join("other"), &file).expect("links");
    expect_save();
    // The folder goes and comes back.
    fs::remove_dir_all(&folder).expect("removes");
    fs::create_dir_all(&folder).expect("creates");
    write(&file, "back");
    expect_save();
    // What came before was all: the next message is of the next save, in the folder watched from now on.
    let more = scratch("watch-more").join("b.rs");
    watcher.set([more.clone()]).expect("watches");
    write(&file, "watched no longer");
    write(&more, "b");
    let seen: Vec<PathBuf> =
        std::iter::repeat_with(next).take_while(|files| *files != [more.clone()]).flatten().collect();
    assert!(seen.iter().all(|path| *path == file), "{seen:?}");
}

fn a_path_with_a_space_works() {
    let folder = workspace("with a space");
    let (mut baseline, _) = build(&folder);
    let change = change(&baseline, &folder, "base/src/lib.rs");
    assert_eq!(built(rebuild(&mut baseline, &change, &mut || false)).units.len(), 3);
}
