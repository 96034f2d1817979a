//! Where the tables are in an ELF file or an archive.

use object::LittleEndian as LE;
use object::elf::{self, FileHeader64};
use object::read::archive::ArchiveFile;
use object::read::elf::{FileHeader, SectionHeader};

use super::mutate::{Seed, Table};

/// A file to damage.
pub(crate) fn seed(name: impl Into<String>, bytes: Vec<u8>) -> Seed {
    let groups = elf_tables(&bytes).or_else(|| archive_tables(&bytes)).unwrap_or_default();
    Seed::with_tables(name, bytes, groups)
}

fn elf_tables(bytes: &[u8]) -> Option<Vec<Vec<Table>>> {
    let header = FileHeader64::<LE>::parse(bytes).ok()?;
    let array = |start: u64, count: u16, entry: usize| {
        let start = start as usize;
        vec![Table { range: start..start + entry * usize::from(count), entry }]
    };
    let mut groups = vec![
        array(0, 1, 64),
        array(header.e_phoff(LE), header.e_phnum(LE), 56),
        array(header.e_shoff(LE), header.e_shnum(LE), 64),
    ];
    let sections = header.sections(LE, bytes).ok()?;
    let mut kinds: Vec<(u32, bool, Vec<Table>)> = Vec::new();
    for section in sections.iter() {
        let Some((start, len)) = section.file_range(LE) else { continue };
        let name = sections.section_name(LE, section).unwrap_or_default();
        let entry = match section.sh_type(LE) {
            elf::SHT_SYMTAB | elf::SHT_DYNSYM | elf::SHT_RELA => 24,
            _ if name == b".eh_frame" => 4,
            _ => 1,
        };
        let table = Table { range: start as usize..(start + len) as usize, entry };
        let special = name.starts_with(b".debug_") || name == b".eh_frame";
        if special {
            groups.push(vec![table]);
            continue;
        }
        let kind = (section.sh_type(LE), section.sh_flags(LE) & u64::from(elf::SHF_EXECINSTR) != 0);
        match kinds.iter_mut().find(|known| (known.0, known.1) == kind) {
            Some(known) => known.2.push(table),
            None => kinds.push((kind.0, kind.1, vec![table])),
        }
    }
    groups.extend(kinds.into_iter().map(|kind| kind.2));
    Some(groups)
}

fn archive_tables(bytes: &[u8]) -> Option<Vec<Vec<Table>>> {
    const HEADER: usize = 60;
    let archive = ArchiveFile::parse(bytes).ok()?;
    let members = archive.members().filter_map(|member| Some(member.ok()?.file_range().0 as usize));
    let mut headers: Vec<_> = members.map(|start| Table { range: start - HEADER..start, entry: HEADER }).collect();
    // The table of symbols comes first: its header, how many there are, where each one's member is, their names.
    let end = headers.first()?.range.start;
    headers.push(Table { range: 8..8 + HEADER, entry: HEADER });
    let table = Table { range: 8 + HEADER..end, entry: 4 };
    Some(vec![headers, vec![table]])
}
