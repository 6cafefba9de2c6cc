//! What the users of unmodified clients see who ask for a build: one sentence that says what is not here and what to
//! do instead, and no half-made image.
#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use droste_test_clients::clients;
use droste_test_clients::place::{Machine, Place};
use droste_test_support::Engine;
use testcontainers::GenericBuildableImage;
use testcontainers::runners::AsyncBuilder;

const SENTENCE: &str = "building images is not part of this version of Droste: build with 'docker buildx build --load', which does it in a container, or with another tool, and load the result with 'docker load'";

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

/// What an error says, and what those that caused it say.
fn sources(error: &dyn std::error::Error) -> Vec<String> {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect()
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

#[test]
fn of_testcontainers_for_python() {
    refused("TESTCONTAINERS_RYUK_DISABLED=true python3 -c \"from testcontainers.core.image import DockerImage; DockerImage(path='.').build()\"");
}

#[test]
fn of_testcontainers_for_node() {
    let build = "require('testcontainers').GenericContainer.fromDockerfile('.').build().then(() => process.exit(0), (error) => { console.error(error.message); process.exit(1); })";
    refused(&format!("TESTCONTAINERS_RYUK_DISABLED=true node -e \"{build}\""));
}

/// The build itself; `of_testcontainers_for_rust` runs it, in this program, where the engine is.
#[tokio::test]
#[ignore = "of_testcontainers_for_rust runs it"]
async fn in_rust() {
    let image = GenericBuildableImage::new("made", "latest").with_dockerfile("./Dockerfile");
    let error = image.build_image().await.unwrap_err();
    panic!("{}", sources(&error).join(": "));
}

#[test]
fn of_testcontainers_for_rust() {
    refused("$ITSELF --ignored --exact --nocapture in_rust");
}

#[test]
fn of_a_dev_container() {
    let settings = "mkdir .devcontainer && echo '{\"build\": {\"dockerfile\": \"../Dockerfile\"}}' >.devcontainer/devcontainer.json";
    let program = clients().join("sdks/js/devcontainers/node_modules/.bin/devcontainer");
    refused(&format!("{settings} && node {} up --workspace-folder . --log-format text", program.display()));
}
