//! One pass over the DWARF tree of an object into flat tables.
//!
//! Takes relocated debug sections; gives one [`Node`] for each namespace, type, function and variable and one [`Part`]
//! for each field, variant, enumerator, array length, parameter and template argument. References between entries are
//! resolved to node numbers. Nothing is judged and no name is copied here: a [`Name`] is a place in [`Tables::text`].

use std::path::PathBuf;

use gimli::{EndianSlice, LittleEndian, Reader, Section, constants as dw};

use xxhash_rust::xxh3::xxh3_64;

use super::TypesError;
use super::entries::{Attributes, Entries, Head, Slot, Value, as_number};
use super::sections::{Place, Sections};
use super::tables::{Id, Kind, NONE, Name, Node, Part, Role, Tables};

pub(super) type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Reads all units.
pub(super) fn walk(sections: &Sections) -> Result<Tables, TypesError> {
    let dwarf = sections.dwarf.borrow(|section| EndianSlice::new(section, LittleEndian));
    let info = dwarf.debug_info.reader().slice();
    let mut tables = Tables { text: dwarf.debug_str.reader().slice().to_vec(), ..Tables::default() };
    tables.nodes.reserve(info.len() / 32);
    tables.parts.reserve(info.len() / 32);
    let mut walk =
        Walk { sections, dwarf: &dwarf, info, tables, dies: Vec::with_capacity(info.len() / 32), files_from: 0 };
    let mut units = dwarf.units();
    while let Some(header) = units.next()? {
        let unit = dwarf.unit(header)?;
        walk.unit(&unit)?;
    }
    Ok(walk.finish())
}

/// The codegen unit's name in the name of a compile unit, which rustc makes as `FILE/@/CODEGEN-UNIT`.
fn codegen_unit(name: &[u8]) -> &[u8] {
    const BETWEEN: &[u8] = b"/@/";
    memchr::memmem::rfind(name, BETWEEN).map_or(name, |at| &name[at + BETWEEN.len()..])
}

struct Walk<'a> {
    sections: &'a Sections<'a>,
    dwarf: &'a gimli::Dwarf<Slice<'a>>,
    info: &'a [u8],
    tables: Tables,
    /// Section offset of each node, ascending; targets hold section offsets until the end.
    dies: Vec<u32>,
    /// Where the files of the present unit begin in the table.
    files_from: u32,
}

/// An open entry whose children are being read.
#[derive(Clone, Copy)]
struct Frame {
    depth: u32,
    owner: Id,
    within: Within,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    /// Directly in the owner.
    Owner,
    /// In its list of variants, outside of one.
    VariantPart,
    /// In the variant with this discriminant.
    Variant(Option<i64>),
    /// In a block of a function, whose variables are of no interest.
    Block,
}

impl<'a> Walk<'a> {
    fn unit(&mut self, unit: &gimli::Unit<Slice<'a>>) -> Result<(), TypesError> {
        if !self.tables.any_unit {
            self.tables.codegen_unit = xxh3_64(codegen_unit(unit.name.map_or(&[], |name| name.slice())));
        }
        self.tables.any_unit = true;
        self.files_from = self.tables.files.len() as u32;
        let first = self.tables.nodes.len();
        if let Some(name) = unit.dwo_name()? {
            let name = self.dwarf.attr_string(unit, name)?;
            self.tables.split = Some(name.to_string_lossy().into_owned());
        }
        let mut entries = Entries::new(self.info, unit)?;
        let mut frames: Vec<Frame> = Vec::new();
        while let Some(head) = entries.next()? {
            while frames.last().is_some_and(|frame| frame.depth >= head.depth) {
                frames.pop();
            }
            let outer = frames.last().copied().unwrap_or(Frame { depth: 0, owner: NONE, within: Within::Owner });
            let inner = if is_body(head.tag) || (outer.within == Within::Block && is_local(head.tag)) {
                entries.skip(&head)?;
                Frame { within: Within::Block, ..outer }
            } else {
                self.entry(unit, &head, entries.read(&head)?, outer)?
            };
            if head.has_children {
                frames.push(Frame { depth: head.depth, ..inner });
            }
        }
        self.files(unit, first)
    }

    /// Appends the names of the files that the nodes from `first` on refer to; the others stay empty.
    fn files(&mut self, unit: &gimli::Unit<Slice<'a>>, first: usize) -> Result<(), TypesError> {
        let Some(program) = &unit.line_program else { return Ok(()) };
        let header = program.header();
        for node in self.tables.nodes.iter().skip(first) {
            let Some(index) = (node.file as usize).checked_sub(1) else { continue };
            let Some(file) = header.file((index - self.files_from as usize) as u64) else { continue };
            if self.tables.files.len() <= index {
                self.tables.files.resize_with(index + 1, || "".into());
            }
            let Some(place) = self.tables.files.get_mut(index).filter(|place| place.is_empty()) else { continue };
            // Relative names are relative to where the compiler ran; joining an absolute name replaces what was there.
            let mut path = PathBuf::new();
            if let Some(directory) = &unit.comp_dir {
                path.push(directory.to_string_lossy().as_ref());
            }
            if let Some(directory) = file.directory(header) {
                path.push(self.dwarf.attr_string(unit, directory)?.to_string_lossy().as_ref());
            }
            path.push(self.dwarf.attr_string(unit, file.path_name())?.to_string_lossy().as_ref());
            *place = path.to_string_lossy().into();
        }
        Ok(())
    }

    /// Notes one entry and tells how its children are to be read.
    fn entry(
        &mut self,
        unit: &gimli::Unit<Slice<'a>>,
        head: &Head,
        entry: &Attributes,
        outer: Frame,
    ) -> Result<Frame, gimli::Error> {
        let block = Frame { within: Within::Block, ..outer };
        if let Some(role) = role_of(head.tag, outer.within) {
            self.part(unit, role, entry, outer)?;
            return Ok(block);
        }
        match head.tag {
            dw::DW_TAG_variant_part => return Ok(Frame { within: Within::VariantPart, ..outer }),
            dw::DW_TAG_variant => {
                let discriminant = as_number(entry.get(Slot::Value), self.info);
                return Ok(Frame { within: Within::Variant(discriminant), ..outer });
            }
            dw::DW_TAG_variable if self.is_function(outer.owner) => {
                if self.is_closure(outer.owner) {
                    self.part(unit, Role::Capture, entry, outer)?;
                }
                return Ok(block);
            }
            dw::DW_TAG_compile_unit => return Ok(outer),
            _ => {}
        }
        let Some(kind) = kind_of(head.tag) else { return Ok(block) };
        self.tables.full |= !matches!(kind, Kind::Namespace | Kind::Function);
        let id = self.tables.nodes.len() as Id;
        let node = self.node(unit, kind, entry, outer.owner)?;
        self.tables.nodes.push(node);
        self.dies.push(head.die);
        Ok(Frame { depth: 0, owner: id, within: Within::Owner })
    }

    fn node(
        &mut self,
        unit: &gimli::Unit<Slice<'a>>,
        kind: Kind,
        entry: &Attributes,
        parent: Id,
    ) -> Result<Node, gimli::Error> {
        let small = |slot| entry.number(slot).and_then(|number| u32::try_from(number).ok());
        let mut node = Node {
            kind,
            parent,
            name: self.name(unit, entry.get(Slot::Name))?,
            linkage: self.name(unit, entry.get(Slot::Linkage))?,
            size: entry.number(Slot::Size),
            align: small(Slot::Align).unwrap_or(0),
            target: reference(unit, entry.get(Slot::Type)),
            origin: reference(unit, entry.get(Slot::Origin)),
            file: small(Slot::File).and_then(|number| number.checked_add(self.files_from + 1)).unwrap_or(0),
            line: small(Slot::Line).unwrap_or(0),
            declaration: entry.has(Slot::Declaration),
            placed: entry.has(Slot::Placed),
            thread_local: false,
            parts: (0, 0),
        };
        if let (Kind::Variable, Value::Bytes(start, end)) = (kind, entry.get(Slot::Location)) {
            self.locate(unit, start, end, &mut node);
        }
        Ok(node)
    }

    fn part(
        &mut self,
        unit: &gimli::Unit<Slice<'a>>,
        role: Role,
        entry: &Attributes,
        outer: Frame,
    ) -> Result<(), gimli::Error> {
        let mut part = Part {
            owner: outer.owner,
            role,
            name: self.name(unit, entry.get(Slot::Name))?,
            target: reference(unit, entry.get(Slot::Type)),
            place: as_number(entry.get(Slot::Member), self.info).unwrap_or(0),
            value: as_number(entry.get(Slot::Value), self.info),
            align: entry.number(Slot::Align).unwrap_or(0) as u32,
        };
        if let Within::Variant(discriminant) = outer.within {
            part.value = discriminant;
        }
        if role == Role::Length && part.value.is_none() {
            part.value = as_number(entry.get(Slot::UpperBound), self.info).and_then(|last| last.checked_add(1));
        }
        if role == Role::Capture {
            (part.place, part.value) = self.frame_location(entry.get(Slot::Location));
        }
        self.tables.parts.push(part);
        Ok(())
    }

    fn is_function(&self, id: Id) -> bool {
        self.tables.node(id).is_some_and(|node| node.kind == Kind::Function)
    }

    fn is_closure(&self, id: Id) -> bool {
        self.tables.node(id).is_some_and(|node| self.tables.bytes(node.name).starts_with(b"{"))
    }

    fn bytes(&self, start: u32, end: u32) -> &'a [u8] {
        self.info.get(start as usize..end as usize).unwrap_or(&[])
    }

    /// Tells a variable with a fixed place from one without, and a thread-local from a static.
    fn locate(&mut self, unit: &gimli::Unit<Slice<'a>>, start: u32, end: u32, node: &mut Node) {
        let bytes = self.bytes(start, end);
        let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return };
        node.thread_local = *last == dw::DW_OP_GNU_push_tls_address.0 || *last == dw::DW_OP_form_tls_address.0;
        node.placed = node.thread_local || *first == dw::DW_OP_addr.0 || *first == dw::DW_OP_addrx.0;
        let place = if *first == dw::DW_OP_addr.0 {
            find(&self.sections.info_addresses, u64::from(start) + 1)
        } else if *first == dw::DW_OP_addrx.0 {
            let mut rest = EndianSlice::new(bytes.get(1..).unwrap_or(&[]), LittleEndian);
            let index = rest.read_uleb128().unwrap_or(u64::MAX);
            find(&self.sections.pool_addresses, index.wrapping_mul(8).wrapping_add(unit.addr_base.0 as u64))
        } else {
            None
        };
        if let Some(place) = place {
            self.tables.places.push((self.tables.nodes.len() as Id, place));
        }
    }

    /// Splits "frame offset, then this path" of a captured variable into its two halves; the path is `None` when empty.
    fn frame_location(&self, location: Value) -> (i64, Option<i64>) {
        let Value::Bytes(start, end) = location else { return (0, Some(0)) };
        let mut bytes = EndianSlice::new(self.bytes(start, end), LittleEndian);
        let first = bytes.read_u8().unwrap_or(0);
        if first != dw::DW_OP_fbreg.0 {
            return (0, Some(i64::from(first)));
        }
        let place = bytes.read_sleb128().unwrap_or(0);
        let rest = bytes.slice();
        (place, (!rest.is_empty()).then(|| xxh3_64(rest) as i64))
    }

    fn name(&mut self, unit: &gimli::Unit<Slice<'a>>, value: Value) -> Result<Name, gimli::Error> {
        let offset = match value {
            Value::Absent | Value::Number(_) | Value::Bytes(..) | Value::UnitEntry(_) | Value::Entry(_) => {
                return Ok(Name::NONE);
            }
            Value::Str(offset) => offset,
            Value::StrIndex(index) => {
                let index = gimli::DebugStrOffsetsIndex(usize::try_from(index).unwrap_or(usize::MAX));
                self.dwarf.string_offset(unit, index)?.0 as u64
            }
            Value::Text(start) => return Ok(self.append(self.info, u64::from(start))),
            Value::LineStr(start) => {
                let text = self.dwarf.debug_line_str.reader().slice();
                return Ok(self.append(text, start));
            }
        };
        Ok(u32::try_from(offset).map_or(Name::NONE, Name))
    }

    /// Copies a text that is not in `.debug_str` behind those that are.
    fn append(&mut self, from: &[u8], start: u64) -> Name {
        let rest = usize::try_from(start).ok().and_then(|start| from.get(start..)).unwrap_or(&[]);
        let name = u32::try_from(self.tables.text.len()).map_or(Name::NONE, Name);
        self.tables.text.extend(rest.iter().take_while(|byte| **byte != 0));
        self.tables.text.push(0);
        name
    }

    /// Groups parts by owner and turns section offsets into node numbers.
    fn finish(mut self) -> Tables {
        let index = Index::of(&self.dies, self.info.len());
        let tables = &mut self.tables;
        tables.parts.sort_by_key(|part| part.owner);
        for (number, part) in tables.parts.iter_mut().enumerate() {
            part.target = index.find(part.target);
            if let Some(node) = tables.nodes.get_mut(part.owner as usize) {
                let first = if node.parts.1 == 0 { number as u32 } else { node.parts.0 };
                node.parts = (first, number as u32 + 1);
            }
        }
        for node in &mut tables.nodes {
            node.target = index.find(node.target);
            node.origin = index.find(node.origin);
        }
        self.tables
    }
}

/// Section offsets to node numbers: for each 64 bytes of the section the first node that is not before them.
struct Index<'a> {
    dies: &'a [u32],
    starts: Vec<u32>,
}

impl<'a> Index<'a> {
    fn of(dies: &'a [u32], section: usize) -> Index<'a> {
        let mut starts = Vec::with_capacity(section / 64 + 1);
        for (number, die) in dies.iter().enumerate() {
            while starts.len() <= (*die >> 6) as usize {
                starts.push(number as u32);
            }
        }
        Index { dies, starts }
    }

    fn find(&self, offset: u32) -> Id {
        let Some(start) = self.starts.get((offset >> 6) as usize) else { return NONE };
        let from = self.dies.get(*start as usize..).unwrap_or(&[]);
        let before = from.iter().take_while(|die| **die < offset).count();
        if from.get(before) == Some(&offset) { start + before as u32 } else { NONE }
    }
}

/// Entries that only structure a function's body.
fn is_body(tag: gimli::DwTag) -> bool {
    matches!(
        tag,
        dw::DW_TAG_lexical_block
            | dw::DW_TAG_inlined_subroutine
            | dw::DW_TAG_call_site
            | dw::DW_TAG_call_site_parameter
            | dw::DW_TAG_GNU_call_site
            | dw::DW_TAG_GNU_call_site_parameter
            | dw::DW_TAG_label
    )
}

fn is_local(tag: gimli::DwTag) -> bool {
    matches!(tag, dw::DW_TAG_variable | dw::DW_TAG_formal_parameter)
}

fn role_of(tag: gimli::DwTag, within: Within) -> Option<Role> {
    Some(match tag {
        dw::DW_TAG_member => match within {
            Within::Variant(_) => Role::Variant,
            Within::VariantPart => Role::Tag,
            Within::Owner | Within::Block => Role::Field,
        },
        dw::DW_TAG_enumerator => Role::Enumerator,
        dw::DW_TAG_subrange_type => Role::Length,
        dw::DW_TAG_formal_parameter => Role::Parameter,
        dw::DW_TAG_template_type_parameter | dw::DW_TAG_template_value_parameter => Role::Template,
        _ => return None,
    })
}

fn kind_of(tag: gimli::DwTag) -> Option<Kind> {
    Some(match tag {
        dw::DW_TAG_namespace => Kind::Namespace,
        dw::DW_TAG_base_type => Kind::Base,
        dw::DW_TAG_structure_type | dw::DW_TAG_class_type => Kind::Struct,
        dw::DW_TAG_union_type => Kind::Union,
        dw::DW_TAG_enumeration_type => Kind::Enumeration,
        dw::DW_TAG_pointer_type | dw::DW_TAG_reference_type | dw::DW_TAG_rvalue_reference_type => Kind::Pointer,
        dw::DW_TAG_array_type => Kind::Array,
        dw::DW_TAG_subroutine_type => Kind::Subroutine,
        dw::DW_TAG_subprogram => Kind::Function,
        dw::DW_TAG_variable => Kind::Variable,
        dw::DW_TAG_typedef
        | dw::DW_TAG_const_type
        | dw::DW_TAG_volatile_type
        | dw::DW_TAG_restrict_type
        | dw::DW_TAG_atomic_type
        | dw::DW_TAG_unspecified_type
        | dw::DW_TAG_string_type
        | dw::DW_TAG_set_type
        | dw::DW_TAG_ptr_to_member_type => Kind::Other(tag.0),
        _ => return None,
    })
}

/// The section offset that an attribute refers to.
fn reference(unit: &gimli::Unit<Slice>, value: Value) -> u32 {
    let offset = match value {
        Value::UnitEntry(offset) => {
            let header = unit.header.debug_info_offset().map_or(0, |offset| offset.0 as u64);
            header.saturating_add(offset)
        }
        Value::Entry(offset) => offset,
        Value::Absent
        | Value::Number(_)
        | Value::Bytes(..)
        | Value::Text(_)
        | Value::Str(_)
        | Value::LineStr(_)
        | Value::StrIndex(_) => return NONE,
    };
    u32::try_from(offset).unwrap_or(NONE)
}

fn find(addresses: &[(u64, Place)], at: u64) -> Option<Place> {
    let index = addresses.binary_search_by_key(&at, |(at, _)| *at).ok()?;
    addresses.get(index).map(|(_, place)| *place)
}
