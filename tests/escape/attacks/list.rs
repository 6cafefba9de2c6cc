//! The list and the attacks are the same: an entry names an attack that is there, and each attack has an entry. One that
//! needs a kernel of its own is in another package, and named with its path.

use std::collections::BTreeSet;

const LIST: &str = include_str!("../list.md");

/// Attacks that the list names, as `file::test`.
fn listed() -> BTreeSet<String> {
    let rows = LIST.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.split('`').nth(1).unwrap().to_owned()).collect()
}

/// Whether a test of another package, as `path::test`, is there.
fn is_elsewhere(name: &str) -> bool {
    let Some((path, test)) = name.split_once("::").filter(|(path, _)| path.contains('/')) else { return false };
    let text = std::fs::read_to_string(format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR")));
    text.is_ok_and(|text| text.contains(&format!("fn {test}(")))
}

/// Tests of this package, as `file::test`.
fn written() -> BTreeSet<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/attacks");
    let mut all = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let file = entry.path().file_stem().unwrap().to_str().unwrap().to_owned();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line == "#[test]" {
                let name = lines.next().unwrap().strip_prefix("fn ").unwrap().split('(').next().unwrap();
                all.insert(format!("{file}::{name}"));
            }
        }
    }
    all.retain(|name| !name.starts_with("list::"));
    all
}

#[test]
fn the_list_names_each_attack_and_no_other() {
    let (mut listed, written) = (listed(), written());
    listed.retain(|name| !is_elsewhere(name));
    assert_eq!(listed.difference(&written).collect::<Vec<_>>(), Vec::<&String>::new(), "listed and not there");
    assert_eq!(written.difference(&listed).collect::<Vec<_>>(), Vec::<&String>::new(), "there and not listed");
}

#[test]
fn each_entry_says_what_it_tries_and_what_stops_it() {
    for row in LIST.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert!(cells.len() == 3 && cells.iter().all(|cell| cell.len() >= 8), "{row}");
    }
}
