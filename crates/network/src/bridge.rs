//! What a bridge is: its subnets, and how packets may pass it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::error::{NetworkError, Result};
use crate::ipam::{Family, first_host};

/// A bridge of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// The interface's name.
    pub name: String,
    /// The subnets of its containers: at most one of each family.
    pub subnets: Vec<BridgeSubnet>,
    /// The longest packet.
    pub mtu: u32,
    /// Whether its containers may speak to one another.
    pub icc: bool,
    /// Whether what its containers send elsewhere gets the host's address.
    pub masquerade: bool,
    /// The host's addresses, at most one of a family, that such packets get; else that of the interface by which they
    /// leave.
    pub sources: Vec<IpAddr>,
    /// Whether nothing is forwarded between it and anything else.
    pub internal: bool,
    /// Interfaces of the host from which published ports may be reached at the containers' own addresses.
    pub trusted: Vec<String>,
}

/// A subnet of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BridgeSubnet {
    /// The subnet.
    pub net: IpNet,
    /// The bridge's own address in it; none if the host keeps out (`inhibit_ipv4`, `isolated`).
    pub address: Option<IpAddr>,
    /// How containers are reached from outside.
    pub mode: GatewayMode,
}

/// `com.docker.network.bridge.gateway_mode_ipv4` and `…_ipv6`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GatewayMode {
    /// Published ports are mapped from the host's; nothing else is let in.
    #[default]
    Nat,
    /// As that, and every port may be reached by whoever has a route.
    NatUnprotected,
    /// Nothing is translated: published ports are open at the containers' own addresses.
    Routed,
    /// The host has no address on the bridge, which must be internal.
    Isolated,
}

impl FromStr for GatewayMode {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "" | "nat" => Ok(Self::Nat),
            "nat-unprotected" => Ok(Self::NatUnprotected),
            "routed" => Ok(Self::Routed),
            "isolated" => Ok(Self::Isolated),
            other => Err(format!("unknown gateway mode {other}")),
        }
    }
}

impl fmt::Display for GatewayMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nat => "nat",
            Self::NatUnprotected => "nat-unprotected",
            Self::Routed => "routed",
            Self::Isolated => "isolated",
        })
    }
}

impl Bridge {
    /// A bridge as Docker's default one is: first address as gateway, MTU 1500, open inside, masked outside.
    pub fn new(name: &str, subnet: IpNet) -> Self {
        let subnets = vec![BridgeSubnet::new(subnet)];
        let (name, sources, trusted) = (name.to_owned(), Vec::new(), Vec::new());
        Self { name, subnets, mtu: 1500, icc: true, masquerade: true, sources, internal: false, trusted }
    }

    /// Its subnet of a family.
    pub fn subnet(&self, family: Family) -> Option<&BridgeSubnet> {
        self.subnets.iter().find(|s| Family::of(s.net.addr()) == family)
    }

    /// The address of a family that what its containers send elsewhere gets, if one is set.
    pub(crate) fn source(&self, family: Family) -> Option<IpAddr> {
        self.sources.iter().copied().find(|ip| Family::of(*ip) == family)
    }

    /// The bridge's own addresses with their prefix lengths.
    pub(crate) fn addresses(&self) -> Vec<IpNet> {
        self.subnets.iter().filter_map(|s| IpNet::new(s.address?, s.net.prefix_len()).ok()).collect()
    }

    /// Whether it can be made: its name, and one subnet of a family.
    pub(crate) fn check(&self) -> Result<()> {
        check_ifname(&self.name)?;
        self.trusted.iter().try_for_each(|name| check_ifname(name))?;
        let of = |family| self.subnets.iter().filter(|s| Family::of(s.net.addr()) == family).count();
        let single = [Family::V4, Family::V6].into_iter().all(|family| of(family) < 2);
        if single { Ok(()) } else { Err(NetworkError::SeveralSubnets(self.name.clone())) }
    }
}

impl BridgeSubnet {
    /// A subnet whose first address is the bridge's, with translation.
    pub fn new(net: IpNet) -> Self {
        let net = net.trunc();
        Self { net, address: Some(first_host(net)), mode: GatewayMode::Nat }
    }
}

/// How the host's ends of endpoints begin.
pub(crate) const HOST_PREFIX: &str = "drv";

/// A name for the host's end of an endpoint, from the endpoint's id.
pub fn host_ifname(endpoint_id: &str) -> String {
    let id: String = endpoint_id.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    format!("{HOST_PREFIX}{id}")
}

/// Whether the kernel takes this as an interface's name.
pub(crate) fn check_ifname(name: &str) -> Result<()> {
    let sound = !name.is_empty()
        && name.len() < 16
        && name != "."
        && name != ".."
        && !name.chars().any(|c| c == '/' || c == ':' || c == '%' || c.is_whitespace() || c.is_control());
    if sound { Ok(()) } else { Err(NetworkError::InterfaceName(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel() {
        let name = host_ifname(&"0123456789abcdef".repeat(4));
        assert_eq!(name, "drv0123456789ab");
        check_ifname(&name).unwrap();
        for wrong in ["", "sixteen-letters!", "a b", "a/b", "..", "a:b", "e%d"] {
            assert!(check_ifname(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_first_address_is_the_gateway() {
        let mut bridge = Bridge::new("droste0", "172.17.5.0/16".parse().unwrap());
        bridge.subnets.push(BridgeSubnet::new("fd00:1::/64".parse().unwrap()));
        let addresses: Vec<_> = bridge.addresses().iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["172.17.0.1/16", "fd00:1::1/64"]);
        bridge.check().unwrap();
        bridge.subnets.push(BridgeSubnet::new("10.0.0.0/8".parse().unwrap()));
        assert!(matches!(bridge.check(), Err(NetworkError::SeveralSubnets(_))));
    }

    #[test]
    fn gateway_modes_have_dockers_words() {
        for word in ["nat", "nat-unprotected", "routed", "isolated"] {
            assert_eq!(word.parse::<GatewayMode>().unwrap().to_string(), word);
        }
        assert!("magic".parse::<GatewayMode>().is_err());
    }
}
