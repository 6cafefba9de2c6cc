//! What a client asks of a container's networks.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
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

/// What a client asks of one network's endpoint. `None` and empty differ only in how they are shown again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointRequest {
    /// Other names on the network.
    pub aliases: Option<Vec<String>>,
    /// Names of other containers in this one alone, `CONTAINER[:ALIAS]`.
    pub links: Option<Vec<String>>,
    /// Wishes for addresses were given, be they empty.
    pub has_ipam: bool,
    /// A static IPv4 address.
    pub ipv4: Option<IpAddr>,
    /// A static IPv6 address.
    pub ipv6: Option<IpAddr>,
    /// Link-local addresses.
    pub link_local: Vec<IpAddr>,
    /// A MAC address, `02:42:…`; empty for a generated one.
    pub mac: String,
    /// Options of the driver.
    pub driver_opts: Option<BTreeMap<String, String>>,
    /// The endpoint with the highest priority gives the default gateway.
    pub gateway_priority: i64,
    /// What was typed where an address should stand: refused together with what the network says of it.
    #[serde(skip)]
    pub unreadable: Unreadable,
}

/// Texts that are no addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unreadable {
    /// In the place of an IPv4 address.
    pub ipv4: Option<String>,
    /// In the place of an IPv6 address.
    pub ipv6: Option<String>,
    /// Among the link-local addresses.
    pub link_local: Vec<String>,
}

/// Everything that `POST /networks/create` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateNetwork {
    /// Its name.
    pub name: String,
    /// `bridge`, `macvlan`, …; empty for `bridge`.
    pub driver: String,
    /// `local`, `swarm`, …; empty for the driver's own.
    pub scope: String,
    /// Without a way out.
    pub internal: bool,
    /// Containers may join although a swarm owns it: kept and shown, of no effect without a swarm.
    pub attachable: bool,
    /// A swarm's routing mesh.
    pub ingress: bool,
    /// A set of options for others, no network.
    pub config_only: bool,
    /// The network whose options it has; empty for its own.
    pub config_from: String,
    /// Has IPv4; `None` for the default.
    pub ipv4: Option<bool>,
    /// Has IPv6; `None` for the default.
    pub ipv6: Option<bool>,
    /// Where addresses come from.
    pub ipam: IpamRequest,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// Where a network's addresses come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpamRequest {
    /// `default`, or empty for it.
    pub driver: String,
    /// Options of the address driver: kept and shown.
    pub options: Option<BTreeMap<String, String>>,
    /// Subnets; empty for one that is free.
    pub subnets: Vec<SubnetRequest>,
}

/// A subnet that a client chose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetRequest {
    /// The subnet.
    pub subnet: IpNet,
    /// The part from which addresses are given; `None` for all of it.
    pub range: Option<IpNet>,
    /// The gateway's address; `None` for the first.
    pub gateway: Option<IpAddr>,
    /// Addresses of others, by name, that are never given.
    pub auxiliary: BTreeMap<String, IpAddr>,
}
