//! One step from a frame to its caller on x86-64: the rule that holds at an address, and its application.
//!
//! A rule says where the frame ends (the canonical frame address, CFA) and where the caller's registers are. Most are a
//! register plus a distance, and words at distances from the CFA; signal frames need DWARF expressions.

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameOffset, EndianSlice, EvaluationResult, LittleEndian, Register,
    RegisterRule, UnwindContext, UnwindExpression, UnwindSection, Value,
};
use relive_wire::LiveAddr;

use crate::stop::Registers;

/// DWARF's numbers of the 16 general registers and of the return address.
const REGISTERS: usize = 17;
const RSP: usize = 7;
const RIP: usize = 16;
/// Most operations of one expression, as a guard against loops.
const OPERATIONS_MAX: u32 = 1000;

/// Frame descriptions and the live address they are at.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) start: LiveAddr,
    pub(super) bytes: Vec<u8>,
    pub(super) header: LiveAddr,
}

type Slice<'a> = EndianSlice<'a, LittleEndian>;

impl Section {
    fn frames(&self) -> EhFrame<Slice<'_>> {
        let mut frames = EhFrame::new(&self.bytes, LittleEndian);
        frames.set_address_size(8);
        frames
    }
}

/// Working memory of the table reader.
#[derive(Debug, Default)]
pub(super) struct Context(Box<UnwindContext<usize>>);

/// How to get from a frame to its caller.
#[derive(Debug)]
pub(super) struct Rule {
    cfa: CfaRule<usize>,
    registers: Vec<(usize, RegisterRule<usize>)>,
    encoding: gimli::Encoding,
    /// The frame was put there by the kernel: the caller was interrupted and called nothing.
    is_signal: bool,
}

/// The rule at code address `addr`, which the description at live address `description` covers.
pub(super) fn at(section: &Section, description: LiveAddr, addr: u64, context: &mut Context) -> Option<Rule> {
    let frames = section.frames();
    let bases = BaseAddresses::default().set_eh_frame(section.start.0).set_eh_frame_hdr(section.header.0);
    let offset = EhFrameOffset(usize::try_from(description.minus(section.start)).ok()?);
    let description = frames.fde_from_offset(&bases, offset, EhFrame::cie_from_offset).ok()?;
    let row = description.unwind_info_for_address(&frames, &bases, &mut context.0, addr).ok()?;
    let registers = row.registers().filter_map(|(register, rule)| Some((number(*register)?, rule.clone())));
    Some(Rule {
        cfa: row.cfa().clone(),
        registers: registers.collect(),
        encoding: description.cie().encoding(),
        is_signal: description.is_signal_trampoline(),
    })
}

fn number(register: Register) -> Option<usize> {
    Some(usize::from(register.0)).filter(|number| *number < REGISTERS)
}

/// Registers of one frame as far as they are known, by DWARF number.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    known: [Option<u64>; REGISTERS],
}

/// What a step led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The frame is its caller's now. `interrupted` if the caller made no call but got a signal.
    Caller {
        /// See above.
        interrupted: bool,
    },
    /// There is no caller.
    Outermost,
    /// The caller cannot be told.
    Lost,
}

impl Frame {
    /// The innermost frame.
    pub(super) fn of(registers: &Registers) -> Frame {
        let r = &registers.all;
        let known = [
            r.rax, r.rdx, r.rcx, r.rbx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14,
            r.r15, r.rip,
        ];
        Frame { known: known.map(Some) }
    }

    /// The next instruction, or the return address.
    pub(super) fn ip(&self) -> u64 {
        self.get(RIP).unwrap_or_default()
    }

    fn get(&self, register: usize) -> Option<u64> {
        self.known.get(register).copied().flatten()
    }

    fn set(&mut self, register: usize, value: Option<u64>) {
        if let Some(place) = self.known.get_mut(register) {
            *place = value;
        }
    }
}

/// Registers that a call does not preserve: rax, rdx, rcx, rsi, rdi and r8 to r11.
const LOST_IN_CALLS: [usize; 9] = [0, 1, 2, 4, 5, 8, 9, 10, 11];

impl Rule {
    /// Turns `frame` into its caller's. `read` gives words of the stack.
    pub(super) fn apply(&self, section: &Section, frame: &mut Frame, read: &dyn Fn(u64) -> Option<u64>) -> Step {
        // A description without a return address says that there is no caller.
        if !self.registers.iter().any(|(register, rule)| *register == RIP && *rule != RegisterRule::Undefined) {
            return Step::Outermost;
        }
        let view = View { section, encoding: self.encoding, frame, read };
        let Some(cfa) = view.cfa(&self.cfa) else { return Step::Lost };
        // Frames lie above each other, except that a signal may have changed to another stack.
        if !self.is_signal && frame.get(RSP).is_none_or(|sp| cfa <= sp) {
            return Step::Lost;
        }
        let mut caller = frame.clone();
        if !self.is_signal {
            LOST_IN_CALLS.iter().for_each(|register| caller.set(*register, None));
        }
        caller.set(RSP, Some(cfa));
        for (register, rule) in &self.registers {
            caller.set(*register, view.value(rule, *register, cfa));
        }
        match caller.get(RIP) {
            None => Step::Lost,
            Some(0) => Step::Outermost,
            Some(_) => {
                *frame = caller;
                Step::Caller { interrupted: self.is_signal }
            }
        }
    }
}

/// What a rule is applied to.
struct View<'a> {
    section: &'a Section,
    encoding: gimli::Encoding,
    frame: &'a Frame,
    read: &'a dyn Fn(u64) -> Option<u64>,
}

impl View<'_> {
    fn cfa(&self, rule: &CfaRule<usize>) -> Option<u64> {
        match rule {
            CfaRule::RegisterAndOffset { register, offset } => {
                Some(self.frame.get(number(*register)?)?.wrapping_add(offset.cast_unsigned()))
            }
            CfaRule::Expression(expression) => self.evaluate(*expression, None),
        }
    }

    fn value(&self, rule: &RegisterRule<usize>, register: usize, cfa: u64) -> Option<u64> {
        match rule {
            RegisterRule::Undefined | RegisterRule::Architectural => None,
            RegisterRule::SameValue => self.frame.get(register),
            RegisterRule::Offset(offset) => (self.read)(cfa.wrapping_add(offset.cast_unsigned())),
            RegisterRule::ValOffset(offset) => Some(cfa.wrapping_add(offset.cast_unsigned())),
            RegisterRule::Register(other) => self.frame.get(number(*other)?),
            RegisterRule::Expression(expression) => (self.read)(self.evaluate(*expression, Some(cfa))?),
            RegisterRule::ValExpression(expression) => self.evaluate(*expression, Some(cfa)),
            RegisterRule::Constant(value) => Some(*value),
        }
    }

    /// The value of a DWARF expression that starts with `initial` on its stack.
    fn evaluate(&self, expression: UnwindExpression<usize>, initial: Option<u64>) -> Option<u64> {
        let mut evaluation = expression.get(&self.section.frames()).ok()?.evaluation(self.encoding);
        evaluation.set_max_iterations(OPERATIONS_MAX);
        if let Some(initial) = initial {
            evaluation.set_initial_value(initial);
        }
        let mut state = evaluation.evaluate().ok()?;
        while state != EvaluationResult::Complete {
            state = if let EvaluationResult::RequiresMemory { address, size: 8, .. } = state {
                evaluation.resume_with_memory(Value::Generic((self.read)(address)?)).ok()?
            } else if let EvaluationResult::RequiresRegister { register, .. } = state {
                evaluation.resume_with_register(Value::Generic(self.frame.get(number(register)?)?)).ok()?
            } else {
                // Nothing else occurs in unwind tables.
                return None;
            };
        }
        match evaluation.as_result() {
            [gimli::Piece { location: gimli::Location::Address { address }, .. }] => Some(*address),
            _ => None,
        }
    }
}
