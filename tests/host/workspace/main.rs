//! The workspace's own rules, read from its files: which crate may depend on which, which may use
//! `unsafe`, and that every file says at its head what it owns.
#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Crates and what each may depend on, as `ARCHITECTURE.md` draws it. Arrows point downwards only.
const ARROWS: [(&str, &[&str]); 10] = [
    ("model", &[]),
    ("cgroup", &["model"]),
    ("confine", &["model"]),
    ("runtime", &["model"]),
    ("image", &["model"]),
    ("network", &["model"]),
    ("api", &["model"]),
    ("engine", &["model", "cgroup", "confine", "runtime", "image", "network"]),
    ("daemon", &["model", "api", "engine"]),
    // The program is the client and, behind one word, the daemon.
    ("cli", &["model", "api", "daemon"]),
];

/// Where `unsafe` may be: folders below `crates/`.
const UNSAFE: [&str; 3] = ["runtime/src/sys", "runtime/src/shim", "runtime/src/init"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The crates of this workspace that a manifest names as dependencies, build ones included.
fn dependencies(name: &str) -> BTreeSet<String> {
    let path = root().join("crates").join(name).join("Cargo.toml");
    let manifest: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    ["dependencies", "build-dependencies"]
        .iter()
        .filter_map(|section| manifest.get(*section)?.as_table())
        .flat_map(toml::Table::keys)
        .filter_map(|dependency| Some(dependency.strip_prefix("droste-")?.to_owned()))
        .collect()
}

#[test]
fn arrows_point_downwards() {
    for (name, allowed) in ARROWS {
        let allowed: BTreeSet<_> = allowed.iter().map(|a| (*a).to_owned()).collect();
        let beyond: Vec<_> = dependencies(name).difference(&allowed).cloned().collect();
        assert!(beyond.is_empty(), "droste-{name} depends on {beyond:?}, against the arrows");
    }
}

#[test]
fn every_crate_is_in_the_drawing() {
    let drawn: BTreeSet<_> = ARROWS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let there = std::fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap());
    let there: BTreeSet<_> = there.filter(|e| e.path().join("Cargo.toml").exists()).map(|e| e.file_name().into_string().unwrap()).collect();
    assert_eq!(there, drawn);
}

#[test]
fn every_package_takes_the_workspaces_lints() {
    for folder in ["crates", "tests"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()) {
            let Ok(text) = std::fs::read_to_string(entry.join("Cargo.toml")) else { continue };
            let manifest: toml::Table = text.parse().unwrap();
            let lints = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
            assert_eq!(lints, Some(true), "{}", entry.display());
        }
    }
}

#[test]
fn unsafe_has_an_address() {
    let crates = root().join("crates");
    let mut files = Vec::new();
    sources(&crates, &mut files);
    for file in files {
        let place = file.strip_prefix(&crates).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let uses = text.lines().any(|line| {
            let code = line.split("//").next().unwrap_or_default();
            code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl") || code.contains("allow(unsafe_code")
        });
        assert!(!uses || UNSAFE.iter().any(|allowed| place.starts_with(allowed)), "{} is unsafe outside {UNSAFE:?}", place.display());
    }
}

#[test]
fn the_engine_knows_no_http() {
    for (name, absent) in [("engine", &["hyper", "httparse", "http"][..]), ("network", &["hyper"]), ("runtime", &["hyper"]), ("model", &["tokio", "nix", "rustix"])] {
        let path = root().join("crates").join(name).join("Cargo.toml");
        let manifest: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
        let has = manifest.get("dependencies").and_then(toml::Value::as_table).cloned().unwrap_or_default();
        for dependency in absent {
            assert!(!has.contains_key(*dependency), "droste-{name} depends on {dependency}");
        }
    }
}

#[test]
fn every_file_says_what_it_owns() {
    let mut files = Vec::new();
    for folder in ["crates", "tests"] {
        sources(&root().join(folder), &mut files);
    }
    let silent: Vec<_> = files.iter().filter(|file| !std::fs::read_to_string(file).unwrap().starts_with("//!")).map(|f| f.display().to_string()).collect();
    assert!(silent.is_empty(), "no //! paragraph at the head of {silent:#?}");
}
