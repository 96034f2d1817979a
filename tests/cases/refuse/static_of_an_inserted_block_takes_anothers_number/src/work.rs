use std::sync::atomic::{AtomicU64, Ordering};

pub fn counts() -> String {
    let mut out = String::new();
    {
        static HITS: AtomicU64 = AtomicU64::new(0);
        out += &format!(" second={}", HITS.fetch_add(1, Ordering::Relaxed));
    }
    out
}
