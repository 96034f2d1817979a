//! The reserve in every thread for new thread-locals: where it is, checked, and how much of it is in use.
//!
//! Takes what the agent says and believes nothing of it: the reserve bears a mark in its template and in every thread. What
//! was given to a thread-local is never given to another, and what a switch that did not come about has written is
//! remembered, because storage that nobody wrote to is known to be zero.

use std::ops::Range;

use relive_process::memory::Memory;
use relive_wire::LiveAddr;
use relive_wire::agent::Hello;
use relive_wire::reserve::{RESERVE_ALIGN, RESERVE_MARK, RESERVE_SIZE, reserve_template};

use crate::Error;
use crate::diff::ThreadRoom;

/// The reserve of one program.
#[derive(Clone, Debug, Default)]
pub struct ThreadReserve {
    room: ThreadRoom,
    template: LiveAddr,
    maker: Range<LiveAddr>,
    /// Bytes from its beginning behind which nothing was ever written.
    written: u64,
}

impl ThreadReserve {
    /// The reserve that the agent of a program tells of; one without room if it is not there, unused.
    ///
    /// # Errors
    /// `Gone` if the program has ended.
    pub fn check(hello: &Hello, memory: &Memory) -> Result<ThreadReserve, Error> {
        let threads = hello.threads;
        let aligned = [threads.own, threads.template].iter().all(|at| at.0.is_multiple_of(RESERVE_ALIGN));
        let near = i32::try_from(threads.offset).is_ok_and(|offset| offset < 0);
        if threads.maker_size == 0 || !aligned || !near {
            return Ok(ThreadReserve::default());
        }
        for place in [threads.template, threads.own] {
            let mut bytes = [0; RESERVE_SIZE];
            if memory.read_some(place, &mut bytes)? < RESERVE_SIZE || bytes != reserve_template() {
                return Ok(ThreadReserve::default());
            }
        }
        Ok(ThreadReserve {
            room: ThreadRoom::at(threads.offset),
            template: threads.template,
            maker: threads.maker..threads.maker.plus(threads.maker_size),
            written: RESERVE_MARK.len() as u64,
        })
    }

    /// What of it is free.
    #[must_use]
    pub fn room(&self) -> ThreadRoom {
        self.room
    }

    /// Where the function is in which new threads get their copy of the template.
    #[must_use]
    pub fn maker(&self) -> &Range<LiveAddr> {
        &self.maker
    }

    /// Where the bytes at `offset` from the thread pointer are in the template.
    #[must_use]
    pub fn in_template(&self, offset: i64) -> LiveAddr {
        self.template.plus(self.inside(offset))
    }

    /// Whether the reserve of the thread whose thread pointer is `thread` bears the mark.
    ///
    /// # Errors
    /// `Gone` if the program has ended.
    pub fn is_marked(&self, memory: &Memory, thread: LiveAddr) -> Result<bool, Error> {
        let Some(start) = self.room.start() else { return Ok(false) };
        let mut mark = [0; RESERVE_MARK.len()];
        let got = memory.read_some(thread.plus(start as u64), &mut mark)?;
        Ok(got == mark.len() && mark == RESERVE_MARK)
    }

    /// Whether bytes at `offset` from the thread pointer may have been written.
    #[must_use]
    pub fn was_written(&self, offset: i64) -> bool {
        self.inside(offset) < self.written
    }

    /// Says that something may be written to what `room` has given away.
    pub fn writing(&mut self, room: &ThreadRoom) {
        self.written = self.written.max(room.used());
    }

    /// Says that new thread-locals live where `room` put them.
    pub fn taken(&mut self, room: ThreadRoom) {
        self.room = room;
    }

    fn inside(&self, offset: i64) -> u64 {
        self.room.start().map_or(0, |start| offset.wrapping_sub(start) as u64)
    }
}

#[cfg(test)]
mod tests {
    use relive_wire::agent::Threads;

    use super::*;

    #[repr(align(128))]
    struct Reserve([u8; RESERVE_SIZE]);

    /// A greeting of our own process, in which `template` and `own` are.
    fn hello(template: &Reserve, own: &Reserve) -> Hello {
        let [template, own] = [template, own].map(|place| LiveAddr(place.0.as_ptr() as u64));
        let threads = Threads { offset: -0x4000, own, template, maker: LiveAddr(0x1000), maker_size: 16 };
        let (version, pid, tid) = (0, std::process::id(), 0);
        Hello { version, pid, tid, exe_start: LiveAddr(0), control: LiveAddr(0), threads }
    }

    fn check(hello: &Hello) -> ThreadReserve {
        ThreadReserve::check(hello, &Memory::open(hello.pid).unwrap()).unwrap()
    }

    #[test]
    fn a_reserve_without_its_mark_or_in_use_has_no_room() {
        let (fresh, mut other) = (Reserve(reserve_template()), Reserve(reserve_template()));
        let good = hello(&fresh, &other);
        assert_eq!(check(&good).room(), ThreadRoom::at(-0x4000));
        let with = |change: fn(&mut Threads)| {
            let mut hello = good;
            change(&mut hello.threads);
            check(&hello).room()
        };
        let none = ThreadRoom::default();
        assert_eq!(with(|threads| threads.offset = 0x4000), none);
        assert_eq!(with(|threads| threads.own = threads.own.plus(8)), none);
        assert_eq!(with(|threads| threads.template = LiveAddr(0x80)), none);
        assert_eq!(with(|threads| threads.maker_size = 0), none);
        other.0[RESERVE_SIZE - 1] = 1;
        assert_eq!(check(&hello(&fresh, &other)).room(), none);
        assert_eq!(check(&hello(&other, &fresh)).room(), none);
    }

    #[test]
    fn what_a_lost_switch_may_have_written_is_remembered() {
        let (template, own) = (Reserve(reserve_template()), Reserve(reserve_template()));
        let mut reserve = check(&hello(&template, &own));
        let mut room = reserve.room();
        let first = room.take(8, 8).unwrap();
        assert!(!reserve.was_written(first));
        reserve.writing(&room);
        // The switch did not come about: the same place is given away again, and is not known to be zero.
        let mut room = reserve.room();
        assert_eq!(room.take(8, 8).unwrap(), first);
        let second = room.take(8, 8).unwrap();
        assert!(reserve.was_written(first) && !reserve.was_written(second));
        reserve.taken(room);
        assert!(reserve.room().take(8, 8).unwrap() > second);
        assert_eq!(reserve.in_template(first).0 - template.0.as_ptr() as u64, first.abs_diff(-0x4000));
    }
}
