//! What a layer does not know: the engine no HTTP, the daemon no namespaces, nobody a hole left open.

use crate::manifest::{dependencies, packages_below};
use crate::source::{code, words};
use crate::tree::Tree;
use crate::{exactly, none};

/// Crates that speak HTTP, or parse it.
const HTTP: [&str; 13] = ["actix-web", "axum", "h2", "http", "http-body", "http-body-util", "httparse", "hyper", "hyper-util", "reqwest", "tower", "ureq", "warp"];

/// Who may: the daemon serves, the client asks, images come from registries, and plugins are asked.
const SPEAKS_HTTP: [&str; 4] = ["daemon", "cli", "image", "plugin"];

/// Words that enter or change a namespace. `mount` counts as a call or a module only.
const NAMESPACES: [&str; 9] = ["setns", "unshare", "unshare_unsafe", "open_tree", "move_mount", "fsopen", "pivot_root", "umount", "chroot"];

/// Where a program may be started: the shim, a configured OCI runtime, AppArmor's compiler, and the client with its
/// helpers and plugins.
const STARTS: [&str; 4] = ["crates/runtime/src/daemon/spawn.rs", "crates/runtime/src/daemon/apparmor.rs", "crates/runtime/src/shim/oci.rs", "crates/cli/src/"];

/// Macros of unfinished work.
const HOLES: [&str; 3] = ["todo", "unimplemented", "dbg"];

fn http(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for folder in packages_below(tree, &["crates"]) {
        let name = folder.trim_start_matches("crates/");
        let found = dependencies(tree, &folder).unwrap().normal;
        for used in HTTP.iter().filter(|used| !SPEAKS_HTTP.contains(&name) && found.contains(**used)) {
            findings.push(format!("droste-{name} depends on {used}, and must not know HTTP"));
        }
    }
    findings
}

fn namespaces(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in tree.rust("crates/daemon/src/") {
        for (line, word, rest) in words(&code(text)) {
            let mounts = word == "mount" && (rest.starts_with('(') || rest.starts_with("::"));
            if mounts || NAMESPACES.contains(&word) {
                findings.push(format!("{path}:{line} says {word}: the daemon opens no namespace, the engine does"));
            }
        }
    }
    findings
}

/// Programs that are started elsewhere; what a file's own tests do does not count.
fn helpers(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    let sources = tree.rust("crates/").filter(|(path, _)| path.contains("/src/"));
    for (path, text) in sources.filter(|(path, _)| !STARTS.iter().any(|allowed| path.starts_with(allowed))) {
        let own = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for (line, _, _) in words(&code(own)).filter(|(_, word, rest)| *word == "Command" && rest.starts_with("::new")) {
            findings.push(format!("{path}:{line} starts a program"));
        }
    }
    findings
}

fn holes(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in tree.rust("") {
        for (line, word, _) in words(&code(text)).filter(|(_, word, rest)| HOLES.contains(word) && rest.starts_with('!')) {
            findings.push(format!("{path}:{line} leaves {word}! behind"));
        }
    }
    findings
}

/// A file says at its head what it owns.
fn heads(tree: &Tree) -> Vec<String> {
    tree.rust("").filter(|(_, text)| !text.starts_with("//!")).map(|(path, _)| format!("{path} has no //! paragraph at its head")).collect()
}

#[test]
fn the_engine_knows_no_http() {
    none(&http(Tree::repository()));
    let tree = Tree::of(&[("crates/engine/Cargo.toml", "[dependencies]\nhyper = \"1\""), ("crates/daemon/Cargo.toml", "[dependencies]\nhyper = \"1\"")]);
    exactly(&http(&tree), &["droste-engine depends on hyper, and must not know HTTP"]);
}

#[test]
fn the_daemon_opens_no_namespace() {
    none(&namespaces(Tree::repository()));
    let tree = Tree::of(&[("crates/daemon/src/a.rs", "// setns\nlet mount = 1;\nrustix::mount::x();\nmount(a);\nsetns(b)")]);
    let wanted = [
        "crates/daemon/src/a.rs:3 says mount: the daemon opens no namespace, the engine does",
        "crates/daemon/src/a.rs:4 says mount: the daemon opens no namespace, the engine does",
        "crates/daemon/src/a.rs:5 says setns: the daemon opens no namespace, the engine does",
    ];
    exactly(&namespaces(&tree), &wanted);
}

#[test]
fn no_helper_programs() {
    none(&helpers(Tree::repository()));
    let tree = Tree::of(&[
        ("crates/network/src/a.rs", "use std::process::Command;\nfn a() { Command::new(\"ip\"); }\n#[cfg(test)]\nmod tests { fn b() { Command::new(\"nft\"); } }"),
        ("crates/cli/src/a.rs", "Command::new(\"ssh\")"),
    ]);
    exactly(&helpers(&tree), &["crates/network/src/a.rs:2 starts a program"]);
}

#[test]
fn nothing_is_left_open() {
    none(&holes(Tree::repository()));
    let tree = Tree::of(&[("crates/x/src/a.rs", "fn todo() {}\nfn a() { todo() }\nfn b() { todo!() }")]);
    exactly(&holes(&tree), &["crates/x/src/a.rs:3 leaves todo! behind"]);
}

#[test]
fn every_file_says_what_it_owns() {
    none(&heads(Tree::repository()));
    let tree = Tree::of(&[("crates/x/src/a.rs", "//! Owns a."), ("crates/x/src/b.rs", "use a;")]);
    exactly(&heads(&tree), &["crates/x/src/b.rs has no //! paragraph at its head"]);
}
