//! The audit log: a line for each call that changes something, on every level, and no secret in it.

use std::path::{Path, PathBuf};

use droste_test_support::container::sh;
use droste_test_support::engine::droste_binds;
use droste_test_support::image::BASE;
use droste_test_support::{Engine, Value, json, t};
use tempfile::TempDir;

use crate::{SOCKET, host, image, sleeper, until};

/// A folder that goes with its test.
fn folder() -> TempDir {
    tempfile::Builder::new().prefix("droste-test-audit-").tempdir_in("/tmp").unwrap()
}

/// An engine with an audit log, and where that is.
fn audited() -> (Engine, PathBuf, TempDir) {
    let folder = folder();
    let path = folder.path().join("audit.log");
    let e = Engine::start_droste(&["--audit-log", path.to_str().unwrap()]);
    image::load_base(&e);
    (e, path, folder)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// The lines of a route.
fn of(path: &Path, route: &str) -> Vec<Value> {
    lines(path).into_iter().filter(|line| line["route"] == route).collect()
}

#[test]
fn every_change_has_a_line_and_looks_have_none() {
    let (e, log, _folder) = audited();
    let (outer, h) = host(&e, json!({}));
    let c = h.create_named("web", sh("true"));
    t!(h, GET "/containers/json", 200);
    t!(h, DELETE "/containers/nobody", 404);
    t!(h, POST "/images/{BASE}/tag?repo=other&tag=1", 201);

    let created = of(&log, "/containers/create");
    let line = created.last().unwrap();
    assert_eq!((&line["host"], &line["hostId"], &line["method"]), (&json!(outer.name), &json!(outer.id), &json!("POST")));
    assert_eq!((&line["outcome"], &line["status"], &line["made"]), (&json!("done"), &json!(201), &json!(c.id)));
    assert_eq!(line["query"]["name"], "web");
    assert_eq!(line["apiVersion"], "1.51");
    assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
    // The test itself connected, from outside the daemon's PID namespace: there the kernel has no number for it.
    assert_eq!(line["peer"]["uid"], 0);
    let first = &created[0];
    assert_eq!((&first["host"], &first["hostId"]), (&json!("/"), &json!("machine")));

    let refused = of(&log, "/containers/{name}").pop().unwrap();
    assert_eq!((&refused["object"], &refused["outcome"], &refused["status"]), (&json!("nobody"), &json!("refused"), &json!(404)));
    assert_eq!(refused["error"], "No such container: nobody");
    let all = lines(&log);
    assert!(all.iter().all(|line| line["method"] != "GET"), "{all:?}");
    assert!(all.iter().any(|line| line["query"]["repo"] == "other" && line["object"].as_str().unwrap().contains(BASE)));
}

#[test]
fn secrets_stay_out() {
    let (e, log, _folder) = audited();
    let body = json!({"Image": BASE, "Cmd": ["true", "geheim"], "Env": ["A=geheim"], "Labels": {"a": "geheim"}});
    let c = e.create(body);
    let auth = e.request("POST", "/images/create?fromImage=localhost:1/x&fromSrc=geheim").header("X-Registry-Auth", "geheim");
    auth.send();
    t!(e, POST "/containers/create" {"Image": BASE, "Cmd": ["true"], "Env": ["=geheim"]}, 400);
    drop(c);
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.contains("\"route\":\"/images/create\""), "{text}");
    assert!(!text.contains("geheim"), "{text}");
}

#[test]
fn connections_that_are_taken_over_are_written_down() {
    let (e, log, _folder) = audited();
    let c = e.run(sleeper(json!({})));
    assert_eq!(c.exec(&["true"]).code, 0);
    let attached = c.attach("stream=1&stdout=1&stdin=1");
    until(|| !of(&log, "/containers/{name}/attach").is_empty());
    drop(attached);
    let started = of(&log, "/exec/{id}/start").pop().unwrap();
    assert_eq!((&started["outcome"], &started["status"]), (&json!("done"), &json!(101)), "{started}");
}

#[test]
fn a_peer_is_the_process_that_connected() {
    let (e, log, _folder) = audited();
    let binds: Vec<String> = droste_binds().into_iter().chain([SOCKET.to_owned()]).collect();
    let c = e.run(sleeper(json!({"Binds": binds})));
    let made = c.exec(&["droste", "volume", "create", "fromhere"]);
    assert_eq!(made.code, 0, "{made:?}");
    let line = of(&log, "/volumes/create").pop().unwrap();
    assert!(line["peer"]["pid"].as_i64().unwrap() > 1, "{line}");
    assert!(line["peer"]["executable"].as_str().unwrap().ends_with("/droste"), "{line}");
    assert_eq!(line["host"], c.name);
}

#[test]
fn a_reload_begins_a_new_file() {
    let folder = folder();
    let log = folder.path().join("audit.log");
    let e = Engine::start_droste(&["--audit-log", log.to_str().unwrap()]);
    t!(e, POST "/volumes/create" {"Name": "one"}, 201);
    std::fs::rename(&log, folder.path().join("old")).unwrap();
    t!(e, POST "/volumes/create" {"Name": "two"}, 201);
    let pid = rustix::process::Pid::from_raw(e.pid()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    until(|| log.exists());
    t!(e, POST "/volumes/create" {"Name": "three"}, 201);
    assert_eq!(lines(&folder.path().join("old")).len(), 2);
    assert_eq!(lines(&log).len(), 1);
}
