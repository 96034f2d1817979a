//! `__TEXT,__eh_frame`: an object's unwind entries cut apart, and those that an image needs written for its addresses.
//!
//! Takes an object's section with the differences that its relocations leave to the linker, and later, for each entry
//! that is wanted, where its function, LSDA and personality pointer are; gives the section of the image and each entry's
//! offset in it, which goes into the function's compact encoding. Does not interpret call frame instructions.
//!
//! The format is that of `.eh_frame` (LSB Core, "Exception Frames"), as clang and rustc write it for Mach-O: pointers are
//! distances from where they stand. x86-64 objects have these final, without relocations, as everything in an object has
//! an address; arm64 objects have pairs of `SUBTRACTOR` and `UNSIGNED`. So the pairs are worked out with the object's own
//! addresses first, and after that both machines look alike. Only the personality pointer (`GOT`, `POINTER_TO_GOT`) is
//! nothing that an object could have.

use rustc_hash::FxHashMap;

use super::{ImageOffset, double, word};
use crate::binary::address::LinkAddr;
use crate::link::LinkError;

/// Distance from the pointer to what it points to, in four or eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Four,
    Eight,
}

/// `DW_EH_PE_indirect | DW_EH_PE_pcrel | DW_EH_PE_sdata4`: how personality functions are pointed to.
const PERSONALITY_ENCODING: u8 = 0x9b;
/// Where a record's pointer to its CIE is, or a CIE's mark.
const CIE_FIELD: usize = 4;
/// Where an FDE's first pointer is.
const FUNCTION_FIELD: usize = 8;

impl Width {
    fn of_encoding(encoding: u8) -> Option<Width> {
        match encoding {
            // DW_EH_PE_pcrel with absptr, sdata8, sdata4.
            0x10 | 0x1c => Some(Width::Eight),
            0x1b => Some(Width::Four),
            _ => None,
        }
    }

    const fn size(self) -> usize {
        match self {
            Width::Four => 4,
            Width::Eight => 8,
        }
    }

    /// The number at `at`, with its sign.
    fn read(self, bytes: &[u8], at: usize) -> Option<i64> {
        match self {
            Width::Four => word(bytes, at).map(|number| i64::from(number as i32)),
            Width::Eight => double(bytes, at).map(|number| number as i64),
        }
    }

    fn write(self, bytes: &mut [u8], at: usize, number: i64) -> Result<(), LinkError> {
        let fits = self == Width::Eight || i32::try_from(number).is_ok();
        let field = bytes.get_mut(at..at + self.size()).filter(|_| fits);
        let field = field.ok_or_else(|| LinkError(format!("__eh_frame: the distance {number:#x} does not fit")))?;
        field.copy_from_slice(number.to_le_bytes().get(..self.size()).unwrap_or_default());
        Ok(())
    }
}

/// What a pair of `SUBTRACTOR` and `UNSIGNED` relocations in an object's section says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where in the section, in bytes.
    pub at: u32,
    /// Whether eight bytes are meant (`r_length` 3) or four (2).
    pub is_long: bool,
    /// The object's address of what `UNSIGNED` names.
    pub minuend: LinkAddr,
    /// The object's address of what `SUBTRACTOR` names.
    pub subtrahend: LinkAddr,
}

/// Common information of some entries.
#[derive(Clone, Debug)]
pub struct Cie {
    /// With nothing in the personality's place.
    bytes: Vec<u8>,
    personality: Option<usize>,
    /// Where in the section the relocation to the personality function is.
    pub personality_field: Option<u32>,
    function: Width,
    lsda: Option<Width>,
}

/// The unwind entry of one function.
#[derive(Clone, Debug)]
pub struct Fde {
    /// Where it is in the section, in bytes.
    pub at: u32,
    bytes: Vec<u8>,
    /// Which of the object's common entries it has.
    pub cie: usize,
    /// The object's address of the function.
    pub function: LinkAddr,
    /// The function's size in bytes.
    pub length: u64,
    lsda_field: Option<(usize, Width)>,
    /// The object's address of the function's language-specific data.
    pub lsda: Option<LinkAddr>,
}

/// The unwind entries of an object, in the section's order.
#[derive(Clone, Debug, Default)]
pub struct EhFrame {
    /// The common entries.
    pub cies: Vec<Cie>,
    /// The functions' entries.
    pub fdes: Vec<Fde>,
}

/// Cuts the section at `addr` of an object apart.
///
/// # Errors
/// With the offset, if something is cut off, does not belong together, or has pointers of an unknown form.
pub fn read(section: &[u8], addr: LinkAddr, differences: &[Difference]) -> Result<EhFrame, LinkError> {
    let section = &resolve(section, differences)?;
    let mut frames = EhFrame::default();
    let mut cie_at = FxHashMap::default();
    let mut at = 0;
    while at < section.len() {
        let bytes = record(section, at)?;
        let Some(pointer) = word(bytes, CIE_FIELD) else { break };
        if pointer == 0 {
            cie_at.insert(at, frames.cies.len());
            frames.cies.push(read_cie(bytes, at).ok_or_else(|| unknown("common entry", at))?);
        } else {
            let cie = (at + CIE_FIELD).checked_sub(pointer as usize).and_then(|at| cie_at.get(&at));
            let cie = cie.and_then(|index| Some((*index, frames.cies.get(*index)?)));
            let cie = cie.ok_or_else(|| LinkError(format!("__eh_frame: no common entry for the one at {at:#x}")))?;
            frames.fdes.push(read_fde(bytes, at, addr, cie).ok_or_else(|| unknown("entry", at))?);
        }
        at += bytes.len();
    }
    Ok(frames)
}

fn unknown(what: &str, at: usize) -> LinkError {
    LinkError(format!("__eh_frame: the {what} at offset {at:#x} is cut off or of an unknown form"))
}

/// The section with what its pairs of relocations give at the object's own addresses.
fn resolve(section: &[u8], differences: &[Difference]) -> Result<Vec<u8>, LinkError> {
    let mut bytes = section.to_vec();
    for difference in differences {
        let width = if difference.is_long { Width::Eight } else { Width::Four };
        let at = difference.at as usize;
        let in_place = width.read(&bytes, at).ok_or_else(|| unknown("place of a relocation", at))?;
        let value = difference.minuend.0.wrapping_sub(difference.subtrahend.0) as i64;
        width.write(&mut bytes, at, value.wrapping_add(in_place))?;
    }
    Ok(bytes)
}

/// The record at `at`, its length included. A length of 0 ends the section; it is a record of four bytes. The escape to
/// lengths of 64 bits is longer than any section.
fn record(section: &[u8], at: usize) -> Result<&[u8], LinkError> {
    let length = word(section, at).ok_or_else(|| unknown("entry", at))?;
    let bytes = section.get(at..).and_then(|rest| rest.get(..(length as usize).checked_add(4)?));
    bytes
        .filter(|bytes| bytes.len() == 4 || bytes.len() >= FUNCTION_FIELD)
        .ok_or_else(|| LinkError(format!("__eh_frame: the entry at offset {at:#x} has a length of {length:#x}")))
}

fn read_cie(bytes: &[u8], at: usize) -> Option<Cie> {
    let rest = bytes.get(9..)?;
    let name = rest.get(..rest.iter().position(|byte| *byte == 0)?)?;
    if bytes.get(8) != Some(&1) || name.first() != Some(&b'z') {
        return None;
    }
    // Alignment factors, the return address's register, the length of what follows.
    let mut next = 9 + name.len() + 1;
    for _ in 0..4 {
        next = after_leb(bytes, next)?;
    }
    let mut cie =
        Cie { bytes: bytes.to_vec(), personality: None, personality_field: None, function: Width::Eight, lsda: None };
    let mut has_function = false;
    for letter in name.iter().skip(1) {
        let encoding = *bytes.get(next)?;
        next += 1;
        match letter {
            b'P' if encoding == PERSONALITY_ENCODING => {
                cie.bytes.get_mut(next..next + 4)?.fill(0);
                cie.personality = Some(next);
                cie.personality_field = Some(u32::try_from(at + next).ok()?);
                next += 4;
            }
            b'L' => cie.lsda = Some(Width::of_encoding(encoding)?),
            b'R' => (cie.function, has_function) = (Width::of_encoding(encoding)?, true),
            _ => return None,
        }
    }
    has_function.then_some(cie)
}

fn read_fde(bytes: &[u8], at: usize, section: LinkAddr, (index, cie): (usize, &Cie)) -> Option<Fde> {
    let target = |field: usize, width: Width| {
        let distance = width.read(bytes, field)?;
        let place = section.0.wrapping_add((at + field) as u64);
        // A pointer of 0 leads nowhere, not to itself.
        Some((distance != 0).then(|| LinkAddr(place.wrapping_add(distance as u64))))
    };
    let length_field = FUNCTION_FIELD + cie.function.size();
    let lsda = after_leb(bytes, length_field + cie.function.size())?;
    let lsda_field = cie.lsda.map(|width| (lsda, width));
    let length = match cie.function {
        Width::Four => u64::from(word(bytes, length_field)?),
        Width::Eight => double(bytes, length_field)?,
    };
    Some(Fde {
        at: u32::try_from(at).ok()?,
        bytes: bytes.to_vec(),
        cie: index,
        function: target(FUNCTION_FIELD, cie.function)??,
        length,
        lsda_field,
        lsda: lsda_field.map_or(Some(None), |(field, width)| target(field, width))?,
    })
}

/// Where the LEB128 number at `at` ends.
fn after_leb(bytes: &[u8], at: usize) -> Option<usize> {
    const LONGEST: usize = 10;
    let rest = bytes.get(at..)?;
    rest.iter().take(LONGEST).position(|byte| byte & 0x80 == 0).map(|last| at + last + 1)
}

/// An entry that an image needs.
#[derive(Clone, Copy, Debug)]
pub struct PlacedFde<'a> {
    /// The object it comes from.
    pub object: &'a EhFrame,
    /// The entry.
    pub fde: &'a Fde,
    /// Where its function is.
    pub function: ImageOffset,
    /// Where its language-specific data is, if it has any.
    pub lsda: Option<ImageOffset>,
    /// The pointer to the personality function, if its common entry has one.
    pub personality: Option<ImageOffset>,
}

/// The section of an image that begins at `section`, and the offset in it of each of the entries, in their order.
///
/// # Errors
/// With the function's image offset, if an entry is given what it has no place for or not given what it needs, or a
/// distance does not fit its place.
pub fn write(fdes: &[PlacedFde], section: ImageOffset) -> Result<(Vec<u8>, Vec<u32>), LinkError> {
    let mut out = Vec::new();
    let mut offsets = Vec::with_capacity(fdes.len());
    let mut cies = FxHashMap::default();
    for placed in fdes {
        let why = |why: &str| LinkError(format!("the unwind entry of the function at {} {why}", placed.function));
        let cie = placed.object.cies.get(placed.fde.cie).ok_or_else(|| why("has no common entry"))?;
        let cie_at = match cies.get(&(cie.bytes.as_slice(), placed.personality)) {
            Some(at) => *at,
            None => {
                let at = out.len();
                put_cie(&mut out, cie, placed, section)?;
                cies.insert((cie.bytes.as_slice(), placed.personality), at);
                at
            }
        };
        let at = out.len();
        let offset = u32::try_from(at).map_err(|_| why("lies beyond 4 GiB of others"))?;
        out.extend_from_slice(&placed.fde.bytes);
        Width::Four.write(&mut out, at + CIE_FIELD, (at + CIE_FIELD - cie_at) as i64)?;
        point(&mut out, at + FUNCTION_FIELD, cie.function, section, placed.function)?;
        match (placed.fde.lsda_field.filter(|_| placed.fde.lsda.is_some()), placed.lsda) {
            (Some((field, width)), Some(lsda)) => point(&mut out, at + field, width, section, lsda)?,
            (None, None) => {}
            (Some(_), None) => return Err(why("leads to no LSDA")),
            (None, Some(_)) => return Err(why("has no place for an LSDA")),
        }
        offsets.push(offset);
    }
    read_back(&out, section, fdes, &offsets)?;
    Ok((out, offsets))
}

/// Cuts the section apart again.
fn read_back(bytes: &[u8], section: ImageOffset, fdes: &[PlacedFde], offsets: &[u32]) -> Result<(), LinkError> {
    let addr = |at: ImageOffset| LinkAddr(u64::from(at.0));
    let written = read(bytes, addr(section), &[])?;
    let found = written.fdes.iter().map(|fde| (fde.at, fde.function, fde.length, fde.lsda));
    let planned = fdes.iter().zip(offsets);
    let planned = planned.map(|(placed, at)| (*at, addr(placed.function), placed.fde.length, placed.lsda.map(addr)));
    if !found.eq(planned) {
        return Err(LinkError("the unwind entries do not read back".into()));
    }
    Ok(())
}

fn put_cie(out: &mut Vec<u8>, cie: &Cie, placed: &PlacedFde, section: ImageOffset) -> Result<(), LinkError> {
    let at = out.len();
    out.extend_from_slice(&cie.bytes);
    match (cie.personality, placed.personality) {
        (Some(field), Some(pointer)) => point(out, at + field, Width::Four, section, pointer),
        (None, None) => Ok(()),
        (Some(_), None) | (None, Some(_)) => {
            let function = placed.function;
            Err(LinkError(format!("the unwind entry of the function at {function} has another personality function")))
        }
    }
}

/// Writes the distance from the place at `at` to `target`.
fn point(out: &mut [u8], at: usize, width: Width, section: ImageOffset, target: ImageOffset) -> Result<(), LinkError> {
    width.write(out, at, i64::from(target.0) - i64::from(section.0) - at as i64)
}
