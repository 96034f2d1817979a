//! One relocation, applied: its operands asked for, its instruction rewritten where that pays, its field written.
//!
//! Takes the bytes of an atom, the place and the relocation; where things are comes from a [`Linkage`]. The same function
//! serves all machines and formats and every use: patches of the running program, buffers, and the comparison with other
//! linkers. It decides nothing about where things lie.

use crate::arch::reloc::{Field, Fits, Form, Operand, Operands};
use crate::arch::{Machine, RelocKind, aarch64, x86_64};
use crate::binary::object::{Reloc, SymbolId};

/// What a word that code loads from holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WordKind {
    /// The address of a symbol.
    Address,
    /// The distance of a thread-local from the thread pointer.
    ThreadOffset,
    /// The address of a thread-local variable descriptor (Mach-O).
    Descriptor,
}

/// Where things are. Addresses are plain numbers: a buffer may be meant for a process, a file or a comparison.
pub trait Linkage {
    /// S: the address of the relocation's symbol.
    ///
    /// # Errors
    /// If it has none, with the reason; the same for all others.
    fn symbol(&mut self, reloc: &Reloc) -> Result<u64, String>;

    /// The address of the symbol that is subtracted.
    ///
    /// # Errors
    /// If it has none.
    fn minus(&mut self, symbol: SymbolId) -> Result<u64, String>;

    /// Where a branch at `place` to the relocation's symbol goes: to it, or to a stub that leads to it.
    ///
    /// # Errors
    /// If there is neither.
    fn branch(&mut self, reloc: &Reloc, place: u64) -> Result<u64, String>;

    /// The address of the word of `kind` for the relocation's symbol.
    ///
    /// # Errors
    /// If there is none.
    fn word(&mut self, reloc: &Reloc, kind: WordKind) -> Result<u64, String>;

    /// Whether an access through a word of `kind` is rewritten into a direct one, where the instruction allows it.
    fn relaxes(&mut self, reloc: &Reloc, kind: WordKind) -> bool;

    /// The distance of the relocation's symbol from the thread pointer, in the code of every thread.
    ///
    /// # Errors
    /// If it is no thread-local of the executable.
    fn thread_offset(&mut self, reloc: &Reloc) -> Result<i64, String>;

    /// The distance of the relocation's symbol from the beginning of its thread-local block, which debug information wants.
    ///
    /// # Errors
    /// If it is no thread-local.
    fn module_offset(&mut self, reloc: &Reloc) -> Result<i64, String> {
        self.thread_offset(reloc)
    }

    /// The size of the relocation's symbol.
    ///
    /// # Errors
    /// If it is not known.
    fn size(&mut self, reloc: &Reloc) -> Result<u64, String> {
        Err(format!("the size of {:?} is not known", reloc.symbol))
    }

    /// The address of the table of words.
    ///
    /// # Errors
    /// If there is none that code can count from.
    fn got(&self) -> Result<u64, String> {
        Err("there is no table of words to count from".into())
    }
}

/// One atom while it is relocated.
pub struct Target<'b> {
    /// The machine that its code is for.
    pub machine: Machine,
    /// Whether it is code that runs, in contrast to data and debug information.
    pub code: bool,
    /// Its address.
    pub at: u64,
    /// Its bytes.
    pub bytes: &'b mut [u8],
}

/// Applies `reloc` to `target`. Gives the offset up to which relocations were dealt with along with it.
///
/// # Errors
/// If it is not understood, an operand is missing, or the result does not fit.
pub fn apply(linkage: &mut impl Linkage, target: &mut Target<'_>, reloc: &Reloc) -> Result<u64, String> {
    let (operand, form, field) = match reloc.kind {
        RelocKind::Of(operand, form, field) => (operand, form, field),
        RelocKind::Unknown(raw) => return Err(format!("relocation number {raw} is not understood")),
    };
    let done = reloc.offset + reloc.kind.width();
    let place = target.at.wrapping_add(reloc.offset);
    let x = match operand {
        Operand::Nothing => return Ok(done),
        Operand::Symbol => linkage.symbol(reloc)?,
        Operand::Branch if form == Form::Relative => linkage.branch(reloc, place)?,
        Operand::Branch => linkage.branch(reloc, linkage.got()?)?,
        Operand::Got => linkage.word(reloc, WordKind::Address)?,
        Operand::GotBase => linkage.got()?,
        Operand::Size => linkage.size(reloc)?,
        Operand::ThreadOffset => linkage.thread_offset(reloc)? as u64,
        // Behind a local-dynamic access that became local-exec, these count from the thread pointer as well.
        Operand::ModuleOffset if target.code => linkage.thread_offset(reloc)? as u64,
        Operand::ModuleOffset => linkage.module_offset(reloc)? as u64,
        Operand::GotLoad => return load(linkage, target, reloc, WordKind::Address, form, field),
        Operand::Tlv => return load(linkage, target, reloc, WordKind::Descriptor, form, field),
        Operand::GotThreadOffset if !linkage.relaxes(reloc, WordKind::ThreadOffset) => {
            linkage.word(reloc, WordKind::ThreadOffset)?
        }
        Operand::GotThreadOffset
        | Operand::GeneralDynamic
        | Operand::LocalDynamic
        | Operand::TlsDescriptor
        | Operand::TlsDescriptorCall => return local_exec(linkage, target, reloc, operand),
    };
    let minus = reloc.minus.map_or(Ok(0), |symbol| linkage.minus(symbol))?;
    // A distance may be negative, and numbers are computed without wrapping.
    let is_distance = matches!(operand, Operand::ThreadOffset | Operand::ModuleOffset);
    let (x, addend) = if is_distance { (0, reloc.addend.wrapping_add(x as i64)) } else { (x, reloc.addend) };
    let got = if form == Form::FromGot { linkage.got()? } else { 0 };
    let value = form.value(&Operands { x, addend, minus, place, got });
    write(target, reloc.offset, field, value)?;
    Ok(done)
}

fn write(target: &mut Target<'_>, offset: u64, field: Field, value: i128) -> Result<(), String> {
    let bytes = usize::try_from(offset).ok().and_then(|offset| target.bytes.get_mut(offset..));
    field.write(bytes.unwrap_or_default(), value)
}

/// An instruction that loads an address from a word, or makes it where that is allowed and in reach.
fn load(
    linkage: &mut impl Linkage,
    target: &mut Target<'_>,
    reloc: &Reloc,
    kind: WordKind,
    form: Form,
    field: Field,
) -> Result<u64, String> {
    let done = reloc.offset + 4;
    let place = target.at.wrapping_add(reloc.offset);
    let operands = |x, place| Operands { x, addend: reloc.addend, minus: 0, place, got: 0 };
    if linkage.relaxes(reloc, kind) {
        let symbol = linkage.symbol(reloc)?;
        let value = form.value(&operands(symbol, place));
        // One byte of tolerance: a jump's displacement moves by one.
        let reaches = target.machine != Machine::X86_64
            || reloc.addend == -4 && i32::try_from(value).is_ok() && i32::try_from(value + 1).is_ok();
        let at = usize::try_from(reloc.offset).map_err(|_| "the field lies outside its section")?;
        if reaches && let Some((at, field)) = direct(target, at, kind, field)? {
            let place = target.at.wrapping_add(at as u64);
            write(target, at as u64, field, form.value(&operands(symbol, place)))?;
            return Ok(done);
        }
        // Its other half may have been rewritten, and both must agree.
        if target.machine == Machine::Aarch64 {
            return Err("it is no `adrp` and no load of 8 bytes, and cannot be rewritten".into());
        }
    }
    let word = linkage.word(reloc, kind)?;
    write(target, reloc.offset, field, form.value(&operands(word, place)))?;
    Ok(done)
}

/// Rewrites the instruction; gives its field.
fn direct(target: &mut Target<'_>, at: usize, kind: WordKind, field: Field) -> Result<Option<(usize, Field)>, String> {
    let code = &mut *target.bytes;
    Ok(match (target.machine, kind) {
        (Machine::Aarch64, _) => aarch64::relax::got_load(code, at).map(|field| (at, field)),
        (Machine::X86_64, WordKind::Descriptor) => {
            x86_64::relax::tlv_load(code, at)?;
            Some((at, field))
        }
        (Machine::X86_64, WordKind::Address | WordKind::ThreadOffset) => {
            x86_64::relax::got_load(code, at).map(|at| (at, Field::Int(4, Fits::Signed)))
        }
    })
}

/// An access of a thread-local that is rewritten into one with a constant.
fn local_exec(
    linkage: &mut impl Linkage,
    target: &mut Target<'_>,
    reloc: &Reloc,
    operand: Operand,
) -> Result<u64, String> {
    let at = usize::try_from(reloc.offset).map_err(|_| "the field lies outside its section")?;
    // A local-dynamic access is for all thread-locals of the block, a call for the one of the instructions before it.
    let names_none = matches!(operand, Operand::LocalDynamic | Operand::TlsDescriptorCall);
    let offset = if names_none { 0 } else { linkage.thread_offset(reloc)? };
    let end = match target.machine {
        Machine::X86_64 => {
            // The addend counts from the end of an instruction that is no longer relative.
            let addend = if operand == Operand::TlsDescriptorCall { 0 } else { reloc.addend.wrapping_add(4) };
            x86_64::relax::thread_local(target.bytes, at, operand, offset.wrapping_add(addend))?
        }
        Machine::Aarch64 => aarch64::relax::thread_local(target.bytes, at, operand, offset.wrapping_add(reloc.addend))?,
    };
    Ok(end as u64)
}
