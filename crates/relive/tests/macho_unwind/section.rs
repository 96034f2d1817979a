//! `__unwind_info` written and read again: any list of functions, held against a reader that is not ours, and damaged.
//!
//! What a linker writes is in `linked.rs`.

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use relive::link::LinkError;
use relive::link::macho::ImageOffset;
use relive::link::macho::compact_unwind::{Encoding, UnwindEntry, read_input, write};
use relive::link::macho::data_in_code;
use relive::link::macho::unwind_info::{Found, UnwindInfo};
use relive_wire::LiveAddr;

/// A function and the distance to the one before.
#[derive(Clone, Debug)]
struct Drawn {
    gap: u32,
    length: u32,
    encoding: u32,
    personality: Option<u32>,
    lsda: Option<u32>,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let gap = prop_oneof![20 => Just(0_u32), 5 => 1_u32..64, 1 => 0x10_0000_u32..0x200_0000];
    let length = prop_oneof![20 => 1_u32..400, 1 => 0xff_0000_u32..0x101_0000];
    // All modes with few rules, and any rule at all.
    let encoding =
        prop_oneof![3 => (0_u32..16, 0_u32..4).prop_map(|(mode, rule)| mode << 24 | rule), 1 => any::<u32>()];
    let pointer = |odds| prop::option::weighted(odds, any::<u32>());
    (gap, length, encoding, prop::option::weighted(0.3, 0_u32..3), pointer(0.2)).prop_map(
        |(gap, length, encoding, personality, lsda)| Drawn {
            gap,
            length,
            encoding: encoding & 0x0fff_ffff,
            personality: personality.map(|number| 0x4000 + number * 8),
            lsda,
        },
    )
}

/// One after the other from `start` on, as many as lie within 4 GiB.
fn lay_out(start: u32, drawn: &[Drawn]) -> Vec<UnwindEntry> {
    let mut at = start;
    let mut entries = Vec::new();
    for function in drawn {
        let Some(start) = at.checked_add(function.gap) else { break };
        let Some(end) = start.checked_add(function.length) else { break };
        entries.push(UnwindEntry {
            function: ImageOffset(start),
            length: function.length,
            encoding: Encoding(function.encoding),
            personality: function.personality.map(ImageOffset),
            lsda: function.lsda.map(ImageOffset),
        });
        at = end;
    }
    entries
}

/// The rule that holds at `at`, by going through all functions.
fn expected(entries: &[UnwindEntry], at: u32) -> Option<(Encoding, Option<ImageOffset>, Option<ImageOffset>)> {
    let entry = entries.iter().find(|entry| entry.function.0 <= at && at - entry.function.0 < entry.length)?;
    let says_something = entry.encoding != Encoding::NONE || entry.personality.is_some() || entry.lsda.is_some();
    says_something.then_some((entry.encoding, entry.personality, entry.lsda))
}

fn looks_up(bytes: &[u8], entries: &[UnwindEntry], at: u32) -> TestCaseResult {
    let found = UnwindInfo::parse(bytes).and_then(|info| info.lookup(ImageOffset(at))).unwrap();
    let answer = found.map(|found| (found.encoding.rule(), found.personality, found.lsda));
    prop_assert_eq!(answer, expected(entries, at), "at {:#x}", at);
    let foreign = macho_unwind_info::UnwindInfo::parse(bytes).unwrap().lookup(at).unwrap();
    let foreign = foreign.filter(|function| function.opcode != 0);
    prop_assert_eq!(
        foreign.map(|function| (function.start_address, function.opcode)),
        found.map(|found| (found.function.0, found.encoding.0))
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_address_has_the_rule_that_was_written(
        start in 0_u32..0x2000,
        functions in prop_oneof![prop::collection::vec(drawn(), 1..40), prop::collection::vec(drawn(), 1..2500)],
        seed in any::<u64>(),
    ) {
        let mut entries = lay_out(start, &functions);
        let last = entries.last().map_or(0, |entry| entry.function.0 + entry.length);
        let in_order = entries.clone();
        // The order does not matter.
        let turn = seed as usize % entries.len();
        entries.rotate_left(turn);
        let bytes = write(&entries).unwrap();
        let step = (entries.len() / 60).max(1);
        for entry in entries.iter().step_by(step) {
            let (first, end) = (entry.function.0, entry.function.0 + entry.length);
            for at in [first, first + entry.length / 2, end - 1, end, first.saturating_sub(1)] {
                looks_up(&bytes, &in_order, at)?;
            }
        }
        for at in [0, start.saturating_sub(1), last, last.saturating_add(1), u32::MAX] {
            looks_up(&bytes, &in_order, at)?;
        }
    }
}

fn function(at: u32, length: u32, encoding: u32) -> UnwindEntry {
    UnwindEntry { function: ImageOffset(at), length, encoding: Encoding(encoding), personality: None, lsda: None }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Kind and entries of each page.
fn pages(bytes: &[u8]) -> Vec<(u32, u32)> {
    let (index, count) = (word(bytes, 20) as usize, word(bytes, 24) as usize);
    let offsets = (0..count - 1).map(|page| word(bytes, index + page * 12 + 4) as usize);
    offsets.map(|at| (word(bytes, at), word(bytes, at + 4) >> 16)).collect()
}

#[test]
fn neighbours_with_one_rule_are_one_entry() {
    let equal: Vec<_> = (0..3000).map(|number| function(number * 16, 16, 0x0400_0000)).collect();
    assert_eq!(pages(&write(&equal).unwrap()), [(3, 1)]);
    let alone: Vec<_> = (0..30).map(|number| function(number * 16, 16, 0x0300_0000)).collect();
    assert_eq!(pages(&write(&alone).unwrap()), [(3, 30)]);
    let with_data = |entry: &UnwindEntry| UnwindEntry { lsda: Some(ImageOffset(1)), ..*entry };
    let with_data: Vec<_> = equal.iter().take(30).map(with_data).collect();
    assert_eq!(pages(&write(&with_data).unwrap()), [(3, 30)]);
}

#[test]
fn pages_are_of_the_kind_that_takes_more() {
    let few_rules: Vec<_> = (0..3000).map(|number| function(number * 16, 16, 0x0400_0000 + number % 7)).collect();
    assert_eq!(pages(&write(&few_rules).unwrap()), [(3, 1021), (3, 1021), (3, 958)]);
    let all_differ: Vec<_> = (0..1200).map(|number| function(number * 16, 16, 0x0400_0001 + number)).collect();
    assert_eq!(pages(&write(&all_differ).unwrap()), [(2, 511), (2, 511), (3, 178)]);
    let far_apart: Vec<_> = (0..40).map(|number| function(number << 25, 1 << 25, 0x0400_0000 + number % 2)).collect();
    assert_eq!(pages(&write(&far_apart).unwrap()), [(2, 40)]);
    assert!(write(&all_differ).unwrap().len() < 3 * 4096 + 100);
}

#[test]
fn encodings_are_numbered_with_eight_bits() {
    // 200 rules three times over, then 200 others once: 127 are common, and a page can number 129 of its own.
    let rule = |number: u32| 0x0400_0000 | if number < 600 { number % 200 } else { number };
    let many: Vec<_> = (0..800).map(|number| function(number * 16, 16, rule(number))).collect();
    let bytes = write(&many).unwrap();
    assert_eq!((word(&bytes, 8), pages(&bytes)), (127, vec![(3, 656), (2, 144)]));
    let info = UnwindInfo::parse(&bytes).unwrap();
    assert_eq!(info.lookup(ImageOffset(655 * 16)).unwrap().map(|found| found.encoding), Some(Encoding(rule(655))));
}

#[test]
fn too_many_personalities_are_named() {
    let with = |number: u32| UnwindEntry {
        personality: Some(ImageOffset(0x4000 + number * 8)),
        ..function(number * 16, 16, 0x0400_0000)
    };
    let three: Vec<_> = (0..3).map(with).collect();
    let bytes = write(&three).unwrap();
    let found = UnwindInfo::parse(&bytes).unwrap().lookup(ImageOffset(40)).unwrap().unwrap();
    assert_eq!((found.encoding, found.personality), (Encoding(0x3400_0000), Some(ImageOffset(0x4010))));
    let why = write(&(0..4).map(with).collect::<Vec<_>>()).unwrap_err();
    assert_eq!(
        why.0,
        "more personality functions than the 3 that compact unwind can name: image offset 0x4000, image offset 0x4008, \
         image offset 0x4010, image offset 0x4018"
    );
}

#[test]
fn what_cannot_be_said_is_refused() {
    let overlap = [function(0x10, 0x10, 1), function(0x1f, 1, 1)];
    assert_eq!(write(&overlap).unwrap_err().0, "another function reaches into the one at image offset 0x1f");
    let twice = [function(0x10, 0x10, 1), function(0x10, 0x10, 1)];
    assert_eq!(write(&twice).unwrap_err().0, "another function reaches into the one at image offset 0x10");
    let beyond = [function(0xffff_fff0, 0x11, 1)];
    assert_eq!(write(&beyond).unwrap_err().0, "the function at image offset 0xfffffff0 does not end within 4 GiB");
    assert_eq!(write(&[function(0xffff_fff0, 0xf, 1)]).map(|bytes| bytes.len()), Ok(28 + 24 + 16 + 4));
    assert_eq!(write(&[function(8, 0, 1)]), Ok(vec![]));
    let base = LiveAddr(0x1_0000_0000);
    assert_eq!(ImageOffset::of(LiveAddr(0x1_ffff_ffff), base), Ok(ImageOffset(u32::MAX)));
    let far = ImageOffset::of(LiveAddr(0x2_0000_0000), base).unwrap_err();
    assert_eq!(far.0, "0x200000000 is out of reach of the unwind table of the image at 0x100000000");
    assert!(ImageOffset::of(LiveAddr(0xffff_ffff), base).is_err());
    assert_eq!(Encoding(0x0300_0000).with_fde(0x12_3456), Ok(Encoding(0x0312_3456)));
    assert!(Encoding(0x0300_0000).with_fde(0x0100_0000).is_err());
}

#[test]
fn entries_of_objects_are_read_or_named() {
    let mut entry = [0_u8; 32];
    entry[0] = 0x40;
    entry[8] = 0x24;
    entry[15] = 0x42;
    entry[24] = 0x99;
    let read = read_input(&entry).unwrap();
    assert_eq!((read[0].function.0, read[0].length, read[0].lsda.0), (0x40, 0x24, 0x99));
    assert_eq!((read[0].encoding.rule(), read[0].encoding.has_lsda()), (Encoding(0x0200_0000), true));
    let why = |bytes: &[u8]| read_input(bytes).unwrap_err().0;
    assert_eq!(
        why(&[entry.as_slice(), &entry[..31]].concat()),
        "__compact_unwind: the entry at offset 0x20 is cut off"
    );
    entry[15] = 0x91;
    assert_eq!(why(&entry), "__compact_unwind: the encoding 0x91000000 at offset 0x0 is a linker's");
}

/// Sections with everything in them: common encodings, an LSDA, personalities, gaps, both kinds of page.
fn seeds() -> [Vec<u8>; 2] {
    let rich = |count: u32, rules: u32| -> Vec<u8> {
        let entries: Vec<_> = (0..count)
            .map(|number| UnwindEntry {
                personality: (number % 5 == 0).then_some(ImageOffset(0x4000 + number % 3 * 8)),
                lsda: (number % 4 == 0).then_some(ImageOffset(0x8000 + number)),
                ..function(0x100 + number * 32, if number % 6 == 0 { 31 } else { 32 }, 0x0400_0000 + number % rules)
            })
            .collect();
        write(&entries).unwrap()
    };
    let seeds = [rich(12, 3), rich(900, 800)];
    assert_eq!([pages(&seeds[0]).len(), pages(&seeds[1])[0].0 as usize], [1, 2]);
    seeds
}

/// What is found at some addresses; whatever it is, it comes to an end.
fn look_around(bytes: &[u8]) -> Vec<Result<Option<Found>, LinkError>> {
    let Ok(info) = UnwindInfo::parse(bytes) else { return Vec::new() };
    let at = [0, 0x100, 0x11f, 0x120, 0x17f, 0x181, 0x260, 0x27f, 0x280, 0x4000, 0x7180, 0xffff_ffff];
    at.into_iter().map(|at| info.lookup(ImageOffset(at))).collect()
}

#[test]
fn damaged_sections_are_answered() {
    for seed in seeds() {
        let whole = look_around(&seed);
        assert!(whole.iter().all(Result::is_ok) && whole.iter().flatten().flatten().count() > 4);
        let mut errors = 0;
        for end in 0..seed.len() {
            errors += look_around(&seed[..end]).iter().filter(|answer| answer.is_err()).count();
        }
        assert!(errors > 100, "{errors} errors of cut sections");
        let mut damaged = seed.clone();
        for bit in 0..seed.len() * 8 {
            damaged[bit / 8] ^= 1 << (bit % 8);
            look_around(&damaged);
            damaged[bit / 8] ^= 1 << (bit % 8);
        }
        for at in (0..seed.len() - 3).step_by(2) {
            for number in [0, 1, 0xff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_fff0, u32::MAX] {
                damaged[at..at + 4].copy_from_slice(&number.to_le_bytes());
                look_around(&damaged);
                damaged[at..at + 4].copy_from_slice(&seed[at..at + 4]);
            }
        }
        assert_eq!(damaged, seed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300), is_version_one in any::<bool>()) {
        let mut bytes = bytes;
        if is_version_one && bytes.len() >= 28 {
            bytes[..4].copy_from_slice(&1_u32.to_le_bytes());
            for field in (4..28).step_by(4) {
                bytes[field + 1..field + 4].fill(0);
            }
        }
        look_around(&bytes);
        let entries = read_input(&bytes).unwrap_or_default();
        prop_assert!(entries.len() <= bytes.len() / 32);
        if let Ok(entries) = data_in_code::read(&bytes) {
            let placed = data_in_code::rebase(&entries, |addr| u32::try_from(addr.0).ok().map(ImageOffset));
            prop_assert!(placed.is_err() || placed.is_ok_and(|placed| placed.len() <= bytes.len() / 8));
        }
    }
}
