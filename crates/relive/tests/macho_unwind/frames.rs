//! `__eh_frame` as a linker writes it, and as relive does for the same functions; gimli reads both. And damaged.

use std::collections::BTreeMap;

use gimli::{BaseAddresses, CieOrFde, EhFrame as Section, EhFrameOffset, LittleEndian, Pointer, UnwindSection as _};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationFlags, RelocationTarget};
use relive::binary::address::LinkAddr;
use relive::link::LinkError;
use relive::link::macho::ImageOffset;
use relive::link::macho::compact_unwind::{DWARF_MODE_ARM64, DWARF_MODE_X86_64};
use relive::link::macho::eh_frame::{self, Difference, EhFrame, Fde, PlacedFde};
use relive::link::macho::unwind_info::UnwindInfo;

use crate::build::{Linked, all, section};

/// What gimli says of a function's entry.
#[derive(Debug, PartialEq)]
struct Said {
    length: u64,
    lsda: Option<Pointer>,
    personality: Option<Pointer>,
    factors: (u64, i64, u16),
    /// The common entry's and the own, without padding.
    instructions: [Vec<u8>; 2],
}

/// By the function's address.
fn said(bytes: &[u8], addr: u64) -> BTreeMap<u64, Said> {
    let (frames, bases) = (Section::new(bytes, LittleEndian), BaseAddresses::default().set_eh_frame(addr));
    let mut said = BTreeMap::new();
    let mut entries = frames.entries(&bases);
    while let Some(entry) = entries.next().unwrap() {
        let CieOrFde::Fde(partial) = entry else { continue };
        let fde = partial.parse(|frames, bases, at| frames.cie_from_offset(bases, at)).unwrap();
        let (at, one) = what(&frames, &bases, fde);
        assert!(said.insert(at, one).is_none());
    }
    said
}

type Slice<'a> = gimli::EndianSlice<'a, LittleEndian>;

fn what<'a>(
    frames: &Section<Slice<'a>>,
    bases: &BaseAddresses,
    fde: gimli::FrameDescriptionEntry<Slice<'a>>,
) -> (u64, Said) {
    let cie = fde.cie();
    let mut instructions = [Vec::new(), Vec::new()];
    for (iter, text) in
        [cie.instructions(frames, bases), fde.instructions(frames, bases)].into_iter().zip(&mut instructions)
    {
        let mut iter = iter;
        while let Some(instruction) = iter.next().unwrap() {
            text.extend(format!("{instruction:?};").into_bytes());
        }
    }
    let factors = (cie.code_alignment_factor(), cie.data_alignment_factor(), cie.return_address_register().0);
    let said = Said { length: fde.len(), lsda: fde.lsda(), personality: cie.personality(), factors, instructions };
    (fde.initial_address(), said)
}

/// What the object leaves to the linker in its entries, but for the personality functions.
fn differences(object: &object::File, section: &object::Section) -> Vec<Difference> {
    // `ARM64_RELOC_SUBTRACTOR`, then `ARM64_RELOC_UNSIGNED` at the same place; x86-64 has none here.
    let relocations: Vec<_> = section.relocations().collect();
    let difference = |pair: &[(u64, object::Relocation)]| {
        let [(at, first), (_, second)] = pair else { return None };
        let RelocationFlags::MachO { r_type: object::macho::ARM64_RELOC_SUBTRACTOR, r_length, .. } = first.flags()
        else {
            return None;
        };
        let addr = |target| {
            let RelocationTarget::Symbol(symbol) = target else { panic!("a relocation to {target:?}") };
            LinkAddr(object.symbol_by_index(symbol).unwrap().address())
        };
        let (subtrahend, minuend) = (addr(first.target()), addr(second.target()));
        Some(Difference { at: *at as u32, is_long: r_length == 3, minuend, subtrahend })
    };
    relocations.windows(2).filter_map(difference).collect()
}

/// The object's entries.
fn read(object: &object::File) -> EhFrame {
    let section = object.section_by_name("__eh_frame").unwrap();
    let differences = differences(object, &section);
    eh_frame::read(section.data().unwrap(), LinkAddr(section.address()), &differences).unwrap()
}

/// The entries that the linker kept, those of functions in mode DWARF, with its addresses.
fn placed<'a>(
    dwarf: u8,
    frames: &'a EhFrame,
    rules: &UnwindInfo,
    theirs: &BTreeMap<u64, Said>,
    moved: &impl Fn(&str, LinkAddr) -> ImageOffset,
) -> Vec<PlacedFde<'a>> {
    let place = |fde: &'a Fde| {
        let function = moved("__text", fde.function);
        let rule = rules.lookup(function).unwrap().unwrap().encoding;
        let said = theirs.get(&u64::from(function.0));
        assert_eq!(said.is_some(), rule.mode() == dwarf, "{function}");
        let personality = said?.personality.map(|pointer| match pointer {
            Pointer::Indirect(slot) => ImageOffset(slot.try_into().unwrap()),
            Pointer::Direct(_) => panic!("{function} has its personality function itself"),
        });
        assert_eq!(personality.is_some(), frames.cies[fde.cie].personality_field.is_some());
        let lsda = fde.lsda.map(|lsda| moved("__gcc_except_tab", lsda));
        Some(PlacedFde { object: frames, fde, function, lsda, personality })
    };
    frames.fdes.iter().filter_map(place).collect()
}

/// How many entries were compared, how many of them with an LSDA.
fn compare(dwarf: u8, linked: &Linked) -> (usize, usize) {
    let (object, image) = (object::File::parse(&*linked.object).unwrap(), object::File::parse(&*linked.image).unwrap());
    let (Some(_), Some(_)) = (image.section_by_name("__eh_frame"), object.section_by_name("__eh_frame")) else {
        return (0, 0);
    };
    let (addr, bytes) = section(&image, "__eh_frame");
    let theirs = said(bytes, addr);
    let rules = UnwindInfo::parse(section(&image, "__unwind_info").1).unwrap();
    let moved = |name: &str, addr: LinkAddr| {
        ImageOffset((section(&image, name).0 + addr.0 - section(&object, name).0).try_into().unwrap())
    };
    let frames = read(&object);
    let wanted = placed(dwarf, &frames, &rules, &theirs, &moved);
    let (ours, offsets) = eh_frame::write(&wanted, ImageOffset(addr as u32)).unwrap();
    assert_eq!(said(&ours, addr), theirs, "{}", linked.name);
    assert!(ours.len() <= bytes.len(), "{}: {} bytes, the linker has {}", linked.name, ours.len(), bytes.len());
    for (placed, at) in wanted.iter().zip(offsets) {
        let at_offset = |bytes: &[u8], at: u32| {
            let (frames, bases) = (Section::new(bytes, LittleEndian), BaseAddresses::default().set_eh_frame(addr));
            let fde = frames.fde_from_offset(&bases, EhFrameOffset(at as usize), |frames, bases, at| {
                frames.cie_from_offset(bases, at)
            });
            fde.unwrap().initial_address()
        };
        assert_eq!(at_offset(&ours, at), u64::from(placed.function.0));
        // That is what the encoding's 24 bits are for.
        let theirs = rules.lookup(placed.function).unwrap().unwrap().encoding;
        assert_eq!(at_offset(bytes, theirs.0 & 0x00ff_ffff), u64::from(placed.function.0));
    }
    (theirs.len(), theirs.values().filter(|said| said.lsda.is_some()).count())
}

#[test]
fn the_same_entries_are_kept_and_say_what_the_linkers_say() {
    let mut compared: BTreeMap<u8, (usize, usize)> = BTreeMap::new();
    for (dwarf, linked) in all() {
        let (entries, with_lsda) = compare(*dwarf, linked);
        let sum = compared.entry(*dwarf).or_default();
        *sum = (sum.0 + entries, sum.1 + with_lsda);
    }
    let (arm64, x86_64) = (compared[&DWARF_MODE_ARM64], compared[&DWARF_MODE_X86_64]);
    assert!(arm64.0 >= 600 && arm64.1 >= 200 && x86_64.0 >= 40, "{compared:?}");
}

/// The first entries of a real section, and what their relocations say.
fn seed(linked: &Linked) -> (Vec<u8>, LinkAddr, Vec<Difference>) {
    const ENTRIES: usize = 12;
    let object = object::File::parse(&*linked.object).unwrap();
    let section = object.section_by_name("__eh_frame").unwrap();
    let end = read(&object).fdes[ENTRIES].at;
    let mut differences = differences(&object, &section);
    differences.retain(|difference| difference.at < end);
    (section.data().unwrap()[..end as usize].to_vec(), LinkAddr(section.address()), differences)
}

/// Reads the section and writes whatever is in it; says whether both was possible.
fn read_and_write(section: &[u8], addr: LinkAddr, differences: &[Difference]) -> Result<usize, LinkError> {
    let object = &eh_frame::read(section, addr, differences)?;
    let place = |addr: LinkAddr| ImageOffset(addr.0 as u32);
    let placed = object.fdes.iter().map(|fde| {
        let personality = object.cies[fde.cie].personality_field.map(ImageOffset);
        PlacedFde { object, fde, function: place(fde.function), lsda: fde.lsda.map(place), personality }
    });
    let (bytes, offsets) = eh_frame::write(&placed.collect::<Vec<_>>(), place(addr))?;
    assert!(bytes.len() <= section.len() * 2 && offsets.len() == object.fdes.len());
    Ok(offsets.len())
}

#[test]
fn damaged_entries_are_answered() {
    for name in ["cpp-frameless-arm64", "cpp-frameless-x86_64"] {
        let (dwarf, linked) = all().iter().find(|(_, linked)| linked.name == name).unwrap();
        let (section, addr, differences) = seed(linked);
        assert_eq!(read_and_write(&section, addr, &differences), Ok(12));
        assert_eq!(differences.is_empty(), *dwarf == DWARF_MODE_X86_64);
        let whole = |end: &usize| read_and_write(&section[..*end], addr, &[]).is_ok();
        assert!((1..section.len()).filter(whole).count() < 20);
        let mut damaged = section.clone();
        let mut errors = 0;
        for bit in 0..section.len() * 8 {
            damaged[bit / 8] ^= 1 << (bit % 8);
            errors += usize::from(read_and_write(&damaged, addr, &differences).is_err());
            damaged[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(errors > 500, "{errors}");
        for at in 0..section.len() - 3 {
            for number in [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffef, 0xffff_fff0, u32::MAX] {
                damaged[at..at + 4].copy_from_slice(&number.to_le_bytes());
                let _ = read_and_write(&damaged, addr, &differences);
                damaged[at..at + 4].copy_from_slice(&section[at..at + 4]);
            }
        }
    }
}

#[test]
fn what_does_not_fit_an_entry_is_refused() {
    let (_, linked) = all().iter().find(|(_, linked)| linked.name == "cpp-frameless-arm64").unwrap();
    let object = &read(&object::File::parse(&*linked.object).unwrap());
    let fde = object.fdes.iter().find(|fde| fde.lsda.is_some()).unwrap();
    let slot = Some(ImageOffset(0x8000));
    let good = PlacedFde { object, fde, function: ImageOffset(0x10), lsda: Some(ImageOffset(0x20)), personality: slot };
    let why = |placed: PlacedFde| eh_frame::write(&[placed], ImageOffset(0x4000)).map(|_| ()).map_err(|why| why.0);
    assert_eq!(why(good), Ok(()));
    let said = "the unwind entry of the function at image offset 0x10 ";
    assert_eq!(why(PlacedFde { lsda: None, ..good }), Err(format!("{said}leads to no LSDA")));
    let other = Err(format!("{said}has another personality function"));
    assert_eq!(why(PlacedFde { personality: None, ..good }), other);
    let far = why(PlacedFde { personality: Some(ImageOffset(u32::MAX)), ..good });
    assert_eq!(far, Err("__eh_frame: the distance 0xffffbfec does not fit".into()));
    let plain = object.fdes.iter().find(|fde| object.cies[fde.cie].personality_field.is_none());
    let plain = PlacedFde { fde: plain.unwrap(), personality: None, ..good };
    assert_eq!(why(plain), Err(format!("{said}has no place for an LSDA")));
    assert_eq!(why(PlacedFde { personality: slot, lsda: None, ..plain }), other);
}

/// A common entry with something in the personality's place, and two functions, of which the second has an LSDA.
fn hand_made(in_place: u8) -> EhFrame {
    let mut bytes = vec![24, 0, 0, 0, 0, 0, 0, 0, 1];
    bytes.extend(b"zPLR\0\x01\x78\x10\x07\x9b");
    bytes.extend([in_place, 0, 0, 0, 0x10, 0x10, 0, 0, 0]);
    for (number, lsda) in [(0_u64, 0_u64), (1, 0x200)] {
        let at = bytes.len() as u64;
        bytes.extend(32_u32.to_le_bytes());
        bytes.extend((at as u32 + 4).to_le_bytes());
        bytes.extend((0x100 + number * 16).wrapping_sub(at + 8).to_le_bytes());
        bytes.extend([16, 0, 0, 0, 0, 0, 0, 0, 8]);
        bytes.extend(if lsda == 0 { 0 } else { lsda - (at + 25) }.to_le_bytes());
        bytes.extend([0; 3]);
    }
    bytes.extend([0; 4]);
    eh_frame::read(&bytes, LinkAddr(0), &[]).unwrap()
}

#[test]
fn common_entries_are_shared_and_no_lsda_stays_none() {
    let objects = [hand_made(0x11), hand_made(0x22)];
    let functions = objects.iter().flat_map(|object| object.fdes.iter().map(move |fde| (object, fde)));
    let placed: Vec<_> = (0..)
        .zip(functions)
        .map(|(number, (object, fde))| PlacedFde {
            object,
            fde,
            function: ImageOffset(0x1000 + number * 16),
            lsda: fde.lsda.map(|lsda| ImageOffset(0x2000 + lsda.0 as u32)),
            personality: Some(ImageOffset(0x3000)),
        })
        .collect();
    let found: Vec<_> = placed.iter().map(|placed| (placed.fde.function, placed.fde.lsda)).collect();
    let object = [(LinkAddr(0x100), None), (LinkAddr(0x110), Some(LinkAddr(0x200)))];
    assert_eq!(found, [object, object].concat());
    let (bytes, offsets) = eh_frame::write(&placed, ImageOffset(0x4000)).unwrap();
    assert_eq!((bytes.len(), offsets.as_slice()), (28 + 4 * 36, [28, 64, 100, 136].as_slice()));
    assert_eq!(
        (&bytes[28 + 25..28 + 33], &bytes[64 + 25..64 + 29]),
        ([0; 8].as_slice(), 0xffff_e1a7_u32.to_le_bytes().as_slice())
    );
    let given = PlacedFde { lsda: Some(ImageOffset(0x2000)), ..placed[0] };
    assert!(eh_frame::write(&[given], ImageOffset(0x4000)).is_err());
}
