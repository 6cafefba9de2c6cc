//! What can go wrong, by operation and object.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ipnet::Ipv4Net;

/// The result of this crate's operations.
pub type Result<T> = std::result::Result<T, NetworkError>;

/// An operation on a network that failed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A network namespace could not be opened, made or entered.
    #[error("network namespace: cannot {operation}")]
    Namespace {
        /// What was tried.
        operation: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A netlink socket could not be opened in a namespace.
    #[error("cannot open a netlink socket for {family}")]
    Netlink {
        /// `routes` or `nf_tables`.
        family: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A link could not be made, changed, found or removed.
    #[error("link {link}: cannot {operation}")]
    Link {
        /// The interface's name.
        link: String,
        /// What was tried.
        operation: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Links, addresses or routes could not be listed.
    #[error("cannot list {what}")]
    List {
        /// What was to be listed.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A kernel setting could not be written.
    #[error("cannot set {key} to {value}")]
    Sysctl {
        /// The setting's path below `/proc/sys`.
        key: String,
        /// The value.
        value: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A setting that is no network setting of the namespace.
    #[error("sysctl {0} is not a network setting of the namespace")]
    SysctlName(String),
    /// nf_tables refused a change.
    #[error("nf_tables table {table}: cannot {operation}")]
    Firewall {
        /// The table.
        table: String,
        /// What was tried.
        operation: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A name that no interface can have.
    #[error("invalid interface name {0:?}: 1 to 15 bytes without space or slash")]
    InterfaceName(String),
    /// A bridge that this host does not have.
    #[error("bridge {0} is not there: make it first")]
    NoBridge(String),
    /// Every subnet of the pools overlaps something that the namespace has.
    #[error(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network"
    )]
    NoSubnet,
    /// A subnet overlaps a route or address of the namespace.
    #[error("subnet {subnet} overlaps {taken}, which this host uses")]
    Overlap {
        /// What was asked for.
        subnet: Ipv4Net,
        /// What is there.
        taken: Ipv4Net,
    },
    /// A port that another container of this host has.
    #[error("Bind for {address} failed: port is already allocated")]
    PortAllocated {
        /// The address and port that hold it.
        address: SocketAddr,
    },
    /// A port that the host's namespace does not give.
    #[error("failed to bind host port for {address}:{target}/{protocol}: {}", bind_reason(.source))]
    PortBusy {
        /// What was asked for.
        address: SocketAddr,
        /// Where it would have led.
        target: SocketAddr,
        /// `tcp`, `udp` or `sctp`.
        protocol: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// No port of the ephemeral range is left.
    #[error("all ports are allocated")]
    PortsExhausted,
    /// A port of an address family that cannot be forwarded to.
    #[error("cannot publish a port at {0}: only IPv4 addresses and [::] of this host can be published at")]
    PortAddress(IpAddr),
}

/// The reason in the words that Docker's clients know.
fn bind_reason(source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::AddrInUse => "address already in use".to_owned(),
        io::ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => source.to_string(),
    }
}
