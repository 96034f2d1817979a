//! What xtask reads of relive's event file, on damaged lines: no panic, and what is understood was said.
//!
//! The harness is relive's (`crates/relive/tests/common`). xtask is a program, so its modules are taken in by their files.

#[allow(dead_code, reason = "the other tests use the rest")]
#[path = "../../crates/relive/tests/common/drive.rs"]
mod drive;
#[path = "../src/events.rs"]
mod events;
#[allow(dead_code, reason = "the other tests use the rest")]
#[path = "../../crates/relive/tests/common/mutate.rs"]
mod mutate;
#[path = "../src/patch.rs"]
mod patch;

use std::fs;
use std::time::Duration;

use drive::survives;
use events::Events;
use mutate::Seed;
use patch::Patch;

const APPLIED: &str = concat!(
    r#"{"event":"patch","id":1,"outcome":"applied","functions":{"changed":1},"reasons":[],"timings_ms":{"detect":0.5,"#,
    r#""compile":100.0,"diff":8.5,"judge":5.5,"link":0.5,"load":0.5,"pause":13.0,"total":130.0}}"#
);
const REFUSED: &str = concat!(
    r#"{"event":"patch","id":2,"outcome":"refused","reasons":[{"rule":"type-layout","item":"a::B \"timings_ms\":{","#,
    r#""message":"x","help":"","file":"src/a.rs","line":3},{"rule":"static-type"}],"timings_ms":{"detect":1,"compile":2,"#,
    r#""diff":3,"judge":4,"link":5,"load":6,"pause":7,"total":28e0}}"#
);
const STARTED: &str =
    "{\"event\":\"session\",\"id\":1}\n{\"event\":\"started\",\"pid\":4711,\"build_ms\":3}\n{\"event\":\"pa";

#[test]
fn patches_are_read() {
    let seeds = vec![Seed::text("applied", APPLIED), Seed::text("refused", REFUSED)];
    survives("event", seeds, 40_000, |bytes| {
        for line in String::from_utf8_lossy(bytes).lines() {
            let Some(Ok(patch)) = Patch::parse(line) else { continue };
            assert_eq!(patch.line, line);
            assert!(line.contains(&patch.outcome) && patch.rules.iter().all(|rule| line.contains(rule)));
            let (_, table) = patch::summary(&[patch]);
            assert!(!table.is_empty());
        }
    });
}

#[test]
fn event_files_are_read() {
    let folder = std::env::temp_dir().join(format!("relive-xtask-hostile-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("events");
    survives("events", vec![Seed::text("started", STARTED)], 4_000, move |bytes| {
        let mut events = Events::at(file.clone());
        fs::write(&file, bytes).expect("a file");
        let over = || Some("over".to_owned());
        match events.started(Duration::ZERO, over) {
            Ok(pid) => assert!(String::from_utf8_lossy(bytes).contains(&pid.to_string())),
            Err(why) => assert!(why == "over" || why.starts_with("no process number"), "{why}"),
        }
        // What was read is not read again.
        let again = events.wait(Duration::ZERO, over, |line| line.starts_with("{\"event\":\"started\"").then_some(()));
        let started =
            String::from_utf8_lossy(bytes).lines().filter(|line| line.starts_with("{\"event\":\"started\"")).count();
        assert!(again.is_err() || started > 1);
    });
    fs::remove_dir_all(&folder).expect("removed");
}
