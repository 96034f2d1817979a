//! Relocations of a Mach-O object (`<mach-o/reloc.h>`): pairs become one, numbers that stand in the code or data become
//! addends, addresses of the object become references to parts.

use object::macho;
use object::read::macho::Section as _;

use super::{File, LE, RawSection, full_name};
use crate::arch::reloc::{Field, Fits, Operand};
use crate::arch::{Machine, RelocKind, aarch64, x86_64};
use crate::binary::object::{ObjectError, Reloc, Section, SymbolId};

/// Reads the relocations of all sections into `sections`.
pub(super) fn read(file: &File<'_>, raw: &[&RawSection], sections: &mut [Section]) -> Result<(), ObjectError> {
    let mut most = file.data.len() / size_of::<macho::Relocation<object::LittleEndian>>();
    for (index, section) in raw.iter().enumerate() {
        let entries = section.relocations(LE, &**file.data).map_err(|error| at(section, 0, &error.to_string()))?;
        most = most.checked_sub(entries.len()).ok_or_else(|| at(section, 0, "the table overlaps with others"))?;
        let bytes = section.data(LE, &**file.data).unwrap_or_default();
        let mut entries = entries.iter();
        while let Some(entry) = entries.next() {
            let mut whole = Entry { minus: None, addend: 0, last: info(entry, section)? };
            whole.collect(file, section, &mut entries)?;
            let (part, reloc) = whole.finish(file, index, section, bytes)?;
            let Some(section) = sections.get_mut(part + 1) else { continue };
            section.relocs.push(reloc);
        }
    }
    for section in sections {
        section.relocs.sort_by_key(|reloc| reloc.offset);
    }
    Ok(())
}

fn info(
    entry: &macho::Relocation<object::LittleEndian>,
    section: &RawSection,
) -> Result<macho::RelocationInfo, ObjectError> {
    // The uppermost bit of the address marks the scattered form of older machines.
    if entry.r_word0.get(LE) >> 31 != 0 {
        return Err(at(section, 0, "a scattered relocation"));
    }
    Ok(entry.info(LE))
}

/// One relocation with those that belong to it.
struct Entry {
    minus: Option<SymbolId>,
    addend: i64,
    last: macho::RelocationInfo,
}

impl Entry {
    /// Takes `SUBTRACTOR` and `ADDEND`, which say more of the relocation behind them.
    fn collect(
        &mut self,
        file: &File<'_>,
        section: &RawSection,
        entries: &mut std::slice::Iter<'_, macho::Relocation<object::LittleEndian>>,
    ) -> Result<(), ObjectError> {
        let (subtractor, addend) = match file.machine {
            Machine::X86_64 => (macho::X86_64_RELOC_SUBTRACTOR, None),
            Machine::Aarch64 => (macho::ARM64_RELOC_SUBTRACTOR, Some(macho::ARM64_RELOC_ADDEND)),
        };
        let first = self.last;
        if first.r_type == subtractor {
            if !first.r_extern {
                return Err(at(section, first.r_address, "a section is subtracted"));
            }
            self.minus = Some(symbol(file, section, &first)?);
        } else if Some(first.r_type) == addend {
            // 24 bits, signed, where the symbol's number would be.
            self.addend = i64::from((first.r_symbolnum << 8) as i32 >> 8);
        } else {
            return Ok(());
        }
        let next = entries.next().ok_or_else(|| at(section, first.r_address, "the second of two is missing"))?;
        self.last = info(next, section)?;
        let is_same_place = self.last.r_address == first.r_address && self.last.r_type != first.r_type;
        let is_pair = match file.machine {
            _ if self.minus.is_some() => self.last.r_type == 0 && self.last.r_length == first.r_length,
            Machine::X86_64 => false,
            Machine::Aarch64 => matches!(
                self.last.r_type,
                macho::ARM64_RELOC_PAGE21 | macho::ARM64_RELOC_PAGEOFF12 | macho::ARM64_RELOC_BRANCH26
            ),
        };
        if is_same_place && is_pair {
            return Ok(());
        }
        Err(at(section, first.r_address, "the second of two does not belong to the first"))
    }

    /// The part that the relocation lies in, and the relocation.
    fn finish(
        self,
        file: &File<'_>,
        section_index: usize,
        section: &RawSection,
        bytes: &[u8],
    ) -> Result<(usize, Reloc), ObjectError> {
        let last = self.last;
        let field_bytes = bytes.get(last.r_address as usize..).unwrap_or_default();
        let word = field_bytes.first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
        let kind = match file.machine {
            Machine::X86_64 => x86_64::from_macho(last.r_type, last.r_pcrel, last.r_length),
            Machine::Aarch64 => aarch64::from_macho(last.r_type, last.r_pcrel, last.r_length, word),
        };
        let kind = if self.minus.is_some() { kind.minus() } else { kind };
        let place = section.addr(LE).wrapping_add(u64::from(last.r_address));
        let found = file.layout.find(section_index, place);
        let (part, offset) = found.ok_or_else(|| at(section, last.r_address, "it lies outside"))?;
        let room = file.layout.parts.get(part).map_or(0, |part| part.end - part.start);
        if offset + kind.width() > room {
            return Err(at(section, last.r_address, "it lies outside"));
        }
        let (number, to_end) = file.number(&last, kind, field_bytes);
        let mut reloc = Reloc { offset, kind, symbol: SymbolId(0), minus: self.minus, addend: self.addend };
        if last.r_extern {
            reloc.symbol = symbol(file, section, &last)?;
            // The addend of `SIGNED_1` and its like counts from the end of the field, whatever follows it.
            let width = if to_end == 0 { 0 } else { kind.width() as i64 };
            reloc.addend = reloc.addend.wrapping_add(number).wrapping_sub(width);
        } else {
            let from = if kind.is_relative() { place.wrapping_add(to_end as u64) } else { 0 };
            let target = from.wrapping_add(number as u64);
            let found = (last.r_symbolnum as usize).checked_sub(1).and_then(|index| file.layout.find(index, target));
            let (target, distance) =
                found.ok_or_else(|| at(section, last.r_address, "its target does not lie in the section it names"))?;
            reloc.symbol = file.layout.section_symbol(target);
            reloc.addend = reloc.addend.wrapping_add(distance as i64).wrapping_sub(to_end);
        }
        Ok((part, reloc))
    }
}

impl File<'_> {
    /// The number that stands in the field, and how far the end of the instruction lies behind the field's beginning
    /// where the number is counted from there. AArch64 has numbers in data alone; what stands in a pointer to a word of
    /// addresses there is no addend, and linkers ignore it.
    fn number(&self, info: &macho::RelocationInfo, kind: RelocKind, bytes: &[u8]) -> (i64, i64) {
        let RelocKind::Of(operand, _, Field::Int(width, _)) = kind else { return (0, 0) };
        let number = Field::Int(width, Fits::Signed).read(bytes).unwrap_or(0);
        match (self.machine, operand) {
            (Machine::Aarch64, Operand::Got) => (0, 0),
            (Machine::X86_64, _) if kind.is_relative() => {
                let behind = match info.r_type {
                    macho::X86_64_RELOC_SIGNED_1 => 1,
                    macho::X86_64_RELOC_SIGNED_2 => 2,
                    macho::X86_64_RELOC_SIGNED_4 => 4,
                    _ => 0,
                };
                (number, i64::from(width) + behind)
            }
            _ => (number, 0),
        }
    }
}

fn symbol(file: &File<'_>, section: &RawSection, info: &macho::RelocationInfo) -> Result<SymbolId, ObjectError> {
    if info.r_symbolnum as usize >= file.named {
        return Err(at(section, info.r_address, "it names a symbol that does not exist"));
    }
    Ok(SymbolId(info.r_symbolnum + 1))
}

fn at(section: &RawSection, offset: u32, why: &str) -> ObjectError {
    ObjectError(format!("relocation at {offset:#x} of `{}`: {why}", full_name(section)))
}
