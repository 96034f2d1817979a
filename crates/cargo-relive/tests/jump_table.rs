//! `jump-table`: an unmodified program with the published subsecond runtime applies what it makes.

mod support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use support::{RELIVE, Scratch, command, copy};

const EXPORT: &str = "-Clink-arg=-rdynamic";

/// The program, built; its sources can be edited.
struct Guest {
    scratch: Scratch,
    source: String,
    old: PathBuf,
}

impl Guest {
    fn new(test: &str, flags: &str) -> Guest {
        let scratch = Scratch::new(test);
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/guests/hot");
        copy(&from, &scratch.0, &|_| false);
        let source = fs::read_to_string(scratch.0.join("src/main.rs")).expect("the guest's source");
        let old = scratch.0.join("old");
        let guest = Guest { scratch, source, old };
        guest.build(&["build"], flags);
        fs::copy(guest.target().join("debug/hot-guest"), &guest.old).expect("the guest's executable");
        guest
    }

    /// Shared by the tests, so that the dependencies are built once.
    fn target(&self) -> PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("hot-guest")
    }

    fn build(&self, words: &[&str], flags: &str) {
        let mut cargo = command("cargo", &self.scratch.0);
        cargo.args([words[0], "--locked", "--target-dir"]).arg(self.target()).args(&words[1..]);
        let out = cargo.env("RUSTFLAGS", flags).output().expect("cargo runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    /// The object of the source with `edits` made to it.
    fn object(&self, edits: &[(&str, &str)]) -> PathBuf {
        let mut source = self.source.clone();
        for (old, new) in edits {
            assert!(source.contains(old), "{old}");
            source = source.replace(old, new);
        }
        self.scratch.write("src/main.rs", source);
        let object = self.scratch.0.join("new.o");
        let emit = format!("--emit=obj={}", object.display());
        // cargo has it linked as well, which must not fail for want of a symbol that the object is to lack.
        self.build(&["rustc", "--", &emit, "-Clink-arg=-Wl,--unresolved-symbols=ignore-all"], EXPORT);
        object
    }

    fn jump_table(&self, object: &Path, library: &str) -> Output {
        let mut relive = command(RELIVE, &self.scratch.0);
        relive.arg("jump-table").arg(&self.old).arg(object).arg("-o").arg(library);
        relive.output().expect("relive runs")
    }

    /// The table as a line.
    fn table(&self, edits: &[(&str, &str)], library: &str) -> Vec<u8> {
        let out = self.jump_table(&self.object(edits), library);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    }

    /// What relive says against a patch.
    fn refusal(&self, edits: &[(&str, &str)]) -> String {
        let out = self.jump_table(&self.object(edits), "never.so");
        assert!(!self.scratch.0.join("never.so").exists(), "nothing is half made");
        assert_eq!((out.status.code(), out.stdout.len()), (Some(125), 0));
        String::from_utf8(out.stderr).expect("text")
    }
}

#[test]
fn an_unmodified_program_applies_patches() {
    let guest = Guest::new("jump-table", EXPORT);
    let first = guest.table(&[("\"old\"", "\"first\""), ("fetch_add(100,", "fetch_add(1000,")], "first.so");
    let second = guest.table(&[("\"old\"", "\"second\""), ("ticks {ticks}", "now {ticks}")], "second.so");
    let mut child = command(&guest.old, &guest.scratch.0);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(&[first, second].concat()).expect("it reads");
    drop(stdin);
    let out = child.wait_with_output().expect("it ends");
    let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    let expected = [
        "raw 40",
        "old ticks 1, raw 46, depth 8, log old",
        "handler called",
        "applied",
        "first ticks 2, raw 46, depth 9, log old first",
        "caught true, ticks 1002",
        "handler called",
        "applied",
        "second now 1003, raw 46, depth 10, log old first second",
        "caught true, ticks 1103",
    ];
    assert_eq!(stdout.lines().collect::<Vec<_>>(), expected, "{stderr}");
    assert!(out.status.success());
}

#[test]
fn what_a_library_cannot_do_is_refused_by_name() {
    let guest = Guest::new("jump-table-refused", EXPORT);
    let thread_local = guest.refusal(&[
        ("fn greeting()", "thread_local! { static NEW: Cell<u8> = const { Cell::new(1) }; }\nfn greeting()"),
        ("DEPTH.set(DEPTH.get() + 1);", "DEPTH.set(DEPTH.get() + u32::from(NEW.get()));"),
    ]);
    assert!(
        thread_local.contains("NEW") && thread_local.contains("a thread-local that the program does not have"),
        "{thread_local}"
    );
    let near = guest.refusal(&[("+ step;", "+ step + unsafe { RAW };")]);
    assert!(near.contains("RAW") && near.contains("would have to be near"), "{near}");
    // Not lost without a word: the function that must be near the program changed in a constant's constant, or leads to one that changed.
    let constant = guest.refusal(&[("\"unit\"", "\"tinu\"")]);
    assert!(constant.contains("raw") && constant.contains("would have to be near"), "{constant}");
    let callee = guest.refusal(&[("    2\n", "    3\n")]);
    assert!(callee.contains("raw") && callee.contains("leads to the old") && callee.contains("weight"), "{callee}");
    let missing = guest.refusal(&[
        ("fn greeting()", "unsafe extern \"C\" { safe fn nobody_has_it(); }\nfn greeting()"),
        ("+ step;", "+ step;\n    nobody_has_it();"),
    ]);
    assert!(missing.contains("defines `nobody_has_it`"), "{missing}");
    let no_object = guest.jump_table(Path::new("Cargo.toml"), "never.so");
    let text = String::from_utf8_lossy(&no_object.stderr).into_owned();
    assert!(text.contains("cannot read `Cargo.toml`") && text.contains("neither ELF nor"), "{text}");
}

#[test]
fn a_program_that_does_not_export_main_is_refused() {
    let guest = Guest::new("jump-table-hidden", "");
    let text = guest.refusal(&[("\"old\"", "\"new\"")]);
    assert!(text.contains("does not export `main`") && text.contains("-rdynamic"), "{text}");
}
