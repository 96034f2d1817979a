//! Mach-O: every part of every input, relocated by relive for the address that lld chose. The twin of `elf`.

mod frames;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use object::{Object as _, ObjectSymbol as _};
use relive::arch::reloc::{Field, Form, Operand};
use relive::arch::{Machine, RelocKind};
use relive::binary::object::{Binding, NameId, Object, Place, Reloc, Role, SectionId, SymbolId, SymbolKind};
use relive::link::apply::{Linkage, WordKind};

use crate::compare::{DISCARDED, Piece};
use crate::inputs::{self, Group, Input, Target};
use crate::ld64::{self, Linked, What};
use crate::replay::Layout;
use crate::report::{Least, Report};

/// A symbol as lld tells them apart: by name, or by object.
type Key = Result<NameId, (usize, SymbolId)>;

/// Links all inputs with lld and with relive.
pub(crate) fn compare(target: Target, least: Least) -> Result<(), String> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (groups, missing) = inputs::collect(target, dir.path());
    let mut report = Report::new(missing);
    for group in groups {
        one(target, &group, dir.path(), &mut report);
    }
    report.finish(target.triple(), least)
}

fn one(target: Target, group: &Group, dir: &Path, report: &mut Report) {
    let linked = ld64::link(target, &group.inputs, dir, &group.flags);
    let layout = Layout::new(&group.inputs, &linked, report);
    let mut links = Links::new(&group.inputs, &linked, &layout);
    report.objects += group.inputs.len() as u64;
    for index in 0..group.inputs.len() {
        links.input(index, report);
    }
    links.words(report);
}

/// Where lld put things, for the relocations of one part at a time.
struct Links<'a> {
    inputs: &'a [Input],
    linked: &'a Linked,
    layout: &'a Layout,
    /// Weak definitions that another library may replace: reached as imports are.
    replaceable: HashSet<NameId>,
    /// lld's words, by what they refer to; a name may be that of several private symbols.
    words: HashMap<(NameId, WordKind), Vec<u64>>,
    /// lld's stubs.
    stubs: HashMap<NameId, u64>,
    /// Symbols that the linker defines for a section's beginning and end.
    bounds: HashMap<NameId, u64>,
    /// Words that our code refers to, with what they must hold.
    used: HashSet<(Key, WordKind, u64)>,
    current: usize,
    section: SectionId,
    at: u64,
    /// lld's bytes of the part.
    theirs: &'a [u8],
    /// How many third words of thread-local variable descriptors there were.
    descriptors: u64,
    /// lld's call frame entries, by the address of their function.
    frames: HashMap<u64, frames::Entry>,
    /// Where the section of call frame information would begin for the entry that is relocated.
    frame_base: Option<u64>,
}

impl<'a> Links<'a> {
    fn new(inputs: &'a [Input], linked: &'a Linked, layout: &'a Layout) -> Links<'a> {
        let mut words: HashMap<_, Vec<u64>> = HashMap::new();
        let mut stubs = HashMap::new();
        for row in &linked.rows {
            let section = linked.section_at(row.at).map_or("", |section| section.name.as_str());
            match (&row.what, section) {
                (What::Word(id), "__DATA,__thread_ptrs") => {
                    words.entry((*id, WordKind::Descriptor)).or_default().push(row.at);
                }
                (What::Word(id), _) => words.entry((*id, WordKind::Address)).or_default().push(row.at),
                (What::Symbol(id, _), "__TEXT,__stubs") => {
                    stubs.insert(*id, row.at);
                }
                (What::Symbol(..) | What::Text | What::Other, _) => {}
            }
        }
        let replaceable = replaceable(inputs, layout);
        let bounds = linked.sections.iter().flat_map(|section| {
            let name = section.name.replace(',', "$");
            let (start, end) = (format!("section$start${name}"), format!("section$end${name}"));
            [(NameId::of(&start), section.at), (NameId::of(&end), section.at + section.size)]
        });
        let bounds = bounds.collect();
        let (used, section, theirs) = (HashSet::new(), SectionId(0), &[][..]);
        Links {
            inputs,
            linked,
            layout,
            replaceable,
            words,
            stubs,
            bounds,
            used,
            current: 0,
            section,
            at: 0,
            theirs,
            descriptors: 0,
            frames: frames::theirs(linked),
            frame_base: None,
        }
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
            let count = section.relocs.len() as u64;
            match section.role {
                Role::Debug => report.explained("debug information, which lld leaves in the objects", count),
                Role::CompactUnwind => report.explained("compact unwind entries, which lld writes anew", count),
                Role::Ignored => report.explained("in sections that are not part of the program", count),
                Role::EhFrame => frames::compare(self, id, report),
                _ if self.layout.dropped.contains(&(index, id)) => {
                    report.explained("in weak definitions that lld dropped", count);
                }
                _ if section.merge_size > 0 => self.merged(id, report),
                Role::Bss | Role::TlsBss => {}
                Role::Text | Role::ReadOnly | Role::RelRo | Role::Data | Role::TlsData | Role::Lsda => {
                    self.part(id, report)
                }
            }
        }
        report.explained("third words of thread-local variable descriptors", std::mem::take(&mut self.descriptors));
    }

    fn name(&self, id: SectionId) -> String {
        format!("{} `{}`", self.inputs[self.current].path.display(), self.object().section(id).name)
    }

    fn part(&mut self, id: SectionId, report: &mut Report) {
        let object = self.object();
        let section = object.section(id);
        if section.size == 0 {
            return;
        }
        let found = self.layout.address(self.current, id, 0).and_then(|at| {
            let theirs = self.linked.bytes(at, section.size)?;
            Some((at, theirs))
        });
        let Some((at, theirs)) = found else {
            report.unexplained(format!("{}: it is not in lld's output", self.name(id)));
            return;
        };
        (self.section, self.at, self.theirs) = (id, at, theirs);
        let (name, ours) = (self.name(id), object.bytes(id).to_vec());
        let mut piece = Piece { object, name, debug: false, at, ours, theirs };
        piece.compare(self, &section.relocs, report);
    }

    /// Strings and literals: each has to be where references to it will lead.
    fn merged(&mut self, id: SectionId, report: &mut Report) {
        let object = self.object();
        let bytes = object.bytes(id);
        let pieces = self.layout.pieces(self.current, id);
        let ends = pieces.iter().skip(1).map(|(start, _)| *start).chain([bytes.len() as u64]);
        for ((start, at), end) in pieces.iter().zip(ends) {
            let ours = &bytes[*start as usize..end as usize];
            if self.linked.bytes(*at, end - start) != Some(ours) {
                report.unexplained(format!("{}+{start:#x}: another string or literal at {at:#x}", self.name(id)));
            }
        }
        report.explained("strings and literals, compared by content", pieces.len() as u64);
    }

    fn key(&self, id: SymbolId) -> Key {
        let symbol = self.object().symbol(id);
        if symbol.binding == Binding::Local { Err((self.current, id)) } else { Ok(symbol.id) }
    }

    /// The definition that counts; `None` for an import.
    fn definition(&self, key: Key) -> Result<Option<(usize, SectionId, u64)>, String> {
        let (input, id) = match key {
            Err(local) => local,
            Ok(name) => match self.layout.globals.get(&name) {
                Some(found) => *found,
                None => return Ok(None),
            },
        };
        let Place::In(section, offset) = self.inputs[input].object.symbol(id).place else {
            return Err("it is not defined in a section".into());
        };
        Ok(Some((input, section, offset)))
    }

    /// The address of a symbol that far behind it; 0 and the distance for an import, which the loader adds its address to.
    fn address(&self, key: Key, addend: i64) -> Result<u64, String> {
        if let Ok(name) = key
            && let Some(at) = self.layout.common.get(&name)
        {
            return Ok(*at);
        }
        let Some((input, section, offset)) = self.definition(key)? else {
            return Ok(key.ok().and_then(|name| self.bounds.get(&name)).copied().unwrap_or(0));
        };
        if self.layout.dropped.contains(&(input, section)) {
            return Err(DISCARDED.into());
        }
        // What is meant in a merged section without symbols is found by the place that is referred to.
        let object = &self.inputs[input].object;
        let named = key.map_or_else(|(_, id)| object.symbol(id).kind != SymbolKind::Section, |_| true);
        let inside = if named || object.section(section).merge_size == 0 { 0 } else { addend };
        let meant = offset.checked_add_signed(inside).ok_or("it refers to what lies before its section")?;
        let at = self.layout.address(input, section, meant).ok_or("it is not in lld's output")?;
        Ok(at.wrapping_sub(inside as u64))
    }

    /// Whether it is defined here and cannot be defined elsewhere.
    fn is_own(&self, id: SymbolId) -> bool {
        match self.key(id) {
            Err(_) => true,
            Ok(name) if self.layout.common.contains_key(&name) => true,
            Ok(name) if self.bounds.contains_key(&name) => true,
            Ok(name) => self.layout.globals.contains_key(&name) && !self.replaceable.contains(&name),
        }
    }

    /// Whether the words hold what they are there for: what the loader binds holds nothing yet.
    fn words(&mut self, report: &mut Report) {
        for (key, kind, at) in &self.used {
            let bound = key.is_ok_and(|name| self.replaceable.contains(&name));
            let wanted = self.address(*key, 0);
            let found = self.linked.bytes(*at, 8).and_then(|bytes| Some(u64::from_le_bytes(*bytes.first_chunk()?)));
            match (wanted, found) {
                (Ok(wanted), Some(found)) if wanted == found || bound => report.explained("words of addresses", 1),
                other => report.unexplained(format!("the {kind:?} word at {at:#x} for {key:?}: {other:x?}")),
            }
        }
    }

    /// The beginning of the initial image of thread-locals.
    fn template(&self) -> Option<u64> {
        let sections = ["__DATA,__thread_data", "__DATA,__thread_bss"];
        sections.iter().filter_map(|name| self.linked.section(name)).map(|section| section.at).min()
    }

    /// Whether it is the third word of a thread-local variable descriptor.
    fn is_template_offset(&self, reloc: &Reloc) -> bool {
        let section = self.object().section(self.section);
        section.name.ends_with(",__thread_vars")
            && reloc.offset % 24 == 16
            && matches!(reloc.kind, RelocKind::Of(Operand::Symbol, ..))
    }
}

/// Names of weak definitions that are seen outside: neither hidden nor such that they may be hidden
/// (`.weak_def_can_be_hidden`, both weak bits), in one object at least.
fn replaceable(inputs: &[Input], layout: &Layout) -> HashSet<NameId> {
    let mut out = HashSet::new();
    for Input { object, .. } in inputs {
        let file = object::File::parse(&**object.data()).expect("an object that was parsed before");
        for raw in file.symbols() {
            let symbol = object.symbol(SymbolId(raw.index().0 as u32 + 1));
            let may_be_hidden = matches!(raw.flags(), object::SymbolFlags::MachO { n_desc } if n_desc & 0xc0 == 0xc0);
            let is_seen = raw.scope() == object::SymbolScope::Dynamic && !may_be_hidden;
            if symbol.binding == Binding::Weak && matches!(symbol.place, Place::In(..)) && is_seen {
                out.insert(symbol.id);
            }
        }
    }
    let is_weak = |id: &NameId| {
        let (input, symbol) = layout.globals[id];
        inputs[input].object.symbol(symbol).binding == Binding::Weak
    };
    out.retain(is_weak);
    out
}

impl Linkage for Links<'_> {
    fn symbol(&mut self, reloc: &Reloc) -> Result<u64, String> {
        // On x86-64 the addend counts from the end of the field.
        let behind = match (self.object().machine, reloc.kind) {
            (Machine::X86_64, RelocKind::Of(_, Form::Relative, Field::Int(width, _))) => i64::from(width),
            _ => 0,
        };
        let at = self.address(self.key(reloc.symbol), reloc.addend + behind)?;
        if self.is_template_offset(reloc) {
            self.descriptors += 1;
            return Ok(at.wrapping_sub(self.template().ok_or("there are no thread-locals")?));
        }
        Ok(at)
    }

    fn minus(&mut self, symbol: SymbolId) -> Result<u64, String> {
        if let (Some(base), Place::In(section, offset)) = (self.frame_base, self.object().symbol(symbol).place)
            && section == self.section
        {
            return Ok(base.wrapping_add(offset));
        }
        self.address(self.key(symbol), 0)
    }

    fn branch(&mut self, reloc: &Reloc, _: u64) -> Result<u64, String> {
        if self.is_own(reloc.symbol) {
            return self.symbol(reloc);
        }
        let name = self.object().symbol(reloc.symbol).id;
        self.stubs.get(&name).copied().ok_or_else(|| "lld has no stub for it".into())
    }

    fn word(&mut self, reloc: &Reloc, kind: WordKind) -> Result<u64, String> {
        let key = self.key(reloc.symbol);
        let name = self.object().symbol(reloc.symbol).id;
        let words = self.words.get(&(name, kind)).ok_or("lld has no word for it")?;
        let [word] = words[..] else { return Err("lld has several words for its name".into()) };
        self.used.insert((key, kind, word));
        Ok(word)
    }

    fn relaxes(&mut self, reloc: &Reloc, _: WordKind) -> bool {
        self.is_own(reloc.symbol)
    }

    fn thread_offset(&mut self, _: &Reloc) -> Result<i64, String> {
        Err("an offset from the thread pointer".into())
    }
}
