//! Which subnets and addresses are free: pure bookkeeping.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The family's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// Whether two subnets share an address.
pub fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// The first address of a subnet that is neither the subnet's own nor all there is.
pub(crate) fn first_host(net: IpNet) -> IpAddr {
    let span = Span::of(net);
    let lone = net.prefix_len() == net.max_prefix_len();
    span.family.address(if lone { span.first } else { span.first + 1 })
}

/// The pools that subnets are taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressPools {
    pools: Vec<(IpNet, u8)>,
}

/// A pool that no subnet can be taken from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid address pool {base}: its pieces of /{size} are not smaller than it")]
pub struct InvalidPool {
    /// The pool.
    pub base: IpNet,
    /// The prefix length of its pieces.
    pub size: u8,
}

/// A subnet that somebody has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The subnet.
    pub subnet: IpNet,
    /// Who has it, as `network web`; empty if that is not to be said.
    pub holder: String,
}

impl AddressPools {
    /// Docker's default pools: 172.17 to 172.31 as /16, 192.168.0.0/16 in pieces of /20, and a unique local /48 of
    /// IPv6, made of a seed that is the same at each start, in pieces of /64.
    pub fn docker(ula_seed: &[u8]) -> Self {
        let wide = (17..32).map(|n| (IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(172, n, 0, 0), 16)), 16));
        let narrow = (IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 0, 0), 16)), 20);
        Self { pools: wide.chain([narrow, (IpNet::V6(unique_local(ula_seed)), 64)]).collect() }
    }

    /// Pools of one's own, base and prefix length of the pieces; a family without any keeps Docker's.
    pub fn of(pools: &[(IpNet, u8)], ula_seed: &[u8]) -> Result<Self, InvalidPool> {
        let wrong = |(base, size): &&(IpNet, u8)| *size < base.prefix_len() || *size > base.max_prefix_len();
        if let Some((base, size)) = pools.iter().find(wrong).copied() {
            return Err(InvalidPool { base, size });
        }
        let mut all: Vec<_> = pools.iter().map(|(base, size)| (base.trunc(), *size)).collect();
        for (base, size) in Self::docker(ula_seed).pools {
            let given = |(pool, _): &(IpNet, u8)| Family::of(pool.addr()) == Family::of(base.addr());
            if !pools.iter().any(given) {
                all.push((base, size));
            }
        }
        Ok(Self { pools: all })
    }

    /// The first subnet of a family that overlaps none of `taken`.
    pub fn first_free(&self, family: Family, taken: &[IpNet]) -> Option<IpNet> {
        let pools = self.pools.iter().filter(|(base, _)| Family::of(base.addr()) == family);
        pools.into_iter().find_map(|(base, size)| free_piece(*base, *size, taken))
    }

    /// The pools of a family.
    pub fn bases(&self, family: Family) -> impl Iterator<Item = IpNet> + '_ {
        self.pools.iter().map(|(base, _)| *base).filter(move |base| Family::of(base.addr()) == family)
    }
}

/// Who has the pools of a family, and the way out, for the error of one who finds none free.
pub(crate) fn holders(pools: &AddressPools, family: Family, used: &[IpNet], taken: &[Taken]) -> String {
    let in_pools = |net: IpNet| pools.bases(family).any(|base| overlap(base, net));
    let mut all: Vec<String> = Vec::new();
    for net in used.iter().copied().filter(|net| in_pools(*net)) {
        let holder = taken.iter().find(|t| t.subnet == net && !t.holder.is_empty());
        let holder = holder.map_or("a route of this host", |t| &t.holder);
        let text = format!("{net} ({holder})");
        let is_named = |t: &String| t.starts_with(&format!("{net} ("));
        if !all.iter().any(is_named) {
            all.push(text);
        }
    }
    format!("in use are {}; remove networks, or give the daemon more with --default-address-pool", all.join(", "))
}

/// The first free piece of a pool. What is taken is jumped over, not stepped through: an IPv6 pool has many pieces.
fn free_piece(base: IpNet, size: u8, taken: &[IpNet]) -> Option<IpNet> {
    let pool = Span::of(base);
    let length = pool.family.bits() - u32::from(size);
    let step = 1_u128.checked_shl(length).unwrap_or(0);
    let mut at = pool.first;
    loop {
        let piece = IpNet::new(pool.family.address(at), size).ok()?;
        let Some(held) = taken.iter().filter(|t| overlap(piece, **t)).map(|t| Span::of(*t).last).max() else {
            return Some(piece);
        };
        let after = held.max(at.checked_add(step.checked_sub(1)?)?);
        if after >= pool.last {
            return None;
        }
        at = (after + 1).checked_next_multiple_of(step)?;
        if at > pool.last {
            return None;
        }
    }
}

/// A /48 of fd00::/8 (RFC 4193), by 40 bits of a hash (FNV-1a) of the seed.
fn unique_local(seed: &[u8]) -> Ipv6Net {
    let hash = fnv(seed);
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(&hash.to_be_bytes()[3..8]);
    Ipv6Net::new_assert(Ipv6Addr::from(octets), 48)
}

/// FNV-1a, 64 bits.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// First and last address of a subnet, as numbers.
#[derive(Debug, Clone, Copy)]
struct Span {
    family: Family,
    first: u128,
    last: u128,
}

impl Span {
    fn of(net: IpNet) -> Self {
        Self { family: Family::of(net.addr()), first: number(net.network()), last: number(net.broadcast()) }
    }
}

impl Family {
    fn bits(self) -> u32 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    fn address(self, number: u128) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::from(number as u32).into(),
            Self::V6 => Ipv6Addr::from(number).into(),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// An address that cannot be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IpamError {
    /// It belongs to another endpoint.
    #[error("Address already in use")]
    InUse(IpAddr),
    /// It is outside of the subnet, or its network or broadcast address.
    #[error("Requested address is out of range")]
    OutOfRange(IpAddr),
    /// None is left.
    #[error("no available {family} addresses on this network's address pools: {0}", family = Family::of(.0.addr()).name())]
    Exhausted(IpNet),
}

/// The addresses of one subnet.
#[derive(Debug, Clone)]
pub struct Ipam {
    subnet: IpNet,
    range: IpNet,
    used: BTreeSet<u128>,
}

impl Ipam {
    /// The addresses of a subnet, all free.
    pub fn new(subnet: IpNet) -> Self {
        let subnet = subnet.trunc();
        Self { subnet, range: subnet, used: BTreeSet::new() }
    }

    /// Gives only addresses of a part of the subnet; any of the subnet may still be asked for.
    pub fn with_range(mut self, range: IpNet) -> Self {
        self.range = range.trunc();
        self
    }

    /// The subnet.
    pub fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// How many addresses are given.
    pub fn used(&self) -> usize {
        self.used.len()
    }

    /// Takes the lowest free address.
    pub fn allocate(&mut self) -> Result<IpAddr, IpamError> {
        let range = Span::of(self.range);
        let mut at = range.first;
        let mut held = self.used.range(range.first..=range.last);
        let mut next = held.next().copied();
        loop {
            if next == Some(at) {
                next = held.next().copied();
            } else if self.is_host(range.family.address(at)) {
                break;
            }
            if at >= range.last {
                return Err(IpamError::Exhausted(self.subnet));
            }
            at += 1;
        }
        self.used.insert(at);
        Ok(range.family.address(at))
    }

    /// Takes a certain address.
    pub fn reserve(&mut self, address: IpAddr) -> Result<(), IpamError> {
        if !self.is_host(address) {
            return Err(IpamError::OutOfRange(address));
        }
        if self.used.insert(number(address)) { Ok(()) } else { Err(IpamError::InUse(address)) }
    }

    /// Gives an address back; one that is free stays so.
    pub fn release(&mut self, address: IpAddr) {
        self.used.remove(&number(address));
    }

    /// An address of the subnet with its prefix length, as an interface carries it.
    pub fn on_link(&self, address: IpAddr) -> IpNet {
        IpNet::new_assert(address, self.subnet.prefix_len())
    }

    /// Whether an endpoint can have it. IPv6 has no broadcast, but its first address is every router's (RFC 4291).
    fn is_host(&self, address: IpAddr) -> bool {
        let span = Span::of(self.subnet);
        let (at, roomy) = (number(address), span.family.bits() - u32::from(self.subnet.prefix_len()) >= 2);
        let edge = at == span.first || (at == span.last && span.family == Family::V4);
        self.subnet.contains(&address) && !(roomy && edge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn pools_are_dockers() {
        let pools = AddressPools::docker(b"host");
        let mut taken = Vec::new();
        while let Some(free) = pools.first_free(Family::V4, &taken) {
            taken.push(free);
        }
        assert_eq!(taken.len(), 15 + 16);
        assert_eq!((taken[0], taken[14]), (net("172.17.0.0/16"), net("172.31.0.0/16")));
        assert_eq!((taken[15], taken[30]), (net("192.168.0.0/20"), net("192.168.240.0/20")));
    }

    #[test]
    fn ipv6_pools_are_unique_local_and_stay() {
        let pools = AddressPools::docker(b"host");
        let first = pools.first_free(Family::V6, &[]).unwrap();
        assert_eq!((first.prefix_len(), first.to_string().starts_with("fd")), (64, true));
        assert_eq!(AddressPools::docker(b"host").first_free(Family::V6, &[]), Some(first));
        assert_ne!(AddressPools::docker(b"other").first_free(Family::V6, &[]), Some(first));
        let second = pools.first_free(Family::V6, &[first]).unwrap();
        assert!(!overlap(first, second) && second.prefix_len() == 64);
    }

    #[test]
    fn pools_avoid_what_is_taken() {
        let pools = AddressPools::docker(b"");
        let taken = [net("172.17.0.9/32"), net("172.18.0.0/15"), net("10.0.0.0/8")];
        assert_eq!(pools.first_free(Family::V4, &taken), Some(net("172.20.0.0/16")));
        assert_eq!(pools.first_free(Family::V4, &[net("128.0.0.0/1")]), None);
        assert_eq!(pools.first_free(Family::V4, &[net("172.16.0.0/12")]), Some(net("192.168.0.0/20")));
        let wide = AddressPools::of(&[(net("fd12::/16"), 64)], b"").unwrap();
        assert_eq!(wide.first_free(Family::V6, &[net("fd12::/32"), net("fd12:1::/64")]), Some(net("fd12:1:0:1::/64")));
    }

    #[test]
    fn who_has_the_pools_is_said() {
        let pools = AddressPools::of(&[(net("10.9.0.0/16"), 17)], b"").unwrap();
        let taken = [Taken { subnet: net("10.9.0.0/17"), holder: "network web".to_owned() }];
        let used = [net("10.9.128.0/17"), net("192.168.1.0/24"), net("10.9.0.0/17")];
        let text = holders(&pools, Family::V4, &used, &taken);
        assert!(text.contains("10.9.128.0/17 (a route of this host), 10.9.0.0/17 (network web);"), "{text}");
        assert!(!text.contains("192.168"), "{text}");
    }

    #[test]
    fn pools_of_ones_own_take_the_place_of_their_familys() {
        let pools = AddressPools::of(&[(net("10.9.0.0/16"), 24)], b"x").unwrap();
        assert_eq!(pools.first_free(Family::V4, &[net("10.9.0.0/24")]), Some(net("10.9.1.0/24")));
        assert_eq!(pools.first_free(Family::V4, &[net("10.9.0.0/16")]), None);
        assert!(pools.first_free(Family::V6, &[]).is_some());
        assert!(AddressPools::of(&[(net("10.9.0.0/16"), 8)], b"").is_err());
        let last = AddressPools::of(&[(net("255.255.255.0/24"), 25)], b"").unwrap();
        assert_eq!(last.first_free(Family::V4, &[net("255.255.255.128/25")]), Some(net("255.255.255.0/25")));
        assert_eq!(last.first_free(Family::V4, &[net("255.255.255.0/24")]), None);
    }

    #[test]
    fn addresses_are_lowest_first() {
        let mut ipam = Ipam::new(net("172.17.0.0/16"));
        ipam.reserve(ip("172.17.0.1")).unwrap();
        assert_eq!(ipam.allocate().unwrap().to_string(), "172.17.0.2");
        assert_eq!(ipam.allocate().unwrap().to_string(), "172.17.0.3");
        ipam.release(ip("172.17.0.2"));
        assert_eq!(ipam.allocate().unwrap().to_string(), "172.17.0.2");
        let mut six = Ipam::new(net("fd00::/64"));
        assert_eq!((six.allocate().unwrap(), six.allocate().unwrap()), (ip("fd00::1"), ip("fd00::2")));
        assert_eq!(six.on_link(ip("fd00::2")).to_string(), "fd00::2/64");
        six.reserve(ip("fd00::ffff:ffff:ffff:ffff")).unwrap();
    }

    #[test]
    fn edges_and_strangers_are_refused() {
        let mut ipam = Ipam::new(net("10.1.2.0/30"));
        for wrong in ["10.1.2.0", "10.1.2.3", "10.1.3.1", "fd00::1"] {
            assert_eq!(ipam.reserve(ip(wrong)), Err(IpamError::OutOfRange(ip(wrong))));
        }
        ipam.reserve(ip("10.1.2.1")).unwrap();
        assert!(matches!(ipam.reserve(ip("10.1.2.1")), Err(IpamError::InUse(_))));
        ipam.allocate().unwrap();
        assert!(matches!(ipam.allocate(), Err(IpamError::Exhausted(_))));
        let mut pair = Ipam::new(net("10.1.2.0/31"));
        assert_eq!((pair.allocate().is_ok(), pair.allocate().is_ok(), pair.allocate().is_ok()), (true, true, false));
    }

    #[test]
    fn a_range_bounds_what_is_given() {
        let mut ipam = Ipam::new(net("10.1.0.0/16")).with_range(net("10.1.5.0/24"));
        ipam.reserve(ip("10.1.0.9")).unwrap();
        assert_eq!(ipam.allocate().unwrap().to_string(), "10.1.5.0");
    }

    #[test]
    fn the_first_address_of_a_subnet() {
        assert_eq!(first_host(net("10.1.0.0/16")), ip("10.1.0.1"));
        assert_eq!(first_host(net("fd00::/64")), ip("fd00::1"));
        assert_eq!(first_host(net("10.1.0.9/32")), ip("10.1.0.9"));
    }
}
