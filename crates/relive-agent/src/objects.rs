//! The places of images, announced as loaded objects.
//!
//! Rust's standard library reads `dl_iterate_phdr` once, at the first backtrace, and keeps the list for ever; it also keeps
//! the files that it has opened. Code that comes later would have no names. So the list has one fixed object per granule:
//! path, bias and range are known in advance, nobody opens the file before an address falls into it, and no two images
//! share one. Arenas themselves come last: whoever takes the first object that has an address gets the granule.
//!
//! The list is made when it is first asked for, in one mapping that is never freed; the iteration itself allocates nothing.

use std::sync::OnceLock;
use std::sync::atomic::AtomicPtr;

use relive_wire::NearLayout;
use relive_wire::near::{ARENA_COUNT, GRANULE_SIZE, GRANULES, IMAGE_BIAS};

use crate::sys::{self, Object};

/// Number of granules.
const COUNT: u64 = ARENA_COUNT * GRANULES;
/// Decimal digits of a granule's number.
const DIGITS: usize = 5;
/// Bytes of `/`, the number, `.so` and the terminator.
const NAME_TAIL: usize = DIGITS + 5;

/// What to announce: the place of the arenas, and the directory of the files.
static PLACE: OnceLock<(NearLayout, &'static [u8])> = OnceLock::new();
static OBJECTS: AtomicPtr<Object> = AtomicPtr::new(std::ptr::null_mut());

/// Announces the granules of `layout` with files in `dir`. Without memory for the list nothing is announced.
pub(crate) fn announce(layout: NearLayout, dir: &[u8]) {
    if let Some(copy) = sys::leak_zeroed(dir.len()) {
        copy.copy_from_slice(dir);
        // A second constructor run is impossible; if it happened the first place stays.
        let _ = PLACE.set((layout, copy));
    }
}

/// Where arenas are; `None` before [`announce`].
pub(crate) fn arenas() -> Option<NearLayout> {
    PLACE.get().map(|(layout, _)| *layout)
}

/// The granules as objects; empty before [`announce`].
pub(crate) fn announced() -> &'static [Object] {
    let Some((layout, dir)) = PLACE.get() else { return &[] };
    sys::published(&OBJECTS, COUNT as usize, || list(*layout, dir))
}

/// The list, made anew. Threads that come at one time make it more than once: nobody waits, so that a signal handler and
/// the child of a fork can be among them.
fn list(layout: NearLayout, dir: &[u8]) -> Option<&'static mut [Object]> {
    let size = dir.len() + NAME_TAIL;
    let names = sys::leak_zeroed(COUNT as usize * size)?;
    let objects = sys::leak_objects(COUNT as usize)?;
    for ((index, name), object) in (0..COUNT).zip(names.chunks_exact_mut(size)).zip(objects.iter_mut()) {
        write_name(name, dir, index);
        *object = Object::new(name, IMAGE_BIAS, layout.granule(index).0 - IMAGE_BIAS, GRANULE_SIZE);
    }
    Some(objects)
}

/// `DIR/KKKKK.so` and a zero byte, exactly as long as `name`.
fn write_name(name: &mut [u8], dir: &[u8], index: u64) {
    let mut tail = *b"/00000.so\0";
    let mut rest = index;
    for digit in tail[1..=DIGITS].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    for (to, from) in name.iter_mut().zip(dir.iter().chain(&tail)) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_directory_and_five_digits() {
        let mut name = [b'?'; 4 + NAME_TAIL];
        write_name(&mut name, b"/a/b", 1907);
        assert_eq!(&name, b"/a/b/01907.so\0");
    }

    #[test]
    fn an_object_covers_its_granule() {
        let layout = NearLayout::below(relive_wire::LiveAddr(0x5555_5555_4000)).expect("there is room");
        announce(layout, b"/dir");
        let objects = announced();
        assert_eq!(objects.len(), COUNT as usize);
        let (start, size) = objects[515].range();
        assert_eq!((start, size), (layout.granule(515).0, GRANULE_SIZE));
        assert_eq!(objects[515].name().to_bytes(), b"/dir/00515.so");
        assert_eq!(announced().as_ptr(), objects.as_ptr());
    }
}
