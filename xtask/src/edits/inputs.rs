//! Input lines for the program: `PART NUMBER TEXT`, seeded.

use super::rng::Rng;

/// The parts of the program that take inputs.
const PARTS: [&str; 12] =
    ["shop", "jobs", "tasks", "ring", "scratch", "threads", "words", "versions", "slab", "texts", "times", "wrapped"];
/// No character of these separates anything in a dump.
const WORDS: [&str; 24] = [
    "alpha",
    "beta",
    "the",
    "of",
    "xylophone",
    "quick",
    "Brown",
    "fox_trot",
    "HTTPServer",
    "12",
    "4096",
    "7",
    "don't",
    "\"quoted",
    "text\"",
    "a&b",
    "100%",
    "camelCase",
    "kebab-case",
    "zebra",
    "to",
    "and",
    "queue",
    "bcd",
];

/// Inputs for every part, `rounds` times.
pub(crate) fn lines(rng: &mut Rng, rounds: usize) -> Vec<String> {
    let all = (0..rounds).flat_map(|_| PARTS);
    all.map(|part| line(rng, part)).collect()
}

fn line(rng: &mut Rng, part: &str) -> String {
    let count = 1 + rng.below(5);
    let words: Vec<&str> = (0..count).filter_map(|_| rng.pick(&WORDS).copied()).collect();
    format!("{part} {} {}", rng.below(100_000), words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_gets_its_lines() {
        let lines = lines(&mut Rng::new(1, 1), 3);
        assert_eq!(lines.len(), 3 * PARTS.len());
        assert!(
            PARTS.iter().all(|part| lines.iter().filter(|line| line.starts_with(&format!("{part} "))).count() == 3)
        );
        assert!(lines.iter().all(|line| !line.contains([';', '|', '$', '^', '~', '`', '\n'])));
    }
}
