//! What a relocation computes and how the result is written: one small value for every machine and format.
//!
//! A relocation is an *operand* (what X is), a *form* (how X, the addend and the place are combined) and a *field* (which
//! bits of which instruction or datum take the result, and what fits). The twin files of the machines turn the numbers of
//! ELF and Mach-O into such values; everything behind them is the same for all four pairs. What has no such value is
//! [`RelocKind::Unknown`] and refused where it is used.
//!
//! Letters are those of the psABIs: S the symbol, A the addend, P the place, M the symbol that is subtracted (Mach-O), GOT
//! the table of words, TP the thread pointer.

/// What a relocation computes, and where the result goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RelocKind {
    /// Understood.
    Of(Operand, Form, Field),
    /// Not understood, by its raw number.
    Unknown(u32),
}

/// What X is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// Nothing is computed (`R_*_NONE`).
    Nothing,
    /// `S`; minus M if the relocation has one.
    Symbol,
    /// S, or any stub that leads to S: the field is a branch.
    Branch,
    /// The address of a word that holds S.
    Got,
    /// The same; the instruction loads from the word and can be rewritten to make the address itself.
    GotLoad,
    /// The address of the table of words.
    GotBase,
    /// `S - TP`: the distance of a thread-local from the thread pointer.
    ThreadOffset,
    /// The address of a word that holds `S - TP`.
    GotThreadOffset,
    /// The distance of a thread-local from its module's block.
    ModuleOffset,
    /// General-dynamic access (ELF TLS): a sequence of instructions, rewritten to local-exec.
    GeneralDynamic,
    /// Local-dynamic access (ELF TLS): the same.
    LocalDynamic,
    /// Access through a TLS descriptor (ELF): the same.
    TlsDescriptor,
    /// The call of a TLS descriptor's function: no field, only a place.
    TlsDescriptorCall,
    /// The address of a word that holds the address of a thread-local variable descriptor (Mach-O).
    Tlv,
    /// The size of S.
    Size,
}

/// How X becomes a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// `X + A`
    Absolute,
    /// `X + A - P`
    Relative,
    /// `Page(X + A) - Page(P)`, where `Page(x)` is `x & !0xfff`
    Page,
    /// `X + A - GOT`
    FromGot,
}

/// Which numbers fit a data field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fits {
    /// Those of a signed field.
    Signed,
    /// Those of an unsigned field.
    Unsigned,
    /// Both (`-2^(n-1) <= X < 2^n`).
    Either,
    /// All: the upper bits are cut off.
    All,
}

/// The bits that take the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// None.
    None,
    /// 1, 2, 4 or 8 bytes, little-endian.
    Int(u8, Fits),
    /// AArch64 `b`, `bl`: 26 bits, in words.
    Branch26,
    /// AArch64 `b.cond`, `cbz`, `ldr` (literal): 19 bits at bit 5, in words.
    Branch19,
    /// AArch64 `tbz`, `tbnz`: 14 bits at bit 5, in words.
    Branch14,
    /// AArch64 `adr`: 21 bits, split in two.
    Adr21,
    /// AArch64 `adrp`: 21 bits of pages.
    Adrp21(Fits),
    /// AArch64 `add`: bits 0 to 11 of the result at bit 10. With `Unsigned`, the result must fit them.
    Add12(Fits),
    /// AArch64 `add`, shifted: bits 12 to 23 of the result at bit 10, which must not be larger.
    AddHigh12,
    /// AArch64 load or store of `1 << n` bytes: bits n to 11 of the result at bit 10.
    LoadStore12(u8),
    /// AArch64 load of 8 bytes, bits 3 to 14 of the result at bit 10 (distance of a word in a 32 KiB table).
    LoadStore15,
    /// AArch64 `movz`, `movk`, `movn`: bits `16n` to `16n + 15` of the result at bit 5. With `Signed`, the instruction
    /// becomes `movn` or `movz` as the sign demands.
    MovWide(u8, Fits),
}

/// The numbers of one relocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operands {
    /// X, as [`Operand`] says.
    pub x: u64,
    /// A.
    pub addend: i64,
    /// M, 0 if there is none.
    pub minus: u64,
    /// P.
    pub place: u64,
    /// The address of the table of words; 0 where no form needs it.
    pub got: u64,
}

impl Form {
    /// The result for `operands`.
    #[must_use]
    pub fn value(self, operands: &Operands) -> i128 {
        let target = i128::from(operands.x) + i128::from(operands.addend) - i128::from(operands.minus);
        match self {
            Form::Absolute => target,
            Form::Relative => target - i128::from(operands.place),
            Form::Page => (target & !0xfff) - i128::from(operands.place & !0xfff),
            Form::FromGot => target - i128::from(operands.got),
        }
    }
}

impl RelocKind {
    /// No operation.
    pub const NONE: RelocKind = RelocKind::Of(Operand::Nothing, Form::Absolute, Field::None);
    /// `S + A`, 8 bytes.
    pub const ABS64: RelocKind = RelocKind::Of(Operand::Symbol, Form::Absolute, Field::Int(8, Fits::All));
    /// `S + A - P`, 4 bytes.
    pub const PC32: RelocKind = RelocKind::Of(Operand::Symbol, Form::Relative, Field::Int(4, Fits::Signed));
    /// `L + A - P`, 4 bytes, where L is S or a stub that leads there.
    pub const PLT32: RelocKind = RelocKind::Of(Operand::Branch, Form::Relative, Field::Int(4, Fits::Signed));

    /// Bytes of the field that is written.
    #[must_use]
    pub fn width(self) -> u64 {
        match self {
            RelocKind::Unknown(_) | RelocKind::Of(_, _, Field::None) => 0,
            RelocKind::Of(_, _, Field::Int(bytes, _)) => u64::from(bytes),
            RelocKind::Of(
                ..,
                Field::Branch26
                | Field::Branch19
                | Field::Branch14
                | Field::Adr21
                | Field::Adrp21(_)
                | Field::Add12(_)
                | Field::AddHigh12
                | Field::LoadStore12(_)
                | Field::LoadStore15
                | Field::MovWide(..),
            ) => 4,
        }
    }

    /// Whether the result is counted from the place, so that it changes when the place moves.
    #[must_use]
    pub fn is_relative(self) -> bool {
        matches!(self, RelocKind::Of(_, Form::Relative | Form::Page, _))
    }

    /// The same with a symbol subtracted (Mach-O `SUBTRACTOR`): an address has no sign, a distance has one.
    #[must_use]
    pub fn minus(self) -> RelocKind {
        match self {
            RelocKind::Of(operand, form, Field::Int(width, Fits::Unsigned)) => {
                RelocKind::Of(operand, form, Field::Int(width, Fits::Signed))
            }
            RelocKind::Of(..) | RelocKind::Unknown(_) => self,
        }
    }

    /// What X is; `None` for what is not understood.
    #[must_use]
    pub fn operand(self) -> Option<Operand> {
        match self {
            RelocKind::Of(operand, ..) => Some(operand),
            RelocKind::Unknown(_) => None,
        }
    }
}

impl Field {
    /// Writes `value` to the beginning of `bytes`, leaving the other bits of an instruction alone.
    ///
    /// # Errors
    /// If the value does not fit, is not aligned as the field demands, or there are too few bytes; nothing is written.
    pub fn write(self, bytes: &mut [u8], value: i128) -> Result<(), String> {
        match self {
            Field::None => Ok(()),
            Field::Int(width, fits) => {
                in_range(value, u32::from(width) * 8, fits)?;
                let field = bytes.get_mut(..usize::from(width)).ok_or_else(too_short)?;
                field.copy_from_slice(&value.to_le_bytes()[..usize::from(width)]);
                Ok(())
            }
            Field::Branch26 => instruction(bytes, 0x03ff_ffff, words(value, 26)?),
            Field::Branch19 => instruction(bytes, 0x00ff_ffe0, words(value, 19)? << 5),
            Field::Branch14 => instruction(bytes, 0x0007_ffe0, words(value, 14)? << 5),
            Field::Adr21 => {
                in_range(value, 21, Fits::Signed)?;
                instruction(bytes, ADR_BITS, split(value))
            }
            Field::Adrp21(fits) => {
                in_range(value, 33, fits)?;
                instruction(bytes, ADR_BITS, split(value >> 12))
            }
            Field::Add12(fits) => {
                in_range(value, 12, fits)?;
                instruction(bytes, LOW_12, low(value, 12) << 10)
            }
            Field::AddHigh12 => {
                in_range(value, 24, Fits::Unsigned)?;
                instruction(bytes, LOW_12, low(value >> 12, 12) << 10)
            }
            Field::LoadStore12(shift) => {
                aligned(value, shift)?;
                instruction(bytes, LOW_12, low((value & 0xfff) >> shift, 12) << 10)
            }
            Field::LoadStore15 => {
                aligned(value, 3)?;
                in_range(value, 15, Fits::Unsigned)?;
                instruction(bytes, LOW_12, low(value >> 3, 12) << 10)
            }
            Field::MovWide(group, fits) => move_wide(bytes, value, group, fits),
        }
    }

    /// The number in the field at the beginning of `bytes`, sign-extended where the field is signed; for fields that keep
    /// only some bits of a result, those bits in their place. `None` if there are too few bytes.
    #[must_use]
    pub fn read(self, bytes: &[u8]) -> Option<i64> {
        if let Field::Int(width, fits) = self {
            let mut word = [0; 8];
            let width = usize::from(width).min(8);
            word[..width].copy_from_slice(bytes.get(..width)?);
            let unused = 64 - 8 * width as u32;
            let raw = u64::from_le_bytes(word);
            return Some(match (fits, unused) {
                (_, 64) => 0,
                (Fits::Unsigned, _) => raw as i64,
                (Fits::Signed | Fits::Either | Fits::All, _) => ((raw << unused) as i64) >> unused,
            });
        }
        let word = || Some(u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?));
        let signed = |raw: u32, bits: u32| (i64::from(raw) << (64 - bits)) >> (64 - bits);
        let adr = |word: u32| signed((word >> 29) & 3 | (word >> 3) & 0x1f_fffc, 21);
        Some(match self {
            Field::None | Field::Int(..) => 0,
            Field::Branch26 => signed(word()? & 0x03ff_ffff, 26) << 2,
            Field::Branch19 => signed((word()? >> 5) & 0x7_ffff, 19) << 2,
            Field::Branch14 => signed((word()? >> 5) & 0x3fff, 14) << 2,
            Field::Adr21 => adr(word()?),
            Field::Adrp21(_) => adr(word()?) << 12,
            Field::Add12(_) => i64::from((word()? >> 10) & 0xfff),
            Field::AddHigh12 => i64::from((word()? >> 10) & 0xfff) << 12,
            Field::LoadStore12(shift) => i64::from((word()? >> 10) & 0xfff) << shift,
            Field::LoadStore15 => i64::from((word()? >> 10) & 0xfff) << 3,
            Field::MovWide(group, _) => i64::from((word()? >> 5) & 0xffff) << (16 * u32::from(group & 3)),
        })
    }
}

/// Bits of an `adr` or `adrp` that hold its number: two at bit 29, nineteen at bit 5.
const ADR_BITS: u32 = 0x60ff_ffe0;
/// Twelve bits at bit 10.
const LOW_12: u32 = 0x003f_fc00;

fn too_short() -> String {
    "the field lies outside its section".into()
}

fn in_range(value: i128, bits: u32, fits: Fits) -> Result<(), String> {
    let signed = -(1_i128 << (bits - 1));
    let (low, high) = match fits {
        Fits::Signed => (signed, -signed),
        Fits::Unsigned => (0, 1_i128 << bits),
        Fits::Either => (signed, 1_i128 << bits),
        Fits::All => return Ok(()),
    };
    if (low..high).contains(&value) {
        return Ok(());
    }
    let sign = if value < 0 { "-" } else { "" };
    Err(format!("{sign}{:#x} does not fit {bits} bits", value.unsigned_abs()))
}

fn aligned(value: i128, shift: u8) -> Result<(), String> {
    if value & ((1_i128 << shift) - 1) == 0 {
        return Ok(());
    }
    Err(format!("{value:#x} is no multiple of {}", 1_u32 << shift))
}

/// A distance in words of 4 bytes, `bits` wide.
fn words(value: i128, bits: u32) -> Result<u32, String> {
    aligned(value, 2)?;
    in_range(value, bits + 2, Fits::Signed)?;
    Ok(low(value >> 2, bits))
}

fn low(value: i128, bits: u32) -> u32 {
    (value & ((1_i128 << bits) - 1)) as u32
}

fn split(value: i128) -> u32 {
    (low(value, 2) << 29) | (low(value >> 2, 19) << 5)
}

fn instruction(bytes: &mut [u8], mask: u32, bits: u32) -> Result<(), String> {
    let field: &mut [u8; 4] = bytes.first_chunk_mut().ok_or_else(too_short)?;
    *field = (u32::from_le_bytes(*field) & !mask | bits & mask).to_le_bytes();
    Ok(())
}

/// `movz`, `movk` and `movn` differ in bits 29 and 30 (Arm ARM C6.2, "MOVZ": opc 10, "MOVN": opc 00).
fn move_wide(bytes: &mut [u8], value: i128, group: u8, fits: Fits) -> Result<(), String> {
    let shift = 16 * u32::from(group & 3);
    let bits = |value: i128| low(value >> shift, 16) << 5;
    match fits {
        Fits::Signed => {
            in_range(value, shift + 17, Fits::Signed)?;
            let (opcode, number) = if value < 0 { (0, !value) } else { (0x4000_0000, value) };
            instruction(bytes, 0x4000_0000 | 0x001f_ffe0, opcode | bits(number))
        }
        Fits::Unsigned | Fits::Either => {
            in_range(value, shift + 16, fits)?;
            instruction(bytes, 0x001f_ffe0, bits(value))
        }
        Fits::All => instruction(bytes, 0x001f_ffe0, bits(value)),
    }
}
