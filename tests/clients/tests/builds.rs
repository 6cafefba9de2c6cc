//! What the users of unmodified clients see who ask for a build: one sentence that says what is not here and what to
//! do instead, and no half-made image.
#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use droste_test_clients::clients;
use droste_test_clients::place::{Machine, Place};
use droste_test_support::Engine;

const SENTENCE: &str = "building images is not part of this version of Droste: build with another tool and load the result with 'docker load', or pull it from a registry";

/// Runs a client's build of a folder with a Dockerfile; gives what it said.
fn refused(build: &str) {
    let e = Engine::shared();
    if e.not_on_docker("that one builds") {
        return;
    }
    let before = e.get("/images/json?all=1");
    let place = Machine::new(e);
    let folder = "cd $SCRATCH && printf 'FROM %s\\nRUN true\\n' $IMAGE >Dockerfile";
    let said = place.shell(&format!("{folder} && PATH={}:$PATH && {build}", clients().join("bin").display()));
    assert!(said.code != Some(0), "{said:?}");
    assert_eq!(said.text.matches(SENTENCE).count(), 1, "{said:?}");
    assert_eq!(e.get("/images/json?all=1"), before);
}

#[test]
fn of_docker_build() {
    refused("DOCKER_BUILDKIT=0 docker build -t made .");
}

/// By itself Compose asks the engine for no build: it starts BuildKit in a container.
#[test]
fn of_compose() {
    let plugins = clients().join("cli-plugins");
    let project = "printf 'services: {app: {build: .}}\\n' >compose.yaml; mkdir -p .docker";
    refused(&format!("{project}; ln -s {} .docker/cli-plugins; HOME=$SCRATCH DOCKER_BUILDKIT=0 docker compose build", plugins.display()));
}

#[test]
fn of_docker_py() {
    refused("python3 -c \"import docker; docker.from_env().images.build(path='.')\"");
}
