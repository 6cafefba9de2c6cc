//! A container's places on networks: at create, by connect and disconnect in every state, and what can be said of each.

use droste_test_support::container::{idle, sh_with};
use droste_test_support::image::BASE;
use droste_test_support::network::{on, subnet};
use droste_test_support::{Container, Engine, Network, Reply, Value, json, t};

fn connect(e: &Engine, net: &Network, c: &Container, endpoint: Value) -> Reply {
    e.request("POST", &format!("/networks/{net}/connect")).json(&json!({"Container": c.id, "EndpointConfig": endpoint})).send()
}

fn refused(e: &Engine, net: &Network, c: &Container, endpoint: Value, status: u16, words: &str) {
    let reply = connect(e, net, c, endpoint);
    reply.check(".message", "has", &json!(words));
    reply.expect_status(status);
    // Docker keeps the settings of an address that was taken.
    assert!(status == 403 || net.endpoint(c) == json!(null), "nothing is left of it");
}

fn create(e: &Engine, mut body: Value) -> Reply {
    body["Image"] = json!(BASE);
    e.request("POST", &format!("/containers/create?name={}", e.name("c"))).json(&body).send()
}

#[test]
fn a_container_on_a_network_of_its_own() {
    let e = Engine::shared();
    let sub = subnet();
    let net = e.network(json!({"IPAM": {"Config": [{"Subnet": format!("{sub}.0/24"), "IPRange": format!("{sub}.128/25"), "Gateway": format!("{sub}.1")}]}}));
    let mut body = idle();
    body["HostConfig"] = on(&net);
    let c = e.create(body);
    let empty = json!({"IPAMConfig": null, "Links": null, "Aliases": null, "MacAddress": "", "DriverOpts": null, "GwPriority": 0, "NetworkID": "", "EndpointID": "", "Gateway": "", "IPAddress": "",
        "IPPrefixLen": 0, "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "DNSNames": null});
    assert_eq!(c.inspect()["NetworkSettings"]["Networks"], json!({net.name.as_str(): empty}));
    c.start();
    t!(e, GET "/containers/{c}/json", 200, ".HostConfig.NetworkMode" == (net.name), ".NetworkSettings.IPAddress" == "", ".NetworkSettings.Gateway" == "", ".NetworkSettings.MacAddress" == "", ".NetworkSettings.EndpointID" == "");
    let endpoint = net.endpoint(&c);
    assert_eq!(endpoint["DNSNames"], json!([c.name, c.id[..12]]));
    assert_eq!((&endpoint["NetworkID"], &endpoint["Gateway"], &endpoint["IPPrefixLen"]), (&json!(net.id), &json!(format!("{sub}.1")), &json!(24)));
    let address = net.address(&c);
    let last: u8 = address.rsplit('.').next().unwrap().parse().unwrap();
    assert!(address.starts_with(&sub) && last >= 128, "{address} is of the range");
    assert_eq!(
        net.inspect()["Containers"][&c.id],
        json!({"Name": c.name, "EndpointID": endpoint["EndpointID"], "MacAddress": endpoint["MacAddress"], "IPv4Address": format!("{address}/24"), "IPv6Address": ""})
    );
    let route = c.exec(&["ip", "route"]).out;
    assert!(route.contains(&format!("default via {sub}.1 dev eth0")), "{route}");
    let hosts = c.exec(&["cat", "/etc/hosts"]).out;
    assert!(hosts.lines().any(|line| line == format!("{address}\t{}", &c.id[..12])), "{hosts}");
    c.post("/kill", 204);
    c.wait();
    let mut ended = empty.clone();
    (ended["NetworkID"], ended["DNSNames"]) = (json!(net.id), json!([c.name, c.id[..12]]));
    assert_eq!(net.endpoint(&c), ended);
    assert_eq!(net.inspect()["Containers"], json!({}));
}

#[test]
fn connect_and_disconnect_while_it_runs() {
    let e = Engine::shared();
    let (one, two) = (e.network(json!({})), e.network(json!({})));
    let c = e.run(sh_with("sleep 1000", on(&one)));
    t!(e, POST "/networks/{two}/connect" {"Container": (c.name)}, 200, "text" == "");
    let address = two.address(&c);
    let inside = c.exec(&["ip", "-4", "-o", "addr", "show", "eth1"]).out;
    assert!(inside.contains(&format!("{address}/")), "{inside}");
    let hosts = c.exec(&["cat", "/etc/hosts"]).out;
    assert!(hosts.contains(&format!("{address}\t{}", &c.id[..12])), "{hosts}");
    t!(e, POST "/networks/{two}/connect" {"Container": (c.id)}, 403, ".message" == (format!("endpoint with name {} already exists in network {}", c.name, two.name)));
    t!(e, POST "/networks/{two}/disconnect" {"Container": (c.id)}, 200, "text" == "");
    assert_eq!(c.exec(&["ls", "/sys/class/net"]).out, "eth0\nlo\n");
    assert_eq!(two.endpoint(&c), json!(null));
    assert!(!c.exec(&["cat", "/etc/hosts"]).out.contains(&address), "the name's line is gone");
    for force in [false, true] {
        t!(e, POST "/networks/{two}/disconnect" {"Container": (c.id), "Force": (force)}, 500, ".message" == (format!("container {} is not connected to network {}", c.id, two.name)));
    }
    // A second round takes the same name.
    two.connect(&c, json!(null));
    assert_eq!(c.exec(&["ls", "/sys/class/net"]).out, "eth0\neth1\nlo\n");
}

#[test]
fn the_last_network_can_be_left() {
    let e = Engine::shared();
    let net = e.network(json!({}));
    let c = e.run(sh_with("sleep 1000", on(&net)));
    net.disconnect(&c);
    assert_eq!(c.exec(&["ls", "/sys/class/net"]).out, "lo\n");
    t!(e, GET "/containers/{c}/json", 200, ".NetworkSettings.Networks" == {}, ".State.Running" == true);
    net.connect(&c, json!({}));
    assert_eq!(c.exec(&["ls", "/sys/class/net"]).out, "eth0\nlo\n");
}

#[test]
fn the_default_bridge_can_be_left_and_joined() {
    let e = Engine::shared();
    let net = e.network(json!({}));
    let c = e.run(sh_with("sleep 1000", on(&net)));
    t!(e, POST "/networks/bridge/connect" {"Container": (c.id)}, 200);
    t!(e, GET "/containers/{c}/json", 200, ".NetworkSettings.IPAddress" matches r"^\d", ".NetworkSettings.Networks.bridge.DNSNames" == null, ".NetworkSettings.Networks.bridge.NetworkID" is id);
    t!(e, POST "/networks/bridge/disconnect" {"Container": (c.id)}, 200);
    t!(e, GET "/containers/{c}/json", 200, ".NetworkSettings.IPAddress" == "", ".NetworkSettings.Networks.bridge" is absent);
    let settings = "invalid endpoint settings:\n";
    t!(e, POST "/networks/bridge/connect" {"Container": (c.id), "EndpointConfig": {"Aliases": ["x"]}}, 400, ".message" == (format!("{settings}network-scoped alias is supported only for containers in user defined networks")));
    t!(e, POST "/networks/bridge/connect" {"Container": (c.id), "EndpointConfig": {"IPAMConfig": {"IPv4Address": "172.17.0.200"}}}, 400,
        // A Docker that made its bridge itself, and did not find it, has a second objection.
        ".message" has "user specified IP address is supported on user defined networks only");
}

#[test]
fn connect_and_disconnect_while_it_does_not_run() {
    let e = Engine::shared();
    let sub = subnet();
    let (one, two) = (e.network(json!({})), e.network_on(&format!("{sub}.0/24")));
    let c = e.create(sh_with("ip -4 -o addr; sleep 1000", on(&one)));
    two.connect(&c, json!({"IPAMConfig": {"IPv4Address": format!("{sub}.77")}, "Aliases": ["alias"]}));
    let endpoint = two.endpoint(&c);
    assert_eq!((&endpoint["IPAMConfig"], &endpoint["Aliases"], &endpoint["IPAddress"]), (&json!({"IPv4Address": format!("{sub}.77")}), &json!(["alias"]), &json!("")));
    assert_eq!(endpoint["DNSNames"], json!([c.name, "alias", c.id[..12]]));
    c.start();
    c.await_log(&format!("{sub}.77/24"));
    assert_eq!(two.address(&c), format!("{sub}.77"));
    c.post("/pause", 204);
    two.disconnect(&c);
    two.connect(&c, json!({"IPAMConfig": {"IPv4Address": format!("{sub}.78")}}));
    assert_eq!(two.address(&c), format!("{sub}.78"));
    c.post("/unpause", 204);
    c.post("/kill", 204);
    c.wait();
    two.disconnect(&c);
    assert_eq!(two.endpoint(&c), json!(null));
    refused(e, &two, &c, json!({"IPAMConfig": {"IPv4Address": "9.9.9.9"}}), 400, "no configured subnet or ip-range contain the IP address 9.9.9.9");
    refused(e, &two, &c, json!({"MacAddress": "nope"}), 400, "invalid MAC address nope");
}

#[test]
fn who_and_where_must_exist() {
    let e = Engine::shared();
    let net = e.network(json!({}));
    let c = e.run(sh_with("sleep 1000", on(&net)));
    for verb in ["connect", "disconnect"] {
        t!(e, POST "/networks/{net}/{verb}" {"Container": "no-such-container"}, 404, ".message" == "No such container: no-such-container");
        t!(e, POST "/networks/no-such-net/{verb}" {"Container": (c.id)}, 404, ".message" == "network no-such-net not found");
    }
    t!(e, POST "/networks/{net}/disconnect" {"Container": "no-such-container", "Force": true}, 404, ".message" == "endpoint no-such-container not found");
    t!(e, POST "/networks/{net}/connect" {}, 400, ".message" == "invalid name or ID supplied: \"\"");
    t!(e, POST "/networks/{net}/connect", 400, ".message" == "invalid name or ID supplied: \"\"");
    t!(e, POST "/networks/host/connect" {"Container": (c.id)}, 400, ".message" == "cannot connect container to host network - container must be created in host network mode");
    t!(e, POST "/networks/none/connect" {"Container": (c.id)}, 400, ".message" == "container cannot be connected to multiple networks with one of the networks in private (none) mode");
    for mode in ["host", "none"] {
        let other = e.run(sh_with("sleep 1000", json!({"NetworkMode": mode})));
        t!(e, POST "/networks/{net}/connect" {"Container": (other.id)}, 400, ".message" is string);
        t!(e, GET "/containers/{other}/json", 200, ".State.Running" == true);
    }
    let joined = e.run(sh_with("sleep 1000", json!({"NetworkMode": format!("container:{}", c.id)})));
    t!(e, POST "/networks/{net}/connect" {"Container": (joined.id)}, 400, ".message" == "container sharing network namespace with another container or host cannot be connected to any other network");
}

#[test]
fn networks_that_can_not_be_together() {
    let e = Engine::shared();
    let refused = |networks: &[&str], text: &str| {
        let mut body = sh_with("true", json!({"NetworkMode": "bridge"}));
        body["NetworkingConfig"]["EndpointsConfig"] = networks.iter().map(|name| ((*name).to_owned(), json!({}))).collect();
        let c = e.create(body);
        t!(e, POST "/containers/{c}/start", 400, ".message" == (format!("failed to set up container networking: {text}")));
        t!(e, GET "/containers/{c}/json", 200, ".State.Status" == "created");
    };
    let host = "cannot connect container to host network - container must be created in host network mode";
    refused(&["bridge", "host"], host);
    refused(&["host"], host);
    if e.not_on_docker("the order of a map settles whether it takes notice") {
        return;
    }
    refused(&["bridge", "none"], "container cannot be connected to multiple networks with one of the networks in private (none) mode");
}

#[test]
fn addresses_of_ones_own() {
    let e = Engine::shared();
    let sub = subnet();
    let net = e.network_on(&format!("{sub}.0/24"));
    let c = e.run(sh_with("sleep 1000", json!({})));
    let at = |address: &str| json!({"IPAMConfig": {"IPv4Address": address}});
    net.connect(&c, at(&format!("{sub}.50")));
    assert_eq!((net.address(&c), &net.endpoint(&c)["IPAMConfig"]), (format!("{sub}.50"), &json!({"IPv4Address": format!("{sub}.50")})));
    let mut other = sh_with("sleep 1000", on(&net));
    other["NetworkingConfig"] = json!({"EndpointsConfig": {net.name.as_str(): at(&format!("{sub}.50"))}});
    let late = e.create(other);
    t!(e, POST "/containers/{late}/start", 403, ".message" == "failed to set up container networking: Address already in use");
    t!(e, GET "/containers/{late}/json", 200, ".State.Status" == "created");
    net.disconnect(&c);
    t!(e, POST "/containers/{late}/start", 204);
    assert_eq!(net.address(&late), format!("{sub}.50"));
    let settings = "invalid endpoint settings:\n";
    refused(e, &net, &c, at("9.9.9.9"), 400, &format!("{settings}no configured subnet or ip-range contain the IP address 9.9.9.9"));
    refused(e, &net, &c, at("nope"), 400, &format!("{settings}* invalid IPv4 address: nope\n* no configured subnet or ip-range contain the IP address nope"));
    refused(
        e,
        &net,
        &c,
        json!({"IPAMConfig": {"IPv6Address": "fd00::1"}}),
        400,
        &format!("{settings}user specified IP address is supported only when connecting to networks with user configured subnets"),
    );
    let chosen = e.network(json!({}));
    refused(e, &chosen, &c, at("172.18.0.5"), 400, &format!("{settings}user specified IP address is supported only when connecting to networks with user configured subnets"));
    refused(e, &net, &c, at(&format!("{sub}.1")), 403, "Address already in use");
    refused(e, &net, &c, at(&format!("{sub}.0")), 403, "Address already in use");
    refused(e, &net, &c, at(&format!("{sub}.255")), 403, "Address already in use");
}

#[test]
fn addresses_run_out() {
    let e = Engine::shared();
    let sub = subnet();
    let net = e.network_on(&format!("{sub}.0/30"));
    let c = e.run(sh_with("sleep 1000", on(&net)));
    assert_eq!(net.address(&c), format!("{sub}.2"));
    let late = e.create(sh_with("sleep 1000", on(&net)));
    t!(e, POST "/containers/{late}/start", 500 | 403, ".message" has "no available IPv4 addresses on this network's address pools");
    t!(e, GET "/containers/{late}/json", 200, ".State.Status" == "created");
    drop(c);
    late.start();
    assert_eq!(net.address(&late), format!("{sub}.2"));
}

#[test]
fn hardware_addresses() {
    let e = Engine::shared();
    let net = e.network(json!({}));
    let mut body = sh_with("sleep 1000", on(&net));
    body["NetworkingConfig"] = json!({"EndpointsConfig": {net.name.as_str(): {"MacAddress": "02:42:0a:d4:00:99"}}});
    let c = e.run(body);
    assert_eq!(net.endpoint(&c)["MacAddress"], "02:42:0a:d4:00:99");
    assert_eq!(c.exec(&["cat", "/sys/class/net/eth0/address"]).out, "02:42:0a:d4:00:99\n");
    c.post("/kill", 204);
    c.wait();
    c.start();
    assert_eq!(net.endpoint(&c)["MacAddress"], "02:42:0a:d4:00:99");
    let other = e.run(sh_with("sleep 1000", json!({})));
    refused(e, &net, &other, json!({"MacAddress": "nope"}), 400, "invalid MAC address nope");
    // Before 1.44 the address was the container's.
    let reply = t!(e, POST "/v1.43/containers/create" {"Image": BASE, "Cmd": ["true"], "MacAddress": "02:42:0a:d4:00:98", "HostConfig": {"NetworkMode": (net.name)}}, 201);
    let old = Container::adopt(e, reply.json()["Id"].as_str().unwrap());
    assert_eq!(net.endpoint(&old)["MacAddress"], "02:42:0a:d4:00:98");
    let reply = create(e, json!({"Cmd": ["true"], "MacAddress": "nope"}));
    droste_test_support::expect!(reply, 400, ".message" has "invalid MAC");
}

#[test]
fn other_settings_of_an_endpoint() {
    let e = Engine::shared();
    let net = e.network(json!({}));
    let c = e.run(sh_with("sleep 1000", json!({})));
    net.connect(&c, json!({"Aliases": ["one", "two"], "DriverOpts": {"foo": "bar"}, "GwPriority": 7}));
    let endpoint = net.endpoint(&c);
    assert_eq!((&endpoint["Aliases"], &endpoint["DriverOpts"], &endpoint["GwPriority"]), (&json!(["one", "two"]), &json!({"foo": "bar"}), &json!(7)));
    assert_eq!(endpoint["DNSNames"], json!([c.name, "one", "two", c.id[..12]]));
    let route = c.exec(&["ip", "route"]).out;
    assert!(route.contains(&format!("default via {} dev eth1", endpoint["Gateway"].as_str().unwrap())), "the higher priority has the gateway: {route}");
    net.disconnect(&c);
    let route = c.exec(&["ip", "route"]).out;
    assert!(route.contains("dev eth0") && route.starts_with("default via "), "and gives it back: {route}");
    net.connect(&c, json!({"DriverOpts": {"com.docker.network.endpoint.ifname": "front0"}}));
    assert_eq!(c.exec(&["ls", "/sys/class/net"]).out, "eth0\nfront0\nlo\n");
    net.disconnect(&c);
    net.connect(&c, json!({"DriverOpts": {"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1"}}));
    assert_eq!(c.exec(&["cat", "/proc/sys/net/ipv4/conf/eth1/log_martians"]).out, "1\n");
    net.disconnect(&c);
    refused(e, &net, &c, json!({"DriverOpts": {"com.docker.network.endpoint.sysctls": "net.ipv4.conf.eth0.log_martians=1"}}), 400, "unrecognised network interface sysctl");
    net.connect(&c, json!({"IPAMConfig": {"LinkLocalIPs": ["169.254.10.10"]}}));
    let inside = c.exec(&["ip", "-4", "addr", "show", "eth1"]).out;
    assert!(inside.contains("169.254.10.10/16"), "{inside}");
}

#[test]
fn several_networks_at_create() {
    let e = Engine::shared();
    let sub = subnet();
    let (one, two) = (e.network(json!({})), e.network_on(&format!("{sub}.0/24")));
    let mut body = sh_with("sleep 1000", on(&one));
    body["NetworkingConfig"] = json!({"EndpointsConfig": {one.name.as_str(): {"Aliases": ["first"]}, two.name.as_str(): {"Aliases": ["second"], "IPAMConfig": {"IPv4Address": format!("{sub}.9")}, "GwPriority": 3}}});
    let c = e.create(body);
    let networks = c.inspect()["NetworkSettings"]["Networks"].clone();
    assert_eq!(networks.as_object().unwrap().len(), 2);
    assert_eq!((&networks[&one.name]["Aliases"], &networks[&two.name]["Aliases"]), (&json!(["first"]), &json!(["second"])));
    c.start();
    assert_eq!(two.address(&c), format!("{sub}.9"));
    assert_eq!(c.exec(&["ls", "/sys/class/net"]).out, "eth0\neth1\nlo\n");
    let route = c.exec(&["ip", "route"]).out;
    assert!(route.contains(&format!("default via {sub}.1")), "{route}");
    c.post("/restart?t=0", 204);
    assert_eq!(two.address(&c), format!("{sub}.9"), "what was asked for holds at each start");
    let old = e
        .request("POST", "/v1.43/containers/create")
        .json(&json!({"Image": BASE, "Cmd": ["true"], "NetworkingConfig": {"EndpointsConfig": {one.name.as_str(): {}, two.name.as_str(): {}}}}))
        .send();
    droste_test_support::expect!(old, 400, ".message" matches "^Container cannot be created with multiple network endpoints: ");
}

#[test]
fn what_create_refuses() {
    let e = Engine::shared();
    let net = e.network(json!({}));
    let with = |mode: &str, name: &str, endpoint: Value| json!({"Cmd": ["true"], "HostConfig": {"NetworkMode": mode}, "NetworkingConfig": {"EndpointsConfig": {name: endpoint}}});
    droste_test_support::expect!(create(e, with("bridge", "bridge", json!({"Aliases": ["x"]}))), 400, ".message" has "network-scoped alias");
    droste_test_support::expect!(create(e, with(&net.name, &net.name, json!({"MacAddress": "nope"}))), 400, ".message" has "nope");
    droste_test_support::expect!(create(e, with(&net.name, &net.name, json!({"IPAMConfig": {"IPv4Address": "nope"}}))), 400, ".message" has "invalid IPv4 address: nope");
    // A network's id, as a mode, is known under its name.
    let by_id = e.run(sh_with("sleep 1000", json!({"NetworkMode": net.id})));
    t!(e, GET "/containers/{by_id}/json", 200, ".HostConfig.NetworkMode" == (net.id));
    assert!(by_id.inspect()["NetworkSettings"]["Networks"].as_object().unwrap().keys().all(|key| *key == net.name));
}
