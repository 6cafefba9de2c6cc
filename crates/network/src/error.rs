//! What can go wrong, by operation and object.
//!
//! The kernel's reason is part of each text: these errors end in the daemon's log, where a chain would be lost.

use std::io;
use std::net::SocketAddr;

use ipnet::IpNet;

/// The result of this crate's operations.
pub type Result<T> = std::result::Result<T, NetworkError>;

/// An operation on a network that failed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The daemon holds as many sockets for a host and those below it as it may.
    #[error("the daemon holds no more sockets for this host and those below it: publish fewer ports")]
    TooManySockets,
    /// A network namespace could not be opened, made or entered.
    #[error("network namespace: cannot {operation}: {source}")]
    Namespace {
        /// What was tried.
        operation: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A netlink socket could not be opened in a namespace.
    #[error("cannot open a netlink socket for {family}: {source}")]
    Netlink {
        /// `routes` or `nf_tables`.
        family: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A link could not be made, changed, found or removed.
    #[error("link {link}: cannot {operation}: {source}")]
    Link {
        /// The interface's name.
        link: String,
        /// What was tried.
        operation: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Links, addresses or routes could not be listed.
    #[error("cannot list {what}: {source}")]
    List {
        /// What was to be listed.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A kernel setting could not be written.
    #[error("cannot set {key} to {value}: {source}")]
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
    #[error("nf_tables table {table}: cannot {operation}: {source}")]
    Firewall {
        /// The table.
        table: String,
        /// What was tried.
        operation: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The resolver of a sandbox could not be set up.
    #[error("resolver at 127.0.0.11: cannot {operation}: {source}")]
    Resolver {
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
    /// Every subnet of the pools is taken.
    #[error("all predefined address pools have been fully subnetted: {holders}")]
    NoSubnet {
        /// Who has them, and what to do.
        holders: String,
    },
    /// A bridge has one subnet of a family.
    #[error("bridge {0} can have one subnet of IPv4 and one of IPv6")]
    SeveralSubnets(String),
    /// An interface that other interfaces were to hang on.
    #[error("parent interface {0} was not found on this host: name one that is there, or a VLAN of one as eth0.10")]
    NoParent(String),
    /// A subnet overlaps a route or address of the namespace.
    #[error("subnet {subnet} overlaps {taken}, which this host uses")]
    Overlap {
        /// What was asked for.
        subnet: IpNet,
        /// What is there.
        taken: IpNet,
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
