//! The resolver at 127.0.0.11, asked by real packets from inside of sandboxes. Needs root, and the program `ip`.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use droste_network::{Addresses, DNS_ADDRESS, DnsServer, Names, Namespace, NetworkError, Origin, Sockets, Upstream};
use tokio::runtime::Handle;

const PATIENCE: Duration = Duration::from_secs(15);
const A: u16 = 1;
const PTR: u16 = 12;
const MX: u16 = 15;
const AAAA: u16 = 28;
const NO_ERROR: u8 = 0;
const SERVER_FAILURE: u8 = 2;
const NOT_FOUND: u8 = 3;
const REFUSED: u8 = 5;

/// The names that the tests' engine knows.
struct Known;

impl Names for Known {
    fn addresses(&self, name: &str) -> Option<Addresses> {
        let v4 = |last: &[u8]| last.iter().map(|n| Ipv4Addr::new(172, 18, 0, *n)).collect();
        match name {
            "web" => Some(Addresses { v4: v4(&[2]), v6: vec!["fd00::2".parse().unwrap()] }),
            "old" => Some(Addresses { v4: v4(&[3]), v6: Vec::new() }),
            "three" => Some(Addresses { v4: v4(&[4, 5, 6]), v6: Vec::new() }),
            "many" => Some(Addresses { v4: (0..=255).map(|n| Ipv4Addr::new(10, 0, 0, n)).collect(), v6: Vec::new() }),
            _ => None,
        }
    }

    fn name_of(&self, address: IpAddr) -> Option<String> {
        (address == IpAddr::from([172, 18, 0, 2])).then(|| "web.front".to_owned())
    }
}

/// A runtime whose tasks run as long as the test does.
fn runtime() -> Handle {
    let (send, receive) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        send.send(runtime.handle().clone()).unwrap();
        runtime.block_on(std::future::pending::<()>());
    });
    receive.recv().unwrap()
}

struct World {
    host: Namespace,
    sandbox: Namespace,
    server: DnsServer,
    runtime: Handle,
}

fn world(upstreams: &[(&str, Origin)]) -> World {
    let (host, sandbox, runtime) = (Namespace::create().unwrap(), Namespace::create().unwrap(), runtime());
    let server = start(&runtime, &sandbox, &host, upstreams).unwrap();
    World { host, sandbox, server, runtime }
}

fn start(
    runtime: &Handle,
    sandbox: &Namespace,
    host: &Namespace,
    upstreams: &[(&str, Origin)],
) -> Result<DnsServer, NetworkError> {
    let upstreams = upstreams
        .iter()
        .map(|(server, origin)| Upstream { server: server.parse().unwrap(), scope: 0, origin: *origin })
        .collect();
    DnsServer::start(runtime, sandbox, (host, &Sockets::default()), Arc::new(Known), upstreams)
}

fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    bytes
}

/// A response: its code, whether there is more, and the data of each answer.
#[derive(Debug, PartialEq, Eq)]
struct Response {
    code: u8,
    truncated: bool,
    answers: Vec<Vec<u8>>,
}

fn read(query: &[u8], response: &[u8]) -> Response {
    assert_eq!(&query[..2], &response[..2], "the answer to another query");
    assert!(response[2] & 0x80 != 0);
    let count = u16::from_be_bytes([response[6], response[7]]);
    let mut at = query.len();
    let mut answers = Vec::new();
    for _ in 0..count {
        let length = usize::from(u16::from_be_bytes([response[at + 10], response[at + 11]]));
        answers.push(response[at + 12..at + 12 + length].to_vec());
        at += 12 + length;
    }
    Response { code: response[3] & 0x0f, truncated: response[2] & 2 != 0, answers }
}

fn ask(sandbox: &Namespace, name: &str, kind: u16) -> Response {
    let socket = sandbox.run_in(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    ask_by(&socket, name, kind)
}

fn ask_by(socket: &UdpSocket, name: &str, kind: u16) -> Response {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let query = query(0x4711, name, kind);
    socket.send_to(&query, (DNS_ADDRESS, 53)).unwrap();
    let mut buffer = [0; 4096];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(from, (DNS_ADDRESS, 53).into());
    read(&query, &buffer[..length])
}

fn ask_tcp(sandbox: &Namespace, name: &str, kind: u16) -> Response {
    let mut stream = sandbox.run_in(|| TcpStream::connect((DNS_ADDRESS, 53))).unwrap().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let query = query(0x4712, name, kind);
    stream.write_all(&(query.len() as u16).to_be_bytes()).unwrap();
    stream.write_all(&query).unwrap();
    read(&query, &read_framed(&mut stream))
}

fn read_framed(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn answers(data: &[&[u8]]) -> Response {
    Response { code: NO_ERROR, truncated: false, answers: data.iter().map(|d| d.to_vec()).collect() }
}

fn code(code: u8) -> Response {
    Response { code, truncated: false, answers: Vec::new() }
}

/// A name server that answers every query alike: with an address, or with a code.
fn name_server(namespace: &Namespace, address: &'static str, code: u8, ip: Option<[u8; 4]>) {
    let respond = move |query: &[u8]| {
        let mut response = query.to_vec();
        response[2] |= 0x80;
        response[3] = code;
        if let Some(ip) = ip {
            response[7] = 1;
            response.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4]);
            response.extend_from_slice(&ip);
        }
        response
    };
    let udp = namespace.run_in(|| UdpSocket::bind((address, 53))).unwrap().unwrap();
    let tcp = namespace.run_in(|| TcpListener::bind((address, 53))).unwrap().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = udp.recv_from(&mut buffer) {
            udp.send_to(&respond(&buffer[..length]), client).unwrap();
        }
    });
    thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let response = respond(&read_framed(&mut stream));
            stream.write_all(&(response.len() as u16).to_be_bytes()).unwrap();
            stream.write_all(&response).unwrap();
        }
    });
}

#[test]
fn names_are_answered_over_udp_and_tcp() {
    let world = world(&[]);
    let six: &[u8] = &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    for ask in [ask, ask_tcp] {
        assert_eq!(ask(&world.sandbox, "web", A), answers(&[&[172, 18, 0, 2]]));
        assert_eq!(ask(&world.sandbox, "WEB", AAAA), answers(&[six]));
        assert_eq!(ask(&world.sandbox, "old", AAAA), answers(&[]), "it is there, in another family");
        assert_eq!(ask(&world.sandbox, "web", MX), answers(&[]));
        assert_eq!(ask(&world.sandbox, "2.0.18.172.in-addr.arpa", PTR), answers(&[b"\x03web\x05front\0"]));
        assert_eq!(ask(&world.sandbox, "nobody", A), code(SERVER_FAILURE), "nobody can be asked");
    }
}

#[test]
fn several_addresses_take_turns() {
    let world = world(&[]);
    let firsts: std::collections::BTreeSet<_> =
        (0..3).map(|_| ask(&world.sandbox, "three", A).answers[0].clone()).collect();
    assert_eq!(firsts.len(), 3);
    assert_eq!(ask(&world.sandbox, "three", A).answers.len(), 3);
}

#[test]
fn what_is_too_long_for_udp_is_had_over_tcp() {
    let world = world(&[]);
    assert_eq!(ask(&world.sandbox, "many", A), Response { truncated: true, ..code(NO_ERROR) });
    assert_eq!(ask_tcp(&world.sandbox, "many", A).answers.len(), 256);
}

#[test]
fn other_names_are_asked_of_the_hosts_servers_at_its_loopback() {
    let world = world(&[("127.0.0.53", Origin::Host)]);
    name_server(&world.host, "127.0.0.53", NO_ERROR, Some([9, 9, 9, 9]));
    for ask in [ask, ask_tcp] {
        assert_eq!(ask(&world.sandbox, "example.com", A), answers(&[&[9, 9, 9, 9]]));
        assert_eq!(ask(&world.sandbox, "single", A), answers(&[&[9, 9, 9, 9]]), "names of one label too");
        assert_eq!(ask(&world.sandbox, "web", A), answers(&[&[172, 18, 0, 2]]), "but not those that are known");
    }
    world.server.forward(false);
    assert_eq!(ask(&world.sandbox, "example.com", A), code(SERVER_FAILURE), "an internal network leads nowhere");
    assert_eq!(ask(&world.sandbox, "web", A), answers(&[&[172, 18, 0, 2]]));
    world.server.forward(true);
    world.server.set_upstreams(Vec::new());
    assert_eq!(ask(&world.sandbox, "example.com", A), code(SERVER_FAILURE));
}

#[test]
fn servers_that_a_container_names_are_its_own() {
    let world = world(&[("127.0.0.9", Origin::Sandbox)]);
    name_server(&world.sandbox, "127.0.0.9", NO_ERROR, Some([1, 1, 1, 1]));
    name_server(&world.host, "127.0.0.9", NO_ERROR, Some([6, 6, 6, 6]));
    assert_eq!(ask(&world.sandbox, "example.com", A), answers(&[&[1, 1, 1, 1]]));
}

#[test]
fn servers_that_cannot_help_are_passed_over() {
    let three = [("127.0.0.2", Origin::Host), ("127.0.0.3", Origin::Host), ("127.0.0.4", Origin::Host)];
    let world = world(&three);
    // Nobody is at the first, so its refusal comes at once.
    name_server(&world.host, "127.0.0.3", REFUSED, None);
    assert_eq!(ask(&world.sandbox, "example.com", A), code(REFUSED), "the last word");
    name_server(&world.host, "127.0.0.4", NOT_FOUND, None);
    assert_eq!(ask(&world.sandbox, "example.com", A), code(NOT_FOUND), "which is an answer");
}

#[test]
fn a_host_without_places_for_sockets_asks_nobody() {
    let (host, sandbox, runtime) = (Namespace::create().unwrap(), Namespace::create().unwrap(), runtime());
    name_server(&host, "127.0.0.1", NO_ERROR, Some([9, 9, 9, 9]));
    let upstream = Upstream { server: [127, 0, 0, 1].into(), scope: 0, origin: Origin::Host };
    let sockets = Sockets::new(1);
    let _server = DnsServer::start(&runtime, &sandbox, (&host, &sockets), Arc::new(Known), vec![upstream]).unwrap();
    assert_eq!(ask(&sandbox, "elsewhere.test", A), answers(&[&[9, 9, 9, 9]]));
    let held = loop {
        // The answer comes a moment before its place is given back.
        if let Some(held) = sockets.take(1) {
            break held;
        }
        thread::yield_now();
    };
    assert_eq!(ask(&sandbox, "elsewhere.test", A).code, REFUSED);
    assert_eq!(ask(&sandbox, "web", A), answers(&[&[172, 18, 0, 2]]));
    drop(held);
    assert_eq!(ask(&sandbox, "elsewhere.test", A), answers(&[&[9, 9, 9, 9]]));
}

#[test]
fn port_53_stays_free_for_the_container() {
    let world = world(&[]);
    for address in ["0.0.0.0:53", "[::]:53"] {
        world.sandbox.run_in(|| UdpSocket::bind(address)).unwrap().unwrap();
        world.sandbox.run_in(|| TcpListener::bind(address)).unwrap().unwrap();
    }
    let _own = world.sandbox.run_in(|| UdpSocket::bind("0.0.0.0:53")).unwrap().unwrap();
    assert_eq!(ask(&world.sandbox, "web", A), answers(&[&[172, 18, 0, 2]]));
}

#[test]
fn nobody_outside_can_ask() {
    let world = world(&[]);
    let run = |namespace: &Namespace, arguments: &str| {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let output = namespace.run_in(|| Command::new("ip").args(&arguments).output()).unwrap().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    };
    // Another sandbox on the same link, and a target as careless as it can be.
    let attacker = Namespace::create().unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&attacker));
    run(&world.sandbox, &format!("link add eth0 type veth peer name eth0 netns /proc/{}/fd/{fd}", std::process::id()));
    for (namespace, address) in [(&world.sandbox, "10.1.0.1/24"), (&attacker, "10.1.0.2/24")] {
        run(namespace, &format!("address add {address} dev eth0"));
        run(namespace, "link set eth0 up");
        namespace.write_sysctls(&[("net.ipv4.conf.eth0.route_localnet", "1")]).unwrap();
        namespace.write_sysctls(&[("net.ipv4.conf.all.rp_filter", "0")]).unwrap();
    }
    run(&attacker, "address flush dev lo");
    run(&attacker, "route add 127.0.0.11 via 10.1.0.1");
    let port = |kind: &str| -> u16 {
        let table = world.sandbox.run_in(|| std::fs::read_to_string(format!("/proc/thread-self/net/{kind}"))).unwrap();
        let table = table.unwrap();
        let line = table.lines().find(|line| line.contains("0B00007F:")).unwrap();
        let text = line.split("0B00007F:").nth(1).unwrap();
        u16::from_str_radix(&text[..4], 16).unwrap()
    };
    let (udp, tcp) = (port("udp"), port("tcp"));
    let socket = attacker.run_in(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    for to in [udp, 53] {
        let _ = socket.send_to(&query(1, "web", A), (DNS_ADDRESS, to));
        let got = socket.recv_from(&mut [0; 512]);
        assert!(got.is_err(), "port {to} answered");
    }
    let address = (DNS_ADDRESS, tcp).into();
    let connected = attacker.run_in(|| TcpStream::connect_timeout(&address, Duration::from_millis(700))).unwrap();
    assert!(connected.is_err());
    // The way itself is open: what listens at all of the target's interfaces is reached.
    let open = world.sandbox.run_in(|| TcpListener::bind((DNS_ADDRESS, 8053))).unwrap().unwrap();
    let address = open.local_addr().unwrap();
    attacker.run_in(|| TcpStream::connect_timeout(&address, PATIENCE)).unwrap().expect("the attack is a real one");
}

#[test]
fn a_resolver_is_opened_anew_after_a_restart() {
    let world = world(&[]);
    let client = world.sandbox.run_in(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    assert_eq!(ask_by(&client, "web", A), answers(&[&[172, 18, 0, 2]]));
    drop(world.server);
    let again = start(&world.runtime, &world.sandbox, &world.host, &[]).unwrap();
    assert_eq!(ask_by(&client, "web", A), answers(&[&[172, 18, 0, 2]]), "from the same port");
    assert_eq!(ask_tcp(&world.sandbox, "web", A), answers(&[&[172, 18, 0, 2]]));
    drop(again);
    let gone = (0..100).any(|_| {
        thread::sleep(Duration::from_millis(20));
        let refused = world.sandbox.run_in(|| TcpStream::connect((DNS_ADDRESS, 53))).unwrap();
        refused.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    assert!(gone, "a dropped resolver leaves no socket");
}

#[test]
fn nonsense_does_not_stop_it() {
    let world = world(&[]);
    let socket = world.sandbox.run_in(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    let whole = query(7, "web", A);
    for length in 0..whole.len() {
        socket.send_to(&whole[..length], (DNS_ADDRESS, 53)).unwrap();
    }
    for byte in 0..=255 {
        socket.send_to(&[byte; 512], (DNS_ADDRESS, 53)).unwrap();
    }
    let mut stream = world.sandbox.run_in(|| TcpStream::connect((DNS_ADDRESS, 53))).unwrap().unwrap();
    stream.write_all(&[0xff; 64]).unwrap();
    assert_eq!(ask(&world.sandbox, "web", A), answers(&[&[172, 18, 0, 2]]));
    assert_eq!(ask_tcp(&world.sandbox, "web", A), answers(&[&[172, 18, 0, 2]]));
}
