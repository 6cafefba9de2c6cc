//! Volumes as objects: making, looking at, listing, removing and pruning them, who holds them, and their events.

use droste_test_support::container::{idle, sh_with};
use droste_test_support::image::{Image, encode};
use droste_test_support::{Container, Engine, Value, json, t};

fn names(e: &Engine, prefix: &str, filters: Value) -> Vec<String> {
    let list = e.get(&format!("/volumes?filters={}", encode(&filters.to_string())));
    let rows = list["Volumes"].as_array().unwrap().clone();
    let mut names: Vec<_> = rows.iter().map(|v| v["Name"].as_str().unwrap().to_owned()).filter(|n| n.starts_with(prefix)).collect();
    names.sort();
    names
}

fn prune(e: &Engine, filters: Value) -> Vec<String> {
    let reply = e.request("POST", &format!("/volumes/prune?filters={}", encode(&filters.to_string()))).send();
    reply.expect_status(200);
    reply.check(".SpaceReclaimed", "is", &json!("number"));
    let mut names: Vec<_> = reply.json()["VolumesDeleted"].as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// The names of a container's volumes.
fn volumes_of(c: &Container) -> Vec<String> {
    c.inspect()["Mounts"].as_array().unwrap().iter().filter(|m| m["Type"] == "volume").map(|m| m["Name"].as_str().unwrap().to_owned()).collect()
}

fn there(e: &Engine, name: &str) -> bool {
    e.request("GET", &format!("/volumes/{name}")).send().status == 200
}

#[test]
fn a_volume_is_shown_as_it_was_made() {
    let e = Engine::shared();
    let name = e.name("vol");
    let reply = t!(e, POST "/volumes/create" {"Name": (name), "Labels": {"a": "b"}}, 201, ".Name" == (name), ".Driver" == "local", ".Scope" == "local", ".Labels" == {"a": "b"}, ".Options" == null,
        ".CreatedAt" is time, ".Mountpoint" matches (format!("/volumes/{name}/_data$")), ".Status" is absent, ".UsageData" is absent, ".ClusterVolume" is absent);
    assert_eq!(e.get(&format!("/volumes/{name}")), reply.json());
    let filters = encode(&json!({"name": [name]}).to_string());
    t!(e, GET "/volumes?filters={filters}", 200, ".Volumes.0" == (reply.json()), ".Volumes.1" is absent, ".Warnings" == null);
    crate::typed::<bollard_stubs::models::Volume>(&reply);
    // Making it again gives what is there, whatever is asked for.
    t!(e, POST "/volumes/create" {"Name": (name), "Labels": {"c": "d"}, "DriverOpts": {"type": "tmpfs", "device": "tmpfs"}}, 201, ".Labels" == {"a": "b"}, ".Options" == null);
    t!(e, DELETE "/volumes/{name}", 204, "text" == "");
    t!(e, GET "/volumes/{name}", 404, ".message" == (format!("get {name}: no such volume")));
    t!(e, DELETE "/volumes/{name}", 404, ".message" == (format!("get {name}: no such volume")));
    t!(e, DELETE "/volumes/{name}?force=1", 204);
}

#[test]
fn a_volume_without_a_name() {
    let e = Engine::shared();
    for body in [json!({}), json!({"Name": ""}), json!({"Name": null, "Labels": null, "DriverOpts": {}})] {
        let reply = e.request("POST", "/volumes/create").json(&body).send();
        droste_test_support::expect!(reply, 201, ".Name" is id, ".Labels" == {"com.docker.volume.anonymous": ""});
        let name = reply.json()["Name"].as_str().unwrap().to_owned();
        t!(e, DELETE "/volumes/{name}", 204);
    }
    let reply = t!(e, POST "/volumes/create", 201, ".Name" is id);
    let name = reply.json()["Name"].as_str().unwrap().to_owned();
    t!(e, DELETE "/volumes/{name}", 204);
}

#[test]
fn names_drivers_and_options_are_checked() {
    let e = Engine::shared();
    t!(e, POST "/volumes/create" {"Name": "a"}, 400, ".message" == "create a: volume name is too short, names should be at least two alphanumeric characters");
    for name in ["a/b", ".x", "../up", "sp ace", "-dash"] {
        t!(e, POST "/volumes/create" {"Name": (name)}, 400, ".message" == (format!(
            "create {name}: \"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path")));
    }
    let name = e.name("vol");
    t!(e, POST "/volumes/create" {"Name": (name), "Driver": "nope"}, 404, ".message" == (format!("create {name}: error looking up volume plugin nope: plugin \"nope\" not found")));
    for (options, words) in [
        (json!({"foo": "bar"}), "invalid option: \"foo\""),
        (json!({"device": "/tmp"}), "missing required option: \"type\""),
        (json!({"o": "bind"}), "missing required option: \"device\""),
        (json!({"type": "none", "o": "bind"}), "missing required option: \"device\""),
    ] {
        t!(e, POST "/volumes/create" {"Name": (name), "DriverOpts": (options)}, 400, ".message" == (format!("create {name}: {words}")));
        assert!(!there(e, &name));
    }
    t!(e, POST "/volumes/create" {"Name": (name), "DriverOpts": {"size": "10m"}}, 400, ".message" has "quota");
    t!(e, PUT "/volumes/{name}?version=1" {"Spec": {}}, 503, ".message" == "volume update only valid for cluster volumes, but swarm is unavailable");
}

#[test]
fn filters_of_the_list() {
    let e = Engine::shared();
    let prefix = e.name("filter");
    let make = |suffix: &str, body: Value| {
        let name = format!("{prefix}-{suffix}");
        let mut body = body;
        body["Name"] = json!(name);
        e.request("POST", "/volumes/create").json(&body).send().expect_status(201);
        name
    };
    let (one, two) = (make("one", json!({"Labels": {"colour": "red"}})), make("two", json!({"Labels": {"colour": "blue", "size": "1"}})));
    let list = |filters: Value| names(e, &prefix, filters);
    assert_eq!(list(json!({})), [one.as_str(), &two]);
    assert_eq!(list(json!({"name": [one]})), [one.as_str()]);
    assert_eq!(list(json!({"name": [prefix[1..]]})), [one.as_str(), &two], "a name's part is enough");
    assert_eq!(list(json!({"name": [format!("^{prefix}.*two$")]})), [two.as_str()], "a name is a pattern too");
    assert_eq!(list(json!({"name": {one.as_str(): true, two.as_str(): true}})), [one.as_str(), &two]);
    assert_eq!(list(json!({"driver": ["local"]})), [one.as_str(), &two]);
    assert_eq!(list(json!({"driver": ["nope"]})), Vec::<String>::new());
    assert_eq!(list(json!({"label": ["colour"]})), [one.as_str(), &two]);
    assert_eq!(list(json!({"label": ["colour", "size=1"]})), [two.as_str()]);
    assert_eq!(list(json!({"label": ["colour=green"]})), Vec::<String>::new());
    let c = e.create(sh_with("true", json!({"Binds": [format!("{one}:/d")]})));
    assert_eq!(list(json!({"dangling": ["true"]})), [two.as_str()], "a container that never ran holds its volumes");
    assert_eq!(list(json!({"dangling": ["false"]})), [one.as_str()]);
    drop(c);
    assert_eq!(list(json!({"dangling": ["1"]})), [one.as_str(), &two]);
    for (filters, words) in [
        (json!({"dangling": ["maybe"]}), "invalid filter 'dangling=[maybe]'"),
        (json!({"nope": ["x"]}), "invalid filter 'nope'"),
        (json!("xx"), "error reading volume filters: invalid filter"),
    ] {
        let filters = encode(&filters.to_string());
        t!(e, GET "/volumes?filters={filters}", 400, ".message" == words);
    }
    for name in [one, two] {
        t!(e, DELETE "/volumes/{name}", 204);
    }
    let filters = encode(&json!({"name": [prefix]}).to_string());
    t!(e, GET "/volumes?filters={filters}", 200, ".Volumes" == []);
}

#[test]
fn a_volume_in_use_stays() {
    let e = Engine::shared();
    let volume = e.volume(json!({}));
    let c = e.create(sh_with("true", json!({"Binds": [format!("{volume}:/d")]})));
    let message = format!("remove {volume}: volume is in use - [{}]", c.id);
    t!(e, DELETE "/volumes/{volume}", 409, ".message" == (message));
    t!(e, DELETE "/volumes/{volume}?force=1", 409, ".message" == (message));
    drop(c);
    assert!(there(e, &volume.name), "a name that was given outlives its containers");
    t!(e, DELETE "/volumes/{volume}", 204);
}

#[test]
fn two_containers_share_a_volume() {
    let e = Engine::shared();
    let volume = e.volume(json!({}));
    let binds = json!({"Binds": [format!("{volume}:/d")]});
    let c = e.run(sh_with("echo written > /d/file; sleep 1000", binds.clone()));
    while c.exec(&["cat", "/d/file"]).out != "written\n" {}
    assert_eq!(e.output("cat /d/file", binds.clone()), "written\n");
    drop(c);
    assert_eq!(e.output("cat /d/file", binds), "written\n", "what was written stays");
    let name = volume.name.clone();
    drop(volume);
    t!(e, POST "/volumes/create" {"Name": (name)}, 201);
    assert_eq!(e.output("ls /d", json!({"Binds": [format!("{name}:/d")]})), "", "and is gone when it was removed");
    t!(e, DELETE "/volumes/{name}", 204);
}

#[test]
fn anonymous_volumes_go_with_their_container_if_asked() {
    let e = Engine::shared();
    let image = Image::new(e, &["VOLUME /data", "CMD [\"sleep\", \"1000\"]"]);
    let make = |more: Value| {
        let mut body = json!({"Image": image.name, "HostConfig": {"Mounts": [{"Type": "volume", "Target": "/mnt"}]}, "Volumes": {"/asked": {}}});
        body["HostConfig"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        e.create(body)
    };
    let c = make(json!({}));
    let mut mounts: Vec<_> = c.inspect()["Mounts"].as_array().unwrap().iter().map(|m| m["Destination"].as_str().unwrap().to_owned()).collect();
    mounts.sort();
    assert_eq!(mounts, ["/asked", "/data", "/mnt"]);
    let volumes = volumes_of(&c);
    t!(e, DELETE "/containers/{c}", 204);
    for name in &volumes {
        t!(e, GET "/volumes/{name}", 200, ".Labels" == {"com.docker.volume.anonymous": ""}, ".Name" is id);
        t!(e, DELETE "/volumes/{name}", 204);
    }
    let c = make(json!({"Binds": [format!("{}:/named", e.name("kept"))]}));
    let volumes = volumes_of(&c);
    t!(e, DELETE "/containers/{c}?v=1", 204);
    let left: Vec<_> = volumes.iter().filter(|name| there(e, name)).collect();
    assert!(left.len() == 1 && left[0].ends_with("kept"), "{left:?}");
    let kept = left[0];
    t!(e, DELETE "/volumes/{kept}", 204);
    let c = make(json!({"AutoRemove": true}));
    let volumes = volumes_of(&c);
    c.start();
    let waiting = e.request("POST", &format!("/containers/{c}/wait?condition=removed")).open();
    c.post("/kill", 204);
    waiting.finish();
    assert!(!volumes.iter().any(|name| there(e, name)), "--rm takes them along");
}

#[test]
fn prune_takes_what_nothing_uses() {
    let e = Engine::shared();
    let label = e.name("prune");
    let labelled = |value: &str| json!({"Labels": {label.as_str(): value}});
    let (used, free, other) = (e.volume(labelled("a")), e.volume(labelled("a")), e.volume(labelled("b")));
    let special = e.volume(json!({"Labels": {label.as_str(): "a"}, "DriverOpts": {"type": "tmpfs", "device": "tmpfs"}}));
    let c = e.create(sh_with("true", json!({"Binds": [format!("{used}:/d")]})));
    assert_eq!(prune(e, json!({"label": [label]})), Vec::<String>::new(), "those with names are kept unless all are meant");
    assert_eq!(prune(e, json!({"label": [label], "label!": [format!("{label}=b")], "all": ["true"]})), [free.name.as_str()]);
    let filters = encode(&json!({"label": [label]}).to_string());
    // Before 1.42, all were meant.
    t!(e, POST "/v1.41/volumes/prune?filters={filters}", 200, ".VolumesDeleted" == [(other.name)]);
    drop(c);
    assert_eq!(prune(e, json!({"label": {label.as_str(): true}, "all": {"1": true}})), [used.name.as_str()]);
    assert!(there(e, &special.name), "what has options of a driver's is not pruned");
    for (filters, words) in
        [(json!({"nope": ["x"]}), "invalid filter 'nope'"), (json!({"all": ["maybe"]}), "invalid filter 'all': strconv.ParseBool: parsing \"maybe\": invalid syntax")]
    {
        let filters = encode(&filters.to_string());
        t!(e, POST "/volumes/prune?filters={filters}", 400, ".message" == words);
    }
}

#[test]
fn prune_takes_anonymous_volumes() {
    let e = Engine::shared();
    let label = e.name("anonymous");
    let c = e.create(json!({"Cmd": ["true"], "HostConfig": {"Mounts": [{"Type": "volume", "Target": "/d", "VolumeOptions": {"Labels": {label.as_str(): ""}}}]}}));
    let name = volumes_of(&c).remove(0);
    t!(e, GET "/volumes/{name}", 200, ".Labels" has (label), ".Labels" has "com.docker.volume.anonymous");
    assert_eq!(prune(e, json!({"label": [label]})), Vec::<String>::new());
    t!(e, DELETE "/containers/{c}", 204);
    assert_eq!(prune(e, json!({"label": [label]})), [name]);
}

#[test]
fn volumes_of_a_filesystem_type() {
    let e = Engine::shared();
    let tmpfs = e.volume(json!({"DriverOpts": {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=0711"}}));
    t!(e, GET "/volumes/{tmpfs}", 200, ".Options" == {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=0711"});
    let out = e.output("grep ' /d ' /proc/mounts; stat -c %a /d; echo x > /d/x", json!({"Binds": [format!("{tmpfs}:/d")]}));
    assert!(out.contains("tmpfs") && out.contains("size=1024k") && out.ends_with("711\n"), "{out}");
    assert_eq!(e.output("ls /d", json!({"Binds": [format!("{tmpfs}:/d")]})), "", "unmounted with its last container");
    let here = e.scratch();
    std::fs::write(here.path().join("file"), "on the host\n").unwrap();
    let bind = e.volume(json!({"DriverOpts": {"type": "none", "device": here.path(), "o": "bind"}}));
    assert_eq!(e.output("cat /d/file; echo back > /d/back", json!({"Binds": [format!("{bind}:/d")]})), "on the host\n");
    assert_eq!(std::fs::read_to_string(here.path().join("back")).unwrap(), "back\n");
    let name = bind.name.clone();
    drop(bind);
    assert!(here.path().join("back").exists(), "removing {name} leaves what it was bound to");
    let missing = e.volume(json!({"DriverOpts": {"type": "none", "device": "/no/such/device", "o": "bind"}}));
    let c = e.create(sh_with("true", json!({"Binds": [format!("{missing}:/d")]})));
    t!(e, POST "/containers/{c}/start", 500, ".message" has "no such file or directory");
    t!(e, GET "/containers/{c}/json", 200, ".State.Status" == "created");
}

#[test]
fn events_of_a_volume() {
    let e = Engine::shared();
    let mut open = e.request("GET", &format!("/events?filters={}", encode(&json!({"type": ["volume"]}).to_string()))).open();
    let volume = e.volume(json!({}));
    let c = e.run({
        let mut body = idle();
        body["HostConfig"] = json!({"Binds": [format!("{volume}:/d:ro")]});
        body
    });
    c.post("/kill", 204);
    c.wait();
    t!(e, DELETE "/containers/{c}", 204);
    t!(e, DELETE "/volumes/{volume}", 204);
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last: &Value| last["Action"] != "destroy") {
        let event = open.json_line().unwrap();
        if event["Actor"]["ID"] == volume.name.as_str() {
            seen.push(event);
        }
    }
    let actions: Vec<_> = seen.iter().map(|event| event["Action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["create", "mount", "unmount", "destroy"]);
    assert_eq!(seen[0]["Actor"]["Attributes"], json!({"driver": "local"}));
    assert_eq!(seen[1]["Actor"]["Attributes"], json!({"driver": "local", "container": c.id, "destination": "/d", "propagation": "", "read/write": "false"}));
    assert_eq!(seen[2]["Actor"]["Attributes"], json!({"driver": "local", "container": c.id}));
    assert_eq!(seen[3]["Actor"]["Attributes"], json!({"driver": "local"}));
}

#[test]
fn disk_usage_tells_who_holds_what() {
    let e = Engine::shared();
    let volume = e.volume(json!({}));
    e.output("dd if=/dev/zero of=/d/file bs=1k count=64", json!({"Binds": [format!("{volume}:/d")]}));
    let usage = |e: &Engine| {
        let df = e.get("/system/df?type=volume");
        df["Volumes"].as_array().unwrap().iter().find(|v| v["Name"] == volume.name.as_str()).unwrap()["UsageData"].clone()
    };
    assert_eq!(usage(e)["RefCount"], 0);
    assert!(usage(e)["Size"].as_i64().unwrap() >= 65536, "{}", usage(e));
    let _c = e.create(sh_with("true", json!({"Binds": [format!("{volume}:/d")]})));
    assert_eq!(usage(e)["RefCount"], 1);
}

#[test]
fn memory_is_shared_while_it_is_used() {
    let e = Engine::shared();
    let memory = e.volume(json!({"DriverOpts": {"type": "tmpfs", "device": "tmpfs"}}));
    let binds = json!({"Binds": [format!("{memory}:/d"), format!("{memory}:/again:ro")]});
    let body = || {
        let mut body = idle();
        body["HostConfig"] = binds.clone();
        body
    };
    let (one, two) = (e.run(body()), e.run(body()));
    assert_eq!(one.exec(&["sh", "-c", "echo shared > /d/f"]).code, 0);
    assert_eq!(two.exec(&["cat", "/again/f"]).out, "shared\n", "both places are the same memory, in both containers");
    one.post("/restart?t=0", 204);
    assert_eq!(one.exec(&["cat", "/d/f"]).out, "shared\n", "the other one holds it");
    drop(one);
    assert_eq!(e.output("cat /d/f", binds.clone()), "shared\n");
    drop(two);
    assert_eq!(e.output("ls /d", binds), "", "the last one takes it along");
}

#[test]
fn a_container_that_never_ran_has_its_volumes() {
    let e = Engine::shared();
    let volume = e.volume(json!({}));
    let here = e.scratch();
    let bound = e.volume(json!({"DriverOpts": {"type": "none", "o": "bind", "device": here.path()}}));
    let c = e.create(sh_with("true", json!({"Binds": [format!("{volume}:/v"), format!("{bound}:/b")]})));
    let archive = droste_test_support::image::Archive::new().file("f", 0o644, b"copied\n").finish();
    for place in ["/v", "/b"] {
        let reply = e.request("PUT", &format!("/containers/{c}/archive?path={place}")).bytes("application/x-tar", archive.clone()).send();
        reply.expect_status(200);
    }
    assert_eq!(e.output("cat /v/f", json!({"Binds": [format!("{volume}:/v")]})), "copied\n");
    assert_eq!(std::fs::read_to_string(here.path().join("f")).unwrap(), "copied\n");
}
