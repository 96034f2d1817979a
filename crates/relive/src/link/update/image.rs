//! Everything that comes along, with its place behind the executable and its final bytes.
//!
//! Takes a draft; gives parts with addresses on the executable's own scale, and what becomes of its variables and entries.
//! Every address is an offset in the file as well, so that a kernel which takes the one for the other is right.

use std::ops::Range;

use object::LittleEndian as LE;
use object::elf;
use object::read::elf::ProgramHeader as _;
use relive_wire::LiveAddr;
use rustc_hash::{FxHashMap, FxHashSet};

use super::{Draft, NOWHERE, Part, Redirect, THREAD_POINTER};
use crate::arch::x86_64::{ENTRY_JUMP_LEN, jump};
use crate::arch::{EntryPlan, Machine};
use crate::binary::address::LinkAddr;
use crate::binary::object::{Object, Role, SectionId};
use crate::binary::snapshot::BinarySymbol;
use crate::link::LinkError;
use crate::link::buffer::{Buffer, Frames, ObjectId, Room};
use crate::link::host::{item_name, names_at};
use crate::link::shared::Part as Loaded;

/// Dynamic entry of relocations that have no addends and are packed into bit masks (System V gABI).
const DT_RELR: u32 = 36;

/// What segments begin at a multiple of.
pub(super) const PAGE: u64 = 0x1000;

/// More than an edit brings, in bytes.
const SIZE_MAX: u64 = 1 << 30;

/// What alignments can leave between things, in bytes: the largest one, 64 KiB, a hundred times.
const GAPS_MAX: u64 = 100 << 16;

/// More thread-locals than an edit brings, in bytes: those that begin as zeroes take room in the file, because the old ones
/// come behind them.
const THREADS_MAX: u64 = 1 << 20;

/// The thread-local block that threads begin with, where there are new thread-locals: they lie before the old ones, which keep
/// their distance from the thread pointer (psABI for x86-64, TLS variant II).
pub(super) struct ThreadBlock {
    /// Where its first bytes lie.
    pub(super) at: u64,
    pub(super) file_size: u64,
    pub(super) size: u64,
    pub(super) align: u64,
    /// What is before the old first byte.
    before: u64,
}

/// See the module.
pub(super) struct Image {
    pub(super) constants: Loaded,
    pub(super) text: Loaded,
    pub(super) data: Loaded,
    /// Storage behind it that begins as zeroes, and is in memory only.
    pub(super) zeroes: Range<u64>,
    pub(super) frames: Loaded,
    pub(super) search: Loaded,
    pub(super) threads: Option<ThreadBlock>,
    /// What its segments have to be aligned to, wherever they are loaded.
    pub(super) align: u64,
    /// Variables of the executable: where, and what they begin with.
    pub(super) variables: Vec<Loaded>,
    /// The places of variables that were there before; what the loader wrote to them is void.
    pub(super) rewritten: Vec<Range<u64>>,
    /// Jumps at old entries.
    pub(super) entries: Vec<Loaded>,
    /// Words that hold addresses, and which.
    pub(super) pointers: Vec<(u64, u64)>,
    /// Where each part lies; not for thread-locals.
    pub(super) places: FxHashMap<Part, u64>,
}

impl Image {
    pub(super) fn link(draft: &Draft) -> Result<Image, LinkError> {
        let mut buffer = Buffer::new(Machine::X86_64, Room::new(0..0, 0..0), true, THREAD_POINTER);
        fill(draft, &mut buffer)?;
        let mut room = Laid::out(draft, &mut buffer)?;
        let frames_at = room.zeroes.end.next_multiple_of(PAGE);
        let frames = buffer.frames(frames_at)?;
        copy_thread_block(draft, room.threads.as_ref(), &mut room.data)?;
        let places = Places { draft, threads: room.threads.as_ref() };
        places.clear_thread_locals(&mut room.data)?;
        for write in buffer.resolve()?.writes {
            let at = places.image_addr(write.at).unwrap_or(write.at);
            let mut parts = [&mut room.constants, &mut room.text, &mut room.data].into_iter();
            // What is in none lies in the executable, and is taken whole below.
            if let Some(field) = parts.find_map(|part| field(part, at, write.new.len())) {
                field.copy_from_slice(&write.new);
            }
        }
        let mut pointers = buffer.pointers();
        for (at, _) in &mut pointers {
            *at = places.loaded_addr(*at).unwrap_or(*at);
        }
        let (mut variables, rewritten) = places.variables(&buffer)?;
        clear(&mut pointers, &mut room.data, &mut variables);
        let addr = |part: &Part| buffer.atom(ObjectId(part.0), part.1).map(|(addr, _)| (*part, addr));
        let mut at: FxHashMap<Part, u64> = draft.kept.iter().filter_map(addr).collect();
        at.retain(|_, addr| *addr < NOWHERE / 4);
        let (search_at, search) = places.search_table(&frames, frames_at)?;
        let align = draft.kept.iter().filter_map(|part| Some(draft.objects.get(part.0)?.section(part.1).align));
        Ok(Image {
            align: align.fold(PAGE, u64::max),
            entries: places.entries(&at)?,
            variables,
            rewritten,
            constants: room.constants,
            text: room.text,
            data: room.data,
            zeroes: room.zeroes,
            frames: Loaded { at: frames_at, bytes: [&*frames.bytes, &[0; 4]].concat() },
            search: Loaded { at: search_at, bytes: search },
            threads: room.threads,
            pointers,
            places: at,
        })
    }
}

/// Parts with their places, empty.
struct Laid {
    constants: Loaded,
    text: Loaded,
    data: Loaded,
    zeroes: Range<u64>,
    threads: Option<ThreadBlock>,
}

impl Laid {
    /// Gives everything its place behind the executable.
    fn out(draft: &Draft, buffer: &mut Buffer) -> Result<Laid, LinkError> {
        let (memory, file) = draft.exe.ends().ok_or_else(|| LinkError("the executable ends nowhere".into()))?;
        let start = memory.max(file).next_multiple_of(PAGE);
        let threads = new_thread_locals(draft, buffer)?;
        let words = wanted_words(draft);
        let sizes = draft.kept.iter().filter_map(|part| Some(draft.objects.get(part.0)?.section(part.1).size));
        let content = sizes.fold(24 * words, u64::saturating_add);
        let constants_end = buffer.place_all(&[Role::ReadOnly, Role::Lsda], start)?;
        let text = page_after(constants_end, start, content)?;
        let stubs = page_after(buffer.place_all(&[Role::Text], text)?, start, content)?;
        let data = page_after(stubs + 16 * words, start, content)?;
        let words_at = page_after(buffer.place_all(&[Role::RelRo, Role::Data], data)?, start, content)?;
        let words_end = words_at + 8 * words;
        buffer.set_room(Room::new(words_at..words_end, stubs..stubs + 16 * words));
        let threads = threads.map(|block| ThreadBlock { at: words_end.next_multiple_of(block.align), ..block });
        let data_end = threads.as_ref().map_or(words_end, |block| block.at + block.file_size);
        let zeroes = data_end..buffer.place_all(&[Role::Bss], data_end)?;
        page_after(zeroes.end, start, content)?;
        let part = |at: u64, end: u64| Loaded { at, bytes: vec![0; (end - at) as usize] };
        Ok(Laid {
            constants: part(start, constants_end),
            text: part(text, stubs + 16 * words),
            data: part(data, data_end),
            zeroes,
            threads,
        })
    }
}

/// The first page that begins at `end` or behind it. `start` is where the image begins, which has so many bytes of `content`.
fn page_after(end: u64, start: u64, content: u64) -> Result<u64, LinkError> {
    if end - start > SIZE_MAX {
        return Err(LinkError(format!("what is new takes more than {} MiB", SIZE_MAX >> 20)));
    }
    if end - start > content.saturating_add(GAPS_MAX) {
        return Err(LinkError("alignments of what is new leave more room than they should".into()));
    }
    Ok(end.next_multiple_of(PAGE))
}

fn field(part: &mut Loaded, at: u64, len: usize) -> Option<&mut [u8]> {
    let start = usize::try_from(at.checked_sub(part.at)?).ok()?;
    part.bytes.get_mut(start..start.checked_add(len)?)
}

/// Words for weak symbols that nothing defines hold 0, wherever the program is loaded.
fn clear(pointers: &mut Vec<(u64, u64)>, data: &mut Loaded, variables: &mut [Loaded]) {
    pointers.retain(|(at, value)| {
        let is_null = value.abs_diff(NOWHERE) < NOWHERE / 2;
        let mut all = std::iter::once(&mut *data).chain(&mut *variables);
        if is_null && let Some(word) = all.find_map(|part| field(part, *at, 8)) {
            word.fill(0);
        }
        !is_null
    });
}

/// Puts everything in, and says what is there already.
fn fill(draft: &Draft, buffer: &mut Buffer) -> Result<(), LinkError> {
    for (index, object) in draft.objects.iter().enumerate() {
        let id = buffer.add(object.clone())?;
        for number in 0..object.sections.len() as u32 {
            let section = SectionId(number);
            let part = (index, section);
            if let Some(at) = draft.bound.get(&part) {
                buffer.bind(id, section, *at)?;
            } else if let Some(at) = draft.in_place.get(&part) {
                buffer.place(id, section, *at)?;
            } else if !draft.kept.contains(&part) {
                buffer.exclude(id, section);
            }
        }
    }
    for (name, at) in &draft.outside {
        buffer.define(*name, *at);
    }
    Ok(())
}

fn object<'a>(draft: &'a Draft, part: &Part) -> Result<&'a Object, LinkError> {
    draft.objects.get(part.0).map(|object| &**object).ok_or_else(|| LinkError("a part of no object".into()))
}

/// How many words of addresses there can be at most: one for each symbol that is referred to.
fn wanted_words(draft: &Draft) -> u64 {
    let mut symbols = FxHashSet::default();
    for part in &draft.kept {
        let Some(object) = draft.objects.get(part.0) else { continue };
        let relocs = object.section(part.1).relocs.iter().chain(object.frames.relocs(part.1));
        symbols.extend(relocs.map(|reloc| (part.0, reloc.symbol, reloc.kind.operand())));
    }
    symbols.len() as u64
}

/// Gives new thread-locals their places before those of the executable.
fn new_thread_locals(draft: &Draft, buffer: &mut Buffer) -> Result<Option<ThreadBlock>, LinkError> {
    let is_new = |part: &&Part| !draft.in_place.contains_key(*part);
    let sections = draft.kept.iter().filter(is_new).filter_map(|part| Some(draft.objects.get(part.0)?.section(part.1)));
    let new: Vec<_> = sections.filter(|section| section.role.is_tls()).collect();
    if new.is_empty() {
        return Ok(None);
    }
    let old = draft.exe.segment(elf::PT_TLS);
    if old.is_some_and(|old| old.p_filesz(LE) > 0) && draft.exe.value(DT_RELR).is_some() {
        return Err(LinkError("new thread-locals, and packed relocations (DT_RELR)".into()));
    }
    if draft.exe.exports_thread_locals() {
        return Err(LinkError("new thread-locals, and the executable exports some".into()));
    }
    let (old_align, old_size) = old.map_or((1, 0), |old| (old.p_align(LE).max(1), old.p_memsz(LE)));
    let align = new.iter().map(|section| section.align).fold(old_align, u64::max);
    let (align, old_size) = (align, old_size.next_multiple_of(old_align));
    let room = new.iter().try_fold(0_u64, |sum, section| sum.checked_add(section.size)?.checked_add(section.align));
    let too_much = || LinkError("the new thread-locals take too much".into());
    let room = room.filter(|room| *room < THREADS_MAX).ok_or_else(too_much)?;
    // The whole block ends at the thread pointer, and so does the old one.
    let whole = (old_size + room).next_multiple_of(align);
    buffer.place_all(&[Role::TlsData, Role::TlsBss], THREAD_POINTER - whole)?;
    let before = whole - old_size;
    let size = before + old.map_or(0, |old| old.p_memsz(LE));
    let file_size = before + old.map_or(0, |old| old.p_filesz(LE));
    Ok(Some(ThreadBlock { at: 0, file_size, size, align, before }))
}

fn copy_thread_block(draft: &Draft, block: Option<&ThreadBlock>, data: &mut Loaded) -> Result<(), LinkError> {
    let (Some(block), Some(old)) = (block, draft.exe.segment(elf::PT_TLS)) else { return Ok(()) };
    let bytes = draft.exe.loaded(old.p_vaddr(LE), old.p_filesz(LE));
    let copy = bytes.and_then(|from| Some((field(data, block.at + block.before, from.len())?, from)));
    let (to, from) = copy.ok_or_else(|| LinkError("the executable's thread-local block is not loaded".into()))?;
    to.copy_from_slice(from);
    Ok(())
}

/// What is where in the executable.
struct Places<'a, 'o, 'd> {
    draft: &'a Draft<'o, 'd>,
    threads: Option<&'a ThreadBlock>,
}

impl Places<'_, '_, '_> {
    /// Where a thread-local at `at` has its first bytes in the image.
    fn image_addr(&self, at: u64) -> Option<u64> {
        let block = self.threads?;
        let whole = block.size.next_multiple_of(block.align);
        let inside = at.checked_sub(THREAD_POINTER - whole).filter(|inside| *inside < whole)?;
        Some(block.at + inside)
    }

    /// Where a thread-local at `at` has its first bytes, in the image or the executable; those that begin as zeroes have none.
    fn loaded_addr(&self, at: u64) -> Option<u64> {
        self.image_addr(at).or_else(|| {
            let old = self.draft.exe.segment(elf::PT_TLS)?;
            let whole = old.p_memsz(LE).next_multiple_of(old.p_align(LE).max(1));
            let inside = at.checked_sub(THREAD_POINTER - whole).filter(|inside| *inside < old.p_filesz(LE))?;
            old.p_vaddr(LE).checked_add(inside)
        })
    }

    /// Thread-locals that stay where they are and begin as zeroes now: the block's copy has what they began with.
    fn clear_thread_locals(&self, data: &mut Loaded) -> Result<(), LinkError> {
        for (part, at) in &self.draft.in_place {
            let section = object(self.draft, part)?.section(part.1);
            let Some(at) = self.image_addr(*at).filter(|_| section.role == Role::TlsBss) else { continue };
            // Those that began as zeroes before are not in the file.
            let Some(end) = data.at.checked_add(data.bytes.len() as u64) else { continue };
            let len = section.size.min(end.saturating_sub(at));
            if let Some(room) = field(data, at, usize::try_from(len).unwrap_or(usize::MAX)) {
                room.fill(0);
            }
        }
        Ok(())
    }

    /// Refuses a variable that is written where the executable has constants.
    fn check_access(&self, object: &Object, section: SectionId, at: u64) -> Result<(), LinkError> {
        let what = object.section(section);
        let is_variable = matches!(what.role, Role::Data | Role::Bss);
        let Some((flags, sealed)) = self.draft.exe.access(at) else { return Ok(()) };
        if (is_variable || !what.relocs.is_empty()) && flags & elf::PF_W == 0 || is_variable && sealed {
            let name = item_name(object, section);
            return Err(LinkError(format!("`{name}` lies among the executable's constants, and is none any more")));
        }
        let of_name = |symbol: &BinarySymbol| self.draft.original.exe.name(symbol) == item_name(object, section);
        let mut others = self.draft.original.exe.data_at(LinkAddr(at));
        match others.find(|symbol| !of_name(symbol)) {
            None => Ok(()),
            Some(other) => Err(LinkError(format!(
                "`{}` and `{}` are one in the executable",
                item_name(object, section),
                self.draft.original.exe.name(&other)
            ))),
        }
    }

    /// Variables that stay where they are, with what they begin with.
    fn variables(&self, buffer: &Buffer) -> Result<(Vec<Loaded>, Vec<Range<u64>>), LinkError> {
        let (mut out, mut rewritten) = (Vec::new(), Vec::new());
        if !self.draft.in_place.is_empty() && self.draft.exe.value(DT_RELR).is_some() {
            return Err(LinkError("a variable that unchanged code refers to, and packed relocations (DT_RELR)".into()));
        }
        for (part, at) in &self.draft.in_place {
            let object = object(self.draft, part)?;
            let (_, bytes) = buffer.atom(ObjectId(part.0), part.1).unwrap_or_default();
            let size = object.section(part.1).size;
            let at = self.loaded_addr(*at).unwrap_or(*at);
            rewritten.push(at..at.saturating_add(size));
            let in_image = self.threads.is_some_and(|block| (block.at..block.at + block.file_size).contains(&at));
            if in_image {
                continue; // Written with the image.
            }
            self.check_access(object, part.1, at)?;
            if let Some(old) = self.draft.exe.loaded(at, size) {
                out.push(Loaded { at, bytes: if bytes.is_empty() { vec![0; old.len()] } else { bytes.to_vec() } });
            } else if bytes.iter().any(|byte| *byte != 0) {
                let name = item_name(object, part.1);
                return Err(LinkError(format!("`{name}` begins as zeroes in the executable, and no longer")));
            }
        }
        Ok((out, rewritten))
    }

    /// Jumps from old entries.
    fn entries(&self, places: &FxHashMap<Part, u64>) -> Result<Vec<Loaded>, LinkError> {
        let mut all: Vec<(u64, u64)> = Vec::new();
        let mut out = Vec::new();
        for Redirect { entry, size, to, offset } in &self.draft.redirects {
            let name = || item_name(&self.draft.objects[to.0], to.1).to_owned();
            let target = places.get(to).and_then(|at| at.checked_add(*offset));
            let target = target.ok_or_else(|| LinkError(format!("`{}` has no address", name())))?;
            match all.iter().find(|(from, _)| *from == entry.0) {
                Some((_, there)) if *there == target => continue,
                Some(_) => return Err(self.shared(*entry)),
                None => all.push((entry.0, target)),
            }
            let host = &self.draft.original.exe;
            let room = host.entry_shape(*entry).map_or(0, |shape| shape.room).min(size.saturating_add(16));
            let bytes = host.code(*entry, room.max(*size)).unwrap_or_default();
            EntryPlan::examine(LiveAddr(entry.0), *size, bytes)
                .map_err(|why| LinkError(format!("a jump does not fit at the entry of `{}`: {why}", name())))?;
            let code: Option<[u8; ENTRY_JUMP_LEN]> = jump(LiveAddr(entry.0), LiveAddr(target));
            let code = code.ok_or_else(|| LinkError(format!("`{}` is out of reach of its old entry", name())))?;
            out.push(Loaded { at: entry.0, bytes: code.to_vec() });
        }
        // Functions with equal code may share it; a jump there leads all of them to one place.
        for redirect in self.draft.redirects.iter().filter(|one| self.draft.original.exe.is_shared(one.entry)) {
            let meant = self.draft.redirects.iter().filter(|one| one.entry == redirect.entry).count();
            if names_at(&self.draft.original.exe, redirect.entry).len() > meant {
                return Err(self.shared(redirect.entry));
            }
        }
        Ok(out)
    }

    fn shared(&self, entry: LinkAddr) -> LinkError {
        let names = names_at(&self.draft.original.exe, entry).join("`, `");
        LinkError(format!("functions that share their code in the executable, and not all in the new build: `{names}`"))
    }

    /// The search table over the executable's unwind entries and the new ones, behind these; and where it is.
    fn search_table(&self, frames: &Frames, at: u64) -> Result<(u64, Vec<u8>), LinkError> {
        let damaged = || LinkError("the executable's search table for unwind entries is not understood".into());
        let old = self.draft.exe.segment(elf::PT_GNU_EH_FRAME).ok_or_else(damaged)?;
        let header = old.p_vaddr(LE);
        let bytes = self.draft.exe.loaded(header, old.p_filesz(LE)).ok_or_else(damaged)?;
        let word = |at: usize| Some(i32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        // Version; how the next is written: distance from itself, count, distances from the header.
        if !bytes.starts_with(&[1, 0x1b, 0x03, 0x3b]) {
            return Err(damaged());
        }
        let entries = (header + 4).wrapping_add_signed(word(4).ok_or_else(damaged)?.into());
        let count = word(8).ok_or_else(damaged)? as u32 as usize;
        let table = bytes.get(12..).and_then(|table| table.get(..count.checked_mul(8)?)).ok_or_else(damaged)?;
        let mut all = Frames { bytes: Vec::new(), table: frames.table.clone() };
        for pair in table.chunks_exact(8) {
            let distance = |at: usize| pair.get(at..)?.first_chunk().map(|word| i64::from(i32::from_le_bytes(*word)));
            let (Some(function), Some(entry)) = (distance(0), distance(4)) else { return Err(damaged()) };
            all.table.push((header.wrapping_add_signed(function), header.wrapping_add_signed(entry)));
        }
        let search = (at + frames.bytes.len() as u64 + 4).next_multiple_of(8);
        Ok((search, all.header(search, entries)?))
    }
}
