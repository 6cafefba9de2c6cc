//! Documents name files and tests that are there: a page that points at a test which was renamed proves nothing.

use crate::tree::Tree;
use crate::{exactly, none};

/// Documents that are checked.
const DOCUMENTS: [&str; 7] = ["README.md", "ARCHITECTURE.md", "docs/hosts.md", "docs/daemon.md", "docs/dependencies.md", "tests/README.md", "tests/escape/list.md"];

/// Beginnings of what is a path of the repository.
const FOLDERS: [&str; 6] = ["crates/", "tests/", "docs/", "scripts/", "bench/", "fuzz/"];

fn broken(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for document in DOCUMENTS {
        let text = tree.text(document).unwrap_or_default();
        for name in quoted(text).filter(|name| FOLDERS.iter().any(|folder| name.starts_with(folder))) {
            let (path, test) = name.split_once("::").map_or((name, None), |(path, test)| (path, Some(test)));
            if !is_there(tree, path) {
                findings.push(format!("{document} names {path}, which is not there"));
            } else if let Some(test) = test.filter(|test| !tree.text(path).unwrap_or_default().contains(&format!("fn {test}("))) {
                findings.push(format!("{document} names {test}, which is not in {path}"));
            }
        }
        for target in linked(text).filter(|target| !is_there(tree, &from(document, target))) {
            findings.push(format!("{document} links to {target}, which is not there"));
        }
    }
    findings
}

/// A file, or a folder with files in it. Braces and stars stand for several and are not looked at.
fn is_there(tree: &Tree, path: &str) -> bool {
    let folder = format!("{}/", path.trim_end_matches('/'));
    path.contains(['{', '*', '<']) || tree.text(path).is_some() || tree.files().any(|(file, _)| file.starts_with(&folder))
}

/// What stands between backquotes, without words after a blank.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2).filter_map(|quoted| quoted.split_whitespace().next())
}

/// Targets of links into the repository.
fn linked(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://")).map(|target| target.split('#').next().unwrap_or(target)).filter(|target| !target.is_empty())
}

fn from(document: &str, target: &str) -> String {
    match document.rsplit_once('/') {
        Some((folder, _)) => match target.strip_prefix("../") {
            Some(above) => above.to_owned(),
            None => format!("{folder}/{target}"),
        },
        None => target.to_owned(),
    }
}

#[test]
fn what_documents_name_is_there() {
    none(&broken(Tree::repository()));
}

#[test]
fn what_is_not_there_is_found() {
    let tree = Tree::of(&[
        ("README.md", "[here](docs/hosts.md#x), [gone](docs/gone.md), [away](https://a.example)"),
        ("docs/hosts.md", "`tests/a.rs::one`, `tests/a.rs::two`, `tests/b.rs`, `tests/{c,d}`, `tests`, [up](../README.md)"),
        ("tests/a.rs", "#[test]\nfn one() {}"),
    ]);
    let wanted =
        ["README.md links to docs/gone.md, which is not there", "docs/hosts.md names two, which is not in tests/a.rs", "docs/hosts.md names tests/b.rs, which is not there"];
    exactly(&broken(&tree), &wanted);
}
