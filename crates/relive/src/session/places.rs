//! The sources of the program, for the judge to name the places of its reasons.
//!
//! Files are read when a place in them is asked for, which is after the judge has spoken and only for what it has found.

use std::fs;

use crate::compile::Baseline;
use crate::judge::{self, SourceCrate, Sources, TypeSet};

/// Fills in the files and lines that `reasons` about the objects `new` do not have.
pub(super) fn place(reasons: &mut [judge::Reason], new: &TypeSet, baseline: &Baseline) {
    let known =
        |unit: &crate::compile::Unit| Some(SourceCrate { name: unit.crate_name.clone(), root: unit.root_file()? });
    let mut manifests: Vec<_> = baseline.units.iter().rev().filter_map(|unit| unit.manifest()).collect();
    manifests.push(baseline.workspace_manifest());
    manifests.dedup();
    let crates = baseline.units.iter().filter_map(known).collect();
    judge::place(reasons, new, &Sources { crates, manifests, read: &|path| fs::read_to_string(path).ok() });
}
