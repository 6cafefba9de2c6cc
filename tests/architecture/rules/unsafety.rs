//! `unsafe` has an address.

use crate::source::{code, words};
use crate::tree::Tree;
use crate::{exactly, none};

/// The only folders in which the word may stand.
const ALLOWED: [&str; 3] = ["crates/runtime/src/sys/", "crates/runtime/src/shim/", "crates/runtime/src/init/"];

fn outside(tree: &Tree) -> Vec<String> {
    let sources = tree.rust("").filter(|(path, _)| !ALLOWED.iter().any(|allowed| path.starts_with(allowed)));
    let found = sources.flat_map(|(path, text)| {
        let code = code(text);
        let lines: Vec<usize> = words(&code).filter(|(_, word, _)| matches!(*word, "unsafe" | "unsafe_code")).map(|(line, _, _)| line).collect();
        lines.into_iter().map(move |line| format!("{path}:{line} is unsafe outside {}", ALLOWED.join(", ")))
    });
    found.collect()
}

#[test]
fn unsafe_has_an_address() {
    none(&outside(Tree::repository()));
}

#[test]
fn unsafe_elsewhere_is_found() {
    let tree = Tree::of(&[
        ("crates/runtime/src/sys/a.rs", "unsafe { a() }"),
        ("crates/network/src/b.rs", "// unsafe\nlet a = \"unsafe\"; /* unsafe */\nunsafe\n{ a() }"),
        ("tests/nested/c.rs", "#![allow(unsafe_code)]"),
    ]);
    let place = ALLOWED.join(", ");
    let wanted = [format!("crates/network/src/b.rs:3 is unsafe outside {place}"), format!("tests/nested/c.rs:1 is unsafe outside {place}")];
    assert_eq!(outside(&tree), wanted);
    exactly(&outside(&Tree::of(&[])), &[]);
}
