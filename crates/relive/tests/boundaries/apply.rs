//! Numbers at the edges, through relive's engine.

use relive::arch::reloc::{Fits, Form, Operand};
use relive::arch::{Machine, RelocKind};
use relive::binary::object::{Reloc, SymbolId};
use relive::link::apply::{Linkage, Target, WordKind, apply};

use crate::page::{Pair, Row};

/// The place, at the beginning of a page.
const PLACE: u64 = 0x50_0000_0000;

/// Everything is at one address; the addend makes the number.
struct Fixed(u64);

impl Linkage for Fixed {
    fn symbol(&mut self, _: &Reloc) -> Result<u64, String> {
        Ok(self.0)
    }
    fn minus(&mut self, _: SymbolId) -> Result<u64, String> {
        Ok(self.0)
    }
    fn branch(&mut self, _: &Reloc, _: u64) -> Result<u64, String> {
        Ok(self.0)
    }
    fn word(&mut self, _: &Reloc, _: WordKind) -> Result<u64, String> {
        Ok(self.0)
    }
    fn relaxes(&mut self, _: &Reloc, _: WordKind) -> bool {
        false
    }
    fn thread_offset(&mut self, _: &Reloc) -> Result<i64, String> {
        Ok(0)
    }
    fn size(&mut self, _: &Reloc) -> Result<u64, String> {
        Ok(0)
    }
    fn got(&self) -> Result<u64, String> {
        Ok(PLACE)
    }
}

/// Numbers to try, with whether they are accepted.
pub(crate) fn cases(row: &Row) -> Vec<(i128, bool)> {
    if !row.has_number {
        return vec![(0, true)];
    }
    let step = row.multiple;
    let mut out = match row.fits {
        Some((low, high)) => vec![
            (low, true),
            (low + step, true),
            (0, true),
            (high - step, true),
            (low - step, false),
            (low - 1, false),
            (high, false),
            (high + step, false),
        ],
        None => vec![(0, true), (step, true), (-step, true), (1 << 40, true), (-(1 << 40), true), (0xff0, true)],
    };
    if step > 1 && step < 4096 {
        out.extend([(1, false), (step / 2, false), (step + 1, false), (-1, false)]);
    }
    out
}

/// Whether the engine takes what the row says and refuses what it says.
pub(crate) fn check(pair: Pair, rows: &[Row]) -> Result<(), String> {
    let mut wrong = Vec::new();
    let mut count = 0;
    for row in rows {
        for (number, accepted) in cases(row) {
            count += 1;
            if let Err(why) = one(pair, row, number, accepted) {
                wrong.push(format!("{} with {number:#x}: {why}", row.name));
            }
        }
    }
    eprintln!("{}: {} kinds, {count} numbers at their edges", pair.name, rows.len());
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

fn one(pair: Pair, row: &Row, number: i128, accepted: bool) -> Result<(), String> {
    let kind = row.kind(pair);
    let RelocKind::Of(operand, form, field) = kind else { return Err("it is not understood".into()) };
    let (mut bytes, offset, extra) = sequence(pair.machine, operand, row);
    let before = bytes.clone();
    let addend = i64::try_from(number).map_err(|_| "a number of the table that no addend can be")? + extra;
    let minus = matches!(row.number, crate::page::Number::MachO(_, true, ..)).then_some(SymbolId(2));
    let absolute = form == Form::Absolute && minus.is_none() && operand != Operand::Nothing;
    let mut linkage = Fixed(if absolute { 0 } else { PLACE });
    let reloc = Reloc { offset, kind, symbol: SymbolId(1), minus, addend };
    let mut target =
        Target { machine: pair.machine, code: operand != Operand::ModuleOffset, at: PLACE - offset, bytes: &mut bytes };
    let result = apply(&mut linkage, &mut target, &reloc);
    match (result, accepted) {
        (Ok(_), false) => Err("it is accepted".into()),
        (Err(why), true) => Err(format!("it is refused: {why}")),
        (Err(_), false) if bytes != before => Err("it is refused, but something was written".into()),
        (Err(_), false) => Ok(()),
        (Ok(_), true) => {
            let read = field.read(&bytes[offset as usize..]).map(i128::from);
            let whole = matches!(field, relive::arch::reloc::Field::Int(_, Fits::Signed)) && extra == 0;
            let right = !whole || read == Some(number);
            if right { Ok(()) } else { Err(format!("{read:x?} was written")) }
        }
    }
}

/// Code around the field, the field's offset in it, and what the addend counts from.
fn sequence(machine: Machine, operand: Operand, row: &Row) -> (Vec<u8>, u64, i64) {
    match (machine, operand) {
        (Machine::X86_64, Operand::GeneralDynamic) => {
            (vec![0x66, 0x48, 0x8d, 0x3d, 0, 0, 0, 0, 0x66, 0x66, 0x48, 0xe8, 0, 0, 0, 0], 4, -4)
        }
        (Machine::X86_64, Operand::LocalDynamic) => (vec![0x48, 0x8d, 0x3d, 0, 0, 0, 0, 0xe8, 0, 0, 0, 0], 3, -4),
        (Machine::X86_64, Operand::TlsDescriptor) => (vec![0x48, 0x8d, 0x05, 0, 0, 0, 0], 3, -4),
        (Machine::X86_64, Operand::TlsDescriptorCall) => (vec![0xff, 0x10], 0, 0),
        (Machine::Aarch64, Operand::TlsDescriptorCall) => (0xd63f_0020_u32.to_le_bytes().to_vec(), 0, 0),
        _ => {
            let mut bytes = row.instruction().to_le_bytes().to_vec();
            bytes.resize(8, 0);
            (bytes, 0, 0)
        }
    }
}
