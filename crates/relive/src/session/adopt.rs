//! After a commit: what runs is now the new build.
//!
//! Takes the delta that was committed and the image, if one was needed, and brings `Running` up to date: objects are
//! exchanged, and every name of the new build says where it lives.

use crate::diff::running::{Body, LiveFunction};
use crate::diff::{Delta, Fate, Live, Running};
use crate::link::{Image, LinkedFunction};

/// Makes `running` describe the process after `delta` was committed with `image`.
pub(super) fn adopt(running: &mut Running, delta: Delta, image: Option<&Image>) {
    let fates = settle(running, &delta);
    for key in delta.removed {
        running.remove(key);
    }
    for object in delta.objects {
        running.insert(object);
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
    for item in &image.library_functions {
        let body = Body { addr: item.addr, size: item.size };
        let function =
            LiveFunction { canonical: item.addr, call: item.addr, index: None, bodies: vec![body], older: Vec::new() };
        running.set(item.name, Some(Live::Function(function)));
    }
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
fn settle(running: &Running, delta: &Delta) -> Vec<(crate::binary::object::NameId, Option<Live>)> {
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
    for (name, (old, text)) in &delta.renamed {
        out.push((*name, running.resolve(*old, text).ok().flatten()));
    }
    out
}
