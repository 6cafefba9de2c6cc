//! Names on networks of one's own: the resolver at 127.0.0.11, what it answers and where it forwards, and links.

use droste_test_support::container::{idle, sh_with};
use droste_test_support::dns::{A, AAAA, PTR, Server};
use droste_test_support::network::{on, subnet};
use droste_test_support::{Container, Engine, Network, Value, json};

fn on_with<'e>(e: &'e Engine, net: &Network, endpoint: Value) -> Container<'e> {
    let mut body = idle();
    body["HostConfig"] = on(net);
    body["NetworkingConfig"] = json!({"EndpointsConfig": {net.name.as_str(): endpoint}});
    e.run(body)
}

fn plain<'e>(e: &'e Engine, net: &Network) -> Container<'e> {
    on_with(e, net, json!({}))
}

#[test]
fn names_aliases_and_short_ids() {
    let e = Engine::shared();
    let net = e.network(json!({}));
    let (asks, named) = (plain(e, &net), on_with(e, &net, json!({"Aliases": ["db", "Mixed"]})));
    let address = net.address(&named);
    for name in [named.name.as_str(), "db", "DB", "mixed", "MIXED", &named.id[..12], "db.", &format!("db.{}", net.name)] {
        assert_eq!(e.addresses(&asks, name), [address.as_str()], "{name}");
    }
    let answer = e.ask(&asks, "db", A);
    assert_eq!((answer.code, answer.cut, answer.records[0].1), (0, false, 600), "Docker's records live ten minutes");
    assert_eq!(e.ask_over_tcp(&asks, "db", A).data(), [address.as_str()]);
    assert_eq!(e.addresses(&named, "db"), [address.as_str()], "its own name too");
    // The name is known, but has no such address.
    let six = e.ask(&asks, "db", AAAA);
    assert_eq!((six.code, six.records.len()), (0, 0));
    let lookup = asks.exec(&["nslookup", "db"]);
    assert!(lookup.code == 0 && lookup.out.contains(&address), "{lookup:?}");
}

#[test]
fn names_of_addresses() {
    let e = Engine::shared();
    let net = e.network(json!({}));
    let (asks, named) = (plain(e, &net), on_with(e, &net, json!({"Aliases": ["db"]})));
    let address = net.address(&named);
    let mut parts: Vec<_> = address.split('.').collect();
    parts.reverse();
    let answer = e.ask(&asks, &format!("{}.in-addr.arpa", parts.join(".")), PTR);
    assert_eq!(answer.data(), [format!("{}.{}", named.name, net.name)]);
}

#[test]
fn ipv6_addresses_of_names() {
    let e = Engine::shared();
    let net = e.network(json!({"EnableIPv6": true}));
    let (asks, named) = (plain(e, &net), plain(e, &net));
    let six = net.endpoint(&named)["GlobalIPv6Address"].as_str().unwrap().to_owned();
    assert_eq!(e.ask(&asks, &named.name, AAAA).data(), [six.as_str()]);
    assert_eq!(e.ask(&asks, &named.name, A).data(), [net.address(&named).as_str()]);
}

#[test]
fn what_is_not_on_the_same_network_is_unknown() {
    let e = Engine::shared();
    let (one, two) = (e.network(json!({})), e.network(json!({})));
    let (asks, other) = (plain(e, &one), plain(e, &two));
    assert_eq!(e.addresses(&asks, &other.name), Vec::<String>::new());
    two.connect(&asks, json!(null));
    assert_eq!(e.addresses(&asks, &other.name), [two.address(&other)]);
    two.disconnect(&asks);
    assert_eq!(e.addresses(&asks, &other.name), Vec::<String>::new());
    // Connected late, with an alias of its own there.
    one.connect(&other, json!({"Aliases": ["late"]}));
    assert_eq!(e.addresses(&asks, "late"), [one.address(&other)]);
    assert_eq!(e.addresses(&asks, &other.name), [one.address(&other)]);
}

#[test]
fn one_alias_for_several_is_answered_in_turn() {
    let e = Engine::shared();
    let net = e.network(json!({}));
    let asks = plain(e, &net);
    let workers: Vec<_> = (0..3).map(|_| on_with(e, &net, json!({"Aliases": ["worker"]}))).collect();
    let mut wanted: Vec<_> = workers.iter().map(|worker| net.address(worker)).collect();
    wanted.sort();
    let mut firsts = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let mut addresses = e.addresses(&asks, "worker");
        firsts.insert(addresses[0].clone());
        addresses.sort();
        assert_eq!(addresses, wanted);
    }
    assert!(firsts.len() > 1, "another one is first at times");
}

#[test]
fn who_is_gone_is_answered_no_more() {
    let e = Engine::shared();
    let net = e.network(json!({}));
    let (asks, one, two) = (plain(e, &net), on_with(e, &net, json!({"Aliases": ["svc"]})), on_with(e, &net, json!({"Aliases": ["svc"]})));
    let (first, second) = (net.address(&one), net.address(&two));
    assert_eq!(e.addresses(&asks, "svc").len(), 2);
    one.post("/kill", 204);
    one.wait();
    assert_eq!(e.addresses(&asks, "svc"), [second.as_str()]);
    assert_eq!(e.addresses(&asks, &one.name), Vec::<String>::new());
    one.start();
    assert_eq!(e.addresses(&asks, "svc").len(), 2);
    assert_eq!(net.address(&one), first, "the lowest free address is taken again");
    net.disconnect(&two);
    assert_eq!(e.addresses(&asks, "svc"), [first.as_str()]);
    let new = e.name("renamed");
    one.post(&format!("/rename?name={new}"), 204);
    assert_eq!(e.addresses(&asks, &new), [first.as_str()]);
    assert_eq!(e.addresses(&asks, &one.name), Vec::<String>::new(), "the old name is gone");
    assert_eq!(net.endpoint(&one)["DNSNames"], json!([new, "svc", one.id[..12]]));
}

#[test]
fn what_is_unknown_goes_to_the_resolver_that_was_given() {
    let e = Engine::shared();
    let sub = subnet();
    let net = e.network_on(&format!("{sub}.0/24"));
    let upstream = on_with(e, &net, json!({"IPAMConfig": {"IPv4Address": format!("{sub}.53")}}));
    let server = Server::in_container(e, &upstream, &[("far.example", [192, 0, 2, 1]), ("big.example", [192, 0, 2, 2]), ("searched.corp.example", [192, 0, 2, 3])]);
    let mut body = idle();
    body["HostConfig"] = json!({"NetworkMode": net.name, "Dns": [format!("{sub}.53")], "DnsSearch": ["corp.example"], "DnsOptions": ["ndots:2"]});
    let c = e.run(body);
    let resolv = c.exec(&["cat", "/etc/resolv.conf"]).out;
    for line in ["nameserver 127.0.0.11", "search corp.example", "options ndots:2"] {
        assert!(resolv.lines().any(|l| l == line), "{line:?} in {resolv}");
    }
    let answer = e.ask(&c, "far.example", A);
    assert_eq!((answer.data(), answer.records[0].1), (vec!["192.0.2.1"], 77));
    assert_eq!(e.ask_over_tcp(&c, "far.example", A).data(), ["192.0.2.1"]);
    assert_eq!(e.ask(&c, "nobody.example", A).code, 3);
    // A cut answer is passed on, and the client asks again over TCP.
    let cut = e.ask(&c, "big.example", A);
    assert!(cut.cut || cut.data() == ["192.0.2.2"], "{cut:?}");
    assert_eq!(e.ask_over_tcp(&c, "big.example", A).data(), ["192.0.2.2"]);
    let asked = server.asked();
    assert!(asked.iter().any(|q| q == "tcp A big.example") && asked.iter().any(|q| q == "udp A far.example"), "{asked:?}");
    let lookup = c.exec(&["nslookup", "searched"]);
    assert!(lookup.out.contains("192.0.2.3"), "{lookup:?}");
    // Names of containers never leave.
    assert_eq!(e.addresses(&c, &upstream.name), [format!("{sub}.53")]);
    assert!(!server.asked().iter().any(|q| q.contains(&upstream.name)), "{:?}", server.asked());
}

#[test]
fn a_network_without_a_way_out_still_has_names() {
    let e = Engine::shared();
    let net = e.network(json!({"Internal": true}));
    let (asks, named) = (plain(e, &net), plain(e, &net));
    assert_eq!(e.addresses(&asks, &named.name), [net.address(&named)]);
    assert_eq!(asks.exec(&["ip", "route"]).out.matches("default").count(), 0);
}

#[test]
fn the_resolver_is_in_every_container_of_the_network() {
    let e = Engine::shared();
    let net = e.network(json!({}));
    let c = e.run(sh_with("cat /etc/resolv.conf; sleep 1000", on(&net)));
    c.await_log("ndots");
    let resolv = c.logs().0;
    assert!(resolv.lines().any(|line| line == "nameserver 127.0.0.11"), "{resolv}");
    assert!(resolv.lines().any(|line| line == "options ndots:0"), "{resolv}");
    assert_eq!(resolv.matches("nameserver ").count(), 1, "{resolv}");
    // Joining the container's network brings its resolver with it.
    let joined = e.run(sh_with("cat /etc/resolv.conf; sleep 1000", json!({"NetworkMode": format!("container:{}", c.id)})));
    joined.await_log("nameserver 127.0.0.11");
    assert_eq!(e.addresses(&joined, &c.name), [net.address(&c)]);
    // On the default bridge there is none, and no name.
    let bridge = e.run(sh_with("cat /etc/resolv.conf; sleep 1000", json!({})));
    assert!(!bridge.exec(&["cat", "/etc/resolv.conf"]).out.contains("127.0.0.11"));
}

#[test]
fn restarted_it_knows_all_again() {
    let e = Engine::shared();
    let net = e.network(json!({}));
    let (asks, named) = (plain(e, &net), plain(e, &net));
    asks.post("/restart?t=0", 204);
    assert_eq!(e.addresses(&asks, &named.name), [net.address(&named)]);
}

#[test]
fn a_link_on_a_network_may_mean_somebody_later() {
    let e = Engine::shared();
    let net = e.network(json!({}));
    let late = e.name("late");
    let mut config = on(&net);
    config["Links"] = json!([format!("{late}:friend")]);
    let mut body = sh_with("sleep 1000", config);
    body["NetworkingConfig"] = json!({"EndpointsConfig": {net.name.as_str(): {"Links": [format!("{late}:friend")]}}});
    let c = e.run(body);
    assert_eq!(e.addresses(&c, "friend"), Vec::<String>::new(), "nobody is there yet");
    let friend = e.create_named(&late, sh_with("sleep 1000", on(&net)));
    friend.start();
    assert_eq!(e.addresses(&c, "friend"), [net.address(&friend)]);
}

#[test]
fn links_on_a_network_are_names_for_one_alone() {
    let e = Engine::shared();
    let net = e.network(json!({}));
    let (named, other) = (plain(e, &net), plain(e, &net));
    let asks = on_with(e, &net, json!({"Links": [format!("{}:linked", named.name)]}));
    assert_eq!(net.endpoint(&asks)["Links"], json!([format!("{}:linked", named.name)]));
    assert_eq!(e.addresses(&asks, "linked"), [net.address(&named)]);
    assert_eq!(e.addresses(&other, "linked"), Vec::<String>::new());
}

#[test]
fn links_on_the_default_bridge_are_lines_and_variables() {
    let e = Engine::shared();
    let mut body = idle();
    body["ExposedPorts"] = json!({"80/tcp": {}});
    body["Env"] = json!(["COLOUR=red"]);
    let target = e.run(body);
    let address = target.inspect()["NetworkSettings"]["IPAddress"].as_str().unwrap().to_owned();
    let c = e.run(sh_with("cat /etc/hosts; env; sleep 1000", json!({"Links": [format!("{}:other", target.name)]})));
    c.await_log("PATH");
    let out = c.exec(&["sh", "-c", "cat /etc/hosts; env"]).out;
    assert!(out.lines().any(|line| line == format!("{address}\tother {} {}", &target.id[..12], target.name)), "{out}");
    for line in [
        format!("OTHER_PORT=tcp://{address}:80"),
        format!("OTHER_PORT_80_TCP=tcp://{address}:80"),
        format!("OTHER_PORT_80_TCP_ADDR={address}"),
        "OTHER_PORT_80_TCP_PORT=80".to_owned(),
        "OTHER_PORT_80_TCP_PROTO=tcp".to_owned(),
        format!("OTHER_NAME=/{}/other", c.name),
        "OTHER_ENV_COLOUR=red".to_owned(),
    ] {
        assert!(c.logs().0.lines().any(|l| l == line), "{line} in {}", c.logs().0);
    }
    assert_eq!(c.inspect()["HostConfig"]["Links"], json!([format!("/{}:/{}/other", target.name, c.name)]));
    let renamed = e.name("renamed");
    e.request("POST", &format!("/containers/{}/rename?name={renamed}", target.id)).send().expect_status(204);
    assert_eq!(c.inspect()["HostConfig"]["Links"], json!([format!("/{renamed}:/{}/other", c.name)]));
    e.refuses(sh_with("true", json!({"Links": ["no-such-container:x"]})), "could not get container for no-such-container");
}
