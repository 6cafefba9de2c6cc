//! The resolver at 127.0.0.11 of containers on networks with names.
//!
//! Each sandbox has two sockets, opened in its namespace on ports of the kernel's choice, and a rule of its own
//! that leads port 53 of 127.0.0.11 to them: the port itself stays free for the container. Two tasks of the daemon
//! serve them; nothing of it costs a thread. The sockets are bound to `lo`, so nobody outside can ask.
//!
//! What a name means is asked of the engine (`Names`); what it does not know is forwarded (`forward`). `message`
//! reads and writes, `nat` makes the rule. `lookup` asks for the engine itself.

mod forward;
mod lookup;
mod message;
mod nat;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use crate::error::{NetworkError, Result};
use crate::namespace::Namespace;
use crate::sockets::Sockets;
use forward::Forwarder;
use message::{NoQuery, Query, TYPE_A, TYPE_AAAA, TYPE_PTR};

pub use forward::{Origin, Upstream};
pub use lookup::look_up;

/// Where a container asks.
pub const DNS_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// How many queries of one container are forwarded at a time, as in Docker.
const FORWARDED: usize = 1024;
/// How many TCP connections of one container are served at a time.
const CONNECTIONS: usize = 64;
const BACKLOG: u32 = 64;
/// How long such a connection may be silent.
const IDLE: Duration = Duration::from_secs(8);
/// The longest query that is read from UDP.
const DATAGRAM: usize = 4096;
/// How long to wait after an error of the process or the kernel, such as that no descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What names mean in one sandbox. Asked on the daemon's runtime: an answer must not wait.
pub trait Names: Send + Sync + 'static {
    /// The addresses of a name, which is in lower case and without final dot. None if it is not known here.
    fn addresses(&self, name: &str) -> Option<Addresses>;

    /// The name of an address, as `container.network`. None if it is not known here.
    fn name_of(&self, address: IpAddr) -> Option<String>;
}

/// What a name stands for. Without addresses of a family it exists, and has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// IPv4.
    pub v4: Vec<Ipv4Addr>,
    /// IPv6.
    pub v6: Vec<Ipv6Addr>,
}

/// The resolver of one sandbox. Dropping it ends it.
#[derive(Debug)]
pub struct DnsServer {
    shared: Arc<Shared>,
    tasks: [AbortHandle; 2],
}

struct Shared {
    names: Arc<dyn Names>,
    forwarder: Forwarder,
    allowed: AtomicBool,
    forwarded: Semaphore,
    sockets: Sockets,
    /// Counts answers, so that each begins with another address.
    turn: AtomicUsize,
}

impl DnsServer {
    /// Opens the resolver of a sandbox, or opens it anew after a restart of the daemon. Queries that nobody here can
    /// answer go to `upstreams`, in turn, as far as the host has places for sockets. Blocks for the set-up; the tasks run on `runtime`.
    pub fn start(
        runtime: &Handle,
        sandbox: &Namespace,
        (host, sockets): (&Namespace, &Sockets),
        names: Arc<dyn Names>,
        upstreams: Vec<Upstream>,
    ) -> Result<Self> {
        let (udp, tcp) = sandbox.run_in(|| {
            let _context = runtime.enter();
            let sockets =
                open_sockets().map_err(|source| NetworkError::Resolver { operation: "open its sockets", source })?;
            nat::lead(sockets.0.local_addr(), sockets.1.local_addr())?;
            Ok::<_, NetworkError>(sockets)
        })??;
        let shared = Arc::new(Shared {
            names,
            forwarder: Forwarder::new(host.try_clone()?, sandbox.try_clone()?, upstreams),
            allowed: AtomicBool::new(true),
            forwarded: Semaphore::new(FORWARDED),
            sockets: sockets.clone(),
            turn: AtomicUsize::new(0),
        });
        let tasks = [
            runtime.spawn(serve_udp(Arc::clone(&shared), udp)).abort_handle(),
            runtime.spawn(serve_tcp(Arc::clone(&shared), tcp)).abort_handle(),
        ];
        Ok(Self { shared, tasks })
    }

    /// Whether queries are forwarded: not from a sandbox that has internal networks only.
    pub fn forward(&self, allowed: bool) {
        self.shared.allowed.store(allowed, Ordering::Relaxed);
    }

    /// Changes where queries are forwarded to.
    pub fn set_upstreams(&self, upstreams: Vec<Upstream>) {
        self.shared.forwarder.set_upstreams(upstreams);
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("forwarder", &self.forwarder).finish_non_exhaustive()
    }
}

/// Both sockets; the thread is in the sandbox and in the runtime's context.
fn open_sockets() -> io::Result<(UdpSocket, TcpListener)> {
    let any_port = SocketAddrV4::new(DNS_ADDRESS, 0);
    let udp = std::net::UdpSocket::bind(any_port)?;
    udp.set_nonblocking(true)?;
    let udp = UdpSocket::from_std(udp)?;
    udp.bind_device(Some(b"lo"))?;
    let tcp = TcpSocket::new_v4()?;
    tcp.bind_device(Some(b"lo"))?;
    tcp.bind(any_port.into())?;
    Ok((udp, tcp.listen(BACKLOG)?))
}

async fn serve_udp(shared: Arc<Shared>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    // Those that are forwarded; they end with the sandbox's resolver.
    let mut waiting = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        while waiting.try_join_next().is_some() {}
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An earlier answer that its client refused.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(_) => {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let bytes = &buffer[..length];
        let query = match Query::parse(bytes) {
            Ok(query) => query,
            Err(NoQuery(Some(refusal))) => {
                let _ = socket.send_to(&refusal, client).await;
                continue;
            }
            Err(NoQuery(None)) => continue,
        };
        if let Some(answer) = shared.answer(&query) {
            let _ = socket.send_to(&query.fit(answer), client).await;
            continue;
        }
        if shared.forwarded.available_permits() == 0 {
            let _ = socket.send_to(&query.respond(message::REFUSED), client).await;
            continue;
        }
        let (shared, socket, bytes) = (Arc::clone(&shared), Arc::clone(&socket), bytes.to_vec());
        waiting.spawn(async move {
            let Ok(query) = Query::parse(&bytes) else { return };
            let answer = shared.ask_others(&bytes, &query, false).await;
            let _ = socket.send_to(&query.fit(answer), client).await;
        });
    }
}

async fn serve_tcp(shared: Arc<Shared>, listener: TcpListener) {
    let mut clients = JoinSet::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        while clients.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                let Some(held) = shared.sockets.take(1) else { continue };
                clients.spawn(async move {
                    // A client that goes away in the middle is its own affair.
                    let _ = serve_stream(&shared, stream).await;
                    drop((permit, held));
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Answers one query after the other, each with its length before it (RFC 1035, 4.2.2).
async fn serve_stream(shared: &Shared, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let length = usize::from(tokio::time::timeout(IDLE, stream.read_u16()).await??);
        let mut bytes = vec![0; length.min(DATAGRAM)];
        if length > DATAGRAM {
            return Err(io::ErrorKind::InvalidData.into());
        }
        tokio::time::timeout(IDLE, stream.read_exact(&mut bytes)).await??;
        let answer = match Query::parse(&bytes) {
            Ok(query) => match shared.answer(&query) {
                Some(answer) => answer,
                None => shared.ask_others(&bytes, &query, true).await,
            },
            Err(NoQuery(Some(refusal))) => refusal,
            Err(NoQuery(None)) => return Ok(()),
        };
        let mut framed = (answer.len() as u16).to_be_bytes().to_vec();
        framed.extend_from_slice(&answer);
        tokio::time::timeout(IDLE, stream.write_all(&framed)).await??;
    }
}

impl Shared {
    /// The answer, if the name is known here.
    fn answer(&self, query: &Query<'_>) -> Option<Vec<u8>> {
        if !query.is_internet() {
            return None;
        }
        if query.kind == TYPE_PTR {
            let name = self.names.name_of(query.address()?)?;
            return Some(query.answer_name(&name));
        }
        let known = self.names.addresses(&query.name)?;
        let mut addresses: Vec<IpAddr> = match query.kind {
            TYPE_A => known.v4.into_iter().map(IpAddr::V4).collect(),
            TYPE_AAAA => known.v6.into_iter().map(IpAddr::V6).collect(),
            // It exists and has nothing of the kind; what others say of such a name does not concern it.
            _ => Vec::new(),
        };
        if addresses.len() > 1 {
            let first = self.turn.fetch_add(1, Ordering::Relaxed) % addresses.len();
            addresses.rotate_left(first);
        }
        Some(query.answer_addresses(&addresses))
    }

    /// What others answer.
    async fn ask_others(&self, bytes: &[u8], query: &Query<'_>, stream: bool) -> Vec<u8> {
        if !self.allowed.load(Ordering::Relaxed) {
            return query.respond(message::SERVER_FAILURE);
        }
        let Ok(_permit) = self.forwarded.try_acquire() else {
            return query.respond(message::REFUSED);
        };
        let Some(_held) = self.sockets.take(1) else {
            return query.respond(message::REFUSED);
        };
        let answer = self.forwarder.ask(bytes, query, stream).await;
        answer.unwrap_or_else(|| query.respond(message::SERVER_FAILURE))
    }
}
