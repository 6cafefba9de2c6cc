//! Power: a host that stops is a machine switched off; one that is removed takes all with it.

use droste_test_support::container::sh_with;
use droste_test_support::{Container, Engine, Value, json, t};

use crate::{has_processes, host, host_body, kill_init, names, sleeper, until};

/// A container that nobody but its host's end removes.
fn leave(c: Container) -> String {
    let id = c.id.clone();
    std::mem::forget(c);
    id
}

/// Switches a host off and on again.
fn off_and_on(e: &Engine, c: &Container) -> Engine {
    c.post("/stop?t=20", 204);
    until(|| !has_processes(e, &c.id));
    c.start();
    let h = e.host_of(c);
    until(|| h.socket().exists());
    h
}

/// Control groups that belong to a container or to what is nested in it.
fn groups(e: &Engine, id: &str) -> Vec<String> {
    fn walk(dir: &std::path::Path, id: &str, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.path().display().to_string().contains(id) {
                    found.push(entry.path().display().to_string());
                }
                walk(&entry.path(), id, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(&e.root_path("/sys/fs/cgroup"), id, &mut found);
    found
}

#[test]
fn a_host_may_end_at_once() {
    let e = Engine::shared();
    for code in 0..12 {
        let mut body = host_body(json!({}));
        body["Cmd"] = json!(["sh", "-c", format!("exit {code}")]);
        assert_eq!(e.outcome(body).code, code);
    }
}

#[test]
fn kill_minus_nine_leaves_nothing() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    leave(h.run(sleeper(json!({}))));
    let below = h.run(host_body(json!({})));
    let deeper = h.host_of(&below);
    leave(deeper.run(sleeper(json!({}))));
    leave(below);
    assert!(has_processes(e, &c.id));
    kill_init(e, &c);
    assert_eq!(c.wait(), 137);
    until(|| !has_processes(e, &c.id));
    until(|| groups(e, &c.id).is_empty());
    assert!(!e.get("/containers/json").to_string().contains(&c.id), "nothing of it runs");
    let id = c.id.clone();
    drop(c);
    t!(e, GET "/containers/{id}/json", 404);
}

#[test]
fn nested_processes_are_in_its_control_group() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    let nested = h.run(sleeper(json!({})));
    let within = groups(e, &c.id).iter().any(|group| group.contains(&nested.id));
    assert!(within, "{:?}", groups(e, &c.id));
    leave(nested);
}

#[test]
fn stop_is_power_off_and_start_brings_back_by_policy() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    let always = h.create_named("always", sleeper(json!({"RestartPolicy": {"Name": "always"}})));
    always.start();
    let never = h.create_named("never", sleeper(json!({})));
    never.start();
    let stopped = h.create_named("stopped", sleeper(json!({"RestartPolicy": {"Name": "unless-stopped"}})));
    stopped.start();
    stopped.post("/stop?t=0", 204);
    for gone in [always, never, stopped] {
        leave(gone);
    }
    drop(h);
    let h = off_and_on(e, &c);
    assert_eq!(names(&h), ["always", "never", "stopped"]);
    let state = |name: &str| h.get(&format!("/containers/{name}/json"))["State"]["Status"].clone();
    until(|| state("always") == "running");
    assert_eq!((state("never"), state("stopped")), (json!("exited"), json!("exited")));
}

/// Pairs of containers that start with their host, of which the one joins a namespace of the other.
fn pairs<'h>(h: &'h Engine) -> Vec<[Container<'h>; 2]> {
    let always = |mut host_config: Value| {
        host_config["RestartPolicy"] = json!({"Name": "always"});
        sleeper(host_config)
    };
    let pair = |number: usize| {
        let needed = format!("needed-{number}");
        let needs = match number % 3 {
            0 => json!({"NetworkMode": format!("container:{needed}")}),
            1 => json!({"PidMode": format!("container:{needed}")}),
            _ => json!({"IpcMode": format!("container:{needed}")}),
        };
        let first = h.create_named(&needed, always(json!({"IpcMode": "shareable"})));
        let second = h.create_named(&format!("needs-{number}"), always(needs));
        first.start();
        second.start();
        [first, second]
    };
    (0..9).map(pair).collect()
}

#[test]
fn what_is_joined_starts_first() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    for container in pairs(&h).into_iter().flatten() {
        leave(container);
    }
    drop(h);
    let h = off_and_on(e, &c);
    for number in 0..9 {
        for name in [format!("needed-{number}"), format!("needs-{number}")] {
            let state = || h.get(&format!("/containers/{name}/json"))["State"].clone();
            until(|| {
                assert_eq!(state()["Error"], "", "{name}");
                state()["Running"] == true
            });
        }
    }
}

#[test]
fn removal_takes_all_with_it() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    let ids = [leave(h.create(sleeper(json!({})))), leave(h.run(sleeper(json!({}))))];
    let folders = e.dir().join("data/containers");
    let there = |id: &String| folders.join(id).exists();
    assert!(ids.iter().all(there), "containers are kept in data/containers");
    let id = c.id.clone();
    t!(e, DELETE "/containers/{id}?force=1", 204);
    until(|| !ids.iter().any(there));
    assert!(!there(&id));
    until(|| groups(e, &id).is_empty());
}

#[test]
fn auto_remove_of_a_host_too() {
    let e = Engine::shared();
    let mut body = host_body(json!({"AutoRemove": true}));
    body["Cmd"] = json!(["sh", "-c", "exec sleep 100000"]);
    let c = e.run(body);
    let h = e.host_of(&c);
    let nested = leave(h.run(sleeper(json!({}))));
    let wait = e.request("POST", &format!("/containers/{c}/wait?condition=removed")).open();
    kill_init(e, &c);
    assert_eq!(wait.finish().json(), json!({"StatusCode": 137}));
    until(|| !has_processes(e, &nested));
}

#[test]
fn pause_and_kill_reach_below() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    let nested = h.run(sh_with("i=0; while :; do i=$((i+1)); echo $i > /tmp/n; done", json!({})));
    until(|| nested.exec(&["test", "-s", "/tmp/n"]).code == 0);
    c.post("/pause", 204);
    t!(h, GET "/info", 200);
    c.post("/unpause", 204);
    c.post("/kill", 204);
    c.wait();
    until(|| !has_processes(e, &nested.id));
    leave(nested);
}

#[test]
fn killed_in_the_middle_of_much() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                // Each stops at the first answer that says that the host is gone, in whatever words.
                loop {
                    let create = std::panic::catch_unwind(|| {
                        let reply = h.request("POST", "/containers/create").json(&{
                            let mut body = sleeper(json!({}));
                            body["Image"] = json!(droste_test_support::image::BASE);
                            body
                        });
                        let reply = reply.send();
                        let id = reply.json()["Id"].as_str().map(str::to_owned);
                        id.map(|id| h.request("POST", &format!("/containers/{id}/start")).send().status)
                    });
                    if !matches!(create, Ok(Some(204))) {
                        return;
                    }
                }
            });
        }
        std::thread::sleep(std::time::Duration::from_millis(300));
        kill_init(e, &c);
    });
    c.wait();
    until(|| !has_processes(e, &c.id));
    until(|| groups(e, &c.id).is_empty());
}

#[test]
fn fifty_at_once_on_each_of_two_hosts_leave_nothing() {
    let parent = format!("droste-fifty-{}", std::process::id());
    let e = Engine::start_droste(&["--cgroup-parent", &parent]);
    droste_test_support::image::load_base(&e);
    let hosts = [host(&e, json!({})), host(&e, json!({}))];
    let one = |h: &Engine, number: usize| {
        let c = h.run(sh_with(&format!("exit {number}"), json!({})));
        assert_eq!(c.wait(), i64::try_from(number).unwrap());
    };
    // The first on a host leaves its default bridge for all later ones.
    hosts.iter().for_each(|(_, h)| one(h, 0));
    let before = e.at_rest().with_open_files(16);
    std::thread::scope(|scope| {
        for (_, h) in &hosts {
            for number in 0..50 {
                scope.spawn(move || one(h, number));
            }
        }
    });
    e.settles(&before);
    assert!(hosts.iter().all(|(_, h)| names(h).is_empty()), "each container is gone from its host's list");
}

#[test]
fn what_is_removed_meanwhile_stays_removed() {
    let e = Engine::shared();
    for turn in 0..12 {
        let c = std::mem::ManuallyDrop::new(e.run(sh_with("trap : TERM; while :; do sleep 1000 & wait; done", json!({}))));
        // What a look into it says depends on how far it came.
        let (method, call, after): (_, _, &[u16]) = if turn % 2 == 0 { ("POST", "restart?t=5", &[204, 404, 409]) } else { ("GET", "export", &[200, 404, 500]) };
        std::thread::scope(|scope| {
            let other = scope.spawn(|| e.request(method, &format!("/containers/{}/{call}", c.id)).send().status);
            std::thread::sleep(std::time::Duration::from_millis(turn * 3));
            e.request("DELETE", &format!("/containers/{}?force=1", c.id)).send().expect_status(204);
            let status = other.join().unwrap();
            assert!(after.contains(&status), "{call}: {status}");
        });
        e.request("GET", &format!("/containers/{}/json", c.id)).send().expect_status(404);
        assert!(!has_processes(e, &c.id), "nothing runs in it");
        assert!(!e.dir().join("data/containers").join(&c.id).exists(), "nothing of it is left");
    }
}
