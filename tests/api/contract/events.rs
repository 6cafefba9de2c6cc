//! Events: the order of a run, replay, filters.

use droste_test_support::container::{idle, sh};
use droste_test_support::image::{BASE, encode};
use droste_test_support::{Container, Engine, Open, Value, json, t};

fn filters(value: &Value) -> String {
    encode(&value.to_string())
}

/// All events of containers and networks, from now on.
fn from_now(e: &Engine) -> Open {
    e.request("GET", &format!("/events?filters={}", filters(&json!({"type": ["container", "network"]})))).open()
}

/// The next event that concerns the container.
fn next(open: &mut Open, c: &Container) -> Value {
    loop {
        let event = open.json_line().unwrap();
        if event["Actor"]["ID"] == c.id.as_str() || event["Actor"]["Attributes"]["container"] == c.id.as_str() {
            return event;
        }
    }
}

/// The actions of a finished replay.
fn actions(e: &Engine, query: &str) -> Vec<String> {
    let reply = e.request("GET", &format!("/events?{query}")).send();
    reply.expect_status(200);
    reply.json_lines().iter().map(|event| event["Action"].as_str().unwrap().to_owned()).collect()
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn events_of_a_run_come_in_order() {
    let e = Engine::shared();
    let c = e.create(sh("exit 3"));
    let mut open = from_now(e);
    assert_eq!((open.status, open.header("Content-Type"), open.is_chunked()), (200, Some("application/json"), true));
    let mut raw = c.attach("stream=1&stdout=1");
    c.start();
    raw.rest();
    c.wait();
    t!(e, DELETE "/containers/{c}", 204);
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last: &Value| last["Action"] != "destroy") {
        seen.push(next(&mut open, &c));
    }
    let order: Vec<_> = seen.iter().map(|v| format!("{} {}", v["Type"].as_str().unwrap(), v["Action"].as_str().unwrap())).collect();
    // Docker says `die` and `network disconnect` in either order.
    let mut ends = order[3..5].to_vec();
    ends.sort();
    assert_eq!(order[..3], ["container attach", "network connect", "container start"]);
    assert_eq!(ends, ["container die", "network disconnect"]);
    assert_eq!(order[5..], ["container destroy"]);
    let start = &seen[2];
    assert_eq!(start["Actor"]["ID"], c.id.as_str());
    assert_eq!(start["Actor"]["Attributes"], json!({"image": BASE, "name": c.name}));
    assert_eq!((&start["status"], &start["id"], &start["from"]), (&json!("start"), &json!(c.id), &json!(BASE)));
    assert_eq!(start["scope"], "local");
    assert_eq!(start["time"].as_u64().unwrap(), start["timeNano"].as_u64().unwrap() / 1_000_000_000);
    let die = seen.iter().find(|event| event["Action"] == "die").unwrap();
    let die = &die["Actor"]["Attributes"];
    assert_eq!(die["exitCode"], "3");
    assert!(die["execDuration"].as_str().unwrap().parse::<u32>().is_ok());
    let network = &seen[1];
    assert_eq!(network["Actor"]["Attributes"]["name"], "bridge");
    assert_eq!(network["Actor"]["Attributes"]["type"], "bridge");
    assert_eq!(network["Actor"]["Attributes"]["container"], c.id.as_str());
    assert!(network.get("status").is_none());
}

#[test]
fn events_since_until_replay_and_end() {
    let e = Engine::shared();
    let since = now() - 1;
    let c = e.run(sh("true"));
    c.wait();
    t!(e, DELETE "/containers/{c}", 204);
    let by_id = filters(&json!({"container": [c.id]}));
    let until = now() + 1;
    // `until` in the past ends the stream by itself once that moment is over.
    assert_eq!(actions(e, &format!("since={since}&until={until}&filters={by_id}")), ["create", "start", "die", "destroy"]);
    assert_eq!(actions(e, &format!("since={since}.000000000&until={until}&filters={}", filters(&json!({"container": {c.id.as_str(): true}, "event": {"die": true}})))), ["die"]);
    assert_eq!(actions(e, &format!("since=0&until=1&filters={by_id}")), Vec::<String>::new());
}

#[test]
fn event_filters() {
    let e = Engine::shared();
    let since = now() - 1;
    let label = e.name("label");
    let mut body = sh("true");
    body["Labels"] = json!({label.as_str(): "v"});
    let c = e.run(body);
    c.wait();
    let name = c.name.clone();
    t!(e, DELETE "/containers/{c}", 204);
    let until = now() + 1;
    let seen = |wanted: Value| actions(e, &format!("since={since}&until={until}&filters={}", filters(&wanted)));
    let whole = ["create", "start", "die", "destroy"];
    assert_eq!(seen(json!({"label": [label]})), whole);
    assert_eq!(seen(json!({"label": [format!("{label}=v")]})), whole);
    assert_eq!(seen(json!({"label": [format!("{label}=w")]})), Vec::<String>::new());
    assert_eq!(seen(json!({"container": [name], "type": ["container"]})), whole);
    assert_eq!(seen(json!({"container": [&c.id], "type": ["network"]})), Vec::<String>::new(), "a container filter is about container events");
    assert_eq!(seen(json!({"container": [&c.id]})), whole);
    assert_eq!(seen(json!({"label": [label], "event": ["start", "die"]})), ["start", "die"]);
    assert_eq!(seen(json!({"label": [label], "image": [BASE]})), whole);
    assert_eq!(seen(json!({"label": [label], "image": ["droste-test-base"]})), whole);
    assert_eq!(seen(json!({"label": [label], "image": ["other"]})), Vec::<String>::new());
    assert_eq!(seen(json!({"label": [label], "scope": ["swarm"]})), Vec::<String>::new());
    t!(e, GET "/events?since=x&until=1", 400 | 500);
}

#[test]
fn exec_and_signal_events() {
    let e = Engine::shared();
    let c = e.run(idle());
    let mut open = from_now(e);
    assert_eq!(c.exec(&["sh", "-c", "exit 2"]).code, 2);
    c.post("/pause", 204);
    c.post("/unpause", 204);
    let new = e.name("renamed");
    t!(e, POST "/containers/{c}/rename?name={new}", 204);
    c.post("/kill?signal=WINCH", 204);
    t!(e, POST "/containers/{c}/update" {"CpuShares": 700}, 200);
    c.post("/stop?t=30", 204);
    let mut seen: Vec<Value> = Vec::new();
    // Docker says `die` and `stop` in either order.
    while !["stop", "die"].iter().all(|end| seen.iter().any(|event| event["Action"] == *end)) {
        seen.push(next(&mut open, &c));
    }
    let order: Vec<_> = seen.iter().filter(|v| v["Type"] == "container").map(|v| v["Action"].as_str().unwrap()).collect();
    assert_eq!(order[..9], ["exec_create: sh -c exit 2", "exec_start: sh -c exit 2", "exec_die", "pause", "unpause", "rename", "kill", "update", "kill"]);
    let of = |action: &str| &seen.iter().find(|v| v["Action"] == action).unwrap()["Actor"]["Attributes"];
    assert_eq!(of("exec_die")["exitCode"], "2");
    assert_eq!(of("exec_die")["execID"].as_str().unwrap().len(), 64);
    assert_eq!(of("rename")["oldName"], format!("/{}", c.name).as_str());
    assert_eq!(of("kill")["signal"], "28");
}

#[test]
fn image_events() {
    let e = Engine::shared();
    let since = now() - 1;
    let image = droste_test_support::image::Image::new(e, &[]);
    let tagged = e.name("tagged");
    t!(e, POST "/images/{image}/tag?repo={tagged}&tag=v1", 201);
    t!(e, DELETE "/images/{tagged}:v1", 200);
    let until = now() + 1;
    let by_id = filters(&json!({"image": [image.id], "type": ["image"]}));
    let seen = actions(e, &format!("since={since}&until={until}&filters={by_id}"));
    // Docker says `tag` for the import too.
    let seen: Vec<_> = seen.iter().skip_while(|action| *action == "tag").collect();
    assert_eq!(seen, ["import", "tag", "untag"]);
}
