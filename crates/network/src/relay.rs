//! Leading connections at the host's IPv6 addresses to IPv4 containers, and those at `[::1]` to any.
//!
//! nf_tables cannot translate between the two, and IPv6 has no `route_localnet`, so the daemon copies what comes
//! in at `[::]`. Everything at
//! IPv4 addresses goes through the kernel alone and never comes here.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use droste_model::port::Protocol;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

use crate::error::Result;
use crate::namespace::{Namespace, lock};
use crate::sockets::{Held, Sockets};

/// How long a UDP client may be silent before its port is given up.
const UDP_IDLE: Duration = Duration::from_secs(90);
/// How many UDP clients are served at a time; sources can be forged.
const UDP_CLIENTS: usize = 1024;
/// How long to wait when the process has no descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const BACKLOG: i32 = 1024;
/// The longest datagram.
const DATAGRAM: usize = 65536;

/// What copies between a port at IPv6 addresses and a container. Dropping `run`'s future ends it.
#[derive(Debug)]
pub struct Relay {
    pub(crate) socket: OwnedFd,
    pub(crate) protocol: Protocol,
    pub(crate) target: SocketAddr,
    pub(crate) host: Namespace,
    pub(crate) sockets: Sockets,
}

impl Relay {
    /// Copies until it is dropped, or until its socket fails. Needs a tokio runtime with I/O and time.
    pub async fn run(self) -> io::Result<()> {
        match self.protocol {
            Protocol::Tcp => self.run_tcp().await,
            Protocol::Udp => self.run_udp().await,
            Protocol::Sctp => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    async fn run_tcp(self) -> io::Result<()> {
        // Earlier connections that wait out their end must not stand in the way.
        rustix::net::sockopt::set_socket_reuseaddr(&self.socket, true)?;
        rustix::net::listen(&self.socket, BACKLOG)?;
        let listener = std::net::TcpListener::from(self.socket);
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let mut clients = tokio::task::JoinSet::new();
        loop {
            while clients.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((client, _)) => {
                    // A client that no socket can be had for is closed.
                    if let Some(held) = self.sockets.take(2)
                        && let Ok(server) = socket_in(&self.host, self.target, SocketType::STREAM)
                    {
                        clients.spawn(copy_tcp(client, server, self.target, held));
                    }
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    async fn run_udp(self) -> io::Result<()> {
        let socket = std::net::UdpSocket::from(self.socket);
        socket.set_nonblocking(true)?;
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        let clients: Clients = Arc::default();
        let mut answers = tokio::task::JoinSet::new();
        let mut buffer = vec![0; DATAGRAM];
        loop {
            while answers.try_join_next().is_some() {}
            // An error here is an earlier answer that its client refused.
            let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
            let known = lock(&clients).get(&client).cloned();
            let server = match known {
                Some(server) => server,
                None if lock(&clients).len() >= UDP_CLIENTS => continue,
                None => {
                    let Some(held) = self.sockets.take(1) else { continue };
                    let Ok(server) = udp_to(&self.host, self.target).await else { continue };
                    let server = Arc::new(server);
                    lock(&clients).insert(client, Arc::clone(&server));
                    let answer = copy_answers(Arc::clone(&socket), Arc::clone(&server), client, Arc::clone(&clients));
                    answers.spawn(async move {
                        answer.await;
                        drop(held);
                    });
                    server
                }
            };
            // A datagram may be lost; its sender must expect that.
            let _ = server.send(&buffer[..length]).await;
        }
    }
}

type Clients = Arc<Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>>;

/// Copies both ways until both ends are done.
async fn copy_tcp(mut client: TcpStream, server: OwnedFd, target: SocketAddr, _held: Held) -> io::Result<()> {
    let server = TcpSocket::from_std_stream(server.into());
    let mut server = server.connect(target).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// Copies a container's datagrams to one client, until none comes for a while.
async fn copy_answers(socket: Arc<UdpSocket>, server: Arc<UdpSocket>, client: SocketAddr, clients: Clients) {
    let mut buffer = vec![0; DATAGRAM];
    while let Ok(Ok(length)) = tokio::time::timeout(UDP_IDLE, server.recv(&mut buffer)).await {
        if socket.send_to(&buffer[..length], client).await.is_err() {
            break;
        }
    }
    lock(&clients).remove(&client);
}

async fn udp_to(host: &Namespace, target: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket_in(host, target, SocketType::DGRAM).map_err(io::Error::other)?;
    let any = match target {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    rustix::net::bind(&socket, &any)?;
    let socket = UdpSocket::from_std(socket.into())?;
    socket.connect(target).await?;
    Ok(socket)
}

/// A socket in the host's namespace. The thread that this takes lives for some microseconds.
fn socket_in(host: &Namespace, target: SocketAddr, kind: SocketType) -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    host.run_in(|| {
        rustix::net::socket_with(family, kind, flags, None).map_err(|e| {
            let operation = "open a socket in it";
            crate::error::NetworkError::Namespace { operation, source: e.into() }
        })
    })?
}
