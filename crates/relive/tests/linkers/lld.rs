//! What lld made: a link of given inputs, where it put each section, and the bytes of its output.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::path::Path;
use std::process::Command;

use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use relive::binary::object::{Object, SectionId};

use crate::inputs::{Input, Target};

/// A linked executable.
pub(crate) struct Linked {
    data: Vec<u8>,
    /// By name: address, place in the file, size.
    sections: HashMap<String, (u64, u64, u64)>,
    /// Where sections of inputs are: by input and section the output section's name and the address.
    pub(crate) placed: HashMap<(usize, SectionId), (String, u64)>,
    /// Start of the thread-local block and the thread pointer's distance from it.
    pub(crate) thread_block: u64,
    pub(crate) thread_pointer: u64,
    pub(crate) got: Option<u64>,
}

/// Links `inputs`.
pub(crate) fn link(target: Target, inputs: &[Input], dir: &Path, flags: &[&str]) -> Linked {
    let (map, out, list) = (dir.join("map"), dir.join("out"), dir.join("objects"));
    let names: Vec<String> = inputs.iter().map(|input| input.path.display().to_string()).collect();
    fs::write(&list, names.join("\n")).expect("a file in a new folder");
    let mut command = Command::new(target.linker());
    command.args(["-pie", "-O0", "--apply-dynamic-relocs", "-z", "muldefs", "-z", "notext", "--entry=0", "-Map"]);
    command.arg(&map).arg("-o").arg(&out).args(flags).arg(format!("@{}", list.display()));
    let result = command.output().expect("lld runs");
    assert!(result.status.success(), "lld: {}", String::from_utf8_lossy(&result.stderr));
    let data = fs::read(&out).expect("lld's output");
    let text = fs::read_to_string(&map).expect("lld's map");
    let file = object::File::parse(&*data).expect("an executable");
    let mut sections = HashMap::new();
    for section in file.sections() {
        let (offset, size) = section.file_range().unwrap_or((0, 0));
        sections.insert(section.name().expect("a name").to_owned(), (section.address(), offset, size));
    }
    let (thread_block, thread_pointer) = thread_block(&data);
    let mut symbols = file.symbols();
    let got = symbols.find(|symbol| symbol.name() == Ok("_GLOBAL_OFFSET_TABLE_")).map(|symbol| symbol.address());
    let placed = read_map(&text, inputs);
    Linked { sections, placed, thread_block, thread_pointer, got, data }
}

impl Linked {
    /// `size` bytes of output section `name` at `addr`.
    pub(crate) fn bytes(&self, name: &str, addr: u64, size: u64) -> &[u8] {
        let (start, offset, len) = self.sections[name];
        let inside = addr.checked_sub(start).filter(|inside| inside + size <= len).expect("a range of the section");
        &self.data[(offset + inside) as usize..][..size as usize]
    }

    /// The output section with `addr` and its bytes from there.
    pub(crate) fn at(&self, addr: u64) -> Option<(&str, &[u8])> {
        let inside = |(start, _, len): &(u64, u64, u64)| *start != 0 && *start <= addr && addr < start + len;
        let (name, (start, offset, len)) = self.sections.iter().find(|(_, range)| inside(range))?;
        Some((name, &self.data[(offset + addr - start) as usize..(offset + len) as usize]))
    }

    /// A section as a whole.
    pub(crate) fn section(&self, name: &str) -> Option<(u64, &[u8])> {
        let (start, offset, len) = *self.sections.get(name)?;
        Some((start, &self.data[offset as usize..(offset + len) as usize]))
    }
}

/// Start of the thread-local segment, and what the thread pointer is when the segment is where its address says
/// (ELF TLS: on x86-64 the aligned end, on AArch64 two words, aligned, before the start).
fn thread_block(data: &[u8]) -> (u64, u64) {
    use object::read::elf::{FileHeader as _, ProgramHeader as _};
    let header = object::elf::FileHeader64::<object::LittleEndian>::parse(data).expect("an executable");
    let endian = object::LittleEndian;
    let segments = header.program_headers(endian, data).expect("program headers");
    let Some(tls) = segments.iter().find(|segment| segment.p_type(endian) == object::elf::PT_TLS) else {
        return (0, 0);
    };
    let (start, size, align) = (tls.p_vaddr(endian), tls.p_memsz(endian), tls.p_align(endian).max(1));
    if header.e_machine.get(endian) == object::elf::EM_AARCH64 {
        return (start, start.wrapping_sub(16_u64.next_multiple_of(align)));
    }
    // The block ends at the thread pointer, and begins at an address that is congruent to the segment's.
    let end = start + size;
    (start, end + (end.wrapping_neg() & (align - 1)))
}

/// Where the names begin in a line of the map, behind two addresses, size and alignment.
const COLUMN: usize = 49;

fn read_map(text: &str, inputs: &[Input]) -> HashMap<(usize, SectionId), (String, u64)> {
    let index: HashMap<String, usize> =
        inputs.iter().enumerate().map(|(index, input)| (input.path.display().to_string(), index)).collect();
    let mut waiting: Vec<HashMap<&str, VecDeque<SectionId>>> =
        inputs.iter().map(|input| sections_by_name(&input.object)).collect();
    let mut out = HashMap::new();
    let mut section = "";
    for line in text.lines().skip(1) {
        let Some((numbers, rest)) = line.split_at_checked(COLUMN) else { continue };
        if !rest.starts_with(' ') {
            section = rest;
            continue;
        }
        let Some((file, name)) = rest.trim_start().strip_suffix(')').and_then(|rest| rest.split_once(":(")) else {
            continue;
        };
        let Some(input) = index.get(file) else { continue };
        let mut numbers = numbers.split_whitespace().map(|word| u64::from_str_radix(word, 16).expect("a number"));
        let (addr, size) = (numbers.next().expect("an address"), numbers.nth(1).expect("a size"));
        let object = &inputs[*input].object;
        let list = waiting[*input].get_mut(name);
        // One that is not there any more was dropped for another input's.
        let found = list.and_then(|list| {
            let at = list.iter().position(|id| object.section(*id).size == size)?;
            list.remove(at)
        });
        if let Some(id) = found {
            out.insert((*input, id), (section.to_owned(), addr));
        }
    }
    out
}

fn sections_by_name(object: &Object) -> HashMap<&str, VecDeque<SectionId>> {
    let mut out: HashMap<&str, VecDeque<SectionId>> = HashMap::new();
    for (index, section) in object.sections.iter().enumerate().skip(1) {
        out.entry(&section.name).or_default().push_back(SectionId(index as u32));
    }
    out
}
