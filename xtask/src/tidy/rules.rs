//! Whether every rule of the judge has its file, its page and its case.
//!
//! A case is a program and an edit under tests/cases/refuse whose step is refused by the rule. What no edit of a small
//! program brings about is listed here with the reason; the rule's own test is then all that there is.

use super::File;

const JUDGE: &str = "crates/relive/src/judge/";

/// Rules without a case, and why.
const WITHOUT_CASE: [(&str, &str); 14] = [
    ("entry-altered", "takes a debugger that has written into the program"),
    ("entry-no-room", "takes a function of a few bytes with no padding behind it, which depends on the linker"),
    ("field-renamed", "is a note and refuses nothing"),
    ("foreign-copy", "takes an instance that the linker kept from a crate that is not edited, which depends on order"),
    ("layout-proved", "is a note and refuses nothing"),
    ("nameless-storage", "takes code of another compiler or an assembler"),
    ("no-agent", "is about how the program was built and started, not about an edit"),
    ("no-room", "takes gigabytes of address space in use"),
    ("static-renewed", "is a note and refuses nothing"),
    ("static-value-kept", "is a note and refuses nothing"),
    ("tables-full", "takes tens of thousands of patched functions"),
    ("unknown-relocation", "takes a relocation that rustc does not make"),
    ("unreadable-object", "takes a damaged file"),
    ("wrong-binary", "takes a program that was replaced while it runs"),
];

/// Files of the judge with a rule, against their names, the pages and the cases.
pub(crate) fn rules(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    let has = |path: &str| files.iter().any(|file| file.path == path);
    let mut ids = Vec::new();
    for file in files.iter().filter(|file| file.path.starts_with(JUDGE)) {
        let Some(id) = id_of(&file.text) else { continue };
        ids.push(id);
        if file.path != format!("{JUDGE}{}.rs", id.replace('-', "_")) {
            found.push(format!("{} has the rule `{id}`", file.path));
        }
        if !has(&format!("docs/refusals/{id}.md")) {
            found.push(format!("the rule `{id}` has no page: cargo xtask docs"));
        }
        let excused = WITHOUT_CASE.iter().any(|(rule, _)| *rule == id);
        match (has_case(files, id), excused) {
            (false, false) => found.push(format!("the rule `{id}` has no case under tests/cases/refuse")),
            (true, true) => found.push(format!("the rule `{id}` has a case and is listed as one without")),
            (true, false) | (false, true) => {}
        }
    }
    let gone = WITHOUT_CASE.iter().filter(|(rule, _)| !ids.is_empty() && !ids.contains(rule));
    found.extend(gone.map(|(rule, _)| format!("there is no rule `{rule}`, which is listed as one without a case")));
    found
}

fn id_of(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("pub(super) const RULE: Rule = Rule {")?;
    rest.trim_start().strip_prefix("id: \"")?.split('"').next()
}

fn has_case(files: &[File], id: &str) -> bool {
    let cases = files.iter().filter(|file| file.path.starts_with("tests/cases/refuse/"));
    let mut lines = cases.filter(|file| file.path.ends_with("/case.toml")).flat_map(|file| file.text.lines());
    lines.any(|line| line.starts_with("rules = ") && line.contains(&format!("'{id}'")))
}

#[cfg(test)]
mod tests {
    use super::super::tests::file;
    use super::*;

    fn tree(rule: &str, case: &str) -> Vec<File> {
        let text = format!("pub(super) const RULE: Rule = Rule {{\n    id: \"{rule}\",\n}};");
        let mut files = vec![
            file("crates/relive/src/judge/big_world.rs", &text),
            file("docs/refusals/big-world.md", ""),
            file("tests/cases/refuse/a/case.toml", &format!("rules = ['{case}']")),
        ];
        // The rules that are listed as having no case are there.
        for (id, _) in WITHOUT_CASE {
            let text = format!("pub(super) const RULE: Rule = Rule {{\n    id: \"{id}\",\n}};");
            files.push(file(&format!("{JUDGE}{}.rs", id.replace('-', "_")), &text));
            files.push(file(&format!("docs/refusals/{id}.md"), ""));
        }
        files
    }

    #[test]
    fn a_rule_has_a_file_a_page_and_a_case() {
        assert!(rules(&tree("big-world", "big-world")).is_empty());
        let found = rules(&tree("big-world", "other"));
        assert_eq!(found, ["the rule `big-world` has no case under tests/cases/refuse"]);
        let found = rules(&tree("small-world", "small-world"));
        assert_eq!(found.len(), 2, "{found:?}");
        let found = rules(&tree("big-world", "big-world', 'no-room"));
        assert_eq!(found, ["the rule `no-room` has a case and is listed as one without"]);
        let found = rules(&tree("big-world", "big-world")[..3]);
        assert_eq!(found.len(), WITHOUT_CASE.len());
    }
}
