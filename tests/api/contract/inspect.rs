//! The shape of replies: every key, and null, empty and absent apart, as recorded from the real Docker
//! in `fixtures/`. Record anew with `DROSTE_RECORD=1` and `DROSTE_TEST_DOCKER_HOST`.

use std::path::PathBuf;

use droste_test_support::container::{idle, sh};
use droste_test_support::image::{Image, encode};
use droste_test_support::shape::assert_shape;
use droste_test_support::{Engine, Value, json, t};

fn matches(fixture: &str, value: &Value) {
    assert_shape(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("contract/fixtures/{fixture}.json")), value);
}

/// A create body that sets much of what there is.
fn rich() -> Value {
    let mut body = idle();
    body["Env"] = json!(["A=b"]);
    body["Labels"] = json!({"colour": "red"});
    body["ExposedPorts"] = json!({"80/tcp": {}, "81/tcp": {}});
    body["Entrypoint"] = json!(["sh"]);
    body["Cmd"] = json!(["-c", "while :; do sleep 1000; done"]);
    body["StopSignal"] = json!("SIGINT");
    body["StopTimeout"] = json!(3);
    body["Healthcheck"] = json!({"Test": ["CMD", "true"], "Interval": 3_600_000_000_000_i64});
    body["HostConfig"] = json!({
        "Binds": ["/tmp:/b:ro"], "Mounts": [{"Type": "tmpfs", "Target": "/t"}], "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]},
        "CapAdd": ["NET_ADMIN"], "CapDrop": ["MKNOD"], "Dns": ["10.0.0.1"], "DnsSearch": ["example"], "DnsOptions": ["ndots:1"], "ExtraHosts": ["a:10.0.0.2"],
        "GroupAdd": ["extra"], "Init": true, "Memory": 67_108_864, "PidsLimit": 100, "NanoCpus": 500_000_000, "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}],
        "Sysctls": {"net.ipv4.ip_forward": "1"}, "Tmpfs": {"/x": "size=1m"}, "SecurityOpt": ["no-new-privileges"], "Annotations": {"a": "b"},
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}}, "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/n", "CgroupPermissions": "rwm"}],
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 1},
    });
    body
}

#[test]
fn container_created() {
    let e = Engine::shared();
    matches("container-created", &e.create(sh("true")).inspect());
}

#[test]
fn container_running() {
    let e = Engine::shared();
    let c = e.run(idle());
    matches("container-running", &c.inspect());
    let reply = t!(e, GET "/containers/{c}/json", 200);
    crate::typed::<bollard_stubs::models::ContainerInspectResponse>(&reply);
    t!(e, GET "/containers/{c}/json?size=1", 200, ".SizeRw" is number, ".SizeRootFs" is positive);
}

#[test]
fn container_exited() {
    let e = Engine::shared();
    let c = e.run(sh("exit 1"));
    c.wait();
    matches("container-exited", &c.inspect());
}

#[test]
fn container_rich() {
    let e = Engine::shared();
    let c = e.run(rich());
    let mut inspect = c.inspect();
    // Which check has run by now is not the matter.
    inspect["State"]["Health"]["Log"] = json!(null);
    matches("container-rich", &inspect);
    let reply = t!(e, GET "/containers/{c}/json", 200);
    crate::typed::<bollard_stubs::models::ContainerInspectResponse>(&reply);
}

#[test]
fn container_on_the_host_network() {
    let e = Engine::shared();
    let mut body = idle();
    body["HostConfig"] = json!({"NetworkMode": "host"});
    matches("container-host-network", &e.run(body).inspect());
}

#[test]
fn exec() {
    let e = Engine::shared();
    let c = e.run(idle());
    let id = c.exec_create(&json!({"Cmd": ["true"]}));
    matches("exec", &e.get(&format!("/exec/{id}/json")));
}

#[test]
fn lists() {
    let e = Engine::shared();
    let c = e.run(rich());
    let filters = encode(&json!({"id": [c.id]}).to_string());
    matches("container-list", &e.get(&format!("/containers/json?filters={filters}")));
    let image = Image::new(e, &["LABEL a=b", "CMD [\"true\"]", "ENV A=b"]);
    let filters = encode(&json!({"reference": [image.repo]}).to_string());
    matches("image-list", &e.get(&format!("/images/json?filters={filters}")));
    matches("image", &e.get(&format!("/images/{image}/json")));
    matches("image-history", &e.get(&format!("/images/{image}/history")));
    let bare = Image::new(e, &[]);
    matches("image-bare", &e.get(&format!("/images/{bare}/json")));
}

#[test]
fn stats() {
    let e = Engine::shared();
    let c = e.run(idle());
    let mut stats = e.get(&format!("/containers/{c}/stats?stream=0"));
    // Depends on the cgroup version and the machine's disks.
    stats["memory_stats"]["stats"] = json!(null);
    stats["blkio_stats"] = json!(null);
    stats["cpu_stats"]["cpu_usage"]["percpu_usage"].take();
    stats["precpu_stats"]["cpu_usage"]["percpu_usage"].take();
    matches("stats", &stats);
}

#[test]
fn networks() {
    let e = Engine::shared();
    let mut bridge = e.get("/networks/bridge");
    bridge["Containers"] = json!({});
    matches("network-bridge", &bridge);
    let mut host = e.get("/networks/host");
    host["Containers"] = json!({});
    matches("network-host", &host);
    let c = e.run(idle());
    let container = e.get("/networks/bridge")["Containers"][&c.id].clone();
    matches("network-container", &container);
}

#[test]
fn system() {
    let e = Engine::shared();
    matches("version", &e.get("/version"));
    matches("info", &e.get("/info"));
}

#[test]
fn older_versions_have_their_shapes() {
    use droste_test_support::image::BASE;
    let e = Engine::shared();
    let c = e.run(idle());
    t!(e, GET "~/v1.49/images/{BASE}/json", 200, ".Config.Hostname" == "", ".Config.AttachStdin" == false, ".VirtualSize" is absent);
    t!(e, GET "~/v1.50/images/{BASE}/json", 200, ".Config.Hostname" is absent, ".Config.AttachStdin" is absent);
    t!(e, GET "~/v1.44/images/{BASE}/json", 200, ".ContainerConfig.Image" == "", ".Container" is absent);
    t!(e, GET "~/v1.43/images/{BASE}/json", 200, ".VirtualSize" is positive);
    t!(e, GET "~/v1.41/info", 200, ".KernelMemory" is bool, ".BridgeNfIptables" is bool, ".FirewallBackend" is absent);
    t!(e, GET "~/v1.46/info", 200, ".KernelMemory" is absent, ".RegistryConfig.AllowNondistributableArtifactsCIDRs" is null);
    t!(e, GET "~/v1.49/info", 200, ".BridgeNfIp6tables" is bool, ".FirewallBackend.Driver" is string, ".RuncCommit.Expected" is absent);
    t!(e, GET "~/v1.50/info", 200, ".BridgeNfIptables" is absent, ".Plugins.Network" has "macvlan", ".Plugins.Network" has "ipvlan");
    t!(e, GET "~/v1.51/system/df", 200, ".Containers.0.Id" is id, ".Containers.0.Health" is absent, ".Images.0.VirtualSize" is absent);
    t!(e, GET "~/v1.43/system/df", 200, ".Images.0.VirtualSize" is positive);
    drop(c);
}

#[test]
fn aliases_had_the_short_id_once() {
    use droste_test_support::Container;
    use droste_test_support::image::BASE;
    let e = Engine::shared();
    let name = format!("aliases-{}", std::process::id());
    let network = t!(e, POST "/networks/create" {"Name": name}, 201).json()["Id"].clone();
    let body = json!({"Image": BASE, "Cmd": ["true"], "HostConfig": {"NetworkMode": name},
        "NetworkingConfig": {"EndpointsConfig": {(name.clone()): {"Aliases": ["al"]}}}});
    let made = e.request("POST", "/containers/create").json(&body).send();
    let c = Container::adopt(e, made.json()["Id"].as_str().unwrap());
    let aliases = |version: &str| t!(e, GET "~/{version}/containers/{c}/json", 200).json()["NetworkSettings"]["Networks"][&name]["Aliases"].clone();
    assert_eq!(aliases("v1.44"), json!(["al", c.id[..12]]));
    assert_eq!(aliases("v1.45"), json!(["al"]));
    drop(c);
    let network = network.as_str().unwrap();
    t!(e, DELETE "/networks/{network}", 204);
}

#[test]
fn events() {
    let e = Engine::shared();
    let c = e.run(sh("true"));
    c.wait();
    let filters = encode(&json!({"container": [c.id], "event": ["die"]}).to_string());
    let mut open = e.request("GET", &format!("/events?since=0&filters={filters}")).open();
    matches("event-die", &open.json_line().unwrap());
}
