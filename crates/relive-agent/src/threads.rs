//! Where threads keep the reserve for the thread-locals of patches, and where threads are made.
//!
//! Gives what [`Hello`](relive_wire::agent::Hello) says of it, as seen from the calling thread; nothing at all if a part of
//! it cannot be found. relive checks it before it trusts it.

use relive_wire::LiveAddr;
use relive_wire::agent::Threads;

use crate::sys;

/// What the calling thread sees.
pub(crate) fn describe() -> Threads {
    let own = sys::reserve();
    let (Some(template), Some((maker, maker_size))) = (sys::template_of(own), sys::thread_maker()) else {
        return Threads::default();
    };
    let [own, template, maker] = [own, template, maker].map(|place| LiveAddr(place as u64));
    Threads { offset: own.minus(sys::thread_pointer()), own, template, maker, maker_size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_at_one_distance_in_all_threads() {
        let here = describe();
        let there = std::thread::spawn(describe).join().expect("it does not panic");
        assert_ne!(here, Threads::default());
        assert_ne!(here.own, there.own);
        assert_eq!(Threads { own: here.own, ..there }, here);
        assert_eq!(here.own.0 % relive_wire::reserve::RESERVE_ALIGN, 0);
    }
}
