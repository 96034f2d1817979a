//! Shared, immutable bytes of a file or of a member of an archive.
//!
//! Takes any owner of bytes (a mapping, a vector), gives cheap clones and sub-ranges. Reads no files itself.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// A range of somebody's bytes, kept alive by it.
#[derive(Clone)]
pub struct Bytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl Bytes {
    /// All bytes of `owner`.
    pub fn new(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Bytes {
        let range = 0..owner.as_ref().len();
        Bytes { owner: Arc::new(owner), range }
    }

    /// The bytes in `range`; `None` if it does not lie within.
    #[must_use]
    pub fn slice(&self, range: Range<u64>) -> Option<Bytes> {
        let start = self.range.start.checked_add(usize::try_from(range.start).ok()?)?;
        let end = self.range.start.checked_add(usize::try_from(range.end).ok()?)?;
        (start <= end && end <= self.range.end).then(|| Bytes { owner: Arc::clone(&self.owner), range: start..end })
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.owner.as_ref().as_ref().get(self.range.clone()).unwrap_or_default()
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({} bytes)", self.len())
    }
}
