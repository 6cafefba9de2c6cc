//! Start, stop, kill, restart, pause, wait, remove: status codes, states and the moment of the head.

use droste_test_support::container::{idle, sh, sh_with};
use droste_test_support::{Engine, expect, json, t};

/// Removed as soon as it ends.
fn auto_remove(script: &str) -> droste_test_support::Value {
    sh_with(script, json!({"AutoRemove": true}))
}

#[test]
fn states_of_a_run() {
    let e = Engine::shared();
    let c = e.create(idle());
    t!(e, GET "/containers/{c}/json", 200, ".State.Status" == "created", ".State.Running" == false);
    t!(e, POST "/containers/{c}/start", 204, "text" == "");
    t!(e, POST "/containers/{c}/start", 304, "text" == "");
    t!(e, GET "/containers/{c}/json", 200, ".State.Status" == "running", ".State.Running" == true, ".State.Pid" is positive,
        ".State.StartedAt" is time, ".State.StartedAt" != "0001-01-01T00:00:00Z", ".State.FinishedAt" == "0001-01-01T00:00:00Z");
    t!(e, POST "/containers/{c}/stop", 204, "text" == "");
    t!(e, POST "/containers/{c}/stop", 304, "text" == "");
    t!(e, GET "/containers/{c}/json", 200, ".State.Status" == "exited", ".State.Running" == false, ".State.Pid" == 0,
        ".State.ExitCode" == 0, ".State.FinishedAt" is time, ".State.FinishedAt" != "0001-01-01T00:00:00Z");
    t!(e, POST "/containers/{c}/start", 204);
    t!(e, GET "/containers/{c}/json", 200, ".State.Status" == "running", ".State.FinishedAt" != "0001-01-01T00:00:00Z");
}

#[test]
fn exit_codes() {
    let e = Engine::shared();
    assert_eq!(e.outcome(sh("exit 0")).code, 0);
    assert_eq!(e.outcome(sh("exit 3")).code, 3);
    assert_eq!(e.outcome(sh("exit 255")).code, 255);
    assert_eq!(e.outcome(sh("kill -9 $$; sleep 1; exit 4")).code, 4, "the first process of a PID namespace is not killed from inside");
    assert_eq!(e.outcome(sh("no-such-command")).code, 127);
    assert_eq!(e.outcome(sh("/etc/passwd")).code, 126);
}

#[test]
fn a_command_that_is_not_there() {
    let e = Engine::shared();
    let c = e.create(json!({"Cmd": ["/no/such"]}));
    t!(e, POST "/containers/{c}/start", 400, ".message" has "exec: \"/no/such\": stat /no/such: no such file or directory");
    t!(e, GET "/containers/{c}/json", 200, ".State.Status" == "created", ".State.ExitCode" == 127, ".State.Error" has "no such file or directory");
    let c = e.create(json!({"Cmd": ["no-such-word"]}));
    t!(e, POST "/containers/{c}/start", 400, ".message" has "exec: \"no-such-word\": executable file not found in $PATH");
    let c = e.create(json!({"Cmd": ["/etc/passwd"]}));
    t!(e, POST "/containers/{c}/start", 400, ".message" has "exec: \"/etc/passwd\": permission denied");
    t!(e, GET "/containers/{c}/json", 200, ".State.ExitCode" == 126);
    let c = e.create(json!({"Cmd": ["/etc"]}));
    t!(e, POST "/containers/{c}/start", 400, ".message" has "exec: \"/etc\": is a directory");
}

#[test]
fn stop_asks_then_kills() {
    let e = Engine::shared();
    let c = e.run(sh("trap 'echo asked; exit 7' TERM; echo up; while :; do sleep 1000 & wait; done"));
    c.await_log("up");
    c.post("/stop?t=30", 204);
    t!(e, GET "/containers/{c}/json", 200, ".State.ExitCode" == 7);
    assert_eq!(c.logs().0, "up\nasked\n");
    let deaf = e.run(sh("trap '' TERM; echo up; while :; do sleep 1000; done"));
    deaf.await_log("up");
    deaf.post("/stop?t=0", 204);
    t!(e, GET "/containers/{deaf}/json", 200, ".State.ExitCode" == 137);
}

#[test]
fn stop_signals() {
    let e = Engine::shared();
    let script = "trap 'exit 5' USR1; trap 'exit 6' INT; echo up; while :; do sleep 1000 & wait; done";
    let mut body = sh(script);
    body["StopSignal"] = json!("SIGUSR1");
    let c = e.run(body);
    c.await_log("up");
    c.post("/stop?t=30", 204);
    t!(e, GET "/containers/{c}/json", 200, ".State.ExitCode" == 5, ".Config.StopSignal" == "SIGUSR1");
    let c = e.run(sh(script));
    c.await_log("up");
    c.post("/stop?t=30&signal=INT", 204);
    t!(e, GET "/containers/{c}/json", 200, ".State.ExitCode" == 6);
    t!(e, POST "/containers/{c}/stop?t=x", 400 | 500, ".message" has "x");
}

#[test]
fn stop_of_one_that_never_ran() {
    let e = Engine::shared();
    let c = e.create(idle());
    t!(e, POST "/containers/{c}/stop", 304);
    t!(e, POST "/containers/{c}/kill", 409, ".message" has (format!("container {c} is not running")));
    t!(e, POST "/containers/{c}/pause", 409, ".message" == (format!("container {c} is not running")));
    t!(e, POST "/containers/{c}/unpause", 409 | 500, ".message" == (format!("Container {c} is not paused")));
    t!(e, GET "/containers/{c}/top", 409, ".message" == (format!("container {c} is not running")));
    t!(e, POST "/containers/{c}/exec" {"Cmd": ["true"]}, 409, ".message" == (format!("container {c} is not running")));
    t!(e, POST "/containers/{c}/resize?h=10&w=10", 409, ".message" == (format!("container {c} is not running")));
}

#[test]
fn kill() {
    let e = Engine::shared();
    let c = e.run(sh("trap 'echo usr1' USR1; trap 'exit 9' TERM; echo up; while :; do sleep 1000 & wait; done"));
    c.await_log("up");
    t!(e, POST "/containers/{c}/kill?signal=SIGUSR1", 204, "text" == "");
    c.await_log("usr1");
    t!(e, POST "/containers/{c}/kill?signal=nope", 400, ".message" has "invalid signal: nope");
    t!(e, POST "/containers/{c}/kill?signal=99", 400, ".message" matches "signal:? 99");
    t!(e, GET "/containers/{c}/json", 200, ".State.Running" == true);
    t!(e, POST "/containers/{c}/kill?signal=15", 204);
    assert_eq!(c.wait(), 9);
    t!(e, POST "/containers/{c}/kill", 409, ".message" has (format!("container {c} is not running")));
    let c = e.run(idle());
    t!(e, POST "/containers/{c}/kill", 204);
    assert_eq!(c.wait(), 137);
    let c = e.run(idle());
    t!(e, POST "/containers/{c}/kill?signal=KILL", 204);
    assert_eq!(c.wait(), 137);
}

#[test]
fn restart() {
    let e = Engine::shared();
    let c = e.run(idle());
    let first = c.inspect()["State"]["StartedAt"].clone();
    t!(e, POST "/containers/{c}/restart?t=30", 204);
    t!(e, GET "/containers/{c}/json", 200, ".State.Running" == true, ".State.StartedAt" != first, ".RestartCount" == 0);
    let stopped = e.create(idle());
    t!(e, POST "/containers/{stopped}/restart", 204);
    t!(e, GET "/containers/{stopped}/json", 200, ".State.Running" == true);
}

#[test]
fn pause() {
    let e = Engine::shared();
    let c = e.run(idle());
    t!(e, POST "/containers/{c}/unpause", 409 | 500, ".message" == (format!("Container {c} is not paused")));
    t!(e, POST "/containers/{c}/pause", 204);
    t!(e, GET "/containers/{c}/json", 200, ".State.Status" == "paused", ".State.Paused" == true, ".State.Running" == true);
    t!(e, POST "/containers/{c}/pause", 409, ".message" == (format!("Container {c} is already paused")));
    t!(e, POST "/containers/{c}/exec" {"Cmd": ["true"]}, 409, ".message" == (format!("Container {c} is paused, unpause the container before exec")));
    t!(e, POST "/containers/{c}/start", 409, ".message" == "cannot start a paused container, try unpause instead");
    t!(e, POST "/containers/{c}/unpause", 204);
    t!(e, GET "/containers/{c}/json", 200, ".State.Status" == "running", ".State.Paused" == false);
    t!(e, POST "/containers/{c}/pause", 204);
    t!(e, DELETE "/containers/{c}", 409, ".message" == (format!("cannot remove container \"{c}\": container is paused and must be unpaused first")));
    t!(e, POST "/containers/{c}/kill", 204);
    assert_eq!(c.wait(), 137);
}

#[test]
fn remove() {
    let e = Engine::shared();
    let c = e.run(idle());
    t!(e, DELETE "/containers/{c}", 409, ".message" == (format!("cannot remove container \"{c}\": container is running: stop the container before removing or force remove")));
    t!(e, DELETE "/containers/{c}?force=1", 204, "text" == "");
    t!(e, GET "/containers/{c}/json", 404, ".message" == (format!("No such container: {c}")));
    t!(e, DELETE "/containers/{c}", 404, ".message" == (format!("No such container: {c}")));
    let c = e.create(idle());
    t!(e, DELETE "/containers/{c}?v=1", 204);
    let c = e.create(idle());
    t!(e, DELETE "/containers/{c}?link=1", 500 | 400, ".message" is string);
}

#[test]
fn wait_sends_its_head_at_once() {
    let e = Engine::shared();
    let c = e.create(sh("exit 5"));
    // The head of each is here before the container starts, so it can't depend on its end.
    let open = |query: &str| {
        let open = e.request("POST", &format!("/containers/{c}/wait{query}")).open();
        assert_eq!((open.status, open.header("Content-Type")), (200, Some("application/json")));
        assert!(open.is_chunked());
        open
    };
    let next_exit = open("?condition=next-exit");
    let removed = open("?condition=removed");
    c.start();
    assert_eq!(next_exit.finish().body, b"{\"StatusCode\":5}\n");
    let not_running = open("?condition=not-running");
    assert_eq!(not_running.finish().json(), json!({"StatusCode": 5}));
    assert_eq!(open("").finish().json(), json!({"StatusCode": 5}));
    t!(e, DELETE "/containers/{c}", 204);
    assert_eq!(removed.finish().json(), json!({"StatusCode": 5}));
}

#[test]
fn wait_on_one_that_never_ran() {
    let e = Engine::shared();
    let c = e.create(sh("exit 5"));
    t!(e, POST "/containers/{c}/wait", 200, ".StatusCode" == 0);
    t!(e, POST "/containers/{c}/wait?condition=nope", 400, ".message" == "invalid condition: \"nope\"");
}

#[test]
fn wait_before_v1_30_answers_at_the_end() {
    let e = Engine::shared();
    let c = e.run(sh("exit 2"));
    t!(e, POST "/v1.29/containers/{c}/wait", 200, ".StatusCode" == 2);
}

#[test]
fn auto_remove_removes() {
    let e = Engine::shared();
    let c = e.create(auto_remove("exit 4"));
    let wait = e.request("POST", &format!("/containers/{c}/wait?condition=removed")).open();
    c.start();
    assert_eq!(wait.finish().json(), json!({"StatusCode": 4}));
    t!(e, GET "/containers/{c}/json", 404);
    let c = e.create(json!({"Cmd": ["/no/such"], "HostConfig": {"AutoRemove": true}}));
    let wait = e.request("POST", &format!("/containers/{c}/wait?condition=removed")).open();
    t!(e, POST "/containers/{c}/start", 400);
    expect!(wait.finish(), 200, ".StatusCode" == 127);
}

#[test]
fn restart_on_failure_counts() {
    let e = Engine::shared();
    let c = e.create(sh_with("exit 1", json!({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}})));
    let target = format!("/events?filters={}", droste_test_support::image::encode(&json!({"container": [c.id], "event": ["die"]}).to_string()));
    let mut events = e.request("GET", &target).open();
    c.start();
    for _ in 0..3 {
        assert_eq!(events.json_line().unwrap()["Action"], "die");
    }
    assert_eq!(c.wait(), 1);
    t!(e, GET "/containers/{c}/json", 200, ".RestartCount" == 2, ".State.Status" == "exited", ".State.ExitCode" == 1);
}

#[test]
fn restart_always_ends_with_stop() {
    let e = Engine::shared();
    let c = e.run(sh_with("trap 'exit 0' TERM; echo run; sleep 0.1", json!({"RestartPolicy": {"Name": "always"}})));
    while c.logs().0.matches("run").count() < 2 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    c.post("/stop?t=1", 204);
    t!(e, GET "/containers/{c}/json", 200, ".State.Status" == "exited", ".State.Restarting" == false, ".HostConfig.RestartPolicy.Name" == "always");
}

#[test]
fn update() {
    let e = Engine::shared();
    let c = e.run(idle());
    t!(e, POST "/containers/{c}/update" {"Memory": 67108864, "MemorySwap": -1, "CpuShares": 512, "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 4}},
        200, "." == {"Warnings": null});
    t!(e, GET "/containers/{c}/json", 200, ".HostConfig.Memory" == 67108864, ".HostConfig.CpuShares" == 512, ".HostConfig.RestartPolicy.Name" == "on-failure",
        ".HostConfig.RestartPolicy.MaximumRetryCount" == 4);
    t!(e, POST "/containers/{c}/update" {"Memory": 1}, 400, ".message" has "Minimum memory limit allowed is 6MB");
    t!(e, POST "/containers/{c}/update" {"RestartPolicy": {"Name": "weird"}}, 400, ".message" has "unknown policy 'weird'");
    t!(e, POST "/containers/{c}/update" {"NanoCpus": 500000000}, 200);
    t!(e, GET "/containers/{c}/json", 200, ".HostConfig.NanoCpus" == 500000000, ".HostConfig.Memory" == 67108864);
}

#[test]
fn top() {
    let e = Engine::shared();
    let c = e.run(sh("exec sleep 4321"));
    let shown = || e.get(&format!("/containers/{c}/top"))["Processes"][0].to_string();
    while shown().contains("sh -c") {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let reply = t!(e, GET "/containers/{c}/top", 200, ".Titles.0" == "UID", ".Titles.1" == "PID", ".Titles" has "CMD");
    let top = reply.json();
    let processes = top["Processes"].as_array().unwrap();
    assert_eq!(processes.len(), 1, "{top}");
    assert_eq!(processes[0].as_array().unwrap().last().unwrap(), "sleep 4321");
    crate::typed::<bollard_stubs::models::ContainerTopResponse>(&reply);
    // Busybox executes itself again and takes the applet's name a moment later.
    let names = || {
        let reply = t!(e, GET "/containers/{c}/top?ps_args=-eo%20pid,comm", 200, ".Titles" == ["PID", "COMMAND"]);
        reply.json()["Processes"][0][1].clone()
    };
    while names() == "exe" {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(names(), "sleep");
    let reply = t!(e, GET "/containers/{c}/top?ps_args=aux", 200, ".Titles.0" == "USER", ".Titles.1" == "PID");
    assert_eq!(reply.json()["Processes"].as_array().unwrap().len(), 1);
}

#[test]
fn stats() {
    let e = Engine::shared();
    let c = e.run(idle());
    let reply = t!(e, GET "/containers/{c}/stats?stream=0&one-shot=1", 200, ".read" is time,
        ".preread" == "0001-01-01T00:00:00Z", ".name" is absent, ".id" is absent, ".pids_stats.current" is positive, ".cpu_stats.cpu_usage.total_usage" is number,
        ".cpu_stats.system_cpu_usage" is positive, ".cpu_stats.online_cpus" is positive, ".precpu_stats.cpu_usage.total_usage" == 0,
        ".memory_stats.usage" is positive, ".memory_stats.limit" is positive, ".memory_stats.stats" is object, ".networks.eth0.rx_bytes" is number,
        ".blkio_stats" has "io_service_bytes_recursive", ".num_procs" == 0, ".storage_stats" == {});
    crate::typed::<bollard_stubs::models::ContainerStatsResponse>(&reply);
    t!(e, GET "/containers/{c}/stats?stream=0", 200, ".precpu_stats.system_cpu_usage" is positive, ".preread" != "0001-01-01T00:00:00Z", ".id" == (c.id));
    let mut stream = e.request("GET", &format!("/containers/{c}/stats")).open();
    assert_eq!((stream.status, stream.is_chunked()), (200, true));
    assert_eq!(stream.json_line().unwrap()["id"], c.id.as_str());
    assert_eq!(stream.json_line().unwrap()["id"], c.id.as_str());
    drop(stream);
    c.post("/kill", 204);
    c.wait();
    let c = e.create(idle());
    t!(e, GET "/containers/{c}/stats?stream=0&one-shot=1", 200, ".id" == (c.id), ".pids_stats" == {}, ".memory_stats" == {}, ".cpu_stats.cpu_usage.total_usage" == 0,
        ".read" == "0001-01-01T00:00:00Z");
}

#[test]
fn health() {
    let e = Engine::shared();
    let ms = 1_000_000_i64;
    let mut body = idle();
    body["Healthcheck"] = json!({"Test": ["CMD-SHELL", "cat /tmp/ok; test -e /tmp/ok"], "Interval": 50 * ms, "Timeout": 5000 * ms, "Retries": 2});
    let c = e.create(body);
    let filters = droste_test_support::image::encode(&json!({"container": [c.id], "event": ["health_status"]}).to_string());
    let mut events = e.request("GET", &format!("/events?filters={filters}")).open();
    c.start();
    t!(e, GET "/containers/{c}/json", 200, ".State.Health.Status" is string, ".State.Health.FailingStreak" is number);
    assert_eq!(events.json_line().unwrap()["Action"], "health_status: unhealthy");
    t!(e, GET "/containers/{c}/json", 200, ".State.Health.Status" == "unhealthy", ".State.Health.Log.0.ExitCode" == 1, ".State.Health.Log.0.Start" is time,
        ".State.Health.Log.0.End" is time, ".State.Health.Log.0.Output" has "can't open '/tmp/ok'");
    assert_eq!(c.exec(&["touch", "/tmp/ok"]).code, 0);
    assert_eq!(events.json_line().unwrap()["Action"], "health_status: healthy");
    t!(e, GET "/containers/{c}/json", 200, ".State.Health.Status" == "healthy", ".State.Health.FailingStreak" == 0);
    let filters = droste_test_support::image::encode(&json!({"id": [c.id], "health": ["healthy"]}).to_string());
    t!(e, GET "/containers/json?filters={filters}", 200, ".0.Status" matches r"^Up .* \(healthy\)$", ".0.State" == "running");
    let mut body = idle();
    body["Healthcheck"] = json!({"Test": ["NONE"]});
    let c = e.run(body);
    t!(e, GET "/containers/{c}/json", 200, ".State.Health" is absent);
}

#[test]
fn prune() {
    let e = Engine::shared();
    let label = e.name("prune");
    let mut body = sh("true");
    body["Labels"] = json!({label.as_str(): "x"});
    let ended = e.run(body.clone());
    ended.wait();
    let created = e.create(body);
    let filters = droste_test_support::image::encode(&json!({"label": [format!("{label}=other")]}).to_string());
    t!(e, POST "/containers/prune?filters={filters}", 200, ".ContainersDeleted" == null, ".SpaceReclaimed" == 0);
    let filters = droste_test_support::image::encode(&json!({"label": [label]}).to_string());
    let reply = t!(e, POST "/containers/prune?filters={filters}", 200, ".ContainersDeleted" has (ended.id), ".ContainersDeleted" has (created.id), ".SpaceReclaimed" is number);
    crate::typed::<bollard_stubs::models::ContainerPruneResponse>(&reply);
    t!(e, GET "/containers/{ended}/json", 404);
    let filters = droste_test_support::image::encode(r#"{"nope":["x"]}"#);
    t!(e, POST "/containers/prune?filters={filters}", 400, ".message" == "invalid filter 'nope'");
    let filters = droste_test_support::image::encode(&json!({"label": ["nobody-has-this"]}).to_string());
    t!(e, POST "/images/prune?filters={filters}", 200, ".ImagesDeleted" == null, ".SpaceReclaimed" == 0);
    t!(e, POST "/volumes/prune?filters={filters}", 200, ".VolumesDeleted" == [], ".SpaceReclaimed" == 0);
    t!(e, POST "/networks/prune?filters={filters}", 200, ".NetworksDeleted" == null);
}
