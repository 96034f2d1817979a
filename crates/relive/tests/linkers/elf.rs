//! ELF: every section of every input, relocated by relive for the address that lld chose.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use gimli::{BaseAddresses, CieOrFde, EhFrame, LittleEndian, UnwindSection};
use object::write;
use relive::arch::reloc::{Field, Form, Operand};
use relive::arch::{Machine, RelocKind};
use relive::binary::bytes::Bytes;
use relive::binary::frames::Record;
use relive::binary::object::{Binding, NameId, Object, Place, Reloc, Role, SectionId, SymbolId};
use relive::link::apply::{Linkage, WordKind};

use crate::compare::{DISCARDED, Piece};
use crate::inputs::{self, Group, Input, Target};
use crate::lld::{self, Linked};
use crate::report::{Least, Report};

/// A symbol as lld tells them apart: by name, or by object.
type Key = Result<NameId, (usize, SymbolId)>;

/// Links all inputs with lld and with relive.
pub(crate) fn compare(target: Target, least: Least) -> Result<(), String> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (groups, missing) = inputs::collect(target, dir.path());
    let mut report = Report::new(missing);
    for group in groups {
        one(target, group, dir.path(), &mut report);
    }
    report.finish(target.triple(), least)
}

fn one(target: Target, group: Group, dir: &Path, report: &mut Report) {
    let Group { mut flags, mut inputs } = group;
    let stub = undefined(&inputs, target);
    let path = dir.join("undefined.o");
    std::fs::write(&path, &stub).expect("a file in a new folder");
    inputs.push(Input { path, object: Object::parse_any(Bytes::new(stub)).expect("an object that was just made") });
    // AArch64's rewriting depends on what follows; the words are used as they are.
    flags.extend((target.machine == Machine::Aarch64).then_some("--no-relax"));
    let linked = lld::link(target, &inputs, dir, &flags);
    let mut links = Links::new(&inputs, &linked);
    report.objects += inputs.len() as u64;
    for index in 0..inputs.len() {
        links.input(index, report);
    }
    links.words(report);
}

/// An object that defines what no input does.
fn undefined(inputs: &[Input], target: Target) -> Vec<u8> {
    let mut defined = HashSet::new();
    let mut wanted: HashMap<String, bool> = HashMap::new();
    for Input { object, .. } in inputs {
        let global = |symbol: &&relive::binary::object::Symbol| symbol.binding != Binding::Local;
        defined.extend(
            object
                .symbols
                .iter()
                .filter(global)
                .filter(|symbol| symbol.place != Place::Undefined)
                .map(|symbol| symbol.id),
        );
        for reloc in object.sections.iter().flat_map(|section| &section.relocs) {
            let symbol = object.symbol(reloc.symbol);
            if symbol.place == Place::Undefined && symbol.id != NameId::of("") {
                *wanted.entry(object.name(symbol).to_owned()).or_default() |= is_thread_local(reloc.kind);
            }
        }
    }
    let machine = match target.machine {
        Machine::X86_64 => object::Architecture::X86_64,
        Machine::Aarch64 => object::Architecture::Aarch64,
    };
    let mut out = write::Object::new(object::BinaryFormat::Elf, machine, object::Endianness::Little);
    let text = out.section_id(write::StandardSection::Text);
    let threads = out.section_id(write::StandardSection::UninitializedTls);
    wanted.retain(|name, _| name != "_GLOBAL_OFFSET_TABLE_" && !defined.contains(&NameId::of(name)));
    let mut wanted: Vec<_> = wanted.into_iter().collect();
    wanted.sort();
    for (name, is_thread_local) in wanted {
        let (section, kind, value) = if is_thread_local {
            (threads, object::SymbolKind::Tls, out.append_section_bss(threads, 16, 16))
        } else {
            (text, object::SymbolKind::Text, out.append_section_data(text, &[0xcc; 16], 16))
        };
        out.add_symbol(write::Symbol {
            name: name.into_bytes(),
            value,
            size: 16,
            kind,
            scope: object::SymbolScope::Linkage,
            weak: false,
            section: write::SymbolSection::Section(section),
            flags: object::SymbolFlags::None,
        });
    }
    out.write().expect("an object")
}

fn is_thread_local(kind: RelocKind) -> bool {
    matches!(
        kind.operand(),
        Some(
            Operand::ThreadOffset
                | Operand::GotThreadOffset
                | Operand::ModuleOffset
                | Operand::GeneralDynamic
                | Operand::TlsDescriptor
                | Operand::TlsDescriptorCall
        )
    )
}

/// Where lld put things, for the relocations of one section at a time.
struct Links<'a> {
    inputs: &'a [Input],
    linked: &'a Linked,
    /// Whose definition of a name counts.
    globals: HashMap<NameId, (usize, SymbolId)>,
    /// Words that lld's code refers to, with what they must hold.
    words: HashMap<(Key, WordKind), u64>,
    /// lld's unwind entries, by function.
    entries: HashMap<u64, usize>,
    current: usize,
    section: SectionId,
    at: u64,
    /// lld's bytes of the section.
    theirs: &'a [u8],
}

impl<'a> Links<'a> {
    fn new(inputs: &'a [Input], linked: &'a Linked) -> Links<'a> {
        let mut globals: HashMap<NameId, (usize, SymbolId)> = HashMap::new();
        for (index, Input { object, .. }) in inputs.iter().enumerate() {
            for (number, symbol) in object.symbols.iter().enumerate().skip(1) {
                let kept = match symbol.place {
                    Place::In(section, _) => {
                        linked.placed.contains_key(&(index, section)) || object.section(section).size == 0
                    }
                    Place::Absolute(_) => true,
                    Place::Undefined | Place::Unknown(_) => false,
                };
                if symbol.binding == Binding::Local || !kept {
                    continue;
                }
                let new = (index, SymbolId(number as u32));
                let old = globals.entry(symbol.id).or_insert(new);
                // The first strong definition, else the first weak one.
                let is_weak = |(input, id): (usize, SymbolId)| inputs[input].object.symbol(id).binding == Binding::Weak;
                if is_weak(*old) && !is_weak(new) {
                    *old = new;
                }
            }
        }
        let (section, words) = (SectionId(0), HashMap::new());
        Links { inputs, linked, globals, words, entries: entries(linked), current: 0, section, at: 0, theirs: &[] }
    }

    fn object(&self) -> &'a Object {
        &self.inputs[self.current].object
    }

    fn input(&mut self, index: usize, report: &mut Report) {
        self.current = index;
        let object = self.object();
        for number in 1..object.sections.len() {
            let id = SectionId(number as u32);
            let section = object.section(id);
            let compared = section.role.is_loaded() && section.role != Role::EhFrame || section.role == Role::Debug;
            let zeroed = section.file_range.is_empty();
            let Some((name, at)) = self.linked.placed.get(&(index, id)) else { continue };
            if !compared || zeroed {
                continue;
            }
            (self.section, self.at) = (id, *at);
            self.theirs = self.linked.bytes(name, *at, section.size);
            self.section(report);
        }
        self.frames(report);
    }

    fn section(&mut self, report: &mut Report) {
        let object = self.object();
        let section = object.section(self.section);
        let mut piece = Piece {
            object,
            name: format!("{} `{}`", self.inputs[self.current].path.display(), section.name),
            debug: section.role == Role::Debug,
            at: self.at,
            ours: object.bytes(self.section).to_vec(),
            theirs: self.theirs,
        };
        piece.compare(self, &section.relocs, report);
    }

    fn key(&self, id: SymbolId) -> Key {
        let symbol = self.object().symbol(id);
        if symbol.binding == Binding::Local { Err((self.current, id)) } else { Ok(symbol.id) }
    }

    fn address(&self, key: Key) -> Result<u64, String> {
        let (input, id) = match key {
            Ok(name) => *self.globals.get(&name).ok_or(DISCARDED)?,
            Err(local) => local,
        };
        let object = &self.inputs[input].object;
        match object.symbol(id).place {
            Place::In(section, offset) => {
                let (_, at) = self.linked.placed.get(&(input, section)).ok_or(DISCARDED)?;
                Ok(at + offset)
            }
            Place::Absolute(value) => Ok(value),
            Place::Undefined if id.0 == 0 => Ok(0),
            Place::Undefined | Place::Unknown(_) => Err(DISCARDED.into()),
        }
    }

    fn theirs(&self, reloc: &Reloc) -> Option<i128> {
        let RelocKind::Of(_, _, field) = reloc.kind else { return None };
        field.read(self.theirs.get(reloc.offset as usize..)?).map(i128::from)
    }

    /// The word that lld's code refers to.
    fn their_word(&self, reloc: &Reloc) -> Option<u64> {
        let RelocKind::Of(operand, form, _) = reloc.kind else { return None };
        let place = i128::from(self.at) + i128::from(reloc.offset);
        let value = self.theirs(reloc)?;
        let word = match form {
            Form::Relative => value + place - i128::from(reloc.addend),
            Form::FromGot => value + i128::from(self.linked.got?) - i128::from(reloc.addend),
            // An instruction with the lower bits belongs to one with the page.
            Form::Page => {
                let low = |other: &&Reloc| {
                    let same = other.symbol == reloc.symbol && other.kind.operand() == Some(operand);
                    same && matches!(other.kind, RelocKind::Of(_, Form::Absolute, Field::LoadStore12(_)))
                };
                let low = self.object().section(self.section).relocs.iter().find(low)?;
                (place & !0xfff) + value + self.theirs(low)?
            }
            Form::Absolute => return None,
        };
        u64::try_from(word).ok()
    }

    /// Whether the words hold what they are there for.
    fn words(&mut self, report: &mut Report) {
        for ((key, kind), at) in &self.words {
            let wanted = self.address(*key).map(|addr| match kind {
                WordKind::ThreadOffset => addr.wrapping_sub(self.linked.thread_pointer),
                WordKind::Address | WordKind::Descriptor => addr,
            });
            let found = self.linked.at(*at).and_then(|(_, bytes)| Some(u64::from_le_bytes(*bytes.first_chunk()?)));
            match (wanted, found) {
                (Ok(wanted), Some(found)) if wanted == found => report.explained("words of addresses", 1),
                other => report.unexplained(format!("the {kind:?} word at {at:#x} for {key:?}: {other:x?}")),
            }
        }
    }

    /// Unwind entries: lld writes each common entry once and puts them in an order of its own. An entry is found by the
    /// function it is for.
    fn frames(&mut self, report: &mut Report) {
        let object = self.object();
        let (Some(section), Some((start, theirs))) = (object.frames.section, self.linked.section(".eh_frame")) else {
            return;
        };
        self.section = section;
        let mut seen = HashSet::new();
        for frame in object.frames.of.values().flatten() {
            let function = frame.fde.relocs.iter().find(|reloc| reloc.offset == frame.fde.range.start + 8);
            let function = function.map(|reloc| {
                let base = self.address(self.key(reloc.symbol))?;
                Ok::<u64, String>(base.wrapping_add(reloc.addend as u64))
            });
            let entry = match function {
                Some(Ok(function)) => self.entries.get(&function).copied(),
                // Of a function that lld dropped for another one.
                Some(Err(_)) => continue,
                None => None,
            };
            let Some(entry) = entry else {
                let name = self.inputs[self.current].path.display();
                report.unexplained(format!("{name}: no unwind entry of lld's for the one at {:?}", frame.fde.range));
                continue;
            };
            self.record(&frame.fde, start, theirs, entry, report);
            let distance = theirs[entry + 4..].first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
            if seen.insert(frame.cie) {
                let common = entry + 4 - distance as usize;
                self.record(&object.frames.cies[frame.cie], start, theirs, common, report);
            }
        }
    }

    /// One record of the input against the one at `entry` in lld's section.
    fn record(&mut self, record: &Record, start: u64, theirs: &'a [u8], entry: usize, report: &mut Report) {
        let object = self.object();
        let range = record.range.start as usize..record.range.end as usize;
        (self.at, self.theirs) = (start + entry as u64, &theirs[entry..entry + range.len()]);
        let mut ours = object.bytes(self.section)[range].to_vec();
        // The distance to the common entry is the writer's.
        ours[4..8].copy_from_slice(&self.theirs[4..8]);
        let shift = |reloc: &Reloc| Reloc { offset: reloc.offset - record.range.start, ..*reloc };
        let relocs: Vec<Reloc> = record.relocs.iter().map(shift).collect();
        let name = format!("{} unwind entry at {:#x}", self.inputs[self.current].path.display(), record.range.start);
        let mut piece = Piece { object, name, debug: false, at: self.at, ours, theirs: self.theirs };
        piece.compare(self, &relocs, report);
    }
}

/// Where lld's unwind entries are, by their functions.
fn entries(linked: &Linked) -> HashMap<u64, usize> {
    let Some((start, bytes)) = linked.section(".eh_frame") else { return HashMap::new() };
    let frames = EhFrame::new(bytes, LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(start);
    let mut entries = frames.entries(&bases);
    let mut out = HashMap::new();
    while let Some(entry) = entries.next().expect("lld's unwind entries") {
        if let CieOrFde::Fde(partial) = entry {
            let fde = partial.parse(EhFrame::cie_from_offset).expect("lld's unwind entry");
            out.insert(fde.initial_address(), fde.offset());
        }
    }
    out
}

impl Linkage for Links<'_> {
    fn symbol(&mut self, reloc: &Reloc) -> Result<u64, String> {
        self.address(self.key(reloc.symbol))
    }

    fn minus(&mut self, _: SymbolId) -> Result<u64, String> {
        Err("a difference of symbols".into())
    }

    fn branch(&mut self, reloc: &Reloc, _: u64) -> Result<u64, String> {
        self.symbol(reloc)
    }

    fn word(&mut self, reloc: &Reloc, kind: WordKind) -> Result<u64, String> {
        let key = (self.key(reloc.symbol), kind);
        if let Some(word) = self.words.get(&key) {
            return Ok(*word);
        }
        let word = self.their_word(reloc).ok_or("lld's word for it is not known")?;
        self.words.insert(key, word);
        Ok(word)
    }

    fn relaxes(&mut self, _: &Reloc, kind: WordKind) -> bool {
        kind == WordKind::ThreadOffset || self.object().machine == Machine::X86_64
    }

    fn thread_offset(&mut self, reloc: &Reloc) -> Result<i64, String> {
        Ok(self.symbol(reloc)?.wrapping_sub(self.linked.thread_pointer) as i64)
    }

    fn module_offset(&mut self, reloc: &Reloc) -> Result<i64, String> {
        Ok(self.symbol(reloc)?.wrapping_sub(self.linked.thread_block) as i64)
    }

    fn got(&self) -> Result<u64, String> {
        self.linked.got.ok_or_else(|| "there is no table of words".into())
    }
}
