//! What the machine's administrator sees of all levels, and nobody else: lists, events, the tree.

use droste_test_support::{Container, Engine, Open, Value, expect, json, t};

use crate::{host, host_body, sleeper};

/// A path of the API as a list of `(Host, Names[0])`.
fn listed(e: &Engine, target: &str) -> Vec<(String, String)> {
    let list = e.get(target);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let row = |c: &Value| (text(&c["Host"]), text(&c["Names"][0]).trim_start_matches('/').to_owned());
    list.as_array().unwrap().iter().map(row).collect()
}

fn pair(host: &str, name: &str) -> (String, String) {
    (host.to_owned(), name.to_owned())
}

#[test]
fn all_levels_are_listed_with_their_paths() {
    let e = Engine::shared();
    let (outer, h) = host(e, json!({}));
    let (inner, deep) = host(&h, json!({}));
    let leaf = deep.run(sleeper(json!({})));
    let asleep = h.create(sleeper(json!({})));
    let path = format!("{}/{}", outer.name, inner.name);
    let running = listed(e, "/droste/containers/json");
    for (host, name) in [("/", &outer.name), (outer.name.as_str(), &inner.name), (path.as_str(), &leaf.name)] {
        assert!(running.contains(&pair(host, name)), "{name}: {running:?}");
    }
    assert!(!running.contains(&pair(&outer.name, &asleep.name)), "only those that run, as in any list");
    let named = format!("/droste/containers/json?all=1&filters=%7B%22name%22:[%22{}%22,%22{}%22]%7D", asleep.name, leaf.name);
    assert_eq!(listed(e, &named), [pair(&outer.name, &asleep.name), pair(&path, &leaf.name)]);
    assert_eq!(listed(e, &format!("{named}&limit=1")), [pair(&outer.name, &asleep.name)], "the newest of all levels");
    // From a host below, by the administrator: paths begin there.
    let at = e.request("GET", "/droste/containers/json").header("Droste-At", &outer.name).send().json();
    let hosts: Vec<&str> = at.as_array().unwrap().iter().map(|c| c["Host"].as_str().unwrap()).collect();
    assert_eq!(hosts, ["/", inner.name.as_str()]);
    t!(e, GET "/droste/containers/json?filters=%7B%22since%22:[%22x%22]%7D", 400, ".message" has "names a container of one host");
    assert!(e.get("/containers/json")[0].get("Host").is_none(), "Docker's own list is as it is");
}

/// Reads events until one is of that host with that action; gives its actor.
fn until_event(events: &mut Open, host: &str, action: &str) -> String {
    loop {
        let event = events.json_line().expect("the stream goes on");
        if event["Host"] == host && event["Action"] == action {
            return event["Actor"]["ID"].as_str().unwrap().to_owned();
        }
    }
}

#[test]
fn events_of_all_levels_come_with_their_paths() {
    let e = Engine::shared();
    let (outer, h) = host(e, json!({}));
    let mut events = e.request("GET", "/droste/events").open();
    let mut of_host = e.request("GET", "/droste/events").header("Droste-At", &outer.name).open();
    let inner: Container = h.run(host_body(json!({})));
    let deep = h.host_of(&inner);
    let leaf = deep.run(sleeper(json!({})));
    let path = format!("{}/{}", outer.name, inner.name);
    assert_eq!(until_event(&mut events, &outer.name, "start"), inner.id);
    assert_eq!(until_event(&mut events, &path, "start"), leaf.id, "of a host that was made meanwhile");
    assert_eq!(until_event(&mut of_host, &inner.name, "start"), leaf.id, "paths begin at the host that is asked");
    let before = e.get("/info")["SystemTime"].as_str().unwrap().to_owned();
    t!(e, DELETE "/containers/{outer}?force=1", 204);
    assert_eq!(until_event(&mut events, &path, "die"), leaf.id, "the last ones of a host that goes");
    assert_eq!(until_event(&mut events, "/", "destroy"), outer.id);
    // Replayed in the order of time; what is gone has no log.
    let past = e.request("GET", &format!("/droste/events?since={before}&until={}", now())).send().json_lines();
    let actions: Vec<&str> = past.iter().filter(|e| e["Actor"]["ID"] == outer.id.as_str()).map(|e| e["Action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["kill", "die", "destroy"]);
    assert!(past.iter().all(|event| event["Host"].is_string()));
    std::mem::forget((inner, leaf, outer));
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 1
}

#[test]
fn others_are_refused() {
    let e = Engine::shared();
    let (_outer, h) = host(e, json!({}));
    let mut granted = host_body(json!({}));
    granted["Labels"] = json!({"droste.socket": "parent"});
    let c = e.run(granted);
    for socket in [h, e.host_of(&c)] {
        for target in ["/droste/containers/json", "/droste/events", "/droste/containers/json?all=1"] {
            let reply = socket.request("GET", target).send();
            expect!(reply, 403, ".message" has "only the machine's own socket looks at all levels");
        }
    }
}

#[test]
fn a_hosts_own_tree_begins_with_itself() {
    let e = Engine::shared();
    let (outer, h) = host(e, json!({}));
    let inner = h.run(host_body(json!({})));
    let tree = h.get("~/droste/tree");
    assert_eq!((tree["Id"].as_str(), tree["Host"].as_bool()), (Some(outer.id.as_str()), Some(true)));
    assert_eq!(tree["Children"].as_array().unwrap().len(), 1);
    assert_eq!(tree["Children"][0]["Id"], inner.id.as_str());
    assert_eq!(e.get("~/droste/tree")["Id"], "");
}
