//! Text and mutants to the text with all mutants in it, and back from a place in that text to the mutant there.

use std::ops::Range;

use super::find::Mutant;

/// What stands for a mutant's number in its text.
pub(super) const NUMBER: char = '@';

/// The module that chooses, put at the end of the judge's mod.rs. Number 0 is the judge as it is.
pub(super) const CHOOSER: &str = r#"
pub(crate) mod mutants {
    pub(crate) fn on(number: usize) -> bool {
        static CHOSEN: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
        let chosen = || std::env::var("RELIVE_MUTANT").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        *CHOSEN.get_or_init(chosen) == number
    }

    pub(crate) fn flip(number: usize, value: bool) -> bool {
        value != on(number)
    }

    /// The table without the rule whose number was chosen; the first rule's is `first`.
    pub(crate) fn table<T>(first: usize, rules: &'static [T]) -> &'static [&'static T] {
        let kept = rules.iter().enumerate().filter(|(index, _)| !on(first + index)).map(|(_, rule)| rule);
        Box::leak(kept.collect::<Vec<_>>().into_boxed_slice())
    }
}
"#;

/// A text with mutants, and where each begins and ends.
pub(super) struct Edited {
    pub(super) text: String,
    places: Vec<(usize, Range<usize>)>,
}

impl Edited {
    /// The smallest mutant around a place.
    pub(super) fn innermost(&self, start: usize, end: usize) -> Option<usize> {
        let around = self.places.iter().filter(|(_, range)| range.start <= start && end <= range.end);
        around.min_by_key(|(_, range)| range.len()).map(|(number, _)| *number)
    }
}

/// Writes the mutants into `text`, which they were found in.
pub(super) fn apply(text: &str, mutants: &[&Mutant]) -> Edited {
    let mut marks: Vec<Mark> = Vec::new();
    for (index, mutant) in mutants.iter().enumerate() {
        for Range { start, end } in mutant.ranges.iter().cloned() {
            marks.push(Mark { at: start, opens: true, other: end, index });
            marks.push(Mark { at: end, opens: false, other: start, index });
        }
    }
    marks.sort_by_key(Mark::order);
    let mut out = String::with_capacity(text.len() * 4);
    let mut places: Vec<_> = mutants.iter().map(|mutant| (mutant.number, 0..0)).collect();
    let mut done = 0;
    for mark in marks {
        out.push_str(&text[done..mark.at]);
        done = mark.at;
        let (mutant, place) = (mutants[mark.index], &mut places[mark.index].1);
        let part = if mark.opens { &mutant.before } else { &mutant.after };
        if mark.opens {
            place.start = out.len();
        }
        out.push_str(&part.replace(NUMBER, &mutant.number.to_string()));
        if !mark.opens {
            place.end = out.len();
        }
    }
    out.push_str(&text[done..]);
    Edited { text: out, places }
}

/// One end of a mutant.
struct Mark {
    at: usize,
    opens: bool,
    other: usize,
    index: usize,
}

impl Mark {
    /// At one place: what ends there ends first, the inner before the outer; what begins there begins the outer first.
    fn order(&self) -> (usize, bool, usize, usize) {
        let point = self.at == self.other;
        let index = if self.opens { self.index } else { usize::MAX - self.index };
        let other = if point && !self.opens { 0 } else { usize::MAX - self.other };
        // The end of what has no length comes right behind its beginning; nothing else begins at such a place.
        (self.at, self.opens || point, other, index)
    }
}

#[cfg(test)]
mod tests {
    use super::super::find::Kind;
    use super::*;

    fn mutant(number: usize, range: Range<usize>, before: &str, after: &str) -> Mutant {
        let (before, after) = (before.to_owned(), after.to_owned());
        let (file, what) = (String::new(), String::new());
        Mutant { number, file, line: 1, kind: Kind::Other, what, ranges: vec![range], before, after }
    }

    #[test]
    fn mutants_stand_inside_each_other() {
        let all = [mutant(1, 0..6, "f(@, ", ")"), mutant(2, 0..1, "g(@, ", ")"), mutant(3, 0..6, "h(@, ", ")")];
        let edited = apply("a == b;", &all.iter().collect::<Vec<_>>());
        assert_eq!(edited.text, "f(1, h(3, g(2, a) == b));");
        assert_eq!(edited.innermost(15, 16), Some(2));
        assert_eq!(edited.innermost(15, 20), Some(3));
        assert_eq!(edited.innermost(0, 25), None);
    }
}
