//! Ping, version, info, disk use, negotiation, and errors of the protocol itself.

use bollard_stubs::models::{SystemInfo, SystemVersion};
use droste_test_support::{Engine, expect, t};

use crate::typed;

const NOT_A_MANAGER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker \
                             swarm join\" to connect this node to swarm and try again.";

#[test]
fn ping_tells_version_and_features() {
    let e = Engine::shared();
    t!(e, GET "~/_ping", 200, "text" == "OK", "@Api-Version" == "1.51", "@Builder-Version" matches "^[12]$",
        "@Docker-Experimental" == "false", "@Ostype" == "linux", "@Swarm" == "inactive",
        "@Server" matches r"^\S+/\S+ \(linux\)$", "@Cache-Control" == "no-cache, no-store, must-revalidate",
        "@Pragma" == "no-cache", "@Content-Type" == "text/plain; charset=utf-8", "@Content-Length" == "2");
    let head = t!(e, HEAD "~/_ping", 200, "text" == "", "@Api-Version" == "1.51", "@Content-Length" == "0");
    assert_eq!(head.body, b"");
    t!(e, GET "/v1.24/_ping", 200, "text" == "OK", "@Api-Version" == "1.51");
}

#[test]
fn version_negotiation() {
    let e = Engine::shared();
    t!(e, GET "~/info", 200, "@Api-Version" == "1.51", "@Server" has "(linux)", "@Ostype" == "linux",
        "@Docker-Experimental" == "false");
    t!(e, GET "~/v1.24/info", 200, ".ID" is string);
    t!(e, GET "/v1.51/info", 200, ".ID" is string);
    t!(e, GET "~/v1.23/info", 400, "@Content-Type" == "text/plain; charset=utf-8", "text" == "client version 1.23 is too old. \
        Minimum supported API version is 1.24, please upgrade your client to a newer version\n");
    t!(e, GET "~/v1.99/info", 400, ".message" matches r"^client version 1\.99 is too new\. Maximum supported API version is 1\.5\d$",
        "@Api-Version" == "1.51");
    t!(e, GET "~/vx/info", 404, ".message" == "page not found");
    t!(e, GET "~/v1.51", 404, ".message" == "page not found");
}

#[test]
fn newer_paths_are_accepted() {
    let e = Engine::shared();
    if e.not_on_docker("28.5.2 refuses the fixed /v1.53 of bollard and testcontainers-rs") {
        return;
    }
    t!(e, GET "/v1.53/info", 200, "@Api-Version" == "1.51");
    t!(e, GET "/v1.56/containers/json", 200);
    t!(e, GET "/v1.57/info", 400, ".message" has "client version 1.57 is too new");
}

#[test]
fn errors_are_json_with_a_newline() {
    let e = Engine::shared();
    let reply = t!(e, GET "/containers/nope/json", 404, ".message" == "No such container: nope",
        "@Content-Type" == "application/json", "@Api-Version" == "1.51", "@Server" has "/");
    assert_eq!(reply.body, b"{\"message\":\"No such container: nope\"}\n");
    let list = t!(e, GET "/containers/json?filters=%7B%22label%22%3A%5B%22nobody-has-this%22%5D%7D", 200, "@Content-Type" == "application/json");
    assert_eq!(list.body, b"[]\n");
}

#[test]
fn unknown_routes() {
    let e = Engine::shared();
    let reply = t!(e, GET "~/nope", 404, "@Content-Type" == "application/json");
    assert_eq!(reply.body, b"{\"message\":\"page not found\"}\n");
    t!(e, GET "/containers/x/nope", 404, ".message" == "page not found");
    t!(e, DELETE "/_ping", 404, ".message" == "page not found");
    t!(e, PUT "/containers/json", 404, ".message" == "page not found");
    t!(e, GET "/containers/create", 404, ".message" == "page not found");
    t!(e, GET "~/", 404, ".message" == "page not found");
}

#[test]
fn bodies_must_be_json() {
    let e = Engine::shared();
    let post = |kind: &str, body: &str| e.request("POST", "/containers/create").bytes(kind, body).send();
    expect!(post("text/plain", "{}"), 400, ".message" == "unsupported Content-Type header (text/plain): must be 'application/json'");
    expect!(post("application/x-www-form-urlencoded", "{}"), 400, ".message" has "must be 'application/json'");
    expect!(post("", "{}"), 400, ".message" == "malformed Content-Type header (): mime: no media type");
    expect!(post("application/json", ""), 400, ".message" == "invalid JSON: got EOF while reading request body");
    expect!(post("application/json", "{\"Image\":\"x\"} x"), 400, ".message" == "unexpected content after JSON");
    expect!(post("application/json", "{\"Image\":\"x\"}{}"), 400, ".message" == "unexpected content after JSON");
    expect!(post("application/json", "{\"Image\":\"x\""), 400, ".message" == "invalid JSON: unexpected EOF");
    expect!(post("application/json", "{\"Image\":5}"), 400, ".message" has "invalid JSON: ");
    expect!(post("application/json", "[]"), 400, ".message" has "invalid JSON: ");
    expect!(post("application/json; charset=utf-8", "{}"), 400, ".message" == "config cannot be empty in order to create a container");
    expect!(post("application/json", "null"), 400, ".message" == "config cannot be empty in order to create a container");
}

#[test]
fn keys_are_matched_without_case() {
    let e = Engine::shared();
    let image = droste_test_support::image::BASE;
    let body = droste_test_support::json!({"iMAGE": image, "cMD": ["true"], "hostCONFIG": {"autoREMOVE": false, "binds": null},
        "Unknown": {"is": "ignored"}, "LABELS": {"Case": "Kept"}});
    let reply = e.request("POST", "/containers/create").json(&body).send();
    reply.expect_status(201);
    let c = droste_test_support::Container::adopt(e, reply.json()["Id"].as_str().unwrap());
    t!(e, GET "/containers/{c}/json", 200, ".Config.Image" == image, ".Config.Cmd" == ["true"], ".Config.Labels.Case" == "Kept");
}

#[test]
fn a_key_given_twice_is_refused() {
    let e = Engine::shared();
    if e.not_on_docker("it takes the last one") {
        return;
    }
    let post = |body: &str| e.request("POST", "/containers/create").bytes("application/json", body).send();
    expect!(post("{\"Image\":\"a\",\"Image\":\"b\"}"), 400, ".message" has "Image");
    expect!(post("{\"Image\":\"a\",\"image\":\"b\"}"), 400, ".message" has "mage");
    expect!(post("{\"Image\":\"a\",\"HostConfig\":{\"Privileged\":false,\"privileged\":true}}"), 400, ".message" has "rivileged");
}

#[test]
fn chunked_request_bodies() {
    let e = Engine::shared();
    let body = "c\r\n{\"Image\":\"no\r\n10\r\n-such-image-xx\"}\r\n0\r\n\r\n";
    let mut stream = std::os::unix::net::UnixStream::connect(e.socket()).unwrap();
    let head = "POST /v1.51/containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\
                Connection: close\r\n\r\n";
    std::io::Write::write_all(&mut stream, format!("{head}{body}").as_bytes()).unwrap();
    let mut reply = String::new();
    std::io::Read::read_to_string(&mut stream, &mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 404 Not Found\r\n"), "{reply}");
    assert!(reply.contains("No such image: no-such-image-xx:latest"), "{reply}");
}

#[test]
fn version_has_components() {
    let e = Engine::shared();
    let reply = t!(e, GET "/version", 200, ".ApiVersion" == "1.51", ".MinAPIVersion" == "1.24", ".Os" == "linux", ".Arch" == "amd64",
        ".Version" matches r"^\d+\.\d+", ".KernelVersion" matches r"^\d+\.\d+", ".Platform.Name" is string, ".BuildTime" is string,
        ".GitCommit" is string, ".GoVersion" is string, ".Components.0.Name" == "Engine", ".Components.0.Details.ApiVersion" == "1.51",
        ".Components.0.Details.MinAPIVersion" == "1.24", ".Components.0.Details.Os" == "linux");
    typed::<SystemVersion>(&reply);
}

#[test]
fn info_describes_the_host() {
    let e = Engine::shared();
    let reply = t!(e, GET "/info", 200, ".OSType" == "linux", ".Architecture" == "x86_64", ".ServerVersion" is string, ".Driver" is string,
        ".CgroupVersion" matches "^[12]$", ".CgroupDriver" is string, ".NCPU" is positive, ".MemTotal" is positive,
        ".DefaultRuntime" is string, ".Swarm.LocalNodeState" == "inactive", ".Swarm.ControlAvailable" == false,
        ".Swarm.RemoteManagers" == null, ".Plugins.Volume" has "local", ".Plugins.Network" has "bridge", ".Plugins.Network" has "host",
        ".Plugins.Log" has "json-file", ".LoggingDriver" == "json-file", ".SecurityOptions" has "name=seccomp,profile=builtin",
        ".DockerRootDir" is string, ".Name" is string, ".ID" is string, ".IndexServerAddress" == "https://index.docker.io/v1/",
        ".RegistryConfig.InsecureRegistryCIDRs" has "127.0.0.0/8", ".ExperimentalBuild" == false, ".Containers" is number,
        ".ContainersRunning" is number, ".ContainersPaused" is number, ".ContainersStopped" is number, ".Images" is number,
        ".MemoryLimit" == true, ".PidsLimit" == true, ".IPv4Forwarding" == true, ".OomKillDisable" is bool, ".SystemTime" is time,
        ".Labels" == [], ".Isolation" == "", ".InitBinary" is string, ".Warnings" != "");
    typed::<SystemInfo>(&reply);
}

#[test]
fn swarm_answers_as_an_engine_without_one() {
    let e = Engine::shared();
    for target in ["/swarm", "/services", "/nodes", "/tasks", "/secrets", "/configs", "/nodes/x", "/services/x", "/tasks/x", "/secrets/x", "/configs/x", "/swarm/unlockkey"] {
        expect!(e.request("GET", target).send(), 503, ".message" == NOT_A_MANAGER);
    }
    for target in ["/services/x", "/nodes/x", "/secrets/x", "/configs/x"] {
        expect!(e.request("DELETE", target).send(), 503, ".message" == NOT_A_MANAGER);
    }
    t!(e, POST "/swarm/leave", 503, ".message" == "This node is not part of a swarm");
    t!(e, POST "/services/create" {"Name": "x"}, 503, ".message" == NOT_A_MANAGER);
    t!(e, POST "/secrets/create" {"Name": "x"}, 503, ".message" == NOT_A_MANAGER);
}

#[test]
fn a_swarm_is_not_to_be_had() {
    let e = Engine::shared();
    if e.not_on_docker("that one makes a swarm") {
        return;
    }
    for verb in ["init", "join"] {
        t!(e, POST "/swarm/{verb}" {"ListenAddr": "0.0.0.0:2377"}, 503, ".message" has "swarms are not part of Droste");
    }
}

#[test]
fn plugins_are_none() {
    let e = Engine::shared();
    t!(e, GET "/plugins", 200, "." == []);
    t!(e, GET "/plugins/x/json", 404, ".message" == "plugin \"x\" not found");
    t!(e, DELETE "/plugins/x", 404, ".message" == "plugin \"x\" not found");
    t!(e, POST "/plugins/x/enable?timeout=0", 404, ".message" == "plugin \"x\" not found");
    t!(e, POST "/plugins/x/disable", 404, ".message" == "plugin \"x\" not found");
}

#[test]
fn auth_needs_a_registry() {
    let e = Engine::shared();
    t!(e, POST "/auth" {"username": "u", "password": "p", "serveraddress": "127.0.0.1:1"}, 500, ".message" has "127.0.0.1:1");
}

#[test]
fn disk_use() {
    let e = Engine::shared();
    let c = e.create(droste_test_support::container::sh("true"));
    t!(e, GET "/system/df", 200, ".LayersSize" is positive, ".Images.0.Id" has "sha256:", ".Images.0.SharedSize" is number,
        ".Images.0.Containers" is number, ".Containers.0.SizeRootFs" is number, ".Volumes" is array, ".BuildCache" is array);
    t!(e, GET "/system/df?type=container", 200, ".Containers" is array, ".Images" == null, ".Volumes" == null, ".BuildCache" == null);
    t!(e, GET "/system/df?type=image", 200, ".Images" is array, ".Containers" == null);
    t!(e, GET "/system/df?type=nope", 400, ".message" == "unknown object type: nope");
    drop(c);
}

#[test]
fn volumes_and_networks_as_far_as_they_go() {
    let e = Engine::shared();
    let none = "filters=%7B%22label%22%3A%5B%22nobody-has-this%22%5D%7D";
    t!(e, GET "/volumes?{none}", 200, ".Volumes" == [], ".Warnings" == null);
    t!(e, GET "/volumes/nope", 404, ".message" == "get nope: no such volume");
    t!(e, DELETE "/volumes/nope", 404, ".message" == "get nope: no such volume");
    t!(e, GET "/networks/nope", 404, ".message" == "network nope not found");
    t!(e, DELETE "/networks/nope", 404, ".message" == "network nope not found");
    t!(e, DELETE "/networks/bridge", 403, ".message" == "bridge is a pre-defined network and cannot be removed");
    t!(e, DELETE "/networks/host", 403, ".message" == "host is a pre-defined network and cannot be removed");
    t!(e, POST "/networks/create" {"Name": "bridge"}, 403, ".message" has "operation is not permitted on predefined bridge network");
}

#[test]
fn predefined_networks() {
    let e = Engine::shared();
    t!(e, GET "/networks/bridge", 200, ".Name" == "bridge", ".Driver" == "bridge", ".Scope" == "local", ".Id" is id, ".Created" is time,
        ".EnableIPv4" == true, ".EnableIPv6" == false, ".Internal" == false, ".Attachable" == false, ".Ingress" == false,
        ".ConfigOnly" == false, ".ConfigFrom.Network" == "", ".IPAM.Driver" == "default", ".IPAM.Options" == null,
        ".IPAM.Config.0.Subnet" matches r"^\d+\.\d+\.\d+\.\d+/\d+$", ".IPAM.Config.0.Gateway" matches r"^\d+\.\d+\.\d+\.\d+$",
        ".Options" has "com.docker.network.bridge.name", ".Labels" == {}, ".Containers" is object);
    t!(e, GET "/networks/host", 200, ".Driver" == "host", ".IPAM.Config" == null, ".Options" == {}, ".Containers" == {});
    t!(e, GET "/networks/none", 200, ".Driver" == "null", ".IPAM.Config" == null, ".EnableIPv4" == true);
    let id = e.get("/networks/bridge")["Id"].as_str().unwrap().to_owned();
    let short = &id[..12];
    t!(e, GET "/networks/{id}", 200, ".Name" == "bridge");
    t!(e, GET "/networks/{short}", 200, ".Name" == "bridge");
    let list = t!(e, GET "/networks", 200);
    let names: Vec<_> = list.json().as_array().unwrap().iter().map(|n| n["Name"].as_str().unwrap().to_owned()).collect();
    for name in ["bridge", "host", "none"] {
        assert!(names.iter().any(|n| n == name), "{names:?}");
    }
    typed::<Vec<bollard_stubs::models::Network>>(&list);
}

#[test]
fn network_filters() {
    let e = Engine::shared();
    let names = |filters: &str| {
        let filters = droste_test_support::image::encode(filters);
        let list = e.get(&format!("/networks?filters={filters}"));
        let mut names: Vec<_> = list.as_array().unwrap().iter().map(|n| n["Name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(r#"{"driver":["host"]}"#), ["host"]);
    assert_eq!(names(r#"{"name":["bridge"],"type":["builtin"]}"#), ["bridge"]);
    assert_eq!(names(r#"{"name":{"bridg":true},"type":{"builtin":true}}"#), ["bridge"]);
    assert_eq!(names(r#"{"type":["builtin"]}"#), ["bridge", "host", "none"]);
    assert_eq!(names(r#"{"label":["nope"]}"#), Vec::<String>::new());
    let bad = droste_test_support::image::encode(r#"{"foo":["x"]}"#);
    t!(e, GET "/networks?filters={bad}", 400, ".message" == "invalid filter 'foo'");
    let bad = droste_test_support::image::encode(r#"{"type":["x"]}"#);
    t!(e, GET "/networks?filters={bad}", 400 | 500, ".message" == "invalid filter: 'type'='x'");
    t!(e, GET "/networks?filters=nojson", 400, ".message" has "invalid");
}
