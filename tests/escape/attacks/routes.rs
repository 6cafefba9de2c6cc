//! Every route that names an object, with every name of everybody else's: the answer is byte for byte that for an object
//! which does not exist. The route table itself is walked, and each operation must say here how it is asked.

use droste_api::routes::{Answer, Effect, Object, Operation, ROUTES, Route};
use droste_api::version::CURRENT;
use droste_test_support::container::sh_with;
use droste_test_support::image::Image;
use droste_test_support::{Container, Engine, Reply, Value, json};

use crate::{host, inside, sleeper};

/// Registries are looked up where nobody answers, so that no test waits for that.
const NO_SERVERS: &str = "echo nameserver 127.0.0.1 > /etc/resolv.conf";

/// What a request for an operation is made of but its path: a query and a body.
type Ask = (&'static str, Option<Value>);

/// How an operation is asked. Without a wildcard, so that a new operation is decided here.
fn ask(operation: Operation) -> Ask {
    use Operation as O;
    match operation {
        O::ArchiveStat | O::ArchiveGet => ("?path=/etc", None),
        O::ArchivePut => ("?path=/tmp", None),
        O::ContainerRename => ("?name=another-name", None),
        O::ContainerResize | O::ExecResize => ("?h=1&w=1", None),
        O::ContainerLogs => ("?stdout=1", None),
        O::ContainerStats => ("?stream=0", None),
        O::ContainerAttach | O::ContainerAttachWebsocket => ("?stream=1&stdout=1", None),
        O::ContainerUpdate => ("", Some(json!({"Memory": 100_000_000}))),
        O::ExecCreate => ("", Some(json!({"Cmd": ["true"]}))),
        O::ExecStart => ("", Some(json!({"Detach": true}))),
        O::ContainerDelete | O::ImageDelete | O::VolumeDelete => ("?force=0", None),
        O::ImageTag => ("?repo=stolen&tag=1", None),
        O::ImagePush => ("?tag=latest", None),
        O::NetworkConnect | O::NetworkDisconnect => ("", Some(json!({"Container": "OWN"}))),
        O::ContainerInspect | O::ContainerTop | O::ContainerChanges | O::ContainerExport | O::ContainerStart | O::ContainerStop | O::ContainerRestart => ("", None),
        O::ContainerKill | O::ContainerPause | O::ContainerUnpause | O::ContainerWait | O::ExecInspect | O::ImageInspect | O::ImageHistory | O::ImageSave => ("", None),
        O::NetworkInspect | O::NetworkDelete | O::VolumeInspect | O::VolumeUpdate | O::DistributionInspect => ("", None),
        // They name nothing in their paths; what their queries and bodies name is in `references` and in `fields`.
        O::ContainerList | O::ContainerCreate | O::ContainerPrune | O::ImageList | O::ImageCreate | O::ImagePrune | O::ImageSaveMany | O::ImageLoad | O::ImageCommit => ("", None),
        O::NetworkList | O::NetworkCreate | O::NetworkPrune | O::VolumeList | O::VolumeCreate | O::VolumePrune | O::BuildPrune => ("", None),
        O::Ping | O::Version | O::Info | O::Events | O::Auth | O::DiskUsage => ("", None),
        O::DrosteHost => ("", None),
        O::DrosteHostLimits => ("", Some(json!({"containers": 5}))),
        // Not even the list of what is below tells of what is above: `nothing_above_is_listed`.
        O::DrosteTree | O::DrosteContainers | O::DrosteEvents | O::DrosteHosts => ("", None),
    }
}

/// Whether a host may do it to itself.
fn may_itself(operation: Operation) -> bool {
    use Operation as O;
    matches!(operation, O::ContainerInspect | O::ArchiveStat | O::ArchiveGet | O::ArchivePut | O::ContainerStats | O::ContainerTop | O::ContainerLogs)
}

/// Objects that are named elsewhere than in a path: method, target and body, with `REF` for the name.
fn references(object: Object) -> Vec<(&'static str, &'static str, Option<Value>)> {
    let sh = || json!({"Image": "droste-test-base", "Cmd": ["true"]});
    let with = |key: &str, value: Value| Some(json!({"Image": "droste-test-base", "Cmd": ["true"], "HostConfig": {key: value}}));
    match object {
        Object::Container => vec![
            ("POST", "/commit?container=REF&repo=stolen", None),
            ("POST", "/networks/NET/connect", Some(json!({"Container": "REF"}))),
            ("POST", "/networks/NET/disconnect", Some(json!({"Container": "REF"}))),
            ("GET", "/containers/json?all=1&filters={\"id\":[\"REF\"]}", None),
            ("GET", "/containers/json?all=1&filters={\"name\":[\"REF\"]}", None),
            ("GET", "/containers/json?all=1&filters={\"before\":[\"REF\"]}", None),
            ("GET", "/containers/json?all=1&filters={\"since\":[\"REF\"]}", None),
            ("GET", "/events?since=1&until=2&filters={\"container\":[\"REF\"]}", None),
            ("POST", "/containers/create", with("VolumesFrom", json!(["REF"]))),
            ("POST", "/containers/create", with("Links", json!(["REF:x"]))),
            ("POST", "/containers/create", with("PidMode", json!("container:REF"))),
            ("POST", "/containers/create", with("IpcMode", json!("container:REF"))),
            ("START", "/containers/create", with("NetworkMode", json!("container:REF"))),
        ],
        Object::Image => vec![
            ("GET", "/images/get?names=REF", None),
            ("GET", "/images/json?filters={\"reference\":[\"REF\"]}", None),
            ("GET", "/images/json?filters={\"before\":[\"REF\"]}", None),
            ("GET", "/images/json?filters={\"since\":[\"REF\"]}", None),
            ("GET", "/containers/json?all=1&filters={\"ancestor\":[\"REF\"]}", None),
            ("POST", "/containers/create", Some(json!({"Image": "REF", "Cmd": ["true"]}))),
            ("POST", "/containers/create", with("Mounts", json!([{"Type": "image", "Source": "REF", "Target": "/m"}]))),
        ],
        Object::Network => vec![
            ("GET", "/networks?filters={\"id\":[\"REF\"]}", None),
            ("GET", "/networks?filters={\"name\":[\"REF\"]}", None),
            ("GET", "/containers/json?all=1&filters={\"network\":[\"REF\"]}", None),
            ("START", "/containers/create", with("NetworkMode", json!("REF"))),
            ("START", "/containers/create", {
                let mut body = sh();
                body["NetworkingConfig"] = json!({"EndpointsConfig": {"REF": {}}});
                body["HostConfig"] = json!({"NetworkMode": "REF"});
                Some(body)
            }),
        ],
        Object::Volume => vec![("GET", "/volumes?filters={\"name\":[\"REF\"]}", None), ("GET", "/containers/json?all=1&filters={\"volume\":[\"REF\"]}", None)],
        Object::Exec | Object::None | Object::Other => Vec::new(),
    }
}

/// A name of somebody else's, and one of the same length that is nobody's.
struct Names(Object, Vec<(String, String)>);

/// The same text with other letters and digits.
fn absent(name: &str) -> String {
    if let Some(repository) = name.strip_suffix(":latest") {
        return absent(repository) + ":latest";
    }
    let (head, rest) = name.split_at(name.find("sha256:").map_or(0, |at| at + 7));
    let other = |c: char| match c {
        '0'..='9' => char::from(b'9' - (c as u8 - b'0')),
        'a'..='f' => char::from(b'f' - (c as u8 - b'a')),
        'g'..='z' => char::from(b'z' - (c as u8 - b'g')),
        other => other,
    };
    head.to_owned() + &rest.chars().map(other).collect::<String>()
}

fn names(object: Object, of: &[&str]) -> Names {
    let mut all: Vec<String> = of.iter().map(|name| (*name).to_owned()).collect();
    for name in of {
        let bare = name.strip_prefix("sha256:").unwrap_or(name);
        if bare.len() == 64 {
            all.extend([bare[..12].to_owned(), bare[..20].to_owned(), bare[..6].to_owned()]);
        }
    }
    Names(object, all.iter().map(|name| (name.clone(), absent(name))).collect())
}

/// Everything in a reply that a client sees, without the name that it sent itself.
fn seen(reply: &Reply, name: &str) -> (u16, Vec<(String, String)>, String) {
    let headers = reply.headers.iter().filter(|(key, _)| key != "Date").cloned().collect();
    let repository = name.split(['@', ':']).next().filter(|part| part.len() > 8).unwrap_or(name);
    let digest = name.rsplit(':').next().filter(|part| part.len() == 64).unwrap_or(name);
    (reply.status, headers, reply.text().replace(name, "NAME").replace(repository, "NAME").replace(digest, "NAME"))
}

fn send(h: &Engine, method: &str, target: &str, body: Option<&Value>) -> Reply {
    let start = method == "START";
    let mut request = h.request(if start { "POST" } else { method }, target);
    if target.contains("/attach/ws") {
        request = request.header("Connection", "Upgrade").header("Upgrade", "websocket");
        request = request.header("Sec-WebSocket-Version", "13").header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    }
    let reply = match body {
        Some(body) => request.json(body).send(),
        None => request.send(),
    };
    if start && reply.status == 201 {
        let id = reply.json()["Id"].as_str().unwrap().to_owned();
        let made = Container::adopt(h, &id);
        let mut started = h.request("POST", &format!("/containers/{made}/start")).send();
        // The reply of a start names the container that was made.
        started.body = started.text().replace(&id, "MADE").into_bytes();
        return started;
    }
    reply
}

/// Compares the answers for everybody else's names with those for nobody's. `own` and `net` are the host's.
fn walk(h: &Engine, own: &str, net: &str, foreign: &[Names]) {
    let mut compared = 0;
    let mut compare = |method: &str, target: &str, body: Option<&Value>, (there, nowhere): &(String, String)| {
        let answer = |name: &String| {
            let fill = |text: &str| text.replace("REF", name).replace("OWN", own).replace("NET", net);
            let body = body.map(|body| serde_text(&fill(&body.to_string())));
            seen(&send(h, method, &fill(target), body.as_ref()), name)
        };
        assert_eq!(answer(there), answer(nowhere), "{method} {target} {body:?} with {there} and {nowhere}");
        compared += 1;
    };
    for Names(object, pairs) in foreign {
        for route in ROUTES.iter().filter(|route| route.object == *object) {
            let (query, body) = asked(route);
            let (before, rest) = route.pattern.split_once('{').expect("a route with an object names it");
            let after = rest.split_once('}').unwrap().1.replace("{checkpoint}", "x");
            let target = format!("{before}REF{after}{query}");
            pairs.iter().for_each(|pair| compare(route.method.as_str(), &target, body.as_ref(), pair));
        }
        for (method, target, body) in references(*object) {
            pairs.iter().for_each(|pair| compare(method, target, body.as_ref(), pair));
        }
    }
    assert!(compared > 100, "{compared}");
}

fn serde_text(text: &str) -> Value {
    text.parse().unwrap()
}

fn asked(route: &Route) -> Ask {
    match route.answer {
        Answer::Does(operation) => ask(operation),
        // What is answered without a look at any object is the same for all.
        Answer::Later(_) | Answer::NoSwarm | Answer::NoPlugins => ("", None),
    }
}

/// What somebody has: a container, its exec, a network, a volume and an image.
struct Belongings<'e> {
    container: Container<'e>,
    exec: String,
    network: droste_test_support::Network<'e>,
    volume: droste_test_support::Volume<'e>,
    image: (String, String),
}

fn belongings<'e>(h: &'e Engine, hint: &str) -> Belongings<'e> {
    let container = h.run(sleeper(json!({"IpcMode": "shareable"})));
    let exec = container.exec_create(&json!({"Cmd": ["true"]}));
    let repo = h.name(hint);
    let reply = h.request("POST", &format!("/commit?container={container}&repo={repo}&tag=latest&comment={hint}")).send();
    reply.expect_status(201);
    let id = reply.json()["Id"].as_str().unwrap().to_owned();
    Belongings { container, exec, network: h.network(json!({})), volume: h.volume(json!({})), image: (repo, id) }
}

impl Belongings<'_> {
    fn names(&self) -> Vec<Names> {
        let (repo, image) = (&self.image.0, &self.image.1);
        vec![
            names(Object::Container, &[&self.container.id, &self.container.name, &format!("/{}", self.container.name)[1..]]),
            names(Object::Exec, &[&self.exec]),
            names(Object::Network, &[&self.network.id, &self.network.name]),
            names(Object::Volume, &[&self.volume.name]),
            names(Object::Image, &[repo, &format!("{repo}:latest"), image, &format!("{repo}@{image}")]),
        ]
    }
}

#[test]
fn objects_of_others_are_as_if_they_were_not_there() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    inside(&c, NO_SERVERS);
    let (_s, sibling) = host(e, json!({}));
    let (own, net) = (h.run(sleeper(json!({}))), h.network(json!({})));
    // The machine's images are a host's to see; all else of the machine's is not.
    let of_machine = belongings(e, "machine");
    let mut foreign: Vec<Names> = of_machine.names().into_iter().filter(|names| names.0 != Object::Image).collect();
    let of_sibling = belongings(&sibling, "sibling");
    foreign.extend(of_sibling.names());
    // What is on a host of one's own is not one's own either.
    let below = h.run(sh_with("exec sleep 100000", json!({"Binds": [crate::SOCKET]})));
    let child = h.host_of(&below);
    let of_child = belongings(&child, "child");
    foreign.extend(of_child.names());
    foreign.push(names(Object::Container, &[&_s.id, &_s.name]));
    walk(&h, &own.id, &net.name, &foreign);
}

#[test]
fn a_parents_objects_are_as_if_they_were_not_there() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    let below = h.run(sh_with("exec sleep 100000", json!({"Binds": [crate::SOCKET]})));
    let child = h.host_of(&below);
    inside(&below, NO_SERVERS);
    let (own, net) = (child.run(sleeper(json!({}))), child.network(json!({})));
    let of_parent = belongings(&h, "parent");
    let mut foreign: Vec<Names> = of_parent.names().into_iter().filter(|names| names.0 != Object::Image).collect();
    foreign.push(names(Object::Container, &[&c.id, &c.name]));
    walk(&child, &own.id, &net.name, &foreign);
}

#[test]
fn images_that_are_not_inherited_are_as_if_they_were_not_there() {
    let e = Engine::shared();
    let image = Image::new(e, &[]);
    let digest = e.get(&format!("/images/{image}/json"))["RepoDigests"][0].as_str().map(str::to_owned);
    let mut body = sh_with("exec sleep 100000", json!({"Binds": [crate::SOCKET]}));
    body["Labels"] = json!({"droste.images": "isolated"});
    let c = e.run(body);
    let h = e.host_of(&c);
    inside(&c, NO_SERVERS);
    let mut known = vec![image.name.clone(), image.repo.clone(), image.id.clone(), format!("{}@{}", image.repo, image.id)];
    known.extend(digest);
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    walk(&h, &c.id, "bridge", &[names(Object::Image, &known)]);
}

#[test]
fn a_host_changes_nothing_of_itself() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    let before = e.get(&format!("/containers/{c}/json"));
    for route in ROUTES.iter().filter(|route| route.object == Object::Container) {
        let Answer::Does(operation) = route.answer else { continue };
        let (query, body) = ask(operation);
        for name in [c.id.as_str(), &c.id[..12], &c.name] {
            let target = route.pattern.replace("{name}", name).replace("{path:.*}", name);
            let reply = send(&h, route.method.as_str(), &format!("{target}{query}"), body.as_ref());
            if !may_itself(operation) {
                assert_eq!(reply.status, 409, "{operation:?} by {name}: {reply:?}");
            }
        }
    }
    for (target, body) in [("/commit?container=SELF", None), ("/networks/bridge/disconnect", Some(json!({"Container": "SELF", "Force": true})))] {
        let body = body.map(|body| serde_text(&body.to_string().replace("SELF", &c.id)));
        let reply = send(&h, "POST", &target.replace("SELF", &c.id), body.as_ref());
        assert!(reply.status >= 400, "{target}: {reply:?}");
    }
    let after = e.get(&format!("/containers/{c}/json"));
    for part in ["Name", "State", "Config", "HostConfig", "NetworkSettings"] {
        assert_eq!(before[part], after[part], "{part}");
    }
}

/// A socket that only looks refuses every route that changes, before it looks at anything.
#[test]
fn a_socket_that_looks_changes_nothing() {
    let e = Engine::shared();
    let victim = e.run(sleeper(json!({})));
    let mut body = sh_with("exec sleep 100000", json!({"Binds": [crate::SOCKET]}));
    body["Labels"] = json!({"droste.socket": "parent-ro"});
    let c = e.run(body);
    let h = e.host_of(&c);
    for route in ROUTES.iter().filter(|route| route.effect == Effect::Changes && route.since <= CURRENT) {
        let (query, body) = asked(route);
        let path = route.pattern.split('/').map(|part| if part.starts_with('{') { victim.id.as_str() } else { part }).collect::<Vec<_>>().join("/");
        let reply = send(&h, route.method.as_str(), &format!("{path}{query}"), body.as_ref());
        assert_eq!(reply.status, 403, "{} {path}: {reply:?}", route.method.as_str());
    }
    // What it is shown it can't pass on: nothing may be created, whatever grant is asked for.
    for grant in ["own", "parent", "parent-ro"] {
        let mut body = sleeper(json!({"Binds": [crate::SOCKET]}));
        body["Labels"] = json!({"droste.socket": grant});
        assert_eq!(crate::attempt(&h, body).status, 403);
    }
    assert_eq!(victim.inspect()["State"]["Status"], "running");
}

/// Lists and drawings of all levels begin at the host that asks.
#[test]
fn nothing_above_is_listed() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    let (_s, sibling) = host(e, json!({}));
    let foreign = [belongings(e, "machine").container, belongings(&sibling, "sibling").container];
    for target in [
        "/droste/tree",
        "/droste/hosts",
        "/droste/containers/json?all=1",
        "/droste/events?since=0&until=1",
        "/containers/json?all=1",
        "/networks",
        "/volumes",
        "/system/df",
        "/info",
    ] {
        let text = h.request("GET", target).send().text();
        for other in &foreign {
            assert!(!text.contains(&other.id) && !text.contains(&other.name), "{target}: {text}");
        }
        assert!(!text.contains(&_s.id) && !text.contains(&_s.name), "{target}: {text}");
    }
    drop(c);
}
