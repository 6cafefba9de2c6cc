//! While the daemon is away: containers run on, exit codes and logs are not lost, nested clients wait.

use droste_test_support::container::{idle, sh, sh_with};
use droste_test_support::{Container, Engine, image, json, t};

use crate::{has_processes, host, kill_init, names, sleeper, until};

/// An engine of the test's own, since it is killed.
fn own() -> Engine {
    let e = Engine::start_droste(&[]);
    image::load_base(&e);
    e
}

#[test]
fn containers_run_through_its_death() {
    let e = own();
    let c = e.run(sh_with("echo before; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo after; exit 7", json!({})));
    c.await_log("before");
    let before = c.inspect();
    e.kill_daemon();
    e.power_on();
    let after = c.inspect();
    for path in ["Pid", "StartedAt", "Status"] {
        assert_eq!(before["State"][path], after["State"][path], "{path}");
    }
    assert_eq!(before["NetworkSettings"], after["NetworkSettings"]);
    assert_eq!(c.exec(&["touch", "/tmp/go"]).code, 0);
    assert_eq!(c.wait(), 7);
    assert_eq!(c.logs().0, "before\nafter\n");
}

#[test]
fn what_ends_meanwhile_is_found_ended() {
    let e = own();
    let c = e.run(sh_with("echo up; while [ ! -e /go/now ]; do sleep 0.02; done; echo late; exit 9", json!({"Binds": [format!("{}:/go", e.dir().display())]})));
    c.await_log("up");
    let pid = c.inspect()["State"]["Pid"].clone();
    let process = e.root_path(&format!("/proc/{pid}"));
    e.kill_daemon();
    std::fs::write(e.dir().join("now"), "").unwrap();
    until(|| !process.exists());
    e.power_on();
    t!(e, GET "/containers/{c}/json", 200, ".State.Status" == "exited", ".State.ExitCode" == 9, ".State.FinishedAt" is time);
    assert_eq!(c.logs().0, "up\nlate\n");
    t!(e, POST "/containers/{c}/start", 204);
}

#[test]
fn everything_is_still_there() {
    let e = own();
    let made = image::Image::new(&e, &["CMD [\"true\"]"]);
    let created = e.create(sh("true"));
    let ended = e.run(sh("exit 3"));
    ended.wait();
    let running = e.run(idle());
    for clean in [false, true] {
        if clean {
            e.stop_daemon();
        } else {
            e.kill_daemon();
        }
        e.power_on();
        t!(e, GET "/containers/{created}/json", 200, ".State.Status" == "created");
        t!(e, GET "/containers/{ended}/json", 200, ".State.Status" == "exited", ".State.ExitCode" == 3);
        t!(e, GET "/containers/{running}/json", 200, ".State.Status" == "running");
        t!(e, GET "/images/{made}/json", 200, ".Id" == (made.id));
    }
    assert_eq!(running.exec(&["echo", "still"]).out, "still\n");
    let name = running.name.clone();
    t!(e, POST "/containers/create?name={name}" {"Image": (made.name)}, 409);
}

#[test]
fn a_host_on_a_network_of_its_own_finds_others_by_name() {
    let e = own();
    let (c, h) = host(&e, json!({}));
    let network = h.network(json!({}));
    t!(h, POST "/networks/{network}/connect" {"Container": (c.id)}, 200);
    let node = h.create_named("node", sleeper(json!({"NetworkMode": network.name})));
    node.start();
    let finds = || c.exec(&["ping", "-c", "1", "-W", "5", "node"]).code == 0;
    assert!(finds());
    e.kill_daemon();
    e.power_on();
    until(finds);
}

#[test]
fn a_nested_client_waits() {
    let e = own();
    let (_c, h) = host(&e, json!({}));
    let nested = h.create_named("inner", sleeper(json!({})));
    nested.start();
    e.kill_daemon();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| names(&h));
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(!waiting.is_finished(), "the connection waits in the backlog");
        e.power_on();
        assert_eq!(waiting.join().unwrap(), ["inner"]);
    });
    t!(h, GET "/containers/{nested}/json", 200, ".State.Running" == true);
    assert_eq!(nested.exec(&["echo", "still"]).out, "still\n");
    std::mem::forget(nested);
}

#[test]
fn a_host_that_dies_meanwhile_takes_all_with_it() {
    let e = own();
    let (c, h) = host(&e, json!({}));
    let nested = h.run(sleeper(json!({})));
    let process = h.root_path(&format!("/proc/{}", nested.inspect()["State"]["Pid"]));
    assert!(process.exists());
    kill_after_daemon(&e, &c);
    std::mem::forget(nested);
    until(|| !has_processes(&e, &c.id));
    t!(e, GET "/containers/{c}/json", 200, ".State.Status" == "exited", ".State.ExitCode" == 137);
}

/// Kills the daemon, then the container's first process, then starts the daemon.
fn kill_after_daemon(e: &Engine, c: &Container) {
    let process = crate::init_of(e, c);
    e.kill_daemon();
    crate::kill(process);
    e.power_on();
}

#[test]
fn restart_policies_hold() {
    let e = own();
    let always = e.run(sh_with("exec sleep 100000", json!({"RestartPolicy": {"Name": "always"}})));
    let first = always.inspect()["State"]["Pid"].clone();
    e.kill_daemon();
    e.power_on();
    assert_eq!(always.inspect()["State"]["Pid"], first, "it ran on, it was not restarted");
    kill_init(&e, &always);
    until(|| {
        let state = always.inspect()["State"].clone();
        state["Running"] == true && state["Pid"] != first
    });
}

/// Whether processes are left that watched containers.
fn shims_are_left(e: &Engine) -> bool {
    let table = std::fs::read_dir(e.root_path("/proc")).unwrap();
    let mut commands = table.filter_map(|process| std::fs::read(process.ok()?.path().join("cmdline")).ok());
    commands.any(|command| command.starts_with(b"droste-shim"))
}

/// Ends all that runs and forgets the run state, as a machine does that loses its power.
fn power_cut(e: &Engine, running: &[&Container<'_>]) {
    let processes: Vec<_> = running.iter().map(|c| crate::init_of(e, c)).collect();
    e.kill_daemon();
    processes.into_iter().for_each(crate::kill);
    // They write down what they saw before they end.
    until(|| !shims_are_left(e));
    std::fs::remove_dir_all(e.dir().join("run")).unwrap();
}

#[test]
fn after_a_power_cut_all_comes_back_in_order() {
    let e = own();
    let always = json!({"Name": "always"});
    let (c, h) = host(&e, json!({"RestartPolicy": always}));
    let joined = "container:needed";
    let bodies = [("never", json!({})), ("needed", json!({"RestartPolicy": always})), ("needs", json!({"RestartPolicy": always, "NetworkMode": joined}))];
    for (name, host_config) in bodies {
        // The host that is there to remove them in the end is one that was started anew.
        std::mem::ManuallyDrop::new(h.create_named(name, sleeper(host_config))).start();
    }
    power_cut(&e, &[&c]);
    e.power_on();
    until(|| c.inspect()["State"]["Running"] == true);
    let h = e.host_of(&c);
    until(|| h.socket().exists());
    let state = |name: &str| h.get(&format!("/containers/{name}/json"))["State"].clone();
    until(|| state("needs")["Running"] == true);
    let started = [c.inspect()["State"].clone(), state("needed"), state("needs")].map(|state| state["StartedAt"].as_str().unwrap().to_owned());
    assert!(started.is_sorted(), "{started:?}");
    t!(h, GET "/containers/never/json", 200, ".State.Status" == "exited", ".State.ExitCode" == 255);
}

#[test]
fn published_ports_hold() {
    let e = own();
    let mut body = sh_with("nc -ll -p 80 -e echo served & echo up; wait", json!({"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}}));
    body["ExposedPorts"] = json!({"80/tcp": {}});
    let c = e.run(body);
    c.await_log("up");
    let read = || e.read_port("127.0.0.1", 8080).unwrap_or_default();
    until(|| read() == "served\n");
    e.kill_daemon();
    e.power_on();
    until(|| read() == "served\n");
    drop(c);
    assert!(e.read_port("127.0.0.1", 8080).is_err());
}

#[test]
fn a_start_that_was_not_stored_is_known() {
    let e = own();
    let records = |to: &str| e.dir().join(to);
    let (runs, ends) = (e.create(sh("exec sleep 100000")), e.create(sh("exec sleep 100000")));
    // The store as it is before the starts; a start of the daemon makes sure that all of it is on disk.
    e.stop_daemon();
    std::fs::copy(records("data/records"), records("before")).unwrap();
    e.power_on();
    t!(e, POST "/containers/{runs}/start", 204);
    t!(e, POST "/containers/{ends}/start", 204);
    let (before, began) = (runs.inspect(), ends.inspect()["State"]["StartedAt"].clone());
    assert_ne!(before["NetworkSettings"]["IPAddress"], "");
    let process = crate::init_of(&e, &ends);
    e.kill_daemon();
    crate::kill(process);
    std::fs::rename(records("before"), records("data/records")).unwrap();
    e.power_on();
    let after = runs.inspect();
    for path in ["Pid", "StartedAt", "Status"] {
        assert_eq!(before["State"][path], after["State"][path], "{path}");
    }
    assert_eq!(before["NetworkSettings"], after["NetworkSettings"]);
    t!(e, GET "/containers/{ends}/json", 200, ".State.Status" == "exited", ".State.ExitCode" == 137, ".State.StartedAt" == began);
}

#[test]
fn killed_at_any_moment() {
    let e = own();
    for moment in 0..12_u64 {
        std::thread::scope(|scope| {
            let busy = scope.spawn(|| {
                // The connection breaks in the middle; what counts is what is found afterwards.
                let _ = std::panic::catch_unwind(|| {
                    loop {
                        // Without a destructor, which would panic for want of a daemon.
                        let c = std::mem::ManuallyDrop::new(e.run(sh("true")));
                        c.wait();
                    }
                });
            });
            std::thread::sleep(std::time::Duration::from_millis(15 + moment * 7));
            e.kill_daemon();
            // Connections are refused until it is back; the busy thread ends at its first error.
            let _ = busy.join();
            e.power_on();
        });
        for row in e.get("/containers/json?all=1").as_array().unwrap() {
            let id = row["Id"].as_str().unwrap().to_owned();
            let state = e.get(&format!("/containers/{id}/json"))["State"]["Status"].clone();
            assert!(["created", "exited", "running"].contains(&state.as_str().unwrap()), "{state}");
            t!(e, DELETE "/containers/{id}?force=1", 204);
        }
        assert_eq!(e.get("/containers/json?all=1"), json!([]));
    }
    assert_eq!(e.outcome(sh("echo well")).out, "well\n");
}

#[test]
fn a_start_on_a_paused_host_does_not_keep_the_next_daemon_waiting() {
    let e = own();
    let (c, h) = host(&e, json!({}));
    let inner = std::mem::ManuallyDrop::new(h.create(sleeper(json!({}))));
    t!(e, POST "/containers/{c}/pause", 204);
    std::thread::scope(|scope| {
        let start = h.request("POST", &format!("/containers/{}/start", inner.id));
        scope.spawn(move || std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| start.send())));
        std::thread::sleep(std::time::Duration::from_millis(500));
        e.kill_daemon();
    });
    e.power_on();
    t!(e, DELETE "/containers/{c}?force=1", 204);
    until(|| !has_processes(&e, &c.id) && !has_processes(&e, &inner.id));
}

#[test]
fn what_is_paused_stays_so() {
    let e = own();
    let (c, h) = host(&e, json!({}));
    let (inner, paused) = (h.run(sleeper(json!({}))), h.run(sleeper(json!({}))));
    t!(h, POST "/containers/{paused}/pause", 204);
    t!(e, POST "/containers/{c}/pause", 204);
    e.kill_daemon();
    e.power_on();
    t!(e, GET "/containers/{c}/json", 200, ".State.Status" == "paused");
    t!(h, GET "/containers/{inner}/json", 200, ".State.Status" == "running");
    t!(h, GET "/containers/{paused}/json", 200, ".State.Status" == "paused");
    t!(e, POST "/containers/{c}/unpause", 204);
    e.kill_daemon();
    e.power_on();
    assert_eq!(inner.exec(&["echo", "goes on"]).out, "goes on\n");
    t!(h, GET "/containers/{paused}/json", 200, ".State.Status" == "paused");
}
