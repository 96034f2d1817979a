//! Before `main`: environment in, agent thread running, environment as the user's shell left it.
//!
//! Runs once, on the main thread, from the constructor in `sys`. Gives up quietly at the first thing that fails: the
//! program must start whatever happens, and relive learns of it because nobody accepts on the socket.

use std::ffi::CStr;

use relive_wire::agent::{ENV_DIR, ENV_FD, ENV_PRELOAD};

use crate::{forks, inbox, near, objects, sys};

/// Bytes of a path with its terminator; the directory of the images must fit.
const DIR_MAX: usize = 1024;

/// The agent's whole start.
pub(crate) fn start() {
    let (Some(fd), Some(dir)) = (sys::env(ENV_FD), sys::env(ENV_DIR)) else { return };
    let fd = fd.to_str().ok().and_then(|text| text.parse::<i32>().ok()).filter(|fd| *fd >= 0);
    // The value lies in the environment that is about to change, so it is copied first.
    let mut copy = [0_u8; DIR_MAX];
    let dir = copy_text(dir, &mut copy);
    restore_environment();
    let Some(fd) = fd else { return };
    let exe_start = sys::exe_start();
    let place = exe_start.and_then(near::map_control);
    if let (Some(place), Some(dir)) = (place, dir) {
        objects::announce(place, dir);
    }
    forks::watch();
    inbox::run(fd, exe_start.unwrap_or_default(), place.map(|place| place.control).unwrap_or_default());
}

/// The environment as it would be without relive.
fn restore_environment() {
    match sys::env(ENV_PRELOAD) {
        Some(value) => sys::set_env("LD_PRELOAD", value),
        None => sys::unset_env("LD_PRELOAD"),
    }
    for key in [ENV_FD, ENV_DIR, ENV_PRELOAD] {
        sys::unset_env(key);
    }
}

/// `text` in `out`, terminated; `None` if it is too long.
fn copy_text<'a>(text: &CStr, out: &'a mut [u8; DIR_MAX]) -> Option<&'a [u8]> {
    let bytes = text.to_bytes();
    let place = out.get_mut(..bytes.len())?;
    place.copy_from_slice(bytes);
    Some(place)
}
