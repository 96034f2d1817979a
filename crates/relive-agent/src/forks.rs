//! Keeps forks of the program and the opening of images apart.
//!
//! A fork copies the loader's lists as they are, and a child whose parent was just opening an image would have one in the
//! middle of it. So a fork waits until the opening is done, and an opening until no fork is under way. Both wait for a
//! limited time only: a thread may fork while it holds the loader's lock, which the opening waits for.
//!
//! What does not run the handlers of `pthread_atfork` (`vfork`, `posix_spawn`, bare system calls) is followed by an
//! `exec` as a rule, and is left alone.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::sys;

/// Longest wait, in naps of [`sys::nap`]: about a second.
const NAPS: u32 = 10_000;

static FORKS: AtomicU32 = AtomicU32::new(0);
static OPENING: AtomicBool = AtomicBool::new(false);

/// Has every fork from now on wait for an opening.
pub(crate) fn watch() {
    sys::around_forks(before, after);
}

extern "C" fn before() {
    FORKS.fetch_add(1, Ordering::SeqCst);
    wait_until(|| !OPENING.load(Ordering::SeqCst));
}

/// In the parent, and in the child, where nobody opens anything.
extern "C" fn after() {
    FORKS.fetch_sub(1, Ordering::SeqCst);
}

/// Runs `open` while no fork is under way.
pub(crate) fn apart<T>(open: impl FnOnce() -> T) -> T {
    wait_until(|| {
        OPENING.store(true, Ordering::SeqCst);
        let alone = FORKS.load(Ordering::SeqCst) == 0;
        if !alone {
            OPENING.store(false, Ordering::SeqCst);
        }
        alone
    });
    OPENING.store(true, Ordering::SeqCst);
    let opened = open();
    OPENING.store(false, Ordering::SeqCst);
    opened
}

fn wait_until(mut so: impl FnMut() -> bool) {
    for _ in 0..NAPS {
        if so() {
            return;
        }
        sys::nap();
    }
}
