//! Each client's day: the docker command line, docker-py and dockerode as scripts in `days/`, bollard
//! here. All of them are the published ones, unmodified; `scripts/clients` fetches them.
#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod bollard_day;
mod registry;

use std::path::{Path, PathBuf};
use std::process::Command;

use droste_test_clients::clients;
use droste_test_support::Engine;
use droste_test_support::engine::droste_program;
use droste_test_support::image::BASE;

use registry::Registry;

/// Whom a registry that wants a password knows.
const USER: &str = "alice";
const SECRET: &str = "a-secret";

/// Runs a day's script; what it prints is shown when it fails.
fn day(program: &Path, script: &str, client: &Path) {
    day_with(program, script, client, &Registry::start(Engine::shared(), &clients()));
}

fn day_with(program: &Path, script: &str, client: &Path, registry: &Registry) {
    let e = Engine::shared();
    let scratch = e.scratch();
    let output = Command::new(program)
        .arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("days").join(script))
        .env_remove("DOCKER_CONTEXT")
        .env("DOCKER", client)
        .env("DOCKER_HOST", e.host())
        .env("DOCKER_SOCKET", e.socket())
        .env("ENGINE_PID", e.pid().to_string())
        .env("IMAGE", BASE.trim_end_matches(":latest"))
        .env("NODE_PATH", clients().join("node/node_modules"))
        .env("PREFIX", e.name("day"))
        .env("REGISTRY", registry.address())
        .env("SCRATCH", scratch.path())
        .env("SECRET", SECRET)
        .env("USER", USER)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    assert!(output.status.success(), "{script}: {}\n{}\n{}", output.status, String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

#[test]
fn docker_cli() {
    day(Path::new("bash"), "docker-cli.sh", &clients().join("bin/docker"));
}

/// `alias docker=droste` is safe: our client does the same day.
#[test]
fn droste_cli() {
    day(Path::new("bash"), "docker-cli.sh", &droste_program());
}

#[test]
fn passwords() {
    let e = Engine::shared();
    if e.not_on_docker("the registry is in the network of an engine that the test started") {
        return;
    }
    let registry = Registry::with_password(e, &clients(), USER, SECRET);
    for client in [clients().join("bin/docker"), droste_program()] {
        day_with(Path::new("bash"), "login.sh", &client, &registry);
    }
}

#[test]
fn docker_py() {
    day(&clients().join("py/bin/python"), "docker-py.py", Path::new(""));
}

#[test]
fn dockerode() {
    day(Path::new("node"), "dockerode.js", Path::new(""));
}

#[test]
fn bollard() {
    bollard_day::run(Engine::shared());
}
