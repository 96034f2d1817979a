//! Where lld's Mach-O flavour puts everything, worked out again: the map does not list private symbols.
//!
//! An output section is the concatenation of the parts of its inputs in the order of the command line, each aligned as its
//! place in its object was; of weak definitions the first counts, unless there is a strong one. Strings stay as many as
//! they were, literals of one value become one. All of it is checked against the map's symbols and sections.

use std::collections::{HashMap, HashSet};

use relive::binary::object::{Binding, NameId, Object, Place, Role, Section, SectionId, SymbolId};

use crate::inputs::Input;
use crate::ld64::{Linked, Row, What};
use crate::report::Report;

/// Addresses of the inputs' parts.
#[derive(Default)]
pub(crate) struct Layout {
    placed: HashMap<(usize, SectionId), Placed>,
    /// Whose definition of a name counts.
    pub(crate) globals: HashMap<NameId, (usize, SymbolId)>,
    /// Names without a definition that have memory all the same.
    pub(crate) common: HashMap<NameId, u64>,
    /// Parts with a weak definition that does not count.
    pub(crate) dropped: HashSet<(usize, SectionId)>,
}

/// Where a part is.
enum Placed {
    /// In one piece.
    At(u64),
    /// In pieces: offset in the part and address, ascending by offset.
    Pieces(Vec<(u64, u64)>),
}

const COMMON: &str = "__DATA,__common";
const LITERALS: &str = "__TEXT,__literals";

impl Layout {
    /// Works it out and checks it.
    pub(crate) fn new(inputs: &[Input], linked: &Linked, report: &mut Report) -> Layout {
        let mut layout = Layout::default();
        layout.define(inputs);
        let common_end = layout.place_common(inputs, linked);
        let mut ends: HashMap<String, u64> = HashMap::new();
        for (index, Input { object, .. }) in inputs.iter().enumerate() {
            for number in 1..object.sections.len() {
                let id = SectionId(number as u32);
                let section = object.section(id);
                if section.merge_size > 1 || !has_place(section) || layout.dropped.contains(&(index, id)) {
                    continue;
                }
                let name = output_name(&section.name);
                let Some(start) = linked.section(name).map(|section| section.at) else { continue };
                let end =
                    ends.entry(name.to_owned()).or_insert(if name == COMMON { start.max(common_end) } else { start });
                layout.placed.insert((index, id), place(object, id, end));
            }
        }
        layout.place_literals(inputs, linked);
        layout.check_sections(linked, &ends, report);
        layout.check_symbols(inputs, linked, report);
        layout
    }

    /// Finds out which definitions count.
    fn define(&mut self, inputs: &[Input]) {
        let each = |input: &'_ Input| -> Vec<(SymbolId, NameId, SectionId)> {
            let symbols =
                input.object.symbols.iter().enumerate().filter(|(_, symbol)| symbol.binding != Binding::Local);
            let placed = symbols.filter_map(|(number, symbol)| match symbol.place {
                Place::In(section, _) => Some((SymbolId(number as u32), symbol.id, section)),
                Place::Undefined | Place::Absolute(_) | Place::Unknown(_) => None,
            });
            placed.collect()
        };
        let is_weak = |(input, id): (usize, SymbolId)| inputs[input].object.symbol(id).binding == Binding::Weak;
        for (index, input) in inputs.iter().enumerate() {
            for (id, name, _) in each(input) {
                let new = (index, id);
                let old = *self.globals.entry(name).or_insert(new);
                if is_weak(old) && !is_weak(new) {
                    self.globals.insert(name, new);
                }
            }
        }
        for (index, input) in inputs.iter().enumerate() {
            for (id, name, section) in each(input) {
                let lost = self.globals.get(&name) != Some(&(index, id));
                if lost && input.object.section(section).merge_size == 0 {
                    self.dropped.insert((index, section));
                }
            }
        }
    }

    /// Common symbols (`<mach-o/nlist.h>`: undefined with a size) are placed before `__common` of the inputs.
    fn place_common(&mut self, inputs: &[Input], linked: &Linked) -> u64 {
        let symbols = inputs.iter().flat_map(|input| &input.object.symbols);
        let common: HashMap<NameId, u64> = symbols
            .filter(|symbol| matches!(symbol.place, Place::Unknown(_)))
            .map(|symbol| (symbol.id, symbol.size))
            .collect();
        let mut end = 0;
        for row in &linked.rows {
            if let What::Symbol(id, _) = &row.what
                && let Some(size) = common.get(id)
                && !self.globals.contains_key(id)
                && linked.section_at(row.at).is_some_and(|section| section.name == COMMON)
            {
                self.common.insert(*id, row.at);
                end = end.max(row.at + size);
            }
        }
        end
    }

    fn place_literals(&mut self, inputs: &[Input], linked: &Linked) {
        let Some(mut end) = linked.section(LITERALS).map(|section| section.at) else { return };
        for size in [16, 8, 4] {
            let mut places: HashMap<&[u8], u64> = HashMap::new();
            for (index, Input { object, .. }) in inputs.iter().enumerate() {
                for number in 1..object.sections.len() {
                    let id = SectionId(number as u32);
                    if object.section(id).merge_size != size {
                        continue;
                    }
                    let pieces = object.bytes(id).chunks(size as usize).enumerate().map(|(number, value)| {
                        let at = *places.entry(value).or_insert_with(|| {
                            end += size;
                            end - size
                        });
                        (number as u64 * size, at)
                    });
                    self.placed.insert((index, id), Placed::Pieces(pieces.collect()));
                }
            }
        }
    }

    fn check_sections(&self, linked: &Linked, ends: &HashMap<String, u64>, report: &mut Report) {
        for (name, end) in ends {
            let theirs = linked.section(name).map(|section| section.at + section.size);
            // A word of the linker's own, which the map shows without size.
            let end = &if linked.rows.iter().any(|row| row.at == end.next_multiple_of(8) && is_private_word(row)) {
                end.next_multiple_of(8) + 8
            } else {
                *end
            };
            if theirs != Some(*end) {
                report.unexplained(format!("`{name}` ends at {end:#x}, lld's at {theirs:x?}"));
            }
        }
    }

    /// The map's symbols have to be where ours are.
    fn check_symbols(&self, inputs: &[Input], linked: &Linked, report: &mut Report) {
        let mut ours: HashSet<(usize, NameId, u64)> = HashSet::new();
        let mut texts: HashSet<u64> = HashSet::new();
        for (index, Input { object, .. }) in inputs.iter().enumerate() {
            for symbol in &object.symbols {
                if let Place::In(section, offset) = symbol.place
                    && let Some(at) = self.address(index, section, offset)
                {
                    ours.insert((index, symbol.id, at));
                }
            }
            for number in 1..object.sections.len() {
                if let Some(Placed::Pieces(pieces)) = self.placed.get(&(index, SectionId(number as u32))) {
                    texts.extend(pieces.iter().map(|(_, at)| *at));
                }
            }
        }
        for row in &linked.rows {
            let Some(section) = linked.section_at(row.at).filter(|section| !is_made(&section.name)) else { continue };
            let found = match (&row.what, row.input) {
                (What::Symbol(id, _), Some(input)) => {
                    ours.contains(&(input, *id, row.at)) || self.common.get(id) == Some(&row.at)
                }
                (What::Text, _) => texts.contains(&row.at),
                (What::Symbol(..) | What::Word(_) | What::Other, _) => true,
            };
            if let (false, What::Symbol(_, name)) = (found, &row.what) {
                let input = row.input.map(|input| inputs[input].path.display().to_string()).unwrap_or_default();
                report.unexplained(format!(
                    "{input}: lld has `{name}` at {:#x} in `{}`, relive has not",
                    row.at, section.name
                ));
            } else if !found {
                report.unexplained(format!("lld has a string at {:#x}, relive has not", row.at));
            }
        }
    }

    /// The address of `offset` in a part; `None` if it is not in the output.
    pub(crate) fn address(&self, input: usize, section: SectionId, offset: u64) -> Option<u64> {
        match self.placed.get(&(input, section))? {
            Placed::At(at) => Some(at + offset),
            Placed::Pieces(pieces) => {
                let index = pieces.partition_point(|(start, _)| *start <= offset).checked_sub(1)?;
                let (start, at) = pieces.get(index)?;
                Some(at + offset - start)
            }
        }
    }

    /// Pieces of merged sections: offset, address.
    pub(crate) fn pieces(&self, input: usize, section: SectionId) -> &[(u64, u64)] {
        match self.placed.get(&(input, section)) {
            Some(Placed::Pieces(pieces)) => pieces,
            Some(Placed::At(_)) | None => &[],
        }
    }
}

/// The word that lazy binding uses.
fn is_private_word(row: &Row) -> bool {
    row.input.is_none() && matches!(&row.what, What::Symbol(_, name) if name == "__dyld_private")
}

/// Whether lld makes the section itself.
fn is_made(name: &str) -> bool {
    const MADE: [&str; 9] = [
        "__TEXT,__stubs",
        "__TEXT,__stub_helper",
        "__TEXT,__unwind_info",
        "__TEXT,__eh_frame",
        "__DATA_CONST,__got",
        "__DATA,__got",
        "__DATA,__la_symbol_ptr",
        "__DATA,__thread_ptrs",
        LITERALS,
    ];
    MADE.contains(&name)
}

/// Whether a section of an object is copied to the output.
fn has_place(section: &Section) -> bool {
    section.role.is_loaded() && section.role != Role::EhFrame
}

/// lld's other names of sections.
fn output_name(name: &str) -> &str {
    match name {
        "__TEXT,__StaticInit" => "__TEXT,__text",
        "__DATA,__const" => "__DATA_CONST,__const",
        "__DATA,__mod_init_func" => "__DATA_CONST,__mod_init_func",
        other => other,
    }
}

/// Puts a part behind `end`.
fn place(object: &Object, id: SectionId, end: &mut u64) -> Placed {
    let section = object.section(id);
    let mut put = |size: u64, align: u64| {
        let at = end.next_multiple_of(align);
        *end = at + size;
        at
    };
    if !section.strings {
        return Placed::At(put(section.size, section.align));
    }
    let mut pieces = Vec::new();
    let mut offset = 0;
    for text in object.bytes(id).split_inclusive(|byte| *byte == 0) {
        let align = 1 << (offset | section.align).trailing_zeros();
        pieces.push((offset, put(text.len() as u64, align)));
        offset += text.len() as u64;
    }
    Placed::Pieces(pieces)
}
