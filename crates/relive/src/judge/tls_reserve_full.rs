//! Rule `tls-reserve-full`: the storage for new thread-locals is used up.

use super::rule::{Reason, Rule};
use super::{DeltaFacts, Item, static_type};

/// The rule in words.
pub(super) const RULE: Rule = Rule {
    id: "tls-reserve-full",
    title: "The storage for new thread-locals is used up",
    what: "The edit adds a thread-local that is larger than what is left of the storage that every thread has for new \
           ones: 8176 bytes from the start of the program.",
    why: "The storage of each thread is laid out when the program starts, and every byte of it is taken from every \
          thread's stack, so only a little is kept free. What a new thread-local was given stays its own: threads keep \
          their values in it.",
    example: "```rust\nthread_local! {\n    static SCRATCH: RefCell<[u8; 16384]> = RefCell::new([0; 16384]); // new\n}\n\
              ```\n\n\
              > `app::SCRATCH` needs 16400 bytes in every thread; 48 of the 8176 for new thread-locals are used and 8128 \
              are left",
    fix: "Keep a large value in a `Box` or `Vec`, of which the thread-local is only the pointer, or restart: the new \
          start has all edits built in and the storage empty.",
};

pub(super) fn check(delta: &DeltaFacts, reasons: &mut Vec<Reason>) {
    let mut told: Vec<&str> = Vec::new();
    for full in &delta.thread_reserve_full {
        let name = static_type::item_name(&full.item.name);
        if told.contains(&name) {
            continue;
        }
        let (size, used, total) = (full.size, full.used, full.total);
        let left = total.saturating_sub(used);
        let message = format!(
            "`{name}` needs {size} bytes in every thread; {used} of the {total} for new thread-locals are used and \
             {left} are left"
        );
        let item = Item { name: name.to_owned(), ..full.item.clone() };
        reasons.push(RULE.refuse(&item, message, "A `Box` in the thread-local takes 8 bytes of it."));
        told.push(name);
    }
}

#[cfg(test)]
mod tests {
    use super::super::FullThreadReserve;
    use super::*;

    #[test]
    fn the_numbers_add_up_and_each_thread_local_is_told_once() {
        let full = |closure| FullThreadReserve {
            item: Item::named(format!("app::TABLE::{{constant#0}}::{{closure#{closure}}}::VAL")),
            size: 9000,
            used: 176,
            total: 8176,
        };
        let delta = DeltaFacts { thread_reserve_full: vec![full(0), full(1)], ..Default::default() };
        let mut reasons = Vec::new();
        check(&delta, &mut reasons);
        assert_eq!(reasons.len(), 1);
        assert_eq!(
            reasons[0].message,
            "`app::TABLE` needs 9000 bytes in every thread; 176 of the 8176 for new thread-locals are used and 8000 \
             are left"
        );
    }
}
