//! Ports of a host, reserved for containers.
//!
//! A reservation binds sockets in the host's namespace, so that no other process takes the port, and
//! remembers which container's port it is, so that a second container gets the right error. TCP sockets
//! are bound but do not listen: a connection that no rule leads away is refused, not left to hang.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use droste_model::port::Protocol;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use crate::error::{NetworkError, Result};
use crate::firewall::Publication;
use crate::namespace::{Namespace, lock};
use crate::relay::Relay;
use crate::sockets::{Held, Sockets};

/// A port that a container asks of its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRequest {
    /// The protocol.
    pub protocol: Protocol,
    /// The host's address; none for all, IPv4 and IPv6.
    pub host_ip: Option<IpAddr>,
    /// First and last acceptable port; none for an ephemeral one.
    pub host_ports: Option<(u16, u16)>,
    /// The container's addresses and port.
    pub target: PortTarget,
}

/// A container's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortTarget {
    /// The container's IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// The container's IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// The port.
    pub port: u16,
    /// Whether IPv4 is routed: no port of the host leads there, the container's own is open.
    pub routed4: bool,
    /// The same of IPv6.
    pub routed6: bool,
}

impl From<SocketAddrV4> for PortTarget {
    fn from(address: SocketAddrV4) -> Self {
        Self { v4: Some(*address.ip()), v6: None, port: address.port(), routed4: false, routed6: false }
    }
}

impl PortTarget {
    /// Where packets go that arrive at an address: IPv4 serves for what the container has no IPv6 address for.
    fn at(&self, host: IpAddr) -> Option<SocketAddr> {
        let v4 = self.v4.map(IpAddr::V4).filter(|_| !self.routed4);
        let v6 = self.v6.map(IpAddr::V6).filter(|_| !self.routed6);
        let ip = if host.is_ipv4() { v4 } else { self.v6.map_or(v4, |_| v6) };
        ip.map(|ip| SocketAddr::new(ip, self.port))
    }

    /// Its own addresses that are open to everybody.
    fn routed(&self) -> impl Iterator<Item = SocketAddr> + use<> {
        let v4 = self.v4.map(IpAddr::V4).filter(|_| self.routed4);
        let v6 = self.v6.map(IpAddr::V6).filter(|_| self.routed6);
        let port = self.port;
        v4.into_iter().chain(v6).map(move |ip| SocketAddr::new(ip, port))
    }

    fn shown(&self) -> SocketAddr {
        let ip = self.v4.map(IpAddr::V4).or(self.v6.map(IpAddr::V6));
        SocketAddr::new(ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), self.port)
    }
}

/// A port of the host that belongs to a container as long as this value lives.
#[derive(Debug)]
pub struct PortReservation {
    protocol: Protocol,
    bindings: Vec<Binding>,
    target: PortTarget,
    table: Arc<Mutex<PortTable>>,
    sockets: Sockets,
    /// The places of its own sockets.
    _held: Held,
}

#[derive(Debug)]
struct Binding {
    address: SocketAddr,
    target: SocketAddr,
    /// None for SCTP, whose sockets the kernel may lack: then only containers are told apart.
    socket: Option<OwnedFd>,
}

/// The ports of one host that containers have.
#[derive(Debug, Default)]
pub(crate) struct PortTable {
    taken: BTreeMap<(Protocol, u16), Vec<IpAddr>>,
    next_ephemeral: u16,
}

impl PortReservation {
    /// Where the port is, as `docker ps` shows it: IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.bindings.iter().map(|b| b.address)
    }

    /// The host's port.
    pub fn port(&self) -> u16 {
        self.bindings.first().map_or(0, |b| b.address.port())
    }

    /// The protocol.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The container's addresses and port.
    pub fn target(&self) -> PortTarget {
        self.target
    }

    /// What to publish for it: all that the kernel itself leads to the container.
    pub fn publications(&self) -> Vec<Publication> {
        let mapped = self.bindings.iter().filter(|b| b.address.is_ipv4() == b.target.is_ipv4() && !is_loopback6(b));
        let mapped = mapped.map(|b| Publication::mapped(self.protocol, b.address, b.target));
        mapped.chain(self.target.routed().map(|target| Publication::routed(self.protocol, target))).collect()
    }

    /// What has to run for its IPv6 side, given the host's namespace: for containers that have IPv4 only, and for
    /// `[::1]`, whose packets the kernel leads nowhere else. A relay holds the port as well: end it first.
    pub fn relays(&self, host: &Namespace) -> Result<Vec<Relay>> {
        let mut relays = Vec::new();
        for binding in self.bindings.iter().filter(|b| needs_relay(b)) {
            let Some(socket) = &binding.socket else { continue };
            let copy = |source| NetworkError::Namespace { operation: "duplicate a port's socket", source };
            relays.push(Relay {
                socket: socket.try_clone().map_err(copy)?,
                protocol: self.protocol,
                target: binding.target,
                host: host.try_clone()?,
                sockets: self.sockets.clone(),
            });
        }
        Ok(relays)
    }
}

fn is_loopback6(binding: &Binding) -> bool {
    binding.address.ip() == IpAddr::V6(Ipv6Addr::LOCALHOST)
}

fn needs_relay(binding: &Binding) -> bool {
    let translated = binding.target.is_ipv6() && !binding.address.ip().is_unspecified() && !is_loopback6(binding);
    binding.address.is_ipv6() && !translated
}

impl Drop for PortReservation {
    fn drop(&mut self) {
        let mut table = lock(&self.table);
        for binding in &self.bindings {
            table.release(self.protocol, binding.address);
        }
    }
}

/// Linux's own default of `ip_local_port_range`, for a kernel that does not say.
const EPHEMERAL: (u16, u16) = (32768, 60999);

impl PortTable {
    /// Reserves all that is asked for in a namespace, or nothing.
    pub(crate) fn reserve(
        table: &Arc<Mutex<Self>>,
        namespace: &Namespace,
        requests: &[PortRequest],
        sockets: &Sockets,
    ) -> Result<Vec<PortReservation>> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        namespace.run_in(|| requests.iter().map(|request| reserve_one(table, request, sockets)).collect())?
    }

    /// The ports to try, in order: those asked for, or all ephemeral ones from the last given on.
    fn candidates(&self, request: &PortRequest) -> impl Iterator<Item = u16> + use<> {
        if let Some((first, last)) = request.host_ports {
            return (first..=last).chain(0..0);
        }
        let (first, last) = ephemeral_range();
        let next = if (first..=last).contains(&self.next_ephemeral) { self.next_ephemeral } else { first };
        (next..=last).chain(first..next)
    }

    /// The address that already has the port, if one does.
    fn holder(&self, protocol: Protocol, address: SocketAddr) -> Option<IpAddr> {
        let ip = address.ip();
        let clash = |held: &&IpAddr| {
            held.is_ipv4() == ip.is_ipv4() && (**held == ip || held.is_unspecified() || ip.is_unspecified())
        };
        self.taken.get(&(protocol, address.port()))?.iter().find(clash).copied()
    }

    fn release(&mut self, protocol: Protocol, address: SocketAddr) {
        let key = (protocol, address.port());
        if let Some(held) = self.taken.get_mut(&key) {
            if let Some(at) = held.iter().position(|ip| *ip == address.ip()) {
                held.swap_remove(at);
            }
            if held.is_empty() {
                self.taken.remove(&key);
            }
        }
    }
}

/// Takes the first acceptable port that is free. The caller's thread is in the host's namespace.
fn reserve_one(shared: &Arc<Mutex<PortTable>>, request: &PortRequest, sockets: &Sockets) -> Result<PortReservation> {
    let (protocol, target) = (request.protocol, request.target);
    let places = places(request);
    let place = sockets.take(places.len()).ok_or(NetworkError::TooManySockets)?;
    let held = |bindings| PortReservation {
        protocol,
        bindings,
        target,
        table: Arc::clone(shared),
        sockets: sockets.clone(),
        _held: place,
    };
    if places.is_empty() {
        return Ok(held(Vec::new()));
    }
    let mut table = lock(shared);
    let mut refused = None;
    for port in table.candidates(request) {
        match bind_all(&table, request, &places, port) {
            Ok(bindings) => {
                for binding in &bindings {
                    let held = table.taken.entry((request.protocol, port)).or_default();
                    held.push(binding.address.ip());
                }
                if request.host_ports.is_none() {
                    table.next_ephemeral = port.saturating_add(1);
                }
                return Ok(held(bindings));
            }
            Err(error) if is_busy(&error) => refused = Some(error),
            Err(error) => return Err(error),
        }
    }
    match refused {
        Some(error) if request.host_ports.is_some() => Err(error),
        _ => Err(NetworkError::PortsExhausted),
    }
}

/// The addresses of the host where a port is wanted, each with where it leads. As in Docker, one of a family that the
/// container cannot be reached by is passed over.
fn places(request: &PortRequest) -> Vec<(IpAddr, SocketAddr)> {
    let asked: Vec<IpAddr> = match request.host_ip {
        Some(ip) => vec![ip],
        None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
    };
    asked.into_iter().filter_map(|ip| Some((ip, request.target.at(ip)?))).collect()
}

/// Binds one port at every address that is asked for.
fn bind_all(
    table: &PortTable,
    request: &PortRequest,
    places: &[(IpAddr, SocketAddr)],
    port: u16,
) -> Result<Vec<Binding>> {
    let mut bindings = Vec::new();
    for (ip, target) in places.iter().copied() {
        let address = SocketAddr::new(ip, port);
        if let Some(holder) = table.holder(request.protocol, address) {
            return Err(NetworkError::PortAllocated { address: SocketAddr::new(holder, port) });
        }
        match bind(request.protocol, address) {
            Ok(socket) => bindings.push(Binding { address, target, socket }),
            // A namespace without IPv6 has its ports at IPv4 addresses only.
            Err(error) if request.host_ip.is_none() && ip.is_ipv6() && !in_use(&error) => {}
            Err(source) => return Err(port_busy(request, address, source)),
        }
    }
    Ok(bindings)
}

fn bind(protocol: Protocol, address: SocketAddr) -> io::Result<Option<OwnedFd>> {
    let (kind, protocol) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => return Ok(None),
    };
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(protocol))?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    // Connections that wait out their end do not count, sockets that listen do. Afterwards the option is
    // taken back: while this socket is bound, nobody else can listen.
    let stream = kind == SocketType::STREAM;
    if stream {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    if stream {
        sockopt::set_socket_reuseaddr(&socket, false)?;
    }
    Ok(Some(socket))
}

fn port_busy(request: &PortRequest, address: SocketAddr, source: io::Error) -> NetworkError {
    NetworkError::PortBusy { address, target: request.target.shown(), protocol: request.protocol.as_str(), source }
}

fn is_busy(error: &NetworkError) -> bool {
    match error {
        NetworkError::PortAllocated { .. } => true,
        NetworkError::PortBusy { source, .. } => in_use(source),
        _ => false,
    }
}

fn in_use(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

fn ephemeral_range() -> (u16, u16) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut words = text.split_whitespace().map(str::parse);
    match (words.next(), words.next()) {
        (Some(Ok(first)), Some(Ok(last))) if first <= last => (first, last),
        _ => EPHEMERAL,
    }
}
