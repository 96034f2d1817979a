//! The entries of one DWARF unit, one after the other, with only the attributes that anything here looks at.
//!
//! gimli reads headers and abbreviations; the entries themselves are decoded here, because a save makes relive read
//! tens of thousands of them: each abbreviation is turned once into a plan that steps over all other attributes at
//! one go. Forms that are not known end the reading with an error.

use gimli::{DwAt, DwForm, DwTag, Reader, constants as dw};
use xxhash_rust::xxh3::xxh3_64;

use super::walk::Slice;

/// The attributes that are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Name,
    Linkage,
    Size,
    Align,
    Type,
    /// Specification or abstract origin.
    Origin,
    File,
    Line,
    /// Offset of a member.
    Member,
    /// Discriminant, enumerator or count.
    Value,
    UpperBound,
    Location,
    /// It has code.
    Placed,
    Declaration,
    FrameBase,
}

const SLOTS: usize = 15;

/// Far above what compilers use; keeps hostile input from asking for memory.
const MOST_CODES: usize = 1 << 16;

impl Slot {
    fn of(name: DwAt) -> Option<Slot> {
        Some(match name {
            dw::DW_AT_name => Slot::Name,
            dw::DW_AT_linkage_name | dw::DW_AT_MIPS_linkage_name => Slot::Linkage,
            dw::DW_AT_byte_size => Slot::Size,
            dw::DW_AT_alignment => Slot::Align,
            dw::DW_AT_type => Slot::Type,
            dw::DW_AT_specification | dw::DW_AT_abstract_origin => Slot::Origin,
            dw::DW_AT_decl_file => Slot::File,
            dw::DW_AT_decl_line => Slot::Line,
            dw::DW_AT_data_member_location => Slot::Member,
            dw::DW_AT_discr_value | dw::DW_AT_const_value | dw::DW_AT_count | dw::DW_AT_discr_list => Slot::Value,
            dw::DW_AT_upper_bound => Slot::UpperBound,
            dw::DW_AT_location => Slot::Location,
            dw::DW_AT_low_pc | dw::DW_AT_ranges => Slot::Placed,
            dw::DW_AT_declaration => Slot::Declaration,
            dw::DW_AT_frame_base => Slot::FrameBase,
            _ => return None, // says nothing about identity, signature or layout
        })
    }
}

/// What one attribute says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Value {
    #[default]
    Absent,
    /// A number; signed ones are sign-extended.
    Number(u64),
    /// Bytes of the section, from offset to offset: an expression or block.
    Bytes(u32, u32),
    /// Text in the section, at this offset.
    Text(u32),
    /// Text in `.debug_str`, at this offset.
    Str(u64),
    /// Text in `.debug_line_str`, at this offset.
    LineStr(u64),
    /// Text by its number in the unit's table of offsets.
    StrIndex(u64),
    /// An entry of the unit, by its offset from the unit's header.
    UnitEntry(u64),
    /// An entry of the section.
    Entry(u64),
}

/// One entry, before its attributes are read or stepped over.
#[derive(Clone, Copy)]
pub(super) struct Head {
    /// Offset in the section.
    pub(super) die: u32,
    /// Depth below the unit's own entry, which has 0.
    pub(super) depth: u32,
    pub(super) tag: DwTag,
    pub(super) has_children: bool,
    code: usize,
}

/// The attributes of one entry.
pub(super) struct Attributes {
    values: [Value; SLOTS],
    /// One bit for each slot that is filled; the others hold what earlier entries said.
    filled: u32,
}

impl Attributes {
    pub(super) fn get(&self, slot: Slot) -> Value {
        if self.filled & (1 << slot as u32) == 0 {
            return Value::Absent;
        }
        self.values.get(slot as usize).copied().unwrap_or_default()
    }

    pub(super) fn has(&self, slot: Slot) -> bool {
        !matches!(self.get(slot), Value::Absent)
    }

    pub(super) fn number(&self, slot: Slot) -> Option<u64> {
        match self.get(slot) {
            Value::Number(number) => Some(number),
            Value::Absent
            | Value::Bytes(..)
            | Value::Text(_)
            | Value::Str(_)
            | Value::LineStr(_)
            | Value::StrIndex(_)
            | Value::UnitEntry(_)
            | Value::Entry(_) => None,
        }
    }

    fn set(&mut self, slot: Slot, value: Value) {
        if let Some(place) = self.values.get_mut(slot as usize) {
            *place = value;
            self.filled |= 1 << slot as u32;
        }
    }
}

/// One step through the bytes of an entry.
#[derive(Clone, Copy)]
enum Step {
    Skip(u32),
    SkipForm(DwForm),
    Read(Slot, DwForm, i64),
}

struct Plan {
    tag: DwTag,
    has_children: bool,
    steps: Vec<Step>,
    /// The same without reading anything.
    skips: Vec<Step>,
}

/// The entries of one unit.
pub(super) struct Entries<'a> {
    /// The whole section, up to the end of the unit.
    bytes: &'a [u8],
    at: usize,
    depth: u32,
    encoding: gimli::Encoding,
    abbreviations: &'a gimli::Abbreviations,
    /// By abbreviation code; compilers number them from 1 without gaps.
    plans: Vec<Option<Plan>>,
    attributes: Attributes,
}

impl<'a> Entries<'a> {
    /// `section` is all of `.debug_info`.
    pub(super) fn new(section: &'a [u8], unit: &'a gimli::Unit<Slice<'a>>) -> Result<Entries<'a>, gimli::Error> {
        let header = &unit.header;
        let start = header.debug_info_offset().map_or(0, |offset| offset.0);
        let end = start.saturating_add(header.length_including_self());
        if header.format() != gimli::Format::Dwarf32 || header.address_size() != 8 {
            return Err(gimli::Error::UnsupportedAddressSize(header.address_size()));
        }
        Ok(Entries {
            bytes: section.get(..end).ok_or_else(cut)?,
            at: start.saturating_add(header.root_offset().0),
            depth: 0,
            encoding: header.encoding(),
            abbreviations: &unit.abbreviations,
            plans: Vec::new(),
            attributes: Attributes { values: [Value::Absent; SLOTS], filled: 0 },
        })
    }

    /// The next entry; `None` at the end of the unit. Its attributes have to be read or stepped over before the next.
    pub(super) fn next(&mut self) -> Result<Option<Head>, gimli::Error> {
        let (die, code) = loop {
            if self.at >= self.bytes.len() {
                return Ok(None);
            }
            let die = self.at;
            match self.uleb()? {
                0 => self.depth = self.depth.saturating_sub(1),
                code => break (die, code),
            }
        };
        let code = usize::try_from(code).ok().filter(|code| *code < MOST_CODES).ok_or_else(cut)?;
        if self.plans.get(code).is_none_or(Option::is_none) {
            let plan = self.plan(code as u64)?;
            self.plans.resize_with(self.plans.len().max(code + 1), || None);
            if let Some(place) = self.plans.get_mut(code) {
                *place = Some(plan);
            }
        }
        let Some(Some(Plan { tag, has_children, .. })) = self.plans.get(code) else { return Err(cut()) };
        let head = Head { die: offset(die)?, depth: self.depth, tag: *tag, has_children: *has_children, code };
        self.depth += u32::from(*has_children);
        Ok(Some(head))
    }

    /// Reads the attributes of the entry that [`Entries::next`] gave.
    pub(super) fn read(&mut self, head: &Head) -> Result<&Attributes, gimli::Error> {
        self.attributes.filled = 0;
        let Some(Some(plan)) = self.plans.get(head.code) else { return Err(cut()) };
        let mut cursor = Cursor { bytes: self.bytes, at: self.at, encoding: self.encoding };
        for step in &plan.steps {
            match *step {
                Step::Skip(count) => cursor.at += count as usize,
                Step::SkipForm(form) => drop(cursor.read(form, 0)?),
                Step::Read(slot, form, implicit) => self.attributes.set(slot, cursor.read(form, implicit)?),
            }
        }
        self.at = cursor.end()?;
        Ok(&self.attributes)
    }

    /// Steps over the attributes of the entry that [`Entries::next`] gave.
    pub(super) fn skip(&mut self, head: &Head) -> Result<(), gimli::Error> {
        let Some(Some(plan)) = self.plans.get(head.code) else { return Err(cut()) };
        let mut cursor = Cursor { bytes: self.bytes, at: self.at, encoding: self.encoding };
        for step in &plan.skips {
            match *step {
                Step::Skip(count) => cursor.at += count as usize,
                Step::SkipForm(form) | Step::Read(_, form, _) => drop(cursor.read(form, 0)?),
            }
        }
        self.at = cursor.end()?;
        Ok(())
    }

    fn plan(&self, code: u64) -> Result<Plan, gimli::Error> {
        let abbreviation = self.abbreviations.get(code).ok_or(gimli::Error::InvalidAbbreviationCode(code))?;
        let (mut steps, mut skips) = (Vec::new(), Vec::new());
        for attribute in abbreviation.attributes() {
            let (form, implicit) = (attribute.form(), attribute.implicit_const_value().unwrap_or(0));
            step_over(&mut skips, form);
            match Slot::of(attribute.name()) {
                Some(slot) => steps.push(Step::Read(slot, form, implicit)),
                None => step_over(&mut steps, form),
            }
        }
        Ok(Plan { tag: abbreviation.tag(), has_children: abbreviation.has_children(), steps, skips })
    }

    fn uleb(&mut self) -> Result<u64, gimli::Error> {
        let mut cursor = Cursor { bytes: self.bytes, at: self.at, encoding: self.encoding };
        let value = cursor.uleb()?;
        self.at = cursor.at;
        Ok(value)
    }
}

/// Adds a step over one attribute, which becomes one with the step before it where both have a fixed length.
fn step_over(steps: &mut Vec<Step>, form: DwForm) {
    match (width(form), steps.last_mut()) {
        (Some(width), Some(Step::Skip(count))) => *count += width,
        (Some(width), _) => steps.push(Step::Skip(width)),
        (None, _) => steps.push(Step::SkipForm(form)),
    }
}

/// Bytes of a form that always has as many, in 32-bit DWARF with addresses of 8 bytes.
fn width(form: DwForm) -> Option<u32> {
    Some(match form {
        dw::DW_FORM_flag_present | dw::DW_FORM_implicit_const => 0,
        dw::DW_FORM_data1 | dw::DW_FORM_ref1 | dw::DW_FORM_flag | dw::DW_FORM_strx1 | dw::DW_FORM_addrx1 => 1,
        dw::DW_FORM_data2 | dw::DW_FORM_ref2 | dw::DW_FORM_strx2 | dw::DW_FORM_addrx2 => 2,
        dw::DW_FORM_strx3 | dw::DW_FORM_addrx3 => 3,
        dw::DW_FORM_data4 | dw::DW_FORM_ref4 | dw::DW_FORM_strx4 | dw::DW_FORM_addrx4 => 4,
        dw::DW_FORM_strp | dw::DW_FORM_line_strp | dw::DW_FORM_sec_offset | dw::DW_FORM_strp_sup => 4,
        dw::DW_FORM_ref_addr | dw::DW_FORM_ref_sup4 => 4,
        dw::DW_FORM_data8 | dw::DW_FORM_ref8 | dw::DW_FORM_ref_sig8 | dw::DW_FORM_addr => 8,
        dw::DW_FORM_data16 => 16,
        _ => return None,
    })
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    encoding: gimli::Encoding,
}

impl Cursor<'_> {
    fn end(&self) -> Result<usize, gimli::Error> {
        if self.at <= self.bytes.len() { Ok(self.at) } else { Err(cut()) }
    }

    fn read(&mut self, form: DwForm, implicit: i64) -> Result<Value, gimli::Error> {
        Ok(match form {
            dw::DW_FORM_strp => Value::Str(self.fixed(4)?),
            dw::DW_FORM_ref4 => Value::UnitEntry(self.fixed(4)?),
            dw::DW_FORM_data1 | dw::DW_FORM_flag => Value::Number(self.fixed(1)?),
            dw::DW_FORM_data2 => Value::Number(self.fixed(2)?),
            dw::DW_FORM_data4 | dw::DW_FORM_sec_offset => Value::Number(self.fixed(4)?),
            dw::DW_FORM_data8 | dw::DW_FORM_addr => Value::Number(self.fixed(8)?),
            dw::DW_FORM_flag_present => Value::Number(1),
            dw::DW_FORM_implicit_const => Value::Number(implicit as u64),
            dw::DW_FORM_udata | dw::DW_FORM_addrx | dw::DW_FORM_loclistx | dw::DW_FORM_rnglistx => {
                Value::Number(self.uleb()?)
            }
            dw::DW_FORM_sdata => Value::Number(self.sleb()? as u64),
            dw::DW_FORM_data16 => self.block(16)?,
            dw::DW_FORM_exprloc | dw::DW_FORM_block => {
                let length = self.uleb()?;
                self.block(length)?
            }
            dw::DW_FORM_block1 => {
                let length = self.fixed(1)?;
                self.block(length)?
            }
            dw::DW_FORM_block2 => {
                let length = self.fixed(2)?;
                self.block(length)?
            }
            dw::DW_FORM_block4 => {
                let length = self.fixed(4)?;
                self.block(length)?
            }
            dw::DW_FORM_string => {
                let start = self.at;
                let rest = self.bytes.get(start..).ok_or_else(cut)?;
                let text = std::ffi::CStr::from_bytes_until_nul(rest).map_err(|_| cut())?;
                self.at = start + text.count_bytes() + 1;
                Value::Text(offset(start)?)
            }
            dw::DW_FORM_line_strp => Value::LineStr(self.fixed(4)?),
            dw::DW_FORM_strx | dw::DW_FORM_GNU_str_index => Value::StrIndex(self.uleb()?),
            dw::DW_FORM_strx1 => Value::StrIndex(self.fixed(1)?),
            dw::DW_FORM_strx2 => Value::StrIndex(self.fixed(2)?),
            dw::DW_FORM_strx3 => Value::StrIndex(self.fixed(3)?),
            dw::DW_FORM_strx4 => Value::StrIndex(self.fixed(4)?),
            dw::DW_FORM_addrx1 => Value::Number(self.fixed(1)?),
            dw::DW_FORM_addrx2 => Value::Number(self.fixed(2)?),
            dw::DW_FORM_addrx3 => Value::Number(self.fixed(3)?),
            dw::DW_FORM_addrx4 => Value::Number(self.fixed(4)?),
            dw::DW_FORM_GNU_addr_index => Value::Number(self.uleb()?),
            dw::DW_FORM_ref1 => Value::UnitEntry(self.fixed(1)?),
            dw::DW_FORM_ref2 => Value::UnitEntry(self.fixed(2)?),
            dw::DW_FORM_ref8 => Value::UnitEntry(self.fixed(8)?),
            dw::DW_FORM_ref_udata => Value::UnitEntry(self.uleb()?),
            dw::DW_FORM_ref_addr => Value::Entry(self.fixed(if self.encoding.version < 3 { 8 } else { 4 })?),
            // Types in units of their own: Rust has none, and a reference that leads nowhere is no type.
            dw::DW_FORM_ref_sig8 => {
                self.fixed(8)?;
                Value::Absent
            }
            dw::DW_FORM_strp_sup | dw::DW_FORM_ref_sup4 => {
                self.fixed(4)?;
                Value::Absent
            }
            other => return Err(gimli::Error::UnknownForm(other)),
        })
    }

    fn fixed(&mut self, width: usize) -> Result<u64, gimli::Error> {
        let end = self.at.checked_add(width).ok_or_else(cut)?;
        let bytes = self.bytes.get(self.at..end).ok_or_else(cut)?;
        let mut value = [0u8; 8];
        value.get_mut(..width).ok_or_else(cut)?.copy_from_slice(bytes);
        self.at = end;
        Ok(u64::from_le_bytes(value))
    }

    fn block(&mut self, length: u64) -> Result<Value, gimli::Error> {
        let start = self.at;
        let length = usize::try_from(length).map_err(|_| cut())?;
        let end = start.checked_add(length).filter(|end| *end <= self.bytes.len()).ok_or_else(cut)?;
        self.at = end;
        Ok(Value::Bytes(offset(start)?, offset(end)?))
    }

    fn uleb(&mut self) -> Result<u64, gimli::Error> {
        let mut value = 0u64;
        let mut shift = 0;
        loop {
            let byte = *self.bytes.get(self.at).ok_or_else(cut)?;
            self.at += 1;
            if shift < 64 {
                value |= u64::from(byte & 0x7f) << shift;
            }
            if byte & 0x80 == 0 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    fn sleb(&mut self) -> Result<i64, gimli::Error> {
        let rest = self.bytes.get(self.at..).ok_or_else(cut)?;
        let mut reader = Slice::new(rest, gimli::LittleEndian);
        let value = reader.read_sleb128()?;
        self.at += rest.len() - reader.len();
        Ok(value)
    }
}

/// The unit ends before the entry does.
fn cut() -> gimli::Error {
    gimli::Error::UnexpectedEof(gimli::ReaderOffsetId(0))
}

fn offset(at: usize) -> Result<u32, gimli::Error> {
    u32::try_from(at).map_err(|_| cut())
}

/// A number for what an attribute says: numbers as they are, blocks by their hash, which is enough to tell them apart.
pub(super) fn as_number(value: Value, section: &[u8]) -> Option<i64> {
    match value {
        Value::Number(number) => Some(number as i64),
        Value::Bytes(start, end) => Some(xxh3_64(section.get(start as usize..end as usize).unwrap_or(&[])) as i64),
        Value::Absent
        | Value::Text(_)
        | Value::Str(_)
        | Value::LineStr(_)
        | Value::StrIndex(_)
        | Value::UnitEntry(_)
        | Value::Entry(_) => None,
    }
}
