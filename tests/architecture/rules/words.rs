//! Words that must or must not stand in the repository's files.

use crate::tree::Tree;
use crate::{exactly, none};

/// What a newcomer types. `README.md` names each.
const COMMANDS: [&str; 4] = ["make demo", "make test", "make bench", "make install"];

/// The only source of packages that a lock file names; a mirror's address would not exist elsewhere.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Settings by which a package manager is pointed at a mirror, as they begin in files and on command lines.
const MIRROR_SETTINGS: [&str; 8] = ["replace-with", "[source.", "CARGO_REGISTRIES_", "--index-url", "PIP_INDEX_URL", "npm_config_registry", "--registry", "GOPROXY"];

/// Paths of the machine on which the project was written. Put together here, so that this file does not name them.
fn private_paths() -> Vec<String> {
    let below_work = ["main", "shared", ".library"].map(|folder| format!("/{}/{folder}", "work"));
    let below_tmp = ["real/", "droste/", "target-"].map(|folder| format!("/{}/{folder}", "tmp"));
    let beside = format!("..{}shared", '/');
    below_work.into_iter().chain(below_tmp).chain([beside]).collect()
}

fn newcomer(tree: &Tree) -> Vec<String> {
    let text = tree.text("README.md").unwrap_or_default();
    COMMANDS.iter().filter(|command| !text.contains(**command)).map(|command| format!("README.md does not name `{command}`")).collect()
}

fn paths(tree: &Tree) -> Vec<String> {
    let private = private_paths();
    let found = tree.files().flat_map(|(path, text)| private.iter().filter(|word| text.contains(*word)).map(move |word| format!("{path} names {word}")));
    found.collect()
}

fn mirrors(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| *path != "tests/architecture/rules/words.rs") {
        let name = path.rsplit('/').next().unwrap_or(path);
        if name == "Cargo.lock" {
            let sources = text.lines().filter_map(|line| line.strip_prefix("source = "));
            findings.extend(sources.filter(|source| source.trim_matches('"') != CRATES_IO).map(|source| format!("{path} names the source {source}")));
        }
        // The client's own --registry-mirror and Docker's registries are another matter: these are settings of builds.
        let builds = name == "Makefile" || !name.contains('.') || [".toml", ".npmrc", ".conf", ".sh", ".py"].iter().any(|end| name.ends_with(end));
        for setting in MIRROR_SETTINGS.iter().filter(|setting| builds && text.contains(**setting)) {
            findings.push(format!("{path} sets {setting}: packages come from where the machine says"));
        }
    }
    findings
}

#[test]
fn the_readme_says_what_to_type() {
    none(&newcomer(Tree::repository()));
    exactly(&newcomer(&Tree::of(&[("README.md", "Type `make demo` or `make bench`, then `make install`.")])), &["README.md does not name `make test`"]);
}

#[test]
fn no_file_names_the_machine_it_was_written_on() {
    none(&paths(Tree::repository()));
    let beside = format!("see ..{}shared", '/');
    exactly(&paths(&Tree::of(&[("docs/a.md", &beside)])), &[&format!("docs/a.md names ..{}shared", '/')]);
}

#[test]
fn packages_come_from_their_public_registries() {
    none(&mirrors(Tree::repository()));
    let tree = Tree::of(&[
        ("Cargo.lock", "source = \"registry+https://crates.example/index\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\""),
        ("scripts/setup", "pip install --index-url https://pip.example"),
        ("docs/a.md", "--index-url"),
    ]);
    let wanted = ["Cargo.lock names the source \"registry+https://crates.example/index\"", "scripts/setup sets --index-url: packages come from where the machine says"];
    exactly(&mirrors(&tree), &wanted);
}
