//! Processes started by exec: what inspect shows of them before, while and after they run, and in which states of
//! their container they can be made and started.

use std::time::{Duration, Instant};

use droste_test_support::container::{exec_start, idle};
use droste_test_support::{Engine, json, t};

#[test]
fn inspect_tells_what_was_asked() {
    let e = Engine::shared();
    let c = e.run(idle());
    let id = c.exec_create(&json!({"Cmd": ["sh", "-c", "exit 3"], "User": "0:0", "Privileged": true, "Tty": true, "AttachStdin": true,
        "AttachStdout": true, "DetachKeys": "ctrl-a"}));
    t!(e, GET "/exec/{id}/json", 200, ".ID" == id, ".ContainerID" == (c.id), ".Running" == false, ".ExitCode" == null, ".Pid" == 0,
        ".OpenStdin" == true, ".OpenStdout" == true, ".OpenStderr" == false, ".CanRemove" == false, ".DetachKeys" == "AQ==",
        ".ProcessConfig" == {"tty": true, "entrypoint": "sh", "arguments": ["-c", "exit 3"], "privileged": true, "user": "0:0"});
    exec_start(e, &id, true).rest();
    t!(e, GET "/exec/{id}/json", 200, ".Running" == false, ".ExitCode" == 3, ".Pid" is number, ".CanRemove" == false);
    let plain = c.exec_create(&json!({"Cmd": ["true"]}));
    t!(e, GET "/exec/{plain}/json", 200, ".DetachKeys" == "", ".ProcessConfig" == {"tty": false, "entrypoint": "true", "arguments": [], "privileged": false});
    t!(e, POST "/containers/{c}/exec" {"Cmd": ["true"], "DetachKeys": "bad-x"}, 400 | 500, ".message" == "Invalid escape keys (bad-x) provided");
}

#[test]
fn the_state_of_the_container_decides() {
    let e = Engine::shared();
    let c = e.run(idle());
    let id = c.id.clone();
    let (running, waiting) = (c.exec_create(&json!({"Cmd": ["sleep", "1000"]})), c.exec_create(&json!({"Cmd": ["true"]})));
    t!(e, POST "/exec/{running}/start" {"Detach": true}, 200, "text" == "");
    t!(e, GET "/exec/{running}/json", 200, ".Running" == true, ".ExitCode" == null);
    t!(e, POST "/exec/{running}/start" {"Detach": true}, 409, ".message" has "is already running");
    t!(e, POST "/exec/{running}/resize?h=2&w=2", 200, "text" == "");
    c.post("/pause", 204);
    let paused = format!("Container {id} is paused, unpause the container before exec");
    t!(e, POST "/containers/{c}/exec" {"Cmd": ["true"]}, 409, ".message" == paused);
    t!(e, POST "/exec/{waiting}/start" {"Detach": true}, 409, ".message" == paused);
    t!(e, GET "/exec/{running}/json", 200, ".Running" == true);
    t!(e, GET "/exec/{waiting}/json", 200, ".Running" == false, ".ExitCode" == null);
    c.post("/unpause", 204);
    t!(e, POST "/exec/{waiting}/start" {"Detach": true}, 200);
    let late = c.exec_create(&json!({"Cmd": ["true"]}));
    c.post("/stop?t=0", 204);
    t!(e, POST "/containers/{c}/exec" {"Cmd": ["true"]}, 409, ".message" == (format!("container {id} is not running")));
    t!(e, POST "/exec/{late}/start" {"Detach": true}, 404, ".message" == (format!("No such exec instance: {late}")));
    t!(e, GET "/containers/{c}/json", 200, ".ExecIDs" == null);
}

#[test]
fn not_while_the_container_restarts() {
    let e = Engine::shared();
    // The pause before the next start doubles each time, so that there is enough of it to ask in.
    let c = e.create(json!({"Cmd": ["false"], "HostConfig": {"RestartPolicy": {"Name": "always"}}}));
    c.start();
    let restarting = format!("Container {} is restarting, wait until the container is running", c.id);
    let not_running = format!("container {} is not running", c.id);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let reply = e.request("POST", &format!("/containers/{c}/exec")).json(&json!({"Cmd": ["true"]})).send();
        if reply.status == 409 && reply.json()["message"] != json!(not_running) {
            assert_eq!(reply.json()["message"], json!(restarting));
            break;
        }
        assert!(Instant::now() < deadline, "the container was never seen restarting");
    }
}
