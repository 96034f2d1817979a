//! Executables as large as asked for, without the wait for a linker: a well-formed ELF file whose code is a hole, with as
//! many symbols as asked for. A third of them are local to one of many units and lie in address order, as linkers leave
//! them; the others are global and in the order of a hash table. Names are as long as mangled ones are.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const PAGE: u64 = 0x1000;
/// Where code begins, in the file and in memory.
const TEXT: u64 = PAGE;
const UNIT_SYMBOLS: u64 = 64;
const NAME_MAX: u64 = 96;

/// An executable of about `size` bytes with `symbols` symbols, made below the target directory unless it is there.
pub(crate) fn executable(size: u64, symbols: u64) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("large");
    let path = folder.join(format!("{size}-{symbols}"));
    if !path.exists() {
        std::fs::create_dir_all(&folder).unwrap();
        let unfinished = path.with_extension("unfinished");
        write(&unfinished, size, symbols);
        std::fs::rename(&unfinished, &path).unwrap();
    }
    path
}

/// The name of a symbol; every one is another.
pub(crate) fn name(number: u64) -> String {
    let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x51ab;
    let path = ["core3fmt", "alloc3vec", "std2io", "app6worker", "tokio7runtime"][(hash % 5) as usize];
    let filler = "a_function_with_a_name".get(..(hash >> 8) as usize % 22).unwrap_or_default();
    format!("_ZN{}{path}{filler}{number}17h{hash:016x}E", path.len())
}

struct Tables {
    symbols: Vec<u8>,
    strings: Vec<u8>,
}

impl Tables {
    fn add(&mut self, name: &str, info: u8, section: u16, addr: u64, size: u64) {
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        self.symbols.extend_from_slice(&at.to_le_bytes());
        self.symbols.extend_from_slice(&[info, 0]);
        self.symbols.extend_from_slice(&section.to_le_bytes());
        self.symbols.extend_from_slice(&addr.to_le_bytes());
        self.symbols.extend_from_slice(&size.to_le_bytes());
    }
}

/// Section 1 is the code; see [`headers`].
fn tables(symbols: u64, text: u64) -> (Tables, u64) {
    let mut out = Tables { symbols: vec![0; 24], strings: vec![0] };
    let room = text / symbols;
    let is_local = |number: &u64| number.is_multiple_of(3);
    let locals: Vec<u64> = (0..symbols).filter(is_local).collect();
    for unit in locals.chunks(UNIT_SYMBOLS as usize) {
        out.add(&format!("app.{:016x}-cgu.{}", unit[0], unit[0] % 256), 4, 0xfff1, 0, 0);
        unit.iter().for_each(|number| out.add(&name(*number), 2, 1, TEXT + number * room, room - 1));
    }
    let local_count = out.symbols.len() as u64 / 24;
    // Any order but that of addresses.
    let step = 1_000_003;
    let scattered = (0..symbols).map(|number| number * step % symbols).filter(|number| !is_local(number));
    scattered.for_each(|number| out.add(&name(number), 0x12, 1, TEXT + number * room, room - 1));
    (out, local_count)
}

fn write(path: &Path, size: u64, symbols: u64) {
    let overhead = symbols * (24 + NAME_MAX);
    let text = size.saturating_sub(overhead).max(symbols * 64) / PAGE * PAGE;
    let (tables, locals) = tables(symbols, text);
    let symbols_at = TEXT + text;
    let strings_at = symbols_at + tables.symbols.len() as u64;
    let sections_at = (strings_at + tables.strings.len() as u64).next_multiple_of(8);
    let file = File::create(path).unwrap();
    file.set_len(sections_at + 5 * 64).unwrap();
    file.write_all_at(&tables.symbols, symbols_at).unwrap();
    file.write_all_at(&tables.strings, strings_at).unwrap();
    file.write_all_at(&headers(text, sections_at, symbols), 0).unwrap();
    let mut sections = vec![0; 64];
    let mut section = |words: [u64; 8], link: u32, info: u32| {
        let [kind, flags, addr, offset, size, align, entry, _] = words;
        sections.extend_from_slice(&0_u32.to_le_bytes());
        sections.extend_from_slice(&(kind as u32).to_le_bytes());
        [flags, addr, offset, size].iter().for_each(|word| sections.extend_from_slice(&word.to_le_bytes()));
        [link, info].iter().for_each(|word| sections.extend_from_slice(&word.to_le_bytes()));
        [align, entry].iter().for_each(|word| sections.extend_from_slice(&word.to_le_bytes()));
    };
    section([1, 6, TEXT, TEXT, text, 16, 0, 0], 0, 0);
    section([2, 0, 0, symbols_at, tables.symbols.len() as u64, 8, 24, 0], 3, locals as u32);
    section([3, 0, 0, strings_at, tables.strings.len() as u64, 1, 0, 0], 0, 0);
    section([3, 0, 0, strings_at, 1, 1, 0, 0], 0, 0);
    file.write_all_at(&sections, sections_at).unwrap();
}

/// File header, three program headers (all that is loaded, a build-id, a dynamic section that says "PIE"), the build-id.
fn headers(text: u64, sections_at: u64, seed: u64) -> Vec<u8> {
    let mut out = b"\x7fELF\x02\x01\x01".to_vec();
    out.resize(16, 0);
    out.extend_from_slice(&[3, 0, 62, 0, 1, 0, 0, 0]);
    for word in [TEXT, 64, sections_at] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    for half in [0, 0, 64_u16, 56, 3, 64, 5, 4] {
        out.extend_from_slice(&half.to_le_bytes());
    }
    let note = 64 + 3 * 56;
    let dynamic = note + 16 + 16;
    for [kind, flags, at, size, align] in
        [[1, 5, 0, TEXT + text, PAGE], [4, 4, note, 32, 4], [2, 4, dynamic, 32, 8]].map(|words: [u64; 5]| words)
    {
        out.extend_from_slice(&(kind as u32).to_le_bytes());
        out.extend_from_slice(&(flags as u32).to_le_bytes());
        [at, at, at, size, size, align].iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
    }
    for word in [4_u32, 16, 3] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(b"GNU\0");
    out.extend_from_slice(&seed.to_le_bytes());
    out.extend_from_slice(&text.to_le_bytes());
    // DT_FLAGS_1 with DF_1_PIE, DT_NULL.
    for word in [0x6fff_fffb_u64, 0x0800_0000, 0, 0] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out
}
