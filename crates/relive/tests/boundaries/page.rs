//! The tables of `docs/design/formats.md`: read, and compared with what the code understands.

use std::collections::HashSet;

use relive::arch::reloc::{Field, Fits, Form, Operand};
use relive::arch::{Machine, RelocKind, aarch64, x86_64};
use relive::binary::object::Format;

const PAGE: &str = include_str!("../../../../docs/design/formats.md");

/// A machine and format, with the heading of its table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    pub(crate) name: &'static str,
    pub(crate) format: Format,
    pub(crate) machine: Machine,
}

pub(crate) const PAIRS: [Pair; 4] = [
    Pair { name: "ELF x86-64", format: Format::Elf, machine: Machine::X86_64 },
    Pair { name: "ELF AArch64", format: Format::Elf, machine: Machine::Aarch64 },
    Pair { name: "Mach-O x86-64", format: Format::MachO, machine: Machine::X86_64 },
    Pair { name: "Mach-O arm64", format: Format::MachO, machine: Machine::Aarch64 },
];

/// A row of a table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) number: Number,
    pub(crate) name: String,
    formula: String,
    field: String,
    /// Lowest that fits and the one behind the highest; `None` if everything does, or nothing is written.
    pub(crate) fits: Option<(i128, i128)>,
    pub(crate) multiple: i128,
    /// Whether a number is written at all.
    pub(crate) has_number: bool,
}

/// How an object names the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Number {
    Elf(u32),
    /// Type, whether a symbol is subtracted by an entry before it, bytes, whether it is PC-relative.
    MachO(u8, bool, u8, bool),
}

/// The rows of a pair's table.
pub(crate) fn rows(pair: Pair) -> Vec<Row> {
    let heading = format!("### {}", pair.name);
    let lines = PAGE.lines().skip_while(|line| *line != heading).skip(4);
    let out: Vec<Row> = lines.take_while(|line| line.starts_with('|')).map(|line| row(pair, line)).collect();
    assert!(out.len() > 10, "the table of {}", pair.name);
    out
}

fn row(pair: Pair, line: &str) -> Row {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [number, name, formula, field, fits, multiple, source] = cells[..] else { panic!("a row: {line}") };
    assert!(!source.is_empty(), "a row without source: {line}");
    Row {
        number: match pair.format {
            Format::Elf => Number::Elf(number.parse().expect("a number")),
            Format::MachO => macho_number(number),
        },
        name: name.trim_matches('`').to_owned(),
        formula: formula.to_owned(),
        field: field.to_owned(),
        fits: fits.split_once(" .. ").map(|(low, high)| (power(low), power(high))),
        multiple: multiple.parse().unwrap_or(1),
        has_number: fits != "-",
    }
}

/// `5, 0 / 8` or `2 / 4 relative`.
fn macho_number(text: &str) -> Number {
    let (raw, rest) = text.split_once(" / ").expect("type / bytes");
    let (bytes, relative) = rest.split_once(' ').map_or((rest, false), |(bytes, _)| (bytes, true));
    let (minus, raw) = raw.split_once(", ").map_or((false, raw), |(_, raw)| (true, raw));
    Number::MachO(raw.parse().expect("a type"), minus, bytes.parse().expect("bytes"), relative)
}

/// `0`, `2^31` or `-2^31`.
fn power(text: &str) -> i128 {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    match text.trim_start_matches('-').split_once('^') {
        Some((base, exponent)) => sign * base.parse::<i128>().expect("a base").pow(exponent.parse().expect("a number")),
        None => sign * text.parse::<i128>().expect("a number"),
    }
}

impl Row {
    /// The code's kind for the row's number.
    pub(crate) fn kind(&self, pair: Pair) -> RelocKind {
        kind(pair, self.number, self.instruction())
    }

    /// An instruction of the row's field (Arm ARM C6.2); 0 where it is none.
    pub(crate) fn instruction(&self) -> u32 {
        let loads = [(1, 0x3940_0000), (2, 0x7940_0000), (4, 0xb940_0000), (8, 0xf940_0000), (16, 0x3dc0_0000)];
        match self.field.as_str() {
            "26 bits, words" => 0x1400_0000,
            "19 bits, words" => 0x5400_0000,
            "14 bits, words" => 0x3600_0000,
            "adr" => 0x1000_0000,
            "adrp" => 0x9000_0000,
            "add, bits 0-11" => 0x9100_0000,
            "add, bits 12-23" => 0x9140_0000,
            "load of 8 bytes, bits 3-14" => 0xf940_0000,
            field if field.starts_with("load or store of ") => {
                let size = field.split(' ').nth(4).and_then(|size| size.parse::<u32>().ok());
                loads.iter().find(|(bytes, _)| Some(*bytes) == size).expect("a size").1
            }
            field if field.starts_with("mov") => {
                let part = field.trim_start_matches(|c: char| !c.is_ascii_digit()).parse::<u32>().expect("a part");
                // What is not checked is for `movk`.
                (if self.name.ends_with("_NC") { 0xf280_0000 } else { 0xd280_0000 }) | (part << 21)
            }
            _ => 0,
        }
    }
}

fn kind(pair: Pair, number: Number, instruction: u32) -> RelocKind {
    match (number, pair.machine) {
        (Number::Elf(raw), Machine::X86_64) => x86_64::from_elf(raw),
        (Number::Elf(raw), Machine::Aarch64) => aarch64::from_elf(raw),
        (Number::MachO(raw, minus, bytes, relative), machine) => {
            let log2 = bytes.trailing_zeros() as u8;
            let kind = match machine {
                Machine::X86_64 => x86_64::from_macho(raw, relative, log2),
                Machine::Aarch64 => aarch64::from_macho(raw, relative, log2, instruction),
            };
            if minus { kind.minus() } else { kind }
        }
    }
}

/// Whether each row says what the code says.
pub(crate) fn check_rows(pair: Pair, rows: &[Row]) -> Result<(), String> {
    let mut wrong = Vec::new();
    for row in rows {
        let kind = row.kind(pair);
        let RelocKind::Of(operand, form, field) = kind else {
            wrong.push(format!("{} is not understood", row.name));
            continue;
        };
        let minus = matches!(row.number, Number::MachO(_, true, ..));
        let says = (formula(operand, form, minus), field_name(field));
        if says != (row.formula.clone(), row.field.clone()) {
            wrong.push(format!("{}: the page says {:?}, the code {says:?}", row.name, (&row.formula, &row.field)));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// Whether the code understands nothing else.
pub(crate) fn check_numbers(pair: Pair, rows: &[Row]) -> Result<(), String> {
    let known: HashSet<Number> = rows.iter().map(|row| row.number).collect();
    let instructions: HashSet<u32> = rows.iter().map(Row::instruction).collect();
    let numbers: Vec<Number> = match pair.format {
        Format::Elf => (0..1 << 13).map(Number::Elf).collect(),
        Format::MachO => (0..128).map(|n| Number::MachO(n & 15, false, 1 << ((n >> 4) & 3), n >> 6 != 0)).collect(),
    };
    let understood =
        |number: &Number| instructions.iter().any(|word| !matches!(kind(pair, *number, *word), RelocKind::Unknown(_)));
    let wrong: Vec<_> = numbers.iter().filter(|number| understood(number) != known.contains(number)).collect();
    if wrong.is_empty() { Ok(()) } else { Err(format!("understood without a row, or the other way round: {wrong:?}")) }
}

fn formula(operand: Operand, form: Form, minus: bool) -> String {
    let (x, load) = match operand {
        Operand::Nothing => return "-".into(),
        Operand::GeneralDynamic => return "general dynamic".into(),
        Operand::LocalDynamic => return "local dynamic".into(),
        Operand::TlsDescriptorCall => return "call of a descriptor".into(),
        Operand::TlsDescriptor => {
            let part = match form {
                Form::Page => ", page",
                Form::Absolute => ", lower bits",
                Form::Relative | Form::FromGot => "",
            };
            return format!("descriptor{part}");
        }
        Operand::Symbol => ("S", ""),
        Operand::Branch => ("L", ""),
        Operand::Got => ("G(S)", ""),
        Operand::GotLoad => ("G(S)", ", load"),
        Operand::GotBase => ("GOT", ""),
        Operand::ThreadOffset => ("T(S)", ""),
        Operand::GotThreadOffset => ("G(T(S))", ", load"),
        Operand::ModuleOffset => ("D(S)", ""),
        Operand::Tlv => ("V(S)", ", load"),
        Operand::Size => ("Z", ""),
    };
    let minus = if minus { " - M" } else { "" };
    match form {
        Form::Absolute => format!("{x}{minus} + A{load}"),
        Form::Relative => format!("{x} + A - P{load}"),
        Form::Page => format!("Page({x} + A) - Page(P){load}"),
        Form::FromGot => format!("{x} + A - GOT{load}"),
    }
}

fn field_name(field: Field) -> String {
    let bytes = |n: u32| if n == 1 { "1 byte".to_owned() } else { format!("{n} bytes") };
    match field {
        Field::None => "-".into(),
        Field::Int(width, _) => bytes(u32::from(width)),
        Field::Branch26 => "26 bits, words".into(),
        Field::Branch19 => "19 bits, words".into(),
        Field::Branch14 => "14 bits, words".into(),
        Field::Adr21 => "adr".into(),
        Field::Adrp21(_) => "adrp".into(),
        Field::Add12(_) => "add, bits 0-11".into(),
        Field::AddHigh12 => "add, bits 12-23".into(),
        Field::LoadStore12(shift) => format!("load or store of {}, bits {shift}-11", bytes(1 << shift)),
        Field::LoadStore15 => "load of 8 bytes, bits 3-14".into(),
        Field::MovWide(part, Fits::Signed) => format!("movn or movz, part {part}"),
        Field::MovWide(part, _) => format!("mov, part {part}"),
    }
}
