//! Asking other name servers.
//!
//! Those of the host are asked from the host's namespace: they may be at its loopback. Those that a container names
//! for itself are asked from the container's own, so that it reaches through the daemon nothing that it does not
//! reach itself.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};

use super::message::{self, Query};
use crate::error::Result;
use crate::namespace::{Namespace, lock};

/// How many servers are asked, as by the C library.
const SERVERS: usize = 3;
/// How long one is waited for, as in Docker.
const PATIENCE: Duration = Duration::from_secs(4);
/// The longest answer over UDP; a longer one is asked for again over TCP.
const DATAGRAM: usize = 4096;
const PORT: u16 = 53;

/// A name server that queries are forwarded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upstream {
    /// Its address.
    pub server: IpAddr,
    /// The number of the link that a link-local address is on; 0 for others.
    pub scope: u32,
    /// From where it is asked.
    pub origin: Origin,
}

/// From where a name server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The host's namespace.
    Host,
    /// The container's.
    Sandbox,
}

/// Who asks for one sandbox.
#[derive(Debug)]
pub(super) struct Forwarder {
    host: Arc<Namespace>,
    sandbox: Arc<Namespace>,
    upstreams: Mutex<Vec<Upstream>>,
}

impl Forwarder {
    pub(super) fn new(host: Namespace, sandbox: Namespace, upstreams: Vec<Upstream>) -> Self {
        Self { host: Arc::new(host), sandbox: Arc::new(sandbox), upstreams: Mutex::new(upstreams) }
    }

    pub(super) fn set_upstreams(&self, upstreams: Vec<Upstream>) {
        *lock(&self.upstreams) = upstreams;
    }

    /// The answer of the first server that has one; else the last refusal, if there is any.
    pub(super) async fn ask(&self, bytes: &[u8], query: &Query<'_>, stream: bool) -> Option<Vec<u8>> {
        let upstreams: Vec<Upstream> = lock(&self.upstreams).iter().copied().take(SERVERS).collect();
        let mut refusal = None;
        for upstream in upstreams {
            let namespace = match upstream.origin {
                Origin::Host => Arc::clone(&self.host),
                Origin::Sandbox => Arc::clone(&self.sandbox),
            };
            let answer = async {
                if stream {
                    ask_tcp(namespace, upstream.address(), bytes).await
                } else {
                    ask_udp(namespace, upstream.address(), bytes, query).await
                }
            };
            let Ok(Ok(answer)) = tokio::time::timeout(PATIENCE, answer).await else { continue };
            if !is_answer(&answer, query, bytes) {
                continue;
            }
            if !message::is_refusal(&answer) {
                return Some(answer);
            }
            refusal = Some(answer);
        }
        refusal
    }
}

impl Upstream {
    fn address(&self) -> SocketAddr {
        match self.server {
            IpAddr::V4(server) => (server, PORT).into(),
            IpAddr::V6(server) => SocketAddrV6::new(server, PORT, 0, self.scope).into(),
        }
    }
}

fn is_answer(answer: &[u8], query: &Query<'_>, asked: &[u8]) -> bool {
    let id = u16::from_be_bytes([asked[0], asked[1]]);
    message::is_response_to(answer, query, id)
}

async fn ask_udp(
    namespace: Arc<Namespace>,
    server: SocketAddr,
    bytes: &[u8],
    query: &Query<'_>,
) -> io::Result<Vec<u8>> {
    let socket = inside(namespace, move || {
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = std::net::UdpSocket::bind(any)?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    let socket = UdpSocket::from_std(socket.await?)?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; DATAGRAM + 1];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Whatever else arrives here is somebody's guess.
        if !is_answer(&buffer[..length], query, bytes) {
            continue;
        }
        if length > DATAGRAM {
            return Ok(query.truncated());
        }
        buffer.truncate(length);
        return Ok(buffer);
    }
}

async fn ask_tcp(namespace: Arc<Namespace>, server: SocketAddr, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let open = move || if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let mut stream = inside(namespace, open).await?.connect(server).await?;
    let mut framed = (bytes.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// Opens a socket in a namespace. A thread that waits for another one is none of the runtime's.
async fn inside<T: Send + 'static>(
    namespace: Arc<Namespace>,
    open: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let opened = tokio::task::spawn_blocking(move || -> Result<io::Result<T>> { namespace.within(open) });
    opened.await.map_err(io::Error::other)?.map_err(io::Error::other)?
}
