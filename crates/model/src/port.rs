//! Ports of containers and of hosts.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A transport protocol of published ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// `tcp`, `udp` or `sctp`.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

/// A port of a container with its protocol, `80/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerPort {
    /// The port number.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

/// Text that is no `PORT[/PROTOCOL]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid port specification: {0:?}")]
pub struct InvalidPort(pub String);

impl FromStr for ContainerPort {
    type Err = InvalidPort;
    fn from_str(text: &str) -> Result<Self, InvalidPort> {
        let invalid = || InvalidPort(text.to_owned());
        let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let port = port.parse().map_err(|_| invalid())?;
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" | "" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(invalid()),
        };
        Ok(Self { port, protocol })
    }
}

impl TryFrom<String> for ContainerPort {
    type Error = InvalidPort;
    fn try_from(text: String) -> Result<Self, InvalidPort> {
        text.parse()
    }
}

impl From<ContainerPort> for String {
    fn from(port: ContainerPort) -> String {
        port.to_string()
    }
}

impl fmt::Display for ContainerPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol.as_str())
    }
}

/// Where on its host a container's port is asked for: an address (none: all) and an inclusive range (none: ephemeral).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortBinding {
    /// The host's address; `None` for all of them.
    pub host_ip: Option<IpAddr>,
    /// First and last acceptable port; `None`, or 0 to 0, for an ephemeral one.
    pub host_ports: Option<(u16, u16)>,
}

impl PortBinding {
    /// First and last acceptable port; `None` for an ephemeral one, however that was said.
    pub fn wanted(&self) -> Option<(u16, u16)> {
        self.host_ports.filter(|range| *range != (0, 0))
    }
}

/// What was asked to be published; a port without a list, as with an empty one, is not bound anywhere.
pub type PortBindings = BTreeMap<ContainerPort, Option<Vec<PortBinding>>>;

/// A port that is published: where it was bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The container's side.
    pub container: ContainerPort,
    /// The host's address, unspecified for all.
    pub host_ip: IpAddr,
    /// The host's port.
    pub host_port: u16,
}
