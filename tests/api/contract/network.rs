//! Networks of containers: the default bridge, published ports, modes, and the files in `/etc`.

use std::net::{TcpListener, UdpSocket};

use droste_test_support::container::{idle, sh, sh_with};
use droste_test_support::{Container, Engine, Value, json, t};

/// A container that answers each TCP connection to its port 80 with one line.
fn server<'e>(e: &'e Engine, line: &str, bindings: Value) -> Container<'e> {
    let mut body = sh_with(&format!("trap 'exit 0' TERM; nc -ll -p 80 -e echo {line} & echo up; wait"), json!({"PortBindings": bindings}));
    body["ExposedPorts"] = json!({"80/tcp": {}});
    let c = e.run(body);
    c.await_log("up");
    while c.exec(&["sh", "-c", "grep -q ':0050 .* 0A' /proc/net/tcp /proc/net/tcp6"]).code != 0 {}
    c
}

fn port(c: &Container, key: &str) -> u16 {
    let inspect = c.inspect();
    let text = inspect["NetworkSettings"]["Ports"][key][0]["HostPort"].as_str().unwrap_or_else(|| panic!("{}", inspect["NetworkSettings"])).to_owned();
    text.parse().unwrap()
}

#[test]
fn the_default_bridge() {
    let e = Engine::shared();
    let c = e.run(idle());
    let gateway = e.get("/networks/bridge")["IPAM"]["Config"][0]["Gateway"].clone();
    let reply = t!(e, GET "/containers/{c}/json", 200, ".NetworkSettings.IPAddress" matches r"^\d+\.\d+\.\d+\.\d+$", ".NetworkSettings.Gateway" == gateway, ".NetworkSettings.IPPrefixLen" == 16,
        ".NetworkSettings.MacAddress" matches "^([0-9a-f]{2}:){5}[0-9a-f]{2}$", ".NetworkSettings.SandboxID" is id, ".NetworkSettings.SandboxKey" is string, ".NetworkSettings.Ports" == {},
        ".NetworkSettings.Networks.bridge.NetworkID" is id, ".NetworkSettings.Networks.bridge.EndpointID" is id, ".NetworkSettings.Networks.bridge.Aliases" == null,
        ".NetworkSettings.Networks.bridge.DNSNames" == null, ".NetworkSettings.Networks.bridge.Gateway" == gateway, ".NetworkSettings.Bridge" == "", ".NetworkSettings.HairpinMode" == false);
    let settings = &reply.json()["NetworkSettings"];
    let address = settings["IPAddress"].as_str().unwrap().to_owned();
    assert_eq!(settings["Networks"]["bridge"]["IPAddress"], address.as_str());
    let inside = c.exec(&["ip", "-4", "-o", "addr", "show", "eth0"]).out;
    assert!(inside.contains(&format!("{address}/16")), "{inside}");
    let route = c.exec(&["ip", "route"]).out;
    assert!(route.contains(&format!("default via {} dev eth0", gateway.as_str().unwrap())), "{route}");
    let link = c.exec(&["ip", "link", "show", "eth0"]).out;
    assert!(link.contains(settings["MacAddress"].as_str().unwrap()), "{link}");
    assert!(c.exec(&["ip", "-o", "addr", "show", "lo"]).out.contains("127.0.0.1/8"));
    let on_bridge = e.get("/networks/bridge")["Containers"][&c.id].clone();
    assert_eq!((on_bridge["Name"].as_str(), on_bridge["IPv4Address"].as_str()), (Some(c.name.as_str()), Some(format!("{address}/16").as_str())));
    c.post("/stop?t=30", 204);
    t!(e, GET "/containers/{c}/json", 200, ".NetworkSettings.IPAddress" == "", ".NetworkSettings.SandboxID" == "", ".NetworkSettings.Networks.bridge.IPAddress" == "");
}

#[test]
fn containers_reach_each_other() {
    let e = Engine::shared();
    let one = server(e, "hello", json!({}));
    let address = one.inspect()["NetworkSettings"]["IPAddress"].as_str().unwrap().to_owned();
    assert_eq!(e.output(&format!("nc {address} 80 </dev/null"), json!({})), "hello\n");
    assert_eq!(e.read_port(&address, 80).unwrap(), "hello\n");
}

#[test]
fn published_ports() {
    let e = Engine::shared();
    let c = server(e, "published", json!({"80/tcp": [{"HostIp": "", "HostPort": ""}]}));
    let number = port(&c, "80/tcp");
    assert!(number >= 1024);
    t!(e, GET "/containers/{c}/json", 200, ".NetworkSettings.Ports.80/tcp.0.HostIp" == "0.0.0.0", ".HostConfig.PortBindings.80/tcp.0.HostPort" == "");
    assert_eq!(e.read_port("127.0.0.1", number).unwrap(), "published\n");
    let gateway = e.get("/networks/bridge")["IPAM"]["Config"][0]["Gateway"].as_str().unwrap().to_owned();
    assert_eq!(e.read_port(&gateway, number).unwrap(), "published\n");
    assert_eq!(e.output(&format!("nc {gateway} {number} </dev/null"), json!({})), "published\n", "from another container");
    c.post("/kill", 204);
    c.wait();
    assert!(e.read_port("127.0.0.1", number).is_err(), "the port is free again");
    t!(e, GET "/containers/{c}/json", 200, ".NetworkSettings.Ports" == {});
}

#[test]
fn published_on_ipv6_loopback() {
    let e = Engine::shared();
    let c = server(e, "six", json!({"80/tcp": [{}]}));
    let inspect = c.inspect();
    let bindings = inspect["NetworkSettings"]["Ports"]["80/tcp"].as_array().unwrap().clone();
    if let Some(six) = bindings.iter().find(|b| b["HostIp"] == "::") {
        let number = six["HostPort"].as_str().unwrap().parse().unwrap();
        assert_eq!(e.read_port("::1", number).unwrap(), "six\n");
    } else {
        assert!(!std::path::Path::new("/proc/net/if_inet6").exists(), "{bindings:?}");
    }
}

#[test]
fn a_port_given_is_the_port_taken() {
    let e = Engine::shared();
    let number = e.in_netns(|| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
    let c = server(e, "fixed", json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": number.to_string()}]}));
    t!(e, GET "/containers/{c}/json", 200, ".NetworkSettings.Ports.80/tcp" == [{"HostIp": "127.0.0.1", "HostPort": (number.to_string())}]);
    assert_eq!(e.read_port("127.0.0.1", number).unwrap(), "fixed\n");
    let mut body = sh_with("true", json!({"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": number.to_string()}]}}));
    body["ExposedPorts"] = json!({"80/tcp": {}});
    let second = e.create(body);
    t!(e, POST "/containers/{second}/start", 500, ".message" has (format!("Bind for 127.0.0.1:{number} failed: port is already allocated")));
    t!(e, GET "/containers/{second}/json", 200, ".State.Status" == "created");
    drop(c);
    t!(e, POST "/containers/{second}/start", 204);
}

#[test]
fn a_port_that_a_process_holds() {
    let e = Engine::shared();
    let listener = e.in_netns(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let number = listener.local_addr().unwrap().port();
    let mut body = sh_with("true", json!({"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": number.to_string()}]}}));
    body["ExposedPorts"] = json!({"80/tcp": {}});
    let c = e.create(body);
    t!(e, POST "/containers/{c}/start", 500, ".message" has "address already in use");
    t!(e, GET "/containers/{c}/json", 200, ".State.Status" == "created");
}

#[test]
fn udp_ports() {
    let e = Engine::shared();
    let mut body = idle();
    body["HostConfig"] = json!({"PortBindings": {"53/udp": [{"HostIp": "127.0.0.1"}]}});
    body["ExposedPorts"] = json!({"53/udp": {}});
    let c = e.run(body);
    let wait = Some(std::time::Duration::from_secs(30));
    let server = e.in_netns_of_container(&c, || UdpSocket::bind("0.0.0.0:53").unwrap());
    server.set_read_timeout(wait).unwrap();
    let number = port(&c, "53/udp");
    let client = e.in_netns(|| UdpSocket::bind("127.0.0.1:0").unwrap());
    client.set_read_timeout(wait).unwrap();
    client.send_to(b"ping", ("127.0.0.1", number)).unwrap();
    let mut buffer = [0; 16];
    let (n, from) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..n], b"ping");
    server.send_to(b"pong", from).unwrap();
    let (n, from) = client.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..n], from.port()), (&b"pong"[..], number));
}

#[test]
fn publish_all_and_exposed() {
    let e = Engine::shared();
    let mut body = idle();
    body["ExposedPorts"] = json!({"80/tcp": {}, "81/udp": {}});
    body["HostConfig"] = json!({"PublishAllPorts": true});
    let c = e.run(body);
    assert!(port(&c, "80/tcp") >= 1024 && port(&c, "81/udp") >= 1024);
    let mut body = idle();
    body["ExposedPorts"] = json!({"80/tcp": {}});
    let c = e.run(body);
    t!(e, GET "/containers/{c}/json", 200, ".NetworkSettings.Ports" == {"80/tcp": null});
}

#[test]
fn modes() {
    let e = Engine::shared();
    let links = |mode: &str| e.output("ls /sys/class/net | tr '\\n' ' '", json!({"NetworkMode": mode}));
    assert_eq!(links("none"), "lo ");
    assert!(links("bridge").contains("eth0"));
    assert!(links("default").contains("eth0"));
    let c = e.run(sh_with("sleep 1000", json!({"NetworkMode": "none"})));
    t!(e, GET "/containers/{c}/json", 200, ".HostConfig.NetworkMode" == "none", ".NetworkSettings.Networks.none.NetworkID" is id, ".NetworkSettings.Networks.none.IPAddress" == "", ".NetworkSettings.IPAddress" == "");
    let c = e.run(sh_with("sleep 1000", json!({"NetworkMode": "host"})));
    t!(e, GET "/containers/{c}/json", 200, ".NetworkSettings.Networks.host.NetworkID" is id, ".Config.Hostname" is string);
    e.refuses(sh_with("true", json!({"NetworkMode": "no-such-net"})), "network no-such-net not found");
}

#[test]
fn a_network_of_nobody_is_not_joined() {
    let e = Engine::shared();
    let c = e.create(sh_with("true", json!({"NetworkMode": "container:nope"})));
    t!(e, POST "/containers/{c}/start", 500, ".message" == "joining network namespace of container: No such container: nope");
}

#[test]
fn joined_networks() {
    let e = Engine::shared();
    let c = server(e, "shared", json!({}));
    let address = c.inspect()["NetworkSettings"]["IPAddress"].as_str().unwrap().to_owned();
    let joined = e.run(sh_with("nc 127.0.0.1 80 </dev/null; ip -o addr show eth0; hostname", json!({"NetworkMode": format!("container:{}", c.name)})));
    assert_eq!(joined.wait(), 0);
    let out = joined.logs().0;
    assert!(out.starts_with("shared\n") && out.contains(&address) && out.ends_with(&format!("{}\n", &c.id[..12])), "{out}");
    t!(e, GET "/containers/{joined}/json", 200, ".HostConfig.NetworkMode" == (format!("container:{}", c.id)), ".NetworkSettings.Networks" == {});
    let reply = e
        .request("POST", "/containers/create")
        .json(&json!({"Image": droste_test_support::image::BASE, "Cmd": ["true"], "Hostname": "x", "HostConfig": {"NetworkMode": format!("container:{}", c.id)}}))
        .send();
    droste_test_support::expect!(reply, 400, ".message" == "conflicting options: hostname and the network mode");
    let missing =
        e.request("POST", "/containers/create").json(&json!({"Image": droste_test_support::image::BASE, "Cmd": ["true"], "HostConfig": {"NetworkMode": "container:nope"}})).send();
    missing.expect_one_of(&[201, 404, 400]);
    if missing.status == 201 {
        drop(Container::adopt(e, missing.json()["Id"].as_str().unwrap()));
    }
}

#[test]
fn hosts_and_resolv_conf() {
    let e = Engine::shared();
    let c = e.run(sh_with(
        "cat /etc/hosts; cat /etc/resolv.conf; sleep 1000",
        json!({"ExtraHosts": ["one:10.9.8.7", "gate:host-gateway"], "Dns": ["10.1.2.3"], "DnsSearch": ["a.example"], "DnsOptions": ["ndots:3"]}),
    ));
    c.await_log("ndots");
    let (out, _) = c.logs();
    let address = c.inspect()["NetworkSettings"]["IPAddress"].as_str().unwrap().to_owned();
    let gateway = e.get("/networks/bridge")["IPAM"]["Config"][0]["Gateway"].as_str().unwrap().to_owned();
    for line in [
        "127.0.0.1\tlocalhost".to_owned(),
        format!("{address}\t{}", &c.id[..12]),
        "10.9.8.7\tone".to_owned(),
        format!("{gateway}\tgate"),
        "nameserver 10.1.2.3".to_owned(),
        "search a.example".to_owned(),
        "options ndots:3".to_owned(),
    ] {
        assert!(out.lines().any(|l| l == line), "{line:?} in {out}");
    }
    assert_eq!(c.exec(&["sh", "-c", "echo '# mine' >> /etc/hosts && tail -n 1 /etc/hosts"]).out, "# mine\n");
    let mounts = c.exec(&["cat", "/proc/self/mountinfo"]).out;
    for file in ["hostname", "hosts", "resolv.conf"] {
        let root = mounts.lines().find(|l| l.contains(&format!(" /etc/{file} "))).unwrap_or_else(|| panic!("{file} in {mounts}")).split(' ').nth(3).unwrap().to_owned();
        assert!(root.ends_with(&format!("/containers/{}/{file}", c.id)), "{root}");
    }
}

#[test]
fn names_of_links_and_aliases_are_kept() {
    let e = Engine::shared();
    let mut body = idle();
    body["NetworkingConfig"] = json!({"EndpointsConfig": {"bridge": {"MacAddress": "02:42:ac:11:aa:bb"}}});
    let c = e.run(body);
    t!(e, GET "/containers/{c}/json", 200, ".NetworkSettings.Networks.bridge.MacAddress" == "02:42:ac:11:aa:bb");
    assert!(c.exec(&["cat", "/sys/class/net/eth0/address"]).out.starts_with("02:42:ac:11:aa:bb"));
    t!(e, GET "/containers/{c}/json", 200, ".Config.MacAddress" == "02:42:ac:11:aa:bb");
    let linked = e.create(sh_with("true", json!({"Links": [format!("{}:other", c.name)]})));
    t!(e, GET "/containers/{linked}/json", 200, ".HostConfig.Links" == [(format!("/{}:/{}/other", c.name, linked.name))]);
    let plain = e.create(sh("true"));
    t!(e, GET "/containers/{plain}/json", 200, ".NetworkSettings.Networks.bridge.IPAddress" == "", ".NetworkSettings.Networks.bridge.Links" == null);
}
