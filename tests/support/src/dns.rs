//! Just enough of DNS (RFC 1035) to ask a container's resolver and to be a resolver that it forwards to.
//! It shares no code with the engine's.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::container::Container;
use crate::engine::Engine;

/// Where the resolver of a container on a network of its own listens.
pub const RESOLVER: &str = "127.0.0.11";
const HUNG: Duration = Duration::from_secs(30);

/// IPv4 address, name of an address, IPv6 address.
pub const A: u16 = 1;
/// See `A`.
pub const PTR: u16 = 12;
/// See `A`.
pub const AAAA: u16 = 28;
/// Text.
pub const TXT: u16 = 16;

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// 0 no error, 2 server failure, 3 no such name.
    pub code: u8,
    /// Whether it was cut short (the client is to ask over TCP).
    pub cut: bool,
    /// Records of the answer section: kind, seconds to live, and the address or name as text.
    pub records: Vec<(u16, u32, String)>,
}

impl Answer {
    /// The addresses or names alone.
    pub fn data(&self) -> Vec<&str> {
        self.records.iter().map(|(_, _, data)| data.as_str()).collect()
    }
}

impl Engine {
    /// Asks the resolver of a container for IPv4 addresses over UDP.
    pub fn addresses(&self, container: &Container<'_>, name: &str) -> Vec<String> {
        let answer = self.ask(container, name, A);
        answer.data().into_iter().map(str::to_owned).collect()
    }

    /// Asks the resolver of a container over UDP.
    pub fn ask(&self, container: &Container<'_>, name: &str, kind: u16) -> Answer {
        self.in_netns_of_container(container, || {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("make a socket");
            socket.set_read_timeout(Some(HUNG)).expect("set a timeout");
            socket.send_to(&question(name, kind), (RESOLVER, 53)).expect("ask the resolver");
            let mut reply = [0; 4096];
            let n = socket.recv(&mut reply).unwrap_or_else(|e| panic!("{name}: no answer: {e}"));
            parse(&reply[..n])
        })
    }

    /// Asks the resolver of a container over TCP.
    pub fn ask_over_tcp(&self, container: &Container<'_>, name: &str, kind: u16) -> Answer {
        self.in_netns_of_container(container, || {
            let mut stream = TcpStream::connect((RESOLVER, 53)).expect("connect to the resolver");
            stream.set_read_timeout(Some(HUNG)).expect("set a timeout");
            stream.write_all(&framed(&question(name, kind))).expect("ask the resolver");
            parse(&read_framed(&mut stream).unwrap_or_else(|| panic!("{name}: no answer")))
        })
    }
}

fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend(labels(name));
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}

fn labels(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(u8::try_from(label.len()).expect("a label has at most 63 octets"));
        out.extend(label.bytes());
    }
    out.push(0);
    out
}

fn framed(message: &[u8]) -> Vec<u8> {
    let size = u16::try_from(message.len()).expect("a message has at most 65535 octets");
    [&size.to_be_bytes(), message].concat()
}

fn read_framed(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut size = [0; 2];
    stream.read_exact(&mut size).ok()?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(size))];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}

fn word(message: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([message[at], message[at + 1]])
}

/// A name at a position, and where it ends.
fn name_at(message: &[u8], mut at: usize) -> (String, usize) {
    let mut labels = Vec::new();
    let mut end = None;
    loop {
        let size = usize::from(message[at]);
        if size >= 0xc0 {
            end.get_or_insert(at + 2);
            at = usize::from(word(message, at) & 0x3fff);
        } else if size == 0 {
            return (labels.join("."), end.unwrap_or(at + 1));
        } else {
            labels.push(String::from_utf8_lossy(&message[at + 1..=at + size]).into_owned());
            at += size + 1;
        }
    }
}

fn parse(message: &[u8]) -> Answer {
    assert_eq!(message[..2], [0x12, 0x34], "the reply is to another question");
    assert!(message[2] & 0x80 != 0, "a reply says that it is one");
    let mut at = 12;
    for _ in 0..word(message, 4) {
        at = name_at(message, at).1 + 4;
    }
    let mut records = Vec::new();
    for _ in 0..word(message, 6) {
        at = name_at(message, at).1;
        let (kind, size) = (word(message, at), usize::from(word(message, at + 8)));
        let ttl = u32::from_be_bytes([message[at + 4], message[at + 5], message[at + 6], message[at + 7]]);
        let data = &message[at + 10..at + 10 + size];
        let text = match kind {
            A => format!("{}", std::net::Ipv4Addr::from(<[u8; 4]>::try_from(data).expect("four octets"))),
            AAAA => format!("{}", std::net::Ipv6Addr::from(<[u8; 16]>::try_from(data).expect("sixteen octets"))),
            PTR => name_at(message, at + 10).0,
            _ => String::from_utf8_lossy(data).into_owned(),
        };
        records.push((kind, ttl, text));
        at += 10 + size;
    }
    Answer { code: message[3] & 15, cut: message[2] & 2 != 0, records }
}

/// A resolver that stands in a network namespace and answers from a short list; for others, no such name.
#[derive(Debug)]
pub struct Server {
    end: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<String>>>,
}

/// What a `Server` knows: a name and its IPv4 address.
pub type Zone = &'static [(&'static str, [u8; 4])];

impl Server {
    /// Starts one on port 53 of all addresses where the container is. Names that begin with `big.` are
    /// answered with a cut message over UDP.
    pub fn in_container(e: &Engine, container: &Container<'_>, zone: Zone) -> Self {
        let (datagrams, streams) = e.in_netns_of_container(container, || {
            (
                UdpSocket::bind("0.0.0.0:53").expect("bind port 53"),
                TcpListener::bind("0.0.0.0:53").expect("bind port 53"),
            )
        });
        let server = Self { end: Arc::default(), asked: Arc::default() };
        datagrams.set_read_timeout(Some(Duration::from_millis(50))).expect("set a timeout");
        streams.set_nonblocking(true).expect("not to block");
        let (end, asked) = (Arc::clone(&server.end), Arc::clone(&server.asked));
        std::thread::spawn(move || {
            let mut message = [0; 4096];
            while !end.load(Ordering::Relaxed) {
                if let Ok((n, from)) = datagrams.recv_from(&mut message) {
                    let _ = datagrams.send_to(&reply(&message[..n], zone, "udp", &asked), from);
                }
                if let Ok((mut stream, _)) = streams.accept() {
                    let _ = stream.set_nonblocking(false);
                    let _ = stream.set_read_timeout(Some(HUNG));
                    if let Some(message) = read_framed(&mut stream) {
                        let _ = stream.write_all(&framed(&reply(&message, zone, "tcp", &asked)));
                    }
                }
            }
        });
        server
    }

    /// What it was asked so far, as `udp A name`.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("the server's thread is well").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

fn reply(message: &[u8], zone: Zone, way: &str, asked: &Mutex<Vec<String>>) -> Vec<u8> {
    let (name, end) = name_at(message, 12);
    let kind = word(message, end);
    let shown = match kind {
        A => "A".to_owned(),
        PTR => "PTR".to_owned(),
        AAAA => "AAAA".to_owned(),
        other => other.to_string(),
    };
    asked.lock().expect("the server's thread is well").push(format!("{way} {shown} {name}"));
    let known = zone.iter().find(|(known, _)| name.eq_ignore_ascii_case(known));
    let cut = way == "udp" && name.starts_with("big.");
    let mut out = message[..end + 4].to_vec();
    out[2] = 0x81 | if cut { 2 } else { 0 };
    out[3] = if known.is_some() { 0x80 } else { 0x83 };
    out[6..12].fill(0);
    if let (Some((_, address)), false, A) = (known, cut, kind) {
        out[7] = 1;
        out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 77, 0, 4]);
        out.extend(address);
    }
    out
}
