//! Pages that are writable for a moment, and what they were before.
//!
//! Takes regions and pages of a suspended task, gives each page its own protection back when dropped. Never makes a page
//! that is writable and executable. What it does not give back is the maximum protection of pages that had to be copied:
//! copies may be made writable again, and the kernel has no call that takes that back and leaves the rest.

use super::kernel::{KernReturn, Kernel, VmProt, VmRegion};
use super::{Pages, Process, insist};
use crate::{Error, Result};

/// The guard.
#[derive(Debug)]
pub(super) struct Unlocked<'a, K: Kernel> {
    process: &'a Process<K>,
    /// What is to be given back, in the order in which it was taken.
    before: Vec<(Pages, VmProt)>,
}

impl<'a, K: Kernel> Unlocked<'a, K> {
    pub(super) fn new(process: &'a Process<K>) -> Unlocked<'a, K> {
        Unlocked { process, before: Vec::new() }
    }

    /// Makes `pages` of `region` writable; those that are stay as they are.
    pub(super) fn unlock(&mut self, region: &VmRegion, pages: Pages) -> Result<()> {
        if region.protection.has(VmProt::WRITE) {
            return Ok(());
        }
        let wanted = VmProt::READ.with(VmProt::WRITE);
        // Where the maximum has no writing, the kernel grants it for a copy alone.
        let copies = !region.max_protection.has(VmProt::WRITE);
        let wanted = if copies { wanted.with(VmProt::COPY) } else { wanted };
        // Noted first: to give back what was not taken does no harm.
        self.before.push((pages, region.protection.rights()));
        let Process { kernel, task, .. } = self.process;
        kernel
            .protect(*task, pages.start, pages.len(), wanted)
            .map_err(|code| self.process.error(&format!("make the pages at {} writable", pages.start), code))
    }

    /// Gives everything back.
    ///
    /// # Errors
    /// Names the first pages that could not be; the others have been.
    pub(super) fn restore(mut self) -> Result<()> {
        self.give_back()
    }

    fn give_back(&mut self) -> Result<()> {
        let mut outcome = Ok(());
        let Process { kernel, task, .. } = self.process;
        while let Some((pages, before)) = self.before.pop() {
            let given = insist(|| kernel.protect(*task, pages.start, pages.len(), before));
            outcome = outcome.and(given.map_err(|code| self.error(pages, before, code)));
        }
        outcome
    }

    fn error(&self, pages: Pages, before: VmProt, code: KernReturn) -> Error {
        let step = format!("give the pages {}-{} their protection {before} back", pages.start, pages.end);
        match self.process.error(&step, code) {
            Error::Gone(text) => Error::Gone(text),
            // They are not executable now: nothing that the caller could try again.
            Error::Busy(text) | Error::Denied(text) | Error::Fatal(text) => Error::Fatal(text),
        }
    }
}

impl<K: Kernel> Drop for Unlocked<'_, K> {
    fn drop(&mut self) {
        // An error here has nobody to go to: this is a panic, or `restore` was called.
        let _ = self.give_back();
    }
}
