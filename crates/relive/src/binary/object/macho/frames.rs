//! Call frame information without relocations: a Mach-O assembler knows the distance from an entry to its function within
//! the object and writes it down. When parts move, it is a relocation like others, and here it becomes one.

use gimli::{BaseAddresses, CieOrFde, EhFrame, LittleEndian, Pointer, UnwindSection};

use super::File;
use crate::arch::RelocKind;
use crate::arch::reloc::{Field, Fits, Form, Operand};
use crate::binary::object::{ObjectError, Reloc, Role, Section};

const DISTANCE: RelocKind = RelocKind::Of(Operand::Symbol, Form::Relative, Field::Int(8, Fits::All));

/// Adds what is missing to the relocations of `__eh_frame`.
pub(super) fn complete(file: &File<'_>, sections: &mut [Section]) -> Result<(), ObjectError> {
    for (index, part) in file.layout.parts.iter().enumerate() {
        let Some(section) = sections.get_mut(index + 1).filter(|section| section.role == Role::EhFrame) else {
            continue;
        };
        let range = section.file_range.start as usize..section.file_range.end as usize;
        let bytes = file.data.get(range).ok_or_else(|| ObjectError("`__eh_frame` ends beyond the file".into()))?;
        let is_known = |offset: u64| section.relocs.binary_search_by_key(&offset, |old| old.offset).is_ok();
        let mut new = distances(file, bytes, part.start, &is_known)?;
        section.relocs.append(&mut new);
        section.relocs.sort_by_key(|reloc| reloc.offset);
    }
    Ok(())
}

/// The distances in `bytes`, an `__eh_frame` section that begins at `start` in the object.
/// Those for whose places `is_known` says that there is a relocation are left out.
fn distances(
    file: &File<'_>,
    bytes: &[u8],
    start: u64,
    is_known: &dyn Fn(u64) -> bool,
) -> Result<Vec<Reloc>, ObjectError> {
    let bad = |error: gimli::Error| ObjectError(format!("`__eh_frame`: {error}"));
    let frames = EhFrame::new(bytes, LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(start);
    let mut entries = frames.entries(&bases);
    let mut out = Vec::new();
    while let Some(entry) = entries.next().map_err(bad)? {
        let CieOrFde::Fde(partial) = entry else { continue };
        let fde = partial.parse(EhFrame::cie_from_offset).map_err(bad)?;
        let pointer_bytes = u64::from(fde.cie().address_size());
        let encodings = [fde.cie().fde_address_encoding(), fde.cie().lsda_encoding()];
        if encodings.into_iter().flatten().any(|encoding| encoding != gimli::DW_EH_PE_pcrel) {
            return Err(ObjectError(format!("`__eh_frame` entry at {:#x}: another form of address", fde.offset())));
        }
        // Length, distance of the common entry; then the function, its length and, after one byte, the LSDA.
        let function_at = fde.offset() as u64 + 8;
        if !is_known(function_at) {
            out.push(distance(file, function_at, fde.initial_address())?);
        }
        let lsda_at = function_at + 2 * pointer_bytes + 1;
        if let Some(Pointer::Direct(lsda)) = fde.lsda().filter(|lsda| *lsda != Pointer::Direct(0) && !is_known(lsda_at))
        {
            out.push(distance(file, lsda_at, lsda)?);
        }
    }
    Ok(out)
}

/// A reference to `target`, an address of the object.
fn distance(file: &File<'_>, offset: u64, target: u64) -> Result<Reloc, ObjectError> {
    let found = file.layout.find_anywhere(target);
    let (part, inside) = found
        .ok_or_else(|| ObjectError(format!("`__eh_frame` refers at {offset:#x} to {target:#x}, where nothing is")))?;
    let symbol = file.layout.section_symbol(part);
    Ok(Reloc { offset, kind: DISTANCE, symbol, minus: None, addend: inside as i64 })
}
