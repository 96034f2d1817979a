//! The pages under docs/refusals/ are what the rules say. `RELIVE_BLESS=1` writes them anew.

use std::path::Path;

use relive::judge::{page, rules};

#[test]
fn the_pages_of_the_manual_are_the_rules() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/refusals");
    let pages: Vec<(String, String)> = rules().map(|rule| (format!("{}.md", rule.id), page(rule))).collect();
    if std::env::var_os("RELIVE_BLESS").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        for (name, text) in &pages {
            std::fs::write(folder.join(name), text).unwrap();
        }
    }
    for (name, text) in &pages {
        let committed = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(committed == *text, "docs/refusals/{name} is not what the rule says; run the test with RELIVE_BLESS=1");
    }
    for entry in std::fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(pages.iter().any(|(known, _)| *known == name), "docs/refusals/{name} belongs to no rule");
    }
}
