//! Connections that the engine makes for a host, and events that it keeps for it.

use droste_test_support::server::Server;
use droste_test_support::{Engine, json};

use crate::{host, inside, sleeper};

/// What only the machine's loopback address serves.
const MARK: &str = "served by the machine";

#[test]
fn the_machines_loopback_is_out_of_reach() {
    let e = Engine::shared();
    let machine = Server::start(e, 0);
    let port = machine.port;
    for path in ["/root.tar", "/v2/", "/v2/x/manifests/1", "/token"] {
        machine.on(path, "200 OK", "Content-Type: application/json\r\n", MARK.as_bytes());
    }
    let (c, h) = host(e, json!({}));
    inside(&c, "echo nameserver 127.0.0.1 > /etc/resolv.conf; echo 127.0.0.1 machine.test >> /etc/hosts; echo 127.0.0.1 own.test >> /etc/hosts");
    // A registry of the host's own, which sends whoever asks on to the machine's.
    let own = Server::start(&h, 0);
    let to = format!("http://127.0.0.1:{port}");
    for path in ["/root.tar", "/v2/", "/v2/x/manifests/1", "/v2/x/tags/list"] {
        own.on(path, "307 Temporary Redirect", &format!("Location: {to}{path}\r\n"), b"");
    }
    for path in ["/v2/y/manifests/1", "/v2/y/tags/list"] {
        own.on(path, "401 Unauthorized", &format!("Www-Authenticate: Bearer realm=\"{to}/token\",service=\"x\"\r\n"), b"");
    }
    let places = ["127.0.0.1", "localhost", "machine.test", "[::1]", "0.0.0.0", "127.1"].map(|name| format!("{name}:{port}"));
    let through = [format!("127.0.0.1:{}", own.port), format!("own.test:{}", own.port)];
    for place in places.iter().chain(&through) {
        for image in ["x", "y"] {
            for (method, target, body) in [
                ("POST", format!("/images/create?fromImage={place}/{image}&tag=1"), None),
                ("POST", format!("/images/create?fromSrc=http://{place}/root.tar"), None),
                ("GET", format!("/distribution/{place}/{image}:1/json"), None),
                ("POST", "/auth".to_owned(), Some(json!({"serveraddress": format!("http://{place}"), "username": "u", "password": "p"}))),
            ] {
                let request = h.request(method, &target);
                let reply = if let Some(body) = &body { request.json(body).send() } else { request.send() };
                let text = reply.text();
                assert!(!text.contains(MARK) && !text.contains("Login Succeeded") && !text.contains("Status\":\"Pulled"), "{target}: {text}");
                assert!(reply.status >= 400 || text.contains("error"), "{target}: {text}");
            }
        }
    }
    // From the machine itself it is there, or this test would prove nothing.
    let imported = e.request("POST", &format!("/images/create?fromSrc={to}/root.tar")).send();
    assert!(!imported.text().contains("refused"), "{}", imported.text());
}

#[test]
fn nothing_is_told_of_before_it_began() {
    let e = Engine::shared();
    let before = e.run(sleeper(json!({})));
    before.exec_create(&json!({"Cmd": ["true"]}));
    let (c, h) = host(e, json!({}));
    let (_s, sibling) = host(e, json!({}));
    let network = sibling.network(json!({}));
    let other = sibling.run(sleeper(json!({})));
    for query in ["since=0", "since=1", "since=-1", "since=9999h", "since=2001-01-01T00:00:00Z", "since=0.000000001"] {
        let reply = h.request("GET", &format!("/events?{query}&until=99999999999")).open();
        // What was so far, and then what comes: an event of the host's own ends the wait.
        let own = h.volume(json!({}));
        let mut reply = reply;
        while let Some(line) = reply.line() {
            for foreign in [&before.id, &c.id, &other.id, &network.id, &before.name, &other.name] {
                assert!(!line.contains(foreign.as_str()), "{query}: {line}");
            }
            if line.contains(&own.name) {
                break;
            }
        }
    }
}
