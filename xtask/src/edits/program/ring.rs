//! Generics that live in the state: rings of several sizes and types, and code that is generic over them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt::Display;

use crate::canary::Canary;

/// Lives in the state.
type Small = Ring<u16, 4>;
/// Lives in the state.
type Large = Ring<u64, 9>;
/// Lives in the state.
type Key = u32;

/// No object of it is ever made.
trait Measure {
    const UNIT: u64;
    fn measure(&self) -> u64;
    fn doubled(&self) -> u64 {
        self.measure() * 2 + Self::UNIT
    }
}

/// Lives in the state.
#[derive(Clone, Debug)]
struct Ring<T, const N: usize> {
    slots: [T; N],
    next_slot: usize,
    ring_canary: Canary,
}

/// Lives in the state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ticket {
    ticket_rank: u64,
    ticket_name: String,
}

/// Lives in the state.
struct Rings {
    small: Small,
    large: Large,
    queue: BinaryHeap<Reverse<Ticket>>,
    table: BTreeMap<Key, Vec<Option<u64>>>,
}

/// Lives within one input.
struct Window<'a, T> {
    window_items: &'a [T],
    window_step: usize,
}

pub fn part() -> Box<dyn crate::Part> {
    let (small, large) = (Ring::new(1), Ring::new(2));
    Box::new(Rings { small, large, queue: BinaryHeap::new(), table: BTreeMap::new() })
}

impl<T: Copy + Default + Into<u64>, const N: usize> Ring<T, N> {
    fn new(seed: u64) -> Ring<T, N> {
        Ring { slots: [T::default(); N], next_slot: 0, ring_canary: Canary::new(seed) }
    }

    fn push(&mut self, value: T) -> T {
        let slot = self.next_slot % N;
        let old = std::mem::replace(&mut self.slots[slot], value);
        self.next_slot = slot + 1;
        old
    }

    fn fold<A>(&self, start: A, join: impl Fn(A, T) -> A) -> A {
        self.slots.iter().fold(start, |sum, slot| join(sum, *slot))
    }
}

impl<T: Copy + Default + Into<u64>, const N: usize> Measure for Ring<T, N> {
    const UNIT: u64 = 3;

    fn measure(&self) -> u64 {
        self.fold(0, |sum: u64, slot| sum.wrapping_mul(31).wrapping_add(slot.into())) % 1_000_003
    }
}

impl Measure for Ticket {
    const UNIT: u64 = 11;

    fn measure(&self) -> u64 {
        self.ticket_rank + self.ticket_name.len() as u64
    }
}

impl<T: Copy + Into<u64>> Iterator for Window<'_, T> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let (first, _) = self.window_items.split_first()?;
        let step = self.window_step.min(self.window_items.len());
        self.window_items = &self.window_items[step..];
        Some((*first).into())
    }
}

impl crate::Part for Rings {
    fn input(&mut self, number: u64, text: &str) -> String {
        match number % 6 {
            0 => format!("small {} of {}", self.small.push((number % 60_000) as u16), self.small.measure()),
            1 => format!("large {} of {}", self.large.push(number), self.large.doubled()),
            2 => self.enqueue(number, text),
            3 => self.dequeue(),
            4 => self.note(number),
            _ => self.summary(number as usize % 3 + 1),
        }
    }

    fn check(&self) -> Result<(), String> {
        self.small.ring_canary.intact("the small ring")?;
        self.large.ring_canary.intact("the large ring")?;
        if self.small.next_slot > 64 { Err(format!("the small ring is at {}", self.small.next_slot)) } else { Ok(()) }
    }
}

impl Rings {
    fn enqueue(&mut self, number: u64, text: &str) -> String {
        let ticket_name = text.split(' ').last().unwrap_or_default().to_owned();
        let ticket = Ticket { ticket_rank: number % 31, ticket_name };
        let answer = shown(&ticket.doubled(), &ticket.ticket_name);
        self.queue.push(Reverse(ticket));
        answer
    }

    fn dequeue(&mut self) -> String {
        let first = self.queue.pop();
        let first = first.map(|Reverse(ticket)| format!("{} {}", ticket.ticket_rank, ticket.ticket_name));
        shown(&self.queue.len(), &first.unwrap_or_else(|| "nobody".to_owned()))
    }

    fn note(&mut self, number: u64) -> String {
        let key = (number % 10) as Key;
        let row = self.table.entry(key).or_default();
        row.push(if number % 3 == 0 { None } else { Some(number) });
        if row.len() > 5 {
            row.remove(0);
        }
        let filled = self.table.values().flatten().flatten();
        format!("row {key} sum {}", filled.fold(0_u64, |sum, value| sum.wrapping_add(*value)))
    }

    fn summary(&self, window_step: usize) -> String {
        let small: Vec<u64> = Window { window_items: &self.small.slots, window_step }.collect();
        let large: u64 = Window { window_items: &self.large.slots, window_step }.map(|value| value % 1000).sum();
        format!("{small:?} {large} {}", shown(&self.small.doubled(), &self.queue.len()))
    }
}

fn shown<A: Display, B: Display>(left: &A, right: &B) -> String {
    format!("<{left}|{right}>").replace('|', ":")
}
