use std::sync::atomic::{AtomicU64, Ordering};

static SLOTS: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];

pub fn line(count: u64) {
    SLOTS[count as usize % SLOTS.len()].fetch_add(1, Ordering::Relaxed);
    let total: u64 = SLOTS.iter().map(|slot| slot.load(Ordering::Relaxed)).sum();
    println!("count={count} total={total} slots={} text=plain", SLOTS.len());
}
