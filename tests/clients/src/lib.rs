//! Where the unmodified clients and servers are that the tests drive, and how they get into a container. The
//! days are in `days/` (shell, Python, JavaScript), the projects in `compose/` and `programs/`, the tests in
//! `tests/`.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

pub mod place;

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where `scripts/clients` put them: `DROSTE_TEST_CLIENTS`, or `clients` in the target directory.
pub fn clients() -> PathBuf {
    let dir = std::env::var_os("DROSTE_TEST_CLIENTS").map_or_else(
        || {
            let test = std::env::current_exe().unwrap();
            let target = test.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists());
            target.expect("the test runs from a cargo target directory").join("clients")
        },
        PathBuf::from,
    );
    assert!(dir.is_dir(), "{} is missing: run scripts/clients {0}", dir.display());
    dir
}

/// A folder of this package.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Copies a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap();
    assert!(done.success(), "copy {} to {}", from.display(), to.display());
}

/// Puts docker's client and its compose plugin into `dir/client`, with the libraries that they need in folders of
/// `dir`, and gives the binds that bring all of it into a container that has no libraries.
pub fn portable(dir: &Path) -> Vec<String> {
    let plugins = dir.join("client/cli-plugins");
    std::fs::create_dir_all(&plugins).unwrap();
    for (program, to) in [("bin/docker", "client/docker"), ("cli-plugins/docker-compose", "client/cli-plugins/docker-compose")] {
        let program = clients().join(program);
        std::fs::copy(&program, dir.join(to)).unwrap();
        let needs = Command::new("ldd").arg(&program).output().unwrap().stdout;
        for library in String::from_utf8_lossy(&needs).split_whitespace().filter(|word| word.starts_with('/')) {
            let to = dir.join(&library[1..]);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(library, to).unwrap();
        }
    }
    ["client", "lib", "lib64", "usr/lib"].iter().filter(|place| dir.join(place).is_dir()).map(|place| format!("{}/{place}:/{place}", dir.display())).collect()
}
