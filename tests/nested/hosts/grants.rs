//! What a socket grants: `own`, `parent`, `parent-ro`; by which paths it is recognised; and that a grant
//! is never wider than what its creator holds.

use droste_test_support::container::sh;
use droste_test_support::image::BASE;
use droste_test_support::{Container, Engine, Value, json, t};

use crate::{SOCKET, host, host_body, image, names, sleeper};

fn granted(grant: &str) -> Value {
    let mut body = host_body(json!({}));
    body["Labels"] = json!({"droste.socket": grant});
    body
}

#[test]
fn parent_is_docker_out_of_docker() {
    let e = Engine::shared();
    let c = e.run(granted("parent"));
    let h = e.host_of(&c);
    assert!(names(&h).contains(&c.name), "it sees itself and its siblings");
    let sibling = h.create(sh("true"));
    t!(e, GET "/containers/{sibling}/json", 200);
    assert_eq!(names(&h), names(e));
}

#[test]
fn parent_ro_only_looks() {
    let e = Engine::shared();
    let c = e.run(granted("parent-ro"));
    let h = e.host_of(&c);
    assert!(names(&h).contains(&c.name));
    t!(h, GET "/containers/{c}/json", 200, ".Id" == (c.id));
    t!(h, GET "/info", 200);
    t!(h, GET "/containers/{c}/logs?stdout=1", 200);
    t!(h, POST "/containers/create" {"Image": BASE, "Cmd": ["true"]}, 403, ".message" is string);
    t!(h, DELETE "/containers/{c}?force=1", 403);
    t!(h, POST "/containers/{c}/kill", 403);
    t!(h, POST "/containers/{c}/exec" {"Cmd": ["true"]}, 403);
    t!(h, POST "/images/{BASE}/tag?repo=x", 403);
    t!(h, POST "/containers/{c}/attach?stream=1&stdin=1", 403);
    t!(e, GET "/containers/{c}/json", 200, ".State.Running" == true);
}

#[test]
fn a_grant_is_never_wider_than_its_creators() {
    let e = Engine::shared();
    let (outer, h) = host(e, json!({}));
    let beside = e.run(sleeper(json!({})));
    let c = h.run(granted("parent"));
    let granted = h.host_of(&c);
    assert_eq!(names(&granted), names(&h), "parent is the host that creates, not the machine");
    let beside_name = beside.name.clone();
    t!(granted, GET "/containers/{beside_name}/json", 404);
    drop(c);
    drop(outer);
}

#[test]
fn parent_ro_hands_on_no_more_than_it_has() {
    let e = Engine::shared();
    let looker = e.run(granted("parent-ro"));
    let h = e.host_of(&looker);
    t!(h, POST "/containers/create" {"Image": BASE, "Cmd": ["true"], "Labels": {"droste.socket": "parent"}, "HostConfig": {"Binds": [SOCKET]}}, 403);
}

#[test]
fn an_unknown_grant_is_refused() {
    let e = Engine::shared();
    t!(e, POST "/containers/create" {"Image": BASE, "Cmd": ["true"], "Labels": {"droste.socket": "everything"}, "HostConfig": {"Binds": [SOCKET]}}, 400, ".message" has "everything");
}

#[test]
fn the_socket_is_recognised_by_meaning() {
    let e = Engine::shared();
    let real = e.socket().display().to_string();
    for source in ["/var/run/docker.sock", "/run/docker.sock", real.as_str()] {
        let binds = sleeper(json!({"Binds": [format!("{source}:/var/run/docker.sock")]}));
        let c = e.run(binds);
        assert_eq!(names(&e.host_of(&c)), Vec::<String>::new(), "{source}");
        let mounts = sleeper(json!({"Mounts": [{"Type": "bind", "Source": source, "Target": "/var/run/docker.sock"}]}));
        let c = e.run(mounts);
        assert_eq!(names(&e.host_of(&c)), Vec::<String>::new(), "{source}");
    }
    // Anywhere in the container, and read-only too.
    let c = e.run(sleeper(json!({"Binds": ["/var/run/docker.sock:/var/run/docker-host.sock:ro"]})));
    assert_eq!(c.exec(&["test", "-S", "/var/run/docker-host.sock"]).code, 0);
}

#[test]
fn two_sockets_are_two_hosts() {
    let e = Engine::shared();
    let (_one, first) = host(e, json!({}));
    let (_two, second) = host(e, json!({}));
    let only = first.create_named("only-in-one", sh("true"));
    assert_eq!((names(&first), names(&second)), (vec!["only-in-one".to_owned()], vec![]));
    drop(only);
}

#[test]
fn a_container_without_the_socket_has_none() {
    let e = Engine::shared();
    let c: Container = e.run(sleeper(json!({})));
    assert_ne!(c.exec(&["test", "-e", "/var/run/docker.sock"]).code, 0);
    // The engine's own folder, bound as a whole, holds sockets of others: none may be usable.
    let dir = e.dir().join("run").display().to_string();
    let spy = e.create(sleeper(json!({"Binds": [format!("{dir}:/spy")]})));
    t!(e, GET "/containers/{spy}/json", 200);
}

#[test]
fn only_the_machines_socket_acts_on_hosts_below() {
    let e = Engine::shared();
    let (outer, h) = host(e, json!({}));
    let inner = h.run(host_body(json!({})));
    let below = h.create_named("below", sh("true"));
    let at = |engine: &Engine, path: &str| engine.request("GET", "/containers/json?all=1").header("Droste-At", path).send();
    let seen = at(e, &outer.name);
    droste_test_support::expect!(seen, 200);
    assert!(seen.json().as_array().unwrap().iter().any(|c| c["Names"][0] == "/below"), "the administrator looks below");
    // A host says so neither of one below, nor of itself, nor of one beside or above.
    for path in [inner.name.as_str(), &outer.name, &format!("{}/{}", outer.name, inner.name), "", "/", ".."] {
        droste_test_support::expect!(at(&h, path), 403, ".message" has "this socket belongs to one host");
    }
    let reply = h.request("DELETE", "/containers/below").header("droste-at", &inner.name).send();
    droste_test_support::expect!(reply, 403);
    t!(h, GET "/containers/below/json", 200, ".Id" == (below.id));
    for grant in ["parent", "parent-ro"] {
        let c = e.run(granted(grant));
        droste_test_support::expect!(at(&e.host_of(&c), &outer.name), 403, ".message" has "this socket belongs to one host");
    }
}

/// The operations of docs/api-coverage.md with that effect, which change by their method: method and path.
fn operations(effect: &str) -> Vec<(String, String)> {
    let table = include_str!("../../../docs/api-coverage.md");
    let rows = table.lines().filter(|line| line.starts_with("| ") && line.contains("`/"));
    let cells = rows.map(|row| row.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect::<Vec<_>>());
    cells.filter(|cells| cells[4] == effect && cells[1] != "GET").map(|cells| (cells[1].clone(), cells[2].clone())).collect()
}

#[test]
fn parent_ro_refuses_every_operation_that_changes() {
    let e = Engine::shared();
    let looker = e.run(granted("parent-ro"));
    let h = e.host_of(&looker);
    let network = e.network(json!({"Driver": "bridge"}));
    let volume = e.volume(json!({}));
    let exec = looker.exec_create(&json!({"Cmd": ["true"]}));
    let all = operations("changes");
    assert!(all.len() > 40, "{}", all.len());
    for (method, path) in all {
        let object = match path.split('/').nth(1).unwrap() {
            "networks" => network.id.as_str(),
            "volumes" => &volume.name,
            "exec" => &exec,
            "images" => BASE,
            _ => &looker.id,
        };
        let begin = path.find('{').unwrap_or(path.len());
        let end = path.find('}').map_or(path.len(), |at| at + 1);
        let target = format!("{}{}{}", &path[..begin], if begin < path.len() { object } else { "" }, &path[end..]);
        let reply = h.request(&method, &target).json(&json!({})).send();
        assert_eq!(reply.status, 403, "{method} {target}: {}", reply.text());
    }
    t!(e, GET "/containers/{looker}/json", 200, ".State.Running" == true, ".State.Paused" == false);
    t!(e, GET "/networks/{network}", 200);
    t!(e, GET "/volumes/{volume}", 200);
}

#[test]
fn a_creator_says_what_sockets_below_grant() {
    let e = Engine::shared();
    let mut body = host_body(json!({}));
    body["Labels"] = json!({"droste.children": "parent"});
    let runner = e.run(body);
    let h = e.host_of(&runner);
    let job = h.run(host_body(json!({})));
    assert_eq!(names(&h.host_of(&job)), [job.name.as_str()], "unasked, it acts on its creator's host");
    let own = h.run(granted("own"));
    assert!(names(&h.host_of(&own)).is_empty(), "its own label counts more");
    let below = h.host_of(&own);
    let inner = below.run(host_body(json!({})));
    assert!(names(&below.host_of(&inner)).is_empty(), "the word is for one level");
    let name = runner.name.clone();
    t!(e, GET "/droste/hosts/{name}/json", 200, ".Children" == "parent");
    t!(e, POST "/containers/create" {"Image": BASE, "Cmd": ["true"], "Labels": {"droste.children": "everything"}, "HostConfig": {"Binds": [SOCKET]}}, 400, ".message" == "invalid value \"everything\" of label droste.children: expected own, parent or parent-ro");
}

#[test]
fn the_daemon_says_what_sockets_grant_unasked() {
    let e = Engine::start_droste(&["--default-socket-grant", "parent-ro"]);
    image::load_base(&e);
    let unasked = e.run(host_body(json!({})));
    let h = e.host_of(&unasked);
    assert!(names(&h).contains(&unasked.name));
    t!(h, POST "/containers/{unasked}/kill", 403);
    let own = e.run(granted("own"));
    assert!(names(&e.host_of(&own)).is_empty());
    // A host's children get the daemon's word, too.
    let below = e.host_of(&own);
    let child = below.run(host_body(json!({})));
    assert_eq!(names(&below.host_of(&child)), [child.name.as_str()]);
}
