//! Addresses as files state them, and the only conversion to the addresses of a running program.

use relive_wire::LiveAddr;

/// An address as a binary's file states it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkAddr(pub u64);

/// How far a loaded binary lies from the addresses that its file states, modulo 2^64. Zero for a binary that can only be
/// loaded where it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slide(u64);

impl Slide {
    /// The slide at which the byte stated at `link` lies at `live`.
    #[must_use]
    pub fn between(link: LinkAddr, live: LiveAddr) -> Slide {
        Slide(live.0.wrapping_sub(link.0))
    }

    /// Where the running program has what the file states at `addr`.
    #[must_use]
    pub fn live(self, addr: LinkAddr) -> LiveAddr {
        LiveAddr(addr.0.wrapping_add(self.0))
    }

    /// Where the file states what the running program has at `addr`; the inverse of [`Slide::live`].
    #[must_use]
    pub fn link(self, addr: LiveAddr) -> LinkAddr {
        LinkAddr(addr.0.wrapping_sub(self.0))
    }

    /// Whether the binary lies where its file says.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl std::fmt::Display for Slide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (link, live) in [(0x1000, 0x5555_5555_5000), (0x1_0000_0000, 0x8000), (u64::MAX, 3)] {
            let slide = Slide::between(LinkAddr(link), LiveAddr(live));
            assert_eq!(slide.live(LinkAddr(link)), LiveAddr(live));
            for addr in [0, link, u64::MAX] {
                assert_eq!(slide.link(slide.live(LinkAddr(addr))), LinkAddr(addr));
            }
        }
    }
}
