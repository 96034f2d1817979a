use std::sync::atomic::{AtomicU64, Ordering};

static WORDS: AtomicU64 = AtomicU64::new(0);

pub fn word() -> String {
    format!("word={} said=plain", WORDS.fetch_add(1, Ordering::Relaxed))
}
