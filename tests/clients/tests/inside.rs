//! Unmodified clients, each installed in an image and run in a container that is a host: the days of docker-py,
//! dockerode and bollard, a dev container's morning, and a build of Buildbot with its master and worker in containers.
#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod bollard_day;

use droste_test_clients::clients;
use droste_test_clients::place::{Inside, Place, installed, itself};
use droste_test_support::image::encode;
use droste_test_support::{Engine, json};

/// A container's socket is the machine's on the real Docker.
fn only_one_host(e: &Engine) -> bool {
    e.not_on_docker("a container's socket is the machine's there")
}

/// A bind of one of the fetched programs.
fn program(name: &str) -> String {
    let path = std::fs::canonicalize(clients().join("bin").join(name)).unwrap();
    format!("{}:/usr/bin/{name}:ro", path.display())
}

/// A day of `days/`, beside a registry in the same container.
fn day(language: &str, client: &str, command: &str) {
    let e = Engine::shared();
    if only_one_host(e) {
        return;
    }
    let image = installed(e, language, client);
    let place = Inside::new(e, &image.name, &[program("docker-registry")]);
    let said = place.shell(&format!("export IMAGE=${{IMAGE%:latest}}; sh $SDKS/in-container.sh {command}")).well();
    assert!(said.contains("the day is done"), "{said}");
}

#[test]
fn docker_py() {
    day("python", "docker", "python3 /days/docker-py.py");
}

#[test]
fn dockerode() {
    day("node", "dockerode", "node /days/dockerode.js");
}

/// The day itself; `bollard` runs it, in this program, in a container.
#[test]
#[ignore = "bollard runs it"]
fn bollard_there() {
    bollard_day::run(Engine::shared());
}

#[test]
fn bollard() {
    let e = Engine::shared();
    if only_one_host(e) {
        return;
    }
    let image = installed(e, "python", "docker");
    let place = Inside::new(e, &image.name, &[itself()]);
    let said = place.shell("DROSTE_TEST_DOCKER_HOST=unix:///var/run/docker.sock $ITSELF --ignored --exact bollard_there").well();
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
fn devcontainer() {
    let e = Engine::shared();
    if only_one_host(e) {
        return;
    }
    let image = installed(e, "node", "devcontainers");
    let place = Inside::new(e, &image.name, &[program("docker")]);
    place.shell("sh $SDKS/devcontainer.sh").well();
    assert_eq!(place.host().get("/containers/json?all=1"), json!([]));
}

#[test]
fn buildbot() {
    let e = Engine::shared();
    if only_one_host(e) {
        return;
    }
    let image = installed(e, "python", "buildbot");
    let worker = format!("{}:latest", e.name("worker"));
    let from = e.create(json!({"Image": image.name, "Cmd": ["true"]}));
    let cmd = encode("CMD [\"sh\",\"/sdks/buildbot.sh\",\"worker\"]");
    e.request("POST", &format!("/commit?container={from}&repo={}&changes={cmd}", worker.trim_end_matches(":latest"))).send().expect_status(201);
    let place = Inside::new(e, &image.name, &[]);
    let said = place.shell(&format!("WORKER={worker} sh $SDKS/buildbot.sh")).well();
    assert!(said.contains("from the master"), "{said}");
}
