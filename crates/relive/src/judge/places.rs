//! The places of reasons: what the rules found, with the file and line that they did not know.
//!
//! The rules name items; this pass, made once when they have spoken, looks each one up: functions and variables in the
//! debug information of the new objects, everything else in the sources. A file or line that a rule has given stays,
//! unless the sources know better.

use std::path::PathBuf;

use rustc_hash::FxHashMap;

use super::source::{Sources, Spot};
use super::{Reason, TypeSet, static_type};
use crate::binary::names;

/// Reasons that are looked up. Nobody reads more of them, and each takes the parsing of some files.
const MOST: usize = 32;

/// Fills in where the items of `reasons` are. `new` are the objects that were judged.
pub fn place(reasons: &mut [Reason], new: &TypeSet, sources: &Sources) {
    let mut functions = None;
    for reason in reasons.iter_mut().filter(|reason| reason.line.is_none()).take(MOST) {
        let spot = variable(new, &reason.item)
            .or_else(|| sources.find(&reason.item, &parts(&reason.message)))
            .or_else(|| setting(reason, sources))
            .or_else(|| functions.get_or_insert_with(|| of_functions(new)).get(&reason.item).cloned());
        if let Some(Spot { file, line }) = spot {
            (reason.file, reason.line) = (Some(file), Some(line));
        }
    }
}

/// What debug information says about a static or thread-local.
fn variable(new: &TypeSet, item: &str) -> Option<Spot> {
    let mut statics = new.objects.iter().flat_map(|object| &object.statics);
    let variable = statics.find(|variable| {
        static_type::item_name(&variable.qualified) == item || names::readable(&variable.linkage_name) == item
    })?;
    spot(variable.file.as_deref(), variable.line)
}

/// What it says about every function; made only if one is asked for, since there are many.
fn of_functions(new: &TypeSet) -> FxHashMap<String, Spot> {
    let functions = new.objects.iter().flat_map(|object| &object.functions);
    let known = functions.filter_map(|function| {
        Some((names::readable(&function.linkage_name), spot(function.file.as_deref(), function.line)?))
    });
    known.collect()
}

fn spot(file: Option<&str>, line: Option<u32>) -> Option<Spot> {
    Some(Spot { file: PathBuf::from(file?), line: line? })
}

/// The fields, variants and methods that a message names in backticks, in its order, up to one that is gone: then the
/// definition itself is the place.
fn parts(message: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut pieces = message.split('`').skip(1);
    while let (Some(quoted), rest) = (pieces.next(), pieces.next().unwrap_or("")) {
        if rest.split(',').next().is_some_and(|clause| clause.ends_with(" gone")) {
            break;
        }
        let name = quoted.split_once(": ").map_or(quoted, |(name, _)| name);
        if !name.contains("::") {
            out.push(name);
        }
    }
    out
}

/// For a unit or a dependency: the line of a manifest that made it so.
fn setting(reason: &Reason, sources: &Sources) -> Option<Spot> {
    let keys: &[&str] = match reason.rule {
        "optimised-unit" => &["opt-level", "inherits"],
        "no-type-info" => &["debug", "split-debuginfo", "strip"],
        "dependency-changed" => return sources.setting(&[&reason.item]),
        _ => return None,
    };
    sources.setting(keys)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::judge::SourceCrate;

    #[test]
    fn what_a_message_names_is_looked_for_until_something_is_gone() {
        let message = "`app::World` grew from 8 to 24 bytes: new field `at: std::T` at offset 0, `name` moved from 0 to 8, \
                       field `old: u8` is gone, `last` moved from 1 to 9";
        assert_eq!(parts(message), ["at", "name"]);
        assert_eq!(parts("`app::M` shrank: variant `Fast` (stored as 1) is gone, variant `Slow` was stored"), [""; 0]);
        assert_eq!(parts("objects of trait `app::A` had 2: `legs`, `arms` are gone"), ["legs"]);
        assert_eq!(parts("nothing is named"), [""; 0]);
    }

    #[test]
    fn reasons_get_the_places_that_the_rules_did_not_know() {
        let read = |path: &Path| match path.to_str()? {
            "/p/main.rs" => Some("struct World {\n    speed: u8,\n}\n".to_owned()),
            "/p/Cargo.toml" => {
                Some("[dependencies]\nserde = \"1\"\n[profile.dev]\ndebug = 0\nopt-level = 1\n".to_owned())
            }
            _ => None,
        };
        let app = SourceCrate { name: "app".into(), root: "/p/main.rs".into() };
        let sources = Sources { crates: vec![app], manifests: vec!["/p/Cargo.toml".into()], read: &read };
        let reason = |rule, item: &str, message: &str, file: Option<&str>, line| Reason {
            rule,
            item: item.to_owned(),
            message: message.to_owned(),
            help: String::new(),
            file: file.map(PathBuf::from),
            line,
        };
        let mut reasons = vec![
            reason("type-layout", "app::World", "grew: new field `speed: u8`", Some("/p/guess.rs"), None),
            reason("type-layout", "app::World", "grew", Some("/p/known.rs"), Some(7)),
            reason("type-layout", "app::Macro", "grew", Some("/p/guess.rs"), None),
            reason("optimised-unit", "app (bin)", "", None, None),
            reason("no-type-info", "app (bin)", "", None, None),
            reason("dependency-changed", "serde", "", None, None),
            reason("no-agent", "the running program", "", None, None),
        ];
        place(&mut reasons, &TypeSet::default(), &sources);
        let places = reasons.iter().map(|reason| {
            let file = reason.file.as_ref().map_or("", |file| file.to_str().unwrap_or_default());
            (file, reason.line.unwrap_or(0))
        });
        assert_eq!(
            places.collect::<Vec<_>>(),
            [
                ("/p/main.rs", 2),
                ("/p/known.rs", 7),
                ("/p/guess.rs", 0),
                ("/p/Cargo.toml", 5),
                ("/p/Cargo.toml", 4),
                ("/p/Cargo.toml", 2),
                ("", 0),
            ]
        );
    }
}
