//! Which edit comes next: mostly one mutation, at times two in one save, at times a file as it was at the start.

use super::mutate::{self, Edit, Effect, Soundness, SourceFile};
use super::rng::Rng;
use super::subject;

/// Two mutations in one save.
pub(crate) const TWO: &str = "two in one save";
/// A file is brought back to what it was when the session began.
pub(crate) const RESTORED: &str = "file restored";
/// One edit of so many is of these kinds.
const TWO_EVERY: usize = 9;
const RESTORED_EVERY: usize = 12;

/// The next edit of `packages`, which were `pristine` at the start.
pub(crate) fn next(
    packages: &[Vec<SourceFile>],
    pristine: &[Vec<SourceFile>],
    rng: &mut Rng,
    number: usize,
) -> Option<Edit> {
    if rng.below(RESTORED_EVERY) == 0
        && let Some(edit) = restored(packages, pristine, rng)
    {
        return Some(edit);
    }
    let first = mutate::choose(packages, rng, number)?;
    if rng.below(TWO_EVERY) != 0 || first.effect == Effect::SameHere {
        return Some(first);
    }
    let mut then = packages.to_vec();
    subject::adopt(&mut then, &first);
    let second = mutate::choose(&then, rng, number + 1000)?; // names that no single edit gives
    Some(if second.effect == Effect::SameHere { first } else { both(first, second) })
}

fn restored(packages: &[Vec<SourceFile>], pristine: &[Vec<SourceFile>], rng: &mut Rng) -> Option<Edit> {
    let pairs = packages.iter().flatten().zip(pristine.iter().flatten());
    let changed: Vec<&SourceFile> = pairs.filter(|(now, then)| now.text != then.text).map(|(_, then)| then).collect();
    let file = rng.pick(&changed)?;
    let files = vec![(file.path.clone(), file.text.clone())];
    Some(Edit { kind: RESTORED, effect: Effect::New, soundness: Soundness::Open, files })
}

/// Two edits as one; the second was made after the first.
fn both(first: Edit, second: Edit) -> Edit {
    let effect = if [first.effect, second.effect].contains(&Effect::New) { Effect::New } else { Effect::Same };
    let of = |wanted| [first.soundness, second.soundness].contains(&wanted);
    let soundness = [Soundness::Unsound, Soundness::Open].into_iter().find(|wanted| of(*wanted));
    let mut files = first.files;
    files.retain(|(path, _)| second.files.iter().all(|(other, _)| other != path));
    files.extend(second.files);
    Edit { kind: TWO, effect, soundness: soundness.unwrap_or(Soundness::Sound), files }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(effect: Effect, soundness: Soundness, files: &[(&str, &str)]) -> Edit {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        Edit { kind: "x", effect, soundness, files }
    }

    #[test]
    fn two_edits_are_as_bad_as_the_worse() {
        let first = edit(Effect::Same, Soundness::Unsound, &[("a", "1"), ("b", "1")]);
        let second = edit(Effect::New, Soundness::Open, &[("b", "2")]);
        let wanted = edit(Effect::New, Soundness::Unsound, &[("a", "1"), ("b", "2")]);
        assert_eq!(both(first, second), Edit { kind: TWO, ..wanted });
    }

    #[test]
    fn only_a_file_that_changed_is_restored() {
        let file = |text: &str| SourceFile { path: "a".to_owned(), text: text.to_owned(), editable: true };
        let rng = || Rng::new(1, 1);
        assert_eq!(restored(&[vec![file("1")]], &[vec![file("1")]], &mut rng()), None);
        let edit = restored(&[vec![file("2")]], &[vec![file("1")]], &mut rng()).expect("an edit");
        assert_eq!(edit.files, [("a".to_owned(), "1".to_owned())]);
    }
}
