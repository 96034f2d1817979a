//! What relive makes of relocations against what real linkers make of them.
//!
//! Real objects are linked by lld; where it put everything is read back from its map and its output. Then relive's engine
//! relocates the same sections for the same addresses, and every byte of every section is compared. Words of addresses
//! (GOT and its like) are compared by what they refer to. What is explained and what is not is counted by kind, and the
//! number of relocations that were compared is asserted.

mod elf;
mod inputs;
mod lld;
mod report;

use libtest_mimic::{Arguments, Failed, Trial};

use inputs::Target;

fn main() {
    let arguments = Arguments::from_args();
    let tests = [
        ("elf_x86_64_equals_lld", Target::ElfX86_64, 1_000_000),
        ("elf_aarch64_equals_lld", Target::ElfAarch64, 100_000),
    ];
    let trials = tests.map(|(name, target, least)| {
        let missing = target.missing();
        let trial = Trial::test(name, move || elf::compare(target, least).map_err(Failed::from));
        match missing {
            Some(what) => {
                eprintln!("{name} cannot run: {what}");
                trial.with_ignored_flag(true)
            }
            None => trial,
        }
    });
    libtest_mimic::run(&arguments, trials.into()).exit();
}
