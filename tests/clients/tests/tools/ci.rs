//! What CI systems call, replayed from the scripts in `ci/`: in a container that holds the socket, and on the machine.
//! Their programs can't be had everywhere; each script says what it stands for and asserts what the original needs.

use std::path::Path;
use std::process::Command;

use droste_test_clients::{clients, copy, folder};
use droste_test_support::image::BASE;
use droste_test_support::{Container, Engine, json};

use crate::image::{self, TOOLS, program};

/// The bind that makes a container a host.
pub(crate) const SOCKET: &str = "/var/run/docker.sock:/var/run/docker.sock";

/// What a workflow's author chose, as the scripts take it; the pages in docs/recipes have others.
fn choices() -> Vec<String> {
    let inner = format!("docker run --rm -v $PWD:/src -w /src {BASE} sh -c 'ls >listed' && test -s listed");
    let steps = format!("STEPS={inner}");
    let image = |name: &str| format!("{name}={TOOLS}");
    vec![steps, image("AGENT_IMAGE"), image("JOB_IMAGE"), image("SERVICE_IMAGE"), format!("AGENT_ARGS=-v {SOCKET}"), "SERVICE_ALIAS=backend".to_owned()]
}

/// A container that holds the socket, with the scripts in it and a volume at /work, in which tools keep their work.
pub(crate) fn agent<'e>(e: &'e Engine, scratch: &Path, host_config: &[(&str, droste_test_support::Value)]) -> Container<'e> {
    image::make(e);
    let scripts = scratch.join("ci");
    copy(&folder("ci"), &scripts);
    let mut body = json!({"Image": TOOLS, "HostConfig": {"Binds": [SOCKET, format!("{}:/ci:ro", scripts.display())], "Mounts": [{"Type": "volume", "Target": "/work"}]}});
    for (key, value) in host_config {
        body["HostConfig"][key] = value.clone();
    }
    e.run(body)
}

/// Runs a script in a container that holds the socket.
pub(crate) fn contained(agent: &Container, script: &str, choices: &[String]) {
    let settings =
        ["DOCKER=docker", "SOCKET=/var/run/docker.sock", "BIND=/var/run/docker.sock", "CURL=curl", "SOCAT=socat", "NAME=replay", "WORK=/work", "INSIDE=", "CONTAINED=yes"];
    let mut env: Vec<String> = settings.map(str::to_owned).to_vec();
    env.extend([format!("IMAGE={BASE}"), format!("TOOLS={TOOLS}")]);
    env.extend(choices.iter().cloned());
    let outcome = agent.exec_with(json!({"Cmd": ["sh", format!("/ci/{script}")], "Env": env}));
    assert_eq!(outcome.code, 0, "{script}: {}\n{}", outcome.out, outcome.err);
}

/// Runs a script on the machine.
pub(crate) fn on_machine(e: &Engine, script: &str, choices: &[String]) {
    image::make(e);
    let scratch = e.scratch();
    let bind = if e.is_docker() { e.socket().display().to_string() } else { "/var/run/docker.sock".to_owned() };
    let output = Command::new("busybox")
        .args(["sh", &folder("ci").join(script).display().to_string()])
        .env_remove("DOCKER_CONTEXT")
        .env("DOCKER", clients().join("bin/docker"))
        .env("DOCKER_HOST", e.host())
        .env("SOCKET", e.socket())
        .env("BIND", bind)
        .env("CURL", program("curl"))
        .env("SOCAT", program("socat"))
        .env("NAME", e.name("replay"))
        .env("WORK", scratch.path())
        .env("INSIDE", format!("nsenter --net={}", e.netns_path().display()))
        .env("CONTAINED", "no")
        .envs([("IMAGE", BASE), ("TOOLS", TOOLS)])
        .envs(choices.iter().map(|choice| choice.split_once('=').unwrap()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

/// Runs a script in a container of an engine that gives containers a host of their own.
fn in_a_container(script: &str, host_config: &[(&str, droste_test_support::Value)]) {
    let e = Engine::shared();
    if e.not_on_docker("a container's socket is the machine's there") {
        return;
    }
    let scratch = e.scratch();
    let agent = agent(e, scratch.path(), host_config);
    contained(&agent, script, &choices());
    assert_eq!(e.get("/containers/json?all=1").as_array().unwrap().len(), 1, "nothing of it was on the machine");
}

#[test]
fn jenkins_in_a_container() {
    in_a_container("jenkins.sh", &[]);
}

#[test]
fn jenkins_on_the_machine() {
    on_machine(Engine::shared(), "jenkins.sh", &choices());
}

#[test]
fn gitlab_runner_in_a_container() {
    in_a_container("gitlab.sh", &[]);
}

#[test]
fn gitlab_runner_on_the_machine() {
    on_machine(Engine::shared(), "gitlab.sh", &choices());
}

#[test]
fn github_runner_in_a_container() {
    in_a_container("github.sh", &[]);
}

#[test]
fn github_runner_on_the_machine() {
    on_machine(Engine::shared(), "github.sh", &choices());
}

#[test]
fn act_in_a_container() {
    in_a_container("act.sh", &[]);
}

#[test]
fn act_on_the_machine() {
    on_machine(Engine::shared(), "act.sh", &choices());
}

/// Its nodes are privileged, which below is as much as their host is.
#[test]
fn kind_in_a_container() {
    in_a_container("kind.sh", &[]);
}

#[test]
fn kind_in_a_privileged_container() {
    in_a_container("kind.sh", &[("Privileged", json!(true))]);
}

#[test]
fn kind_on_the_machine() {
    on_machine(Engine::shared(), "kind.sh", &choices());
}
