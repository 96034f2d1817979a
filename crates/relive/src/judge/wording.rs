//! How a type differs from what it was, in words: sizes, fields, variants.

use crate::binary::types::{Description, Field, Variant};

/// How many single differences a sentence names.
const NAMED: usize = 3;

/// What happened to a type, as the rest of a sentence that begins with its name.
pub(super) fn difference(old: &Description, new: &Description) -> String {
    let mut details = Vec::new();
    fields(&old.fields, &new.fields, "", &mut details);
    variants(&old.variants, &new.variants, &mut details);
    tag(old.tag.as_ref(), new.tag.as_ref(), &mut details);
    if old.align != new.align && old.align != 0 && new.align != 0 {
        details.push(format!("its alignment is {} and was {}", new.align, old.align));
    }
    let size = match new.size.cmp(&old.size) {
        std::cmp::Ordering::Greater => format!("grew from {} to {}", old.size, bytes(new.size)),
        std::cmp::Ordering::Less => format!("shrank from {} to {}", old.size, bytes(new.size)),
        std::cmp::Ordering::Equal => format!("keeps its {} but is laid out differently", bytes(new.size)),
    };
    let more = details.len().saturating_sub(NAMED);
    details.truncate(NAMED);
    if more > 0 {
        details.push(format!("and {more} more"));
    }
    if details.is_empty() { size } else { format!("{size}: {}", details.join(", ")) }
}

/// The old and new names of fields that are only called otherwise; `None` if anything else is different, or if nothing
/// tells which of several is which.
pub(super) fn renamed(old: &Description, new: &Description) -> Option<Vec<(String, String)>> {
    let head = |of: &Description| (of.size, of.align, of.tag.clone());
    if head(old) != head(new) || old.variants.len() != new.variants.len() {
        return None;
    }
    let mut found = renamed_fields(&old.fields, &new.fields)?;
    for (was, is) in old.variants.iter().zip(&new.variants) {
        if (&was.name, was.discriminant) != (&is.name, is.discriminant) {
            return None;
        }
        found.extend(renamed_fields(&was.fields, &is.fields)?);
    }
    Some(found)
}

fn renamed_fields(old: &[Field], new: &[Field]) -> Option<Vec<(String, String)>> {
    let gone: Vec<&Field> = old.iter().filter(|field| !new.iter().any(|other| other.name == field.name)).collect();
    let come: Vec<&Field> = new.iter().filter(|field| !old.iter().any(|other| other.name == field.name)).collect();
    let stays = |field: &Field| new.contains(field) || gone.contains(&field);
    if old.len() != new.len() || !old.iter().all(stays) {
        return None;
    }
    let mut pairs = Vec::new();
    for (index, was) in gone.iter().enumerate() {
        let place = |field: &Field| (field.type_name.clone(), field.offset, field.size);
        let of_type = |field: &&&Field| field.type_name == was.type_name;
        if gone.iter().skip(index + 1).any(|other| of_type(&other)) {
            return None;
        }
        let mut same = come.iter().filter(of_type);
        let is = same.next().filter(|is| place(is) == place(was))?;
        pairs.push((was.name.clone(), is.name.clone()));
    }
    Some(pairs)
}

fn bytes(count: u64) -> String {
    if count == 1 { "1 byte".to_string() } else { format!("{count} bytes") }
}

/// A type as a reader would write it: paths into the standard library are cut to their last name, and the default
/// allocator is left out.
pub(super) fn plain(type_name: &str) -> String {
    let text = type_name.replace(", alloc::alloc::Global", "");
    let is_path = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(start) = rest.find(is_path) {
        let (before, path) = rest.split_at(start);
        out.push_str(before);
        let (path, after) = path.split_at(path.find(|letter| !is_path(letter)).unwrap_or(path.len()));
        let of_std = ["core::", "alloc::", "std::"].iter().any(|prefix| path.starts_with(prefix));
        out.push_str(if of_std { path.rsplit("::").next().unwrap_or(path) } else { path });
        rest = after;
    }
    out + rest
}

fn fields(old: &[Field], new: &[Field], within: &str, details: &mut Vec<String>) {
    let find = |list: &'_ [Field], name: &str| list.iter().position(|field| field.name == name);
    let mut gone: Vec<&Field> = old.iter().filter(|field| find(new, &field.name).is_none()).collect();
    for field in new.iter().filter(|field| find(old, &field.name).is_none()) {
        let renamed = |was: &&Field| was.offset == field.offset && was.type_name == field.type_name;
        if let Some(index) = gone.iter().position(renamed) {
            details.push(format!("field `{}`{within} is now called `{}`", gone.remove(index).name, field.name));
        } else {
            let (name, type_name, offset) = (&field.name, plain(&field.type_name), field.offset);
            details.push(format!("new field `{name}: {type_name}`{within} at offset {offset}"));
        }
    }
    for Field { name, type_name, .. } in gone {
        let type_name = plain(type_name);
        details.push(format!("field `{name}: {type_name}`{within} is gone"));
    }
    for field in new {
        let Some(was) = find(old, &field.name).and_then(|index| old.get(index)) else { continue };
        if was.type_name != field.type_name {
            let (name, before, after) = (&field.name, plain(&was.type_name), plain(&field.type_name));
            details.push(format!("field `{name}`{within} was `{before}` and is `{after}`"));
        } else if was.size != field.size {
            let (before, after) = (was.size.unwrap_or(0), field.size.unwrap_or(0));
            let (name, type_name) = (&field.name, plain(&field.type_name));
            details.push(format!("field `{name}: {type_name}`{within} takes {after} bytes and took {before}"));
        }
    }
    for field in new {
        let Some(was) = find(old, &field.name).and_then(|index| old.get(index)) else { continue };
        if was.offset != field.offset {
            details.push(format!("`{}`{within} moved from {} to {}", field.name, was.offset, field.offset));
        }
    }
}

fn variants(old: &[Variant], new: &[Variant], details: &mut Vec<String>) {
    let find = |list: &'_ [Variant], name: &str| list.iter().position(|variant| variant.name == name);
    for variant in new.iter().filter(|variant| find(old, &variant.name).is_none()) {
        details.push(format!("new variant `{}`{}", variant.name, stored_as(variant)));
    }
    for variant in old.iter().filter(|variant| find(new, &variant.name).is_none()) {
        details.push(format!("variant `{}`{} is gone", variant.name, stored_as(variant)));
    }
    for variant in new {
        let Some(was) = find(old, &variant.name).and_then(|index| old.get(index)) else { continue };
        match (was.discriminant, variant.discriminant) {
            (Some(before), Some(after)) if before != after => {
                details.push(format!("variant `{}` was stored as {before} and is {after}", variant.name));
            }
            (Some(_), None) | (None, Some(_)) => {
                details.push(format!("variant `{}` is told from the others in another way", variant.name));
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        fields(&was.fields, &variant.fields, &format!(" of variant `{}`", variant.name), details);
    }
}

fn stored_as(variant: &Variant) -> String {
    variant.discriminant.map(|value| format!(" (stored as {value})")).unwrap_or_default()
}

fn tag(old: Option<&Field>, new: Option<&Field>, details: &mut Vec<String>) {
    match (old, new) {
        (Some(old), Some(new)) => {
            if old.type_name != new.type_name {
                details.push(format!("its discriminant was a `{}` and is a `{}`", old.type_name, new.type_name));
            }
            if old.offset != new.offset {
                details.push(format!("its discriminant moved from {} to {}", old.offset, new.offset));
            }
        }
        (None, Some(_)) => details.push("it has a discriminant now".to_string()),
        (Some(_), None) => details.push("it has no discriminant any more".to_string()),
        (None, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{difference, plain};
    use crate::binary::types::{Description, Field, Variant};

    fn described(size: u64, fields: &[(&str, &str, i64, u64)]) -> Description {
        let fields = fields.iter().map(|(name, type_name, offset, size)| Field {
            name: name.to_string(),
            type_name: type_name.to_string(),
            offset: *offset,
            size: Some(*size),
        });
        Description { size, align: 8, fields: fields.collect(), tag: None, variants: Vec::new() }
    }

    #[track_caller]
    fn check(old: &Description, new: &Description, text: &str) {
        assert_eq!(difference(old, new), text);
    }

    #[test]
    fn a_new_field_names_what_it_moved() {
        check(
            &described(32, &[("name", "String", 0, 24), ("count", "u64", 24, 8)]),
            &described(40, &[("speed", "u64", 24, 8), ("name", "String", 0, 24), ("count", "u64", 32, 8)]),
            "grew from 32 to 40 bytes: new field `speed: u64` at offset 24, `count` moved from 24 to 32",
        );
    }

    #[test]
    fn types_names_and_places_are_told_apart() {
        check(
            &described(8, &[("a", "u32", 0, 4), ("b", "u32", 4, 4)]),
            &described(8, &[("a", "u32", 4, 4), ("b", "u32", 0, 4)]),
            "keeps its 8 bytes but is laid out differently: `a` moved from 0 to 4, `b` moved from 4 to 0",
        );
        check(
            &described(8, &[("a", "u32", 0, 4)]),
            &described(8, &[("z", "u32", 0, 4)]),
            "keeps its 8 bytes but is laid out differently: field `a` is now called `z`",
        );
        check(
            &described(16, &[("a", "u64", 0, 8), ("b", "Inner", 8, 8)]),
            &described(8, &[("a", "u32", 0, 4), ("b", "Inner", 4, 4)]),
            "shrank from 16 to 8 bytes: field `a` was `u64` and is `u32`, field `b: Inner` takes 4 bytes and took 8, \
             `b` moved from 8 to 4",
        );
    }

    #[test]
    fn variants_are_told_by_how_they_are_stored() {
        let variant = |name: &str, value| Variant { name: name.into(), discriminant: Some(value), fields: Vec::new() };
        let mut old = described(1, &[]);
        old.variants = vec![variant("Slow", 0), variant("Fast", 1)];
        let mut new = described(1, &[]);
        new.variants = vec![variant("Slow", 0), variant("Middle", 1), variant("Fast", 2)];
        check(
            &old,
            &new,
            "keeps its 1 byte but is laid out differently: new variant `Middle` (stored as 1), \
             variant `Fast` was stored as 1 and is 2",
        );
    }

    #[test]
    fn types_of_the_standard_library_are_short() {
        assert_eq!(plain("alloc::vec::Vec<app::Item, alloc::alloc::Global>"), "Vec<app::Item>");
        assert_eq!(
            plain("&mut core::option::Option<(u8, [core::cell::Cell<u8>; 3])>"),
            "&mut Option<(u8, [Cell<u8>; 3])>"
        );
        assert_eq!(plain("fn(&str) -> u64"), "fn(&str) -> u64");
        assert_eq!(plain("core::sync_as::Once_Lock<app::std::X>"), "Once_Lock<app::std::X>");
    }

    #[test]
    fn a_field_that_goes_is_not_called_renamed_unless_the_new_one_takes_its_place() {
        check(
            &described(16, &[("a", "u64", 0, 8), ("b", "u64", 8, 8)]),
            &described(8, &[("a", "u64", 0, 8)]),
            "shrank from 16 to 8 bytes: field `b: u64` is gone",
        );
        check(
            &described(8, &[("a", "u32", 0, 4)]),
            &described(8, &[("z", "f32", 0, 4)]),
            "keeps its 8 bytes but is laid out differently: new field `z: f32` at offset 0, field `a: u32` is gone",
        );
        check(
            &described(8, &[("a", "u32", 0, 4)]),
            &described(8, &[("z", "u32", 4, 4)]),
            "keeps its 8 bytes but is laid out differently: new field `z: u32` at offset 4, field `a: u32` is gone",
        );
    }

    #[test]
    fn variants_that_go_or_are_told_apart_in_another_way_are_named() {
        let variant = |name: &str, discriminant| Variant { name: name.into(), discriminant, fields: Vec::new() };
        let mut old = described(1, &[]);
        old.variants = vec![variant("Slow", Some(0)), variant("Fast", Some(1))];
        let mut new = described(1, &[]);
        new.variants = vec![variant("Slow", None)];
        let text = "keeps its 1 byte but is laid out differently: variant `Fast` (stored as 1) is gone, \
                    variant `Slow` is told from the others in another way";
        check(&old, &new, text);
        let mut kept = described(1, &[]);
        kept.variants = vec![variant("Slow", Some(0)), variant("Fast", Some(1))];
        check(&old, &kept, "keeps its 1 byte but is laid out differently");
    }

    #[test]
    fn the_discriminant_is_looked_at() {
        let tagged = |tag: Option<(&str, i64)>| {
            let field = |(type_name, offset): (&str, i64)| Field {
                name: String::new(),
                type_name: type_name.to_string(),
                offset,
                size: Some(1),
            };
            Description { tag: tag.map(field), ..described(8, &[]) }
        };
        let same = "keeps its 8 bytes but is laid out differently";
        let (small, other) = (tagged(Some(("u8", 0))), tagged(Some(("u16", 2))));
        check(&small, &small, same);
        let text = format!("{same}: its discriminant was a `u8` and is a `u16`, its discriminant moved from 0 to 2");
        check(&small, &other, &text);
        check(&tagged(None), &small, &format!("{same}: it has a discriminant now"));
        check(&small, &tagged(None), &format!("{same}: it has no discriminant any more"));
    }

    #[test]
    fn an_alignment_that_is_not_known_is_not_compared() {
        let aligned = |align| Description { align, ..described(8, &[]) };
        let same = "keeps its 8 bytes but is laid out differently";
        check(&aligned(8), &aligned(0), same);
        check(&aligned(0), &aligned(8), same);
        check(&aligned(4), &aligned(8), &format!("{same}: its alignment is 8 and was 4"));
    }

    #[test]
    fn no_more_than_three_differences_are_named() {
        let moved = |by: i64| ["a", "b", "c", "d", "e"].map(|name| (name, "u8", by, 1));
        check(
            &described(8, &moved(0)),
            &described(8, &moved(1)),
            "keeps its 8 bytes but is laid out differently: `a` moved from 0 to 1, `b` moved from 0 to 1, \
             `c` moved from 0 to 1, and 2 more",
        );
    }
}
