//! What goes through between networks and what does not, and the options of the bridge driver at work.

use std::io::Read;
use std::net::{TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use droste_test_support::container::{idle, sh_with};
use droste_test_support::netns::in_netns_of;
use droste_test_support::network::{on, subnet};
use droste_test_support::{Container, Engine, Network, Value, json, t};

/// A container that answers each TCP connection to its port 80 with one line.
fn server<'e>(e: &'e Engine, net: &Network, more: Value) -> Container<'e> {
    let mut config = on(net);
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut body = sh_with("trap 'exit 0' TERM; nc -ll -p 80 -e echo answer & wait", config);
    body["ExposedPorts"] = json!({"80/tcp": {}});
    let c = e.run(body);
    while c.exec(&["sh", "-c", "grep -q ':0050 .* 0A' /proc/net/tcp /proc/net/tcp6"]).code != 0 {}
    c
}

fn client<'e>(e: &'e Engine, net: &Network) -> Container<'e> {
    let mut body = idle();
    body["HostConfig"] = on(net);
    e.run(body)
}

fn reads(c: &Container, address: &str, port: u16) -> bool {
    c.exec(&["sh", "-c", &format!("nc -w 2 {address} {port} </dev/null")]).out == "answer\n"
}

fn port(c: &Container) -> u16 {
    c.inspect()["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"].as_str().unwrap().parse().unwrap()
}

#[test]
fn networks_are_apart() {
    let e = Engine::shared();
    let (one, two) = (e.network(json!({})), e.network(json!({})));
    let (target, friend, stranger) = (server(e, &one, json!({})), client(e, &one), client(e, &two));
    let address = one.address(&target);
    assert!(reads(&friend, &address, 80));
    assert!(!reads(&stranger, &address, 80));
    assert!(!reads(&e.run(idle()), &address, 80), "nor from the default bridge");
    one.connect(&stranger, json!(null));
    assert!(reads(&stranger, &address, 80));
    one.disconnect(&stranger);
    assert!(!reads(&stranger, &address, 80));
    assert_eq!(e.read_port(&address, 80).unwrap(), "answer\n", "the host itself reaches it");
}

#[test]
fn published_ports_are_reached_from_everywhere() {
    let e = Engine::shared();
    let (one, two) = (e.network(json!({})), e.network(json!({})));
    let target = server(e, &one, json!({"PortBindings": {"80/tcp": [{}]}}));
    let number = port(&target);
    let (friend, stranger) = (client(e, &one), client(e, &two));
    let gateway = |net: &Network| net.inspect()["IPAM"]["Config"][0]["Gateway"].as_str().unwrap().to_owned();
    assert_eq!(e.read_port("127.0.0.1", number).unwrap(), "answer\n");
    assert_eq!(e.read_port("::1", number).unwrap(), "answer\n");
    assert!(reads(&friend, &gateway(&one), number), "a neighbour by the gateway");
    assert!(reads(&stranger, &gateway(&two), number), "another network by its own gateway");
    assert!(reads(&target, &gateway(&one), number), "itself");
    one.disconnect(&target);
    assert!(e.read_port("127.0.0.1", number).is_err(), "a port goes with its network");
    t!(e, GET "/containers/{target}/json", 200, ".NetworkSettings.Ports" == {});
    one.connect(&target, json!(null));
    assert_eq!(e.read_port("127.0.0.1", port(&target)).unwrap(), "answer\n", "and comes back with it");
}

#[test]
fn internal_networks_lead_nowhere() {
    let e = Engine::shared();
    let outside = e.network(json!({}));
    let net = e.network(json!({"Internal": true}));
    let (target, c) = (server(e, &outside, json!({})), client(e, &net));
    assert!(!reads(&c, &outside.address(&target), 80));
    let neighbour = server(e, &net, json!({"PortBindings": {"80/tcp": [{}]}}));
    assert!(reads(&c, &net.address(&neighbour), 80));
    t!(e, GET "/containers/{neighbour}/json", 200, ".NetworkSettings.Ports" == {});
    assert_eq!(net.endpoint(&c)["Gateway"], "");
}

#[test]
fn without_icc_neighbours_do_not_speak() {
    let e = Engine::shared();
    let net = e.network(json!({"Options": {"com.docker.network.bridge.enable_icc": "false"}}));
    let (target, c) = (server(e, &net, json!({"PortBindings": {"80/tcp": [{}]}})), client(e, &net));
    assert!(!reads(&c, &net.address(&target), 80));
    assert_eq!(e.read_port("127.0.0.1", port(&target)).unwrap(), "answer\n");
    assert_eq!(e.read_port(&net.address(&target), 80).unwrap(), "answer\n");
}

#[test]
fn options_of_a_bridge_at_work() {
    let e = Engine::shared();
    let bridge = format!("tb{}", std::process::id());
    let net = e
        .network(json!({"Options": {"com.docker.network.bridge.name": bridge, "com.docker.network.driver.mtu": "1234", "com.docker.network.container_iface_prefix": "front",
        "com.docker.network.bridge.host_binding_ipv4": "127.0.0.1"}}));
    let target = server(e, &net, json!({"PortBindings": {"80/tcp": [{}]}}));
    assert_eq!(target.exec(&["ls", "/sys/class/net"]).out, "front0\nlo\n");
    assert_eq!(target.exec(&["cat", "/sys/class/net/front0/mtu"]).out, "1234\n");
    t!(e, GET "/containers/{target}/json", 200, ".NetworkSettings.Ports.80/tcp.0.HostIp" == "127.0.0.1", ".NetworkSettings.Ports.80/tcp.1" is absent);
    let addresses = e.in_netns(|| Command::new("ip").args(["-4", "-o", "addr", "show", "dev", &bridge]).output().unwrap().stdout);
    let addresses = String::from_utf8_lossy(&addresses).into_owned();
    assert!(addresses.contains(net.inspect()["IPAM"]["Config"][0]["Gateway"].as_str().unwrap()), "{addresses}");
    drop(target);
    drop(net);
    let left = e.in_netns(|| Command::new("ip").args(["link", "show", &bridge]).status().unwrap().success());
    assert!(!left, "the bridge goes with its network");
}

/// A machine beyond the host: a network namespace at the end of a link, at `.2` of a subnet where the host is `.1`.
struct Outside {
    child: std::process::Child,
    /// The host's end of the link.
    link: String,
    subnet: String,
}

impl Outside {
    fn new(e: &Engine) -> Self {
        let subnet = subnet();
        static MADE: AtomicU32 = AtomicU32::new(0);
        let link = format!("to{}n{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let child = e.in_netns(|| Command::new("unshare").args(["--net", "sleep", "1000"]).spawn().unwrap());
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        let path = format!("/proc/{}/ns/net", child.id());
        let at_host = e.in_netns(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap());
        while std::fs::read_link(&path).is_ok_and(|at| at == own || at == at_host) {}
        let pid = child.id().to_string();
        let ip = |words: &[&str]| assert!(Command::new("ip").args(words).status().unwrap().success(), "{words:?}");
        e.in_netns(|| {
            ip(&["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &pid]);
            ip(&["addr", "add", &format!("{subnet}.1/24"), "dev", &link]);
            ip(&["link", "set", &link, "up"]);
        });
        let outside = Self { child, link, subnet };
        outside.within(|| {
            ip(&["addr", "add", &format!("{}.2/24", outside.subnet), "dev", "eth0"]);
            ip(&["link", "set", "eth0", "up"]);
            ip(&["route", "add", "default", "via", &format!("{}.1", outside.subnet)]);
        });
        outside
    }

    fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_netns_of(format!("/proc/{}/ns/net", self.child.id()).as_ref(), work)
    }

    fn read(&self, port: u16) -> std::io::Result<String> {
        self.read_at(&format!("{}.1", self.subnet), port, Duration::from_secs(60))
    }

    /// What a TCP port says, the host being the way to it.
    fn read_at(&self, address: &str, port: u16, patience: Duration) -> std::io::Result<String> {
        let at = (address.parse::<std::net::IpAddr>().unwrap(), port).into();
        self.within(|| {
            let mut text = String::new();
            TcpStream::connect_timeout(&at, patience)?.read_to_string(&mut text).map(|_| text)
        })
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_way_out_is_masqueraded_or_not() {
    let e = Engine::shared();
    let outside = Outside::new(e);
    for masquerade in [true, false] {
        let net = e.network(json!({"Options": {"com.docker.network.bridge.enable_ip_masquerade": masquerade.to_string()}}));
        let c = client(e, &net);
        let listener = outside.within(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        listener.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let number = listener.local_addr().unwrap().port();
        e.in_netns_of_container(&c, || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", (format!("{}.2", outside.subnet), number)).unwrap());
        let (_, from) = listener.recv_from(&mut [0; 8]).unwrap();
        let wanted = if masquerade { format!("{}.1", outside.subnet) } else { net.address(&c) };
        assert_eq!(from.ip().to_string(), wanted, "masquerade {masquerade}");
    }
}

#[test]
fn published_ports_are_reached_from_outside() {
    let e = Engine::shared();
    let outside = Outside::new(e);
    let net = e.network(json!({}));
    let open = server(e, &net, json!({"PortBindings": {"80/tcp": [{"HostIp": "0.0.0.0"}]}}));
    assert_eq!(outside.read(port(&open)).unwrap(), "answer\n");
    let bound = server(e, &net, json!({"PortBindings": {"80/tcp": [{"HostIp": format!("{}.1", outside.subnet)}]}}));
    assert_eq!(outside.read(port(&bound)).unwrap(), "answer\n");
    let local = server(e, &net, json!({"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1"}]}}));
    assert!(outside.read(port(&local)).is_err(), "what is bound to loopback is the host's alone");
    let unpublished = net.address(&open);
    let direct = outside.within(|| TcpStream::connect_timeout(&format!("{unpublished}:80").parse().unwrap(), Duration::from_secs(2)));
    assert!(direct.is_err() || open.exec(&["true"]).code != 0 || e.is_docker(), "a container's own address is not for others");
}

#[test]
fn gateway_modes_open_what_they_say() {
    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(1500);
    let e = Engine::shared();
    let outside = Outside::new(e);
    let mode = |mode: &str| e.network(json!({"Options": {"com.docker.network.bridge.gateway_mode_ipv4": mode}}));
    let (routed, open, closed) = (mode("routed"), mode("nat-unprotected"), mode("nat"));
    let published = server(e, &routed, json!({"PortBindings": {"80/tcp": [{}]}}));
    let at = routed.address(&published);
    assert_eq!(outside.read_at(&at, 80, LONG).unwrap(), "answer\n", "a published port, at the container's own address");
    let hidden = server(e, &routed, json!({}));
    assert!(outside.read_at(&routed.address(&hidden), 80, SHORT).is_err(), "what is not published is not open");
    let bare = server(e, &open, json!({}));
    assert_eq!(outside.read_at(&open.address(&bare), 80, LONG).unwrap(), "answer\n", "all is open");
    let usual = server(e, &closed, json!({"PortBindings": {"80/tcp": [{}]}}));
    assert!(outside.read_at(&closed.address(&usual), 80, SHORT).is_err(), "as nothing is else");
}

#[test]
fn a_hosts_address_for_what_leaves() {
    let e = Engine::shared();
    let outside = Outside::new(e);
    let own = format!("{}.77", outside.subnet);
    let added = e.in_netns(|| Command::new("ip").args(["addr", "add", &format!("{own}/24"), "dev", &outside.link]).status().unwrap());
    assert!(added.success());
    let net = e.network(json!({"Options": {"com.docker.network.host_ipv4": own}}));
    t!(e, GET "/networks/{net}", 200, ".Options" == {"com.docker.network.host_ipv4": own});
    let c = client(e, &net);
    let listener = outside.within(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    listener.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let to = (format!("{}.2", outside.subnet), listener.local_addr().unwrap().port());
    e.in_netns_of_container(&c, || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", to).unwrap());
    assert_eq!(listener.recv_from(&mut [0; 8]).unwrap().1.ip().to_string(), own);
}

#[test]
fn a_bridge_without_an_address_leaves_the_gateway_to_others() {
    let e = Engine::shared();
    let net = e.network(json!({"Options": {"com.docker.network.bridge.inhibit_ipv4": "true"}}));
    let c = client(e, &net);
    let gateway = net.inspect()["IPAM"]["Config"][0]["Gateway"].as_str().unwrap().to_owned();
    assert_eq!(net.endpoint(&c)["Gateway"], gateway.as_str());
    let route = c.exec(&["ip", "route"]).out;
    assert!(route.contains(&format!("default via {gateway} dev eth0")), "{route}");
    let at_host = e.in_netns(|| Command::new("ip").args(["-4", "-o", "addr"]).output().unwrap().stdout);
    assert!(!String::from_utf8_lossy(&at_host).contains(&format!(" {gateway}/")), "the host keeps out");
}
