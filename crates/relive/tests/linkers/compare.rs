//! One section, relocated by relive for the address that a linker chose, and compared with what the linker made of it.

use relive::arch::reloc::{Field, Operand};
use relive::arch::{Machine, RelocKind};
use relive::binary::object::{Object, Reloc};
use relive::link::apply::{Linkage, Target as Atom, apply};

use crate::report::Report;

/// Why there is no address of a symbol: the linker took another definition.
pub(crate) const DISCARDED: &str = "it lies in a section that lld dropped";

/// Bytes of an input and what the linker made of them.
pub(crate) struct Piece<'a> {
    pub(crate) object: &'a Object,
    /// For messages: file and section.
    pub(crate) name: String,
    /// Whether it is debug information.
    pub(crate) debug: bool,
    pub(crate) at: u64,
    pub(crate) ours: Vec<u8>,
    pub(crate) theirs: &'a [u8],
}

impl Piece<'_> {
    /// Applies `relocs` and compares.
    pub(crate) fn compare(&mut self, linkage: &mut impl Linkage, relocs: &[Reloc], report: &mut Report) {
        let mut done = 0;
        for reloc in relocs {
            if reloc.offset < done {
                report.equal(reloc.kind, self.debug);
                continue;
            }
            let before = self.ours.get(window(reloc)).unwrap_or_default().to_vec();
            let machine = self.object.machine;
            let mut atom = Atom { machine, code: !self.debug, at: self.at, bytes: &mut self.ours };
            match apply(linkage, &mut atom, reloc) {
                Ok(end) => done = end,
                // Debug information of what was dropped holds a number that means nothing.
                Err(why) if why == DISCARDED && self.debug => {
                    report.explained("debug information of what lld dropped", 1);
                    let range = reloc.offset as usize..(reloc.offset + reloc.kind.width()) as usize;
                    self.ours[range.clone()].copy_from_slice(&self.theirs[range]);
                    continue;
                }
                Err(why) => report.unexplained(format!("{}: {why}", self.place(reloc))),
            }
            self.field(reloc, &before, done, report);
        }
        self.rest(report);
    }

    fn field(&self, reloc: &Reloc, before: &[u8], done: u64, report: &mut Report) {
        let start = reloc.offset.saturating_sub(4) as usize;
        let end = ((reloc.offset + reloc.kind.width()).max(done) as usize).min(self.ours.len());
        let field = reloc.offset as usize..(reloc.offset + reloc.kind.width()) as usize;
        if self.ours[field.clone()] == self.theirs[field] {
            report.equal(reloc.kind, self.debug);
            let after = self.ours.get(window(reloc)).unwrap_or_default();
            report.relaxed += u64::from(is_rewritten(reloc, self.object.machine, before, after));
            return;
        }
        let (ours, theirs) = (&self.ours[start..end], &self.theirs[start..end]);
        report.unexplained(format!("{}: {ours:x?}, lld has {theirs:x?}", self.place(reloc)));
    }

    /// The bytes between the fields.
    fn rest(&self, report: &mut Report) {
        if self.ours == self.theirs {
            return;
        }
        let at = self.ours.iter().zip(self.theirs).position(|(ours, theirs)| ours != theirs).unwrap_or(0);
        let end = (at + 16).min(self.ours.len());
        let (ours, theirs) = (&self.ours[at..end], &self.theirs[at..end]);
        report.unexplained(format!("{}: bytes at {at:#x}: {ours:x?}, lld has {theirs:x?}", self.name));
    }

    fn place(&self, reloc: &Reloc) -> String {
        let symbol = self.object.name(self.object.symbol(reloc.symbol));
        format!("{}+{:#x} {:?} {symbol} {:+}", self.name, reloc.offset, reloc.kind, reloc.addend)
    }
}

/// Where an instruction is that is rewritten: on x86-64 it begins before its field.
fn window(reloc: &Reloc) -> std::ops::Range<usize> {
    let field = reloc.offset as usize;
    field.saturating_sub(3)..field + 4
}

/// Whether more than the field is new.
fn is_rewritten(reloc: &Reloc, machine: Machine, before: &[u8], after: &[u8]) -> bool {
    use Operand::{GeneralDynamic, GotLoad, GotThreadOffset, LocalDynamic, TlsDescriptor, TlsDescriptorCall, Tlv};
    let RelocKind::Of(operand, _, field) = reloc.kind else { return false };
    let may_be = matches!(
        operand,
        GeneralDynamic | GotLoad | GotThreadOffset | LocalDynamic | TlsDescriptor | TlsDescriptorCall | Tlv
    );
    let opcode = |bytes: &[u8]| match machine {
        Machine::X86_64 => bytes.get(..3).map(<[u8]>::to_vec),
        Machine::Aarch64 => {
            let mut word = bytes.last_chunk::<4>()?.to_vec();
            if field != Field::None {
                field.write(&mut word, 0).ok()?;
            }
            Some(word)
        }
    };
    may_be && opcode(before) != opcode(after)
}
