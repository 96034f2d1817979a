//! The copy of the executable, step by step.
//!
//! Takes what the executable has and the image that comes behind it. What is loaded keeps its place; the image follows, then
//! what is not loaded (symbols and debug information, the new behind the old), then the section headers. All that is written
//! into the old part are the file header, dynamic entries, the build-id, entries and variables.

use std::borrow::Cow;

use object::LittleEndian as LE;
use object::elf;
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _};
use object::{U16, U32, U64};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::Draft;
use super::debug_frame::debug_frame;
use super::exe::{Exe, Header, Segment, Symbol};
use super::image::{Image, PAGE};
use super::tables::{Moved, Tables, raw};
use crate::binary::object::{Place, Role, SymbolKind};
use crate::binary::snapshot::Key;
use crate::link::debug::Debug;
use crate::link::shared::Part as Loaded;
use crate::link::{Addition, FileStep, LinkError};

type Section = elf::SectionHeader64<LE>;

const DEBUG_FRAME: &str = ".debug_frame";
/// What is added to the name of a section for its part of the image.
const SUFFIX: &str = ".relive";

/// The steps that make the copy.
pub(super) fn steps<'d>(draft: &Draft<'_, 'd>, image: &Image) -> Result<Vec<FileStep<'d>>, LinkError> {
    let exe = draft.exe;
    let tables_at = image.search.at + image.search.bytes.len() as u64;
    let tables = Tables::make(draft, image, tables_at)?;
    let headers_at = (tables.at + tables.bytes.len() as u64).next_multiple_of(16);
    let segments = segments(exe, image, headers_at)?;
    let end = headers_at + segments.len() as u64 * size_of::<Segment>() as u64;
    let (_, loaded_end) = exe.ends().unwrap_or_default();
    let old = exe.data.get(..loaded_end as usize).unwrap_or_default();
    let mut steps = vec![FileStep::Write(0, old.into())];
    let mut write = |at: u64, bytes: Vec<u8>| steps.push(FileStep::Write(at, Cow::Owned(bytes)));
    for part in image.entries.iter().chain(&image.variables) {
        let at = exe.offset_of(part.at, part.bytes.len() as u64);
        let at = at.ok_or_else(|| LinkError(format!("{:#x} is not loaded from the executable", part.at)))?;
        write(at, part.bytes.clone());
    }
    for (tag, value) in &tables.entries {
        let (at, _) = exe.entry(*tag).ok_or_else(|| LinkError(format!("there is no dynamic entry {tag}")))?;
        write(at, value.to_le_bytes().to_vec());
    }
    let identity = draft.original.exe.identity();
    if let (Key::BuildId(id), Some(at)) = (&identity.key, identity.key_at) {
        let at = exe.offset_of(at.0, id.len() as u64).ok_or_else(|| LinkError("the build-id is not loaded".into()))?;
        write(at, new_build_id(id, image));
    }
    for part in image.parts() {
        write(part.at, part.bytes.clone());
    }
    write(tables.at, tables.bytes.clone());
    write(headers_at, segments.iter().flat_map(raw).collect());
    let mut unloaded = Unloaded::new(draft, image, loaded_end)?;
    unloaded.move_loaded(&tables);
    let (sections_at, tail) = unloaded.steps(end);
    steps.extend(tail);
    let header = file_header(exe, headers_at, segments.len(), sections_at, unloaded.headers.len())?;
    steps.push(FileStep::Write(0, raw(&header).into()));
    Ok(steps)
}

impl Image {
    fn parts(&self) -> impl Iterator<Item = &Loaded> {
        [&self.constants, &self.text, &self.data, &self.frames, &self.search].into_iter()
    }
}

fn file_header(
    exe: &Exe,
    segments_at: u64,
    segments: usize,
    sections_at: u64,
    sections: usize,
) -> Result<Header, LinkError> {
    let count = |count: usize| {
        let count = u16::try_from(count).ok().filter(|count| *count < elf::SHN_LORESERVE);
        count.map(|count| U16::new(LE, count)).ok_or_else(|| LinkError("too many sections or segments".into()))
    };
    Ok(Header {
        e_phoff: U64::new(LE, segments_at),
        e_phnum: count(segments)?,
        e_shoff: U64::new(LE, sections_at),
        e_shnum: count(sections)?,
        ..*exe.header
    })
}

/// The program headers, to lie at `headers_at`. Loaded ones are in the order of their addresses, as the gABI wants them.
fn segments(exe: &Exe, image: &Image, headers_at: u64) -> Result<Vec<Segment>, LinkError> {
    let last = exe.segments.iter().rposition(|one| one.p_type(LE) == elf::PT_LOAD);
    let last = last.ok_or_else(|| LinkError("the executable loads nothing".into()))?;
    let mut out = exe.segments.to_vec();
    let len = |part: &Loaded| part.bytes.len() as u64;
    let headers_len = |count: usize| count as u64 * size_of::<Segment>() as u64;
    let count = exe.segments.len() + 5;
    let end = headers_at + headers_len(count);
    let read = elf::PF_R;
    let new = [
        segment(elf::PT_LOAD, read, image.constants.at, len(&image.constants), image.align),
        segment(elf::PT_LOAD, read | elf::PF_X, image.text.at, len(&image.text), image.align),
        Segment {
            p_memsz: U64::new(LE, image.zeroes.end - image.data.at),
            ..segment(elf::PT_LOAD, read | elf::PF_W, image.data.at, len(&image.data), image.align)
        },
        segment(elf::PT_LOAD, read, image.frames.at, end - image.frames.at, PAGE),
        segment(if exe.segment(elf::PT_TLS).is_none() { elf::PT_TLS } else { elf::PT_NULL }, 0, 0, 0, 0),
    ];
    // What is empty is none to load; its header is one that says nothing.
    let is_empty = |one: &Segment| one.p_type(LE) == elf::PT_LOAD && one.p_memsz(LE) == 0;
    let new = new.map(|one| if is_empty(&one) { segment(elf::PT_NULL, 0, 0, 0, 0) } else { one });
    out.splice(last + 1..=last, new);
    for one in &mut out {
        *one = match (one.p_type(LE), &image.threads) {
            (elf::PT_PHDR, _) => segment(elf::PT_PHDR, read, headers_at, headers_len(count), 8),
            (elf::PT_GNU_EH_FRAME, _) => segment(elf::PT_GNU_EH_FRAME, read, image.search.at, len(&image.search), 4),
            (elf::PT_TLS, Some(block)) => Segment {
                p_memsz: U64::new(LE, block.size),
                ..segment(elf::PT_TLS, read, block.at, block.file_size, block.align)
            },
            (_, _) => *one,
        };
    }
    Ok(out)
}

fn segment(kind: u32, flags: u32, at: u64, len: u64, align: u64) -> Segment {
    Segment {
        p_type: U32::new(LE, kind),
        p_flags: U32::new(LE, flags),
        p_offset: U64::new(LE, at),
        p_vaddr: U64::new(LE, at),
        p_paddr: U64::new(LE, at),
        p_filesz: U64::new(LE, len),
        p_memsz: U64::new(LE, len),
        p_align: U64::new(LE, align),
    }
}

/// Another id for another program: made of the old one and of what is new.
fn new_build_id(old: &[u8], image: &Image) -> Vec<u8> {
    let new = image.parts().chain(&image.entries).chain(&image.variables);
    let seed = new.fold(0, |seed, part| xxh3_128_with_seed(&part.bytes, seed) as u64);
    let blocks =
        (0..old.len().div_ceil(16) as u64).flat_map(|block| xxh3_128_with_seed(old, seed ^ block).to_le_bytes());
    blocks.take(old.len()).collect()
}

/// Sections: all headers, and the contents of those that are not loaded.
struct Unloaded<'d> {
    headers: Vec<Section>,
    /// For each header, what the section has and what is appended to it; nothing for what is loaded.
    contents: Vec<Option<(&'d [u8], Vec<u8>)>>,
}

impl<'d> Unloaded<'d> {
    fn new(draft: &Draft<'_, 'd>, image: &Image, loaded_end: u64) -> Result<Unloaded<'d>, LinkError> {
        let exe = draft.exe;
        let mut out = Unloaded { headers: Vec::new(), contents: Vec::new() };
        let mut left = exe.data.len();
        for header in exe.sections.iter() {
            let is_allocated = header.sh_flags(LE) & u64::from(elf::SHF_ALLOC) != 0;
            let has_bytes = header.sh_offset(LE) >= loaded_end && header.sh_type(LE) != elf::SHT_NOBITS;
            let bytes = header.data(LE, exe.data).map_err(|why| LinkError(format!("section contents: {why}")))?;
            left = left.checked_sub(bytes.len()).ok_or_else(|| LinkError("sections overlap".into()))?;
            out.headers.push(*header);
            out.contents.push((has_bytes && !is_allocated).then_some((bytes, Vec::new())));
        }
        let names = exe.header.shstrndx(LE, exe.data);
        let names = names.map_err(|why| LinkError(format!("section names: {why}")))? as usize;
        let text = out.add_loaded(image, names)?;
        out.add_symbols(draft, image, text)?;
        out.add_debug(draft, image, names);
        Ok(out)
    }

    fn name(&mut self, names: usize, name: &str) -> u32 {
        let Some(Some((old, new))) = self.contents.get_mut(names) else { return 0 };
        let at = (old.len() + new.len()) as u32;
        new.extend(name.bytes().chain([0]));
        at
    }

    /// Headers for the image's parts; gives the number of the one with code.
    fn add_loaded(&mut self, image: &Image, names: usize) -> Result<u16, LinkError> {
        let alloc = elf::SHF_ALLOC;
        let parts = [
            (".rodata", &image.constants, alloc),
            (".text", &image.text, alloc | elf::SHF_EXECINSTR),
            (".data", &image.data, alloc | elf::SHF_WRITE),
            (".eh_frame", &image.frames, alloc),
            (".eh_frame_hdr", &image.search, alloc),
        ];
        let text = u16::try_from(self.headers.len() + 1).map_err(|_| LinkError("too many sections".into()))?;
        for (name, part, flags) in parts {
            let sh_name = self.name(names, &format!("{name}{SUFFIX}"));
            self.headers.push(section(sh_name, flags, part.at, part.bytes.len() as u64));
            self.contents.push(None);
        }
        let sh_name = self.name(names, &format!(".bss{SUFFIX}"));
        let (at, size) = (image.zeroes.start, image.zeroes.end - image.zeroes.start);
        self.headers.push(Section {
            sh_type: U32::new(LE, elf::SHT_NOBITS),
            ..section(sh_name, alloc | elf::SHF_WRITE, at, size)
        });
        self.contents.push(None);
        Ok(text)
    }

    fn position(&self, exe: &Exe, name: &str) -> Option<usize> {
        exe.sections.iter().position(|header| exe.sections.section_name(LE, header).ok() == Some(name.as_bytes()))
    }

    /// Functions of the image, behind all other symbols. They are global, because local ones would have to come first.
    fn add_symbols(&mut self, draft: &Draft, image: &Image, text: u16) -> Result<(), LinkError> {
        let stripped = || LinkError("the executable has no symbol table".into());
        let table = draft.exe.sections.iter().position(|header| header.sh_type(LE) == elf::SHT_SYMTAB);
        let table = table.ok_or_else(stripped)?;
        let strings = self.headers.get(table).map_or(0, |header| header.sh_link(LE)) as usize;
        for (part, at) in &image.places {
            let Some(object) = draft.objects.get(part.0).filter(|object| object.section(part.1).role == Role::Text)
            else {
                continue;
            };
            for symbol in object.defined_in(part.1).iter().map(|id| object.symbol(*id)) {
                let (Place::In(_, offset), SymbolKind::Function) = (symbol.place, symbol.kind) else { continue };
                // A damaged object may have it anywhere.
                let Some(value) = at.checked_add(offset) else { continue };
                let name = self.name(strings, object.name(symbol));
                let symbol = Symbol {
                    st_name: U32::new(LE, name),
                    st_info: elf::STB_GLOBAL << 4 | elf::STT_FUNC,
                    st_other: elf::STV_HIDDEN,
                    st_shndx: U16::new(LE, text),
                    st_value: U64::new(LE, value),
                    st_size: U64::new(LE, symbol.size),
                };
                let Some(Some((_, new))) = self.contents.get_mut(table) else { return Err(stripped()) };
                new.extend(raw(&symbol));
            }
        }
        Ok(())
    }

    /// Debug information behind the executable's. Where that is compressed there is none for what is new.
    fn add_debug(&mut self, draft: &Draft, image: &Image, names: usize) {
        let exe = draft.exe;
        let is_compressed = |header: &Section| header.sh_flags(LE) & u64::from(elf::SHF_COMPRESSED) != 0;
        if self.headers.iter().any(is_compressed) {
            return;
        }
        let has_code = |index: usize| {
            let is_code =
                |part: &(usize, _)| part.0 == index && draft.objects[index].section(part.1).role == Role::Text;
            draft.kept.iter().any(is_code)
        };
        let objects = draft.objects.iter().enumerate().filter(|(index, _)| has_code(*index));
        let contents = |name: &str| self.contents.get(self.position(exe, name)?)?.as_ref();
        let before = |name: &str| contents(name).map_or(0, |(old, _)| old.len() as u64);
        let address = |index: usize, section| image.places.get(&(index, section)).copied();
        let debug = Debug {
            objects: objects.map(|(index, object)| (index, &**object)).collect(),
            before: &before,
            address: &address,
        };
        let mut additions = debug.additions();
        let frames = debug_frame(&image.frames.bytes, image.frames.at, before(DEBUG_FRAME) as usize);
        additions.push(Addition { section: DEBUG_FRAME.to_owned(), bytes: frames });
        // An index of debug information would hide what it does not list.
        let indices = [".gdb_index", ".debug_names"].map(|name| self.position(exe, name));
        for index in indices.into_iter().flatten() {
            self.headers[index].sh_type = U32::new(LE, elf::SHT_NULL);
        }
        for Addition { section: name, bytes } in additions {
            let at = self.position(exe, &name).unwrap_or_else(|| {
                let sh_name = self.name(names, &name);
                self.headers.push(section(sh_name, 0, 0, 0));
                self.contents.push(Some((&[], Vec::new())));
                self.headers.len() - 1
            });
            if let Some(Some((_, new))) = self.contents.get_mut(at) {
                new.extend(bytes);
            }
        }
    }

    /// Headers of what lay in the old part and moved to the image.
    fn move_loaded(&mut self, tables: &Tables) {
        for Moved { kind, from, to } in &tables.moved {
            let is_it = |header: &&mut Section| header.sh_type(LE) == *kind && Some(header.sh_addr(LE)) == *from;
            if let Some(header) = self.headers.iter_mut().find(is_it) {
                header.sh_addr = U64::new(LE, to.start);
                header.sh_offset = U64::new(LE, to.start);
                header.sh_size = U64::new(LE, to.end - to.start);
            }
        }
    }

    /// Contents from `end` on, then the headers; where those are.
    fn steps(&mut self, mut end: u64) -> (u64, Vec<FileStep<'d>>) {
        let mut steps = Vec::new();
        for (header, contents) in self.headers.iter_mut().zip(&mut self.contents) {
            let Some((old, new)) = contents.take() else { continue };
            // What is not loaded needs no stricter place; a damaged header may ask for one.
            end = end.next_multiple_of(header.sh_addralign(LE).clamp(1, PAGE));
            header.sh_offset = U64::new(LE, end);
            header.sh_size = U64::new(LE, (old.len() + new.len()) as u64);
            steps.push(FileStep::Write(end, old.into()));
            steps.push(FileStep::Write(end + old.len() as u64, new.clone().into()));
            end += (old.len() + new.len()) as u64;
        }
        let at = end.next_multiple_of(8);
        steps.push(FileStep::Write(at, self.headers.iter().flat_map(raw).collect::<Vec<u8>>().into()));
        (at, steps)
    }
}

fn section(sh_name: u32, flags: u32, at: u64, size: u64) -> Section {
    Section {
        sh_name: U32::new(LE, sh_name),
        sh_type: U32::new(LE, elf::SHT_PROGBITS),
        sh_flags: U64::new(LE, flags.into()),
        sh_addr: U64::new(LE, at),
        sh_offset: U64::new(LE, at),
        sh_size: U64::new(LE, size),
        sh_link: U32::new(LE, 0),
        sh_info: U32::new(LE, 0),
        sh_addralign: U64::new(LE, 1),
        sh_entsize: U64::new(LE, 0),
    }
}
