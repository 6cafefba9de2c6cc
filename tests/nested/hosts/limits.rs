//! What a host may use: limits by label, counted over everything below, changed from above, and right again after the
//! daemon was killed.

use droste_test_support::container::{sh, sh_with};
use droste_test_support::image::BASE;
use droste_test_support::{Container, Engine, Value, json, t};

use crate::{SOCKET, host_body, image, sleeper, until};

/// A running container that is a host with labels, and the host.
fn limited<'e>(e: &'e Engine, labels: Value) -> (Container<'e>, Engine) {
    let mut body = host_body(json!({}));
    body["Labels"] = labels;
    let c = e.run(body);
    let host = e.host_of(&c);
    (c, host)
}

fn used(e: &Engine, path: &str, resource: &str) -> u64 {
    e.get(&format!("/droste/hosts/{path}/json"))["Limits"][resource]["Used"].as_u64().unwrap()
}

#[test]
fn containers_count_with_those_below() {
    let e = Engine::shared();
    let (outer, h) = limited(e, json!({"droste.limit.containers": "3"}));
    let first = h.create(sh("true"));
    let (inner, below) = limited(&h, json!({}));
    let deep = below.create(sh("true"));
    t!(below, POST "/containers/create" {"Image": BASE, "Cmd": ["true"]}, 403, ".message" == "a host above this one has reached its limit of containers (label droste.limit.containers); remove what is not needed");
    t!(h, POST "/containers/create" {"Image": BASE, "Cmd": ["true"]}, 403, ".message" has "this host's limit of containers is reached: 3 of 3 in use");
    assert_eq!(used(e, &outer.name, "containers"), 3);
    assert_eq!(used(e, &format!("{}/{}", outer.name, inner.name), "containers"), 1);
    // Others go on, and a place that is given back can be taken.
    drop(e.create(sh("true")));
    drop(deep);
    drop(below.create(sh("true")));
    let path = format!("{}/{}", outer.name, inner.name);
    t!(e, GET "/droste/hosts/{path}/json", 200, ".Level" == 2, ".Parent" == (outer.name), ".Limits.containers.Limit" == 3, ".Limits.containers.Set" == false);
    drop(inner);
    drop(first);
    assert_eq!(used(e, &outer.name, "containers"), 0);
}

#[test]
fn the_last_place_is_taken_once() {
    let e = Engine::shared();
    let (outer, h) = limited(e, json!({"droste.limit.containers": "5"}));
    let create = || h.request("POST", "/containers/create").json(&json!({"Image": BASE, "Cmd": ["true"]})).send().status;
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..12).map(|_| scope.spawn(create)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 5, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 403).count(), 7, "{statuses:?}");
    assert_eq!(used(e, &outer.name, "containers"), 5);
}

#[test]
fn networks_volumes_tags_and_execs() {
    let e = Engine::shared();
    let labels = json!({
        "droste.limit.networks": "1", "droste.limit.volumes": "1", "droste.limit.tags": "2", "droste.limit.execs": "1",
    });
    let (_outer, h) = limited(e, labels);
    t!(h, POST "/networks/create" {"Name": "one"}, 201);
    t!(h, POST "/networks/create" {"Name": "two"}, 403, ".message" has "limit of networks is reached: 1 of 1");
    t!(h, DELETE "/networks/one", 204);
    t!(h, POST "/networks/create" {"Name": "two"}, 201);

    t!(h, POST "/volumes/create" {"Name": "one"}, 201);
    t!(h, POST "/volumes/create" {"Name": "one"}, 201);
    t!(h, POST "/volumes/create" {"Name": "two"}, 403, ".message" has "limit of volumes is reached: 1 of 1");
    t!(h, POST "/containers/create" {"Image": BASE, "Cmd": ["true"], "Volumes": {"/v": {}}}, 403, ".message" has "limit of volumes");
    t!(h, DELETE "/volumes/one", 204);
    t!(h, POST "/volumes/create" {"Name": "two"}, 201);

    // An image counts, and each of its names.
    t!(h, POST "/images/{BASE}/tag?repo=one", 201);
    t!(h, POST "/images/{BASE}/tag?repo=one", 201);
    t!(h, POST "/images/{BASE}/tag?repo=two", 403, ".message" has "limit of tags is reached: 2 of 2");
    t!(h, GET "/images/two/json", 404);

    let c = h.run(sleeper(json!({})));
    let waiting = c.exec_create(&json!({"Cmd": ["true"]}));
    t!(h, POST "/containers/{c}/exec" {"Cmd": ["true"]}, 403, ".message" has "limit of execs is reached: 1 of 1");
    t!(h, POST "/exec/{waiting}/start" {"Detach": true}, 200);
    until(|| h.get(&format!("/exec/{waiting}/json"))["Running"] == false);
    assert_eq!(c.exec(&["true"]).code, 0, "one that has ended takes no place");
}

#[test]
fn what_the_daemon_remembers_is_bounded() {
    let e = Engine::shared();
    let (outer, h) = limited(e, json!({"droste.limit.config": "100k"}));
    let big = "x".repeat(60_000);
    t!(h, POST "/containers/create" {"Image": BASE, "Cmd": ["true"], "Labels": {"a": (big)}}, 201);
    t!(h, POST "/containers/create" {"Image": BASE, "Cmd": ["true"], "Labels": {"a": (big)}}, 403, ".message" has "limit of config is reached");
    t!(h, POST "/volumes/create" {"Name": "vol", "Labels": {"a": (big)}}, 403, ".message" has "limit of config is reached");
    t!(h, GET "/volumes/vol", 404);
    assert_eq!(used(e, &outer.name, "containers"), 1, "what was refused took no place");
    assert_eq!(used(e, &outer.name, "volumes"), 0);
}

/// Megabytes of memory that the daemon uses.
fn memory(e: &Engine) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", e.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

#[test]
fn events_that_nobody_reads_do_not_fill_the_daemon() {
    let e = Engine::start_droste(&[]);
    image::load_base(&e);
    let (_outer, h) = limited(&e, json!({}));
    let (here, above) = (h.request("GET", "/events").open(), e.request("GET", "/droste/events").open());
    let label = "x".repeat(2 << 20);
    let before = memory(&e);
    for _ in 0..20 {
        drop(h.create(json!({"Image": BASE, "Cmd": ["true"], "Labels": {"large": label}})));
    }
    let after = memory(&e);
    assert!(after < before + 50, "40 events of 2 MiB: {before} to {after} MiB");
    drop((here, above));
}

#[test]
fn requests_in_flight_are_bounded_for_that_host_alone() {
    let e = Engine::shared();
    let (outer, h) = limited(e, json!({"droste.limit.requests": "2"}));
    let c = h.run(sleeper(json!({})));
    let attached = c.attach("stream=1&stdout=1");
    let events = h.request("GET", "/events").open();
    t!(h, GET "/info", 429, ".message" has "this host's limit of requests is reached: 2 of 2 in use; wait for others to end");
    t!(e, GET "/info", 200);
    drop(events);
    until(|| h.request("GET", "/info").send().status == 200);
    drop(attached);
    until(|| used(e, &outer.name, "requests") == 0);
}

#[test]
fn a_creator_gives_no_more_than_it_has() {
    let e = Engine::shared();
    let (_outer, h) = limited(e, json!({"droste.limit.containers": "10"}));
    let binds = json!({"Binds": [SOCKET]});
    t!(h, POST "/containers/create" {"Image": BASE, "Cmd": ["true"], "Labels": {"droste.limit.containers": "11"}, "HostConfig": (binds)}, 400, ".message" has "limit containers=11 is more than host");
    t!(h, POST "/containers/create" {"Image": BASE, "Cmd": ["true"], "Labels": {"droste.limit.containers": "many"}, "HostConfig": (binds)}, 400, ".message" == "invalid value \"many\" of limit containers: expected a number");
    t!(h, POST "/containers/create" {"Image": BASE, "Cmd": ["true"], "Labels": {"droste.limit.cats": "1"}, "HostConfig": (binds)}, 400, ".message" has "unknown limit \"cats\": there are containers, networks");
    t!(h, POST "/containers/create" {"Image": BASE, "Cmd": ["true"], "Labels": {"droste.limit.containers": "1"}}, 201, ".Warnings.0" has "droste.limit.containers has no effect");
}

#[test]
fn limits_change_from_above_while_it_runs() {
    let e = Engine::shared();
    let (outer, h) = limited(e, json!({"droste.limit.containers": "1"}));
    let (name, _first) = (outer.name.clone(), h.create(sh("true")));
    t!(h, POST "/containers/create" {"Image": BASE, "Cmd": ["true"]}, 403);
    t!(e, POST "/droste/hosts/{name}/limits" {"containers": 3, "config": "1m"}, 200, ".containers.Limit" == 3, ".containers.Used" == 1, ".config.Limit" == 1_048_576);
    let (inner, below) = limited(&h, json!({}));
    let child = inner.name.clone();
    t!(h, POST "/droste/hosts/{child}/limits" {"containers": 4}, 400, ".message" has "is more than");
    t!(h, POST "/droste/hosts/{child}/limits" {"containers": 0}, 200);
    t!(below, POST "/containers/create" {"Image": BASE, "Cmd": ["true"]}, 403, ".message" has "this host's limit of containers is reached: 0 of 0");
    t!(h, POST "/droste/hosts/{child}/limits" {"containers": "default"}, 200, ".containers.Set" == false, ".containers.Limit" == 3);
    t!(below, POST "/containers/create" {"Image": BASE, "Cmd": ["true"]}, 201);
    t!(e, POST "/droste/hosts/{name}/limits" {"cats": 4}, 400, ".message" has "unknown limit");
    t!(e, POST "/droste/hosts/{name}/limits" {"config": "much"}, 400, ".message" has "invalid value");
}

#[test]
fn only_hosts_below_are_seen() {
    let e = Engine::shared();
    let (outer, h) = limited(e, json!({}));
    let (inner, below) = limited(&h, json!({}));
    let paths = |e: &Engine| -> Vec<String> {
        let list = e.get("/droste/hosts");
        list.as_array().unwrap().iter().map(|host| host["Path"].as_str().unwrap().to_owned()).collect()
    };
    let (a, b) = (outer.name.clone(), inner.name.clone());
    assert_eq!(paths(&h), [b.as_str()]);
    assert!(paths(&below).is_empty());
    let all = paths(e);
    assert!(all.contains(&a) && all.contains(&format!("{a}/{b}")), "{all:?}");
    // Neither itself nor what is above or beside.
    t!(below, GET "/droste/hosts/{b}/json", 409, ".message" has "belongs to");
    t!(below, GET "/droste/hosts/{a}/json", 404, ".message" == (format!("No such container: {a}")));
    t!(h, GET "/droste/hosts/{a}/json", 409);
    t!(h, GET "/droste/hosts/{b}/json", 200, ".Level" == 2, ".On" == true, ".Cgroup" == "", ".Bounds.NoNewPrivileges" == false, ".Bounds.Capabilities" has "CAP_CHOWN", ".Grant" == "own", ".Parent" == "");
    t!(h, POST "/droste/hosts/{a}/limits" {"containers": 9}, 409);
    t!(e, GET "/droste/hosts/{a}/json", 200, ".Path" == (a), ".Running" == 1, ".Containers" == 1, ".Image" has "base", ".Cgroup" has (outer.id));
    let plain = e.run(sleeper(json!({})));
    t!(e, GET "/droste/hosts/{plain}/json", 400, ".message" has "is not a host");
    drop(inner);
    t!(e, POST "/containers/{a}/stop?t=0", 204);
    t!(e, GET "/droste/hosts/{a}/json", 200, ".On" == false, ".State" == "exited", ".Bounds" == null);
}

#[test]
fn counts_are_right_after_the_daemon_was_killed() {
    let e = Engine::start_droste(&[]);
    image::load_base(&e);
    let (outer, h) = limited(&e, json!({"droste.limit.containers": "2"}));
    let name = outer.name.clone();
    t!(e, POST "/droste/hosts/{name}/limits" {"networks": 1, "volumes": 1, "tags": 2}, 200);
    let _first = h.create(sh("true"));
    t!(h, POST "/networks/create" {"Name": "one"}, 201);
    t!(h, POST "/volumes/create" {"Name": "one"}, 201);
    t!(h, POST "/images/{BASE}/tag?repo=one", 201);
    e.kill_daemon();
    e.power_on();
    let _second = h.create(sh("true"));
    t!(h, POST "/containers/create" {"Image": BASE, "Cmd": ["true"]}, 403, ".message" has "2 of 2 in use");
    t!(h, POST "/networks/create" {"Name": "two"}, 403, ".message" has "1 of 1 in use");
    t!(h, POST "/volumes/create" {"Name": "two"}, 403, ".message" has "1 of 1 in use");
    t!(h, POST "/images/{BASE}/tag?repo=two", 403, ".message" has "2 of 2 in use");
}

#[test]
fn what_is_on_disk_is_known_after_the_daemon_was_killed() {
    let e = Engine::start_droste(&[]);
    image::load_base(&e);
    let (outer, h) = limited(&e, json!({}));
    let full = h.run(sh("dd if=/dev/zero of=/file bs=1M count=6"));
    full.wait();
    t!(e, POST "/droste/hosts/{outer}/limits" {"disk": "5m"}, 200);
    t!(h, POST "/volumes/create" {"Name": "vol"}, 507);
    e.kill_daemon();
    e.power_on();
    t!(h, POST "/volumes/create" {"Name": "vol"}, 507, ".message" has "of 5242880 bytes in use");
    drop(full);
    t!(h, POST "/volumes/create" {"Name": "vol"}, 201);
}

#[test]
fn what_is_written_beyond_the_limit_ends_its_writer() {
    let e = Engine::shared();
    let (outer, h) = limited(e, json!({"droste.limit.disk": "8m"}));
    let (name, beside) = (outer.name.clone(), h.run(sleeper(json!({}))));
    let writes = "while :; do dd if=/dev/zero bs=1M count=1 2>/dev/null >>/big || exit 0; sleep 0.05; done";
    let writer = h.create(sh_with(writes, json!({"RestartPolicy": {"Name": "always"}})));
    writer.start();
    until(|| h.get(&format!("/containers/{writer}/json"))["State"]["Status"] == "exited");
    t!(h, GET "/containers/{writer}/json", 200, ".State.ExitCode" == 137, ".State.Error" has "beyond the limit of disk", ".RestartCount" == 0);
    t!(h, GET "/containers/{beside}/json", 200, ".State.Running" == true);
    until(|| used(e, &name, "disk") > 8 << 20);
    t!(h, POST "/containers/{writer}/start", 507, ".message" has "this host's limit of disk is reached");
    t!(h, POST "/containers/create" {"Image": BASE, "Cmd": ["true"]}, 507, ".message" has "droste.limit.disk");
    t!(h, POST "/volumes/create" {"Name": "vol"}, 507);
    t!(h, POST "/commit?container={writer}", 507);
    drop(e.create(sh("true")));
    // Room is made from above, or by removing what was written, and is there at once.
    t!(e, POST "/droste/hosts/{name}/limits" {"disk": "1g"}, 200);
    t!(h, POST "/volumes/create" {"Name": "vol"}, 201);
    t!(e, POST "/droste/hosts/{name}/limits" {"disk": "8m"}, 200);
    t!(h, POST "/volumes/create" {"Name": "more"}, 507);
    drop(writer);
    t!(h, POST "/volumes/create" {"Name": "more"}, 201);
    assert!(used(e, &name, "disk") < 1 << 20);
}

#[test]
fn logs_beyond_the_limit_end_their_writer() {
    let e = Engine::shared();
    let (_outer, h) = limited(e, json!({"droste.limit.logs": "2m"}));
    let line = "x".repeat(4000);
    let writer = h.create(sh(&format!("while :; do for i in 0 1 2 3 4 5 6 7 8 9; do echo {line}; done; sleep 0.02; done")));
    writer.start();
    until(|| h.get(&format!("/containers/{writer}/json"))["State"]["Status"] == "exited");
    t!(h, GET "/containers/{writer}/json", 200, ".State.Error" has "beyond the limit of logs");
    t!(h, POST "/containers/{writer}/start", 507, ".message" has "this host's limit of logs is reached");
}

#[test]
fn images_are_taken_from_the_limit_at_once() {
    let e = Engine::shared();
    let (outer, h) = limited(e, json!({"droste.limit.disk": "4m"}));
    let layers = || std::fs::read_dir(e.dir().join("data/layers")).unwrap().count();
    let before = layers();
    let import = |mib: usize| {
        let archive = image::Archive::new().file("big", 0o644, &vec![7; mib << 20]).finish();
        h.request("POST", "/images/create?fromSrc=-&repo=big").bytes("application/x-tar", archive).send().text()
    };
    let said = import(5);
    assert!(said.contains("the archive unpacks to more (label droste.limit.disk)"), "{said}");
    t!(h, GET "/images/big/json", 404);
    until(|| layers() == before);
    assert!(!import(3).contains("limit"));
    t!(h, GET "/images/big/json", 200);
    let with_two = h.run(sh("head -c 2000000 /dev/urandom >/file"));
    with_two.wait();
    t!(h, POST "/commit?container={with_two}", 507, ".message" has "limit of disk is reached");
    drop(with_two);
    t!(h, DELETE "/images/big", 200);
    // What had come for it goes again.
    until(|| layers() == before);
    // What the host above has anyway costs nothing.
    t!(h, POST "/images/{BASE}/tag?repo=mine", 201);
    assert!(used(e, &outer.name, "disk") < 1 << 20);
    assert!(import(3).contains("sha256:"));
}

#[test]
fn a_host_itself_and_volumes_and_copies_count() {
    let e = Engine::shared();
    let (outer, h) = limited(e, json!({"droste.limit.disk": "100m"}));
    let grown = |by: u64, before: u64| until(|| used(e, &outer.name, "disk") >= before + by);
    let before = used(e, &outer.name, "disk");
    assert_eq!(outer.exec(&["dd", "if=/dev/zero", "of=/own", "bs=1M", "count=6"]).code, 0);
    grown(6 << 20, before);
    let beside = used(e, &outer.name, "disk");
    let filler = h.run(sh_with("dd if=/dev/zero of=/v/file bs=1M count=5", json!({"Binds": ["vol:/v"]})));
    filler.wait();
    grown(5 << 20, beside);
    let copied = used(e, &outer.name, "disk");
    let to = h.create(sh("true"));
    let archive = image::Archive::new().file("big", 0o644, &vec![7; 4 << 20]).finish();
    let put = |bytes: Vec<u8>| h.request("PUT", &format!("/containers/{to}/archive?path=/")).bytes("application/x-tar", bytes).send();
    assert_eq!(put(archive).status, 200);
    grown(4 << 20, copied);
    // What does not fit is not unpacked beyond what there is room for.
    let much = image::Archive::new().file("much", 0o644, &vec![7; 95 << 20]).finish();
    let refused = put(much);
    assert_eq!(refused.status, 507, "{}", refused.text());
    assert!(refused.text().contains("droste.limit.disk"), "{}", refused.text());
}

#[test]
fn a_host_that_writes_beyond_its_own_limit_is_ended() {
    let e = Engine::shared();
    let (outer, _h) = limited(e, json!({"droste.limit.disk": "4m"}));
    let beside = e.run(sleeper(json!({})));
    outer.exec(&["sh", "-c", "while dd if=/dev/zero bs=1M count=1 >>/own; do sleep 0.1; done"]);
    until(|| e.get(&format!("/containers/{outer}/json"))["State"]["Status"] == "exited");
    t!(e, GET "/containers/{outer}/json", 200, ".State.Error" has "beyond the limit of disk");
    t!(e, GET "/containers/{beside}/json", 200, ".State.Running" == true);
}
