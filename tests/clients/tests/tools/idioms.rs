//! Habits of people who run the unmodified `docker` in a container with the socket: words that mean the container
//! itself, sockets that are handed on, and users other than root.

use std::process::Command;

use droste_test_clients::clients;
use droste_test_support::container::Outcome;
use droste_test_support::engine::droste_binds;
use droste_test_support::image::BASE;
use droste_test_support::{Container, Engine, Value, json};

use crate::ci::{SOCKET, agent};
use crate::image::{self, TOOLS};

/// Runs lines of a shell in a container, as one of its users.
fn shell_as(user: &str, container: &Container, script: &str) -> Outcome {
    let env = [format!("IMAGE={BASE}")];
    container.exec_with(json!({"Cmd": ["sh", "-ec", script], "User": user, "Env": env}))
}

/// What they print; they must succeed.
fn prints(container: &Container, script: &str) -> String {
    prints_as("root", container, script)
}

fn prints_as(user: &str, container: &Container, script: &str) -> String {
    let outcome = shell_as(user, container, script);
    assert_eq!(outcome.code, 0, "{script}: {}\n{}", outcome.out, outcome.err);
    outcome.out
}

/// Whether containers' sockets are the machine's here, as Docker's are.
fn is_dockers(e: &Engine) -> bool {
    e.not_on_docker("a container's socket is the machine's there")
}

#[test]
fn a_containers_own_names_mean_itself() {
    let e = Engine::shared();
    if is_dockers(e) {
        return;
    }
    let scratch = e.scratch();
    let c = agent(e, scratch.path(), &[]);
    assert_eq!(prints(&c, "docker inspect -f '{{.Id}}' $(hostname)").trim(), c.id);
    assert_eq!(prints(&c, "docker inspect -f '{{.Id}}' $(docker inspect -f '{{.Name}}' $(hostname))").trim(), c.id);
    // Its network: what it listens with is there, and its address is the other's.
    let web = "mkdir -p /www; echo mine >/www/page; busybox httpd -p 8123 -h /www";
    prints(&c, web);
    let page = "docker run --rm --network container:$(hostname) $IMAGE wget -qO- http://127.0.0.1:8123/page";
    assert_eq!(prints(&c, page), "mine\n");
    // Its processes.
    let count = "docker run --rm --pid container:$(hostname) $IMAGE sh -c 'ps | grep -c [s]leep.1000000'";
    assert_eq!(prints(&c, count), "1\n");
    // Its volumes, written to on both sides.
    prints(&c, "echo kept >/work/file; docker run --rm --volumes-from $(hostname) $IMAGE sh -c 'cat /work/file >/work/copy'");
    assert_eq!(prints(&c, "cat /work/copy"), "kept\n");
    // Its files.
    assert_eq!(prints(&c, "cd /tmp; docker cp -q $(hostname):/etc/marker . && cat marker"), "base\n");
    prints(&c, "echo there >/tmp/x; docker cp -q /tmp/x $(hostname):/etc/y");
    assert_eq!(prints(&c, "cat /etc/y"), "there\n");
    // It is no container of its own.
    assert_eq!(prints(&c, "docker ps -aq"), "");
    assert_ne!(shell_as("root", &c, "docker rm -f $(hostname)").code, 0);
}

#[test]
fn a_hostname_of_the_creators_choice_means_itself() {
    let e = Engine::shared();
    if is_dockers(e) {
        return;
    }
    image::make(e);
    let c = e.run(json!({"Image": TOOLS, "Hostname": "ci-runner", "HostConfig": {"Binds": [SOCKET]}}));
    assert_eq!(prints(&c, "docker inspect -f '{{.Id}}' $(hostname)").trim(), c.id);
}

#[test]
fn users_other_than_root_need_no_group() {
    let e = Engine::shared();
    if is_dockers(e) {
        return;
    }
    let scratch = e.scratch();
    let c = agent(e, scratch.path(), &[]);
    for user in ["app", "1234:5678"] {
        assert_eq!(prints_as(user, &c, "export DOCKER_CONFIG=/tmp/config; echo in | docker run -i --rm $IMAGE cat"), "in\n");
    }
}

/// The way of docker-outside-of-docker for a user whose group doesn't match the socket's.
#[test]
fn socat_hands_a_socket_on() {
    let e = Engine::shared();
    if is_dockers(e) {
        return;
    }
    image::make(e);
    let c = e.run(json!({"Image": TOOLS, "HostConfig": {"Binds": ["/var/run/docker.sock:/var/run/docker-host.sock"]}}));
    let listen = "socat UNIX-LISTEN:/var/run/docker.sock,fork,mode=660,user=app,backlog=128 UNIX-CONNECT:/var/run/docker-host.sock";
    prints(&c, &format!("nohup {listen} >/dev/null 2>&1 & until [ -S /var/run/docker.sock ]; do sleep 0.01; done"));
    let app = |script: &str| prints_as("app", &c, &format!("export DOCKER_CONFIG=/tmp/config; cd /tmp; {script}"));
    assert_eq!(app("docker ps -aq"), "");
    assert_eq!(app("printf 'one\\ntwo\\n' | docker run -i --rm $IMAGE sh -c 'cat; echo end'"), "one\ntwo\nend\n");
    assert_eq!(app("echo file >f; docker run --rm -v /tmp:/mnt $IMAGE cat /mnt/f"), "file\n");
    app("docker run -d --name inner $IMAGE sleep 1000");
    assert_eq!(app("echo typed | docker exec -i inner cat"), "typed\n");
    // What it binds in its turn is a socket of the engine's again, and not socat's.
    let below = app(&format!("docker run --rm -v {SOCKET} {TOOLS} docker ps -aq"));
    assert_eq!(below, "", "a host of its own");
    assert_eq!(app("docker ps --format '{{.Names}}'"), "inner\n");
    app("docker rm -f inner");
}

#[test]
fn use_api_socket_gives_a_host_and_the_clients_settings() {
    let e = Engine::shared();
    if is_dockers(e) {
        return;
    }
    let scratch = e.scratch();
    let c = agent(e, scratch.path(), &[]);
    prints(&c, "mkdir -p ~/.docker; echo '{\"auths\": {\"registry.example\": {\"auth\": \"YTpi\"}}}' >~/.docker/config.json");
    let below = "docker ps -aq; cat $DOCKER_CONFIG/config.json; docker run --rm $IMAGE echo below";
    let run = format!("docker run --rm --use-api-socket -e IMAGE {TOOLS} sh -ec '{below}'");
    let said = prints(&c, &run);
    assert!(said.contains("registry.example") && said.ends_with("below\n"), "{said}");
    assert_eq!(prints(&c, "docker ps -aq"), "");
}

#[test]
fn use_api_socket_on_the_machine_gives_a_host() {
    let e = Engine::shared();
    if is_dockers(e) {
        return;
    }
    image::make(e);
    let docker = |words: &[&str]| {
        let mut command = Command::new(clients().join("bin/docker"));
        let output = command.env("DOCKER_HOST", e.host()).env_remove("DOCKER_CONTEXT").args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let inside = format!("docker ps -q; docker run --rm {BASE} echo below");
    assert_eq!(docker(&["run", "--rm", "--use-api-socket", TOOLS, "sh", "-ec", &inside]), "below\n");
}

#[test]
fn use_api_socket_of_compose_gives_a_host_below() {
    let e = Engine::shared();
    if is_dockers(e) {
        return;
    }
    let scratch = e.scratch();
    let c = agent(e, scratch.path(), &[]);
    let yaml = format!("services: {{agent: {{image: {TOOLS}, use_api_socket: true}}}}");
    prints(&c, &format!("mkdir /tmp/p; echo '{yaml}' >/tmp/p/compose.yaml; cd /tmp/p; docker compose up -d"));
    let inside = "cd /tmp/p; docker compose exec -T agent sh -ec";
    assert_eq!(prints(&c, &format!("{inside} 'docker ps -q; docker run --rm {BASE} echo below'")), "below\n");
    prints(&c, "cd /tmp/p; docker compose down -t 0");
    assert_eq!(prints(&c, "docker ps -aq"), "");
}

/// A container that holds a grant, and serves its own host in the network of a job.
#[test]
fn a_service_container_stands_for_a_daemon() {
    let e = Engine::shared();
    if is_dockers(e) {
        return;
    }
    image::make(e);
    let network = e.network(json!({}));
    let binds: Vec<String> = droste_binds().into_iter().chain([SOCKET.to_owned()]).collect();
    let joined = |aliases: Value| json!({"EndpointsConfig": {network.name.as_str(): {"Aliases": aliases}}});
    let service = e.run(json!({
        "Cmd": ["/bin/droste", "serve"],
        "HostConfig": {"Binds": binds, "NetworkMode": network.name},
        "NetworkingConfig": joined(json!(["docker"])),
    }));
    service.await_log("acts on this host");
    let job = e.run(json!({
        "Image": TOOLS,
        "Env": ["DOCKER_HOST=tcp://docker:2375"],
        "HostConfig": {"NetworkMode": network.name},
        "NetworkingConfig": joined(json!([])),
    }));
    assert_eq!(prints(&job, "echo in | docker run -i --rm $IMAGE sh -c 'cat; echo end'"), "in\nend\n");
    prints(&job, "docker run -d --name web -p 8080:8080 $IMAGE sh -c 'mkdir /www; echo page >/www/page; exec httpd -f -p 8080 -h /www'");
    // Its ports are the service container's, as with a daemon in there.
    let fetch = "until busybox wget -qO- http://docker:8080/page 2>/dev/null; do sleep 0.1; done";
    assert_eq!(prints(&job, fetch), "page\n");
    assert_eq!(prints(&job, "docker logs web; docker exec web cat /www/page"), "page\n");
    let host = e.host_of(&service);
    assert_eq!(host.get("/containers/json")[0]["Names"][0], "/web");
    assert_eq!(prints(&job, "docker rm -f web"), "web\n");
}
