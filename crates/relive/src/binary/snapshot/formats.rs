//! Which format a binary has, and which part of a universal file is the binary.
//!
//! Takes bytes, asks the reader of their format. What is neither ELF nor Mach-O is refused here.

use super::facts::{Format, Found, Identity, Machine};
use super::{elf, macho};
use crate::binary::bytes::Bytes;
use crate::binary::object::ObjectError;

/// The binary for `machine` in `data`: the bytes themselves, or a slice of a universal file.
///
/// # Errors
/// If a universal file has none for it, or several and none is asked for; if the file is for another machine.
pub fn slice(data: &Bytes, machine: Option<Machine>) -> Result<Bytes, ObjectError> {
    if !macho::is_universal(data) {
        let is = identity(data)?.machine;
        return match machine {
            Some(wanted) if wanted != is => Err(ObjectError(format!("file header: it is for {is:?}, not {wanted:?}"))),
            Some(_) | None => Ok(data.clone()),
        };
    }
    let slices = macho::slices(data)?;
    let known: Vec<Machine> = slices.iter().filter_map(|slice| slice.0).collect();
    let wanted = match (machine, known.as_slice()) {
        (Some(machine), _) => machine,
        (None, [one]) => *one,
        (None, _) => return Err(ObjectError(format!("universal header: it has slices for {known:?}; name one"))),
    };
    let mut fitting = slices.into_iter().filter(|slice| slice.0 == Some(wanted));
    match (fitting.next(), fitting.next()) {
        (Some((_, range)), None) => data.slice(range).ok_or_else(|| ObjectError("universal header: no slice".into())),
        (None, _) => Err(ObjectError(format!("universal header: it has slices for {known:?}, not for {wanted:?}"))),
        (Some(_), Some(_)) => Err(ObjectError(format!("universal header: it has several slices for {wanted:?}"))),
    }
}

/// What tells the binary in `data` from others; reads only its headers, unless it has neither build-id nor UUID.
///
/// # Errors
/// If it is no ELF or Mach-O file of a machine that is known.
pub fn identity(data: &[u8]) -> Result<Identity, ObjectError> {
    match format(data)? {
        Format::Elf => elf::identity(data),
        Format::MachO => macho::identity(data),
    }
}

fn format(data: &[u8]) -> Result<Format, ObjectError> {
    if elf::is_elf(data) {
        Ok(Format::Elf)
    } else if macho::is_macho(data) {
        Ok(Format::MachO)
    } else if macho::is_universal(data) {
        Err(ObjectError("file header: it is a universal file; name the slice".into()))
    } else {
        Err(ObjectError("file header: it is neither ELF nor Mach-O of 64 bits, little-endian".into()))
    }
}

/// Reads the whole binary.
pub(super) fn read(data: &[u8]) -> Result<Found, ObjectError> {
    match format(data)? {
        Format::Elf => elf::read(data),
        Format::MachO => macho::read(data),
    }
}
