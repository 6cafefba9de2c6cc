//! `GET /containers/json`: its rows and each of its filters.

use droste_test_support::container::{idle, sh, sh_with};
use droste_test_support::image::{BASE, Image, encode};
use droste_test_support::{Engine, Value, json, t};

/// The names in a list, in its order, among those that carry `label`.
fn names(e: &Engine, label: &str, all: bool, mut filters: Value) -> Vec<String> {
    filters["label"] = match filters.get("label") {
        Some(more) => json!([label, more]),
        None => json!([label]),
    };
    let list = e.get(&format!("/containers/json?all={all}&filters={}", encode(&filters.to_string())));
    let rows = list.as_array().unwrap();
    rows.iter().map(|row| row["Names"][0].as_str().unwrap().trim_start_matches('/').to_owned()).collect()
}

fn labelled(mut body: Value, label: &str) -> Value {
    body["Labels"][label] = json!("v");
    body
}

#[test]
fn an_image_is_shown_by_its_id_once_its_name_means_another() {
    let e = Engine::shared();
    let image = Image::new(e, &["LABEL moves=yes"]);
    let c = e.create(json!({"Image": image.name, "Cmd": ["true"]}));
    let id = image.id.clone();
    let filters = encode(&json!({"id": [c.id]}).to_string());
    t!(e, GET "/containers/json?all=1&filters={filters}", 200, ".0.Image" == (image.name), ".0.ImageID" == (image.id));
    t!(e, POST "/images/{BASE}/tag?repo={image}", 201);
    t!(e, GET "/containers/json?all=1&filters={filters}", 200, ".0.Image" == (image.id), ".0.ImageID" == (image.id));
    t!(e, GET "/containers/{c}/json", 200, ".Config.Image" == (image.name), ".Image" == (image.id));
    t!(e, POST "/images/{id}/tag?repo={image}", 201);
    t!(e, GET "/containers/json?all=1&filters={filters}", 200, ".0.Image" == (image.name));
}

#[test]
fn names_of_links() {
    let e = Engine::shared();
    let (c, label) = (e.run(idle()), e.name("linking"));
    let mut linking = labelled(idle(), &label);
    linking["HostConfig"] = json!({"Links": [format!("{c}:al"), format!("{c}:other")]});
    let by = e.run(linking);
    let filters = encode(&json!({"id": [c.id]}).to_string());
    t!(e, GET "/containers/json?filters={filters}", 200, ".0.Names" == [(format!("/{}", c.name)), (format!("/{}/al", by.name)), (format!("/{}/other", by.name))]);
    assert_eq!(names(e, &label, true, json!({})), [by.name.as_str()]);
    t!(e, DELETE "/containers/{by}?force=1", 204);
    t!(e, GET "/containers/json?filters={filters}", 200, ".0.Names" == [(format!("/{}", c.name))]);
}

#[test]
fn queries_as_people_type_them() {
    let e = Engine::shared();
    let c = e.run(idle());
    // Without the encoding that browsers and libraries give it: hyper alone refuses such a line.
    let id = &c.id;
    t!(e, GET "/containers/json?filters={{\"id\":[\"{id}\"]}}&all=1", 200, ".0.Id" == (c.id));
    t!(e, GET "/containers/json?filters={{\"name\":[\"<\",\">\"]}}", 200, "text" == "[]\n");
    t!(e, GET "/containers/json?all=%zz", 400, ".message" == "invalid URL escape \"%zz\"");
    t!(e, GET "/containers/json?limit=1;all=1", 400, ".message" == "invalid semicolon separator in query");
}

#[test]
fn rows() {
    let e = Engine::shared();
    let label = e.name("row");
    let mut body = labelled(idle(), &label);
    body["HostConfig"] = json!({"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1"}]}, "Binds": ["/tmp:/mnt:ro"]});
    body["ExposedPorts"] = json!({"80/tcp": {}, "81/tcp": {}});
    let c = e.run(body);
    let filters = encode(&json!({"id": [c.id]}).to_string());
    let reply = t!(e, GET "/containers/json?filters={filters}", 200, ".0.Id" == (c.id), ".0.Names" == [(format!("/{}", c.name))], ".0.Image" == BASE,
        ".0.ImageID" has "sha256:", ".0.Command" matches "^sh -c 'trap", ".0.Created" is positive, ".0.State" == "running", ".0.Status" matches "^Up ",
        ".0.HostConfig.NetworkMode" == "bridge", ".0.NetworkSettings.Networks.bridge.IPAddress" matches r"^\d+\.", ".0.Mounts.0.Type" == "bind",
        ".0.Mounts.0.Source" == "/tmp", ".0.Mounts.0.Destination" == "/mnt", ".0.Mounts.0.RW" == false, ".0.Mounts.0.Mode" == "ro", ".0.SizeRw" is absent);
    let ports = reply.json()[0]["Ports"].clone();
    let ports = ports.as_array().unwrap();
    assert_eq!(ports.len(), 2, "{ports:?}");
    assert!(ports.contains(&json!({"PrivatePort": 81, "Type": "tcp"})), "{ports:?}");
    let published = ports.iter().find(|p| p["PrivatePort"] == 80).unwrap();
    assert_eq!(published["IP"], "127.0.0.1");
    assert!(published["PublicPort"].as_u64().unwrap() >= 1024);
    crate::typed::<Vec<bollard_stubs::models::ContainerSummary>>(&reply);
    t!(e, GET "/containers/json?size=1&filters={filters}", 200, ".0.SizeRw" is absent, ".0.SizeRootFs" is positive);
    c.post("/kill", 204);
    c.wait();
    let filters = encode(&json!({"id": [c.id]}).to_string());
    t!(e, GET "/containers/json?filters={filters}", 200, "." == []);
    t!(e, GET "/containers/json?all=1&filters={filters}", 200, ".0.State" == "exited", ".0.Status" matches r"^Exited \(137\) .* ago$", ".0.Ports" == []);
}

#[test]
fn states_in_words() {
    let e = Engine::shared();
    let created = e.create(sh("true"));
    let paused = e.run(idle());
    paused.post("/pause", 204);
    for (c, state, status) in [(&created, "created", "^Created$"), (&paused, "paused", r"^Up .* \(Paused\)$")] {
        let filters = encode(&json!({"id": [c.id]}).to_string());
        t!(e, GET "/containers/json?all=true&filters={filters}", 200, ".0.State" == state, ".0.Status" matches status);
    }
    paused.post("/unpause", 204);
}

#[test]
fn filters() {
    let e = Engine::shared();
    let label = e.name("filter");
    let first = e.create(labelled(sh("true"), &label));
    let mut ended = labelled(sh("exit 3"), &label);
    ended["Labels"]["extra"] = json!("yes");
    let ended = e.run(ended);
    ended.wait();
    let mut up = labelled(sh_with("while :; do sleep 1000; done", json!({"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1"}]}, "Binds": ["/tmp:/mnt"]})), &label);
    up["ExposedPorts"] = json!({"80/tcp": {}, "90/udp": {}});
    let up = e.run(up);
    let up2 = e.run(labelled(sh_with("while :; do sleep 1000; done", json!({"NetworkMode": "none"})), &label));
    let (a, b, c, d) = (first.name.as_str(), ended.name.as_str(), up.name.as_str(), up2.name.as_str());
    let all = |filters: Value| names(e, &label, true, filters);
    assert_eq!(names(e, &label, false, json!({})), [d, c], "newest first, running only");
    assert_eq!(all(json!({})), [d, c, b, a]);
    assert_eq!(all(json!({"id": [first.id[..20]]})), [a]);
    assert_eq!(all(json!({"name": [b]})), [b]);
    assert_eq!(all(json!({"name": [format!("^/{b}$")]})), [b]);
    assert_eq!(all(json!({"name": [&b[1..]]})), [b], "a part of the name");
    assert_eq!(names(e, &label, false, json!({"status": ["exited"]})), [b], "a status filter implies all");
    assert_eq!(all(json!({"status": ["created", "exited"]})), [b, a]);
    assert_eq!(all(json!({"exited": ["3"]})), [b]);
    assert_eq!(all(json!({"exited": ["0"]})), Vec::<String>::new());
    assert_eq!(all(json!({"label": "extra=yes"})), [b]);
    assert_eq!(all(json!({"label": "extra"})), [b]);
    assert_eq!(all(json!({"label": "extra=no"})), Vec::<String>::new());
    assert_eq!(all(json!({"ancestor": [BASE]})), [d, c, b, a]);
    assert_eq!(all(json!({"ancestor": ["droste-test-base"]})), [d, c, b, a]);
    assert_eq!(all(json!({"ancestor": ["nope"]})), Vec::<String>::new());
    assert_eq!(all(json!({"before": [b]})), [a]);
    assert_eq!(all(json!({"since": [b]})), [d, c]);
    assert_eq!(all(json!({"network": ["none"]})), [d]);
    assert_eq!(all(json!({"network": ["bridge"]})), [c, b, a]);
    let published = up.inspect()["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"].as_str().unwrap().to_owned();
    assert_eq!(all(json!({"publish": [published]})), [c], "the port on the host");
    assert_eq!(all(json!({"publish": [format!("{published}/tcp")]})), [c]);
    assert_eq!(all(json!({"publish": ["80"]})), Vec::<String>::new());
    assert_eq!(all(json!({"expose": ["90/udp"]})), [c]);
    assert_eq!(all(json!({"volume": ["/mnt"]})), [c]);
    assert_eq!(all(json!({"health": ["none"]})), [d, c, b, a]);
    assert_eq!(all(json!({"is-task": ["true"]})), Vec::<String>::new());
    let newest = encode(&json!({"label": [label]}).to_string());
    let limited = e.get(&format!("/containers/json?limit=2&filters={newest}"));
    assert_eq!(limited.as_array().unwrap().len(), 2, "a limit implies all");
}

#[test]
fn both_filter_syntaxes() {
    let e = Engine::shared();
    let label = e.name("syntax");
    let c = e.create(labelled(sh("true"), &label));
    for text in [format!(r#"{{"label":["{label}"]}}"#), format!(r#"{{"label":{{"{label}":true}}}}"#), format!(r#"{{"label":{{"{label}=v":true}},"status":{{"created":true}}}}"#)] {
        let filters = encode(&text);
        t!(e, GET "/containers/json?all=1&filters={filters}", 200, ".0.Id" == (c.id));
    }
}

#[test]
fn bad_filters() {
    let e = Engine::shared();
    for (filters, message) in [
        (r#"{"foo":["x"]}"#, "invalid filter 'foo'"),
        (r#"{"status":["nope"]}"#, "invalid filter 'status=nope'"),
        (r#"{"health":["nope"]}"#, "invalid filter 'health=nope'"),
        (r#"{"exited":["x"]}"#, "invalid filter 'exited=x'"),
        (r#"{"is-task":["x"]}"#, "invalid filter 'is-task=[x]'"),
        (r#"{"publish":["x"]}"#, "error while looking up for publish x: "),
        (r#"{"since":["nope"]}"#, "No such container: nope"),
        ("nojson", "invalid filter"),
        ("[1]", "invalid filter"),
    ] {
        let filters = encode(filters);
        let reply = e.request("GET", &format!("/containers/json?filters={filters}")).send();
        reply.check(".message", "has", &json!(message));
        reply.expect_one_of(&[400, 404, 500]);
    }
    t!(e, GET "/containers/json?limit=x", 400 | 500);
}

#[test]
fn query_booleans() {
    let e = Engine::shared();
    let label = e.name("bool");
    let c = e.create(labelled(sh("true"), &label));
    let filters = encode(&json!({"label": [label]}).to_string());
    for yes in ["1", "true", "True", "yes", "anything"] {
        t!(e, GET "/containers/json?all={yes}&filters={filters}", 200, ".0.Id" == (c.id));
    }
    for no in ["0", "false", "FALSE", "no", "none", ""] {
        t!(e, GET "/containers/json?all={no}&filters={filters}", 200, "." == []);
    }
}
