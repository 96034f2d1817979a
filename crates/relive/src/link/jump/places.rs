//! Where the parts of a jump table's library lie, and their bytes.

use std::sync::Arc;

use crate::binary::object::{Object, Role};
use crate::link::LinkError;
use crate::link::buffer::{Buffer, Room};
use crate::link::shared::{FIRST, Part, SEGMENT_ALIGN};

/// Where the parts of the library are: each with a beginning and an end.
pub(super) struct Places {
    constants: (u64, u64),
    search: u64,
    frames: u64,
    text: (u64, u64),
    data: (u64, u64),
}

/// The parts with their bytes.
pub(super) struct Bytes {
    pub(super) constants: Part,
    pub(super) search: Part,
    pub(super) frames: Part,
    pub(super) text: Part,
    pub(super) data: Part,
}

impl Places {
    pub(super) fn lay_out(buffer: &mut Buffer, objects: &[Arc<Object>]) -> Result<Places, LinkError> {
        let relocs = || objects.iter().flat_map(|object| object.sections.iter().flat_map(|section| &section.relocs));
        // Every relocation may want a word and a stub, and no symbol more than one.
        let symbols = objects.iter().map(|object| object.symbols.len()).sum::<usize>().min(relocs().count()) as u64;
        let entries = objects.iter().flat_map(|object| object.frames.of.values().flatten());
        let entries_len = entries.clone().map(|frame| frame.fde.range.end - frame.fde.range.start).sum::<u64>();
        let cies = objects.iter().flat_map(|object| &object.frames.cies);
        let cies_len = cies.map(|cie| cie.range.end - cie.range.start).sum::<u64>();
        let constants = (FIRST, buffer.place_all(&[Role::ReadOnly, Role::Lsda], FIRST)?);
        let search = constants.1.next_multiple_of(16);
        let frames = (search + 12 + 8 * entries.count() as u64).next_multiple_of(16);
        let text = (frames + entries_len + cies_len + 4).next_multiple_of(SEGMENT_ALIGN);
        let stubs = buffer.place_all(&[Role::Text], text)?.next_multiple_of(16);
        let text = (text, stubs + 16 * symbols);
        let data = text.1.next_multiple_of(SEGMENT_ALIGN);
        let variables = buffer.place_all(&[Role::RelRo, Role::Data, Role::Bss], data)?;
        let words = variables.next_multiple_of(16);
        let data = (data, words + 8 * symbols);
        buffer.set_room(Room::new(words..data.1, stubs..text.1));
        Ok(Places { constants, search, frames, text, data })
    }

    pub(super) fn resolve(&self, buffer: &mut Buffer) -> Result<Bytes, LinkError> {
        let part = |(start, end): (u64, u64)| Part { at: start, bytes: vec![0; (end - start) as usize] };
        let (mut constants, mut text, mut data) = (part(self.constants), part(self.text), part(self.data));
        let frames = buffer.frames(self.frames)?;
        let search = frames.header(self.search, self.frames)?;
        let mut bytes = frames.bytes;
        bytes.extend([0; 4]);
        let far = |error: LinkError| {
            LinkError(format!("{error}; the instruction would have to be near the program, where no library is"))
        };
        for write in buffer.resolve().map_err(far)?.writes {
            let mut parts = [&mut constants, &mut text, &mut data].into_iter();
            let field = parts.find_map(|part| {
                let start = usize::try_from(write.at.checked_sub(part.at)?).ok()?;
                part.bytes.get_mut(start..start + write.new.len())
            });
            field.ok_or_else(|| LinkError("a part outside the library".into()))?.copy_from_slice(&write.new);
        }
        let (search, frames) = (Part { at: self.search, bytes: search }, Part { at: self.frames, bytes });
        Ok(Bytes { constants, search, frames, text, data })
    }
}
