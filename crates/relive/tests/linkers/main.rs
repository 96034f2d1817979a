//! What relive makes of relocations against what real linkers make of them.
//!
//! Real objects are linked by lld; where it put everything is read back from its map and its output. Then relive's engine
//! relocates the same sections for the same addresses, and every byte of every section is compared. Words of addresses
//! (GOT and its like) are compared by what they refer to. What is explained and what is not is counted by kind, and the
//! number of relocations that were compared is asserted. `docs/design/formats.md` says what is explained and why.

#[path = "../common/sysroot.rs"]
mod sysroot;

mod c;
mod compare;
mod elf;
mod inputs;
mod jitlink;
mod ld64;
mod lld;
mod macho;
mod replay;
mod report;

use libtest_mimic::{Arguments, Failed, Trial};
use relive::arch::Machine;
use relive::binary::object::Format;

use inputs::Target;
use report::Least;

fn main() {
    let arguments = Arguments::from_args();
    let tests = [
        ("elf_x86_64_equals_lld", Format::Elf, Machine::X86_64, Least { all: 1_000_000, loaded: 100_000 }),
        ("elf_aarch64_equals_lld", Format::Elf, Machine::Aarch64, Least { all: 100_000, loaded: 100_000 }),
        ("macho_x86_64_equals_lld", Format::MachO, Machine::X86_64, Least { all: 100_000, loaded: 100_000 }),
        ("macho_aarch64_equals_lld", Format::MachO, Machine::Aarch64, Least { all: 100_000, loaded: 100_000 }),
    ];
    let in_memory =
        [("macho_x86_64_equals_jitlink", Machine::X86_64), ("macho_aarch64_equals_jitlink", Machine::Aarch64)];
    let tool = jitlink::tool();
    if tool.is_none() {
        eprintln!("what llvm-jitlink makes is not compared: it is not installed");
    }
    let in_memory = in_memory.map(|(name, machine)| {
        let least = Least { all: 200, loaded: 200 };
        let compare = move || jitlink::compare(Target { format: Format::MachO, machine }, least).map_err(Failed::from);
        Trial::test(name, compare).with_ignored_flag(tool.is_none())
    });
    let trials = tests.map(|(name, format, machine, least)| {
        let target = Target { format, machine };
        let missing = target.missing();
        let compare = match format {
            Format::Elf => elf::compare,
            Format::MachO => macho::compare,
        };
        let trial = Trial::test(name, move || compare(target, least).map_err(Failed::from));
        match missing {
            Some(what) => {
                eprintln!("{name} cannot run: {what}");
                trial.with_ignored_flag(true)
            }
            None => trial,
        }
    });
    libtest_mimic::run(&arguments, trials.into_iter().chain(in_memory).collect()).exit();
}
