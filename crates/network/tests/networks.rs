//! Several networks on one host: both families, options, connecting and disconnecting while a sandbox runs, parents.
//!
//! As in `hosts.rs`, the host hangs on an outside namespace by a bridge of that one. Needs root, and the programs
//! `nft` and `ip`.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use droste_model::port::Protocol;
use droste_network::{
    AddressPools, Attached, Bridge, BridgeSubnet, Endpoint, Family, Gateway, GatewayMode, HostNetwork, InterfaceName,
    IpNet, MacAddr, MacvlanMode, Namespace, NetworkError, Parent, PortRequest, PortReservation, PortTarget, Taken,
    Uplink, Wanted, addresses, default_gateway, host_ifname, interface_stats, links, routes, set_default_routes,
};

const REACHABLE: Duration = Duration::from_secs(10);
const UNREACHABLE: Duration = Duration::from_millis(700);
const OUTSIDE: [&str; 2] = ["10.200.0.1", "fd00:200::1"];
const HOST: [&str; 2] = ["10.200.0.2", "fd00:200::2"];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// An outside world, and a host in it with an address of each family.
fn world() -> (HostNetwork, HostNetwork) {
    let outside = HostNetwork::open(Namespace::create().unwrap(), "droste").unwrap();
    let bridge = dual("uplink0", "10.200.0.0/24", "fd00:200::/64");
    outside.ensure_bridge(&bridge).unwrap();
    let namespace = Namespace::create().unwrap();
    outside.attach(&namespace, &endpoint(&bridge, &HOST)).unwrap();
    (outside, HostNetwork::open(namespace, "droste").unwrap())
}

fn single(name: &str, subnet: &str) -> Bridge {
    Bridge::new(name, net(subnet))
}

fn dual(name: &str, v4: &str, v6: &str) -> Bridge {
    Bridge { subnets: vec![BridgeSubnet::new(net(v4)), BridgeSubnet::new(net(v6))], ..single(name, v4) }
}

/// An endpoint with these addresses, and with a bridge's default routes of their families.
fn endpoint(bridge: &Bridge, ips: &[&str]) -> Endpoint {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let subnet = |at: IpAddr| *bridge.subnet(Family::of(at)).unwrap();
    let addresses: Vec<IpNet> =
        ips.iter().map(|at| IpNet::new(ip(at), subnet(ip(at)).net.prefix_len()).unwrap()).collect();
    let gateways = if bridge.internal { &[][..] } else { ips };
    Endpoint {
        uplink: Uplink::Bridge { bridge: bridge.name.clone(), host_ifname: host_ifname(&format!("{number:012}")) },
        name: InterfaceName::Prefix("eth".to_owned()),
        mac: Some(MacAddr::of_endpoint(addresses[0].addr())),
        addresses,
        gateways: gateways.iter().filter_map(|at| subnet(ip(at)).address.map(Gateway::Via)).collect(),
        mtu: 1500,
        sysctls: Vec::new(),
    }
}

fn sandbox(host: &HostNetwork, bridge: &Bridge, ips: &[&str]) -> Namespace {
    let namespace = Namespace::create().unwrap();
    host.attach(&namespace, &endpoint(bridge, ips)).unwrap();
    namespace
}

fn run(namespace: &Namespace, program: &str, arguments: &str) -> String {
    let output = namespace
        .run_in(|| Command::new(program).args(arguments.split_whitespace()).output())
        .unwrap()
        .unwrap_or_else(|error| panic!("{program} is needed for this test: {error}"));
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A TCP server at all addresses of a namespace that tells each client the address it sees.
fn tcp_server(namespace: &Namespace, port: u16) {
    let listener = namespace.run_in(|| TcpListener::bind(("::", port))).unwrap().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap().ip().to_canonical();
            let _ = stream.write_all(peer.to_string().as_bytes());
        }
    });
}

fn ask(from: &Namespace, to: &str, port: u16, patience: Duration) -> Result<String, ErrorKind> {
    let address = SocketAddr::new(ip(to), port);
    let stream = from.run_in(|| TcpStream::connect_timeout(&address, patience)).unwrap();
    let mut stream = stream.map_err(|error| error.kind())?;
    stream.set_read_timeout(Some(patience)).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.kind())?;
    Ok(answer)
}

fn seen(from: &Namespace, to: &str, port: u16) -> String {
    ask(from, to, port, REACHABLE).unwrap_or_else(|kind| panic!("{to} {port}: {kind:?}"))
}

fn unreachable(from: &Namespace, to: &str, port: u16) {
    let answer = ask(from, to, port, UNREACHABLE);
    assert!(answer.is_err(), "{to} {port} answered {answer:?}");
}

/// Publishes a container's port at all addresses.
fn publish(host: &HostNetwork, port: u16, target: PortTarget) -> PortReservation {
    let request = PortRequest { protocol: Protocol::Tcp, host_ip: None, host_ports: Some((port, port)), target };
    let held = host.reserve(&[request]).unwrap().remove(0);
    host.publish(&held.publications()).unwrap();
    held
}

fn target(v4: Option<&str>, v6: Option<&str>) -> PortTarget {
    let (v4, v6) = (v4.map(|t| t.parse().unwrap()), v6.map(|t| t.parse().unwrap()));
    PortTarget { v4, v6, port: 80, routed4: false, routed6: false }
}

#[test]
fn both_families_reach_outside_and_are_reached_at_published_ports() {
    let (outside, host) = world();
    let bridge = dual("droste1", "172.20.0.0/16", "fd00:20::/64");
    host.ensure_bridge(&bridge).unwrap();
    let server = sandbox(&host, &bridge, &["172.20.0.2", "fd00:20::2"]);
    let client = sandbox(&host, &bridge, &["172.20.0.3", "fd00:20::3"]);
    assert_eq!(default_gateway(&server, Family::V6).unwrap(), Some(ip("fd00:20::1")));
    tcp_server(outside.namespace(), 80);
    tcp_server(&server, 80);
    let _held = publish(&host, 8080, target(Some("172.20.0.2"), Some("fd00:20::2")));
    let gateways = ["172.20.0.1", "fd00:20::1"];
    for (i, (outer, own)) in OUTSIDE.iter().zip(HOST).enumerate() {
        assert_eq!(seen(&server, outer, 80), own, "masked");
        assert_eq!(seen(outside.namespace(), own, 8080), *outer, "from outside, unmasked");
        assert_eq!(seen(host.namespace(), own, 8080), own);
        assert_eq!(seen(host.namespace(), gateways[i], 8080), gateways[i]);
        assert_eq!(seen(&client, own, 8080), gateways[i], "another container");
        assert_eq!(seen(&server, own, 8080), gateways[i], "its own port");
    }
    assert_eq!(seen(&client, "fd00:20::2", 80), "fd00:20::3", "neighbours see one another");
    run(outside.namespace(), "ip", &format!("-6 route add fd00:20::/64 via {}", HOST[1]));
    unreachable(outside.namespace(), "fd00:20::2", 80);
}

#[test]
fn a_published_port_is_reached_at_ipv6_loopback_of_both_kinds_of_containers() {
    let (_outside, host) = world();
    let bridge = dual("droste1", "172.20.0.0/16", "fd00:20::/64");
    host.ensure_bridge(&bridge).unwrap();
    let server = sandbox(&host, &bridge, &["172.20.0.2", "fd00:20::2"]);
    tcp_server(&server, 80);
    let held = publish(&host, 8080, target(Some("172.20.0.2"), Some("fd00:20::2")));
    for relay in held.relays(host.namespace()).unwrap() {
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(relay.run()).unwrap();
        });
    }
    let answered = (0..100).find_map(|_| {
        thread::sleep(Duration::from_millis(20));
        ask(host.namespace(), "::1", 8080, REACHABLE).ok()
    });
    assert_eq!(answered.as_deref(), Some("fd00:20::1"));
    assert_eq!(seen(host.namespace(), "127.0.0.1", 8080), "172.20.0.1");
}

#[test]
fn a_network_may_have_ipv6_only() {
    let (outside, host) = world();
    let bridge = single("droste6", "fd00:60::/64");
    host.ensure_bridge(&bridge).unwrap();
    let server = sandbox(&host, &bridge, &["fd00:60::2"]);
    tcp_server(&server, 80);
    let held = publish(&host, 8080, target(None, Some("fd00:60::2")));
    assert_eq!(held.addresses().map(|a| a.to_string()).collect::<Vec<_>>(), ["[::]:8080"]);
    assert_eq!(seen(outside.namespace(), HOST[1], 8080), OUTSIDE[1]);
    assert_eq!(default_gateway(&server, Family::V4).unwrap(), None);
}

#[test]
fn user_networks_do_not_reach_one_another_in_either_family() {
    let (_outside, host) = world();
    let one = dual("droste1", "172.20.0.0/16", "fd00:20::/64");
    let two = dual("droste2", "172.21.0.0/16", "fd00:21::/64");
    let closed = Bridge { icc: false, ..dual("droste3", "172.22.0.0/16", "fd00:22::/64") };
    [&one, &two, &closed].iter().for_each(|bridge| host.ensure_bridge(bridge).unwrap());
    let a = sandbox(&host, &one, &["172.20.0.2", "fd00:20::2"]);
    let b = sandbox(&host, &two, &["172.21.0.2", "fd00:21::2"]);
    let c = sandbox(&host, &closed, &["172.22.0.2", "fd00:22::2"]);
    let d = sandbox(&host, &closed, &["172.22.0.3", "fd00:22::3"]);
    [&a, &b, &c].iter().for_each(|sandbox| tcp_server(sandbox, 80));
    for to in ["172.21.0.2", "fd00:21::2"] {
        unreachable(&a, to, 80);
    }
    for to in ["172.22.0.2", "fd00:22::2"] {
        unreachable(&d, to, 80);
        unreachable(&a, to, 80);
    }
    let _held = publish(&host, 8080, target(Some("172.21.0.2"), Some("fd00:21::2")));
    assert_eq!(seen(&a, "172.20.0.1", 8080), "172.21.0.1", "but a published port is for all");
    assert_eq!(seen(&a, "fd00:20::1", 8080), "fd00:21::1");
}

#[test]
fn an_internal_network_has_no_way_out() {
    let (outside, host) = world();
    let inner = Bridge { internal: true, ..dual("droste1", "172.20.0.0/16", "fd00:20::/64") };
    let other = single("droste2", "172.21.0.0/16");
    host.ensure_bridge(&inner).unwrap();
    host.ensure_bridge(&other).unwrap();
    let a = sandbox(&host, &inner, &["172.20.0.2", "fd00:20::2"]);
    let b = sandbox(&host, &inner, &["172.20.0.3", "fd00:20::3"]);
    let c = sandbox(&host, &other, &["172.21.0.2"]);
    [outside.namespace(), &a, &c].iter().for_each(|sandbox| tcp_server(sandbox, 80));
    assert_eq!(seen(&b, "172.20.0.2", 80), "172.20.0.3");
    assert_eq!(seen(host.namespace(), "172.20.0.2", 80), "172.20.0.1", "its host reaches it");
    assert_eq!(ask(&a, OUTSIDE[0], 80, UNREACHABLE), Err(ErrorKind::NetworkUnreachable));
    // A container that may set routes gains nothing by it.
    run(&a, "ip", "route add default via 172.20.0.1");
    run(&a, "ip", "-6 route add default via fd00:20::1");
    OUTSIDE.iter().for_each(|to| unreachable(&a, to, 80));
    unreachable(&a, "172.21.0.2", 80);
    unreachable(&c, "172.20.0.2", 80);
    let _held = publish(&host, 8080, target(Some("172.21.0.2"), None));
    unreachable(&a, HOST[0], 8080);
    run(outside.namespace(), "ip", &format!("route add 172.20.0.0/16 via {}", HOST[0]));
    unreachable(outside.namespace(), "172.20.0.2", 80);
}

/// Whether an IPv4 address answers an echo request.
fn answers_echo(from: &Namespace, to: &str) -> bool {
    let kind = rustix::net::SocketType::DGRAM;
    let open = || rustix::net::socket(rustix::net::AddressFamily::INET, kind, Some(rustix::net::ipproto::ICMP));
    // Connecting, timeouts and bytes are the same as UDP's.
    let socket = UdpSocket::from(from.run_in(open).unwrap().unwrap());
    socket.set_read_timeout(Some(REACHABLE)).unwrap();
    socket.connect((ip(to), 0)).unwrap();
    socket.send(&[8, 0, 0, 0, 0, 0, 0, 1]).unwrap();
    let mut reply = [0; 64];
    socket.recv(&mut reply).is_ok() && reply[0] == 0
}

#[test]
fn gateway_modes_open_what_they_say() {
    let (outside, host) = world();
    let routed = |subnet| BridgeSubnet { mode: GatewayMode::Routed, ..BridgeSubnet::new(net(subnet)) };
    let one =
        Bridge { subnets: vec![routed("172.20.0.0/16"), routed("fd00:20::/64")], ..single("droste1", "10.0.0.0/8") };
    let open = BridgeSubnet { mode: GatewayMode::NatUnprotected, ..BridgeSubnet::new(net("172.21.0.0/16")) };
    let two = Bridge { subnets: vec![open], ..single("droste2", "10.0.0.0/8") };
    host.ensure_bridge(&one).unwrap();
    host.ensure_bridge(&two).unwrap();
    let a = sandbox(&host, &one, &["172.20.0.2", "fd00:20::2"]);
    let b = sandbox(&host, &two, &["172.21.0.2"]);
    for port in [80, 81] {
        tcp_server(&a, port);
        tcp_server(&b, port);
    }
    tcp_server(outside.namespace(), 80);
    for (subnet, via) in [("172.20.0.0/16", HOST[0]), ("172.21.0.0/16", HOST[0]), ("fd00:20::/64", HOST[1])] {
        run(outside.namespace(), "ip", &format!("route add {subnet} via {via}"));
    }
    for to in ["172.20.0.2", "fd00:20::2"] {
        unreachable(outside.namespace(), to, 80);
    }
    let held = publish(
        &host,
        8080,
        PortTarget { routed4: true, routed6: true, ..target(Some("172.20.0.2"), Some("fd00:20::2")) },
    );
    assert_eq!(held.addresses().count(), 0, "no port of the host is taken");
    for (to, outer) in [("172.20.0.2", OUTSIDE[0]), ("fd00:20::2", OUTSIDE[1])] {
        assert_eq!(seen(outside.namespace(), to, 80), outer);
        unreachable(outside.namespace(), to, 81);
        assert_eq!(seen(&a, outer, 80), to, "nothing is masked");
    }
    assert!(answers_echo(outside.namespace(), "172.20.0.2"));
    assert_eq!(seen(outside.namespace(), "172.21.0.2", 81), OUTSIDE[0]);
    assert_eq!(seen(&b, OUTSIDE[0], 80), HOST[0], "this one is masked");
    host.unpublish(&held.publications()).unwrap();
    unreachable(outside.namespace(), "172.20.0.2", 80);
}

#[test]
fn what_leaves_a_bridge_may_have_an_address_of_its_own() {
    let (outside, host) = world();
    run(host.namespace(), "ip", "addr add 10.200.0.9/24 dev eth0");
    run(host.namespace(), "ip", "addr add fd00:200::9/64 dev eth0 nodad");
    let sources = vec![ip("10.200.0.9"), ip("fd00:200::9")];
    let bridge = Bridge { sources, ..dual("droste1", "172.20.0.0/16", "fd00:20::/64") };
    let plain = dual("droste2", "172.21.0.0/16", "fd00:21::/64");
    host.ensure_bridge(&bridge).unwrap();
    host.ensure_bridge(&plain).unwrap();
    let named = sandbox(&host, &bridge, &["172.20.0.2", "fd00:20::2"]);
    let masked = sandbox(&host, &plain, &["172.21.0.2", "fd00:21::2"]);
    tcp_server(outside.namespace(), 80);
    assert_eq!(OUTSIDE.map(|at| seen(&named, at, 80)), ["10.200.0.9", "fd00:200::9"]);
    // Of several addresses of IPv6 the kernel masks with the latest, so only IPv4 tells the two apart.
    assert_eq!(seen(&masked, OUTSIDE[0], 80), HOST[0]);
    host.remove_bridge("droste1").unwrap();
    assert!(
        run(host.namespace(), "nft", "list map inet droste sources").lines().count() == 5,
        "it goes with its bridge"
    );
}

#[test]
fn trusted_interfaces_reach_published_ports_directly() {
    let (outside, host) = world();
    let bridge = Bridge { trusted: vec!["eth0".to_owned()], ..single("droste1", "172.20.0.0/16") };
    host.ensure_bridge(&bridge).unwrap();
    let server = sandbox(&host, &bridge, &["172.20.0.2"]);
    tcp_server(&server, 80);
    tcp_server(&server, 81);
    run(outside.namespace(), "ip", &format!("route add 172.20.0.0/16 via {}", HOST[0]));
    unreachable(outside.namespace(), "172.20.0.2", 80);
    let _held = publish(&host, 8080, target(Some("172.20.0.2"), None));
    assert_eq!(seen(outside.namespace(), "172.20.0.2", 80), OUTSIDE[0]);
    unreachable(outside.namespace(), "172.20.0.2", 81);
}

fn interfaces(sandbox: &Namespace) -> Vec<String> {
    let mut names: Vec<_> = interface_stats(sandbox).unwrap().into_iter().map(|l| l.name).collect();
    names.sort();
    names
}

#[test]
fn a_running_sandbox_joins_and_leaves_networks() {
    let (outside, host) = world();
    let one = single("droste1", "172.20.0.0/16");
    let two = dual("droste2", "172.21.0.0/16", "fd00:21::/64");
    host.ensure_bridge(&one).unwrap();
    host.ensure_bridge(&two).unwrap();
    let (peer1, peer2) = (sandbox(&host, &one, &["172.20.0.9"]), sandbox(&host, &two, &["172.21.0.9", "fd00:21::9"]));
    [&peer1, &peer2, outside.namespace()].iter().for_each(|sandbox| tcp_server(sandbox, 80));
    let links_before = links(host.namespace()).unwrap().len();

    let moving = Namespace::create().unwrap();
    let first = host.attach(&moving, &endpoint(&one, &["172.20.0.2"])).unwrap();
    let mut second = endpoint(&two, &["172.21.0.2", "fd00:21::2"]);
    second.gateways.retain(|gateway| gateway.family() == Family::V6);
    let second = host.attach(&moving, &second).unwrap();
    assert_eq!((first.ifname.as_str(), second.ifname.as_str()), ("eth0", "eth1"));
    assert_eq!(first.mac, Some(MacAddr::of_endpoint(ip("172.20.0.2"))));
    assert_eq!(seen(&moving, "172.20.0.9", 80), "172.20.0.2");
    assert_eq!(seen(&moving, "172.21.0.9", 80), "172.21.0.2");
    assert_eq!(seen(&moving, "fd00:21::9", 80), "fd00:21::2");
    assert_eq!(default_gateway(&moving, Family::V4).unwrap(), Some(ip("172.20.0.1")));
    assert_eq!(seen(&moving, OUTSIDE[1], 80), HOST[1], "each family has a way out of its own");

    host.detach(&moving, &first).unwrap();
    assert_eq!(default_gateway(&moving, Family::V4).unwrap(), None);
    assert_eq!(ask(&moving, OUTSIDE[0], 80, UNREACHABLE), Err(ErrorKind::NetworkUnreachable));
    let by_second = [Gateway::Via(ip("172.21.0.1")), Gateway::Via(ip("fd00:21::1"))];
    let wanted: Vec<_> = by_second.iter().map(|gateway| (second.ifname.clone(), *gateway)).collect();
    set_default_routes(&moving, &wanted).unwrap();
    set_default_routes(&moving, &wanted).expect("what is there stays");
    assert_eq!(seen(&moving, OUTSIDE[0], 80), HOST[0]);
    let again = host.attach(&moving, &Endpoint { gateways: Vec::new(), ..endpoint(&one, &["172.20.0.2"]) }).unwrap();
    assert_eq!(again.ifname, "eth0", "the lowest number that is free");
    set_default_routes(&moving, &[("eth0".to_owned(), Gateway::Via(ip("172.20.0.1")))]).unwrap();
    assert_eq!(default_gateway(&moving, Family::V4).unwrap(), Some(ip("172.20.0.1")));
    assert_eq!(default_gateway(&moving, Family::V6).unwrap(), None, "it was not among those wanted");
    let defaults = routes(&moving).unwrap().into_iter().filter(|r| r.destination.prefix_len() == 0);
    assert_eq!(defaults.count(), 1);
    [&again, &second].iter().for_each(|attached| host.detach(&moving, attached).unwrap());
    assert!(interfaces(&moving).is_empty());
    assert_eq!(links(host.namespace()).unwrap().len(), links_before, "nothing is left");
}

#[test]
fn a_thousand_visits_leave_nothing() {
    let (_outside, host) = world();
    let bridges = ["172.20.0.0/16", "172.21.0.0/16"].map(|subnet| single(&format!("br-{}", &subnet[5..6]), subnet));
    let bridges = [Bridge { name: "droste1".to_owned(), ..bridges[0].clone() }, bridges[1].clone()];
    bridges.iter().for_each(|bridge| host.ensure_bridge(bridge).unwrap());
    let before = (links(host.namespace()).unwrap().len(), run(host.namespace(), "nft", "list ruleset"));
    thread::scope(|scope| {
        for worker in 0..4 {
            let (host, bridges) = (&host, &bridges);
            scope.spawn(move || {
                let sandbox = Namespace::create().unwrap();
                for visit in 0..25 {
                    let address = format!("172.2{}.{worker}.{}", visit % 2, visit + 2);
                    let attached = host.attach(&sandbox, &endpoint(&bridges[visit % 2], &[&address])).unwrap();
                    let held = publish(host, 9000 + worker * 100 + visit as u16, target(Some(&address), None));
                    host.unpublish(&held.publications()).unwrap();
                    host.detach(&sandbox, &attached).unwrap();
                }
                assert!(interfaces(&sandbox).is_empty());
            });
        }
    });
    assert_eq!((links(host.namespace()).unwrap().len(), run(host.namespace(), "nft", "list ruleset")), before);
}

#[test]
fn an_interface_has_what_was_asked_for() {
    let (_outside, host) = world();
    let bridge = Bridge { mtu: 1400, ..dual("droste1", "172.20.0.0/16", "fd00:20::/64") };
    host.ensure_bridge(&bridge).unwrap();
    let asked = Endpoint {
        name: InterfaceName::Exactly("net7".to_owned()),
        mac: Some("02:11:22:33:44:55".parse().unwrap()),
        mtu: 1400,
        sysctls: vec![("net.ipv4.conf.IFNAME.log_martians".to_owned(), "1".to_owned())],
        addresses: vec![net("172.20.5.6/16"), net("fd00:20::99/64"), net("169.254.7.7/16")],
        ..endpoint(&bridge, &["172.20.5.6"])
    };
    let sandbox = Namespace::create().unwrap();
    let attached = host.attach(&sandbox, &asked).unwrap();
    assert_eq!((attached.ifname.as_str(), attached.mac), ("net7", asked.mac));
    let found = interface_stats(&sandbox).unwrap().remove(0);
    assert_eq!((found.name.as_str(), found.mtu, found.mac), ("net7", 1400, asked.mac));
    let of_link = addresses(&sandbox).unwrap().into_iter().filter(|a| a.index == found.index).map(|a| a.address);
    let of_link: Vec<_> = of_link.filter(|a| !a.to_string().starts_with("fe80")).collect();
    assert_eq!(of_link.len(), 3);
    assert!(asked.addresses.iter().all(|a| of_link.contains(a)));
    assert_eq!(sandbox.read_sysctl("net.ipv4.conf.net7.log_martians").unwrap(), "1");
    assert_eq!(sandbox.read_sysctl("net.ipv6.conf.net7.disable_ipv6").unwrap(), "0");
    let escape = Endpoint {
        sysctls: vec![("net.ipv4.ip_forward".to_owned(), "1".to_owned())],
        ..endpoint(&bridge, &["172.20.5.7"])
    };
    let before = links(host.namespace()).unwrap().len();
    assert!(matches!(host.attach(&sandbox, &escape), Err(NetworkError::SysctlName(_))));
    assert_eq!(links(host.namespace()).unwrap().len(), before, "a refused one leaves nothing");
}

#[test]
fn an_address_with_another_mac_is_found_at_once() {
    let (_outside, host) = world();
    let bridge = single("droste1", "172.20.0.0/16");
    host.ensure_bridge(&bridge).unwrap();
    let client = sandbox(&host, &bridge, &["172.20.0.3"]);
    let first = Namespace::create().unwrap();
    let attached = host.attach(&first, &endpoint(&bridge, &["172.20.0.2"])).unwrap();
    tcp_server(&first, 80);
    assert_eq!(seen(&client, "172.20.0.2", 80), "172.20.0.3");
    host.detach(&first, &attached).unwrap();
    let mac = Some("02:11:22:33:44:55".parse().unwrap());
    let second = Namespace::create().unwrap();
    host.attach(&second, &Endpoint { mac, ..endpoint(&bridge, &["172.20.0.2"]) }).unwrap();
    tcp_server(&second, 80);
    assert_eq!(seen(&client, "172.20.0.2", 80), "172.20.0.3");
}

#[test]
fn a_bridge_takes_an_endpoints_packets_from_the_first() {
    let (_outside, host) = world();
    let bridge = single("droste1", "172.20.0.0/16");
    host.ensure_bridge(&bridge).unwrap();
    for number in 2..30 {
        let _sandbox = sandbox(&host, &bridge, &[&format!("172.20.0.{number}")]);
        // A listing of all ports shows their state as it is, without making the kernel look at them.
        let ports = run(host.namespace(), "bridge", "link show");
        assert_eq!(ports.matches("state forwarding").count(), ports.lines().count(), "{ports}");
    }
}

#[test]
fn a_host_that_was_no_router_is_none_for_others() {
    let (outside, host) = world();
    host.namespace().write_sysctls(&[("net.ipv4.ip_forward", "0")]).unwrap();
    let lan = single("lan0", "10.77.0.0/24");
    let other = HostNetwork::open(host.namespace().try_clone().unwrap(), "other").unwrap();
    // An interface of the host's that is none of ours, with somebody behind it.
    run(host.namespace(), "ip", "link add lan0 type bridge");
    run(host.namespace(), "ip", "address add 10.77.0.1/24 dev lan0");
    run(host.namespace(), "ip", "link set lan0 up");
    let neighbour = sandbox(&other, &lan, &["10.77.0.2"]);
    run(outside.namespace(), "ip", &format!("route add 10.77.0.0/24 via {}", HOST[0]));
    tcp_server(&neighbour, 80);
    unreachable(outside.namespace(), "10.77.0.2", 80);
    let bridge = single("droste1", "172.20.0.0/16");
    host.ensure_bridge(&bridge).unwrap();
    assert_eq!(host.namespace().read_sysctl("net.ipv4.ip_forward").unwrap(), "1");
    unreachable(outside.namespace(), "10.77.0.2", 80);
    // A later daemon knows it still.
    let later = HostNetwork::open(host.namespace().try_clone().unwrap(), "droste").unwrap();
    later.reconcile(&Wanted { bridges: vec![bridge.clone()], ..Wanted::default() }).unwrap();
    unreachable(outside.namespace(), "10.77.0.2", 80);
    tcp_server(outside.namespace(), 81);
    assert_eq!(seen(&sandbox(&later, &bridge, &["172.20.0.2"]), OUTSIDE[0], 81), HOST[0], "ours go out");
    // Who made the host a router before us keeps one.
    later.clear().unwrap();
    later.ensure_bridge(&bridge).unwrap();
    assert_eq!(seen(outside.namespace(), "10.77.0.2", 80), OUTSIDE[0]);
}

#[test]
fn advertised_routes_are_kept_when_a_host_becomes_a_router() {
    let (_outside, host) = world();
    assert_eq!(host.namespace().read_sysctl("net.ipv6.conf.eth0.accept_ra").unwrap(), "1");
    host.ensure_bridge(&single("droste4", "172.20.0.0/16")).unwrap();
    assert_eq!(host.namespace().read_sysctl("net.ipv6.conf.all.forwarding").unwrap(), "0", "IPv4 needs none of it");
    assert_eq!(host.namespace().read_sysctl("net.ipv6.conf.droste4.disable_ipv6").unwrap(), "1");
    host.ensure_bridge(&single("droste6", "fd00:60::/64")).unwrap();
    assert_eq!(host.namespace().read_sysctl("net.ipv6.conf.all.forwarding").unwrap(), "1");
    assert_eq!(host.namespace().read_sysctl("net.ipv6.conf.eth0.accept_ra").unwrap(), "2");
}

#[test]
fn a_bridge_that_was_there_is_used_and_left() {
    let (outside, host) = world();
    run(host.namespace(), "ip", "link add br0 type bridge");
    run(host.namespace(), "ip", "address add 10.66.0.1/24 dev br0");
    run(host.namespace(), "ip", "-6 address add fd00:66::1/64 dev br0 nodad");
    run(host.namespace(), "ip", "link set br0 up");
    let bridge = single("br0", "172.20.0.0/16");
    host.ensure_bridge(&bridge).unwrap();
    let container = sandbox(&host, &bridge, &["172.20.0.2"]);
    tcp_server(outside.namespace(), 80);
    assert_eq!(seen(&container, OUTSIDE[0], 80), HOST[0]);
    let of_br0 = || -> Vec<String> {
        let index = links(host.namespace()).unwrap().into_iter().find(|l| l.name == "br0").unwrap().index;
        let all = addresses(host.namespace()).unwrap().into_iter().filter(|a| a.index == index);
        all.map(|a| a.address.to_string()).filter(|a| !a.starts_with("fe80")).collect()
    };
    assert_eq!(of_br0(), ["10.66.0.1/24", "172.20.0.1/16", "fd00:66::1/64"]);
    // Of what a lost daemon had on it, nothing stays; of itself, all.
    host.reconcile(&Wanted { bridges: vec![bridge], ..Wanted::default() }).unwrap();
    assert!(interfaces(&container).is_empty());
    host.remove_bridge("br0").unwrap();
    assert_eq!(of_br0(), ["10.66.0.1/24", "fd00:66::1/64"]);
    host.clear().unwrap();
    assert_eq!(of_br0(), ["10.66.0.1/24", "fd00:66::1/64"]);
}

fn macvlan(parent: &Parent, ip: &str, mode: MacvlanMode) -> Endpoint {
    Endpoint {
        uplink: Uplink::Macvlan { parent: parent.name.clone(), mode },
        name: InterfaceName::Prefix("eth".to_owned()),
        addresses: vec![net(ip)],
        mac: None,
        gateways: Vec::new(),
        mtu: 0,
        sysctls: Vec::new(),
    }
}

#[test]
fn macvlan_containers_are_on_their_parents_link() {
    let (outside, host) = world();
    tcp_server(outside.namespace(), 80);
    let parent = Parent::of(Some("eth0"), "").unwrap();
    host.ensure_parent(&parent).unwrap();
    let attach = |ip: &str, mode| {
        let namespace = Namespace::create().unwrap();
        let attached = host.attach(&namespace, &macvlan(&parent, ip, mode)).unwrap();
        (namespace, attached)
    };
    let (one, attached) = attach("10.200.0.11/24", MacvlanMode::Bridge);
    let (two, _) = attach("10.200.0.12/24", MacvlanMode::Bridge);
    assert_eq!((attached.ifname.as_str(), attached.host_ifname.as_deref()), ("eth0", None));
    assert!(attached.mac.is_some());
    tcp_server(&one, 80);
    assert_eq!(seen(&one, OUTSIDE[0], 80), "10.200.0.11", "with an address of its own out there");
    assert_eq!(seen(outside.namespace(), "10.200.0.11", 80), OUTSIDE[0]);
    assert_eq!(seen(&two, "10.200.0.11", 80), "10.200.0.12");
    let wrong = macvlan(&Parent::of(Some("eth9"), "").unwrap(), "10.200.0.13/24", MacvlanMode::Bridge);
    assert!(matches!(host.attach(&two, &wrong), Err(NetworkError::NoParent(_))));
    assert!(matches!(host.ensure_parent(&Parent::of(Some("eth9"), "").unwrap()), Err(NetworkError::NoParent(_))));
    host.detach(&one, &attached).unwrap();
    host.detach(&one, &attached).expect("what is gone is detached");
    assert!(interfaces(&one).is_empty());
    host.remove_parent(&parent).unwrap();
    assert!(links(host.namespace()).unwrap().iter().any(|l| l.name == "eth0"), "the host's own stays");
}

#[test]
fn a_macvlan_network_without_parent_leads_nowhere() {
    let (_outside, host) = world();
    let parent = Parent::of(None, "0123456789abcdef").unwrap();
    host.ensure_parent(&parent).unwrap();
    host.ensure_parent(&parent).expect("what is there is ensured");
    let (one, two) = (Namespace::create().unwrap(), Namespace::create().unwrap());
    host.attach(&one, &macvlan(&parent, "10.88.0.2/24", MacvlanMode::Bridge)).unwrap();
    host.attach(&two, &macvlan(&parent, "10.88.0.3/24", MacvlanMode::Bridge)).unwrap();
    tcp_server(&one, 80);
    assert_eq!(seen(&two, "10.88.0.2", 80), "10.88.0.3");
    unreachable(host.namespace(), "10.88.0.2", 80);
    let wanted = Wanted { parents: vec![parent.clone()], ..Wanted::default() };
    host.reconcile(&wanted).unwrap();
    assert_eq!(seen(&two, "10.88.0.2", 80), "10.88.0.3");
    host.reconcile(&Wanted::default()).unwrap();
    let names: Vec<_> = links(host.namespace()).unwrap().into_iter().map(|l| l.name).collect();
    assert_eq!(names, ["lo", "eth0"], "what nobody wants any more is gone");
}

#[test]
fn a_crash_leaves_what_is_wanted_of_many_networks() {
    let (outside, host) = world();
    let one = dual("droste1", "172.20.0.0/16", "fd00:20::/64");
    let two = single("droste2", "172.21.0.0/16");
    host.ensure_bridge(&one).unwrap();
    host.ensure_bridge(&two).unwrap();
    let kept = Namespace::create().unwrap();
    let attached: Attached = host.attach(&kept, &endpoint(&one, &["172.20.0.2", "fd00:20::2"])).unwrap();
    let lost = sandbox(&host, &two, &["172.21.0.2"]);
    tcp_server(&kept, 80);
    let held = publish(&host, 8080, target(Some("172.20.0.2"), Some("fd00:20::2")));
    let _stale = publish(&host, 8081, target(Some("172.21.0.2"), None));
    run(host.namespace(), "nft", "flush ruleset");

    let later = HostNetwork::open(host.namespace().try_clone().unwrap(), "droste").unwrap();
    assert_eq!(later.bridge_subnets("droste1").unwrap(), [net("172.20.0.0/16"), net("fd00:20::/64")]);
    let wanted = Wanted {
        bridges: vec![one],
        parents: Vec::new(),
        ports: held.publications(),
        host_ifnames: attached.host_ifname.into_iter().collect(),
    };
    later.reconcile(&wanted).unwrap();
    assert_eq!(seen(outside.namespace(), HOST[0], 8080), OUTSIDE[0]);
    assert_eq!(seen(outside.namespace(), HOST[1], 8080), OUTSIDE[1]);
    assert!(interfaces(&lost).is_empty());
    let rules = run(host.namespace(), "nft", "list ruleset");
    assert!(!rules.contains("8081") && !rules.contains("droste2"), "{rules}");
}

#[test]
fn making_a_network_adds_elements_and_no_rules() {
    let (_outside, host) = world();
    host.ensure_bridge(&single("droste1", "172.20.0.0/16")).unwrap();
    let handles = || -> Vec<String> {
        let text = run(host.namespace(), "nft", "--handle list table inet droste");
        text.lines().filter(|l| l.contains("# handle")).map(str::to_owned).collect()
    };
    let before = handles();
    let neighbours = [dual("droste2", "172.21.0.0/16", "fd00:21::/64"), single("droste3", "172.19.0.0/16")];
    neighbours.iter().for_each(|bridge| host.ensure_bridge(bridge).unwrap());
    assert_eq!(handles(), before);
    assert!(!host.verify().unwrap(), "the table is as it should be");
    host.remove_bridge("droste2").unwrap();
    host.ensure_bridge(&Bridge { icc: false, ..single("droste1", "172.20.0.0/16") }).unwrap();
    assert_eq!(handles(), before);
    assert!(!host.verify().unwrap());
    let table = run(host.namespace(), "nft", "list table inet droste");
    assert!(!table.contains("droste2") && !table.contains("fd00:21::"), "{table}");
    assert!(!table.contains("\"droste1\" . \"droste1\"") && table.contains("\"droste3\" . \"droste3\""), "{table}");
    host.verify().unwrap();
}

#[test]
fn flows_of_udp_end_with_an_endpoint() {
    const FLOWS: u32 = 20;
    let (outside, host) = world();
    let bridge = single("droste1", "172.20.0.0/16");
    host.ensure_bridge(&bridge).unwrap();
    let sandbox = Namespace::create().unwrap();
    let attached = host.attach(&sandbox, &endpoint(&bridge, &["172.20.0.2"])).unwrap();
    let server = outside.namespace().run_in(|| UdpSocket::bind("0.0.0.0:5000")).unwrap().unwrap();
    server.set_read_timeout(Some(REACHABLE)).unwrap();
    for _ in 0..FLOWS {
        let client = sandbox.run_in(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
        client.send_to(b"hello", (OUTSIDE[0], 5000)).unwrap();
        server.recv_from(&mut [0; 16]).unwrap();
    }
    let flows = || host.namespace().run_in(|| std::fs::read_to_string("/proc/thread-self/net/stat/nf_conntrack"));
    let count = || {
        let text = flows().unwrap().unwrap();
        u32::from_str_radix(text.lines().nth(1).unwrap().split_whitespace().next().unwrap(), 16).unwrap()
    };
    assert!(count() >= FLOWS);
    host.detach(&sandbox, &attached).unwrap();
    // The kernel counts a flow until its last packet is freed; its own for multicast (IGMP) come and stay.
    let end = Instant::now() + Duration::from_secs(10);
    while count() > FLOWS / 2 {
        assert!(Instant::now() < end, "the flows are forgotten");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn subnets_of_both_families_are_chosen_around_what_is_used() {
    let (_outside, host) = world();
    let pools = AddressPools::of(&[(net("10.200.0.0/22"), 24)], b"seed").unwrap();
    let taken = [Taken { subnet: net("10.200.1.0/24"), holder: "network web".to_owned() }];
    assert_eq!(host.choose_subnet(&pools, Family::V4, &taken).unwrap(), net("10.200.2.0/24"));
    let small = AddressPools::of(&[(net("10.200.0.0/23"), 24)], b"seed").unwrap();
    let error = host.choose_subnet(&small, Family::V4, &taken).unwrap_err().to_string();
    assert!(error.starts_with("all predefined address pools have been fully subnetted"), "{error}");
    assert!(error.contains("10.200.0.0/24 (a route of this host)") && error.contains("(network web)"), "{error}");
    let six = AddressPools::of(&[(net("fd00:200::/62"), 64)], b"").unwrap();
    assert_eq!(host.choose_subnet(&six, Family::V6, &[]).unwrap(), net("fd00:200:0:1::/64"));
    assert!(matches!(host.check_subnet(net("fd00:200::/48")), Err(NetworkError::Overlap { .. })));
    host.check_subnet(net("fd00:300::/48")).unwrap();
}

#[test]
fn link_local_sixes_of_a_bridge_without_ipv6_do_not_reach_the_host() {
    let (_outside, host) = world();
    let bridge = single("droste1", "172.20.0.0/16");
    host.ensure_bridge(&bridge).unwrap();
    let _attacker = sandbox(&host, &bridge, &["172.20.0.2"]);
    let index = links(host.namespace()).unwrap().into_iter().find(|l| l.name == "droste1").unwrap().index;
    let of_bridge = addresses(host.namespace()).unwrap().into_iter().filter(|a| a.index == index);
    assert_eq!(of_bridge.map(|a| a.address).collect::<Vec<_>>(), [net("172.20.0.1/16")]);
}

#[test]
fn a_table_with_subnets_beside_each_other_is_written_anew() {
    let (_outside, host) = world();
    let ensure = |number: u8| {
        let bridge = dual(&format!("side{number}"), &format!("10.{number}.0.0/16"), &format!("fd00:{number}::/32"));
        host.ensure_bridge(&bridge).unwrap();
    };
    (20..26).for_each(ensure);
    let nft = |words: &str| run(host.namespace(), "nft", words);
    let before = nft("list table inet droste");
    nft("flush ruleset");
    assert!(host.verify().unwrap());
    assert_eq!(nft("list table inet droste"), before);
}
