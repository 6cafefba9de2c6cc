//! Test programs for a machine without Rust: built static, and asked which tests they have.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Initramfs;
use crate::kernel::{target_dir, unpacked, workspace};

/// One test program.
#[derive(Clone, Debug)]
pub struct Program {
    /// `PACKAGE-TARGET`, such as `cgroup-kernel`.
    pub name: String,
    /// Where it was built.
    pub path: PathBuf,
    /// Its tests.
    pub tests: Vec<String>,
}

/// Builds the integration tests of some packages whose target's name matches a pattern.
///
/// They go to a target directory of their own: these flags would drive out what is in the common one.
pub fn build(packages: &[&str], target: &str) -> Vec<Program> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(workspace())
        .args(["test", "--no-run", "--message-format=json-render-diagnostics", "--test", target])
        .args(["--target", &format!("{}-unknown-linux-gnu", std::env::consts::ARCH)])
        .args(packages.iter().flat_map(|package| ["-p", package]))
        .arg("--target-dir")
        .arg(target_dir().join("vm/build"))
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .env("CARGO_PROFILE_DEV_STRIP", "debuginfo")
        .stderr(Stdio::inherit());
    let output = cargo.output().unwrap_or_else(|error| panic!("cargo: {error}"));
    assert!(output.status.success(), "the static tests of {packages:?} were not built: {}", output.status);
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut programs: Vec<Program> = messages.lines().filter_map(|line| program(&serde_json::from_str(line).ok()?)).collect();
    // Cargo names them as they get ready.
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    programs
}

/// A test program among cargo's messages.
fn program(message: &Value) -> Option<Program> {
    let executable = message["executable"].as_str().filter(|_| message["profile"]["test"] == true)?;
    let package = Path::new(message["manifest_path"].as_str()?).parent()?.file_name()?.to_str()?;
    let name = format!("{package}-{}", message["target"]["name"].as_str()?);
    let tests = tests_in(Path::new(executable));
    assert!(!tests.is_empty(), "{name} has no tests");
    Some(Program { name, path: executable.into(), tests })
}

fn tests_in(program: &Path) -> Vec<String> {
    let listed = Command::new(program).args(["--list", "--format", "terse"]).output();
    let listed = listed.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// Gives a guest a program of this machine's as `bin/NAME`, with the libraries that `ldd` names where they are
/// here; a static one has none.
pub fn add(guest: &mut Initramfs, name: &str, program: &str) {
    let script = "set -e; path=$(command -v \"$1\"); echo \"$path\"; ! found=$(ldd \"$path\") || grep -o '/[^ ]*' <<<\"$found\" || :";
    let run = Command::new("bash").args(["-c", script, "bash", program]).output().expect("bash runs");
    assert!(run.status.success(), "the program {program} is missing (scripts/setup test)");
    for (at, path) in String::from_utf8_lossy(&run.stdout).lines().enumerate() {
        let bytes = std::fs::read(path).expect("a file that ldd names");
        // The guest's PATH is short; the loader's and the libraries' paths are as they are here.
        let place = if at == 0 { format!("bin/{name}") } else { path.trim_start_matches('/').to_owned() };
        guest.file(&place, 0o755, &bytes);
    }
}

/// AppArmor's compiler, with what Debian configures for it.
pub fn add_apparmor(guest: &mut Initramfs) {
    let parser = unpacked("apparmor", "sbin/apparmor_parser");
    add(guest, "apparmor_parser", parser.to_str().expect("a path of letters"));
    let root = unpacked("apparmor", "etc").with_file_name("");
    for part in ["etc/apparmor", "etc/apparmor.d/abi", "usr/share/apparmor-features"] {
        guest.tree(&root.join(part), part);
    }
}
