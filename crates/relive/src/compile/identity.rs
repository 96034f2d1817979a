//! Crates that cargo calls by another name than before: takes the units that run and those of a new build, says which are
//! the same, and gives a command that compiles the new source under the old name. The name (`-C metadata`) is in every
//! symbol and in every `TypeId`: without it the running program's values would be of foreign types. cargo makes it from a
//! crate's dependencies, features, version and profile.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::arguments::{self, Arguments};
use super::baseline::Unit;
use super::outputs::Known;
use super::record::Raw;

/// What a unit of a new build is to those that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// This one.
    Same(usize),
    /// This one, under another name.
    Renamed(usize),
    /// None of them.
    New,
    /// One of several; which one cannot be told.
    Unclear,
}

/// The place of each of `fresh` among `known`.
pub(crate) fn places(known: &[Unit], fresh: &[Unit]) -> Vec<Place> {
    let is_fresh = |unit: &Unit| fresh.iter().any(|other| other.key == unit.key);
    let is_known = |unit: &Unit| known.iter().any(|other| other.key == unit.key);
    let alike = |a: &Unit, b: &Unit| a.crate_name == b.crate_name && a.is_lib == b.is_lib;
    let place = |unit: &Unit| {
        if let Some(at) = known.iter().position(|old| old.key == unit.key) {
            return Place::Same(at);
        }
        let mut olds = known.iter().enumerate().filter(|(_, old)| alike(old, unit) && !is_fresh(old));
        let rivals = fresh.iter().filter(|other| alike(other, unit) && !is_known(other)).count();
        match (olds.next(), olds.next()) {
            (None, _) => Place::New,
            (Some((at, _)), None) if rivals == 1 => Place::Renamed(at),
            (Some(_), _) => Place::Unclear,
        }
    };
    fresh.iter().map(place).collect()
}

/// Gives the units among `fresh` that are renamed ones of `known` their old names, and has all of `fresh` use these.
pub(crate) fn keep(known: &[Unit], fresh: &mut [Unit], places: &[Place]) {
    let stem = |known: &Known| OsString::from(format!("lib{}", known.parsed.stem()));
    let mut names: HashMap<OsString, OsString> = HashMap::new();
    let old = |place: &Place| match place {
        Place::Renamed(at) => known.get(*at),
        Place::Same(_) | Place::New | Place::Unclear => None,
    };
    for (unit, place) in fresh.iter().zip(places) {
        names.extend(old(place).map(|old| (stem(&unit.known), stem(&old.known))));
    }
    for (unit, place) in fresh.iter_mut().zip(places).filter(|_| !names.is_empty()) {
        let old = old(place).map_or_else(|| unit.known.clone(), |old| old.known.clone());
        unit.known = named_as(&unit.known, &old, &|path| renamed(path, &names));
        unit.key = unit.known.parsed.key();
    }
}

fn renamed(path: &Path, names: &HashMap<OsString, OsString>) -> Option<PathBuf> {
    let mut name = names.get(path.file_stem()?)?.clone();
    name.push(".");
    name.push(path.extension()?);
    Some(path.with_file_name(name))
}

/// `new` compiled as `old` was called.
fn named_as(new: &Known, old: &Known, library: &dyn Fn(&Path) -> Option<PathBuf>) -> Known {
    let args: Vec<OsString> = new.record.args.iter().map(|arg| arg.0.clone()).collect();
    let args = arguments::named(&args, &old.parsed, library);
    let parsed = Arguments::parse(&args, new.parsed.package_bin);
    let mut record = new.record.clone();
    record.args = args.into_iter().map(Raw).collect();
    record.objects.clone_from(&old.record.objects);
    Known { record, parsed, folder: old.folder.clone() }
}
