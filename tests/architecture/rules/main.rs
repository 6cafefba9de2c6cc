//! The rules that `ARCHITECTURE.md` states, read from the files of the repository. Nothing is built or run.
//!
//! A rule is a function from a [`tree::Tree`] to findings, one sentence each. Each is tested twice: the repository has
//! no findings, and a small tree that breaks the rule has.
#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod arrows;
mod dependencies;
mod layers;
mod manifest;
mod references;
mod source;
mod tree;
mod unsafety;
mod words;

/// Fails with one finding a line.
#[track_caller]
fn none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

/// Fails unless every finding that a broken tree must give is given, and no other.
#[track_caller]
fn exactly(findings: &[String], wanted: &[&str]) {
    assert_eq!(findings, wanted);
}
