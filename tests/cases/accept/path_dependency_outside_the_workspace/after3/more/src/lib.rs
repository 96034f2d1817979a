use std::sync::atomic::{AtomicU64, Ordering};

static NUMBERS: AtomicU64 = AtomicU64::new(0);

pub fn number() -> String {
    format!("number={} by=far", NUMBERS.fetch_add(1, Ordering::Relaxed))
}
