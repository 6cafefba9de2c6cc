//! What a `Cargo.toml` says of dependencies.

use std::collections::BTreeSet;

use crate::tree::Tree;

/// Dependencies of every kind, by the name of their package.
pub(crate) struct Dependencies {
    /// What the crate itself is built with: ordinary and build dependencies, of every target.
    pub normal: BTreeSet<String>,
    /// What its tests need beyond that.
    pub dev: BTreeSet<String>,
}

/// The dependencies that a manifest names; `None` if there is no such manifest.
pub(crate) fn dependencies(tree: &Tree, folder: &str) -> Option<Dependencies> {
    let manifest: toml::Table = tree.text(&format!("{folder}/Cargo.toml"))?.parse().unwrap();
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let tables: Vec<&toml::Table> = std::iter::once(&manifest).chain(targets.into_iter().flat_map(|all| all.values().filter_map(toml::Value::as_table))).collect();
    let named = |kinds: &[&str]| tables.iter().flat_map(|table| kinds.iter().flat_map(|kind| packages(table, kind))).collect();
    Some(Dependencies { normal: named(&["dependencies", "build-dependencies"]), dev: named(&["dev-dependencies"]) })
}

/// Folders with a manifest directly below one of these.
pub(crate) fn packages_below(tree: &Tree, folders: &[&str]) -> Vec<String> {
    let manifests = tree.files().filter_map(|(path, _)| path.strip_suffix("/Cargo.toml"));
    manifests.filter(|folder| folder.rsplit_once('/').is_some_and(|(above, _)| folders.contains(&above))).map(str::to_owned).collect()
}

fn packages(table: &toml::Table, kind: &str) -> Vec<String> {
    let entries = table.get(kind).and_then(toml::Value::as_table);
    let name = |(key, value): (&String, &toml::Value)| value.get("package").and_then(toml::Value::as_str).unwrap_or(key).to_owned();
    entries.into_iter().flatten().map(name).collect()
}
