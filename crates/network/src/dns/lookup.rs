//! Addresses of a name, as a program on a host would find them: from the texts of the host's own files, and from its
//! name servers, asked from the namespace that the calling thread is in.
//!
//! The C library is not asked on a host below the machine: it loads modules that the host's files name, into the
//! daemon.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::message::{Query, TYPE_A, TYPE_AAAA, is_refusal, is_response_to, skip_name, u16_at};
use crate::files::ResolvConf;

const PORT: u16 = 53;
/// How many servers are asked, and how often, as by the C library.
const SERVERS: usize = 3;
const ATTEMPTS: u32 = 2;
/// How long one server is waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// The longest answer over UDP that is read.
const DATAGRAM: usize = 4096;
/// How many domains of a search list are tried, as by the C library of old.
const DOMAINS: usize = 6;

/// The addresses of a name, by the texts of `/etc/hosts` and `/etc/resolv.conf`. It blocks.
///
/// # Errors
/// When the name has none, or no server says so.
pub fn look_up(name: &str, hosts: &str, resolv_conf: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = name.trim_matches(['[', ']']).parse() {
        return Ok(vec![address]);
    }
    let known = in_hosts(name, hosts);
    if !known.is_empty() {
        return Ok(known);
    }
    if is_local(name) {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let conf = ResolvConf::parse(resolv_conf);
    let servers = servers(&conf);
    let failed = |error: io::Error| io::Error::new(error.kind(), format!("lookup {name}: {error}"));
    for candidate in candidates(name, &conf) {
        let addresses = ask_all(&candidate, &servers).map_err(failed)?;
        if !addresses.is_empty() {
            return Ok(addresses);
        }
    }
    Err(failed(not_found()))
}

fn not_found() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no such host")
}

fn is_local(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// The addresses of all lines that have the name.
fn in_hosts(name: &str, text: &str) -> Vec<IpAddr> {
    let name = name.trim_end_matches('.');
    let line = |line: &str| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    };
    text.lines().filter_map(line).collect()
}

/// The host's name servers; its own loopback if it names none, as the C library has it.
fn servers(conf: &ResolvConf) -> Vec<SocketAddr> {
    let parsed = conf.servers.iter().filter_map(|server| Some((server.parse::<IpAddr>().ok()?, PORT).into()));
    let servers: Vec<SocketAddr> = parsed.take(SERVERS).collect();
    if servers.is_empty() { vec![(Ipv4Addr::LOCALHOST, PORT).into()] } else { servers }
}

/// The names to ask for: a name with dots first as it is, one without first in the domains of the search list.
fn candidates(name: &str, conf: &ResolvConf) -> Vec<String> {
    if let Some(absolute) = name.strip_suffix('.') {
        return vec![absolute.to_owned()];
    }
    let option = conf.options.iter().find_map(|option| option.strip_prefix("ndots:"));
    let dots = option.and_then(|dots| dots.parse().ok()).unwrap_or(1);
    let in_domain = |domain: &String| format!("{name}.{}", domain.trim_matches('.'));
    let mut all: Vec<String> =
        conf.search.iter().filter(|domain| *domain != ".").take(DOMAINS).map(in_domain).collect();
    let at = if name.matches('.').count() >= dots { 0 } else { all.len() };
    all.insert(at, name.to_owned());
    all
}

/// What the first server says that says anything. No addresses: there are none of that name.
fn ask_all(name: &str, servers: &[SocketAddr]) -> io::Result<Vec<IpAddr>> {
    let mut last = io::Error::new(io::ErrorKind::TimedOut, "no name server answered");
    for _ in 0..ATTEMPTS {
        for server in servers {
            match ask(name, *server) {
                Ok(addresses) => return Ok(addresses),
                Err(error) if is_silence(&error) => {}
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}

/// What a wait that was in vain ends with.
fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn ask(name: &str, server: SocketAddr) -> io::Result<Vec<IpAddr>> {
    let mut addresses = ask_for(name, TYPE_A, server)?;
    // A server that stumbles over the newer question has answered the older one.
    match ask_for(name, TYPE_AAAA, server) {
        Err(error) if addresses.is_empty() => return Err(error),
        more => addresses.extend(more.unwrap_or_default()),
    }
    Ok(addresses)
}

fn ask_for(name: &str, kind: u16, server: SocketAddr) -> io::Result<Vec<IpAddr>> {
    let bytes = question(name, kind)?;
    let query = Query::parse(&bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut answer = over_udp(&bytes, &query, server)?;
    if answer[2] & 0x02 != 0 {
        answer = over_tcp(&bytes, &query, server)?;
    }
    if is_refusal(&answer) {
        return Err(io::Error::other(format!("the name server {} could not help", server.ip())));
    }
    Ok(addresses_in(&answer).unwrap_or_default())
}

/// A question with a number that nobody guesses.
fn question(name: &str, kind: u16) -> io::Result<Vec<u8>> {
    let mut id = [0; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
    let mut bytes = vec![id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length));
        bytes.push(length.ok_or_else(not_found)?);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0]);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&1_u16.to_be_bytes());
    if bytes.len() > 12 + 255 + 4 { Err(not_found()) } else { Ok(bytes) }
}

fn over_udp(bytes: &[u8], query: &Query<'_>, server: SocketAddr) -> io::Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.send(bytes)?;
    let end = Instant::now() + PATIENCE;
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.recv(&mut buffer)?;
        // Whatever else arrives here is somebody's guess.
        if is_response_to(&buffer[..length], query, id_of(bytes)) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

fn over_tcp(bytes: &[u8], query: &Query<'_>, server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[length.to_be_bytes().as_slice(), bytes].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    if is_response_to(&answer, query, id_of(bytes)) { Ok(answer) } else { Err(io::ErrorKind::InvalidData.into()) }
}

fn id_of(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

/// The addresses among an answer's records; aliases lead to them in the same answer.
fn addresses_in(answer: &[u8]) -> Option<Vec<IpAddr>> {
    let mut at = 12;
    for _ in 0..u16_at(answer, 4)? {
        at = skip_name(answer, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..u16_at(answer, 6)? {
        at = skip_name(answer, at)?;
        let (kind, length) = (u16_at(answer, at)?, usize::from(u16_at(answer, at + 8)?));
        let data = answer.get(at + 10..at + 10 + length)?;
        if let (TYPE_A, Ok(octets)) = (kind, <[u8; 4]>::try_from(data)) {
            found.push(Ipv4Addr::from(octets).into());
        } else if let (TYPE_AAAA, Ok(octets)) = (kind, <[u8; 16]>::try_from(data)) {
            found.push(Ipv6Addr::from(octets).into());
        }
        at += 10 + length;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(text: &str) -> ResolvConf {
        ResolvConf::parse(text)
    }

    #[test]
    fn files_and_literals_need_no_server() {
        let hosts = "127.0.0.1 localhost\n10.1.2.3\tRegistry.example other # not this\n::5 registry.example\n";
        let of = |name: &str| look_up(name, hosts, "").unwrap();
        assert_eq!(of("10.0.0.1"), ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(of("[fd00::1]"), ["fd00::1".parse::<IpAddr>().unwrap()]);
        assert_eq!(of("registry.EXAMPLE"), ["10.1.2.3".parse::<IpAddr>().unwrap(), "::5".parse().unwrap()]);
        assert_eq!(of("a.localhost"), ["127.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
        assert!(in_hosts("not", hosts).is_empty());
    }

    #[test]
    fn names_are_completed() {
        let text = "search a.example b.example\noptions ndots:2";
        assert_eq!(candidates("x", &conf(text)), ["x.a.example", "x.b.example", "x"]);
        assert_eq!(candidates("x.y", &conf("search a")), ["x.y", "x.y.a"]);
        assert_eq!(candidates("x.y.", &conf(text)), ["x.y"]);
    }

    #[test]
    fn servers_are_the_hosts() {
        assert_eq!(servers(&conf("nameserver fd00::1\nnameserver nonsense")), ["[fd00::1]:53".parse().unwrap()]);
        assert_eq!(servers(&conf("")), ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn names_that_no_server_knows_are_not_asked_for() {
        for name in ["", "a..b", &"x".repeat(64), &"x.".repeat(200)] {
            assert!(question(name, TYPE_A).is_err(), "{name}");
        }
    }

    #[test]
    fn answers_are_read_and_broken_ones_are_not_believed() {
        let bytes = question("web.example", TYPE_A).unwrap();
        let query = Query::parse(&bytes).unwrap();
        let wanted: Vec<IpAddr> = vec!["10.1.2.3".parse().unwrap(), "fd00::1".parse().unwrap()];
        let answer = query.answer_addresses(&wanted);
        assert_eq!(addresses_in(&answer).unwrap(), wanted);
        for length in 0..answer.len() {
            assert_eq!(addresses_in(&answer[..length]), None, "{length}");
        }
    }

    #[test]
    fn a_server_is_asked_and_its_longer_answer_fetched() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = udp.local_addr().unwrap();
        let tcp = std::net::TcpListener::bind(server).unwrap();
        let many: Vec<IpAddr> = (0..50).map(|i| Ipv4Addr::new(10, 0, 0, i).into()).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut buffer = [0; 512];
                let (length, from) = udp.recv_from(&mut buffer).unwrap();
                let query = Query::parse(&buffer[..length]).unwrap();
                udp.send_to(b"a guess", from).unwrap();
                udp.send_to(&query.truncated(), from).unwrap();
                let (mut stream, _) = tcp.accept().unwrap();
                let mut asked = vec![0; length + 2];
                stream.read_exact(&mut asked).unwrap();
                let answer = Query::parse(&asked[2..]).unwrap().answer_addresses(&many);
                let framed = [(answer.len() as u16).to_be_bytes().as_slice(), &answer].concat();
                stream.write_all(&framed).unwrap();
            });
            assert_eq!(ask_for("many.example", TYPE_A, server).unwrap(), many);
        });
    }
}
