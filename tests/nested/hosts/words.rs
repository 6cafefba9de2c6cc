//! What Docker's words mean on a host: names, paths, ports, namespaces, SELF, images, events, info.

use droste_test_support::container::{idle, sh, sh_with};
use droste_test_support::image::{BASE, Image};
use droste_test_support::{Engine, Value, json, t};

use crate::{SOCKET, host, names, sleeper, until};

#[test]
fn names_and_lists_are_its_own() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    let beside = e.run(idle());
    let (name, id) = (beside.name.clone(), beside.id.clone());
    assert_eq!(names(&h), Vec::<String>::new(), "a machine does not list itself, nor its neighbours");
    let same = h.create_named(&name, sh("true"));
    assert_ne!(same.id, id);
    assert_eq!(names(&h), std::slice::from_ref(&name));
    assert!(!names(e).contains(&same.id));
    let short = &id[..12];
    for typed in [id.as_str(), short] {
        t!(h, GET "/containers/{typed}/json", 404, ".message" == (format!("No such container: {typed}")));
        t!(h, DELETE "/containers/{typed}?force=1", 404, ".message" == (format!("No such container: {typed}")));
    }
    t!(h, GET "/containers/{name}/json", 200, ".Id" == (same.id));
    t!(e, GET "/containers/{name}/json", 200, ".Id" == id);
    let nested_id = same.id.clone();
    t!(e, GET "/containers/{nested_id}/json", 404);
    drop(same);
    drop(c);
}

#[test]
fn bind_paths_are_its_own() {
    let e = Engine::shared();
    let dir = e.scratch();
    std::fs::write(dir.path().join("machine"), "machine").unwrap();
    let (c, h) = host(e, json!({}));
    assert_eq!(c.exec(&["sh", "-c", "mkdir /data; echo own > /data/f; ln -s / /data/up; ln -s ../../../.. /data/far"]).code, 0);
    assert_eq!(h.output("cat /d/f; echo back > /d/g", json!({"Binds": ["/data:/d"]})), "own\n");
    assert_eq!(c.exec(&["cat", "/data/g"]).out, "back\n");
    assert_eq!(h.output("cat /d/marker", json!({"Binds": ["/etc:/d:ro"]})), "base\n", "its own /etc");
    for path in ["/data/up", "/data/far", "/data/../../../..", "/"] {
        assert_eq!(h.output("cat /d/data/f", json!({"Binds": [format!("{path}:/d:ro")]})), "own\n", "{path} ends at its own root");
    }
    // A missing source is made in the host, not on the machine.
    let missing = format!("/only-here-{}", e.name("x"));
    assert_eq!(h.output("touch /d/x; ls /d", json!({"Binds": [format!("{missing}:/d")]})), "x\n");
    assert_eq!(c.exec(&["ls", &missing]).out, "x\n");
    assert!(!std::path::Path::new(&missing).exists());
    // The machine's path means nothing here, except as an empty folder of its own.
    let machine = dir.path().display().to_string();
    assert_eq!(h.output("ls /d", json!({"Binds": [format!("{machine}:/d")]})), "");
    t!(h, POST "/containers/create" {"Image": BASE, "Cmd": ["true"], "HostConfig": {"Mounts": [{"Type": "bind", "Source": "/nope", "Target": "/d"}]}}, 400,
        ".message" == "invalid mount config for type \"bind\": bind source path does not exist: /nope");
    let nested = h.create(sh_with("true", json!({"Binds": ["/data:/d"]})));
    t!(h, GET "/containers/{nested}/json", 200, ".Mounts.0.Source" == "/data");
}

#[test]
fn a_bind_of_a_bind_reaches_the_files() {
    let e = Engine::shared();
    let dir = e.scratch();
    std::fs::write(dir.path().join("f"), "deep\n").unwrap();
    let (_c, h) = host(e, json!({"Binds": [format!("{}:/project", dir.path().display())]}));
    assert_eq!(h.output("cat /w/f; echo back > /w/g", json!({"Binds": ["/project:/w"]})), "deep\n");
    assert_eq!(std::fs::read_to_string(dir.path().join("g")).unwrap(), "back\n");
}

#[test]
fn ports_are_its_own() {
    let e = Engine::shared();
    let (_c1, one) = host(e, json!({}));
    let (_c2, two) = host(e, json!({}));
    let serve = |h: &Engine, line: &str| {
        let mut body = sh_with(&format!("nc -ll -p 80 -e echo {line} & echo up; wait"), json!({"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}}));
        body["ExposedPorts"] = json!({"80/tcp": {}});
        let id = h.run(body);
        id.await_log("up");
        std::mem::forget(id);
    };
    serve(&one, "first");
    serve(&two, "second");
    let read = |h: &Engine| {
        loop {
            if let Ok(text) = h.read_port("127.0.0.1", 8080)
                && !text.is_empty()
            {
                return text;
            }
        }
    };
    assert_eq!(read(&one), "first\n");
    assert_eq!(read(&two), "second\n");
    assert!(e.read_port("127.0.0.1", 8080).is_err(), "not on the machine");
    assert_eq!(one.output("nc 127.0.0.1 8080 </dev/null", json!({"NetworkMode": "host"})), "first\n");
}

#[test]
fn rules_that_somebody_flushes_are_put_right() {
    let e = Engine::shared();
    let (_c, h) = host(e, json!({}));
    for engine in [e, &h] {
        let mut body = sh_with("nc -ll -p 80 -e echo here & echo up; wait", json!({"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1"}]}}));
        body["ExposedPorts"] = json!({"80/tcp": {}});
        let c = engine.run(body);
        c.await_log("up");
        let port = c.inspect()["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"].as_str().unwrap().parse().unwrap();
        let comes = || while !engine.read_port("127.0.0.1", port).is_ok_and(|text| text == "here\n") {};
        comes();
        // Again after the first time: each change is noticed.
        for _ in 0..2 {
            let flushed = engine.in_netns(|| std::process::Command::new("nft").args(["flush", "ruleset"]).status().unwrap());
            assert!(flushed.success());
            comes();
        }
    }
}

#[test]
fn its_bridge_does_not_overlap_its_own_network() {
    let e = Engine::shared();
    let (_c, h) = host(e, json!({}));
    let outer = e.get("/networks/bridge")["IPAM"]["Config"][0]["Subnet"].clone();
    let inner = h.get("/networks/bridge")["IPAM"]["Config"][0]["Subnet"].clone();
    assert_ne!(outer, inner);
    let gateway = e.get("/networks/bridge")["IPAM"]["Config"][0]["Gateway"].as_str().unwrap().to_owned();
    let (_server, port) = {
        let listener = e.in_netns(|| std::net::TcpListener::bind((gateway.as_str(), 0)).unwrap());
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            std::io::Write::write_all(&mut stream, b"outside\n").unwrap();
        });
        (thread, port)
    };
    assert_eq!(h.output(&format!("nc {gateway} {port} </dev/null"), json!({})), "outside\n", "a nested container reaches beyond its host");
}

#[test]
fn namespaces_called_host_are_the_hosts() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    for (kind, key) in [("net", "NetworkMode"), ("pid", "PidMode"), ("ipc", "IpcMode"), ("uts", "UTSMode")] {
        let own = c.exec(&["readlink", &format!("/proc/1/ns/{kind}")]).out;
        let link = format!("readlink /proc/self/ns/{kind}");
        assert_eq!(h.output(&link, json!({key: "host"})), own, "{kind}");
        assert_ne!(h.output(&link, json!({})), own, "{kind}");
    }
    let seen = h.output("cat /proc/1/cmdline | tr '\\0' ' '", json!({"PidMode": "host"}));
    assert!(seen.contains("trap 'exit 0' TERM"), "{seen}");
}

#[test]
fn it_knows_itself() {
    let e = Engine::shared();
    let dir = e.scratch();
    std::fs::write(dir.path().join("f"), "volume\n").unwrap();
    let (c, h) = host(e, json!({"Binds": [format!("{}:/project", dir.path().display())]}));
    let (id, name) = (c.id.clone(), c.name.clone());
    let short = &id[..12];
    for typed in [id.as_str(), short, name.as_str()] {
        t!(h, GET "/containers/{typed}/json", 200, ".Id" == id, ".State.Running" == true, ".Config.Hostname" == short);
    }
    t!(h, DELETE "/containers/{id}?force=1", 409, ".message" is string);
    t!(h, POST "/containers/prune", 200);
    t!(e, GET "/containers/{id}/json", 200, ".State.Running" == true);
    assert_eq!(h.output("cat /project/f", json!({"VolumesFrom": [short]})), "volume\n");
    let own = c.exec(&["readlink", "/proc/1/ns/net"]).out;
    assert_eq!(h.output("readlink /proc/self/ns/net", json!({"NetworkMode": format!("container:{short}")})), own);
    let inspect = h.get(&format!("/containers/{id}/json"));
    let machine = dir.path().display().to_string();
    assert!(!inspect.to_string().contains(&machine), "it sees no path of the machine: {inspect}");
}

#[test]
fn it_finds_out_that_it_is_a_container() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    let mountinfo = h.output("cat /proc/1/mountinfo", json!({}));
    let nested = h.run(sleeper(json!({})));
    let line = format!("/containers/{}/hostname", nested.id);
    assert!(nested.exec(&["cat", "/proc/1/mountinfo"]).out.contains(&line), "{mountinfo}");
    assert!(c.exec(&["cat", "/proc/1/mountinfo"]).out.contains(&format!("/containers/{}/hostname", c.id)));
}

#[test]
fn it_is_told_where_its_ports_answer() {
    let e = Engine::shared();
    let script = "echo ${TESTCONTAINERS_HOST_OVERRIDE-none}";
    let told = |body: Value| e.outcome(body).out;
    assert_eq!(told(sh_with(script, json!({"Binds": [SOCKET]}))), "localhost\n");
    assert_eq!(told(sh_with(script, json!({}))), "none\n");
    let mut body = sh_with(script, json!({"Binds": [SOCKET]}));
    body["Labels"] = json!({"droste.socket": "parent"});
    assert_eq!(told(body.clone()), "none\n", "its parent's ports are not published here");
    body["Labels"] = json!({});
    body["Env"] = json!(["TESTCONTAINERS_HOST_OVERRIDE=elsewhere"]);
    assert_eq!(told(body), "elsewhere\n");
    let (c, _) = host(e, json!({}));
    assert_eq!(c.exec(&["sh", "-c", script]).out, "localhost\n");
    assert!(!c.inspect()["Config"]["Env"].to_string().contains("TESTCONTAINERS"), "as with HOSTNAME, it is not configured");
}

#[test]
fn image_tags_are_inherited_and_hidden() {
    let e = Engine::shared();
    let image = Image::new(e, &["CMD [\"cat\", \"/own\"]"]);
    let (_c, h) = host(e, json!({}));
    t!(h, GET "/images/{image}/json", 200, ".Id" == (image.id));
    assert_eq!(h.outcome(json!({"Image": image.name})).out, image.repo);
    let own = e.name("own-tag");
    t!(h, POST "/images/{image}/tag?repo={own}&tag=v1", 201);
    t!(h, GET "/images/{own}:v1/json", 200, ".Id" == (image.id));
    t!(e, GET "/images/{own}:v1/json", 404);
    // What it does to an inherited name is its own affair.
    t!(h, POST "/images/{BASE}/tag?repo={image}", 201);
    t!(e, GET "/images/{image}/json", 200, ".Id" == (image.id));
    t!(h, DELETE "/images/{image}", 200);
    t!(h, GET "/images/{image}/json", 404, ".message" == (format!("No such image: {image}")));
    t!(e, GET "/images/{image}/json", 200, ".Id" == (image.id));
    let (_c2, second) = host(e, json!({}));
    t!(second, GET "/images/{image}/json", 200, ".Id" == (image.id));
    t!(second, GET "/images/{own}:v1/json", 404);
}

#[test]
fn isolated_images_are_none() {
    let e = Engine::shared();
    let mut body = crate::host_body(json!({}));
    body["Labels"] = json!({"droste.images": "isolated"});
    let c = e.run(body);
    let h = e.host_of(&c);
    t!(h, GET "/images/json", 200, "." == []);
    t!(h, POST "/containers/create" {"Image": BASE, "Cmd": ["true"]}, 404, ".message" == (format!("No such image: {BASE}")));
}

#[test]
fn commit_save_and_load_stay_inside() {
    let e = Engine::shared();
    let (_c, h) = host(e, json!({}));
    let made = h.run(sh("echo made > /made"));
    made.wait();
    let repo = e.name("inside");
    t!(h, POST "/commit?container={made}&repo={repo}&tag=v1" {}, 201);
    t!(e, GET "/images/{repo}:v1/json", 404);
    assert_eq!(h.outcome(json!({"Image": format!("{repo}:v1"), "Cmd": ["cat", "/made"]})).out, "made\n");
    let archive = t!(h, GET "/images/{repo}:v1/get", 200).body;
    let (_c2, other) = host(e, json!({}));
    other.request("POST", "/images/load?quiet=1").bytes("application/x-tar", archive).send().expect_status(200);
    assert_eq!(other.outcome(json!({"Image": format!("{repo}:v1"), "Cmd": ["cat", "/made"]})).out, "made\n");
}

#[test]
fn events_and_counts_are_its_own() {
    let e = Engine::shared();
    let (_c, h) = host(e, json!({}));
    let mut open = h.request("GET", "/events").open();
    e.outcome(sh("true"));
    let own = h.run(sleeper(json!({})));
    let first = open.json_line().unwrap();
    assert_eq!((&first["Action"], &first["Actor"]["ID"]), (&json!("create"), &json!(own.id)));
    t!(h, GET "/info", 200, ".Containers" == 1, ".ContainersRunning" == 1);
    let df = h.get("/system/df");
    assert_eq!(df["Containers"].as_array().unwrap().len(), 1);
}

#[test]
fn info_tells_its_limits() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({"Memory": 134_217_728, "NanoCpus": 1_000_000_000}));
    t!(h, GET "/info", 200, ".MemTotal" == 134217728, ".NCPU" == 1, ".Name" == (c.id[..12]));
    let nested = h.run(sleeper(json!({})));
    t!(h, GET "/containers/{nested}/stats?stream=0", 200, ".memory_stats.limit" == 134217728);
}

#[test]
fn the_whole_api_works_below() {
    let e = Engine::shared();
    let (_c, h) = host(e, json!({}));
    let c = h.run(sh("echo out; echo err >&2; read x; exit 3"));
    drop(c);
    let c = h.run(idle());
    assert_eq!(c.exec(&["sh", "-c", "echo in; exit 4"]).code, 4);
    assert_eq!(h.outcome(sh("echo out; echo err >&2; exit 3")), droste_test_support::container::Outcome { code: 3, out: "out\n".to_owned(), err: "err\n".to_owned() });
    t!(h, GET "/containers/{c}/top", 200, ".Titles.1" == "PID");
    t!(h, GET "/containers/{c}/stats?stream=0&one-shot=1", 200, ".pids_stats.current" is positive);
    t!(h, GET "/containers/{c}/changes", 200);
    t!(h, POST "/containers/{c}/pause", 204);
    t!(h, POST "/containers/{c}/unpause", 204);
    t!(h, GET "/containers/{c}/archive?path=/etc/marker", 200);
    t!(h, POST "/containers/{c}/stop?t=20", 204);
    t!(h, DELETE "/containers/{c}", 204);
}

#[test]
fn three_levels() {
    let e = Engine::shared();
    let (_c1, one) = host(e, json!({}));
    let c2 = one.run(crate::host_body(json!({})));
    let two = one.host_of(&c2);
    assert_eq!(c2.exec(&["sh", "-c", "mkdir /deep; echo level two > /deep/f"]).code, 0);
    assert_eq!(two.output("cat /d/f", json!({"Binds": ["/deep:/d"]})), "level two\n");
    let c3 = two.create_named("leaf", sleeper(json!({})));
    c3.start();
    assert_eq!((names(&two), names(&one).len()), (vec!["leaf".to_owned()], 1));
    t!(e, GET "/containers/{c3}/json", 404);
    t!(one, GET "/containers/{c3}/json", 404);
    let subnet = |h: &Engine| h.get("/networks/bridge")["IPAM"]["Config"][0]["Subnet"].clone();
    let mut subnets = vec![subnet(e).to_string(), subnet(&one).to_string(), subnet(&two).to_string()];
    subnets.sort();
    subnets.dedup();
    assert_eq!(subnets.len(), 3, "{subnets:?}");
    std::mem::forget(c3);
    std::mem::forget(c2);
}

#[test]
fn on_a_network_that_it_has_joined_it_finds_others_by_name() {
    let e = Engine::shared();
    for mode in ["bridge", "user"] {
        let above = e.network(json!({}));
        let beside = e.create_named(&e.name("beside"), idle());
        t!(e, POST "/networks/{above}/connect" {"Container": (beside.id)}, 200);
        beside.start();
        let (c, h) = host(e, json!({"NetworkMode": if mode == "user" { above.name.as_str() } else { mode }}));
        let network = h.network(json!({}));
        let node = h.create_named("node", sleeper(json!({"NetworkMode": network.name})));
        node.start();
        let finds = |name: &str| c.exec(&["ping", "-c", "1", "-W", "5", name]).code == 0;
        assert!(!finds("node"), "{mode}: it has not joined yet");
        let itself = c.id[..12].to_owned();
        t!(h, POST "/networks/{network}/connect" {"Container": itself}, 200);
        assert!(finds("node"), "{mode}: {:?}", c.exec(&["cat", "/etc/resolv.conf"]).out);
        assert_eq!(finds(&beside.name), mode == "user", "{mode}: those of the network above are found as before");
        t!(h, POST "/networks/{network}/disconnect" {"Container": itself}, 200);
        assert!(!finds("node"), "{mode}: it has left");
    }
}

#[test]
fn after_a_start_of_its_own_it_finds_others_by_name() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    t!(h, POST "/networks/create" {"Name": "kept"}, 201);
    t!(h, POST "/networks/kept/connect" {"Container": (c.id)}, 200);
    let mut node = sleeper(json!({"NetworkMode": "kept", "RestartPolicy": {"Name": "always"}}));
    node["Hostname"] = json!("node");
    std::mem::forget(h.create_named("node", node));
    t!(h, POST "/containers/node/start", 204);
    t!(e, POST "/containers/{c}/restart?t=0", 204);
    until(|| c.exec(&["ping", "-c", "1", "-W", "5", "node"]).code == 0);
}

#[test]
fn its_containers_without_names_ask_the_servers_that_it_asks_itself() {
    let e = Engine::shared();
    let above = e.network(json!({}));
    let (c, h) = host(e, json!({"NetworkMode": above.name, "Dns": ["192.0.2.7"]}));
    assert!(c.exec(&["cat", "/etc/resolv.conf"]).out.contains("nameserver 127.0.0.11"));
    let servers = "grep ^nameserver /etc/resolv.conf";
    assert_eq!(h.output(servers, json!({})), "nameserver 192.0.2.7\n", "127.0.0.11 answers the host alone");
    // On the level below that the same holds, and a container that says so has its own.
    let network = h.network(json!({}));
    let (_c, below) = host(&h, json!({"NetworkMode": network.name}));
    assert_eq!(below.output(servers, json!({})), "nameserver 192.0.2.7\n");
    assert_eq!(h.output(servers, json!({"Dns": ["192.0.2.8"]})), "nameserver 192.0.2.8\n");
}
