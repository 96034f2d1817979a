//! Texts and tables: matches on strings, slices, errors that pass through, macros, statics that are read only.

use std::collections::BTreeSet;
use std::num::ParseIntError;
use std::sync::LazyLock;

use crate::canary::Canary;

const VOWELS: &[char] = &['a', 'e', 'i', 'o', 'u'];
const SCORES: &[(&str, u32)] = &[("xyz", 10), ("qjk", 8), ("bcdf", 3), ("", 1)];
const SEPARATOR: &str = ".";

static ROMAN: [(u64, &str); 7] = [(100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V")];
static COMMON: LazyLock<BTreeSet<&'static str>> = LazyLock::new(|| ["the", "of", "and", "to"].into_iter().collect());

macro_rules! counters {
    ($($name:ident $test:expr;)*) => {
        $(fn $name(text: &str) -> usize {
            text.chars().filter(|c: &char| ($test)(*c)).count()
        })*
    };
}

counters! {
    digits |c: char| c.is_ascii_digit();
    uppers |c: char| c.is_ascii_uppercase();
    vowels |c: char| VOWELS.contains(&c);
}

/// Lives within one input.
enum Failure {
    Number(ParseIntError),
    Missing(&'static str),
}

/// Lives in the state.
struct Words {
    known_words: BTreeSet<String>,
    last_pairs: Vec<(String, u32)>,
    words_canary: Canary,
}

pub fn part() -> Box<dyn crate::Part> {
    Box::new(Words { known_words: BTreeSet::new(), last_pairs: Vec::new(), words_canary: Canary::new(3) })
}

impl From<ParseIntError> for Failure {
    fn from(why: ParseIntError) -> Failure {
        Failure::Number(why)
    }
}

impl crate::Part for Words {
    fn input(&mut self, number: u64, text: &str) -> String {
        match number % 6 {
            0 => self.learn(text),
            1 => self.scores(text),
            2 => roman(number % 400 / u64::from(text.len() != 5)),
            3 => command(text.split(' ').next().unwrap_or_default(), number),
            4 => format!("{} {} {}", digits(text), uppers(text), vowels(text)),
            _ => match added(text, number) {
                Ok(sum) => format!("sum {sum}"),
                Err(Failure::Number(why)) => format!("no number: {why}"),
                Err(Failure::Missing(what)) => format!("missing {what}"),
            },
        }
    }

    fn check(&self) -> Result<(), String> {
        self.words_canary.intact("the words")
    }
}

impl Words {
    fn learn(&mut self, text: &str) -> String {
        let common = |word: &&str| COMMON.contains(word);
        let (known, new): (Vec<&str>, Vec<&str>) = text.split(' ').partition(|word| self.known_words.contains(*word));
        let dull = new.iter().filter(|word| common(word)).count();
        self.known_words.extend(new.iter().map(|word| (*word).to_owned()));
        while self.known_words.len() > 30 {
            self.known_words.pop_last();
        }
        format!("knew {} dull {dull} now {}", known.join(SEPARATOR), self.known_words.len())
    }

    fn scores(&mut self, text: &str) -> String {
        self.last_pairs = text.split(' ').map(|word| (word.to_owned(), score(word))).collect();
        self.last_pairs.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
        let best = self.last_pairs.first().map(|(word, score)| format!("{word} {score}"));
        format!("best {}", best.unwrap_or_default())
    }
}

fn score(word: &str) -> u32 {
    let of = |c: char| SCORES.iter().find(|(letters, _)| letters.is_empty() || letters.contains(c));
    word.chars().filter_map(of).map(|(_, score)| score).sum()
}

fn roman(mut number: u64) -> String {
    let mut text = String::new();
    for (value, letters) in &ROMAN {
        while number >= *value {
            number -= value;
            text.push_str(letters);
        }
    }
    text + &"I".repeat(number as usize)
}

fn command(word: &str, number: u64) -> String {
    match (word, number % 3) {
        ("alpha" | "beta", _) => format!("greek {number}"),
        ("the", 0) => "article".to_owned(),
        (word, rest) if word.len() > 5 => format!("long {} {rest}", &word[..3]),
        ("", _) => "empty".to_owned(),
        (_, 1) => word.chars().rev().collect(),
        _ => word.repeat(2),
    }
}

fn added(text: &str, number: u64) -> Result<i64, Failure> {
    let mut sum = number as i64;
    let numbers = text.split(' ').filter(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    for word in numbers {
        sum += word.parse::<i64>()?;
    }
    if text.is_empty() { Err(Failure::Missing("a text")) } else { Ok(sum) }
}
