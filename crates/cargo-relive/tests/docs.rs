//! The pages under docs/refusals are the pages that `cargo relive explain` prints, one per rule and no others.
//! With `BLESS` set they are written instead of compared (`cargo xtask docs`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use relive::judge::{page, rules};

#[test]
fn every_rule_has_its_page_and_every_page_its_rule() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/refusals");
    let wanted: BTreeMap<PathBuf, String> =
        rules().map(|rule| (folder.join(format!("{}.md", rule.id)), page(rule))).collect();
    let there = pages(&folder);
    if std::env::var_os("BLESS").is_some() {
        bless(&folder, &there, &wanted);
        return;
    }
    for (path, page) in &wanted {
        let text = there.get(path).unwrap_or_else(|| panic!("no page `{}`: cargo xtask docs", path.display()));
        assert_eq!(text, page, "`{}` is not current: cargo xtask docs", path.display());
    }
    for path in there.keys() {
        assert!(wanted.contains_key(path), "`{}` has no rule: cargo xtask docs", path.display());
    }
}

fn pages(folder: &Path) -> BTreeMap<PathBuf, String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| (entry.path(), fs::read_to_string(entry.path()).expect("a readable page"))).collect()
}

fn bless(folder: &Path, there: &BTreeMap<PathBuf, String>, wanted: &BTreeMap<PathBuf, String>) {
    fs::create_dir_all(folder).expect("a folder for the pages");
    for path in there.keys().filter(|path| !wanted.contains_key(*path)) {
        fs::remove_file(path).expect("an old page goes away");
    }
    for (path, page) in wanted {
        fs::write(path, page).expect("a page is written");
    }
}
