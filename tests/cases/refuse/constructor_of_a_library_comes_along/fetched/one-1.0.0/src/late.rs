//! Set up before `main`, in programs that use it.

use std::sync::atomic::{AtomicU32, Ordering};

static LEVEL: AtomicU32 = AtomicU32::new(0);

#[unsafe(link_section = ".init_array")]
pub static SET_UP: extern "C" fn() = set_up;

extern "C" fn set_up() {
    LEVEL.store(7, Ordering::Relaxed);
}

pub fn text() -> String {
    format!("by=late level={}", LEVEL.load(Ordering::Relaxed))
}
