//! The bundled program and the four edits of it.

/// The program, as paths and contents.
pub(super) const PROGRAM: [(&str, &str); 3] = [
    ("Cargo.toml", include_str!("../../../demo/manifest.toml")),
    ("src/main.rs", include_str!("../../../demo/main.rs")),
    (EDITED, include_str!("../../../demo/pond.rs")),
];

/// The file that is edited.
pub(super) const EDITED: &str = "src/pond.rs";

/// What has to become of an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Applied,
    Refused,
}

/// One edit.
pub(super) struct Edit {
    /// What it is.
    pub(super) title: &'static str,
    /// Old text, which is there once, and new text.
    pub(super) replacements: &'static [(&'static str, &'static str)],
    /// What has to become of it.
    pub(super) verdict: Verdict,
    /// What a line of the program shows when the edit is live.
    pub(super) shows: &'static str,
}

/// The edits, each made on top of those before.
pub(super) const EDITS: [Edit; 4] = [
    Edit {
        title: "the body of a function",
        replacements: &[("    \"calm\"", "    \"stormy\"")],
        verdict: Verdict::Applied,
        shows: "| stormy |",
    },
    Edit {
        title: "a new function, called from an edited one",
        replacements: &[
            (
                "        let fish = self.fish.iter().map(|fish| fish.size).sum::<u32>();\n",
                "        let fish = self.fish.iter().map(drawing).collect::<Vec<_>>().join(\" \");\n",
            ),
            (
                "fn weather()",
                "fn drawing(fish: &Fish) -> String {\n    format!(\"><{}\u{b0}>\", \"(\".repeat(fish.size as usize))\n}\n\nfn weather()",
            ),
        ],
        verdict: Verdict::Applied,
        shows: "fish: ><(\u{b0}> ><((\u{b0}> ><(((\u{b0}>",
    },
    Edit {
        title: "a closure that was made, and captured a value, when the program started",
        replacements: &[("|visitors| visitors * entrance", "|visitors| visitors * entrance + 100")],
        verdict: Verdict::Applied,
        shows: "fee for two: 106",
    },
    Edit {
        title: "a field of a struct whose values are alive: not sound",
        replacements: &[
            ("    size: u32,\n}", "    size: u32,\n    age: u32,\n}"),
            ("Fish { size }", "Fish { size, age: 7 }"),
            ("(fish.size as usize)", "((fish.size + fish.age) as usize)"),
        ],
        verdict: Verdict::Refused,
        shows: "><(((((",
    },
];

impl Edit {
    /// `source` with the edit made.
    pub(super) fn apply(&self, source: &str) -> Result<String, String> {
        let mut edited = source.to_owned();
        for (old, new) in self.replacements {
            match edited.matches(old).count() {
                1 => edited = edited.replacen(old, new, 1),
                n => return Err(format!("`{old}` is {n} times in the source")),
            }
        }
        Ok(edited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edits_can_be_made_one_after_the_other() {
        let mut source = PROGRAM[2].1.to_owned();
        for edit in &EDITS {
            let edited = edit.apply(&source).expect("an edit that fits");
            assert_ne!(source, edited);
            source = edited;
        }
    }
}
