//! rustc's command line: takes the arguments cargo gives, says which crate they make and where, and rewrites them for
//! a replay. Pure; it runs nothing and looks at no file.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What relive needs to know of one rustc command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) crate_name: String,
    pub(crate) crate_types: Vec<String>,
    pub(crate) out_dir: Option<PathBuf>,
    pub(crate) emit: Vec<String>,
    pub(crate) opt_level: String,
    pub(crate) debuginfo: String,
    /// Whether the program is optimised as a whole when it is linked.
    pub(crate) link_time: bool,
    pub(crate) extra_filename: String,
    pub(crate) metadata: String,
    pub(crate) incremental: Option<PathBuf>,
    pub(crate) linker: Option<PathBuf>,
    pub(crate) linker_flavor: Option<String>,
    /// `--extern name=path`, without the modifiers before the name.
    pub(crate) externs: Vec<(String, PathBuf)>,
    /// Any `--print`: a question, not a compilation.
    pub(crate) prints: bool,
    pub(crate) test: bool,
    /// Whether cargo says that this is one of the package's executables (`CARGO_BIN_NAME`): a build script is none.
    pub(crate) package_bin: bool,
}

/// What a crate is to relive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// An executable.
    Bin,
    /// A library that is linked into executables as an rlib.
    Lib,
    /// A build script, a proc macro or a shared library: never patched, but its files are build inputs.
    Other,
}

impl Arguments {
    /// Understands `args`, rustc's arguments without rustc itself, and cargo's word on executables.
    pub(crate) fn parse(args: &[OsString], package_bin: bool) -> Arguments {
        let none = || "0".to_owned();
        let mut found = Arguments { opt_level: none(), debuginfo: none(), package_bin, ..Arguments::default() };
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let (flag, value) = split_flag(arg);
            match flag.as_str() {
                "-O" => found.opt_level = "3".to_owned(),
                "-g" => found.debuginfo = "2".to_owned(),
                "--test" => found.test = true,
                "--crate-name" | "--crate-type" | "--out-dir" | "--emit" | "--extern" | "--print" | "-C"
                | "--codegen" => {
                    if let Some(value) = value.or_else(|| rest.next().cloned()) {
                        found.option(&flag, &value);
                    }
                }
                // Everything else is rustc's business; its values cannot be mistaken for the flags above, because
                // cargo and users give them as `--flag=value` or never begin them with a dash.
                _ => {}
            }
        }
        found
    }

    fn option(&mut self, flag: &str, value: &OsStr) {
        let text = || value.to_string_lossy().into_owned();
        match flag {
            "--crate-name" => self.crate_name = text(),
            "--crate-type" => self.crate_types.extend(text().split(',').map(str::to_owned)),
            "--out-dir" => self.out_dir = Some(value.into()),
            "--emit" => self.emit.extend(text().split(',').map(str::to_owned)),
            "--print" => self.prints = true,
            "--extern" => self.externs.extend(split_extern(value).map(|(name, path)| (name, path.into()))),
            _ => self.codegen(value),
        }
    }

    fn codegen(&mut self, value: &OsStr) {
        let (key, value) = split_at_byte(value, b'=');
        let value = value.unwrap_or_default();
        let text = value.to_string_lossy().into_owned();
        match key.to_str().unwrap_or_default() {
            "opt-level" => self.opt_level = text,
            "debuginfo" => self.debuginfo = text,
            // Without a value it is the fat kind; rustc's own kind within a crate does nothing without optimisation.
            "lto" => self.link_time = !matches!(text.as_str(), "off" | "no" | "n" | "false" | "thin-local"),
            "linker-plugin-lto" => self.link_time = !matches!(text.as_str(), "off" | "no" | "n" | "false"),
            "extra-filename" => self.extra_filename = text,
            "metadata" => self.metadata = text,
            "incremental" => self.incremental = Some(value.into()),
            "linker" => self.linker = Some(value.into()),
            "linker-flavor" => self.linker_flavor = Some(text),
            _ => {}
        }
    }

    /// Whether this makes a crate as `cargo build` does, and not a probe or a check.
    pub(crate) fn makes_a_crate(&self) -> bool {
        let emits = |kind: &str| self.emit.iter().any(|emit| emit.split('=').next() == Some(kind));
        let named = !self.crate_name.is_empty() && self.crate_name != "___";
        named && !self.prints && !self.test && self.out_dir.is_some() && emits("link") && emits("dep-info")
    }

    /// What the crate is to relive.
    pub(crate) fn role(&self) -> Role {
        let one_of = |kinds: &[&str]| self.crate_types.iter().any(|kind| kinds.contains(&kind.as_str()));
        match () {
            () if self.crate_name.starts_with("build_script_") && !self.package_bin => Role::Other,
            () if self.crate_types.is_empty() || one_of(&["bin"]) => Role::Bin,
            () if one_of(&["lib", "rlib"]) => Role::Lib,
            () => Role::Other,
        }
    }

    /// Crate name and what tells it from other builds of the same crate; also the stem of its files.
    pub(crate) fn key(&self) -> String {
        let extra =
            if self.extra_filename.is_empty() { format!("-{}", self.metadata) } else { self.extra_filename.clone() };
        format!("{}{extra}", self.crate_name).replace(['/', '\0'], "_")
    }

    /// The stem that rustc gives to the crate's files in the output folder.
    pub(crate) fn stem(&self) -> String {
        format!("{}{}", self.crate_name, self.extra_filename)
    }

    /// The executable, the rlib or the shared library, as the output folder has it.
    pub(crate) fn output(&self, out_dir: &Path) -> PathBuf {
        let stem = self.stem();
        match self.role() {
            Role::Bin => out_dir.join(stem),
            Role::Lib => out_dir.join(format!("lib{stem}.rlib")),
            Role::Other if self.crate_types.iter().any(|kind| kind == "bin") => out_dir.join(stem),
            Role::Other if self.crate_types.iter().any(|kind| kind == "staticlib") => {
                out_dir.join(format!("lib{stem}.a"))
            }
            Role::Other => out_dir.join(format!("lib{stem}.so")),
        }
    }

    /// The linker that rustc would start, as far as the command line decides it.
    pub(crate) fn linker_or_default(&self) -> PathBuf {
        match (&self.linker, &self.linker_flavor) {
            (Some(linker), _) => linker.clone(),
            (None, Some(flavor)) if flavor == "ld" => "ld".into(),
            (None, Some(flavor)) if flavor.contains("lld") && !flavor.contains("cc") => "rust-lld".into(),
            (None, _) => "cc".into(),
        }
    }
}

/// What relive changes in cargo's command line for rustc, in a build by cargo and in every replay alike: output folder
/// and library paths are inputs of rustc's incremental compilation, and other ones make it compile everything anew.
pub(crate) struct Rewrite<'a> {
    /// Where the outputs go.
    pub(crate) out_dir: &'a Path,
    /// Our linker stand-in, for crates that are linked.
    pub(crate) linker: Option<&'a Path>,
    /// Gives the file in `out_dir` that stands for a library of cargo's, if there is one.
    pub(crate) ours: &'a dyn Fn(&Path) -> Option<PathBuf>,
    /// Whether rustc's rendered messages keep their colours.
    pub(crate) colour: bool,
}

/// cargo's `args`, changed as `rewrite` says; everything else stays.
pub(crate) fn rewritten(args: &[OsString], rewrite: &Rewrite<'_>) -> Vec<OsString> {
    let mut out: Vec<OsString> = Vec::with_capacity(args.len() + 4);
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let (flag, inline) = split_flag(arg);
        if !matches!(flag.as_str(), "--out-dir" | "--extern" | "--json") {
            out.push(arg.clone());
            continue;
        }
        let Some(value) = inline.or_else(|| rest.next().cloned()) else { continue };
        let value = match flag.as_str() {
            "--out-dir" => rewrite.out_dir.into(),
            "--extern" => replaced_extern(&value, rewrite.ours),
            _ => json_kinds(&value, rewrite.colour),
        };
        out.extend([flag.into(), value]);
    }
    // Of two folders with the same library rustc takes the last: it must be ours as long as there is no difference, for
    // after a replay only ours fits.
    out.extend(["-L".into(), join("dependency=", rewrite.out_dir.as_os_str())]);
    out.extend(rewrite.linker.map(|linker| join("-Clinker=", linker.as_os_str())));
    out
}

/// cargo's `args` for a crate that is called as `name` says, and whose libraries are where `library` says.
pub(crate) fn named(args: &[OsString], name: &Arguments, library: &dyn Fn(&Path) -> Option<PathBuf>) -> Vec<OsString> {
    let mut out: Vec<OsString> = Vec::with_capacity(args.len());
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let (flag, inline) = split_flag(arg);
        if !matches!(flag.as_str(), "-C" | "--codegen" | "--extern") {
            out.push(arg.clone());
            continue;
        }
        let Some(value) = inline.or_else(|| rest.next().cloned()) else { continue };
        let value = match (flag.as_str(), split_at_byte(&value, b'=').0.to_str()) {
            ("--extern", _) => replaced_extern(&value, library),
            (_, Some("metadata")) => format!("metadata={}", name.metadata).into(),
            (_, Some("extra-filename")) => format!("extra-filename={}", name.extra_filename).into(),
            _ => value,
        };
        out.extend([flag.into(), value]);
    }
    out
}

fn json_kinds(value: &OsStr, colour: bool) -> OsString {
    let text = value.to_string_lossy();
    let kinds = text.split(',').filter(|kind| colour || *kind != "diagnostic-rendered-ansi");
    kinds.collect::<Vec<_>>().join(",").into()
}

fn replaced_extern(value: &OsStr, library: &dyn Fn(&Path) -> Option<PathBuf>) -> OsString {
    let (head, path) = split_at_byte(value, b'=');
    match path.and_then(|path| library(Path::new(path))) {
        Some(path) => {
            let mut out = head.to_owned();
            out.push("=");
            out.push(path);
            out
        }
        None => value.to_owned(),
    }
}

/// `--flag=value`, `-Cvalue` or `flag`; the value is `None` when it would be the next argument.
fn split_flag(arg: &OsStr) -> (String, Option<OsString>) {
    let bytes = arg.as_bytes();
    if bytes.starts_with(b"--") {
        let (flag, value) = split_at_byte(arg, b'=');
        return (flag.to_string_lossy().into_owned(), value.map(OsStr::to_owned));
    }
    match bytes {
        [b'-', b'C', value @ ..] if !value.is_empty() => ("-C".to_owned(), Some(OsString::from_vec(value.to_vec()))),
        _ => (arg.to_string_lossy().into_owned(), None),
    }
}

fn split_extern(value: &OsStr) -> Option<(String, OsString)> {
    let (head, path) = split_at_byte(value, b'=');
    let head = head.to_string_lossy();
    let name = head.rsplit(':').next().unwrap_or_default().to_owned();
    Some((name, path?.to_owned()))
}

fn split_at_byte(text: &OsStr, byte: u8) -> (&OsStr, Option<&OsStr>) {
    let bytes = text.as_bytes();
    match bytes.iter().position(|&b| b == byte).and_then(|at| bytes.split_at_checked(at)) {
        Some((head, tail)) => (OsStr::from_bytes(head), tail.get(1..).map(OsStr::from_bytes)),
        None => (text, None),
    }
}

fn join(head: &str, tail: &OsStr) -> OsString {
    let mut out = OsString::from(head);
    out.push(tail);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(args: &[&str]) -> Vec<OsString> {
        args.iter().map(OsString::from).collect()
    }

    const BIN: &[&str] = &[
        "--crate-name",
        "app",
        "--edition=2021",
        "src/main.rs",
        "--error-format=json",
        "--json=diagnostic-rendered-ansi,artifacts,future-incompat",
        "--crate-type",
        "bin",
        "--emit=dep-info,link",
        "-C",
        "debuginfo=2",
        "-Copt-level=1",
        "-C",
        "metadata=d16c",
        "-C",
        "extra-filename=-2dd1",
        "--out-dir",
        "/t/deps",
        "-C",
        "incremental=/t/incremental",
        "-L",
        "dependency=/t/deps",
        "--extern",
        "priv:engine=/t/deps/libengine-27da.rlib",
        "-C",
        "linker=/usr/bin/clang",
    ];

    #[test]
    fn a_cargo_command_line_is_understood() {
        let found = Arguments::parse(&os(BIN), false);
        assert!(found.makes_a_crate());
        assert_eq!(found.role(), Role::Bin);
        assert_eq!(found.key(), "app-2dd1");
        assert_eq!((found.opt_level.as_str(), found.debuginfo.as_str()), ("1", "2"));
        assert_eq!(found.externs, [("engine".to_owned(), PathBuf::from("/t/deps/libengine-27da.rlib"))]);
        assert_eq!(found.output(Path::new("/t/deps")), Path::new("/t/deps/app-2dd1"));
        assert_eq!(found.linker_or_default(), Path::new("/usr/bin/clang"));
    }

    #[test]
    fn optimisation_of_the_whole_program_is_seen() {
        let found = |flags: &[&str]| Arguments::parse(&os(flags), false).link_time;
        for flags in [&["-C", "lto"][..], &["-Clto=thin"], &["-C", "lto=fat"], &["-C", "linker-plugin-lto"]] {
            assert!(found(flags), "{flags:?}");
        }
        for flags in [&[][..], &["-C", "lto=off"], &["-Clto=off", "-C", "embed-bitcode=no"], &["-Clto=thin-local"]] {
            assert!(!found(flags), "{flags:?}");
        }
    }

    #[test]
    fn a_crate_is_called_as_before() {
        let library = |path: &Path| (path == Path::new("/t/deps/libengine-27da.rlib")).then(|| "/t/deps/e.rlib".into());
        let old = Arguments { metadata: "aa".to_owned(), extra_filename: "-bb".to_owned(), ..Arguments::default() };
        let out = named(&os(BIN), &old, &library);
        let again = Arguments::parse(&out, false);
        assert_eq!((again.key().as_str(), again.metadata.as_str()), ("app-bb", "aa"));
        assert_eq!(again.externs, [("engine".to_owned(), PathBuf::from("/t/deps/e.rlib"))]);
        let before = Arguments::parse(&os(BIN), false);
        assert_eq!((again.out_dir, again.incremental), (before.out_dir, before.incremental));
    }

    #[test]
    fn probes_and_checks_are_no_crates() {
        for probe in [
            &["-vV"][..],
            &["-", "--crate-name", "___", "--print=file-names", "--crate-type", "bin"],
            &["--crate-name", "a", "--emit=dep-info,metadata", "--out-dir", "/t"],
            &["--crate-name", "a", "--emit=dep-info,link", "--out-dir", "/t", "--test"],
        ] {
            assert!(!Arguments::parse(&os(probe), false).makes_a_crate(), "{probe:?}");
        }
    }

    #[test]
    fn build_scripts_and_proc_macros_are_other() {
        let role = |args: &[&str]| Arguments::parse(&os(args), false).role();
        assert_eq!(role(&["--crate-name", "build_script_build", "--crate-type", "bin"]), Role::Other);
        let bin = os(&["--crate-name", "build_script_tool", "--crate-type", "bin"]);
        assert_eq!(Arguments::parse(&bin, true).role(), Role::Bin, "a package can be called so");
        assert_eq!(role(&["--crate-name", "m", "--crate-type", "proc-macro"]), Role::Other);
        assert_eq!(role(&["--crate-name", "m", "--crate-type", "cdylib"]), Role::Other);
        assert_eq!(role(&["--crate-name", "m", "--crate-type", "cdylib", "--crate-type=lib"]), Role::Lib);
    }

    #[test]
    fn outputs_and_libraries_of_ours_move_and_nothing_else() {
        let ours = |path: &Path| (path == Path::new("/t/deps/libengine-27da.rlib")).then(|| "/r/e.rlib".into());
        let linker = Some(Path::new("/tool/cc"));
        let rewrite = Rewrite { out_dir: Path::new("/r"), linker, ours: &ours, colour: true };
        let out = rewritten(&os(BIN), &rewrite);
        let again = Arguments::parse(&out, false);
        assert_eq!(again.out_dir.as_deref(), Some(Path::new("/r")));
        assert_eq!(again.linker.as_deref(), linker);
        assert_eq!(again.externs, [("engine".to_owned(), PathBuf::from("/r/e.rlib"))]);
        assert_eq!(out.get(out.len() - 3..), Some(&os(&["-L", "dependency=/r", "-Clinker=/tool/cc"])[..]));
        assert!(out.contains(&"priv:engine=/r/e.rlib".into()));
        let before = Arguments::parse(&os(BIN), false);
        assert_eq!((again.key(), again.incremental), (before.key(), before.incremental));
        assert_eq!(json_kinds("artifacts,diagnostic-rendered-ansi".as_ref(), false), "artifacts");
    }
}
