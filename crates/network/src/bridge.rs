//! What a bridge is, and what an endpoint on it is.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::error::{NetworkError, Result};
use crate::mac::MacAddr;

/// A bridge of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// The interface's name.
    pub name: String,
    /// The subnet of its containers.
    pub subnet: Ipv4Net,
    /// The bridge's own address, its containers' default gateway.
    pub gateway: Ipv4Addr,
    /// The longest packet.
    pub mtu: u32,
    /// Whether its containers may speak to one another.
    pub icc: bool,
    /// Whether what its containers send elsewhere gets the host's address.
    pub masquerade: bool,
}

impl Bridge {
    /// A bridge as Docker's default one is: first address as gateway, MTU 1500, open inside, masked outside.
    pub fn new(name: &str, subnet: Ipv4Net) -> Self {
        let subnet = subnet.trunc();
        let gateway = subnet.hosts().next().unwrap_or(subnet.addr());
        Self { name: name.to_owned(), subnet, gateway, mtu: 1500, icc: true, masquerade: true }
    }

    /// The gateway with its prefix length.
    pub(crate) fn address(&self) -> Ipv4Net {
        Ipv4Net::new_assert(self.gateway, self.subnet.prefix_len())
    }
}

/// A container's interface on a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The bridge that it is attached to.
    pub bridge: String,
    /// The name of the host's end; `host_ifname` makes one.
    pub host_ifname: String,
    /// The name of the container's end, such as `eth0`.
    pub ifname: String,
    /// Its address with the subnet's prefix length.
    pub address: Ipv4Net,
    /// Its hardware address.
    pub mac: MacAddr,
    /// The default gateway; none if another endpoint has it.
    pub gateway: Option<Ipv4Addr>,
    /// The longest packet.
    pub mtu: u32,
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
        let bridge = Bridge::new("droste0", "172.17.5.0/16".parse().unwrap());
        assert_eq!(bridge.address().to_string(), "172.17.0.1/16");
    }
}
