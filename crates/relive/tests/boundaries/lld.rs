//! Numbers at the edges, through lld: it has to take and refuse what relive's engine takes and refuses, and to write the same.
//!
//! One object holds all numbers of a pair, each at a place of its own. lld is told to go on after what does not fit, so one
//! link says all. Kinds whose number depends on where lld puts its words are left to the comparison with real objects.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use object::{Object as _, ObjectSection as _, SymbolFlags, SymbolKind, SymbolScope, write};
use relive::arch::reloc::{Form, Operand};
use relive::arch::{Machine, RelocKind};
use relive::binary::bytes::Bytes;
use relive::binary::object::{Format, Object, Place, Reloc, Role, SectionId, SymbolId};
use relive::link::apply::{Linkage, Target, WordKind, apply};

use crate::apply::cases;
use crate::page::{Number, Pair, Row};
use crate::sysroot::sysroot;

/// Bytes between two numbers' places.
const STEP: u64 = 32;

/// Where relive and lld differ: for how many numbers, and why that is right.
const EXCEPTIONS: [(&str, u32, &str); 12] = [
    ("R_X86_64_SIZE32", 3, "lld takes a size for a signed number"),
    ("R_AARCH64_CALL26", 10, "lld makes a stub where a branch does not reach; relive is asked for one by its caller"),
    ("R_AARCH64_JUMP26", 10, "the same"),
    ("R_AARCH64_PLT32", 7, "the same"),
    ("R_AARCH64_TSTBR14", 4, "lld does not look whether it is a multiple of 4"),
    ("R_AARCH64_TLSLE_ADD_TPREL_LO12", 6, "lld does not know it"),
    ("ARM64_RELOC_BRANCH26", 4, "lld does not look whether it is a multiple of 4"),
    ("ARM64_RELOC_PAGE21", 3, "lld checks 35 bits where the field has 33"),
    ("ARM64_RELOC_PAGEOFF12", 12, "lld does not look whether it is a multiple of what is loaded"),
    ("ARM64_RELOC_SUBTRACTOR", 4, "lld cuts a distance to 32 bits"),
    ("ARM64_RELOC_UNSIGNED", 1, "lld takes an address of 32 bits for a signed number"),
    ("X86_64_RELOC_SUBTRACTOR", 4, "lld cuts a distance to 32 bits"),
];

/// What is not there to run the comparison.
pub(crate) fn missing(pair: Pair) -> Option<String> {
    let linker = linker(pair);
    (!linker.exists()).then(|| format!("there is no {}", linker.display()))
}

fn linker(pair: Pair) -> PathBuf {
    let name = match pair.format {
        Format::Elf => "ld.lld",
        Format::MachO => "ld64.lld",
    };
    sysroot().join("lib/rustlib/x86_64-unknown-linux-gnu/bin/gcc-ld").join(name)
}

/// One number to try.
struct Case<'a> {
    row: &'a Row,
    number: i128,
}

/// Whether lld does with every number what relive does.
pub(crate) fn check(pair: Pair, rows: &[Row]) -> Result<(), String> {
    let cases: Vec<Case<'_>> = rows
        .iter()
        .filter(|row| is_comparable(row.kind(pair)))
        .flat_map(|row| cases(row).into_iter().map(move |(number, _)| Case { row, number }))
        .filter(|case| has_address(pair, case))
        .collect();
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    // Mach-O has no addends of 64 bits: where code will be must be known before symbols are placed as far from it as wanted.
    let first = link(pair, dir.path(), &build(pair, &cases, None))?;
    let data = build(pair, &cases, Some(first.text));
    let linked = link(pair, dir.path(), &data)?;
    let mut wrong = Vec::new();
    let mut excepted = BTreeMap::new();
    for (index, case, ours) in ours(pair, data, &linked, &cases)? {
        let offset = index as u64 * STEP;
        let theirs = &linked.bytes[offset as usize..][..8];
        let refused = linked.refused.contains(&offset);
        let same = match &ours {
            Ok(bytes) => !refused && bytes == theirs,
            Err(_) => refused,
        };
        if same {
            continue;
        }
        if let Some((name, most, _)) = EXCEPTIONS.iter().find(|(name, ..)| *name == case.row.name) {
            let count = excepted.entry(*name).or_insert(0);
            *count += 1;
            if *count <= *most {
                continue;
            }
        }
        wrong.push(format!(
            "{} with {:#x}: {ours:x?}, lld: {theirs:x?}, refused: {refused}",
            case.row.name, case.number
        ));
    }
    eprintln!(
        "{}: {} numbers, {} refused by lld, exceptions: {excepted:?}",
        pair.name,
        cases.len(),
        linked.refused.len()
    );
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// Whether the number of a Mach-O object, which is made of an address alone, can be made of one.
fn has_address(pair: Pair, case: &Case<'_>) -> bool {
    let is_absolute = matches!(case.row.kind(pair), RelocKind::Of(_, Form::Absolute, _));
    let minus = matches!(case.row.number, Number::MachO(_, true, ..));
    pair.format == Format::Elf || !is_absolute || minus || case.number >= 0
}

/// Whether a number can be made without knowing where lld puts its words.
fn is_comparable(kind: RelocKind) -> bool {
    let RelocKind::Of(operand, form, _) = kind else { return false };
    match operand {
        Operand::Symbol | Operand::Branch => form != Form::FromGot,
        Operand::ThreadOffset | Operand::Size => true,
        Operand::Nothing
        | Operand::Got
        | Operand::GotLoad
        | Operand::GotBase
        | Operand::GotThreadOffset
        | Operand::ModuleOffset
        | Operand::GeneralDynamic
        | Operand::LocalDynamic
        | Operand::TlsDescriptor
        | Operand::TlsDescriptorCall
        | Operand::Tlv => false,
    }
}

/// An object with a place for each number. `text` is where code will be.
fn build(pair: Pair, cases: &[Case<'_>], text: Option<u64>) -> Vec<u8> {
    let (format, machine) = match (pair.format, pair.machine) {
        (Format::Elf, Machine::X86_64) => (object::BinaryFormat::Elf, object::Architecture::X86_64),
        (Format::Elf, Machine::Aarch64) => (object::BinaryFormat::Elf, object::Architecture::Aarch64),
        (Format::MachO, Machine::X86_64) => (object::BinaryFormat::MachO, object::Architecture::X86_64),
        (Format::MachO, Machine::Aarch64) => (object::BinaryFormat::MachO, object::Architecture::Aarch64),
    };
    let mut out = write::Object::new(format, machine, object::Endianness::Little);
    let section = out.section_id(write::StandardSection::Text);
    let thread = (pair.format == Format::Elf).then(|| {
        let section = out.section_id(write::StandardSection::UninitializedTls);
        let value = out.append_section_bss(section, 16, 16);
        symbol(&mut out, "thread".into(), value, SymbolKind::Tls, write::SymbolSection::Section(section))
    });
    symbol(&mut out, "here".into(), 0, SymbolKind::Text, write::SymbolSection::Section(section));
    for case in cases {
        let mut code = case.row.instruction().to_le_bytes().to_vec();
        code.resize(STEP as usize, 0);
        let place = (section, out.append_section_data(section, &code, STEP));
        match case.row.number {
            Number::Elf(r_type) => elf_case(pair, &mut out, place, case, thread, r_type),
            Number::MachO(r_type, minus, bytes, r_pcrel) => {
                let r_length = bytes.trailing_zeros() as u8;
                macho_case(pair, &mut out, place, case, text, (r_type, r_pcrel, r_length), minus);
            }
        }
    }
    out.write().expect("an object")
}

/// A place in the object that is made.
type At = (write::SectionId, u64);

fn elf_case(
    pair: Pair,
    out: &mut write::Object<'_>,
    (section, offset): At,
    case: &Case<'_>,
    thread: Option<write::SymbolId>,
    r_type: u32,
) {
    let RelocKind::Of(operand, form, _) = case.row.kind(pair) else { return };
    let (symbol, addend) = match (operand, pair.machine) {
        // The block ends at the thread pointer on x86-64, and begins 16 bytes behind it on AArch64.
        (Operand::ThreadOffset, Machine::X86_64) => (thread.expect("ELF"), 16),
        (Operand::ThreadOffset, Machine::Aarch64) => (thread.expect("ELF"), -16),
        _ if form == Form::Absolute => (absolute(out, offset, 0), 0),
        _ => (here(out, (section, offset)), 0),
    };
    let addend = case.number as i64 + addend;
    let flags = object::RelocationFlags::Elf { r_type };
    out.add_relocation(section, write::Relocation { offset, symbol, addend, flags }).expect("a place");
}

/// Mach-O has no addends of 64 bits: the symbol is placed as far from the place as the number says.
fn macho_case(
    pair: Pair,
    out: &mut write::Object<'_>,
    (section, offset): At,
    case: &Case<'_>,
    text: Option<u64>,
    entry: (u8, bool, u8),
    minus: bool,
) {
    let RelocKind::Of(_, form, _) = case.row.kind(pair) else { return };
    let from = if form == Form::Absolute && !minus { 0 } else { text.unwrap_or(0) + offset };
    // The writer adds the distance of the instruction's end, which is further than that of the field's; and it cannot write
    // into a byte, for which the symbol is moved instead.
    let (addend, moved) = match (case.row.name.as_str(), entry) {
        ("X86_64_RELOC_SIGNED_1", _) => (-1, 0),
        ("X86_64_RELOC_SIGNED_2", _) => (-2, 0),
        ("X86_64_RELOC_SIGNED_4", _) => (-4, 0),
        ("X86_64_RELOC_BRANCH", (.., 0)) => (-4, 1),
        _ => (0, 0),
    };
    let number = if text.is_some() { case.number } else { 0 };
    let to = absolute(out, offset, (i128::from(from) + number + moved) as u64);
    add_macho(out, (section, offset), to, entry, addend);
    if minus {
        // Entries are written in descending order: what comes first in the file is added last.
        let here = here(out, (section, offset));
        let r_type = if pair.machine == Machine::X86_64 { 5 } else { 1 };
        add_macho(out, (section, offset), here, (r_type, entry.1, entry.2), 0);
    }
}

fn add_macho(
    out: &mut write::Object<'_>,
    (section, offset): At,
    symbol: write::SymbolId,
    (r_type, r_pcrel, r_length): (u8, bool, u8),
    addend: i64,
) {
    let flags = object::RelocationFlags::MachO { r_type, r_pcrel, r_length };
    out.add_relocation(section, write::Relocation { offset, symbol, addend, flags }).expect("a place");
}

fn here(out: &mut write::Object<'_>, (section, offset): At) -> write::SymbolId {
    symbol(out, format!("here{offset}"), offset, SymbolKind::Text, write::SymbolSection::Section(section))
}

fn absolute(out: &mut write::Object<'_>, offset: u64, value: u64) -> write::SymbolId {
    symbol(out, format!("at{offset}"), value, SymbolKind::Data, write::SymbolSection::Absolute)
}

fn symbol(
    out: &mut write::Object<'_>,
    name: String,
    value: u64,
    kind: SymbolKind,
    section: write::SymbolSection,
) -> write::SymbolId {
    out.add_symbol(write::Symbol {
        name: name.into_bytes(),
        value,
        size: 0,
        kind,
        scope: SymbolScope::Linkage,
        weak: false,
        section,
        flags: SymbolFlags::None,
    })
}

/// What lld made.
struct Linked {
    text: u64,
    bytes: Vec<u8>,
    /// Offsets whose number lld said does not fit.
    refused: HashSet<u64>,
}

fn link(pair: Pair, dir: &Path, data: &[u8]) -> Result<Linked, String> {
    let (object, out) = (dir.join("in.o"), dir.join("out"));
    std::fs::write(&object, data).map_err(|error| error.to_string())?;
    let _ = std::fs::remove_file(&out);
    let mut command = Command::new(linker(pair));
    match pair.format {
        Format::Elf => command.args(["-O0", "--no-relax", "--noinhibit-exec", "--error-limit=0", "--entry=0"]),
        Format::MachO => {
            let arch = if pair.machine == Machine::X86_64 { "x86_64" } else { "arm64" };
            // Code lies far enough from 0 that what is far before it has an address.
            command.args([
                "-pagezero_size",
                "0x4000000000",
                "-arch",
                arch,
                "-platform_version",
                "macos",
                "11",
                "11",
                "-no_fixup_chains",
            ]);
            command.args([
                "-ignore_optimization_hints",
                "--error-limit=0",
                "-undefined",
                "dynamic_lookup",
                "-e",
                "_here",
            ])
        }
    };
    let result = command.arg(&object).arg("-o").arg(&out).output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&result.stderr).into_owned();
    let data = std::fs::read(&out).map_err(|_| format!("lld made nothing: {text}"))?;
    let file = object::File::parse(&*data).map_err(|error| error.to_string())?;
    let name = if pair.format == Format::Elf { ".text" } else { "__text" };
    let section = file.section_by_name(name).ok_or("lld's output has no code")?;
    let bytes = section.data().map_err(|error| error.to_string())?.to_vec();
    let refused = text.lines().filter_map(refusal).collect();
    Ok(Linked { text: section.address(), bytes, refused })
}

/// The place in `in.o:(.text+0x20): relocation R_X86_64_8 out of range: ..`, or
/// `in.o:(symbol _here+0x20): relocation SIGNED is out of range: ..; references _at32`.
fn refusal(line: &str) -> Option<u64> {
    if !["out of range", "improper alignment", "is not aligned"].iter().any(|text| line.contains(text)) {
        return None;
    }
    if let Some((_, number)) = line.split_once("; references _at") {
        return number.trim().parse().ok();
    }
    let rest = line.split(".text+0x").nth(1)?;
    let digits = rest.split(|c: char| !c.is_ascii_hexdigit()).next()?;
    u64::from_str_radix(digits, 16).ok()
}

/// A number, and what relive's engine makes of it: the bytes at its place, or why not.
type Ours<'a, 'c> = (usize, &'a Case<'c>, Result<Vec<u8>, String>);

/// Reads the object and relocates for the address that lld chose.
fn ours<'a, 'c>(
    pair: Pair,
    data: Vec<u8>,
    linked: &Linked,
    cases: &'a [Case<'c>],
) -> Result<Vec<Ours<'a, 'c>>, String> {
    let object = Object::parse_any(Bytes::new(data)).map_err(|error| error.to_string())?;
    let is_code = |index: &usize| object.sections[*index].role == Role::Text && object.sections[*index].size > 0;
    let id = SectionId((1..object.sections.len()).find(is_code).ok_or("there is no code")? as u32);
    let section = object.section(id);
    let mut linkage = Placed { pair, object: &object, code: id, text: linked.text };
    let mut bytes = object.bytes(id).to_vec();
    let mut out = Vec::new();
    for reloc in &section.relocs {
        let mut target = Target { machine: pair.machine, code: true, at: linked.text, bytes: &mut bytes };
        let result = apply(&mut linkage, &mut target, reloc);
        let index = (reloc.offset / STEP) as usize;
        let case = cases.get(index).ok_or("a relocation without a number")?;
        out.push((index, case, result.map(|_| bytes[reloc.offset as usize..][..8].to_vec())));
    }
    if out.len() == cases.len() { Ok(out) } else { Err(format!("{} relocations, {} numbers", out.len(), cases.len())) }
}

/// Where lld put the object's only code.
struct Placed<'a> {
    pair: Pair,
    object: &'a Object,
    code: SectionId,
    text: u64,
}

impl Placed<'_> {
    fn address(&self, id: SymbolId) -> Result<u64, String> {
        match self.object.symbol(id).place {
            Place::In(section, offset) if section == self.code => Ok(self.text + offset),
            Place::Absolute(value) => Ok(value),
            Place::In(..) | Place::Undefined | Place::Unknown(_) => Err("a symbol elsewhere".into()),
        }
    }
}

impl Linkage for Placed<'_> {
    fn symbol(&mut self, reloc: &Reloc) -> Result<u64, String> {
        self.address(reloc.symbol)
    }
    fn minus(&mut self, symbol: SymbolId) -> Result<u64, String> {
        self.address(symbol)
    }
    fn branch(&mut self, reloc: &Reloc, _: u64) -> Result<u64, String> {
        self.address(reloc.symbol)
    }
    fn word(&mut self, _: &Reloc, _: WordKind) -> Result<u64, String> {
        Err("a word".into())
    }
    fn relaxes(&mut self, _: &Reloc, _: WordKind) -> bool {
        false
    }
    fn thread_offset(&mut self, _: &Reloc) -> Result<i64, String> {
        Ok(if self.pair.machine == Machine::X86_64 { -16 } else { 16 })
    }
    fn size(&mut self, _: &Reloc) -> Result<u64, String> {
        Ok(0)
    }
}
