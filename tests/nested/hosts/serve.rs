//! A host that is handed on over the network: a service container with a grant, and unmodified clients beside it that
//! name it as `DOCKER_HOST=tcp://docker:2375`. What they start runs on that host, and their streams arrive untouched.

use droste_test_support::engine::droste_binds;
use droste_test_support::http::Request;
use droste_test_support::image::BASE;
use droste_test_support::{Container, Engine, Value, json, t};

use crate::{SOCKET, names, sleeper, until};

/// A host whose first process is `droste serve` with those options.
fn served<'e>(e: &'e Engine, options: &[&str]) -> Container<'e> {
    let command: Vec<&str> = ["/bin/droste", "serve"].iter().chain(options).copied().collect();
    let binds: Vec<String> = droste_binds().into_iter().chain([SOCKET.to_owned()]).collect();
    let c = e.run(json!({"Cmd": command, "HostConfig": {"Binds": binds}}));
    c.await_log("acts on this host");
    c
}

fn address(c: &Container) -> String {
    let networks = &c.inspect()["NetworkSettings"]["Networks"];
    networks["bridge"]["IPAddress"].as_str().unwrap().to_owned()
}

/// A container with a client that knows the served host as `docker`.
fn client<'e>(e: &'e Engine, server: &Container) -> Container<'e> {
    let host_config: Value = json!({"Binds": droste_binds(), "ExtraHosts": [format!("docker:{}", address(server))]});
    let mut body = sleeper(host_config);
    body["Env"] = json!(["DOCKER_HOST=tcp://docker:2375"]);
    e.run(body)
}

#[test]
fn a_client_in_another_container_acts_on_it() {
    let e = Engine::shared();
    let server = served(e, &[]);
    let client = client(e, &server);
    let run = format!("echo through | droste run -i --rm --name inner {BASE} sh -c 'cat; echo $((6*7)) >&2; exit 7'");
    let ran = client.exec(&["sh", "-c", &run]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (7, "through\n", "42\n"));
    let made = client.exec(&["droste", "create", "--name", "kept", BASE]);
    assert_eq!(made.code, 0, "{made:?}");
    assert_eq!(names(&e.host_of(&server)), ["kept"], "it is on the served host");
    t!(e, GET "/containers/kept/json", 404);
    let level = client.exec(&["droste", "info", "--format", "{{.Name}}"]);
    assert_eq!(level.out.trim(), server.inspect()["Config"]["Hostname"].as_str().unwrap());
}

#[test]
fn hijacked_streams_are_half_closed_in_either_direction() {
    let e = Engine::shared();
    let server = served(e, &["-H", "unix:///run/handed.sock", "-H", "tcp://127.0.0.1:0"]);
    let socket = e.root_path(&format!("/proc/{}/root/run/handed.sock", server.inspect()["State"]["Pid"]));
    let h = e.host_of(&server);
    let mut body = json!({"Cmd": ["sh", "-c", "cat; echo afterwards"], "OpenStdin": true, "StdinOnce": true});
    body["AttachStdin"] = json!(true);
    let c = h.create(body);
    let target = format!("/v1.51/containers/{c}/attach?stream=1&stdin=1&stdout=1");
    let open = Request::new(&socket, "POST", &target).upgrade().open();
    assert_eq!(open.status, 101);
    let mut raw = open.hijack();
    c.start();
    raw.write(b"asked\n");
    assert_eq!(raw.frame().unwrap().data, b"asked\n");
    raw.close_write();
    assert_eq!(raw.frame().unwrap().data, b"afterwards\n");
    assert_eq!(raw.frame(), None, "the engine's end arrives");
    // A client that goes away is gone for the engine, too.
    let listeners = || h.get("/info")["NEventsListener"].as_i64().unwrap();
    let before = listeners();
    let events = Request::new(&socket, "GET", "/v1.51/events").open();
    until(|| listeners() == before + 1);
    drop(events);
    until(|| listeners() == before);
}

#[test]
fn it_ends_when_it_is_told_to() {
    let e = Engine::shared();
    let server = served(e, &[]);
    t!(e, POST "/containers/{server}/stop?t=60", 204);
    t!(e, GET "/containers/{server}/json", 200, ".State.ExitCode" == 0);
}

#[test]
fn a_machine_is_not_handed_on_without_a_word() {
    let e = Engine::shared();
    let mut body = json!({"Cmd": ["droste", "serve"], "HostConfig": {"Binds": droste_binds()}});
    body["HostConfig"]["Binds"].as_array_mut().unwrap().push(json!(SOCKET));
    body["Labels"] = json!({"droste.socket": "parent"});
    let refused = e.outcome(body.clone());
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("--insecure-tcp"), "{refused:?}");
    body["Cmd"] = json!(["droste", "serve", "--insecure-tcp"]);
    let server = e.run(body);
    server.await_log("acts on this host");
    let client = client(e, &server);
    let seen = client.exec(&["droste", "ps", "--format", "{{.Names}}"]);
    assert!(seen.out.lines().any(|name| name == server.name), "{seen:?}");
}
