//! Which crate may depend on which. Arrows point downwards only.

use crate::manifest::{dependencies, packages_below};
use crate::tree::Tree;
use crate::{exactly, none};

/// Crates, each with all that it may depend on. `ARCHITECTURE.md` draws the same.
const ARROWS: [(&str, &[&str]); 11] = [
    ("model", &[]),
    ("cgroup", &["model"]),
    ("confine", &["model"]),
    ("runtime", &["model"]),
    ("image", &["model"]),
    ("network", &["model"]),
    ("plugin", &[]),
    ("api", &["model"]),
    ("engine", &["model", "cgroup", "confine", "runtime", "image", "network", "plugin"]),
    ("daemon", &["model", "api", "engine"]),
    // The program is the client and, behind one word, the daemon.
    ("cli", &["model", "api", "daemon"]),
];

fn arrows(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for folder in packages_below(tree, &["crates"]) {
        let name = folder.trim_start_matches("crates/");
        let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == name) else {
            findings.push(format!("crates/{name} is not among the arrows"));
            continue;
        };
        let found = dependencies(tree, &folder).unwrap();
        for other in found.normal.union(&found.dev).filter_map(|other| other.strip_prefix("droste-")) {
            if other != name && !allowed.contains(&other) {
                findings.push(format!("droste-{name} depends on droste-{other}, against the arrows"));
            }
        }
    }
    findings
}

/// The client is a library that knows no daemon; only the program's `main.rs` puts the two together.
fn client(tree: &Tree) -> Vec<String> {
    let sources = tree.rust("crates/cli/src/").filter(|(path, _)| *path != "crates/cli/src/main.rs");
    let found = sources.filter(|(_, text)| crate::source::words(&crate::source::code(text)).any(|(_, word, _)| word == "droste_daemon"));
    found.map(|(path, _)| format!("{path} names the daemon: only main.rs may")).collect()
}

/// Lints apply to every package.
fn lints(tree: &Tree) -> Vec<String> {
    let takes = |folder: &String| {
        let manifest: toml::Table = tree.text(&format!("{folder}/Cargo.toml")).unwrap().parse().unwrap();
        manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool) == Some(true)
    };
    let packages = packages_below(tree, &["crates", "tests"]).into_iter();
    packages.filter(|folder| !takes(folder)).map(|folder| format!("{folder} does not take the workspace's lints")).collect()
}

#[test]
fn arrows_point_downwards() {
    let tree = Tree::repository();
    assert_eq!(packages_below(tree, &["crates"]).len(), ARROWS.len(), "each drawn crate is there");
    none(&arrows(tree));
}

#[test]
fn an_arrow_upwards_is_found() {
    let tree = Tree::of(&[
        ("crates/network/Cargo.toml", "[dependencies]\ndroste-model = \"0\"\n[target.'cfg(unix)'.build-dependencies]\nother = { package = \"droste-engine\", version = \"0\" }"),
        ("crates/image/Cargo.toml", "[dev-dependencies]\ndroste-network = \"0\""),
        ("crates/volume/Cargo.toml", ""),
    ]);
    let wanted =
        ["droste-image depends on droste-network, against the arrows", "droste-network depends on droste-engine, against the arrows", "crates/volume is not among the arrows"];
    exactly(&arrows(&tree), &wanted);
}

#[test]
fn the_client_knows_no_daemon() {
    none(&client(Tree::repository()));
    let tree = Tree::of(&[("crates/cli/src/main.rs", "droste_daemon::run()"), ("crates/cli/src/app.rs", "use droste_daemon::run;")]);
    exactly(&client(&tree), &["crates/cli/src/app.rs names the daemon: only main.rs may"]);
}

#[test]
fn every_package_takes_the_workspaces_lints() {
    none(&lints(Tree::repository()));
    let tree = Tree::of(&[("tests/x/Cargo.toml", "[lints]\nworkspace = false"), ("crates/y/Cargo.toml", "[lints]\nworkspace = true")]);
    exactly(&lints(&tree), &["tests/x does not take the workspace's lints"]);
}
