//! What lld's Mach-O flavour made: a link of given inputs, its map, and the bytes of its output. The twin of `lld`.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use object::{Object as _, ObjectSection as _};
use relive::arch::Machine;
use relive::binary::object::NameId;

use crate::inputs::{Input, Target};

/// A linked library.
pub(crate) struct Linked {
    data: Vec<u8>,
    pub(crate) sections: Vec<OutSection>,
    pub(crate) rows: Vec<Row>,
}

/// A section of the output.
pub(crate) struct OutSection {
    /// `__TEXT,__text`
    pub(crate) name: String,
    pub(crate) at: u64,
    pub(crate) size: u64,
    /// Where its bytes are in the file; `None` for zeroed ones.
    file: Option<u64>,
}

/// A line of the map.
pub(crate) struct Row {
    pub(crate) at: u64,
    /// Index of the input; `None` for what the linker made.
    pub(crate) input: Option<usize>,
    pub(crate) what: What,
}

/// What a line of the map is about.
pub(crate) enum What {
    /// A symbol.
    Symbol(NameId, String),
    /// A word with the address of a symbol.
    Word(NameId),
    /// A string.
    Text,
    /// Something that the linker made.
    Other,
}

/// Links `inputs`.
///
/// Undefined symbols are left to the loader, and pointers are plain numbers instead of chains. Instructions stay what
/// they are where hints would allow others, and strings are not merged.
pub(crate) fn link(target: Target, inputs: &[Input], dir: &Path, flags: &[&str]) -> Linked {
    let (map, out, list) = (dir.join("map"), dir.join("out"), dir.join("objects"));
    let names: Vec<String> = inputs.iter().map(|input| input.path.display().to_string()).collect();
    fs::write(&list, names.join("\n")).expect("a file in a new folder");
    let arch = match target.machine {
        Machine::X86_64 => "x86_64",
        Machine::Aarch64 => "arm64",
    };
    let mut command = Command::new(target.linker());
    command.args(["-dylib", "-arch", arch, "-platform_version", "macos", "11", "11", "-undefined", "dynamic_lookup"]);
    command.args(["-no_fixup_chains", "-ignore_optimization_hints", "--no-deduplicate-strings", "-map"]);
    command.arg(&map).arg("-o").arg(&out).args(flags).arg("-filelist").arg(&list);
    let result = command.output().expect("lld runs");
    assert!(result.status.success(), "ld64.lld: {}", String::from_utf8_lossy(&result.stderr));
    let data = fs::read(&out).expect("lld's output");
    let file = object::File::parse(&*data).expect("a library");
    let sections = file.sections().map(|section| OutSection {
        name: format!(
            "{},{}",
            section.segment_name().expect("a name").unwrap_or_default(),
            section.name().expect("a name")
        ),
        at: section.address(),
        size: section.size(),
        file: section.file_range().map(|(start, _)| start),
    });
    let sections = sections.collect();
    let text = String::from_utf8_lossy(&fs::read(&map).expect("lld's map")).into_owned();
    Linked { sections, rows: read_map(&text, &names), data }
}

/// The lines behind `# Symbols:`. Numbers of files are those of the list behind `# Object files:`, which has not all of them.
fn read_map(text: &str, names: &[String]) -> Vec<Row> {
    let index: HashMap<&str, usize> = names.iter().enumerate().map(|(index, name)| (name.as_str(), index)).collect();
    let files: HashMap<usize, usize> = text
        .lines()
        .skip_while(|line| !line.starts_with("# Object files:"))
        .take_while(|line| !line.starts_with("# Sections:"))
        .filter_map(|line| {
            let (number, name) = line.strip_prefix('[')?.split_once("] ")?;
            Some((number.trim().parse().ok()?, *index.get(name)?))
        })
        .collect();
    let lines = text.lines().skip_while(|line| !line.starts_with("# Symbols:")).skip(2);
    lines.filter_map(|line| read_row(line, &files)).collect()
}

/// `0x00000850<tab>0x00000010<tab>[  1] _name`
fn read_row(line: &str, files: &HashMap<usize, usize>) -> Option<Row> {
    let (at, rest) = line.split_once('\t')?;
    let (_, rest) = rest.split_once('\t')?;
    let (file, name) = rest.strip_prefix('[')?.split_once("] ")?;
    let at = u64::from_str_radix(at.strip_prefix("0x")?, 16).ok()?;
    let input = files.get(&file.trim().parse().ok()?).copied();
    let id = |name: &str| NameId::of(name.strip_prefix('_').unwrap_or(name));
    let what = if let Some(name) = name.strip_prefix("non-lazy-pointer-to-local: ") {
        What::Word(id(name))
    } else if name.starts_with("literal string: ") {
        What::Text
    } else if input.is_none() && name.contains(' ') {
        What::Other
    } else {
        What::Symbol(id(name), name.to_owned())
    };
    Some(Row { at, input, what })
}

impl Linked {
    /// The section with a name.
    pub(crate) fn section(&self, name: &str) -> Option<&OutSection> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The section that holds `at`.
    pub(crate) fn section_at(&self, at: u64) -> Option<&OutSection> {
        self.sections.iter().find(|section| section.at <= at && at < section.at + section.size)
    }

    /// `size` bytes at `at`; `None` if they do not lie in one section of the file.
    pub(crate) fn bytes(&self, at: u64, size: u64) -> Option<&[u8]> {
        let section = self.section_at(at)?;
        let inside = at - section.at;
        let start = usize::try_from(section.file? + inside).ok()?;
        (inside + size <= section.size).then(|| self.data.get(start..start + size as usize))?
    }
}
