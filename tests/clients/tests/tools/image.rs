//! The image that tools run in: busybox, and over it the unmodified `docker` with its compose plugin, curl, socat,
//! ps and nohup, each with the libraries that it needs. It stands in for what the tools' own images have inside.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use droste_test_clients::clients;
use droste_test_support::Engine;
use droste_test_support::image::{Archive, import, rootfs};

/// Its name in the replays.
pub(crate) const TOOLS: &str = "droste-test-tools:latest";

/// Where programs are in it that busybox has too, before busybox.
const PATH: &str = "ENV PATH=/usr/local/bin:/usr/bin:/bin";

/// A program of this machine, as `PATH` has it.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: run scripts/setup test"))
}

/// The libraries that programs need, and their loader; none for static ones.
fn libraries(programs: &[PathBuf]) -> BTreeSet<String> {
    let output = Command::new("ldd").args(programs).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':')).map(str::to_owned).collect()
}

fn add(archive: Archive, path: &str, file: &Path) -> Archive {
    let data = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    archive.file(path.trim_start_matches('/'), 0o755, &data)
}

/// The root file system, with or without Compose.
fn root() -> Vec<u8> {
    let programs = [
        ("usr/local/bin/docker", clients().join("bin/docker")),
        ("usr/local/lib/docker/cli-plugins/docker-compose", clients().join("cli-plugins/docker-compose")),
        ("usr/bin/curl", program("curl")),
        ("usr/bin/socat", program("socat")),
        ("usr/bin/ps", program("ps")),
        ("usr/bin/nohup", program("nohup")),
    ];
    let files: Vec<PathBuf> = programs.iter().map(|(_, file)| file.clone()).collect();
    let archive = libraries(&files).iter().fold(rootfs(), |archive, library| add(archive, library, Path::new(library)));
    programs.iter().fold(archive, |archive, (path, file)| add(archive, path, file)).finish()
}

/// Makes the image, unless the engine has it.
pub(crate) fn make(e: &Engine) {
    if e.request("GET", &format!("/images/{TOOLS}/json")).send().status != 200 {
        import(e, TOOLS, &[PATH, "CMD [\"sleep\", \"1000000\"]"], root());
    }
}
