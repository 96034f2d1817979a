//! Linked Mach-O files, made here byte by byte, and universal files of them: what a linker for macOS writes, as small as
//! it can be, so that its readers are tested where there is no such linker.

/// `CPU_TYPE_X86_64` and `CPU_TYPE_ARM64`.
pub(crate) const X86_64: u32 = 0x0100_0007;
pub(crate) const ARM64: u32 = 0x0100_000c;

/// Where the header is loaded, and where code, thread-local descriptors and data are, as the file states them.
pub(crate) const HEADER: u64 = 0x1_0000_0000;
pub(crate) const TEXT: u64 = HEADER + 0x800;
pub(crate) const TEXT_SIZE: u64 = 0x60;
pub(crate) const DATA: u64 = HEADER + 0x1000;

const NO_SECTION: u8 = 0;
const N_SECT: u8 = 0xe;
const N_EXT: u8 = 1;

/// A symbol: name, `n_type`, `n_sect`, `n_desc`, `n_value`.
type Symbol = (&'static str, u8, u8, u16, u64);

/// What every file made here has: two functions and an alias of the second, a weak one, data, a thread-local, an import,
/// and a debug map of one object that the first function comes from.
const SYMBOLS: [Symbol; 16] = [
    ("/src/", 0x64, 1, 0, 0),        // N_SO
    ("one.rs", 0x64, 1, 0, 0),       // N_SO
    ("/obj/one.o", 0x66, 3, 1, 0),   // N_OSO
    ("_one", 0x24, 1, 0, TEXT),      // N_FUN
    ("", 0x24, NO_SECTION, 0, 0x10), // N_FUN, the size
    ("", 0x64, 1, 0, 0),             // N_SO, the end
    ("_one", N_SECT, 1, 0, TEXT),
    ("_counter", N_SECT, 2, 0, DATA),
    ("_two", N_SECT | N_EXT, 1, 0, TEXT + 0x20),
    ("_alias_of_two", N_SECT | N_EXT, 1, 0, TEXT + 0x20),
    ("_weak", N_SECT | N_EXT, 1, 0x80, TEXT + 0x48),
    ("__mh_execute_header", N_SECT | N_EXT, 1, 0x10, HEADER),
    ("_slot", N_SECT | N_EXT, 3, 0, DATA + 0x10),
    ("_slot$tlv$init", N_SECT, 4, 0, DATA + 0x30),
    ("no_underscore", N_SECT, 2, 0, DATA + 8),
    ("_malloc", N_EXT, NO_SECTION, 0x100, 0),
];

/// An executable for `cpu` with the UUID.
pub(crate) fn executable(cpu: u32, uuid: [u8; 16]) -> Vec<u8> {
    let mut commands = Vec::new();
    let text = section("__text", "__TEXT", TEXT, TEXT_SIZE, 0x800, 4, 0x8000_0400);
    commands.push(segment("__PAGEZERO", 0, HEADER, 0, 0, 0, &[]));
    commands.push(segment("__TEXT", HEADER, 0x1000, 0, 0x1000, 5, &[text]));
    let data = [
        section("__data", "__DATA", DATA, 0x10, 0x1000, 3, 0),
        section("__thread_vars", "__DATA", DATA + 0x10, 0x18, 0x1010, 3, 0x13),
        section("__thread_data", "__DATA", DATA + 0x30, 0x8, 0x1030, 3, 0x11),
    ];
    commands.push(segment("__DATA", DATA, 0x1000, 0x1000, 0x1000, 3, &data));
    let (symbols, strings) = tables();
    let linkedit = (symbols.len() + strings.len()) as u64;
    commands.push(segment("__LINKEDIT", HEADER + 0x2000, 0x1000, 0x2000, linkedit, 1, &[]));
    commands.push(words(&[2, 24, 0x2000, SYMBOLS.len() as u32, 0x2000 + symbols.len() as u32, strings.len() as u32]));
    commands.push([words(&[0x1b, 24]), uuid.to_vec()].concat());
    let size: usize = commands.iter().map(Vec::len).sum();
    let mut out = words(&[0xfeed_facf, cpu, 3, 2, commands.len() as u32, size as u32, 0x0020_0085, 0]);
    out.extend(commands.concat());
    assert!(out.len() <= 0x800, "the commands end before the code");
    out.resize(0x2000, 0);
    out.extend(symbols);
    out.extend(strings);
    out
}

fn tables() -> (Vec<u8>, Vec<u8>) {
    let (mut symbols, mut strings) = (Vec::new(), vec![0]);
    for (name, kind, section, desc, value) in SYMBOLS {
        let at = if name.is_empty() { 0 } else { strings.len() as u32 };
        strings.extend(name.bytes().chain([0]));
        symbols.extend(at.to_le_bytes());
        symbols.extend([kind, section]);
        symbols.extend(desc.to_le_bytes());
        symbols.extend(value.to_le_bytes());
    }
    (symbols, strings)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn name(text: &str) -> [u8; 16] {
    let mut out = [0; 16];
    out.iter_mut().zip(text.bytes()).for_each(|(place, byte)| *place = byte);
    out
}

fn section(called: &str, segment: &str, addr: u64, size: u64, offset: u32, align: u32, flags: u32) -> Vec<u8> {
    let mut out = [name(called), name(segment)].concat();
    out.extend(addr.to_le_bytes());
    out.extend(size.to_le_bytes());
    out.extend(words(&[offset, align, 0, 0, flags, 0, 0, 0]));
    out
}

fn segment(
    called: &str,
    addr: u64,
    size: u64,
    offset: u64,
    file_size: u64,
    access: u32,
    sections: &[Vec<u8>],
) -> Vec<u8> {
    let mut out = words(&[0x19, 72 + 80 * sections.len() as u32]);
    out.extend(name(called));
    [addr, size, offset, file_size].iter().for_each(|word| out.extend(word.to_le_bytes()));
    out.extend(words(&[access, access, sections.len() as u32, 0]));
    out.extend(sections.concat());
    out
}

/// A universal file of `slices`; with offsets of 64 bits if `wide`.
pub(crate) fn universal(slices: &[(u32, Vec<u8>)], wide: bool) -> Vec<u8> {
    const ALIGN: usize = 0x4000;
    let mut header = if wide { 0xcafe_babf_u32 } else { 0xcafe_babe }.to_be_bytes().to_vec();
    header.extend((slices.len() as u32).to_be_bytes());
    let mut body = Vec::new();
    for (cpu, bytes) in slices {
        body.resize(body.len().next_multiple_of(ALIGN), 0);
        let (offset, size) = ((ALIGN + body.len()) as u64, bytes.len() as u64);
        header.extend(cpu.to_be_bytes());
        header.extend(3_u32.to_be_bytes());
        if wide {
            header.extend([offset, size].map(u64::to_be_bytes).concat());
            header.extend([14_u32, 0].map(u32::to_be_bytes).concat());
        } else {
            header.extend([offset as u32, size as u32, 14].map(u32::to_be_bytes).concat());
        }
        body.extend(bytes);
    }
    header.resize(ALIGN, 0);
    header.extend(body);
    header
}
