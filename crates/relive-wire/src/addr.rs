//! An address in the running program, told apart from addresses stated in files.

use core::fmt;

/// An address in the running program's address space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct LiveAddr(pub u64);

impl LiveAddr {
    /// The address `bytes` further on; wraps, as addresses computed from hostile input must not panic.
    #[must_use]
    pub const fn plus(self, bytes: u64) -> LiveAddr {
        LiveAddr(self.0.wrapping_add(bytes))
    }

    /// How many bytes `self` lies above `base`, as a signed distance.
    #[must_use]
    pub const fn minus(self, base: LiveAddr) -> i64 {
        self.0.wrapping_sub(base.0) as i64
    }
}

impl fmt::Display for LiveAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for LiveAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LiveAddr({:#x})", self.0)
    }
}
