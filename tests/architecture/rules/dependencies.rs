//! `docs/dependencies.md` names every third-party crate that a manifest names, and no other.

use std::collections::BTreeSet;

use crate::manifest::{dependencies, packages_below};
use crate::tree::Tree;
use crate::{exactly, none};

const DOCUMENT: &str = "docs/dependencies.md";

fn differences(tree: &Tree) -> Vec<String> {
    let mut folders = packages_below(tree, &["crates", "tests"]);
    folders.push("fuzz".to_owned());
    let mut used = BTreeSet::new();
    for found in folders.iter().filter_map(|folder| dependencies(tree, folder)) {
        used.extend(found.normal.into_iter().chain(found.dev).filter(|name| !name.starts_with("droste-")));
    }
    let documented: BTreeSet<String> = tree.text(DOCUMENT).unwrap_or_default().lines().filter_map(row).map(str::to_owned).collect();
    let missing = used.difference(&documented).map(|name| format!("{DOCUMENT} does not say why {name}"));
    let surplus = documented.difference(&used).map(|name| format!("{DOCUMENT} names {name}, which nothing uses"));
    missing.chain(surplus).collect()
}

/// The crate of a table's row: what is quoted in its first column.
fn row(line: &str) -> Option<&str> {
    line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name)
}

#[test]
fn each_dependency_has_its_reason() {
    none(&differences(Tree::repository()));
}

#[test]
fn a_dependency_without_a_reason_is_found() {
    let tree = Tree::of(&[
        ("crates/x/Cargo.toml", "[dependencies]\na = \"1\"\ndroste-y = \"0\"\n[dev-dependencies]\nb = \"1\""),
        (DOCUMENT, "| crate | why |\n|---|---|\n| `a` | because |\n| `c` | `d` |"),
    ]);
    exactly(&differences(&tree), &["docs/dependencies.md does not say why b", "docs/dependencies.md names c, which nothing uses"]);
}
