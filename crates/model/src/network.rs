//! What a client asks of a container's networks.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// `--network`: which network namespace a container gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NetworkMode {
    /// Not given: the default bridge, shown as `bridge` (or `default` as typed).
    #[default]
    Default,
    /// The host's namespace.
    Host,
    /// A namespace with nothing but loopback.
    None,
    /// The namespace of another container, by id or name.
    Container(String),
    /// A network by name or id; `bridge` is the default one.
    Network(String),
}

impl NetworkMode {
    /// Reads Docker's `NetworkMode`.
    pub fn parse(text: &str) -> Self {
        match text {
            "" | "default" => NetworkMode::Default,
            "host" => NetworkMode::Host,
            "none" => NetworkMode::None,
            other => match other.strip_prefix("container:") {
                Some(container) => NetworkMode::Container(container.to_owned()),
                None => NetworkMode::Network(other.to_owned()),
            },
        }
    }

    /// The name of the network that the mode means, `None` when the namespace is another container's.
    pub fn network(&self) -> Option<&str> {
        match self {
            NetworkMode::Default => Some("bridge"),
            NetworkMode::Host => Some("host"),
            NetworkMode::None => Some("none"),
            NetworkMode::Container(_) => None,
            NetworkMode::Network(name) => Some(name),
        }
    }
}

impl fmt::Display for NetworkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetworkMode::Default => f.write_str("bridge"),
            NetworkMode::Host => f.write_str("host"),
            NetworkMode::None => f.write_str("none"),
            NetworkMode::Container(name) => write!(f, "container:{name}"),
            NetworkMode::Network(name) => f.write_str(name),
        }
    }
}

/// What a client asks of one network's endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRequest {
    /// Other names on the network.
    pub aliases: Vec<String>,
    /// Old-style links `CONTAINER:ALIAS`.
    pub links: Vec<String>,
    /// A static IPv4 address.
    pub ipv4: Option<IpAddr>,
    /// A static IPv6 address.
    pub ipv6: Option<IpAddr>,
    /// Link-local addresses.
    pub link_local: Vec<IpAddr>,
    /// A MAC address, `02:42:…`; empty for a generated one.
    pub mac: String,
    /// Options of the driver.
    pub driver_opts: BTreeMap<String, String>,
    /// The endpoint with the highest priority gives the default gateway.
    pub gateway_priority: i64,
}
