//! The image as a file that ld.so loads and debuggers read.
//!
//! Takes the bytes of the parts, gives an ELF64 shared object. All addresses in it are live address minus bias; code and
//! data hold live addresses. It has no relocations but `GLOB_DAT` for what comes from shared objects, no constructors and
//! no dependencies: names are found in the program's own scope.

use object::elf;
use relive_wire::LiveAddr;
use relive_wire::near::{IMAGE_ALIGN, IMAGE_BIAS};

use crate::binary::names;
use crate::binary::object::Role;
use crate::diff::reach::Reach;
use crate::link::layout::{Map, PAGE, Span, Word};
use crate::link::relocate::Contents;
use crate::link::{Image, LinkError, debug};

/// Where the first loaded byte is in the file: congruent to its address modulo the segment's alignment.
const FIRST_OFFSET: u64 = IMAGE_BIAS % IMAGE_ALIGN;
const HEADER_LEN: u16 = 64;
const SEGMENT_LEN: u16 = 56;
const SECTION_LEN: u16 = 64;

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

/// Writes the file and says what is where.
pub(super) fn write(reach: &Reach, map: &Map, contents: Contents) -> Result<Image, LinkError> {
    let mut file = Vec::new();
    let mut sections = vec![section("", elf::SHT_NULL, 0, Span::default(), 0)];
    let (symbols, relocations, strings) = dynamic_names(reach, map);
    let names_at = map.dynamic_names.start;
    let symbol_span = Span { start: names_at, size: symbols.len() as u64 };
    let relocation_span = Span { start: symbol_span.end(), size: relocations.len() as u64 };
    let string_span = Span { start: relocation_span.end(), size: strings.len() as u64 };
    let dynamic = dynamic_table(symbol_span, relocation_span, string_span);
    let alloc = u64::from(elf::SHF_ALLOC);
    let write = alloc | u64::from(elf::SHF_WRITE);
    let code = alloc | u64::from(elf::SHF_EXECINSTR);
    let bits = elf::SHT_PROGBITS;
    for (name, kind, flags, span, bytes) in [
        (".dynsym", elf::SHT_DYNSYM, alloc, symbol_span, symbols),
        (".rela.dyn", elf::SHT_RELA, alloc, relocation_span, relocations),
        (".dynstr", elf::SHT_STRTAB, alloc, string_span, strings),
        (".eh_frame_hdr", bits, alloc, map.unwind_header, contents.unwind_header),
        (".eh_frame", bits, alloc, map.unwind, contents.unwind),
        (".rodata", bits, alloc, map.read_only, contents.read_only),
        (".text", bits, code, map.text, contents.text),
        (".data.rel.ro", bits, write, map.rel_ro, contents.rel_ro),
        (".dynamic", elf::SHT_DYNAMIC, write, map.dynamic, dynamic),
        (".got", bits, write, map.words_at, contents.words),
        (".data", bits, write, map.data, contents.data),
    ] {
        put(&mut file, offset_of(map, span.start), &bytes);
        sections.push(section(name, kind, flags, span, offset_of(map, span.start)));
    }
    sections.push(section(".bss", elf::SHT_NOBITS, write, map.bss, offset_of(map, map.bss.start)));
    link_sections(&mut sections);
    let loaded_end = offset_of(map, map.data.end());
    file.resize(file.len().max(loaded_end as usize), 0);
    add_unloaded(&mut file, &mut sections, reach, map);
    finish(&mut file, sections, map)?;
    Ok(Image {
        file,
        base: map.base,
        end: map.end,
        text: (map.text.start, offset_of(map, map.text.start), map.text.size),
        stubs: (map.stubs.start, map.stubs.end()),
        functions: map.functions.clone(),
        data: map.data_items.clone(),
        library_functions: map.library_functions.clone(),
        thread_locals: reach.threads.thread_locals.clone(),
        first_values: contents.first_values,
        thread_room: reach.threads.room,
    })
}

fn offset_of(map: &Map, addr: LiveAddr) -> u64 {
    FIRST_OFFSET + addr.minus(map.base) as u64
}

fn file_addr(addr: LiveAddr) -> u64 {
    addr.0.wrapping_sub(IMAGE_BIAS)
}

fn section(name: &str, kind: u32, flags: u64, span: Span, offset: u64) -> Section {
    Section {
        name: name.to_owned(),
        kind,
        flags,
        addr: if span.start.0 == 0 { 0 } else { file_addr(span.start) },
        offset,
        size: span.size,
        link: 0,
        info: 0,
        align: if kind == elf::SHT_NULL { 0 } else { 8 },
        entry: 0,
    }
}

fn index(sections: &[Section], name: &str) -> u32 {
    sections.iter().position(|section| section.name == name).unwrap_or(0) as u32
}

fn link_sections(sections: &mut [Section]) {
    let strings = index(sections, ".dynstr");
    let symbols = index(sections, ".dynsym");
    for section in sections {
        match section.name.as_str() {
            ".dynsym" => (section.link, section.info, section.entry) = (strings, 1, 24),
            ".rela.dyn" => (section.link, section.entry) = (symbols, 24),
            ".dynamic" => (section.link, section.entry) = (strings, 16),
            ".text" => section.align = 16,
            ".dynstr" => section.align = 1,
            _ => {}
        }
    }
}

fn put(file: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let start = offset as usize;
    let end = start + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[start..end].copy_from_slice(bytes);
}

/// Symbol table, relocations and strings for ld.so.
fn dynamic_names(reach: &Reach, map: &Map) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let mut symbols = vec![0; 24];
    let mut strings = vec![0];
    for name in &reach.imports {
        symbols.extend((strings.len() as u32).to_le_bytes());
        symbols.push(elf::STB_GLOBAL << 4 | elf::STT_NOTYPE);
        symbols.extend([0; 19]);
        strings.extend(name.as_bytes());
        strings.push(0);
    }
    let mut relocations = Vec::new();
    for (at, word) in map.words.iter().enumerate() {
        if let Word::Import(import) = word {
            relocations.extend(file_addr(map.words_at.start.plus(at as u64 * 8)).to_le_bytes());
            let info = (*import as u64 + 1) << 32 | u64::from(elf::R_X86_64_GLOB_DAT);
            relocations.extend(info.to_le_bytes());
            relocations.extend(0u64.to_le_bytes());
        }
    }
    (symbols, relocations, strings)
}

fn dynamic_table(symbols: Span, relocations: Span, strings: Span) -> Vec<u8> {
    let mut out = Vec::new();
    for (tag, value) in [
        (elf::DT_STRTAB, file_addr(strings.start)),
        (elf::DT_STRSZ, strings.size),
        (elf::DT_SYMTAB, file_addr(symbols.start)),
        (elf::DT_SYMENT, 24),
        (elf::DT_RELA, file_addr(relocations.start)),
        (elf::DT_RELASZ, relocations.size),
        (elf::DT_RELAENT, 24),
        (elf::DT_FLAGS, u64::from(elf::DF_BIND_NOW)),
        (elf::DT_FLAGS_1, u64::from(elf::DF_1_NOW | elf::DF_1_NODELETE)),
        (elf::DT_NULL, 0),
    ] {
        out.extend(u64::from(tag).to_le_bytes());
        out.extend(value.to_le_bytes());
    }
    out
}

/// Symbols and debug information: not loaded, read by debuggers and by Rust's own backtraces.
fn add_unloaded(file: &mut Vec<u8>, sections: &mut Vec<Section>, reach: &Reach, map: &Map) {
    let text = index(sections, ".text");
    let mut strings = vec![0];
    let mut symbols = vec![0; 24];
    let mut add = |name: &str, addr: LiveAddr, size: u64| {
        symbols.extend((strings.len() as u32).to_le_bytes());
        symbols.extend([elf::STB_LOCAL << 4 | elf::STT_FUNC, 0]);
        symbols.extend((text as u16).to_le_bytes());
        symbols.extend(file_addr(addr).to_le_bytes());
        symbols.extend(size.to_le_bytes());
        strings.extend(name.as_bytes());
        strings.push(0);
    };
    for function in &map.functions {
        add(&function.text, function.body.addr, function.body.size);
    }
    for (piece, addr) in reach.pieces.iter().zip(&map.pieces) {
        let Some(object) = reach.object(piece.object) else { continue };
        let planned = reach.piece_of(piece.object, piece.section).and_then(|piece| reach.function_of(piece));
        if object.section(piece.section).role == Role::Text && planned.is_none() {
            for id in object.defined_in(piece.section) {
                let symbol = object.symbol(*id);
                if let (true, crate::binary::object::Place::In(_, offset)) = (object.is_item(symbol), symbol.place) {
                    add(object.name(symbol), addr.plus(offset), symbol.size);
                }
            }
        }
    }
    for function in
        map.functions.iter().filter(|function| map.stubs.start <= function.stub && function.stub < map.stubs.end())
    {
        add(&format!("relive stub of {}", names::readable(&function.text)), function.stub, 14);
    }
    let count = (symbols.len() / 24) as u32;
    let strtab = sections.len() as u32 + 1;
    append(file, sections, ".symtab", elf::SHT_SYMTAB, &symbols);
    if let Some(symtab) = sections.last_mut() {
        (symtab.link, symtab.info, symtab.entry) = (strtab, count, 24);
    }
    append(file, sections, ".strtab", elf::SHT_STRTAB, &strings);
    for (name, bytes) in debug::sections(reach, map) {
        append(file, sections, &name, elf::SHT_PROGBITS, &bytes);
    }
}

fn append(file: &mut Vec<u8>, sections: &mut Vec<Section>, name: &str, kind: u32, bytes: &[u8]) {
    file.resize(file.len().next_multiple_of(16), 0);
    let offset = file.len() as u64;
    file.extend_from_slice(bytes);
    let span = Span { start: LiveAddr(0), size: bytes.len() as u64 };
    let mut new = section(name, kind, 0, span, offset);
    new.align = if kind == elf::SHT_SYMTAB { 8 } else { 1 };
    sections.push(new);
}

fn segments(map: &Map) -> Vec<Segment> {
    let between = |start: LiveAddr, end: LiveAddr| Span { start, size: end.minus(start) as u64 };
    let constants = between(map.base, map.read_only.end());
    let variables = between(map.rel_ro.start, map.bss.end());
    let stored = map.data.end().minus(map.rel_ro.start) as u64;
    let relro = between(map.rel_ro.start, map.data.start);
    let load = |flags, span: Span, file_size, align| Segment { kind: elf::PT_LOAD, flags, span, file_size, align };
    let other = |kind, flags, span: Span, align| Segment { kind, flags, span, file_size: span.size, align };
    vec![
        load(elf::PF_R, constants, constants.size, IMAGE_ALIGN),
        load(elf::PF_R | elf::PF_X, map.text, map.text.size, PAGE),
        load(elf::PF_R | elf::PF_W, variables, stored, PAGE),
        other(elf::PT_DYNAMIC, elf::PF_R | elf::PF_W, map.dynamic, 8),
        other(elf::PT_GNU_EH_FRAME, elf::PF_R, map.unwind_header, 4),
        other(elf::PT_GNU_RELRO, elf::PF_R, relro, 1),
        other(elf::PT_GNU_STACK, elf::PF_R | elf::PF_W, Span::default(), 16),
    ]
}

fn finish(file: &mut Vec<u8>, mut sections: Vec<Section>, map: &Map) -> Result<(), LinkError> {
    let mut names = vec![0];
    let mut name_at = Vec::new();
    sections.push(section(".shstrtab", elf::SHT_STRTAB, 0, Span::default(), 0));
    for section in &sections {
        name_at.push(names.len() as u32);
        names.extend(section.name.as_bytes());
        names.push(0);
    }
    file.resize(file.len().next_multiple_of(16), 0);
    if let Some(last) = sections.last_mut() {
        (last.offset, last.size, last.align) = (file.len() as u64, names.len() as u64, 1);
    }
    file.extend_from_slice(&names);
    file.resize(file.len().next_multiple_of(16), 0);
    let table_at = file.len() as u64;
    for (section, name) in sections.iter().zip(&name_at) {
        for word in [*name, section.kind] {
            file.extend(word.to_le_bytes());
        }
        for word in [section.flags, section.addr, section.offset, section.size] {
            file.extend(word.to_le_bytes());
        }
        for word in [section.link, section.info] {
            file.extend(word.to_le_bytes());
        }
        for word in [section.align, section.entry] {
            file.extend(word.to_le_bytes());
        }
    }
    let segments = segments(map);
    let mut head = file_header(table_at, sections.len() as u16, segments.len() as u16);
    for segment in &segments {
        head.extend(segment.kind.to_le_bytes());
        head.extend(segment.flags.to_le_bytes());
        let empty = segment.span.start.0 == 0;
        let offset = if empty { 0 } else { offset_of(map, segment.span.start) };
        let addr = if empty { 0 } else { file_addr(segment.span.start) };
        for word in [offset, addr, addr, segment.file_size, segment.span.size, segment.align] {
            head.extend(word.to_le_bytes());
        }
    }
    if head.len() as u64 > FIRST_OFFSET {
        return Err(LinkError("the program headers do not fit before the first segment".into()));
    }
    put(file, 0, &head);
    Ok(())
}

fn file_header(sections_at: u64, sections: u16, segments: u16) -> Vec<u8> {
    let mut out = vec![0x7f, b'E', b'L', b'F', elf::ELFCLASS64, elf::ELFDATA2LSB, elf::EV_CURRENT, 0];
    out.extend([0; 8]);
    out.extend(elf::ET_DYN.to_le_bytes());
    out.extend(elf::EM_X86_64.to_le_bytes());
    out.extend(1u32.to_le_bytes());
    out.extend(0u64.to_le_bytes());
    out.extend(u64::from(HEADER_LEN).to_le_bytes());
    out.extend(sections_at.to_le_bytes());
    out.extend(0u32.to_le_bytes());
    for half in [HEADER_LEN, SEGMENT_LEN, segments, SECTION_LEN, sections, sections - 1] {
        out.extend(half.to_le_bytes());
    }
    out
}
