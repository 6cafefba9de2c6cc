//! Bridges and published ports in namespaces of their own.
//!
//! Each test makes an outside namespace with a bridge, and a host attached to it by that bridge: the
//! outside is to the host what a machine is to a nested host. Needs root, and the program `nft`.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use droste_model::port::Protocol;
use droste_network::{
    AddressPools, Attached, Bridge, Endpoint, Family, Gateway, HostNetwork, InterfaceName, IpNet, Ipam, MacAddr,
    Namespace, NetworkError, PortRequest, PortReservation, Publication, Taken, Uplink, Wanted, addresses,
    default_gateway, host_ifname, interface_stats, links, overlap,
};

const TAG: &str = "droste";
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 1);
const REACHABLE: Duration = Duration::from_secs(10);
const UNREACHABLE: Duration = Duration::from_millis(700);

/// A host: a namespace with a bridge, and what hands out the bridge's addresses.
struct Host {
    network: HostNetwork,
    bridge: Bridge,
    ipam: Ipam,
    made: u32,
}

/// A container's namespace and its address.
struct Sandbox {
    namespace: Namespace,
    ip: Ipv4Addr,
    host_ifname: String,
    attached: Attached,
}

fn v4(ip: IpAddr) -> Ipv4Addr {
    match ip {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(ip) => panic!("{ip} is of IPv6"),
    }
}

/// The IPv4 subnet of a bridge.
fn subnet(bridge: &Bridge) -> IpNet {
    bridge.subnet(Family::V4).unwrap().net
}

/// The IPv4 address of a bridge.
fn gateway(bridge: &Bridge) -> Ipv4Addr {
    v4(bridge.subnet(Family::V4).unwrap().address.unwrap())
}

fn free_subnet(network: &HostNetwork, taken: &[IpNet]) -> IpNet {
    let taken: Vec<_> = taken.iter().map(|subnet| Taken { subnet: *subnet, holder: String::new() }).collect();
    network.choose_subnet(&AddressPools::docker(b"test"), Family::V4, &taken).unwrap()
}

/// What hangs on a bridge with an IPv4 address.
fn endpoint(bridge: &Bridge, ip: Ipv4Addr, number: u32) -> Endpoint {
    Endpoint {
        uplink: Uplink::Bridge { bridge: bridge.name.clone(), host_ifname: host_ifname(&format!("{number:012}")) },
        name: InterfaceName::Prefix("eth".to_owned()),
        addresses: vec![Ipam::new(subnet(bridge)).on_link(ip.into())],
        mac: Some(MacAddr::of_endpoint(ip.into())),
        gateways: vec![Gateway::Via(gateway(bridge).into())],
        mtu: bridge.mtu,
        sysctls: Vec::new(),
    }
}

impl Host {
    fn new(namespace: Namespace) -> Self {
        Self::below(namespace, &[])
    }

    /// A host below others that use these subnets.
    fn below(namespace: Namespace, taken: &[IpNet]) -> Self {
        let network = HostNetwork::open(namespace, TAG).unwrap();
        let bridge = Bridge::new("droste0", free_subnet(&network, taken));
        network.ensure_bridge(&bridge).unwrap();
        let mut ipam = Ipam::new(subnet(&bridge));
        ipam.reserve(gateway(&bridge).into()).unwrap();
        Self { network, bridge, ipam, made: 0 }
    }

    fn sandbox(&mut self) -> Sandbox {
        let bridge = self.bridge.clone();
        let ip = v4(self.ipam.allocate().unwrap());
        self.attach(&bridge, ip)
    }

    fn attach(&mut self, bridge: &Bridge, ip: Ipv4Addr) -> Sandbox {
        self.made += 1;
        let namespace = Namespace::create().unwrap();
        let attached = self.network.attach(&namespace, &endpoint(bridge, ip, self.made)).unwrap();
        Sandbox { namespace, ip, host_ifname: attached.host_ifname.clone().unwrap(), attached }
    }

    fn publish(
        &self,
        protocol: Protocol,
        host_ip: Option<IpAddr>,
        port: u16,
        target: (Ipv4Addr, u16),
    ) -> PortReservation {
        let request = PortRequest {
            protocol,
            host_ip,
            host_ports: Some((port, port)),
            target: SocketAddrV4::new(target.0, target.1).into(),
        };
        let reservation = self.network.reserve(&[request]).unwrap().remove(0);
        self.network.publish(&reservation.publications()).unwrap();
        reservation
    }

    fn nft(&self, arguments: &str) -> String {
        run(self.network.namespace(), "nft", arguments)
    }
}

/// An outside world and a host in it, whose address is returned too.
fn world() -> (Host, Host, Ipv4Addr) {
    let mut outside = Host::new(Namespace::create().unwrap());
    let uplink = outside.sandbox();
    (outside, Host::new(uplink.namespace), uplink.ip)
}

/// Whether packets between ports of a bridge go through nf_tables too: both are common.
fn filter_bridged(host: &Host, value: &str) {
    host.network.namespace().write_sysctls(&[("net.bridge.bridge-nf-call-iptables", value)]).unwrap();
}

fn run(namespace: &Namespace, program: &str, arguments: &str) -> String {
    let output = namespace
        .run_in(|| Command::new(program).args(arguments.split_whitespace()).output())
        .unwrap()
        .unwrap_or_else(|error| panic!("{program} is needed for this test: {error}"));
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A TCP server in a namespace that tells each client the address it sees.
fn tcp_server(namespace: &Namespace, port: u16) -> u16 {
    let listener = namespace.run_in(|| TcpListener::bind(("0.0.0.0", port))).unwrap().unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap().ip().to_string();
            let _ = stream.write_all(peer.as_bytes());
        }
    });
    port
}

/// What a TCP server answers to a client in a namespace.
fn tcp_ask(namespace: &Namespace, to: (Ipv4Addr, u16), patience: Duration) -> Result<String, ErrorKind> {
    let address = SocketAddr::from(to);
    let stream = namespace.run_in(|| TcpStream::connect_timeout(&address, patience)).unwrap();
    let mut stream = stream.map_err(|error| error.kind())?;
    stream.set_read_timeout(Some(patience)).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.kind())?;
    Ok(answer)
}

fn seen(namespace: &Namespace, to: (Ipv4Addr, u16)) -> String {
    tcp_ask(namespace, to, REACHABLE).unwrap_or_else(|kind| panic!("{to:?}: {kind:?}"))
}

fn unreachable(namespace: &Namespace, to: (Ipv4Addr, u16)) {
    let answer = tcp_ask(namespace, to, UNREACHABLE);
    assert!(answer.is_err(), "{to:?} answered {answer:?}");
}

/// A UDP server in a namespace that answers one client with the address it sees.
fn udp_server(namespace: &Namespace, port: u16) -> JoinHandle<()> {
    let socket = namespace.run_in(|| UdpSocket::bind(("0.0.0.0", port))).unwrap().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 64];
        let (_, peer) = socket.recv_from(&mut buffer).unwrap();
        socket.send_to(peer.ip().to_string().as_bytes(), peer).unwrap();
    })
}

fn udp_ask(namespace: &Namespace, to: (Ipv4Addr, u16)) -> String {
    let socket = namespace.run_in(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    socket.set_read_timeout(Some(REACHABLE)).unwrap();
    socket.connect(to).unwrap();
    socket.send(b"who am I?").unwrap();
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

#[test]
fn a_container_reaches_outside_under_its_hosts_address() {
    let (outside, mut host, host_ip) = world();
    let sandbox = host.sandbox();
    assert_eq!(default_gateway(&sandbox.namespace, Family::V4).unwrap(), Some(gateway(&host.bridge).into()));
    let port = tcp_server(outside.network.namespace(), 0);
    assert_eq!(seen(&sandbox.namespace, (OUTSIDE, port)), host_ip.to_string());
}

#[test]
fn containers_of_a_bridge_see_each_other_unmasked() {
    let (_outside, mut host, _) = world();
    let (a, b) = (host.sandbox(), host.sandbox());
    let port = tcp_server(&a.namespace, 0);
    assert_eq!(seen(&b.namespace, (a.ip, port)), b.ip.to_string());
    assert_eq!(seen(host.network.namespace(), (a.ip, port)), gateway(&host.bridge).to_string());
}

#[test]
fn a_published_port_is_reached_from_everywhere() {
    let (outside, mut host, host_ip) = world();
    let (server, client) = (host.sandbox(), host.sandbox());
    tcp_server(&server.namespace, 80);
    let _held = host.publish(Protocol::Tcp, None, 8080, (server.ip, 80));
    let gateway_text = gateway(&host.bridge).to_string();
    let here = host.network.namespace();
    for filtered in ["1", "0"] {
        filter_bridged(&host, filtered);
        assert_eq!(seen(outside.network.namespace(), (host_ip, 8080)), OUTSIDE.to_string());
        assert_eq!(seen(here, (LOOPBACK, 8080)), gateway_text);
        assert_eq!(seen(here, (Ipv4Addr::new(127, 1, 2, 3), 8080)), gateway_text);
        assert_eq!(seen(here, (host_ip, 8080)), host_ip.to_string());
        assert_eq!(seen(here, (gateway(&host.bridge), 8080)), gateway_text);
        assert_eq!(seen(&client.namespace, (gateway(&host.bridge), 8080)), gateway_text);
        assert_eq!(seen(&client.namespace, (host_ip, 8080)), gateway_text);
        assert_eq!(seen(&server.namespace, (gateway(&host.bridge), 8080)), gateway_text, "its own port");
    }
}

#[test]
fn a_published_udp_port_is_reached_from_everywhere() {
    let (outside, mut host, host_ip) = world();
    let (server, client) = (host.sandbox(), host.sandbox());
    let _held = host.publish(Protocol::Udp, None, 5353, (server.ip, 53));
    let gateway_text = gateway(&host.bridge).to_string();
    let cases = [
        (outside.network.namespace(), host_ip, OUTSIDE.to_string()),
        (host.network.namespace(), LOOPBACK, gateway_text.clone()),
        (&client.namespace, gateway(&host.bridge), gateway_text),
    ];
    for filtered in ["1", "0"] {
        filter_bridged(&host, filtered);
        for (from, to, expected) in &cases {
            let answering = udp_server(&server.namespace, 53);
            assert_eq!(udp_ask(from, (*to, 5353)), *expected);
            answering.join().unwrap();
        }
    }
}

#[test]
fn a_port_of_loopback_stays_inside() {
    let (outside, mut host, host_ip) = world();
    let server = host.sandbox();
    tcp_server(&server.namespace, 80);
    let _held = host.publish(Protocol::Tcp, Some(LOOPBACK.into()), 8100, (server.ip, 80));
    assert_eq!(seen(host.network.namespace(), (LOOPBACK, 8100)), gateway(&host.bridge).to_string());
    unreachable(host.network.namespace(), (host_ip, 8100));
    unreachable(outside.network.namespace(), (host_ip, 8100));
}

#[test]
fn a_port_at_one_address_is_at_that_only() {
    let (outside, mut host, host_ip) = world();
    let (one, other) = (host.sandbox(), host.sandbox());
    tcp_server(&one.namespace, 80);
    tcp_server(&other.namespace, 80);
    let _one = host.publish(Protocol::Tcp, Some(host_ip.into()), 8080, (one.ip, 80));
    let _other = host.publish(Protocol::Tcp, Some(LOOPBACK.into()), 8080, (other.ip, 80));
    assert_eq!(seen(outside.network.namespace(), (host_ip, 8080)), OUTSIDE.to_string());
    unreachable(host.network.namespace(), (gateway(&host.bridge), 8080));
    assert_eq!(seen(host.network.namespace(), (LOOPBACK, 8080)), gateway(&host.bridge).to_string());
}

#[test]
fn what_is_not_published_is_not_reached() {
    let (outside, mut host, host_ip) = world();
    let server = host.sandbox();
    tcp_server(&server.namespace, 80);
    let held = host.publish(Protocol::Tcp, None, 8080, (server.ip, 80));
    run(outside.network.namespace(), "ip", &format!("route add {} via {host_ip}", subnet(&host.bridge)));
    unreachable(outside.network.namespace(), (server.ip, 80));
    assert_eq!(seen(outside.network.namespace(), (host_ip, 8080)), OUTSIDE.to_string());
    host.network.unpublish(&held.publications()).unwrap();
    assert_eq!(tcp_ask(outside.network.namespace(), (host_ip, 8080), REACHABLE), Err(ErrorKind::ConnectionRefused));
    assert_eq!(tcp_ask(host.network.namespace(), (LOOPBACK, 8080), REACHABLE), Err(ErrorKind::ConnectionRefused));
}

#[test]
fn bridges_are_kept_apart() {
    let (_outside, mut host, _) = world();
    let second = Bridge { icc: false, ..Bridge::new("droste1", free_subnet(&host.network, &[])) };
    host.network.ensure_bridge(&second).unwrap();
    let hosts: Vec<_> = subnet(&second).hosts().skip(1).take(2).map(v4).collect();
    let (a, b, c) = (host.sandbox(), host.attach(&second, hosts[0]), host.attach(&second, hosts[1]));
    for sandbox in [&a, &b, &c] {
        tcp_server(&sandbox.namespace, 80);
    }
    unreachable(&a.namespace, (b.ip, 80));
    unreachable(&b.namespace, (a.ip, 80));
    for filtered in ["1", "0"] {
        filter_bridged(&host, filtered);
        unreachable(&b.namespace, (c.ip, 80));
    }
    let _held = host.publish(Protocol::Tcp, None, 8080, (b.ip, 80));
    assert_eq!(seen(&a.namespace, (gateway(&host.bridge), 8080)), gateway(&second).to_string());
    host.network.remove_bridge(&second.name).unwrap();
    assert!(!host.nft("list table inet droste").contains("droste1"));
}

#[test]
fn a_container_cannot_reach_its_hosts_loopback() {
    let (_outside, mut host, _) = world();
    let attacker = host.sandbox();
    let here = host.network.namespace();
    let listener = here.run_in(|| TcpListener::bind("127.0.0.1:9000")).unwrap().unwrap();
    thread::spawn(move || listener.incoming().flatten().for_each(|mut s| drop(s.write_all(b"secret"))));
    attacker.namespace.write_sysctls(&[("net.ipv4.conf.eth0.route_localnet", "1")]).unwrap();
    run(&attacker.namespace, "ip", "address flush dev lo");
    run(&attacker.namespace, "ip", &format!("route add 127.0.0.1 via {}", gateway(&host.bridge)));
    unreachable(&attacker.namespace, (LOOPBACK, 9000));
    host.nft("flush chain inet droste guard");
    assert_eq!(seen(&attacker.namespace, (LOOPBACK, 9000)), "secret", "without the guard it is open");
}

/// Runs what a reservation needs at IPv6 addresses, until the test ends.
fn relay(host: &Host, held: &PortReservation) {
    for relay in held.relays(host.network.namespace()).unwrap() {
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(relay.run()).unwrap();
        });
    }
}

#[test]
fn a_published_port_is_reached_at_ipv6_loopback() {
    let (_outside, mut host, _) = world();
    let server = host.sandbox();
    tcp_server(&server.namespace, 80);
    let tcp = host.publish(Protocol::Tcp, None, 8080, (server.ip, 80));
    let udp = host.publish(Protocol::Udp, None, 8080, (server.ip, 53));
    let here = host.network.namespace();
    let connect = || here.run_in(|| TcpStream::connect("[::1]:8080")).unwrap();
    assert_eq!(connect().unwrap_err().kind(), ErrorKind::ConnectionRefused, "no relay runs yet");
    relay(&host, &tcp);
    relay(&host, &udp);
    let mut stream = (0..100)
        .find_map(|_| {
            thread::sleep(Duration::from_millis(20));
            connect().ok()
        })
        .expect("the relay listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, gateway(&host.bridge).to_string());

    let answering = udp_server(&server.namespace, 53);
    let socket = here.run_in(|| UdpSocket::bind("[::1]:0")).unwrap().unwrap();
    socket.set_read_timeout(Some(REACHABLE)).unwrap();
    socket.send_to(b"who am I?", "[::1]:8080").unwrap();
    let mut buffer = [0; 64];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(from.to_string(), "[::1]:8080");
    assert_eq!(&buffer[..length], gateway(&host.bridge).to_string().as_bytes());
    answering.join().unwrap();
}

#[test]
fn a_udp_flow_follows_its_published_port() {
    let (outside, mut host, host_ip) = world();
    let (first, second) = (host.sandbox(), host.sandbox());
    let client = outside.network.namespace().run_in(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    client.set_read_timeout(Some(REACHABLE)).unwrap();
    client.send_to(b"early", (host_ip, 5353)).unwrap();
    let ask = || {
        let mut buffer = [0; 64];
        client.send_to(b"who are you?", (host_ip, 5353)).unwrap();
        let length = client.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    for sandbox in [&first, &second] {
        let held = host.publish(Protocol::Udp, None, 5353, (sandbox.ip, 53));
        let answering = udp_server(&sandbox.namespace, 53);
        assert_eq!(ask(), OUTSIDE.to_string());
        answering.join().unwrap();
        host.network.unpublish(&held.publications()).unwrap();
    }
}

fn request(host_ip: Option<&str>, host_ports: Option<(u16, u16)>) -> PortRequest {
    let host_ip = host_ip.map(|ip| ip.parse().unwrap());
    let target = "172.17.0.2:80".parse::<SocketAddrV4>().unwrap().into();
    PortRequest { protocol: Protocol::Tcp, host_ip, host_ports, target }
}

#[test]
fn busy_ports_are_told_apart() {
    let (_outside, host, _) = world();
    let here = host.network.namespace();
    let first = host.network.reserve(&[request(None, Some((8080, 8080)))]).unwrap();
    let shown: Vec<String> = first[0].addresses().map(|a| a.to_string()).collect();
    assert_eq!(shown, ["0.0.0.0:8080", "[::]:8080"]);
    let error = |asked| host.network.reserve(&[asked]).unwrap_err().to_string();
    let text = "Bind for 0.0.0.0:8080 failed: port is already allocated";
    assert_eq!(error(request(None, Some((8080, 8080)))), text);
    assert_eq!(error(request(Some("127.0.0.1"), Some((8080, 8080)))), text);
    let other = here.run_in(|| TcpListener::bind("127.0.0.1:9999")).unwrap().unwrap();
    let text = "failed to bind host port for 0.0.0.0:9999:172.17.0.2:80/tcp: address already in use";
    assert_eq!(error(request(None, Some((9999, 9999)))), text);
    let text = "failed to bind host port for 10.9.9.9:9999:172.17.0.2:80/tcp: cannot assign requested address";
    assert_eq!(error(request(Some("10.9.9.9"), Some((9999, 9999)))), text);
    drop(other);
    host.network.reserve(&[request(None, Some((9999, 9999)))]).unwrap();
    drop(first);
    let listener = here.run_in(|| TcpListener::bind("0.0.0.0:8080")).unwrap();
    listener.expect("a dropped reservation frees its port");
}

#[test]
fn a_reserved_port_is_nobody_elses() {
    let (_outside, host, _) = world();
    let here = host.network.namespace();
    let _held = host.network.reserve(&[request(None, Some((8080, 8080)))]).unwrap();
    for address in ["0.0.0.0:8080", "127.0.0.1:8080", "[::]:8080"] {
        // The standard library binds as most servers do: with SO_REUSEADDR, then listens.
        let taken = here.run_in(|| TcpListener::bind(address)).unwrap();
        assert_eq!(taken.unwrap_err().kind(), ErrorKind::AddrInUse, "{address}");
    }
    let udp = PortRequest { protocol: Protocol::Udp, ..request(None, Some((8080, 8080))) };
    let _udp = host.network.reserve(&[udp]).unwrap();
    assert_eq!(here.run_in(|| UdpSocket::bind("0.0.0.0:8080")).unwrap().unwrap_err().kind(), ErrorKind::AddrInUse);
}

#[test]
fn ephemeral_ports_and_ranges_pass_over_busy_ones() {
    let (_outside, host, _) = world();
    let here = host.network.namespace();
    let _other = here.run_in(|| TcpListener::bind("0.0.0.0:8001")).unwrap().unwrap();
    let range = request(None, Some((8000, 8003)));
    let held: Vec<_> = (0..3).map(|_| host.network.reserve(std::slice::from_ref(&range)).unwrap().remove(0)).collect();
    assert_eq!(held.iter().map(PortReservation::port).collect::<Vec<_>>(), [8000, 8002, 8003]);
    assert!(host.network.reserve(&[range]).is_err());
    let _busy = here.run_in(|| TcpListener::bind("0.0.0.0:32769")).unwrap().unwrap();
    let ephemeral: Vec<_> = (0..3).map(|_| host.network.reserve(&[request(None, None)]).unwrap().remove(0)).collect();
    assert_eq!(ephemeral.iter().map(PortReservation::port).collect::<Vec<_>>(), [32768, 32770, 32771]);
    let two = [request(None, Some((8100, 8100))), request(None, Some((8001, 8001)))];
    assert!(host.network.reserve(&two).is_err());
    host.network.reserve(&[request(None, Some((8100, 8100)))]).expect("a refused set leaves nothing reserved");
}

#[test]
fn a_flushed_table_is_put_right() {
    let (outside, mut host, host_ip) = world();
    let server = host.sandbox();
    tcp_server(&server.namespace, 80);
    let _held = host.publish(Protocol::Tcp, None, 8080, (server.ip, 80));
    assert!(!host.network.verify().unwrap(), "nothing was changed");
    let before = host.nft("list table inet droste");
    let damages = [
        "flush ruleset",
        "delete table inet droste",
        "flush chain inet droste postrouting",
        "delete element inet droste ports { tcp . 8080 }",
        "add element inet droste bridges { eth9 }",
    ];
    for damage in damages {
        host.nft(damage);
        assert!(host.network.verify().unwrap(), "{damage}");
        assert_eq!(host.nft("list table inet droste"), before, "{damage}");
        assert!(!host.network.verify().unwrap(), "{damage}");
    }
    assert_eq!(seen(outside.network.namespace(), (host_ip, 8080)), OUTSIDE.to_string());
    host.nft("add table ip someone_else");
    assert!(!host.network.verify().unwrap(), "someone else's table is no damage");
}

#[test]
fn publishing_on_a_flushed_table_writes_all_of_it() {
    let (outside, mut host, host_ip) = world();
    let server = host.sandbox();
    tcp_server(&server.namespace, 80);
    let _first = host.publish(Protocol::Tcp, None, 8080, (server.ip, 80));
    host.nft("flush ruleset");
    let second = host.publish(Protocol::Tcp, None, 8081, (server.ip, 80));
    for port in [8080, 8081] {
        assert_eq!(seen(outside.network.namespace(), (host_ip, port)), OUTSIDE.to_string());
    }
    host.nft("flush ruleset");
    host.network.unpublish(&second.publications()).unwrap();
    assert_eq!(seen(outside.network.namespace(), (host_ip, 8080)), OUTSIDE.to_string());
}

/// What `nft` makes of each rule that this crate encodes.
const RULES: [&str; 31] = [
    "iifname != \"lo\" ip daddr 127.0.0.0/8 drop",
    "iifname != \"lo\" ip saddr 127.0.0.0/8 drop",
    "ip6 daddr ::1 return",
    "dnat ip to ip daddr . meta l4proto . th dport map @ports_at",
    "dnat ip to meta l4proto . th dport map @ports ",
    "dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports6_at",
    "dnat ip6 to meta l4proto . th dport map @ports6 ",
    "type nat hook prerouting priority dstnat; policy accept;\n\t\tfib daddr type local jump publish",
    "type nat hook output priority -100; policy accept;\n\t\tfib daddr type local jump publish",
    "meta nfproto ipv4 oifname != @bridges snat ip to iifname map @sources ",
    "meta nfproto ipv6 oifname != @bridges snat ip6 to iifname map @sources6",
    "meta nfproto ipv4 iifname @masquerade oifname != @bridges masquerade",
    "meta nfproto ipv6 iifname @masquerade6 oifname != @bridges masquerade",
    "ip saddr 127.0.0.0/8 oifname @bridges masquerade",
    "ct status dnat ip saddr @subnets oifname @bridges masquerade",
    "ct status dnat ip6 saddr @subnets6 oifname @bridges masquerade",
    "iifname . oifname @peers accept",
    "iifname @internal drop",
    "\toifname @internal drop",
    "oifname @bridges ct state established,related accept",
    "oifname @bridges ct status dnat accept",
    "meta nfproto ipv4 oifname @unprotected accept",
    "meta nfproto ipv6 oifname @unprotected6 accept",
    "\tip daddr . meta l4proto . th dport @open accept",
    "\tip6 daddr . meta l4proto . th dport @open6 accept",
    "iifname . oifname @trusted ip daddr . meta l4proto . th dport @targets accept",
    "iifname . oifname @trusted ip6 daddr . meta l4proto . th dport @targets6 accept",
    "oifname @routed meta l4proto icmp accept",
    "oifname @routed6 meta l4proto ipv6-icmp accept",
    "\toifname @bridges drop",
    "meta nfproto @closed iifname != @bridges oifname != @bridges drop",
];

#[test]
fn nft_reads_what_was_meant() {
    let (_outside, host, _) = world();
    let table = host.nft("list table inet droste");
    for rule in RULES {
        assert_eq!(table.matches(rule).count(), 1, "{rule}\n{table}");
    }
    assert_eq!(table.matches("comment \"droste: ").count(), RULES.len());
    let subnet = format!("flags interval\n\t\telements = {{ {} }}", subnet(&host.bridge));
    for contents in ["type ifname\n\t\telements = { \"droste0\" }", "{ \"droste0\" . \"droste0\" }", &subnet] {
        assert!(table.contains(contents), "{contents}\n{table}");
    }
}

#[test]
fn nft_reads_every_port_that_was_meant() {
    let (_outside, host, _) = world();
    // Numbers that look random and are the same each time.
    let mut state = 0x2545_f491_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let ports = (0..300)
        .map(|i| {
            let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp][i % 3];
            let ip = if i % 2 == 0 { Ipv4Addr::from(next()) } else { Ipv4Addr::UNSPECIFIED };
            let target = SocketAddr::from((Ipv4Addr::from(next()), next() as u16));
            (protocol, SocketAddr::from((ip, 1 + i as u16 * 211)), target)
        })
        .collect::<Vec<_>>();
    let publications: Vec<_> = ports.iter().map(|(p, host, target)| Publication::mapped(*p, *host, *target)).collect();
    host.network.publish(&publications).unwrap();
    let maps = ["ports", "ports_at"].map(|map| host.nft(&format!("--numeric list map inet droste {map}"))).concat();
    let maps: String = maps.split_whitespace().collect::<Vec<_>>().join(" ");
    for (protocol, at, to) in &ports {
        let number = match protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        };
        let ip = Some(at.ip()).filter(|ip| !ip.is_unspecified()).map(|ip| format!("{ip} . ")).unwrap_or_default();
        let text = format!("{ip}{number} . {} : {} . {}", at.port(), to.ip(), to.port());
        assert!(maps.contains(&text), "{text}");
    }
    assert_eq!(maps.matches(" : ").count(), ports.len() + 2, "and two types");
    assert!(!host.network.verify().unwrap());
}

#[test]
fn publishing_changes_elements_and_no_rules() {
    let (_outside, mut host, _) = world();
    let server = host.sandbox();
    let handles = |host: &Host| -> Vec<String> {
        let text = host.nft("--handle list table inet droste");
        text.lines().filter(|l| l.contains("# handle")).map(str::to_owned).collect()
    };
    let before = handles(&host);
    let _held = host.publish(Protocol::Tcp, None, 8080, (server.ip, 80));
    assert_eq!(handles(&host), before);
    assert!(host.nft("list map inet droste ports").contains("tcp . 8080"));
}

#[test]
fn many_ports_fit_one_commit() {
    let (_outside, host, _) = world();
    let ports: Vec<Publication> = (1000..3000)
        .map(|host_port| {
            let ip = if host_port % 2 == 0 { LOOPBACK } else { Ipv4Addr::UNSPECIFIED };
            let target = "172.18.0.2:80".parse().unwrap();
            Publication::mapped(Protocol::Tcp, (ip, host_port).into(), target)
        })
        .collect();
    host.network.publish(&ports).unwrap();
    host.nft("flush ruleset");
    assert!(host.network.verify().unwrap());
    assert_eq!(host.nft("list map inet droste ports").matches("tcp . ").count(), 1000);
    assert_eq!(host.nft("list map inet droste ports_at").matches("127.0.0.1 . tcp . ").count(), 1000);
    host.network.unpublish(&ports).unwrap();
    assert!(!host.nft("list map inet droste ports").contains("tcp . "));
}

#[test]
fn a_port_of_before_a_restart_stays_until_it_gives_way() {
    let (outside, mut host, host_ip) = world();
    let (lost, fresh) = (host.sandbox(), host.sandbox());
    tcp_server(&lost.namespace, 80);
    drop(host.publish(Protocol::Tcp, None, 8080, (lost.ip, 80)));
    host.network = HostNetwork::open(host.network.namespace().try_clone().unwrap(), TAG).unwrap();
    host.network.ensure_bridge(&host.bridge).unwrap();
    assert_eq!(seen(outside.network.namespace(), (host_ip, 8080)), OUTSIDE.to_string());
    let _held = host.publish(Protocol::Tcp, None, 8080, (fresh.ip, 80));
    let table = host.nft("list map inet droste ports");
    assert!(table.contains(&fresh.ip.to_string()) && !table.contains(&lost.ip.to_string()), "{table}");
}

fn names(host: &Host) -> Vec<String> {
    let mut names: Vec<_> = links(host.network.namespace()).unwrap().into_iter().map(|l| l.name).collect();
    names.sort();
    names
}

#[test]
fn a_crash_leaves_nothing_that_is_not_wanted() {
    let (outside, mut host, host_ip) = world();
    let (kept, lost) = (host.sandbox(), host.sandbox());
    let second = Bridge::new("droste1", free_subnet(&host.network, &[]));
    host.network.ensure_bridge(&second).unwrap();
    let on_second = host.attach(&second, v4(subnet(&second).hosts().nth(1).unwrap()));
    tcp_server(&kept.namespace, 80);
    let held = host.publish(Protocol::Tcp, None, 8080, (kept.ip, 80));
    let _stale = host.publish(Protocol::Tcp, None, 8081, (lost.ip, 80));
    assert_eq!(names(&host).len(), 7);

    host.network = HostNetwork::open(host.network.namespace().try_clone().unwrap(), TAG).unwrap();
    host.network.ensure_bridge(&second).unwrap();
    host.network.ensure_bridge(&host.bridge).unwrap();
    let wanted = Wanted {
        bridges: vec![host.bridge.clone()],
        parents: Vec::new(),
        ports: held.publications(),
        host_ifnames: vec![kept.host_ifname.clone()],
    };
    host.network.reconcile(&wanted).unwrap();
    assert_eq!(names(&host), ["droste0", &kept.host_ifname, "eth0", "lo"]);
    let table = host.nft("list table inet droste");
    assert!(table.contains("tcp . 8080") && !table.contains("tcp . 8081") && !table.contains("droste1"));
    assert_eq!(seen(outside.network.namespace(), (host_ip, 8080)), OUTSIDE.to_string());
    assert!(interface_stats(&lost.namespace).unwrap().is_empty());
    assert!(interface_stats(&on_second.namespace).unwrap().is_empty());
    host.network.reconcile(&wanted).unwrap();
    assert_eq!(host.nft("list table inet droste"), table);

    host.network.clear().unwrap();
    assert_eq!(names(&host), ["eth0", "lo"]);
    assert_eq!(host.nft("list ruleset"), "");
}

#[test]
fn an_endpoint_goes_with_its_sandbox() {
    let (_outside, mut host, _) = world();
    let sandbox = host.sandbox();
    host.network.detach(&sandbox.namespace, &sandbox.attached).unwrap();
    host.network.detach(&sandbox.namespace, &sandbox.attached).expect("what is gone is detached");
    assert!(interface_stats(&sandbox.namespace).unwrap().is_empty());
    assert_eq!(names(&host), ["droste0", "eth0", "lo"]);
}

#[test]
fn an_address_is_given_again_at_once() {
    let (outside, mut host, host_ip) = world();
    let (bridge, client) = (host.bridge.clone(), host.sandbox());
    let first = host.sandbox();
    tcp_server(&first.namespace, 80);
    let _held = host.publish(Protocol::Tcp, None, 8080, (first.ip, 80));
    let ask = |host: &Host| {
        seen(host.network.namespace(), (first.ip, 80));
        seen(&client.namespace, (first.ip, 80));
        seen(outside.network.namespace(), (host_ip, 8080));
    };
    ask(&host);
    host.network.unplug(&first.host_ifname).unwrap();
    unreachable(host.network.namespace(), (first.ip, 80));
    // The first sandbox still lives, as one does whose end the kernel has not come to yet.
    let second = host.attach(&bridge, first.ip);
    tcp_server(&second.namespace, 80);
    ask(&host);
    let packets = |sandbox: &Sandbox| interface_stats(&sandbox.namespace).unwrap()[0].stats.rx_packets;
    let before = packets(&first);
    ask(&host);
    assert_eq!(packets(&first), before, "nothing reaches the first one");
    assert!(packets(&second) > 0);
}

#[test]
fn a_failed_attachment_leaves_nothing() {
    let (_outside, mut host, _) = world();
    let sandbox = host.sandbox();
    let before = names(&host);
    let mut failing = endpoint(&host.bridge, Ipv4Addr::new(172, 18, 0, 9), 99);
    failing.name = InterfaceName::Exactly("eth0".to_owned());
    let taken = host.network.attach(&sandbox.namespace, &failing);
    assert!(matches!(taken, Err(NetworkError::Link { .. })), "eth0 is there");
    failing.name = InterfaceName::Prefix("eth".to_owned());
    failing.gateways = vec![Gateway::Via("10.99.99.1".parse().unwrap())];
    assert!(host.network.attach(&sandbox.namespace, &failing).is_err(), "its gateway is out of reach");
    failing.uplink = Uplink::Bridge { bridge: "nothing0".to_owned(), host_ifname: host_ifname("failing") };
    assert!(matches!(host.network.attach(&sandbox.namespace, &failing), Err(NetworkError::NoBridge(_))));
    assert_eq!(names(&host), before);
    assert_eq!(interface_stats(&sandbox.namespace).unwrap().len(), 1);
}

#[test]
fn hosts_nest_without_overlap() {
    let (outside, mut host, host_ip) = world();
    let inner_sandbox = host.sandbox();
    let inner_ip = inner_sandbox.ip;
    let above = outside.network.used_subnets().unwrap();
    let mut inner = Host::below(inner_sandbox.namespace, &above);
    let container = inner.sandbox();
    let subnets = [subnet(&outside.bridge), subnet(&host.bridge), subnet(&inner.bridge)];
    for (i, a) in subnets.iter().enumerate() {
        assert!(subnets[..i].iter().all(|b| !overlap(*a, *b)), "{subnets:?}");
    }
    let port = tcp_server(outside.network.namespace(), 0);
    assert_eq!(seen(&container.namespace, (OUTSIDE, port)), host_ip.to_string());

    tcp_server(&container.namespace, 80);
    let _held = inner.publish(Protocol::Tcp, None, 8080, (container.ip, 80));
    assert_eq!(seen(inner.network.namespace(), (LOOPBACK, 8080)), gateway(&inner.bridge).to_string());
    assert_eq!(seen(host.network.namespace(), (inner_ip, 8080)), gateway(&host.bridge).to_string());
    unreachable(host.network.namespace(), (LOOPBACK, 8080));
    let _outer = host.publish(Protocol::Tcp, None, 8080, (inner_ip, 8080));
    assert_eq!(seen(outside.network.namespace(), (host_ip, 8080)), OUTSIDE.to_string());
}

#[test]
fn subnets_and_names_in_use_are_refused() {
    let (_outside, host, _) = world();
    let overlapping = Bridge::new("droste1", "172.17.128.0/20".parse().unwrap());
    assert!(matches!(host.network.ensure_bridge(&overlapping), Err(NetworkError::Overlap { .. })));
    let taken = Bridge::new("eth0", "10.5.0.0/16".parse().unwrap());
    assert!(matches!(host.network.ensure_bridge(&taken), Err(NetworkError::Link { .. })));
    host.network.ensure_bridge(&host.bridge).expect("what is there already is ensured");
    assert_eq!(host.network.bridge_subnets("droste0").unwrap(), [subnet(&host.bridge)]);
    assert_eq!(host.network.bridge_subnets("eth0").unwrap(), []);
    let moved = Bridge::new("droste0", "10.6.0.0/16".parse().unwrap());
    host.network.ensure_bridge(&moved).unwrap();
    assert_eq!(host.network.bridge_subnets("droste0").unwrap(), [subnet(&moved)]);
    assert!(!host.network.used_subnets().unwrap().contains(&subnet(&host.bridge)));
    assert_eq!(names(&host), ["droste0", "eth0", "lo"]);
}

#[test]
fn a_sandbox_looks_as_dockers_do() {
    let (_outside, mut host, _) = world();
    let sandbox = host.sandbox();
    let found = interface_stats(&sandbox.namespace).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].name.as_str(), found[0].mtu, found[0].up), ("eth0", 1500, true));
    let of_eth0 = addresses(&sandbox.namespace).unwrap().into_iter().filter(|a| a.index == found[0].index);
    assert_eq!(of_eth0.map(|a| a.address.to_string()).collect::<Vec<_>>(), [format!("{}/16", sandbox.ip)]);
    assert_eq!(sandbox.namespace.read_sysctl("net.ipv4.ip_unprivileged_port_start").unwrap(), "0");
    assert_eq!(sandbox.namespace.read_sysctl("net.ipv4.ping_group_range").unwrap(), "0\t2147483647");
    assert_eq!(sandbox.namespace.read_sysctl("net.ipv6.conf.eth0.disable_ipv6").unwrap(), "1");
    let port = tcp_server(&sandbox.namespace, 0);
    seen(host.network.namespace(), (sandbox.ip, port));
    let stats = interface_stats(&sandbox.namespace).unwrap()[0].stats;
    assert!(stats.rx_packets > 0 && stats.tx_packets > 0 && stats.rx_bytes > stats.rx_packets);
}

#[test]
fn bridges_pass_tables_that_drop_by_default() {
    let (outside, mut host, host_ip) = world();
    let server = host.sandbox();
    tcp_server(&server.namespace, 80);
    let _held = host.publish(Protocol::Tcp, None, 8080, (server.ip, 80));
    let drop = "{ type filter hook forward priority filter; policy drop; }";
    host.nft("add table ip filter");
    host.nft(&format!("add chain ip filter FORWARD {drop}"));
    unreachable(outside.network.namespace(), (host_ip, 8080));
    host.network.verify().unwrap();
    assert_eq!(seen(outside.network.namespace(), (host_ip, 8080)), OUTSIDE.to_string());
    assert_eq!(host.nft("list chain ip filter FORWARD").matches("droste0").count(), 4, "two rules with comments");

    host.nft("add chain ip filter DOCKER-USER");
    host.nft("add rule ip filter FORWARD jump DOCKER-USER");
    host.nft("add table inet mine");
    host.nft(&format!("add chain inet mine forward {drop}"));
    host.network.verify().unwrap();
    assert!(!host.nft("list chain ip filter FORWARD").contains("droste0"));
    assert_eq!(host.nft("list chain ip filter DOCKER-USER").matches("droste0").count(), 4);
    assert_eq!(seen(outside.network.namespace(), (host_ip, 8080)), OUTSIDE.to_string());

    host.network.clear().unwrap();
    assert!(!host.nft("list ruleset").contains("droste"));
}
