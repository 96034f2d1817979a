//! `__unwind_info` as a linker writes it, and as relive does for the same functions.
//!
//! For the start, the middle and the last byte of every function: relive's reader says of the linker's section what
//! llvm-objdump and `macho-unwind-info` say of it, and relive's section, made from the objects' own entries, says the
//! same as the linker's. Personality functions are compared by the pointer that their number leads to. One difference is
//! explained: of functions in mode DWARF the linker lists the LSDA but does not say so in the encoding, and relive does
//! neither, as unwinders take it from the FDE.

use std::collections::BTreeMap;

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget};
use relive::link::macho::ImageOffset;
use relive::link::macho::compact_unwind::{
    DWARF_MODE_ARM64, DWARF_MODE_X86_64, Encoding, FUNCTION_FIELD, InputEntry, LSDA_FIELD, PERSONALITY_FIELD,
    UnwindEntry, read_input, write,
};
use relive::link::macho::unwind_info::{Found, UnwindInfo};

use crate::build::{Linked, all, section};

/// What llvm-objdump lists: entries, personalities from number 1 on, LSDA rows.
#[derive(Default)]
struct Dump {
    rows: BTreeMap<u32, u32>,
    personalities: Vec<u32>,
    lsdas: BTreeMap<u32, u32>,
}

fn parse(dump: &str) -> Dump {
    let mut parsed = Dump::default();
    let number = |text: &str| u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).unwrap();
    for line in dump.lines().map(str::trim) {
        if let Some((_, personality)) = line.strip_prefix("personality[").and_then(|line| line.split_once("]: ")) {
            parsed.personalities.push(number(personality));
        }
        let Some((_, row)) = line.split_once("]: function offset=") else { continue };
        let fields: Vec<_> = row.split(", ").collect();
        match fields[..] {
            [function, lsda] if lsda.starts_with("LSDA offset=") => {
                parsed.lsdas.insert(number(function), number(&lsda["LSDA offset=".len()..]));
            }
            [function, encoding] if encoding.starts_with("encoding") => {
                parsed.rows.insert(number(function), number(encoding.split_once('=').unwrap().1));
            }
            // An entry of the index.
            [_, page, _] if page.starts_with("2nd level") => {}
            _ => panic!("llvm-objdump says {line}"),
        }
    }
    parsed
}

/// All that an entry says in mode DWARF is where the FDE is.
fn plain(found: Option<Found>) -> Option<(Encoding, Option<ImageOffset>, Option<ImageOffset>)> {
    found.map(|found| (found.encoding.rule(), found.personality, found.lsda))
}

#[test]
fn readers_agree_on_what_the_linker_wrote() {
    let mut seen: BTreeMap<(u8, u8), usize> = BTreeMap::new();
    let mut with_lsda = 0;
    for (dwarf, linked) in all() {
        let file = object::File::parse(&*linked.image).unwrap();
        let (_, bytes) = section(&file, "__unwind_info");
        let info = UnwindInfo::parse(bytes).unwrap();
        let dump = parse(&linked.dump);
        let mut foreign = macho_unwind_info::UnwindInfo::parse(bytes).unwrap().functions();
        let foreign: Vec<_> = std::iter::from_fn(|| foreign.next().unwrap()).collect();
        assert_eq!(foreign.len(), dump.rows.len(), "{}", linked.name);
        for function in foreign {
            let (start, end) = (function.start_address, function.end_address);
            let raw = dump.rows[&start];
            assert_eq!(raw, function.opcode, "{}: {start:#x}", linked.name);
            *seen.entry((*dwarf, Encoding(raw).mode())).or_default() += 1;
            let lsda = (raw & 0x4000_0000 != 0).then(|| ImageOffset(dump.lsdas[&start]));
            with_lsda += usize::from(lsda.is_some());
            let personality = (raw >> 28 & 3).checked_sub(1);
            let personality = personality.map(|number| ImageOffset(dump.personalities[number as usize]));
            let expected = Found { function: ImageOffset(start), encoding: Encoding(raw), personality, lsda };
            for at in [start, start + (end - start) / 2, end - 1] {
                let found = info.lookup(ImageOffset(at)).unwrap();
                assert_eq!(found, (raw != 0).then_some(expected), "{}: {at:#x}", linked.name);
            }
        }
    }
    // It was worth while: every mode of both machines occurred, and LSDAs.
    let (arm64, x86_64) = ([2, 3, 4], [1, 2, 3, 4]);
    let modes = arm64.map(|mode| (DWARF_MODE_ARM64, mode)).into_iter();
    for mode in modes.chain(x86_64.map(|mode| (DWARF_MODE_X86_64, mode))) {
        assert!(seen.get(&mode).is_some_and(|count| *count >= 40), "{mode:?} among {seen:?}");
    }
    assert!(with_lsda >= 600, "{with_lsda}");
}

/// The entries of the object with the addresses of the image. The pointer to a personality function and the offsets of
/// FDEs, which are the linker's to choose, are taken from `theirs`.
fn placed(linked: &Linked, dwarf: u8, theirs: &UnwindInfo) -> Vec<UnwindEntry> {
    let (object, image) = (object::File::parse(&*linked.object).unwrap(), object::File::parse(&*linked.image).unwrap());
    let mut pointers: BTreeMap<String, ImageOffset> = BTreeMap::new();
    let relocations = relocations(&object);
    // One object, not reordered: a section has moved as a whole.
    let moved = |name: &str, addr: u64| {
        ImageOffset((section(&image, name).0 + addr - section(&object, name).0).try_into().unwrap())
    };
    let input = read_input(section(&object, "__compact_unwind").1).unwrap();
    assert!(input.len() >= 300, "{}", linked.name);
    let entry = |(index, input): (usize, InputEntry)| {
        let target = |field: u64| relocations.get(&(index as u64 * 32 + field));
        assert!(target(FUNCTION_FIELD).is_some());
        let function = moved("__text", input.function.0);
        let found = theirs.lookup(function).unwrap();
        let personality = target(PERSONALITY_FIELD).map(|name| {
            let slot = found.and_then(|found| found.personality).unwrap();
            assert_eq!(*pointers.entry(name.clone()).or_insert(slot), slot);
            slot
        });
        let lsda = target(LSDA_FIELD).map(|_| moved("__gcc_except_tab", input.lsda.0));
        assert_eq!(lsda.is_some(), input.encoding.has_lsda());
        let is_dwarf = input.encoding.mode() == dwarf;
        let fde = found.map_or(0, |found| found.encoding.0 & 0x00ff_ffff);
        let encoding = if is_dwarf { input.encoding.with_fde(fde).unwrap() } else { input.encoding };
        UnwindEntry { function, length: input.length, encoding, personality, lsda }
    };
    input.into_iter().enumerate().map(entry).collect()
}

/// By place: the name of the symbol, or of the section.
fn relocations(object: &object::File) -> BTreeMap<u64, String> {
    let section = object.section_by_name("__compact_unwind").unwrap();
    let name = |target| {
        if let RelocationTarget::Symbol(symbol) = target {
            return object.symbol_by_index(symbol).unwrap().name().unwrap().to_owned();
        }
        let RelocationTarget::Section(section) = target else { panic!("a relocation to {target:?}") };
        object.section_by_index(section).unwrap().name().unwrap().to_owned()
    };
    section.relocations().map(|(at, relocation)| (at, name(relocation.target()))).collect()
}

#[test]
fn the_same_functions_get_the_rules_that_the_linker_gives_them() {
    let (mut compared, mut with_lsda) = (0, 0);
    for (dwarf, linked) in all() {
        let file = object::File::parse(&*linked.image).unwrap();
        let theirs = UnwindInfo::parse(section(&file, "__unwind_info").1).unwrap();
        let entries = placed(linked, *dwarf, &theirs);
        let bytes = write(&entries).unwrap();
        let ours = UnwindInfo::parse(&bytes).unwrap();
        for entry in entries {
            let (start, end) = (entry.function.0, entry.function.0 + entry.length);
            for at in [start, start + (end - start) / 2, end - 1] {
                let (ours, theirs) = (ours.lookup(ImageOffset(at)).unwrap(), theirs.lookup(ImageOffset(at)).unwrap());
                assert_eq!(plain(ours), plain(theirs), "{}: {at:#x} in {entry:?}", linked.name);
                assert_eq!(plain(ours).map(|(rule, ..)| rule), Some(entry.encoding.rule()));
                compared += 1;
            }
            with_lsda += usize::from(entry.lsda.is_some());
        }
    }
    assert!(compared >= 10_000 && with_lsda >= 600, "{compared} addresses, {with_lsda} functions with an LSDA");
}
