//! What a client gave and what it did not: inspect tells nothing (`null`, or no key) from an empty list or map, and
//! shows values as they were typed where Docker does.

use droste_test_support::container::sh;
use droste_test_support::{Container, Engine, Value, expect, json, t};

/// A created container with one more key in its `HostConfig`.
fn host(e: &'static Engine, key: &str, value: &Value) -> Container<'static> {
    let mut body = sh("true");
    body["HostConfig"] = json!({ key: value });
    e.create(body)
}

fn shown(c: &Container<'_>, part: &str, key: &str) -> Option<Value> {
    c.inspect()[part].get(key).cloned()
}

#[test]
fn an_empty_list_is_not_null() {
    let e = Engine::shared();
    for key in [
        "Binds",
        "BlkioDeviceReadBps",
        "BlkioDeviceReadIOps",
        "BlkioDeviceWriteBps",
        "BlkioDeviceWriteIOps",
        "BlkioWeightDevice",
        "CapAdd",
        "CapDrop",
        "DeviceCgroupRules",
        "DeviceRequests",
        "Devices",
        "Dns",
        "DnsOptions",
        "DnsSearch",
        "ExtraHosts",
        "GroupAdd",
        "SecurityOpt",
        "Ulimits",
        "VolumesFrom",
        "MaskedPaths",
        "ReadonlyPaths",
    ] {
        assert_eq!(shown(&host(e, key, &json!([])), "HostConfig", key), Some(json!([])), "{key}: []");
        let default = key.ends_with("Paths");
        assert!(default || shown(&host(e, key, &Value::Null), "HostConfig", key) == Some(Value::Null), "{key}: null");
    }
    // Docker itself forgets these.
    assert_eq!(shown(&host(e, "Links", &json!([])), "HostConfig", "Links"), Some(Value::Null));
    assert_eq!(shown(&host(e, "Mounts", &json!([])), "HostConfig", "Mounts"), None);
}

#[test]
fn an_empty_map_is_not_null() {
    let e = Engine::shared();
    assert_eq!(shown(&host(e, "PortBindings", &json!({})), "HostConfig", "PortBindings"), Some(json!({})));
    assert_eq!(shown(&host(e, "PortBindings", &Value::Null), "HostConfig", "PortBindings"), Some(Value::Null));
    for key in ["Annotations", "StorageOpt", "Sysctls", "Tmpfs"] {
        assert_eq!(shown(&host(e, key, &json!({})), "HostConfig", key), None, "{key}");
    }
}

#[test]
fn empty_words_of_the_configuration() {
    let e = Engine::shared();
    let config = |key: &str, value: Value| {
        let mut body = json!({"Cmd": ["true"]});
        body[key] = value;
        shown(&e.create(body), "Config", key)
    };
    assert_eq!(config("Entrypoint", json!([])), Some(json!([])));
    assert_eq!(config("Entrypoint", Value::Null), Some(Value::Null));
    assert_eq!(config("Entrypoint", json!([""])), Some(Value::Null));
    assert_eq!(config("OnBuild", json!([])), Some(json!([])));
    assert_eq!(config("Volumes", json!({})), Some(Value::Null));
    assert_eq!(config("Labels", Value::Null), Some(json!({})));
    for (key, empty) in [("Shell", json!([])), ("ExposedPorts", json!({}))] {
        assert_eq!(config(key, empty), None, "{key}");
    }
    assert_eq!(config("WorkingDir", json!("/a//b/")), Some(json!("/a/b")));
    assert_eq!(config("ArgsEscaped", json!(true)), Some(json!(true)));
    let program = e.create(json!({"Entrypoint": "echo", "Cmd": []}));
    t!(e, GET "/containers/{program}/json", 200, ".Config.Cmd" == [], ".Path" == "echo", ".Args" == []);
}

#[test]
fn port_bindings_as_typed() {
    let e = Engine::shared();
    for bindings in [
        json!({"80/tcp": null}),
        json!({"80/tcp": []}),
        json!({"80/tcp": [{"HostIp": "", "HostPort": ""}]}),
        json!({"80/tcp": [{"HostIp": "", "HostPort": "0"}]}),
        json!({"80/udp": [{"HostIp": "127.0.0.1", "HostPort": "7000-7010"}]}),
    ] {
        assert_eq!(shown(&host(e, "PortBindings", &bindings), "HostConfig", "PortBindings"), Some(bindings));
    }
    let c = e.run(json!({"Cmd": ["sleep", "1000"], "ExposedPorts": {"80/tcp": {}, "81/tcp": {}}, "HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "0"}], "81/tcp": null}}}));
    t!(e, GET "/containers/{c}/json", 200, ".NetworkSettings.Ports.80/tcp.0.HostPort" matches "^[1-9][0-9]+$");
}

#[test]
fn limits_as_typed() {
    let e = Engine::shared();
    for (given, kept) in [(json!(-1), Value::Null), (json!(0), Value::Null), (json!(7), json!(7))] {
        assert_eq!(shown(&host(e, "PidsLimit", &given), "HostConfig", "PidsLimit"), Some(kept), "{given}");
    }
    let devices = json!([{"PathOnHost": "/dev/null", "PathInContainer": "", "CgroupPermissions": ""}]);
    assert_eq!(shown(&host(e, "Devices", &json!([{"PathOnHost": "/dev/null"}])), "HostConfig", "Devices"), Some(devices));
}

#[test]
fn devices_by_driver_are_asked_for_at_the_start() {
    let e = Engine::shared();
    let request = json!([{"Driver": "x", "Count": -1, "DeviceIDs": [], "Capabilities": [["gpu"], ["a", "b"]], "Options": null}]);
    let c = host(e, "DeviceRequests", &request);
    assert_eq!(shown(&c, "HostConfig", "DeviceRequests"), Some(request));
    t!(e, POST "/containers/{c}/start", 500, ".message" == "could not select device driver \"x\" with capabilities: [[gpu] [a b]]");
}

#[test]
fn storage_options_need_a_quota() {
    let e = Engine::shared();
    let refused = |options: Value| {
        let body = json!({"Image": droste_test_support::image::BASE, "Cmd": ["true"], "HostConfig": {"StorageOpt": options}});
        e.request("POST", "/containers/create").json(&body).send()
    };
    expect!(refused(json!({"size": "1G"})), 500, ".message" == "--storage-opt is supported only for overlay over xfs with 'pquota' mount option");
    expect!(refused(json!({"nope": "1G"})), 500, ".message" == "Unknown option nope");
}

#[test]
fn security_labels_and_profiles() {
    let e = Engine::shared();
    for (key, value) in [("Privileged", json!(true)), ("PidMode", json!("host")), ("IpcMode", json!("host"))] {
        assert_eq!(shown(&host(e, key, &value), "HostConfig", "SecurityOpt"), Some(json!(["label=disable"])), "{key}");
    }
    let labelled = e.create(json!({"Cmd": ["true"], "HostConfig": {"Privileged": true, "SecurityOpt": ["label=user:u"]}}));
    t!(e, GET "/containers/{labelled}/json", 200, ".HostConfig.SecurityOpt" == ["label=user:u"], ".ProcessLabel" == "", ".MountLabel" == "");
    for (word, profile) in [("apparmor=unconfined", "unconfined"), ("apparmor=docker-default", "docker-default"), ("apparmor:mine", "mine")] {
        let c = host(e, "SecurityOpt", &json!([word]));
        t!(e, GET "/containers/{c}/json", 200, ".AppArmorProfile" == profile, ".HostConfig.SecurityOpt" == [word]);
    }
    for word in ["label=disable", "label:user:u", "label=type:svirt_t", "label=bad", "disable", "writable-cgroups", "writable-cgroups=false"] {
        let c = host(e, "SecurityOpt", &json!([word]));
        t!(e, POST "/containers/{c}/start", 204);
    }
}

#[test]
fn an_apparmor_profile_needs_a_kernel_that_has_it() {
    let e = Engine::shared();
    if std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|on| on.starts_with(b"Y")) {
        let c = host(e, "SecurityOpt", &json!(["apparmor=no-such-profile"]));
        t!(e, POST "/containers/{c}/start", 500, ".message" has "no-such-profile");
    } else {
        let c = host(e, "SecurityOpt", &json!(["apparmor=no-such-profile"]));
        t!(e, POST "/containers/{c}/start", 204);
    }
}

#[test]
fn others_whose_namespaces_are_asked_for() {
    let e = Engine::shared();
    let refused = |key: &str| {
        let body = json!({"Image": droste_test_support::image::BASE, "Cmd": ["true"], "HostConfig": {key: "container:nope"}});
        e.request("POST", "/containers/create").json(&body).send()
    };
    expect!(refused("IpcMode"), 400, ".message" == "No such container: nope");
    expect!(refused("PidMode"), 400, ".message" == "No such container: nope");
    let c = host(e, "NetworkMode", &json!("container:nope"));
    t!(e, POST "/containers/{c}/start", 404 | 500, ".message" has "No such container: nope");
}

#[test]
fn tmpfs_is_no_mount() {
    let e = Engine::shared();
    let c = e.create(json!({"Cmd": ["true"], "HostConfig": {"Tmpfs": {"/t": "size=1m"}, "Mounts": [{"Type": "tmpfs", "Target": "/u"}]}}));
    t!(e, GET "/containers/{c}/json", 200, ".Mounts.0.Destination" == "/u", ".Mounts.1" is absent, ".HostConfig.Tmpfs" == {"/t": "size=1m"});
}
