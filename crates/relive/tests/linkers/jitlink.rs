//! LLVM's linker for code in memory, where it is installed: it links one Mach-O object at a time and prints what it made.
//!
//! What objects do not define is at 0 for both. Only what lies in code and data is compared, and no thread-locals, which it
//! does not know on all systems. Where it has its words of addresses and stubs is its own affair, so fields that lead there
//! are explained.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use relive::arch::RelocKind;
use relive::arch::reloc::Operand;
use relive::binary::bytes::Bytes;
use relive::binary::object::{Binding, NameId, Object, Place, Role, SectionId, SymbolKind};
use relive::link::buffer::{Buffer, Room};

use crate::c;
use crate::inputs::{Input, Target};
use crate::report::{Least, Report};

/// Below 2 GiB, so that what is at 0 is in reach of everything.
const SLAB: u64 = 0x1000_0000;
/// In reach of branches of AArch64, behind the slab.
const WORDS: u64 = SLAB + (16 << 20);
/// More than it prints of any object here. Version 14 prints blanks without end for ELF objects.
const PRINTED_MAX: u64 = 32 << 20;
const LEFT_OUT: &str = "it leads to a section of which llvm-jitlink left something out";
const ELSEWHERE: &str = "it leads to a word of addresses or a stub, which are elsewhere";

/// By the name that systems give it.
pub(crate) fn tool() -> Option<String> {
    let versions = (14..30).rev().map(|version| format!("llvm-jitlink-{version}"));
    let mut names = std::iter::once("llvm-jitlink".to_owned()).chain(versions);
    names.find(|name| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success()))
}

/// Links all objects of C for `target`, each by itself.
pub(crate) fn compare(target: Target, least: Least) -> Result<(), String> {
    let tool = tool().ok_or("there is no llvm-jitlink")?;
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut missing = Vec::new();
    let groups = c::groups(target, dir.path(), &mut missing);
    let mut report = Report::new(missing);
    for input in groups.iter().flat_map(|group| &group.inputs) {
        match link(&tool, input) {
            Ok(linked) => one(input, &linked, &mut report),
            Err(why) => report.missing.push(why),
        }
    }
    report.finish(&format!("{} with llvm-jitlink", target.triple()), least)
}

/// Sections by name: the bytes that were printed, by address.
type Linked = HashMap<String, BTreeMap<u64, u8>>;

fn link(tool: &str, input: &Input) -> Result<Linked, String> {
    let functions = input.object.symbols.iter().filter(|symbol| {
        symbol.kind == SymbolKind::Function
            && symbol.binding == Binding::Global
            && matches!(symbol.place, Place::In(..))
    });
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let entry = { functions }.map(|symbol| input.object.name(symbol)).next();
    let entry = entry.ok_or_else(|| format!("{}: no function to begin with", name(&input.path)))?;
    let mut child = Command::new(tool)
        .args(["--noexec", "--no-process-syms", "--phony-externals", "--show-relocated-section-contents"])
        .args(["--slab-allocate=8Mb", "--slab-page-size=4096"])
        .arg(format!("--slab-address={SLAB:#x}"))
        .arg(format!("--entry=_{entry}"))
        .arg(&input.path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it was started before");
    let mut printed = Vec::new();
    let stdout = child.stdout.take().expect("a pipe");
    stdout.take(PRINTED_MAX).read_to_end(&mut printed).expect("it can be read");
    let is_endless = printed.len() as u64 == PRINTED_MAX;
    if is_endless {
        child.kill().expect("it is ours");
    }
    let status = child.wait().expect("it is ours");
    if is_endless || !status.success() {
        let why = if is_endless { "prints without end".to_owned() } else { format!("ends with {status}") };
        return Err(format!("{}: llvm-jitlink {why}", name(&input.path)));
    }
    Ok(parse(&String::from_utf8_lossy(&printed)))
}

fn parse(text: &str) -> Linked {
    let mut linked = Linked::new();
    let mut section = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_suffix(" content:") {
            // Mach-O's have the segment before a comma.
            section = name.rsplit(',').next().unwrap_or(name).to_owned();
        } else if let Some((at, bytes)) = line.split_once(':')
            && let Some(at) = at.strip_prefix("0x").and_then(|at| u64::from_str_radix(at, 16).ok())
        {
            let into = linked.entry(section.clone()).or_default();
            // A byte that is not there is three blanks: the columns say where one is.
            for column in 0..16 {
                let field = bytes.get(1 + 3 * column..3 + 3 * column).unwrap_or_default();
                if let Ok(byte) = u8::from_str_radix(field.trim(), 16) {
                    into.insert(at + column as u64, byte);
                }
            }
        }
    }
    linked
}

/// Where each section of an object went: sections of one name lie one behind the other, as in the object, unless something
/// was left out because nothing refers to it.
fn places(object: &Object, linked: &Linked) -> Vec<(SectionId, u64)> {
    let mut next: HashMap<&str, u64> = HashMap::new();
    let mut out: Vec<(SectionId, u64)> = Vec::new();
    for (number, section) in object.sections.iter().enumerate() {
        let name = section.name.rsplit(',').next().unwrap_or_default();
        let is_compared = section.role.is_loaded() && !matches!(section.role, Role::EhFrame | Role::CompactUnwind);
        let start = linked.get(name).and_then(|bytes| bytes.keys().next().copied());
        let (true, Some(start)) = (is_compared && section.size > 0, start) else { continue };
        let at = next.get(name).copied().unwrap_or(start).next_multiple_of(section.align);
        next.insert(name, at + section.size);
        out.push((SectionId(number as u32), at));
    }
    out.retain(|(section, _)| {
        let name = object.section(*section).name.rsplit(',').next().unwrap_or_default();
        let end = linked.get(name).and_then(|bytes| bytes.keys().next_back().copied());
        end.is_some_and(|last| next.get(name) == Some(&(last + 1)))
    });
    out
}

fn one(input: &Input, linked: &Linked, report: &mut Report) {
    let file = input.path.display();
    let data = std::fs::read(&input.path).expect("it was written before");
    let object = Arc::new(Object::parse_any(Bytes::new(data)).expect("it was read before"));
    let places = places(&object, linked);
    let room = Room::new(WORDS..WORDS + (1 << 20), WORDS + (2 << 20)..WORDS + (3 << 20));
    let mut buffer = Buffer::new(object.machine, room, true, 0);
    let id = buffer.add(Arc::clone(&object)).expect("it is for the machine");
    for (section, at) in &places {
        if buffer.place(id, *section, *at).is_err() {
            return report.missing.push(format!("{file}: its sections are in another order"));
        }
    }
    // What it left out lies anywhere; what refers to it is told apart below.
    let left_out =
        buffer.place_all(&[Role::Text, Role::ReadOnly, Role::RelRo, Role::Data, Role::Bss], WORDS + (4 << 20));
    let left_out = left_out.and_then(|at| buffer.place_all(&[Role::Lsda, Role::TlsData, Role::TlsBss], at));
    for name in buffer.undefined() {
        buffer.define(NameId::of(&name), 0);
    }
    if let Err(why) = left_out.and_then(|_| buffer.resolve()) {
        return report.missing.push(format!("{file}: {why}"));
    }
    let known: HashSet<SectionId> = places.iter().map(|(section, _)| *section).collect();
    report.objects += 1;
    for (section, at) in places {
        let (Some((_, ours)), of) = (buffer.atom(id, section), object.section(section)) else { continue };
        let name = of.name.rsplit(',').next().unwrap_or_default();
        for reloc in &of.relocs {
            let RelocKind::Of(operand, ..) = reloc.kind else { continue };
            let range = reloc.offset..reloc.offset + reloc.kind.width();
            let ours = ours.get(range.start as usize..range.end as usize).unwrap_or_default();
            let theirs: Vec<u8> =
                range.clone().map_while(|inside| linked.get(name)?.get(&(at + inside)).copied()).collect();
            if ours == theirs {
                report.equal(reloc.kind, false);
            } else if !matches!(operand, Operand::Symbol) {
                report.explained(ELSEWHERE, 1);
            } else if matches!(object.symbol(reloc.symbol).place, Place::In(to, _) if !known.contains(&to)) {
                report.explained(LEFT_OUT, 1);
            } else {
                let target = object.name(object.symbol(reloc.symbol));
                report.unexplained(format!(
                    "{file}: {:?} at {:#x} of {name} ({at:#x}) against `{target}`{:+}: {ours:02x?}, theirs {theirs:02x?}",
                    reloc.kind, reloc.offset, reloc.addend
                ));
            }
        }
    }
}
