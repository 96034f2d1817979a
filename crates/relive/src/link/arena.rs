//! The file of an arena: a shared object that the loader opens empty, and that grows with every image.
//!
//! What is loaded has its place in the file from the beginning (`relive_wire::near` has it), and so do the headers. Behind it
//! lie sections that are not loaded: symbols and debug information, which tools read. They only grow. One that
//! outgrows its room moves to the end of the file, and what it leaves stays as it is, so a tool that has the file open never
//! reads another image's bytes. All headers are on the first page, which is written last.
//!
//! All addresses are live address minus bias. The object has no relocations, no constructors and no dependencies.

use std::borrow::Cow;

use object::elf;
use relive_wire::LiveAddr;
use relive_wire::near::{
    ARENA_CONSTANTS, ARENA_DYNAMIC, ARENA_END, ARENA_FIRST, ARENA_FRAMES, ARENA_SEARCH, ARENA_TEXT, ARENA_VARIABLES,
    IMAGE_ALIGN, IMAGE_BIAS,
};

use crate::link::layout::{PAGE, Span};
use crate::link::symbols::SYMBOL_LEN;

/// Where the first loaded byte is in the file: congruent to its address modulo the segment's alignment.
const FIRST_OFFSET: u64 = IMAGE_BIAS % IMAGE_ALIGN;
const HEADER_LEN: u16 = 64;
const SEGMENT_LEN: u16 = 56;
const SECTION_LEN: u16 = 64;
/// Offsets of the section headers and of their names on the first page.
const SECTIONS_AT: u64 = 0x200;
const NAMES_AT: u64 = 0xc00;
/// Sections that there is room for, and bytes of their names.
const SECTIONS_MAX: usize = ((NAMES_AT - SECTIONS_AT) / SECTION_LEN as u64) as usize;
const NAMES_MAX: usize = (FIRST_OFFSET - NAMES_AT) as usize;
/// Room that a section that is not loaded begins with.
const FIRST_ROOM: u64 = 64 << 10;
/// Largest section that is not loaded: what refers to places in it does so with 32 bits.
const SECTION_MAX: u64 = 1 << 30;
/// Empty dynamic symbol table (its one null entry) and string table.
const DYNAMIC_NAMES_LEN: u64 = SYMBOL_LEN + 1;

/// Index of the section with the code.
pub(super) const TEXT_INDEX: u16 = 6;
/// The symbol table, and its strings.
pub(super) const SYMTAB: &str = ".symtab";
pub(super) const STRTAB: &str = ".strtab";

/// Something that is appended to a section that is not loaded.
#[derive(Clone, Debug)]
pub struct Addition {
    /// The section's name.
    pub section: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// One step of bringing the file up to date. Steps are done in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileStep<'a> {
    /// Write bytes at an offset.
    Write(u64, Cow<'a, [u8]>),
    /// Copy bytes from an offset to another, behind everything that was written.
    Copy {
        /// From here,
        from: u64,
        /// to here,
        to: u64,
        /// that many.
        len: u64,
    },
    /// Make the file this long at least.
    Extend(u64),
}

/// How much of an arena's loaded parts is in use, in bytes, and of its search table in entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Code.
    pub text: u64,
    /// Constants.
    pub constants: u64,
    /// Variables.
    pub variables: u64,
    /// Unwind entries.
    pub frames: u64,
    /// Entries of the search table.
    pub searched: u64,
}

/// What is where in the file of one arena.
#[derive(Clone, Debug)]
pub struct ArenaFile {
    start: LiveAddr,
    unloaded: Vec<Unloaded>,
    end: u64,
}

#[derive(Clone, Debug)]
struct Unloaded {
    name: String,
    offset: u64,
    size: u64,
    room: u64,
}

struct Segment {
    kind: u32,
    flags: u32,
    span: Span,
    file_size: u64,
    align: u64,
}

struct Section {
    name: String,
    kind: u32,
    flags: u64,
    addr: u64,
    offset: u64,
    size: u64,
    link: u32,
    info: u32,
    align: u64,
    entry: u64,
}

impl ArenaFile {
    /// The file of the arena at `start`, and the steps that make it.
    #[must_use]
    pub fn create(start: LiveAddr) -> (ArenaFile, Vec<FileStep<'static>>) {
        let mut file = ArenaFile { start, unloaded: Vec::new(), end: offset(ARENA_VARIABLES) };
        let mut steps = vec![FileStep::Extend(file.end)];
        let mut write = |place, bytes: Vec<u8>| steps.push(FileStep::Write(offset(place), bytes.into()));
        write(ARENA_FIRST, vec![0; DYNAMIC_NAMES_LEN as usize]);
        write(ARENA_SEARCH, search_header());
        write(ARENA_DYNAMIC, file.dynamic_table());
        // The first symbol is none, and the first string is empty.
        file.append(STRTAB, &[0], &mut steps);
        file.append(SYMTAB, &[0; SYMBOL_LEN as usize], &mut steps);
        steps.push(FileStep::Write(0, file.first_page(&Used::default()).into()));
        (file, steps)
    }

    /// The size of a section that is not loaded, in bytes; 0 if there is none.
    #[must_use]
    pub fn size(&self, section: &str) -> u64 {
        self.unloaded.iter().find(|one| one.name == section).map_or(0, |one| one.size)
    }

    /// The steps that bring an image in, of which `loaded` has the loaded parts. `used` is what is in use with it.
    #[must_use]
    pub fn grow<'a>(
        &mut self,
        loaded: &[(LiveAddr, &'a [u8])],
        additions: &'a [Addition],
        used: &Used,
    ) -> Vec<FileStep<'a>> {
        let mut steps = Vec::new();
        for (addr, bytes) in loaded {
            steps.push(FileStep::Write(offset(addr.0.wrapping_sub(self.start.0)), Cow::Borrowed(*bytes)));
        }
        let count = u32::try_from(used.searched).unwrap_or(u32::MAX);
        steps.push(FileStep::Write(offset(ARENA_SEARCH) + 8, count.to_le_bytes().to_vec().into()));
        for addition in additions {
            self.append(&addition.section, &addition.bytes, &mut steps);
        }
        steps.push(FileStep::Write(0, self.first_page(used).into()));
        steps
    }

    /// Whether every section could grow by `bytes`.
    #[must_use]
    pub fn has_room(&self, bytes: u64) -> bool {
        self.unloaded.iter().all(|one| one.size.saturating_add(bytes) <= SECTION_MAX)
    }

    fn append<'a>(&mut self, name: &str, bytes: &'a [u8], steps: &mut Vec<FileStep<'a>>) {
        let len = bytes.len() as u64;
        let at = self.unloaded.iter().position(|one| one.name == name);
        let at = at.unwrap_or_else(|| {
            self.unloaded.push(Unloaded { name: name.to_owned(), offset: 0, size: 0, room: 0 });
            self.unloaded.len() - 1
        });
        let section = &mut self.unloaded[at];
        if section.size + len > section.room {
            let (from, to) = (section.offset, self.end);
            section.room = (2 * (section.size + len)).max(FIRST_ROOM).next_multiple_of(PAGE);
            section.offset = to;
            self.end += section.room;
            if section.size > 0 {
                steps.push(FileStep::Copy { from, to, len: section.size });
            }
        }
        steps.push(FileStep::Write(section.offset + section.size, Cow::Borrowed(bytes)));
        section.size += len;
    }

    fn file_addr(&self, place: u64) -> u64 {
        (self.start.0 + place).wrapping_sub(IMAGE_BIAS)
    }

    fn first_page(&self, used: &Used) -> Vec<u8> {
        let mut sections = self.loaded_sections(used);
        for one in self.unloaded.iter().take(SECTIONS_MAX.saturating_sub(sections.len() + 1)) {
            let mut new = section(&one.name, elf::SHT_PROGBITS, 0, (0, one.offset), one.size);
            new.align = 1;
            match one.name.as_str() {
                SYMTAB => (new.kind, new.entry, new.align) = (elf::SHT_SYMTAB, SYMBOL_LEN, 8),
                STRTAB => new.kind = elf::SHT_STRTAB,
                _ => {}
            }
            sections.push(new);
        }
        let strings = sections.iter().position(|section| section.name == STRTAB).unwrap_or(0) as u32;
        for section in sections.iter_mut().filter(|section| section.kind == elf::SHT_SYMTAB) {
            // All symbols are local: the first that is not is behind the last.
            (section.link, section.info) = (strings, (section.size / SYMBOL_LEN) as u32);
        }
        let mut names = vec![0];
        let mut name_at = Vec::new();
        sections.push(section(".shstrtab", elf::SHT_STRTAB, 0, (0, NAMES_AT), 0));
        for section in &sections {
            let fits = names.len() + section.name.len() < NAMES_MAX;
            name_at.push(if fits { names.len() as u32 } else { 0 });
            if fits {
                names.extend(section.name.as_bytes());
                names.push(0);
            }
        }
        if let Some(last) = sections.last_mut() {
            (last.size, last.align) = (names.len() as u64, 1);
        }
        let segments = self.segments();
        let mut page = file_header(sections.len() as u16, segments.len() as u16);
        segments.iter().for_each(|segment| self.write_segment(segment, &mut page));
        page.resize(SECTIONS_AT as usize, 0);
        sections.iter().zip(&name_at).for_each(|(section, name)| write_section(section, *name, &mut page));
        page.resize(NAMES_AT as usize, 0);
        page.extend(names);
        page.resize(FIRST_OFFSET as usize, 0);
        page
    }

    fn loaded_sections(&self, used: &Used) -> Vec<Section> {
        let alloc = u64::from(elf::SHF_ALLOC);
        let write = alloc | u64::from(elf::SHF_WRITE);
        let code = alloc | u64::from(elf::SHF_EXECINSTR);
        let bits = elf::SHT_PROGBITS;
        let at = |place: u64| (self.file_addr(place), offset(place));
        let mut out = vec![
            section("", elf::SHT_NULL, 0, (0, 0), 0),
            section(".dynsym", elf::SHT_DYNSYM, alloc, at(ARENA_FIRST), SYMBOL_LEN),
            section(".dynstr", elf::SHT_STRTAB, alloc, at(ARENA_FIRST + SYMBOL_LEN), 1),
            section(".eh_frame_hdr", bits, alloc, at(ARENA_SEARCH), 12 + 8 * used.searched),
            // With the zeroes that end it.
            section(".eh_frame", bits, alloc, at(ARENA_FRAMES), used.frames + 4),
            section(".rodata", bits, alloc, at(ARENA_CONSTANTS), used.constants),
            section(".text", bits, code, at(ARENA_TEXT), used.text),
            section(".dynamic", elf::SHT_DYNAMIC, write, at(ARENA_DYNAMIC), self.dynamic_table().len() as u64),
            section(".bss", elf::SHT_NOBITS, write, at(ARENA_VARIABLES), used.variables),
        ];
        (out[1].link, out[1].info, out[1].entry) = (2, 1, SYMBOL_LEN);
        (out[2].align, out[6].align) = (1, 16);
        (out[7].link, out[7].entry) = (2, 16);
        out
    }

    fn segments(&self) -> [Segment; 6] {
        let span = |start: u64, end: u64| Span { start: LiveAddr(start), size: end - start };
        let constants = span(ARENA_FIRST, ARENA_TEXT);
        let text = span(ARENA_TEXT, ARENA_DYNAMIC);
        let variables = span(ARENA_DYNAMIC, ARENA_END);
        let load = |flags, span: Span, file_size, align| Segment { kind: elf::PT_LOAD, flags, span, file_size, align };
        let other = |kind, flags, span: Span, align| Segment { kind, flags, span, file_size: span.size, align };
        let dynamic = span(ARENA_DYNAMIC, ARENA_DYNAMIC + self.dynamic_table().len() as u64);
        [
            load(elf::PF_R, constants, constants.size, IMAGE_ALIGN),
            load(elf::PF_R | elf::PF_X, text, text.size, PAGE),
            // The page of the dynamic section is the file's; what follows is zeroes that belong to no file.
            load(elf::PF_R | elf::PF_W, variables, ARENA_VARIABLES - ARENA_DYNAMIC, PAGE),
            other(elf::PT_DYNAMIC, elf::PF_R | elf::PF_W, dynamic, 8),
            other(elf::PT_GNU_EH_FRAME, elf::PF_R, span(ARENA_SEARCH, ARENA_FRAMES), 4),
            other(elf::PT_GNU_STACK, elf::PF_R | elf::PF_W, Span::default(), 16),
        ]
    }

    fn write_segment(&self, segment: &Segment, out: &mut Vec<u8>) {
        out.extend(segment.kind.to_le_bytes());
        out.extend(segment.flags.to_le_bytes());
        let place = segment.span.start.0;
        let (at, addr) = if place == 0 { (0, 0) } else { (offset(place), self.file_addr(place)) };
        for word in [at, addr, addr, segment.file_size, segment.span.size, segment.align] {
            out.extend(word.to_le_bytes());
        }
    }

    fn dynamic_table(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (tag, value) in [
            (elf::DT_STRTAB, self.file_addr(ARENA_FIRST + SYMBOL_LEN)),
            (elf::DT_STRSZ, 1),
            (elf::DT_SYMTAB, self.file_addr(ARENA_FIRST)),
            (elf::DT_SYMENT, SYMBOL_LEN),
            (elf::DT_FLAGS, u64::from(elf::DF_BIND_NOW)),
            (elf::DT_FLAGS_1, u64::from(elf::DF_1_NOW | elf::DF_1_NODELETE)),
            (elf::DT_NULL, 0),
        ] {
            out.extend(u64::from(tag).to_le_bytes());
            out.extend(value.to_le_bytes());
        }
        out
    }
}

/// Where the byte at `place` in the arena is in the file.
fn offset(place: u64) -> u64 {
    place - ARENA_FIRST + FIRST_OFFSET
}

/// An `.eh_frame_hdr` without entries: version 1; the frames as a distance from here, the count as a number, the table as
/// distances from the header, 4 bytes each.
fn search_header() -> Vec<u8> {
    let mut out = vec![1, 0x1b, 0x03, 0x3b];
    out.extend(((ARENA_FRAMES - ARENA_SEARCH - 4) as u32).to_le_bytes());
    out.extend(0_u32.to_le_bytes());
    out
}

fn section(name: &str, kind: u32, flags: u64, (addr, offset): (u64, u64), size: u64) -> Section {
    let align = if kind == elf::SHT_NULL { 0 } else { 8 };
    Section { name: name.to_owned(), kind, flags, addr, offset, size, link: 0, info: 0, align, entry: 0 }
}

fn write_section(section: &Section, name: u32, out: &mut Vec<u8>) {
    for word in [name, section.kind] {
        out.extend(word.to_le_bytes());
    }
    for word in [section.flags, section.addr, section.offset, section.size] {
        out.extend(word.to_le_bytes());
    }
    for word in [section.link, section.info] {
        out.extend(word.to_le_bytes());
    }
    for word in [section.align, section.entry] {
        out.extend(word.to_le_bytes());
    }
}

fn file_header(sections: u16, segments: u16) -> Vec<u8> {
    let mut out = vec![0x7f, b'E', b'L', b'F', elf::ELFCLASS64, elf::ELFDATA2LSB, elf::EV_CURRENT, 0];
    out.extend([0; 8]);
    out.extend(elf::ET_DYN.to_le_bytes());
    out.extend(elf::EM_X86_64.to_le_bytes());
    out.extend(1u32.to_le_bytes());
    out.extend(0u64.to_le_bytes());
    out.extend(u64::from(HEADER_LEN).to_le_bytes());
    out.extend(SECTIONS_AT.to_le_bytes());
    out.extend(0u32.to_le_bytes());
    for half in [HEADER_LEN, SEGMENT_LEN, segments, SECTION_LEN, sections, sections - 1] {
        out.extend(half.to_le_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use object::{Object, ObjectSection, ObjectSymbol};
    use relive_wire::near::ARENA_SIZE;

    use super::*;

    const START: LiveAddr = LiveAddr(0x5555_0000_0000);

    fn perform(file: &mut Vec<u8>, steps: Vec<FileStep>) {
        for step in steps {
            let (at, bytes) = match step {
                FileStep::Extend(len) => (len, Vec::new()),
                FileStep::Write(at, bytes) => (at, bytes.into_owned()),
                FileStep::Copy { from, to, len } => (to, file[from as usize..(from + len) as usize].to_vec()),
            };
            file.resize(file.len().max(at as usize + bytes.len()), 0);
            file[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
        }
    }

    fn grown(arena: &mut ArenaFile, file: &mut Vec<u8>, name: &str, info: &[u8], used: &Used) {
        let mut symbol = vec![0; SYMBOL_LEN as usize];
        symbol[..4].copy_from_slice(&(arena.size(STRTAB) as u32).to_le_bytes());
        symbol[4] = elf::STB_LOCAL << 4 | elf::STT_FUNC;
        symbol[6..8].copy_from_slice(&TEXT_INDEX.to_le_bytes());
        symbol[8..16].copy_from_slice(&used.text.to_le_bytes());
        let addition = |section: &str, bytes: Vec<u8>| Addition { section: section.into(), bytes };
        let additions = [
            addition(".debug_info", info.to_vec()),
            addition(STRTAB, [name.as_bytes(), &[0]].concat()),
            addition(SYMTAB, symbol),
        ];
        let code = [0xc3; 8];
        let steps = arena.grow(&[(START.plus(ARENA_TEXT + used.text - 8), &code)], &additions, used);
        perform(file, steps);
    }

    #[test]
    fn a_file_grows_and_is_whole_each_time() {
        let (mut arena, steps) = ArenaFile::create(START);
        let mut file = Vec::new();
        perform(&mut file, steps);
        assert_eq!(object::File::parse(&*file).unwrap().symbols().count(), 0);
        let mut all: Vec<u8> = Vec::new();
        for image in 1..=5_u64 {
            let info = vec![image as u8; 50_000];
            all.extend_from_slice(&info);
            let used = Used { text: image * 8, searched: image, frames: image * 4, ..Used::default() };
            let before = file.clone();
            grown(&mut arena, &mut file, &format!("function_{image}"), &info, &used);
            // Whoever has read the headers before finds in the file what they say.
            let old = object::File::parse(&*before).unwrap();
            for section in old.sections().filter(|section| section.address() == 0 && section.name() != Ok(".shstrtab"))
            {
                let (offset, size) = section.file_range().unwrap();
                let range = offset as usize..(offset + size) as usize;
                assert!(file[range.clone()] == before[range], "{:?}", section.name());
            }
            let parsed = object::File::parse(&*file).unwrap();
            let section = |name: &str| parsed.section_by_name(name).unwrap();
            assert!(section(".debug_info").data().unwrap() == all);
            assert_eq!(section(".text").data().unwrap(), vec![0xc3; image as usize * 8]);
            assert_eq!(section(".eh_frame_hdr").data().unwrap()[8..12], (image as u32).to_le_bytes());
            assert_eq!(section(".eh_frame").size(), image * 4 + 4);
            let names: Vec<_> = parsed.symbols().map(|symbol| symbol.name().unwrap().to_owned()).collect();
            assert_eq!(names, (1..=image).map(|image| format!("function_{image}")).collect::<Vec<_>>());
        }
        assert!(!arena.has_room(SECTION_MAX) && arena.has_room(1000));
    }

    #[test]
    fn what_is_loaded_lies_in_the_arena_without_overlap() {
        let (arena, _) = ArenaFile::create(START);
        let mut before = START.0 - IMAGE_BIAS;
        for segment in arena.segments().iter().filter(|segment| segment.kind == elf::PT_LOAD) {
            let start = arena.file_addr(segment.span.start.0);
            assert!(start >= before);
            assert_eq!(start % segment.align, offset(segment.span.start.0) % segment.align);
            before = start + segment.span.size;
        }
        assert!(before <= START.0 - IMAGE_BIAS + ARENA_SIZE);
    }
}
