//! Which subnets and addresses are free: pure bookkeeping.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::{Ipv4AddrRange, Ipv4Net};

/// Docker's default pools: 172.17 to 172.31 as /16, then 192.168.0.0/16 in pieces of /20.
pub fn default_pools() -> impl Iterator<Item = Ipv4Net> {
    let wide = (17..32).map(|n| Ipv4Net::new_assert(Ipv4Addr::new(172, n, 0, 0), 16));
    let narrow = (0..=240).step_by(16).map(|n| Ipv4Net::new_assert(Ipv4Addr::new(192, 168, n, 0), 20));
    wide.chain(narrow)
}

/// Whether two subnets share an address.
pub fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// The first subnet that overlaps none of `taken`.
pub fn first_free(pools: impl IntoIterator<Item = Ipv4Net>, taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    pools.into_iter().find(|pool| !taken.iter().any(|t| overlap(*pool, *t)))
}

/// An address that cannot be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IpamError {
    /// It belongs to another endpoint.
    #[error("Address already in use")]
    InUse(Ipv4Addr),
    /// It is outside of the subnet, or its network or broadcast address.
    #[error("Requested address is out of range")]
    OutOfRange(Ipv4Addr),
    /// None is left.
    #[error("no available IPv4 addresses on this network's address pools: {0}")]
    Exhausted(Ipv4Net),
}

/// The addresses of one subnet.
#[derive(Debug, Clone)]
pub struct Ipam {
    subnet: Ipv4Net,
    range: Ipv4Net,
    used: BTreeSet<Ipv4Addr>,
}

impl Ipam {
    /// The addresses of a subnet, all free.
    pub fn new(subnet: Ipv4Net) -> Self {
        let subnet = subnet.trunc();
        Self { subnet, range: subnet, used: BTreeSet::new() }
    }

    /// Gives only addresses of a part of the subnet; any of the subnet may still be asked for.
    pub fn with_range(mut self, range: Ipv4Net) -> Self {
        self.range = range.trunc();
        self
    }

    /// The subnet.
    pub fn subnet(&self) -> Ipv4Net {
        self.subnet
    }

    /// How many addresses are given.
    pub fn used(&self) -> usize {
        self.used.len()
    }

    /// Takes the lowest free address.
    pub fn allocate(&mut self) -> Result<Ipv4Addr, IpamError> {
        let mut candidates = Ipv4AddrRange::new(self.range.network(), self.range.broadcast());
        let free = candidates.find(|a| self.is_host(*a) && !self.used.contains(a));
        let address = free.ok_or(IpamError::Exhausted(self.subnet))?;
        self.used.insert(address);
        Ok(address)
    }

    /// Takes a certain address.
    pub fn reserve(&mut self, address: Ipv4Addr) -> Result<(), IpamError> {
        if !self.is_host(address) {
            return Err(IpamError::OutOfRange(address));
        }
        if self.used.insert(address) { Ok(()) } else { Err(IpamError::InUse(address)) }
    }

    /// Gives an address back; one that is free stays so.
    pub fn release(&mut self, address: Ipv4Addr) {
        self.used.remove(&address);
    }

    /// An address of the subnet with its prefix length, as an interface carries it.
    pub fn on_link(&self, address: Ipv4Addr) -> Ipv4Net {
        Ipv4Net::new_assert(address, self.subnet.prefix_len())
    }

    fn is_host(&self, address: Ipv4Addr) -> bool {
        let edge = address == self.subnet.network() || address == self.subnet.broadcast();
        self.subnet.contains(&address) && (self.subnet.prefix_len() >= 31 || !edge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn pools_are_dockers() {
        let all: Vec<_> = default_pools().collect();
        assert_eq!(all.len(), 15 + 16);
        assert_eq!(all[0], net("172.17.0.0/16"));
        assert_eq!(all[14], net("172.31.0.0/16"));
        assert_eq!(all[15], net("192.168.0.0/20"));
        assert_eq!(all[30], net("192.168.240.0/20"));
    }

    #[test]
    fn pools_avoid_what_is_taken() {
        let taken = [net("172.17.0.9/32"), net("172.18.0.0/15"), net("10.0.0.0/8")];
        assert_eq!(first_free(default_pools(), &taken), Some(net("172.20.0.0/16")));
        assert_eq!(first_free(default_pools(), &[net("128.0.0.0/1")]), None);
    }

    #[test]
    fn addresses_are_lowest_first() {
        let mut ipam = Ipam::new(net("172.17.0.0/16"));
        ipam.reserve("172.17.0.1".parse().unwrap()).unwrap();
        assert_eq!(ipam.allocate().unwrap().to_string(), "172.17.0.2");
        assert_eq!(ipam.allocate().unwrap().to_string(), "172.17.0.3");
        ipam.release("172.17.0.2".parse().unwrap());
        assert_eq!(ipam.allocate().unwrap().to_string(), "172.17.0.2");
    }

    #[test]
    fn edges_and_strangers_are_refused() {
        let mut ipam = Ipam::new(net("10.1.2.0/30"));
        for wrong in ["10.1.2.0", "10.1.2.3", "10.1.3.1"] {
            let address = wrong.parse().unwrap();
            assert_eq!(ipam.reserve(address), Err(IpamError::OutOfRange(address)));
        }
        ipam.reserve("10.1.2.1".parse().unwrap()).unwrap();
        assert!(matches!(ipam.reserve("10.1.2.1".parse().unwrap()), Err(IpamError::InUse(_))));
        ipam.allocate().unwrap();
        assert!(matches!(ipam.allocate(), Err(IpamError::Exhausted(_))));
    }

    #[test]
    fn a_range_bounds_what_is_given() {
        let mut ipam = Ipam::new(net("10.1.0.0/16")).with_range(net("10.1.5.0/24"));
        ipam.reserve("10.1.0.9".parse().unwrap()).unwrap();
        assert_eq!(ipam.allocate().unwrap().to_string(), "10.1.5.0");
    }
}
