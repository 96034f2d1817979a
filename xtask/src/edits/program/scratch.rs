//! A calculator: everything it makes lives within one input, on the stack or in boxes that are gone after it.

use std::fmt;

const MOST_DEPTH: u32 = 12;
const NAMES: [(&str, i64); 4] = [("one", 1), ("two", 2), ("dozen", 12), ("score", 20)];

/// Lives within one input.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    Number(i64),
    Word(String),
    Sign(char),
}

/// Lives within one input.
#[derive(Debug)]
enum Tree {
    Leaf(i64),
    Negated(Box<Tree>),
    Pair { operator: char, left_tree: Box<Tree>, right_tree: Box<Tree> },
}

/// Lives within one input.
struct Reader<'a> {
    reader_tokens: &'a [Token],
    reader_place: usize,
    reader_depth: u32,
}

/// Lives within one input.
#[derive(Default)]
struct Tally {
    leaf_count: u32,
    pair_count: u32,
    deepest_level: u32,
}

/// Lives within one input.
#[derive(Debug)]
enum Trouble {
    Unexpected(Token),
    Unfinished,
    TooDeep(u32),
    ByZero,
}

struct Scratch;

pub fn part() -> Box<dyn crate::Part> {
    Box::new(Scratch)
}

impl crate::Part for Scratch {
    fn input(&mut self, number: u64, text: &str) -> String {
        let word = text.split(' ').next().unwrap_or_default();
        let last = number % 10;
        assert!(number % 9 != 7, "formula {number} is not wanted");
        let formula = match number % 5 {
            0 => format!("{last} + {} * ({} - dozen)", number % 9, number % 100),
            1 => format!("-({last} * score) / {}", number % 4),
            2 => format!("{word} + {last}"),
            3 => format!("{}{last}{}", "(".repeat(number as usize % 16), ")".repeat(number as usize % 16)),
            _ => format!("{last} - - one * two + {number} +"),
        };
        match evaluate(&formula) {
            Ok(text) => format!("{formula} = {text}"),
            Err(why) => format!("{formula}: {why}"),
        }
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

pub fn evaluate(formula: &str) -> Result<String, String> {
    let tokens = tokens(formula);
    let mut reader = Reader { reader_tokens: &tokens, reader_place: 0, reader_depth: 0 };
    let value = reader.sum().and_then(|tree| {
        let mut tally = Tally::default();
        tree.count(1, &mut tally);
        let value = tree.value()?;
        Ok(format!("{value} leaves {} pairs {} deep {}", tally.leaf_count, tally.pair_count, tally.deepest_level))
    });
    match (value, reader.peek()) {
        (Ok(_), Some(token)) => Err(Trouble::Unexpected(token.clone()).to_string()),
        (value, _) => value.map_err(|trouble| trouble.to_string()),
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len()).max(first.len_utf8());
        let (word, after) = rest.split_at(length);
        found.push(if first.is_ascii_digit() {
            Token::Number(word.parse().unwrap_or(0))
        } else if first.is_ascii_alphabetic() {
            Token::Word(word.to_owned())
        } else {
            Token::Sign(first)
        });
        rest = after.trim_start();
    }
    found
}

impl Reader<'_> {
    fn peek(&self) -> Option<&Token> {
        self.reader_tokens.get(self.reader_place)
    }

    fn take(&mut self, signs: &[char]) -> Option<char> {
        match self.peek() {
            Some(Token::Sign(sign)) if signs.contains(sign) => {
                let sign = *sign;
                self.reader_place += 1;
                Some(sign)
            }
            _ => None,
        }
    }

    fn sum(&mut self) -> Result<Tree, Trouble> {
        let mut tree = self.product()?;
        while let Some(operator) = self.take(&['+', '-']) {
            tree = pair(operator, tree, self.product()?);
        }
        Ok(tree)
    }

    fn product(&mut self) -> Result<Tree, Trouble> {
        let mut tree = self.single()?;
        while let Some(operator) = self.take(&['*', '/']) {
            tree = pair(operator, tree, self.single()?);
        }
        Ok(tree)
    }

    fn single(&mut self) -> Result<Tree, Trouble> {
        if self.reader_depth > MOST_DEPTH {
            return Err(Trouble::TooDeep(self.reader_depth));
        }
        if self.take(&['-']).is_some() {
            return Ok(Tree::Negated(Box::new(self.single()?)));
        }
        if self.take(&['(']).is_some() {
            self.reader_depth += 1;
            let tree = self.sum()?;
            self.reader_depth -= 1;
            return self.take(&[')']).map(|_| tree).ok_or(Trouble::Unfinished);
        }
        let token = self.peek().cloned().ok_or(Trouble::Unfinished)?;
        self.reader_place += 1;
        match token {
            Token::Number(value) => Ok(Tree::Leaf(value)),
            Token::Word(name) => match NAMES.iter().find(|(known, _)| *known == name) {
                Some((_, value)) => Ok(Tree::Leaf(*value)),
                None => Err(Trouble::Unexpected(Token::Word(name))),
            },
            Token::Sign(sign) => Err(Trouble::Unexpected(Token::Sign(sign))),
        }
    }
}

fn pair(operator: char, left: Tree, right: Tree) -> Tree {
    Tree::Pair { operator, left_tree: Box::new(left), right_tree: Box::new(right) }
}

impl Tree {
    fn value(&self) -> Result<i64, Trouble> {
        Ok(match self {
            Tree::Leaf(value) => *value,
            Tree::Negated(tree) => -tree.value()?,
            Tree::Pair { operator, left_tree, right_tree } => {
                let (left, right) = (left_tree.value()?, right_tree.value()?);
                match operator {
                    '+' => left + right,
                    '-' => left - right,
                    '*' => left.wrapping_mul(right),
                    _ => left.checked_div(right).ok_or(Trouble::ByZero)?,
                }
            }
        })
    }

    fn count(&self, level: u32, tally: &mut Tally) {
        tally.deepest_level = tally.deepest_level.max(level);
        match self {
            Tree::Leaf(_) => tally.leaf_count += 1,
            Tree::Negated(tree) => tree.count(level + 1, tally),
            Tree::Pair { left_tree, right_tree, .. } => {
                tally.pair_count += 1;
                left_tree.count(level + 1, tally);
                right_tree.count(level + 1, tally);
            }
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Unexpected(token) => write!(f, "did not expect {token:?}"),
            Trouble::Unfinished => f.write_str("something is missing"),
            Trouble::TooDeep(depth) => write!(f, "{depth} levels are too many"),
            Trouble::ByZero => f.write_str("division by zero"),
        }
    }
}
