//! What must not be possible: nothing on a host exceeds the container that the host is.

use droste_test_support::container::sh_with;
use droste_test_support::image::BASE;
use droste_test_support::{Container, Engine, Value, json, t};

use crate::{host, sleeper};

/// A line of `/proc/self/status` in a container with that `HostConfig`.
fn status(h: &Engine, field: &str, host_config: Value) -> String {
    let out = h.output(&format!("grep ^{field}: /proc/self/status"), host_config);
    out.split_whitespace().nth(1).unwrap().to_owned()
}

#[test]
fn capabilities() {
    let e = Engine::shared();
    let (_c, h) = host(e, json!({}));
    assert_eq!(status(&h, "CapEff", json!({})), "00000000a80425fb");
    for wanted in [json!({"Privileged": true}), json!({"CapAdd": ["ALL"]}), json!({"CapAdd": ["SYS_ADMIN", "SYS_PTRACE"]})] {
        for field in ["CapEff", "CapBnd", "CapPrm"] {
            assert_eq!(status(&h, field, wanted.clone()), "00000000a80425fb", "{field} with {wanted}");
        }
        let reply = t!(h, POST "/containers/create" {"Image": BASE, "Cmd": ["true"], "HostConfig": wanted}, 201);
        let warnings = reply.json()["Warnings"].clone();
        assert!(warnings.as_array().is_some_and(|list| !list.is_empty()), "the reply says what was left out: {warnings}");
        drop(Container::adopt(&h, reply.json()["Id"].as_str().unwrap()));
    }
    let (_c, bare) = host(e, json!({"CapDrop": ["ALL"]}));
    assert_eq!(status(&bare, "CapEff", json!({})), "0000000000000000");
    assert_eq!(status(&bare, "CapBnd", json!({"Privileged": true})), "0000000000000000");
    let (_c, rich) = host(e, json!({"CapAdd": ["SYS_ADMIN"]}));
    assert_eq!(status(&rich, "CapEff", json!({})), "00000000a80425fb", "the default stays the default");
    assert_eq!(status(&rich, "CapEff", json!({"CapAdd": ["SYS_ADMIN"]})), "00000000a82425fb", "what the host has can be had");
}

#[test]
fn exec_has_the_same_bound() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    let nested = h.run(sleeper(json!({})));
    let caps = nested.exec_with(json!({"Cmd": ["grep", "CapEff", "/proc/self/status"], "Privileged": true}));
    assert_eq!(caps.out, "CapEff:\t00000000a80425fb\n");
    let id = c.id.clone();
    let reply =
        h.request("POST", &format!("/containers/{id}/exec")).json(&json!({"Cmd": ["grep", "CapEff", "/proc/self/status"], "Privileged": true, "AttachStdout": true})).send();
    if reply.status == 201 {
        let me = Container::adopt(&h, &id);
        let out = droste_test_support::container::exec_start(&h, reply.json()["Id"].as_str().unwrap(), false).rest();
        assert!(String::from_utf8_lossy(&out).contains("00000000a80425fb"), "{out:?}");
        std::mem::forget(me);
    } else {
        reply.expect_one_of(&[400, 403, 409]);
    }
}

#[test]
fn seccomp_and_new_privileges() {
    let e = Engine::shared();
    let (_c, h) = host(e, json!({}));
    for wanted in [json!({"SecurityOpt": ["seccomp=unconfined"]}), json!({"Privileged": true})] {
        assert_eq!(status(&h, "Seccomp", wanted.clone()), "2", "{wanted}");
        assert_ne!(h.outcome(sh_with("unshare -U true", wanted)).code, 0);
    }
    let (_c, locked) = host(e, json!({"SecurityOpt": ["no-new-privileges"]}));
    assert_eq!(status(&locked, "NoNewPrivs", json!({})), "1");
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}).to_string();
    let (_c, own) = host(e, json!({"SecurityOpt": [format!("seccomp={profile}")]}));
    assert_ne!(own.outcome(sh_with("mkdir /tmp/x", json!({}))).code, 0, "the host's own filter stays on top");
    assert_ne!(own.outcome(sh_with("mkdir /tmp/x", json!({"SecurityOpt": ["seccomp=unconfined"]}))).code, 0);
}

#[test]
fn devices() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    let ask = |path: &str| json!({"Devices": [{"PathOnHost": path, "PathInContainer": "/dev/asked", "CgroupPermissions": "rwm"}]});
    assert_eq!(h.output("echo x > /dev/asked && echo ok", ask("/dev/null")), "ok\n", "what the host has can be had");
    assert_ne!(c.exec(&["test", "-e", "/dev/kmsg"]).code, 0);
    h.refuses(sleeper(ask("/dev/kmsg")), "/dev/kmsg");
    // A node that the host makes itself is no more usable below than in the host.
    c.exec(&["mknod", "/tmp/kmsg", "c", "1", "11"]);
    assert_ne!(c.exec(&["head", "-c", "1", "/tmp/kmsg"]).code, 0);
    let mut body = sh_with("head -c 1 /dev/asked", ask("/tmp/kmsg"));
    body["Image"] = json!(BASE);
    let created = h.request("POST", "/containers/create").json(&body).send();
    if created.status == 201 {
        let below = Container::adopt(&h, created.json()["Id"].as_str().unwrap());
        let started = h.request("POST", &format!("/containers/{below}/start")).send();
        assert!(started.status >= 400 || below.wait() != 0, "the device is usable below");
    }
    let privileged = h.outcome(sh_with("mknod /tmp/k c 1 11 && head -c 1 /tmp/k", json!({"Privileged": true})));
    assert_ne!(privileged.code, 0);
}

#[test]
fn read_only_stays_read_only() {
    let e = Engine::shared();
    let dir = e.scratch();
    let (_c, h) = host(e, json!({"Binds": [format!("{}:/ro:ro", dir.path().display())]}));
    let outcome = h.outcome(sh_with("touch /m/x", json!({"Binds": ["/ro:/m"]})));
    assert_eq!((outcome.code, outcome.err.as_str()), (1, "touch: /m/x: Read-only file system\n"));
    assert_ne!(h.outcome(sh_with("touch /m/ro/x", json!({"Binds": ["/:/m"]}))).code, 0, "through a parent folder too");
    assert_ne!(h.outcome(sh_with("mount -o remount,rw /m; touch /m/x", json!({"Binds": ["/ro:/m"], "Privileged": true}))).code, 0);
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
}

#[test]
fn kernel_files_are_the_hosts() {
    let e = Engine::shared();
    let (_c, h) = host(e, json!({}));
    let seen = h.outcome(sh_with("ls /p | grep -c '^[0-9]'", json!({"Binds": ["/proc:/p:ro"]})));
    let count: u32 = seen.out.trim().parse().unwrap_or(0);
    assert!(count < 12, "the host's own processes at most: {seen:?}");
    for path in ["/proc/1/root", "/proc/self/root", "/proc/1/cwd", "/proc/self/fd/0"] {
        let reply = h.request("POST", "/containers/create").json(&json!({"Image": BASE, "Cmd": ["ls", "/m"], "HostConfig": {"Binds": [format!("{path}:/m")]}})).send();
        if reply.status == 201 {
            let c = Container::adopt(&h, reply.json()["Id"].as_str().unwrap());
            let started = h.request("POST", &format!("/containers/{c}/start")).send();
            assert!(started.status >= 400, "{path} is a way out");
        }
    }
    assert_ne!(h.outcome(sh_with("echo 1 > /s/kernel/hostname", json!({"Binds": ["/proc/sys:/s"]}))).code, 0);
}

#[test]
fn limits_hold_for_the_sum() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({"Memory": 67_108_864, "MemorySwap": 67_108_864, "PidsLimit": 40}));
    let eater = h.run(sh_with("head -c 200000000 /dev/zero | tail", json!({})));
    assert_eq!(eater.wait(), 137, "nested without a limit ends at the host's");
    t!(e, GET "/containers/{c}/json", 200, ".State.Running" == true);
    let asked = h.create(sleeper(json!({"Memory": 1_073_741_824})));
    asked.start();
    let forks = h.outcome(sh_with("i=0; while [ $i -lt 100 ]; do sleep 3 & i=$((i+1)); done; wait", json!({"PidsLimit": 1000})));
    assert!(forks.err.contains("can't fork"), "{forks:?}");
}

#[test]
fn cgroup_parent_stays_below() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    for parent in ["/", "/../..", "../../..", "/droste", "system.slice"] {
        let reply = h.request("POST", "/containers/create").json(&json!({"Image": BASE, "Cmd": ["sleep", "1000"], "HostConfig": {"CgroupParent": parent}})).send();
        if reply.status != 201 {
            continue;
        }
        let nested = Container::adopt(&h, reply.json()["Id"].as_str().unwrap());
        if h.request("POST", &format!("/containers/{nested}/start")).send().status == 204 {
            let pid = nested.inspect()["State"]["Pid"].clone();
            // Read with the machine's eyes: from the process's own entry in the host's /proc.
            let groups = std::fs::read_to_string(h.root_path(&format!("/proc/{pid}/cgroup"))).unwrap();
            let outside: Vec<_> = groups.lines().filter(|l| !l.ends_with(":/") && !l.contains(&c.id)).collect();
            assert!(outside.is_empty(), "{parent}: {outside:?}");
        }
    }
}

#[test]
fn other_containers_can_not_be_joined() {
    let e = Engine::shared();
    let beside = e.run(sleeper(json!({"IpcMode": "shareable", "Binds": ["/tmp:/t"]})));
    let (_c, h) = host(e, json!({}));
    let (id, name) = (beside.id.clone(), beside.name.clone());
    for other in [id.as_str(), &id[..12], name.as_str()] {
        for mode in [
            json!({"NetworkMode": format!("container:{other}")}),
            json!({"PidMode": format!("container:{other}")}),
            json!({"IpcMode": format!("container:{other}")}),
            json!({"VolumesFrom": [other]}),
            json!({"Links": [format!("{other}:x")]}),
        ] {
            let reply = h.request("POST", "/containers/create").json(&json!({"Image": BASE, "Cmd": ["true"], "HostConfig": mode})).send();
            let reply = if reply.status == 201 {
                let c = Container::adopt(&h, reply.json()["Id"].as_str().unwrap());
                h.request("POST", &format!("/containers/{c}/start")).send()
            } else {
                reply
            };
            assert!(reply.status >= 400, "{mode}: {reply:?}");
            reply.check(".message", "has", &json!(other));
        }
    }
    for mode in ["ns:/proc/1/ns/net", "/proc/1/ns/net"] {
        let reply = h.request("POST", "/containers/create").json(&json!({"Image": BASE, "Cmd": ["true"], "HostConfig": {"NetworkMode": mode}})).send();
        if reply.status == 201 {
            let c = Container::adopt(&h, reply.json()["Id"].as_str().unwrap());
            assert!(h.request("POST", &format!("/containers/{c}/start")).send().status >= 400, "{mode}");
        }
    }
}

#[test]
fn exec_ids_of_others_are_unknown() {
    let e = Engine::shared();
    let beside = e.run(sleeper(json!({})));
    let exec = beside.exec_create(&json!({"Cmd": ["true"]}));
    let (_c, h) = host(e, json!({}));
    t!(h, GET "/exec/{exec}/json", 404, ".message" == (format!("No such exec instance: {exec}")));
    t!(h, POST "/exec/{exec}/start" {"Detach": true}, 404);
    t!(h, POST "/exec/{exec}/resize?h=1&w=1", 404);
}

#[test]
fn update_keeps_the_bounds() {
    let e = Engine::shared();
    let (_c, h) = host(e, json!({"Memory": 67_108_864, "MemorySwap": 67_108_864}));
    let nested = h.run(sh_with("while [ ! -e /tmp/go ]; do sleep 0.05; done; head -c 200000000 /dev/zero | tail", json!({})));
    h.request("POST", &format!("/containers/{nested}/update")).json(&json!({"Memory": 1_073_741_824, "MemorySwap": -1})).send();
    assert_eq!(nested.exec(&["touch", "/tmp/go"]).code, 0);
    assert_eq!(nested.wait(), 137);
}

#[test]
fn files_of_the_machine_stay_out_of_archives() {
    let e = Engine::shared();
    let dir = e.scratch();
    std::fs::write(dir.path().join("secret"), "for nobody's eyes").unwrap();
    let (_c, h) = host(e, json!({}));
    let nested = h.run(sleeper(json!({})));
    let path = dir.path().join("secret").display().to_string();
    assert_eq!(nested.exec(&["sh", "-c", &format!("mkdir -p /l; ln -s ../../../../../..{path} /l/up; ln -s {path} /l/abs; ln -s /proc/1/root{path} /l/magic")]).code, 0);
    for link in ["/l/up", "/l/abs", "/l/magic", &path, "/l/up/.", "/l/magic/."] {
        let reply = h.request("GET", &format!("/containers/{nested}/archive?path={link}")).send();
        assert!(!reply.text().contains("for nobody's eyes"), "{link}: {}", reply.status);
    }
}

#[test]
fn what_containers_do_not_say_the_daemon_says() {
    let scratch = tempfile::Builder::new().prefix("droste-scratch-").tempdir_in("/tmp").unwrap();
    let profile = scratch.path().join("profile.json");
    std::fs::write(&profile, r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#).unwrap();
    let profile = profile.display().to_string();
    let e = Engine::start_droste(&["--no-new-privileges", "--seccomp-profile", &profile]);
    droste_test_support::image::load_base(&e);
    let tries = |more: Value| e.outcome(sh_with("mkdir /x 2>/dev/null; echo $?; grep NoNewPrivs /proc/self/status", more)).out;
    assert_eq!(tries(json!({})), "1\nNoNewPrivs:\t1\n");
    assert_eq!(tries(json!({"SecurityOpt": ["seccomp=unconfined", "no-new-privileges=false"]})), "0\nNoNewPrivs:\t0\n");
    let options = e.get("/info")["SecurityOptions"].to_string();
    assert!(options.contains(&format!("name=seccomp,profile={profile}")) && options.contains("name=no-new-privileges"), "{options}");
}
