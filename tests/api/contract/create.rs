//! Creating containers: what is refused and in which words, names, look-up by id and prefix.

use droste_test_support::container::{idle, sh};
use droste_test_support::image::{BASE, encode};
use droste_test_support::{Container, Engine, expect, json, t};

use crate::typed;

#[test]
fn create_gives_id_and_warnings() {
    let e = Engine::shared();
    let name = e.name("c");
    let reply = t!(e, POST "/containers/create?name={name}" {"Image": BASE, "Cmd": ["true"]}, 201, ".Id" is id, ".Warnings" == []);
    let c = Container::adopt(e, reply.json()["Id"].as_str().unwrap());
    t!(e, GET "/containers/{c}/json", 200, ".Name" == (format!("/{name}")), ".State.Status" == "created", ".Id" == (c.id));
    typed::<bollard_stubs::models::ContainerCreateResponse>(&reply);
}

#[test]
fn create_without_an_image() {
    let e = Engine::shared();
    t!(e, POST "/containers/create" {"Image": "no-such-image"}, 404, ".message" == "No such image: no-such-image:latest");
    t!(e, POST "/containers/create" {"Image": "no-such-image:7"}, 404, ".message" == "No such image: no-such-image:7");
    t!(e, POST "/containers/create" {"Image": "no.such/image"}, 404, ".message" == "No such image: no.such/image:latest");
    t!(e, POST "/containers/create" {"Image": "UPPER"}, 400, ".message" == "invalid reference format: repository name (library/UPPER) must be lowercase");
    t!(e, POST "/containers/create" {"Image": "a:b:c"}, 400, ".message" == "invalid reference format");
    t!(e, POST "/containers/create" {}, 400, ".message" == "config cannot be empty in order to create a container");
    t!(e, POST "/containers/create" {"Image": ""}, 400, ".message" == "no command specified");
}

#[test]
fn create_without_a_command() {
    let e = Engine::shared();
    let image = droste_test_support::image::Image::new(e, &[]);
    t!(e, POST "/containers/create" {"Image": (image.name)}, 400, ".message" == "no command specified");
}

#[test]
fn names_are_checked() {
    let e = Engine::shared();
    for bad in ["w", "-x", ".x", "_x", "a b", "a/b", "/w", "ä1", "a:b"] {
        let reply = e.request("POST", &format!("/containers/create?name={}", encode(bad))).json(&json!({"Image": BASE, "Cmd": ["true"]})).send();
        expect!(reply, 400, ".message" == (format!("Invalid container name ({bad}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")));
    }
    for good in ["a1", "A_.-z"] {
        let name = format!("{}{good}", e.name("n"));
        let c = e.create_named(&name, sh("true"));
        t!(e, GET "/containers/{c}/json", 200, ".Name" == (format!("/{name}")));
    }
    let slashed = e.name("slash");
    let c = e.create_named(&format!("/{slashed}"), sh("true"));
    t!(e, GET "/containers/{c}/json", 200, ".Name" == (format!("/{slashed}")));
}

#[test]
fn a_name_is_taken_once() {
    let e = Engine::shared();
    let c = e.create(sh("true"));
    let (name, id) = (c.name.clone(), c.id.clone());
    t!(e, POST "/containers/create?name={name}" {"Image": BASE, "Cmd": ["true"]}, 409, ".message" == (format!(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or rename) \
         that container to be able to reuse that name.")));
    drop(c);
    drop(e.create_named(&name, sh("true")));
}

#[test]
fn names_are_generated() {
    let e = Engine::shared();
    let reply = t!(e, POST "/containers/create" {"Image": BASE, "Cmd": ["true"]}, 201);
    let c = Container::adopt(e, reply.json()["Id"].as_str().unwrap());
    t!(e, GET "/containers/{c}/json", 200, ".Name" matches "^/[a-z]+_[a-z]+[0-9]*$");
}

#[test]
fn look_up_by_id_name_and_prefix() {
    let e = Engine::shared();
    let c = e.create(sh("true"));
    let (id, name) = (c.id.clone(), c.name.clone());
    let short = &id[..12];
    t!(e, GET "/containers/{id}/json", 200, ".Id" == id);
    t!(e, GET "/containers/{name}/json", 200, ".Id" == id);
    t!(e, GET "/containers/{short}/json", 200, ".Id" == id);
    // An exact name goes before a prefix of an id.
    let other = e.create_named(short, sh("true"));
    t!(e, GET "/containers/{short}/json", 200, ".Id" == (other.id));
    t!(e, GET "/containers/{id}/json", 200, ".Id" == id);
    let part = &name[..name.len() - 1];
    t!(e, GET "/containers/{part}/json", 404, ".message" == (format!("No such container: {part}")));
}

#[test]
fn an_ambiguous_prefix() {
    let e = Engine::shared();
    let mut containers: Vec<Container> = Vec::new();
    loop {
        let c = e.create(sh("true"));
        let first = &c.id[..1];
        if containers.iter().any(|other| other.id.starts_with(first)) {
            t!(e, GET "/containers/{first}/json", 400, ".message" == (format!("multiple IDs found with provided prefix: {first}")));
            break;
        }
        containers.push(c);
    }
}

#[test]
fn every_route_names_the_missing_container() {
    let e = Engine::shared();
    let m = "No such container: nope";
    for target in ["json", "top", "logs?stdout=1", "changes", "export", "stats?stream=0", "archive?path=/"] {
        expect!(e.request("GET", &format!("/containers/nope/{target}")).send(), 404, ".message" == m);
    }
    t!(e, POST "/containers/nope/kill", 404, ".message" has m);
    t!(e, POST "/containers/nope/attach?stream=1&stdout=1", 404, "text" has m);
    for target in ["start", "stop", "restart", "pause", "unpause", "wait", "rename?name=other-name", "resize?h=1&w=1"] {
        expect!(e.request("POST", &format!("/containers/nope/{target}")).send(), 404, ".message" == m);
    }
    t!(e, POST "/containers/nope/exec" {"Cmd": ["true"]}, 404, ".message" == m);
    t!(e, POST "/containers/nope/update" {"Memory": 0}, 404, ".message" == m);
    t!(e, DELETE "/containers/nope", 404, ".message" == m);
    expect!(e.request("PUT", "/containers/nope/archive?path=/").bytes("application/x-tar", vec![0; 1024]).send(), 404, ".message" == m);
    expect!(e.request("HEAD", "/containers/nope/archive?path=/").send(), 404);
    t!(e, POST "/commit?container=nope" {}, 404, ".message" == m);
}

#[test]
fn host_config_is_checked() {
    let e = Engine::shared();
    let refused = |host: droste_test_support::Value| e.request("POST", "/containers/create").json(&json!({"Image": BASE, "Cmd": ["true"], "HostConfig": host})).send();
    expect!(refused(json!({"AutoRemove": true, "RestartPolicy": {"Name": "always"}})), 400, ".message" == "can't create 'AutoRemove' container with restart policy");
    expect!(refused(json!({"RestartPolicy": {"Name": "weird"}})), 400, ".message" has "invalid restart policy: unknown policy 'weird'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'");
    expect!(
        refused(json!({"RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}})),
        400,
        ".message" == "invalid restart policy: maximum retry count can only be used with 'on-failure'"
    );
    expect!(
        refused(json!({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -1}})),
        400,
        ".message" == "invalid restart policy: maximum retry count cannot be negative"
    );
    expect!(refused(json!({"Binds": ["/a:b"]})), 400 | 500, ".message" has "invalid mount path: 'b' mount path must be absolute");
    expect!(refused(json!({"Binds": ["/a:/b:nope"]})), 400 | 500, ".message" == "invalid mode: nope");
    expect!(refused(json!({"Binds": ["/a:/"]})), 400 | 500, ".message" has "destination can't be '/'");
    expect!(refused(json!({"Binds": ["/tmp:/b", "/var:/b"]})), 400, ".message" == "Duplicate mount point: /b");
    expect!(refused(json!({"Mounts": [{"Type": "nope", "Target": "/b"}]})), 400, ".message" == "invalid mount config for type \"nope\": mount type unknown");
    expect!(
        refused(json!({"Mounts": [{"Type": "bind", "Source": "/no/such/path", "Target": "/b"}]})),
        400,
        ".message" == "invalid mount config for type \"bind\": bind source path does not exist: /no/such/path"
    );
    expect!(refused(json!({"Mounts": [{"Type": "bind", "Source": "", "Target": "/b"}]})), 400, ".message" has "field Source must not be empty");
    expect!(refused(json!({"Mounts": [{"Type": "bind", "Source": "/tmp", "Target": ""}]})), 400, ".message" has "field Target must not be empty");
    expect!(refused(json!({"Memory": 1})), 400, ".message" == "Minimum memory limit allowed is 6MB");
    expect!(refused(json!({"Memory": 10_000_000, "MemorySwap": 9_000_000})), 400, ".message" == "Minimum memoryswap limit should be larger than memory limit, see usage");
    expect!(refused(json!({"MemorySwap": 10_000_000})), 400, ".message" == "You should always set the Memory limit when using Memoryswap limit, see usage");
    expect!(
        refused(json!({"Memory": 10_000_000, "MemoryReservation": 20_000_000})),
        400,
        ".message" == "Minimum memory limit can not be less than memory reservation limit, see usage"
    );
    expect!(refused(json!({"NanoCpus": 999_000_000_000_i64})), 400, ".message" has "range of CPUs is from 0.01 to");
    expect!(refused(json!({"NanoCpus": 1_000_000_000, "CpuQuota": 1000})), 400, ".message" == "Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    expect!(refused(json!({"CpusetCpus": "999"})), 400, ".message" has "Requested CPUs are not available - requested 999, available: ");
    expect!(refused(json!({"CpusetCpus": "x"})), 400, ".message" == "Invalid value x for cpuset cpus: invalid format: x");
    expect!(refused(json!({"CapAdd": ["NOPE"]})), 400, ".message" == "invalid CapAdd: unknown capability: \"CAP_NOPE\"");
    expect!(refused(json!({"CapDrop": ["NOPE"]})), 400, ".message" == "invalid CapDrop: unknown capability: \"CAP_NOPE\"");
    expect!(refused(json!({"SecurityOpt": ["nope=1"]})), 400 | 500, ".message" has "invalid --security-opt");
    expect!(refused(json!({"IpcMode": "nope"})), 400, ".message" has "invalid IPC mode: nope");
    expect!(refused(json!({"PidMode": "nope"})), 400, ".message" has "invalid PID mode: nope");
    expect!(refused(json!({"UTSMode": "nope"})), 400, ".message" has "invalid UTS mode: nope");
    expect!(refused(json!({"CgroupnsMode": "nope"})), 400, ".message" has "invalid cgroup namespace mode: nope");
    expect!(refused(json!({"OomScoreAdj": 5000})), 400, ".message" == "Invalid value 5000, range for oom score adj is [-1000, 1000]");
    expect!(refused(json!({"ShmSize": -1})), 400, ".message" == "SHM size can not be less than 0");
    expect!(refused(json!({"LogConfig": {"Type": "nope"}})), 400, ".message" == "error looking up logging plugin nope: plugin \"nope\" not found");
    expect!(refused(json!({"LogConfig": {"Type": "json-file", "Config": {"nope": "1"}}})), 400, ".message" == "unknown log opt 'nope' for json-file log driver");
    expect!(refused(json!({"LogConfig": {"Type": "json-file", "Config": {"mode": "x"}}})), 400, ".message" == "logger: logging mode not supported: x");
    expect!(
        refused(json!({"LogConfig": {"Type": "json-file", "Config": {"max-buffer-size": "1m"}}})),
        400,
        ".message" == "logger: max-buffer-size option is only supported with 'mode=non-blocking'"
    );
    expect!(
        refused(json!({"LogConfig": {"Type": "local", "Config": {"mode": "non-blocking", "max-buffer-size": "x"}}})),
        400,
        ".message" == "error parsing option max-buffer-size: invalid size: 'x'"
    );
    expect!(
        refused(json!({"Mounts": [{"Type": "volume", "Target": "/b", "ReadOnly": true}]})),
        400,
        ".message" == "invalid mount config for type \"volume\": must not set ReadOnly mode when using anonymous volumes"
    );
    expect!(refused(json!({"Memory": 1.5})), 400, ".message" has "cannot unmarshal number 1.5 into Go struct field .HostConfig.Memory of type int64");
    expect!(refused(json!({"Runtime": "nope"})), 400, ".message" == "unknown or invalid runtime name: nope");
    expect!(refused(json!({"VolumesFrom": ["nope"]})), 400 | 404, ".message" has "No such container: nope");
    expect!(refused(json!({"PortBindings": {"80/tcp": [{"HostPort": "x"}]}})), 400, ".message" == "invalid port specification: \"x\"");
    expect!(refused(json!({"PortBindings": {"x": [{"HostPort": "80"}]}})), 400, ".message" has "invalid port specification: \"x\"");
    expect!(refused(json!({"ExtraHosts": ["nope"]})), 400, ".message" == "bad format for add-host: \"nope\"");
    expect!(refused(json!({"ExtraHosts": ["a:nope"]})), 400, ".message" == "invalid IP address in add-host: \"nope\"");
    expect!(refused(json!({"NetworkMode": "host", "Links": ["x:y"]})), 400, ".message" has "conflicting options: host type networking can't be used with links");
}

#[test]
fn config_is_checked() {
    let e = Engine::shared();
    let refused = |mut body: droste_test_support::Value| {
        body["Image"] = json!(BASE);
        e.request("POST", "/containers/create").json(&body).send()
    };
    expect!(refused(json!({"Cmd": ["true"], "WorkingDir": "rel"})), 400, ".message" == "the working directory 'rel' is invalid, it needs to be an absolute path");
    expect!(refused(json!({"Cmd": ["true"], "Env": ["=x"]})), 400, ".message" == "invalid environment variable: =x");
    expect!(refused(json!({"Cmd": ["true"], "StopSignal": "NOPE"})), 400, ".message" == "invalid signal: NOPE");
    expect!(refused(json!({"Cmd": ["true"], "Healthcheck": {"Interval": 1}})), 400, ".message" == "Interval in Healthcheck cannot be less than 1ms");
    expect!(refused(json!({"Cmd": ["true"], "Healthcheck": {"Retries": -1}})), 400, ".message" == "Retries in Healthcheck cannot be negative");
    expect!(refused(json!({"Cmd": ["true"], "Hostname": "x", "HostConfig": {"UTSMode": "host"}})), 400, ".message" has "conflicting options: hostname and the UTS mode");
}

#[test]
fn what_is_left_out_is_told() {
    let e = Engine::shared();
    let body = json!({"Image": BASE, "Cmd": ["true"], "HostConfig": {"NetworkMode": "host", "PortBindings": {"80/tcp": [{"HostPort": "1"}]}}});
    let reply = e.request("POST", "/containers/create").json(&body).send();
    expect!(reply, 201, ".Warnings" == ["Published ports are discarded when using host network mode"]);
    drop(Container::adopt(e, reply.json()["Id"].as_str().unwrap()));
}

#[test]
fn dockers_own_runtime_is_known_by_its_name() {
    let e = Engine::shared();
    for name in ["runc", "io.containerd.runc.v2"] {
        let c = e.run(droste_test_support::container::sh_with("exit 3", json!({"Runtime": name})));
        assert_eq!(c.wait(), 3, "{name}");
    }
}

#[test]
fn cmd_may_be_a_string() {
    let e = Engine::shared();
    let c = e.create(json!({"Cmd": "true", "Entrypoint": "echo"}));
    t!(e, GET "/containers/{c}/json", 200, ".Config.Cmd" == ["true"], ".Config.Entrypoint" == ["echo"], ".Path" == "echo", ".Args" == ["true"]);
}

#[test]
fn defaults_of_a_container() {
    let e = Engine::shared();
    let c = e.create(sh("true"));
    let short = &c.id[..12];
    t!(e, GET "/containers/{c}/json", 200, ".Config.Hostname" == short, ".Config.Domainname" == "", ".Config.User" == "",
        ".Config.AttachStdin" == false, ".Config.Tty" == false, ".Config.OpenStdin" == false, ".Config.StdinOnce" == false,
        ".Config.Image" == BASE, ".Config.Volumes" == null, ".Config.WorkingDir" == "", ".Config.Entrypoint" == null,
        ".Config.OnBuild" == null, ".Config.Labels" == {}, ".Config.ExposedPorts" is absent, ".Config.Healthcheck" is absent,
        ".Config.StopSignal" is absent, ".Config.StopTimeout" is absent,
        ".Image" has "sha256:", ".Platform" == "linux", ".Driver" is string, ".RestartCount" == 0, ".ExecIDs" == null, ".MountLabel" == "",
        ".ProcessLabel" == "", ".Mounts" == [], ".Created" is time, ".State.StartedAt" == "0001-01-01T00:00:00Z",
        ".State.FinishedAt" == "0001-01-01T00:00:00Z", ".State.Pid" == 0, ".State.ExitCode" == 0, ".State.Error" == "", ".State.Health" is absent,
        ".HostConfig.NetworkMode" == "bridge", ".HostConfig.IpcMode" == "private", ".HostConfig.PidMode" == "", ".HostConfig.ShmSize" == 67108864,
        ".HostConfig.LogConfig.Type" == "json-file", ".HostConfig.LogConfig.Config" == {}, ".HostConfig.RestartPolicy.Name" == "no",
        ".HostConfig.RestartPolicy.MaximumRetryCount" == 0, ".HostConfig.Runtime" is string, ".HostConfig.Privileged" == false,
        ".HostConfig.Init" is absent, ".HostConfig.CapAdd" == null, ".HostConfig.Binds" == null, ".HostConfig.ContainerIDFile" == "",
        ".HostConfig.MaskedPaths" has "/proc/kcore", ".HostConfig.ReadonlyPaths" has "/proc/sys", ".HostConfig.ConsoleSize" == [0, 0],
        ".HostConfig.PidsLimit" == null, ".HostConfig.MemorySwap" == 0, ".HostConfig.PortBindings" == null, ".HostConfig.Isolation" == "");
}

#[test]
fn platform_that_is_not_this_one() {
    let e = Engine::shared();
    t!(e, POST "/containers/create?platform=linux/arm64" {"Image": BASE, "Cmd": ["true"]}, 404, ".message" has "does not match the specified platform");
    t!(e, POST "/containers/create?platform=nope/nope/nope/nope" {"Image": BASE, "Cmd": ["true"]}, 400);
}

#[test]
fn rename() {
    let e = Engine::shared();
    let c = e.run(idle());
    let other = e.create(sh("true"));
    let (new, taken, taken_id) = (e.name("new"), other.name.clone(), other.id.clone());
    t!(e, POST "/containers/{c}/rename?name={new}", 204, "text" == "");
    t!(e, GET "/containers/{new}/json", 200, ".Id" == (c.id), ".Name" == (format!("/{new}")));
    let old = c.name.clone();
    t!(e, GET "/containers/{old}/json", 404);
    t!(e, POST "/containers/{c}/rename?name={taken}", 409, ".message" == (format!(
        "Error when allocating new name: Conflict. The container name \"/{taken}\" is already in use by container \"{taken_id}\". You have to remove (or rename) \
         that container to be able to reuse that name.")));
    t!(e, POST "/containers/{c}/rename?name=w", 400, ".message" has "Error when allocating new name: Invalid container name (");
    t!(e, POST "/containers/{c}/rename?name={new}", 400, ".message" == "Renaming a container with the same name as its current name");
    t!(e, POST "/containers/{c}/rename", 400, ".message" == "Neither old nor new names may be empty");
    t!(e, POST "/containers/nope/rename?name=w", 404, ".message" == "No such container: nope");
    t!(e, POST "/containers/nope/rename", 400, ".message" == "Neither old nor new names may be empty");
}
