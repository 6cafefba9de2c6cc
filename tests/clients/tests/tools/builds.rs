//! Builds with the unmodified buildx: refused where BuildKit's image can't be had, done by BuildKit in a container
//! where it can, and by the real dockerd in a container. The image is made of Debian's dockerd, which has BuildKit
//! inside.

use droste_test_clients::{clients, folder};
use droste_test_support::image::{import, rootfs};
use droste_test_support::{Container, Engine, json};

use crate::ci::{self, SOCKET};
use crate::image;

/// The image that buildx asks for unless it is told of another.
const BUILDKIT: &str = "moby/buildkit:buildx-stable-1";

/// Makes that image.
pub(crate) fn make_buildkit(e: &Engine) {
    let archive = rootfs().tree("", &clients().join("dockerd")).tree("usr/local/bin", &folder("buildkit"));
    let path = "ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    import(e, BUILDKIT, &[path, "ENTRYPOINT [\"buildkitd\"]"], archive.finish());
}

/// Files of the fetched plugins and of a registry, and where they are in a container.
fn brought() -> Vec<String> {
    let files = [
        ("cli-plugins-buildx/docker-compose", "/plugins/docker-compose"),
        ("cli-plugins-buildx/docker-buildx", "/plugins/docker-buildx"),
        ("bin/docker-registry", "/usr/bin/docker-registry"),
    ];
    files.iter().map(|(file, to)| format!("{}:{to}:ro", clients().join(file).canonicalize().unwrap().display())).collect()
}

fn on_machine(e: &Engine, script: &str) {
    let plugins = clients().join("cli-plugins-buildx");
    let registry = clients().join("bin/docker-registry");
    let choices = [format!("PLUGINS={}", plugins.display()), format!("REGISTRY={}", registry.display()), format!("BUILDKIT={BUILDKIT}")];
    ci::on_machine(e, script, &choices);
}

/// A container that holds the socket, with or without privileges, for which its containers' have a limit in it.
fn agent<'e>(e: &'e Engine, scratch: &std::path::Path, privileged: bool) -> Container<'e> {
    let mut binds = brought();
    binds.extend([SOCKET.to_owned(), format!("{}:/ci:ro", scratch.join("ci").display())]);
    // Nobody is there to ask, which is found out at once.
    ci::agent(e, scratch, &[("Binds", json!(binds)), ("Privileged", json!(privileged)), ("Dns", json!(["127.0.0.1"]))])
}

fn in_a_container(e: &Engine, script: &str, privileged: bool) {
    let scratch = e.scratch();
    let agent = agent(e, scratch.path(), privileged);
    let choices = ["PLUGINS=/plugins", "REGISTRY=docker-registry", &format!("BUILDKIT={BUILDKIT}")].map(str::to_owned);
    ci::contained(&agent, script, &choices);
    assert_eq!(e.get("/containers/json?all=1").as_array().unwrap().len(), 1, "nothing of it was on the machine");
}

/// An engine of Droste's: the real Docker builds by itself.
fn droste() -> Option<&'static Engine> {
    let e = Engine::shared();
    (!e.not_on_docker("that one builds, and a container's socket is the machine's there")).then_some(e)
}

#[test]
fn without_buildkits_image_on_the_machine() {
    let Some(e) = droste() else { return };
    image::make(e);
    on_machine(e, "no-buildkit.sh");
}

#[test]
fn without_buildkits_image_in_a_container() {
    let Some(e) = droste() else { return };
    in_a_container(e, "no-buildkit.sh", false);
}

#[test]
fn by_buildkit_on_the_machine() {
    let Some(e) = droste() else { return };
    make_buildkit(e);
    on_machine(e, "buildkit.sh");
}

/// BuildKit makes containers itself, for which it needs the privileges that its host has.
#[test]
fn by_buildkit_in_a_privileged_container() {
    let Some(e) = droste() else { return };
    make_buildkit(e);
    in_a_container(e, "buildkit.sh", true);
}

#[test]
fn by_docker_in_a_container_on_the_machine() {
    let Some(e) = droste() else { return };
    make_buildkit(e);
    on_machine(e, "dind.sh");
}

#[test]
fn by_docker_in_a_container_below_a_privileged_one() {
    let Some(e) = droste() else { return };
    make_buildkit(e);
    in_a_container(e, "dind.sh", true);
}
