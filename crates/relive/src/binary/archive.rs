//! Static libraries (`.rlib`, `.a`): which member defines a symbol.
//!
//! Takes the bytes of archives, gives member bytes by symbol name from the archives' own symbol tables. It does not
//! read the members.

use object::read::archive::ArchiveFile;
use rustc_hash::FxHashMap;

use crate::binary::bytes::Bytes;
use crate::binary::object::{NameId, ObjectError};

/// A member of an archive.
#[derive(Clone, Debug)]
pub struct Member {
    /// Index of the archive in the list the index was built from.
    pub archive: usize,
    /// Name of the member.
    pub name: String,
    /// Its bytes.
    pub data: Bytes,
}

/// The bytes of all members of an archive.
///
/// # Errors
/// If it is not a well-formed archive.
pub fn members(data: &Bytes) -> Result<Vec<Bytes>, ObjectError> {
    let damaged = |error: object::read::Error| ObjectError(format!("archive: {error}"));
    let mut out = Vec::new();
    for member in ArchiveFile::parse(&**data).map_err(damaged)?.members() {
        let (start, len) = member.map_err(damaged)?.file_range();
        let bytes = data.slice(start..start.saturating_add(len));
        out.push(bytes.ok_or_else(|| ObjectError("archive member: out of the file".into()))?);
    }
    Ok(out)
}

/// Symbol name to defining member, over a list of archives.
#[derive(Debug, Default)]
pub struct ArchiveIndex {
    archives: Vec<Bytes>,
    at: FxHashMap<NameId, (u32, u64)>,
}

impl ArchiveIndex {
    /// Adds an archive; the first definition of a name wins, as it does for a linker.
    ///
    /// # Errors
    /// If it is not an archive with a well-formed symbol table.
    pub fn add(&mut self, data: Bytes) -> Result<(), ObjectError> {
        let file = ArchiveFile::parse(&*data).map_err(|error| ObjectError(format!("archive: {error}")))?;
        let index = self.archives.len() as u32;
        if let Some(symbols) = file.symbols().map_err(|error| ObjectError(format!("archive symbol table: {error}")))? {
            for symbol in symbols {
                let symbol = symbol.map_err(|error| ObjectError(format!("archive symbol: {error}")))?;
                if let Ok(name) = std::str::from_utf8(symbol.name()) {
                    self.at.entry(NameId::of(name)).or_insert((index, symbol.offset().0));
                }
            }
        }
        self.archives.push(data);
        Ok(())
    }

    /// The member that defines `name`.
    ///
    /// # Errors
    /// If the archive is damaged.
    pub fn find(&self, name: NameId) -> Result<Option<Member>, ObjectError> {
        let Some((archive, offset)) = self.at.get(&name).copied() else { return Ok(None) };
        let damaged = |error: object::read::Error| ObjectError(format!("archive member: {error}"));
        let Some(data) = self.archives.get(archive as usize) else { return Ok(None) };
        let file = ArchiveFile::parse(&**data).map_err(damaged)?;
        let member = file.member(object::read::archive::ArchiveOffset(offset)).map_err(damaged)?;
        let (start, len) = member.file_range();
        let bytes = data
            .slice(start..start.saturating_add(len))
            .ok_or_else(|| ObjectError("archive member: out of the file".into()))?;
        let name = String::from_utf8_lossy(member.name()).into_owned();
        Ok(Some(Member { archive: archive as usize, name, data: bytes }))
    }
}
