//! A line every few milliseconds, until stdin is closed.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

static WATCH: Once = Once::new();
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Waits for the next line's time; false once stdin is closed.
pub fn tick() -> bool {
    WATCH.call_once(|| {
        std::thread::spawn(|| {
            let _ = std::io::read_to_string(std::io::stdin());
            CLOSED.store(true, Ordering::Relaxed);
        });
    });
    std::thread::sleep(Duration::from_millis(30));
    !CLOSED.load(Ordering::Relaxed)
}
