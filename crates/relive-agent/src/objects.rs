//! The places of images, announced as loaded objects from the start.
//!
//! Rust's standard library reads `dl_iterate_phdr` once, at the first backtrace, and keeps the list for ever. An image
//! opened later would have no names. So the list ends with one fixed object per slot: path, bias and range are known
//! in advance, and nobody opens the file before an address falls into it.
//!
//! Everything is built once, before `main`, in one mapping that is never freed; the iteration itself allocates nothing.

use std::sync::OnceLock;

use relive_wire::NearLayout;
use relive_wire::near::{IMAGE_BIAS, SLOT_COUNT, SLOT_SIZE};

use crate::sys::{self, Object};

/// Bytes of `/KKKK.so` and the terminator.
const NAME_TAIL: usize = 9;

static OBJECTS: OnceLock<&'static [Object]> = OnceLock::new();

/// Announces the slots of `layout` with files in `dir`. Without memory for the list nothing is announced.
pub(crate) fn announce(layout: NearLayout, dir: &[u8]) {
    let slots = SLOT_COUNT as usize;
    let (Some(names), Some(objects)) = (sys::leak_zeroed(slots * (dir.len() + NAME_TAIL)), sys::leak_objects(slots))
    else {
        return;
    };
    let names = names.chunks_exact_mut(dir.len() + NAME_TAIL);
    for ((index, name), object) in (0..SLOT_COUNT).zip(names).zip(objects.iter_mut()) {
        write_name(name, dir, index);
        *object = Object::new(name, IMAGE_BIAS, layout.slot(index).0 - IMAGE_BIAS, SLOT_SIZE);
    }
    // A second constructor run is impossible; if it happened the first list stays.
    let _ = OBJECTS.set(objects);
}

/// What comes after the real objects; empty before [`announce`].
pub(crate) fn announced() -> &'static [Object] {
    OBJECTS.get().copied().unwrap_or_default()
}

/// `DIR/KKKK.so` and a zero byte, exactly as long as `name`.
fn write_name(name: &mut [u8], dir: &[u8], index: u64) {
    let digit = |unit: u64| b'0' + (index / unit % 10) as u8;
    let tail = [b'/', digit(1000), digit(100), digit(10), digit(1), b'.', b's', b'o', 0];
    for (to, from) in name.iter_mut().zip(dir.iter().chain(&tail)) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_directory_and_four_digits() {
        let mut name = [b'?'; 4 + NAME_TAIL];
        write_name(&mut name, b"/a/b", 1907);
        assert_eq!(&name, b"/a/b/1907.so\0");
    }

    #[test]
    fn an_object_covers_its_slot() {
        let layout = NearLayout::below(relive_wire::LiveAddr(0x5555_5555_4000)).expect("there is room");
        announce(layout, b"/dir");
        let objects = announced();
        assert_eq!(objects.len(), SLOT_COUNT as usize);
        let (start, size) = objects[3].range();
        assert_eq!((start, size), (layout.slot(3).0, SLOT_SIZE));
        assert_eq!(objects[3].name().to_bytes(), b"/dir/0003.so");
    }
}
