//! After a commit: what runs is now the new build.
//!
//! Takes the delta that was committed and the image, if one was needed, and brings `Running` up to date: objects are
//! exchanged, and every name of the new build says where it lives.

use rustc_hash::FxHashSet;

use crate::binary::object::{NameId, Object};
use crate::diff::running::{Body, LiveFunction, is_definition};
use crate::diff::{Delta, Fate, Live, Running};
use crate::link::{Image, LinkedFunction};

/// Makes `running` describe the process after `delta` was committed with `image`.
pub(super) fn adopt(running: &mut Running, delta: Delta, image: Option<&Image>) {
    let fates = settle(running, &delta);
    let mut left: FxHashSet<NameId> = FxHashSet::default();
    for key in delta.removed {
        left.extend(running.object(key).into_iter().flat_map(|old| names(&old.object)));
        running.remove(key);
    }
    for object in delta.objects {
        running.insert(object);
    }
    // A name that left the build may come back for something else: what the process has under it is old code's alone.
    for name in left {
        if running.definitions(name).is_empty() {
            running.set(name, None);
        }
    }
    for (name, live) in fates {
        running.set(name, live);
    }
    let Some(image) = image else { return };
    for function in &image.functions {
        running.set(function.name, Some(Live::Function(live(function))));
    }
    for item in &image.data {
        running.set(item.name, Some(Live::Data(item.addr, item.size)));
    }
    for new in &image.thread_locals {
        running.set(new.name, Some(Live::ThreadLocal(new.offset)));
    }
    for item in &image.library_functions {
        let body = Body { addr: item.addr, size: item.size };
        let function =
            LiveFunction { canonical: item.addr, call: item.addr, index: None, bodies: vec![body], older: Vec::new() };
        running.set(item.name, Some(Live::Function(function)));
    }
}

fn names(object: &Object) -> impl Iterator<Item = NameId> + '_ {
    object.symbols.iter().filter(|symbol| is_definition(object, symbol)).map(|symbol| symbol.id)
}

fn live(function: &LinkedFunction) -> LiveFunction {
    LiveFunction {
        canonical: function.canonical,
        call: function.stub,
        index: Some(function.index),
        bodies: vec![function.body],
        older: function.older.clone(),
    }
}

/// Where the names of the new build live that the image does not hold: all are looked up before any is written, since
/// names may have changed places.
fn settle(running: &Running, delta: &Delta) -> Vec<(NameId, Option<Live>)> {
    let mut out = Vec::new();
    for (name, fate) in &delta.fates {
        match fate {
            Fate::Same(old) if old == name && !running.is_overlaid(*name) => {}
            Fate::Same(old) | Fate::Changed(old) => {
                let live = running.name_of(*old).and_then(|text| running.resolve(*old, &text).ok().flatten());
                if old != name || live.is_some() {
                    out.push((*name, live));
                }
            }
            Fate::New => out.push((*name, None)),
        }
    }
    for (name, old) in &delta.renamed {
        let live = old.as_ref().and_then(|(old, text)| running.resolve(*old, text).ok().flatten());
        out.push((*name, live));
    }
    out
}
