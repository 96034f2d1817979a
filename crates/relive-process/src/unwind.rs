//! Return addresses of stopped threads, from the unwind tables that the program itself has mapped.
//!
//! Takes captured registers and stacks, gives each thread's chain of code addresses and whether it is whole. Tables are
//! read from the program's memory and not from files: deleted, replaced and never named files (the vDSO, images) are
//! all the same there.
//!
//! Nothing is guessed. Where a table is missing or makes no sense the chain ends and says so; it is never continued
//! along frame pointers, which can silently leave out a caller. Tables and stacks are input and may be garbage.

mod module;
mod rule;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use relive_wire::LiveAddr;

use crate::Result;
use crate::maps::{Mapping, MemoryMap};
use crate::memory::Memory;
use crate::stop::CapturedThread;
use module::Module;
use rule::{Context, Frame, Rule, Step};

/// Most frames of one thread. 256 KiB of stack hold no more.
const FRAMES_MAX: usize = 32 << 10;

/// The frames of one thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frames {
    /// The next instruction first, then return addresses from the innermost frame outwards. Behind a signal handler
    /// the interrupted instruction itself.
    pub addresses: Vec<LiveAddr>,
    /// Where the chain ends.
    pub end: End,
}

/// Why a chain of frames ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// At the outermost frame: the chain is whole.
    Outermost,
    /// At this code address: no table knows its caller, or the captured stack is too short. There may be more frames.
    Lost(LiveAddr),
}

/// What identifies a mapped object: its first mapping, as far as it can be told.
type Origin = (LiveAddr, u64, u64);

/// Unwinds the threads of one program.
#[derive(Debug)]
pub struct Unwinder {
    memory: Memory,
    /// By first address.
    modules: BTreeMap<u64, Loaded>,
    /// Objects without a usable table, so that they are read once.
    without: Vec<Origin>,
    /// By address that was looked up.
    rules: HashMap<u64, Option<Arc<Rule>>>,
    context: Context,
}

#[derive(Debug)]
struct Loaded {
    /// `None` for those that were added by hand.
    origin: Option<Origin>,
    module: Module,
}

impl Unwinder {
    /// An unwinder without tables.
    #[must_use]
    pub fn new(memory: Memory) -> Unwinder {
        let (modules, rules) = (BTreeMap::new(), HashMap::new());
        Unwinder { memory, modules, without: Vec::new(), rules, context: Context::default() }
    }

    /// Reads the tables of objects that are new in `map` and forgets those that are gone. Costs milliseconds for a
    /// large executable the first time; call it while the program runs.
    ///
    /// # Errors
    /// `Gone` if the program has ended. An object with unusable tables is no error.
    pub fn refresh(&mut self, map: &MemoryMap) -> Result<()> {
        let origins: Vec<(Origin, &Mapping)> =
            map.entries().iter().filter(|entry| may_start_object(entry)).map(|entry| (origin(entry), entry)).collect();
        let known = |wanted: &Origin| origins.iter().any(|(origin, _)| origin == wanted);
        let before = self.modules.len();
        self.modules.retain(|_, loaded| loaded.origin.as_ref().is_none_or(known));
        self.without.retain(known);
        if self.modules.len() != before {
            self.rules.clear();
        }
        for (origin, entry) in &origins {
            if self.without.contains(origin) || self.modules.values().any(|loaded| loaded.origin == Some(*origin)) {
                continue;
            }
            match Module::of_object(&self.memory, entry.start)? {
                Some(module) => self.insert(module, Some(*origin)),
                None => self.without.push(*origin),
            }
        }
        Ok(())
    }

    /// Adds an object whose `.eh_frame_hdr` is mapped at `header` and whose code lies in `code`; false if the table is
    /// unusable. For objects that do not map their own ELF header, which [`Unwinder::refresh`] does not find.
    ///
    /// # Errors
    /// `Gone` if the program has ended.
    pub fn add(&mut self, code: Range<LiveAddr>, header: LiveAddr) -> Result<bool> {
        let module = Module::of_table(&self.memory, code, header)?;
        let usable = module.is_some();
        if let Some(module) = module {
            self.insert(module, None);
        }
        Ok(usable)
    }

    fn insert(&mut self, module: Module, origin: Option<Origin>) {
        self.rules.clear();
        self.modules.insert(module.code().start.0, Loaded { origin, module });
    }

    /// The frames of a captured thread.
    pub fn frames(&mut self, captured: &CapturedThread) -> Frames {
        self.walk(captured, &|addr| word(captured, addr))
    }

    /// The frames of a captured thread that is still stopped: those that lie on another stack as well, which a thread has
    /// whose signal handlers run on one of their own.
    pub fn frames_of_stopped(&mut self, captured: &CapturedThread) -> Frames {
        let memory = self.memory.clone();
        self.walk(captured, &|addr| word(captured, addr).or_else(|| memory.read_u64(LiveAddr(addr)).ok()))
    }

    fn walk(&mut self, captured: &CapturedThread, read: &dyn Fn(u64) -> Option<u64>) -> Frames {
        let mut frame = Frame::of(&captured.thread.regs);
        let mut addresses = vec![captured.thread.regs.rip];
        let mut exact = true;
        loop {
            let ip = LiveAddr(frame.ip());
            // A return address lies behind its call, perhaps already in the next function.
            let lookup = if exact { ip.0 } else { ip.0.wrapping_sub(1) };
            let step = match self.rule(lookup) {
                Some(rule) => self.step(&rule, lookup, &mut frame, read),
                None => Step::Lost,
            };
            match step {
                Step::Outermost => return Frames { addresses, end: End::Outermost },
                Step::Caller { interrupted } if addresses.len() < FRAMES_MAX => {
                    addresses.push(LiveAddr(frame.ip()));
                    exact = interrupted;
                }
                Step::Caller { .. } | Step::Lost => return Frames { addresses, end: End::Lost(ip) },
            }
        }
    }

    fn rule(&mut self, lookup: u64) -> Option<Arc<Rule>> {
        if let Some(known) = self.rules.get(&lookup) {
            return known.clone();
        }
        let rule =
            module_at(&self.modules, lookup).and_then(|module| module.rule(lookup, &mut self.context)).map(Arc::new);
        self.rules.insert(lookup, rule.clone());
        rule
    }

    fn step(&self, rule: &Rule, lookup: u64, frame: &mut Frame, read: &dyn Fn(u64) -> Option<u64>) -> Step {
        match module_at(&self.modules, lookup) {
            Some(module) => rule.apply(module.section(), frame, read),
            None => Step::Lost,
        }
    }
}

fn module_at(modules: &BTreeMap<u64, Loaded>, addr: u64) -> Option<&Module> {
    let (_, loaded) = modules.range(..=addr).next_back()?;
    (addr < loaded.module.code().end.0).then_some(&loaded.module)
}

/// Whether an object's ELF header may be in `entry`: the first page of a file, or of the vDSO.
fn may_start_object(entry: &Mapping) -> bool {
    entry.protection.read && entry.offset == 0 && (entry.ino != 0 || entry.path.as_os_str() == "[vdso]")
}

fn origin(entry: &Mapping) -> Origin {
    (entry.start, entry.dev, entry.ino)
}

/// The word at `addr` of a captured stack.
fn word(captured: &CapturedThread, addr: u64) -> Option<u64> {
    let at = usize::try_from(addr.checked_sub(captured.stack_start.0)?).ok()?;
    captured.stack.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stop::{Registers, Thread};

    /// Pseudo-random words, always the same ones.
    struct Noise(u64);

    impl Noise {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        /// A word that is sometimes a plausible address.
        fn word(&mut self, code: &[Range<LiveAddr>], stack: LiveAddr) -> u64 {
            let (kind, word) = (self.next() % 4, self.next());
            let chosen = usize::try_from(word % code.len() as u64).ok().and_then(|index| code.get(index));
            match (kind, chosen) {
                (0, Some(code)) => code.start.0 + self.next() % (code.end.0 - code.start.0),
                (1, _) => stack.0 + word % 0x1000,
                (2, _) => word % 2 * u64::MAX,
                _ => word,
            }
        }
    }

    fn own() -> Unwinder {
        let memory = Memory::open(std::process::id()).expect("our own memory can be opened");
        let mut unwinder = Unwinder::new(memory);
        let map = MemoryMap::read(std::process::id()).expect("our own list can be read");
        unwinder.refresh(&map).expect("we run");
        unwinder
    }

    /// A thread whose registers and stack are noise.
    fn noisy(noise: &mut Noise, code: &[Range<LiveAddr>]) -> CapturedThread {
        let stack_start = LiveAddr(0x7fff_0000_0000);
        let stack = (0..512).flat_map(|_| noise.word(code, stack_start).to_le_bytes()).collect();
        let mut next = || noise.word(code, stack_start);
        let all = libc::user_regs_struct {
            r15: next(),
            r14: next(),
            r13: next(),
            r12: next(),
            rbp: next(),
            rbx: next(),
            r11: next(),
            r10: next(),
            r9: next(),
            r8: next(),
            rax: next(),
            rcx: next(),
            rdx: next(),
            rsi: next(),
            rdi: next(),
            orig_rax: 0,
            rip: next(),
            cs: 0,
            eflags: 0,
            rsp: next(),
            ss: 0,
            fs_base: 0,
            gs_base: 0,
            ds: 0,
            es: 0,
            fs: 0,
            gs: 0,
        };
        CapturedThread { thread: Thread { tid: 1, regs: Registers::new(all) }, stack_start, stack }
    }

    #[test]
    fn garbage_ends_a_chain_and_nothing_else() {
        let mut unwinder = own();
        let code: Vec<_> = unwinder.modules.values().map(|loaded| loaded.module.code().clone()).collect();
        assert!(code.len() >= 3, "the executable, libc and the vDSO: {code:?}");
        let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
        let (mut lost, mut longest) = (0, 0);
        for _ in 0..20_000 {
            let frames = unwinder.frames(&noisy(&mut noise, &code));
            lost += usize::from(frames.end != End::Outermost);
            longest = longest.max(frames.addresses.len());
        }
        assert!(lost > 10_000 && longest > 3, "{lost} lost, longest {longest}");
    }

    /// Offset and first code address of each frame description in a section at `start`.
    fn descriptions(bytes: &[u8], start: LiveAddr) -> Vec<(u64, u64)> {
        let word = |at: usize| bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        let (mut at, mut found) = (0, Vec::new());
        while let (Some(len @ 1..), Some(cie), Some(code)) = (word(at), word(at + 4), word(at + 8)) {
            if cie != 0 {
                let place = start.0 + at as u64 + 8;
                found.push((at as u64, place.wrapping_add(i64::from(code.cast_signed()).cast_unsigned())));
            }
            at += 4 + len as usize;
        }
        found
    }

    #[test]
    fn garbage_tables_give_any_rule_or_none_and_nothing_else() {
        let (mut noise, start, mut context) = (Noise(7), LiveAddr(0x7000_0000_0000), Context::default());
        let unwinder = own();
        let loaded = unwinder.modules.values().next().expect("the executable has a table");
        let original: Vec<u8> = loaded.module.section().bytes.iter().copied().take(4096).collect();
        let descriptions = descriptions(&original, start);
        let (mut rules, mut none) = (0, 0);
        for round in 0..40_000_u64 {
            let (offset, code) = descriptions[round as usize % descriptions.len()];
            let mut bytes = original.clone();
            for _ in 0..noise.next() % 4 {
                // Near the description that is used, or in the common part before all of them.
                let base = if noise.next() % 2 == 0 { offset } else { 0 };
                if let Some(byte) = bytes.get_mut((base + noise.next() % 24) as usize) {
                    *byte = noise.next().to_le_bytes()[0];
                }
            }
            let section = rule::Section { start, bytes, header: LiveAddr(0) };
            match rule::at(&section, start.plus(offset), code + noise.next() % 16, &mut context) {
                None => none += 1,
                Some(rule) => {
                    rules += 1;
                    let thread = noisy(&mut noise, &[LiveAddr(1)..LiveAddr(9)]);
                    rule.apply(&section, &mut Frame::of(&thread.thread.regs), &|addr| word(&thread, addr));
                }
            }
        }
        assert!(rules > 4_000 && none > 4_000, "{rules} rules, {none} none");
    }
}
