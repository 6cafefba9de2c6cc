//! What one host's table contains: elements, computed from bridges and published ports.
//!
//! There is one nf_tables table for both address families. Its rules (`rules`) are the same on every host;
//! what differs are the elements of sets and maps, so that publishing a port or making a network adds
//! elements and never rewrites a rule.

mod ledger;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use droste_model::port::Protocol;
use ipnet::IpNet;

use crate::bridge::{Bridge, BridgeSubnet, GatewayMode};
use crate::ipam::Family;
use crate::netlink::uapi::*;
use crate::nft::{Batch, Element, Expr, Rule, Set};

pub(crate) use ledger::Ledger;
pub(crate) use rules::rules;

/// A published port: where packets arrive, and where they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Publication {
    /// The protocol.
    pub(crate) protocol: Protocol,
    /// The host's address and port, the address unspecified for all of the family; none if the port is open at the
    /// container's own address.
    pub(crate) host: Option<SocketAddr>,
    /// The container's address and port.
    pub(crate) target: SocketAddr,
}

impl Publication {
    /// A port of the host that leads to a container's. The address may be unspecified: every address of its family,
    /// which has to be the container's.
    pub fn mapped(protocol: Protocol, host: SocketAddr, target: SocketAddr) -> Self {
        Self { protocol, host: Some(host), target }
    }

    /// A container's port that is open at its own address.
    pub fn routed(protocol: Protocol, target: SocketAddr) -> Self {
        Self { protocol, host: None, target }
    }

    /// The container's address and port.
    pub fn target(&self) -> SocketAddr {
        self.target
    }
}

/// What a host's table is computed from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Desired {
    pub(crate) bridges: BTreeMap<String, Bridge>,
    pub(crate) ports: BTreeSet<Publication>,
    /// Families whose packets this host began to forward for our sake: those between others are dropped.
    pub(crate) closed: BTreeSet<Family>,
}

/// An element and the set that it belongs to.
pub(crate) type Entry = (&'static str, Element);

const TYPE_NFPROTO: u32 = 2;
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
const TYPE_PROTOCOL: u32 = 12;
const TYPE_PORT: u32 = 13;
const TYPE_INTERFACE: u32 = 41;

const NAME: (u32, u32) = (TYPE_INTERFACE, 16);
const NAMES: (u32, u32) = (concat(&[TYPE_INTERFACE, TYPE_INTERFACE]), 32);
const PORT: (u32, u32) = (concat(&[TYPE_PROTOCOL, TYPE_PORT]), 8);
const PORT_AT_4: (u32, u32) = (concat(&[TYPE_IPV4, TYPE_PROTOCOL, TYPE_PORT]), 12);
const PORT_AT_6: (u32, u32) = (concat(&[TYPE_IPV6, TYPE_PROTOCOL, TYPE_PORT]), 24);
const TARGET_4: (u32, u32) = (concat(&[TYPE_IPV4, TYPE_PORT]), 8);
const TARGET_6: (u32, u32) = (concat(&[TYPE_IPV6, TYPE_PORT]), 20);

/// Interface names of all bridges.
const BRIDGES: Set = set("bridges", NAME, None);
/// Bridges between which and anything else nothing is forwarded.
const INTERNAL: Set = set("internal", NAME, None);
/// Pairs of input and output between which containers may speak.
const PEERS: Set = set("peers", NAMES, None);
/// Pairs of an interface of the host and a bridge whose published ports it may reach directly.
const TRUSTED: Set = set("trusted", NAMES, None);
/// Families of packets that are forwarded for our sake only.
const CLOSED: Set = set("closed", (TYPE_NFPROTO, 1), None);

/// The sets that there are of each family.
pub(crate) struct Sets {
    /// Bridges whose containers' sources are masked.
    pub(crate) masquerade: Set,
    /// Bridges whose containers' sources become one address.
    pub(crate) sources: Set,
    /// Bridges whose containers are reached by whoever has a route.
    pub(crate) unprotected: Set,
    /// Bridges whose containers answer echo requests from everywhere.
    pub(crate) routed: Set,
    /// The bridges' subnets. A packet that br_netfilter leads across a bridge has no input interface any more.
    pub(crate) subnets: Set,
    /// Protocol and port → address and port.
    pub(crate) ports: Set,
    /// Address, protocol and port → address and port.
    pub(crate) ports_at: Set,
    /// Containers' address, protocol and port that are open to everybody.
    pub(crate) open: Set,
    /// Those that published ports lead to.
    pub(crate) targets: Set,
}

pub(crate) const IPV4: Sets = Sets {
    masquerade: set("masquerade", NAME, None),
    sources: set("sources", NAME, Some((TYPE_IPV4, 4))),
    unprotected: set("unprotected", NAME, None),
    routed: set("routed", NAME, None),
    subnets: Set { intervals: true, ..set("subnets", (TYPE_IPV4, 4), None) },
    ports: set("ports", PORT, Some(TARGET_4)),
    ports_at: set("ports_at", PORT_AT_4, Some(TARGET_4)),
    open: set("open", PORT_AT_4, None),
    targets: set("targets", PORT_AT_4, None),
};

pub(crate) const IPV6: Sets = Sets {
    masquerade: set("masquerade6", NAME, None),
    sources: set("sources6", NAME, Some((TYPE_IPV6, 16))),
    unprotected: set("unprotected6", NAME, None),
    routed: set("routed6", NAME, None),
    subnets: Set { intervals: true, ..set("subnets6", (TYPE_IPV6, 16), None) },
    ports: set("ports6", PORT, Some(TARGET_6)),
    ports_at: set("ports6_at", PORT_AT_6, Some(TARGET_6)),
    open: set("open6", PORT_AT_6, None),
    targets: set("targets6", PORT_AT_6, None),
};

const fn set(name: &'static str, key: (u32, u32), data: Option<(u32, u32)>) -> Set {
    let text = key.0 == TYPE_INTERFACE;
    Set { name, key, data, text, intervals: false }
}

impl Sets {
    /// The sets of a family.
    pub(crate) const fn of(family: Family) -> &'static Self {
        match family {
            Family::V4 => &IPV4,
            Family::V6 => &IPV6,
        }
    }

    const fn all(&self) -> [Set; 9] {
        let Self { masquerade, sources, unprotected, routed, subnets, ports, ports_at, open, targets } = *self;
        [masquerade, sources, unprotected, routed, subnets, ports, ports_at, open, targets]
    }
}

/// All sets.
pub(crate) fn sets() -> impl Iterator<Item = Set> {
    [BRIDGES, INTERNAL, PEERS, TRUSTED, CLOSED].into_iter().chain(IPV4.all()).chain(IPV6.all())
}

/// nft's number for a concatenation: six bits each.
const fn concat(types: &[u32]) -> u32 {
    let mut all = 0;
    let mut i = 0;
    while i < types.len() {
        all = (all << 6) | types[i];
        i += 1;
    }
    all
}

/// Replaces the whole table by what is desired, in one commit.
pub(crate) fn replace(table: &str, desired: &Desired) -> Batch {
    let mut batch = Batch::new(NFPROTO_INET, table);
    let comment = format!("made by droste for {table}; put right again when changed");
    batch.add_table(&comment);
    batch.delete_table();
    batch.add_table(&comment);
    sets().for_each(|set| batch.add_set(&set));
    rules::CHAINS.iter().for_each(|(name, hook)| batch.add_chain(name, *hook));
    for (chain, rule) in rules() {
        batch.append_rule(chain, &rule);
    }
    for (set, mut elements) in contents(desired) {
        // The kernel takes a start within an interval that has no end yet for an overlap: of two subnets beside each
        // other, the first one's end goes before the second one's start.
        elements.sort_by(|a, b| (&a.key, !a.end).cmp(&(&b.key, !b.end)));
        batch.add_elements(set, &elements);
    }
    batch
}

/// What each set contains, sorted.
pub(crate) fn contents(desired: &Desired) -> BTreeMap<&'static str, Vec<Element>> {
    let mut all: BTreeMap<_, BTreeSet<Element>> = sets().map(|set| (set.name, BTreeSet::new())).collect();
    for (set, element) in entries(desired) {
        all.entry(set).or_default().insert(element);
    }
    all.into_iter().map(|(set, elements)| (set, elements.into_iter().collect())).collect()
}

/// Everything that is desired, shared elements as often as they are needed.
pub(crate) fn entries(desired: &Desired) -> impl Iterator<Item = Entry> + '_ {
    let bridges = desired.bridges.values().flat_map(bridge_entries);
    let ports = desired.ports.iter().flat_map(port_entries);
    bridges.chain(ports).chain(desired.closed.iter().map(|family| closed_entry(*family)))
}

/// The element that a family needs whose packets are forwarded for our sake only.
pub(crate) fn closed_entry(family: Family) -> Entry {
    (CLOSED.name, Element::key(vec![number_of(family)]))
}

/// The families that such elements name.
pub(crate) fn closed_families(elements: &[Element]) -> BTreeSet<Family> {
    [Family::V4, Family::V6].into_iter().filter(|f| elements.contains(&closed_entry(*f).1)).collect()
}

/// The set of such elements.
pub(crate) const CLOSED_SET: &str = CLOSED.name;

fn number_of(family: Family) -> u8 {
    match family {
        Family::V4 => NFPROTO_IPV4,
        Family::V6 => NFPROTO_IPV6,
    }
}

/// The elements that a bridge needs.
pub(crate) fn bridge_entries(bridge: &Bridge) -> Vec<Entry> {
    let name = interface_name(&bridge.name);
    let mut all = vec![(BRIDGES.name, Element::key(name.clone()))];
    if bridge.internal {
        all.push((INTERNAL.name, Element::key(name.clone())));
    }
    if bridge.icc {
        all.push((PEERS.name, Element::key([name.clone(), name.clone()].concat())));
    }
    for from in &bridge.trusted {
        all.push((TRUSTED.name, Element::key([interface_name(from), name.clone()].concat())));
    }
    for subnet in &bridge.subnets {
        all.extend(subnet_entries(bridge, subnet, &name));
    }
    all
}

fn subnet_entries(bridge: &Bridge, subnet: &BridgeSubnet, name: &[u8]) -> Vec<Entry> {
    let sets = Sets::of(Family::of(subnet.net.addr()));
    let mut all = Vec::new();
    let translated = matches!(subnet.mode, GatewayMode::Nat | GatewayMode::NatUnprotected);
    if bridge.masquerade && translated && !bridge.internal {
        all.push(match bridge.source(Family::of(subnet.net.addr())) {
            Some(ip) => (sets.sources.name, Element { data: Some(octets(ip)), ..Element::key(name.to_vec()) }),
            None => (sets.masquerade.name, Element::key(name.to_vec())),
        });
    }
    match subnet.mode {
        GatewayMode::NatUnprotected => all.push((sets.unprotected.name, Element::key(name.to_vec()))),
        GatewayMode::Routed => all.push((sets.routed.name, Element::key(name.to_vec()))),
        GatewayMode::Nat | GatewayMode::Isolated => {}
    }
    all.push((sets.subnets.name, Element::key(octets(subnet.net.network()))));
    if let Some(end) = after(subnet.net) {
        all.push((sets.subnets.name, Element { end: true, ..Element::key(end) }));
    }
    all
}

/// The first address after a subnet; one at the very end of all addresses has none.
fn after(net: IpNet) -> Option<Vec<u8>> {
    match net.broadcast() {
        IpAddr::V4(last) => u32::from(last).checked_add(1).map(|end| end.to_be_bytes().to_vec()),
        IpAddr::V6(last) => u128::from(last).checked_add(1).map(|end| end.to_be_bytes().to_vec()),
    }
}

/// The elements that a published port needs.
pub(crate) fn port_entries(port: &Publication) -> Vec<Entry> {
    let sets = Sets::of(Family::of(port.target.ip()));
    let at_container = place(Some(port.target.ip()), port.protocol, port.target.port());
    let Some(host) = port.host else {
        return vec![(sets.open.name, Element::key(at_container))];
    };
    let ip = Some(host.ip()).filter(|ip| !ip.is_unspecified());
    let set = if ip.is_some() { &sets.ports_at } else { &sets.ports };
    let mut target = octets(port.target.ip());
    target.extend_from_slice(&port_word(port.target.port()));
    let mapped = Element { key: place(ip, port.protocol, host.port()), data: Some(target), end: false };
    vec![(set.name, mapped), (sets.targets.name, Element::key(at_container))]
}

/// The key of a port: each field fills whole words.
fn place(ip: Option<IpAddr>, protocol: Protocol, port: u16) -> Vec<u8> {
    let mut key = ip.map(octets).unwrap_or_default();
    key.extend_from_slice(&[protocol_number(protocol), 0, 0, 0]);
    key.extend_from_slice(&port_word(port));
    key
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn port_word(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

/// The protocol's number in a packet.
pub(crate) fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// An interface's name as a key.
pub(crate) fn interface_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

/// The rules that let a bridge's packets through another program's chain that drops by default.
pub(crate) fn admission(bridge: &str, mark: &str) -> [Rule; 2] {
    let name = interface_name(bridge);
    [true, false].map(|input| Rule {
        expressions: vec![
            Expr::Interface { input, register: NFT_REG_1 },
            Expr::Compare { equal: true, bytes: name.clone() },
            Expr::ACCEPT,
        ],
        comment: admission_comment(bridge, mark, input),
    })
}

/// How such a rule is recognised.
pub(crate) fn admission_comment(bridge: &str, mark: &str, input: bool) -> String {
    format!("{mark} {bridge} {}", if input { "out" } else { "in" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn keys_fill_whole_words() {
        let port = Publication::mapped(Protocol::Udp, address("1.2.3.4:4660"), address("172.17.0.2:80"));
        let [(set, element), (targets, target)] = port_entries(&port).try_into().unwrap();
        assert_eq!((set, element.key), ("ports_at", vec![1, 2, 3, 4, 17, 0, 0, 0, 0x12, 0x34, 0, 0]));
        assert_eq!(element.data, Some(vec![172, 17, 0, 2, 0, 80, 0, 0]));
        assert_eq!((targets, target.key), ("targets", vec![172, 17, 0, 2, 17, 0, 0, 0, 0, 80, 0, 0]));
        let everywhere = Publication { host: Some(address("0.0.0.0:4660")), ..port };
        assert_eq!((port_entries(&everywhere)[0].0, port_entries(&everywhere)[0].1.key.len()), ("ports", 8));
        let six = Publication::mapped(Protocol::Tcp, address("[fd00::1]:80"), address("[fd00:1::2]:80"));
        let [(set, element), _] = port_entries(&six).try_into().unwrap();
        assert_eq!((set, element.key.len(), element.data.unwrap().len()), ("ports6_at", 24, 20));
        let routed = port_entries(&Publication::routed(Protocol::Sctp, address("[fd00:1::2]:80")));
        assert_eq!((routed.len(), routed[0].0, routed[0].1.key.len()), (1, "open6", 24));
    }

    #[test]
    fn a_bridges_options_are_elements() {
        let mut bridge = Bridge::new("b", "172.18.0.0/16".parse().unwrap());
        bridge
            .subnets
            .push(BridgeSubnet { mode: GatewayMode::Routed, ..BridgeSubnet::new("fd00::/64".parse().unwrap()) });
        let names = |bridge: &Bridge| bridge_entries(bridge).into_iter().map(|(set, _)| set).collect::<Vec<_>>();
        let six = ["routed6", "subnets6", "subnets6"];
        let four = ["bridges", "peers", "masquerade", "subnets", "subnets"];
        assert_eq!(names(&bridge), [&four[..], &six].concat());
        bridge.internal = true;
        bridge.icc = false;
        bridge.trusted = vec!["eth0".to_owned()];
        assert_eq!(names(&bridge), [&["bridges", "internal", "trusted", "subnets", "subnets"][..], &six].concat());
        bridge.internal = false;
        bridge.sources = vec!["10.1.2.3".parse().unwrap()];
        let source = bridge_entries(&bridge).into_iter().find(|(set, _)| *set == "sources").unwrap().1;
        assert_eq!((source.key, source.data), (interface_name("b"), Some(vec![10, 1, 2, 3])));
        assert!(!names(&bridge).contains(&"masquerade"));
        let open = Bridge::new("c", "192.0.0.0/2".parse().unwrap());
        assert_eq!(names(&open).iter().filter(|set| **set == "subnets").count(), 1, "it has no end");
    }

    #[test]
    fn set_names_are_all_different() {
        let names: BTreeSet<_> = sets().map(|set| set.name).collect();
        assert_eq!(names.len(), sets().count());
    }
}
