//! The rules of one host: one nf_tables table, computed from bridges and published ports.
//!
//! Rules are the same on every host; what differs are the elements of sets and maps, so that
//! publishing a port or adding a bridge changes elements only. The table:
//!
//! - `guard` drops packets for or from 127.0.0.0/8 that arrive from outside of `lo`, before routing:
//!   published ports of loopback need `route_localnet` on bridges (CVE-2020-8558).
//! - `prerouting` and `output` lead packets for an address of this host to `publish`, which looks the
//!   destination up in `ports_at` (one address) and `ports` (any address).
//! - `postrouting` masks the source of what leaves bridges that masquerade, of loopback's packets to a
//!   container, and of a container's packets to a published port (the reply must come back this way).
//! - `forward` lets into a bridge: replies, published ports, and its own containers if `icc`. All else is
//!   dropped: other bridges' containers, and outsiders that route to a container's address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use droste_model::port::Protocol;

use crate::bridge::Bridge;
use crate::netlink::uapi::*;
use crate::nft::{Batch, Element, Expr, Hook, Rule, Set};

/// A published port: where packets arrive, and where they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Publication {
    /// The protocol.
    pub protocol: Protocol,
    /// The host's address; none for all of them.
    pub host_ip: Option<Ipv4Addr>,
    /// The host's port.
    pub host_port: u16,
    /// The container's address and port.
    pub target: SocketAddrV4,
}

/// What a host's table is computed from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Desired {
    pub(crate) bridges: BTreeMap<String, Bridge>,
    pub(crate) ports: BTreeSet<Publication>,
}

const TYPE_IPV4: u32 = 7;
const TYPE_PROTOCOL: u32 = 12;
const TYPE_PORT: u32 = 13;
const TYPE_INTERFACE: u32 = 41;

/// Interface names of all bridges.
const BRIDGES: Set = set("bridges", (TYPE_INTERFACE, 16), None);
/// Interface names of the bridges whose containers' sources are masked.
const MASQUERADE: Set = set("masquerade", (TYPE_INTERFACE, 16), None);
/// Pairs of input and output between which containers may speak.
const PEERS: Set = set("peers", (concat(&[TYPE_INTERFACE, TYPE_INTERFACE]), 32), None);
/// The bridges' subnets. A packet that br_netfilter leads across a bridge has no input interface any more.
const SUBNETS: Set = Set { intervals: true, ..set("subnets", (TYPE_IPV4, 4), None) };
/// Protocol and port → address and port.
const PORTS: Set = set("ports", (concat(&[TYPE_PROTOCOL, TYPE_PORT]), 8), Some(TARGET));
/// Address, protocol and port → address and port.
const PORTS_AT: Set = set("ports_at", (concat(&[TYPE_IPV4, TYPE_PROTOCOL, TYPE_PORT]), 12), Some(TARGET));
const TARGET: (u32, u32) = (concat(&[TYPE_IPV4, TYPE_PORT]), 8);

const fn set(name: &'static str, key: (u32, u32), data: Option<(u32, u32)>) -> Set {
    Set { name, key, data, text: key.0 == TYPE_INTERFACE, intervals: false }
}

/// All sets, in the order in which their contents are listed.
pub(crate) const SETS: [Set; 6] = [BRIDGES, MASQUERADE, PEERS, SUBNETS, PORTS, PORTS_AT];

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

const PRIORITY_RAW: i32 = -300;
const PRIORITY_DNAT: i32 = -100;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SNAT: i32 = 100;

/// The chains with their hooks; one without is jumped to.
const CHAINS: [(&str, Option<Hook>); 6] = [
    ("publish", None),
    ("guard", Some(Hook { kind: "filter", number: NF_INET_PRE_ROUTING, priority: PRIORITY_RAW })),
    ("prerouting", Some(Hook { kind: "nat", number: NF_INET_PRE_ROUTING, priority: PRIORITY_DNAT })),
    ("output", Some(Hook { kind: "nat", number: NF_INET_LOCAL_OUT, priority: PRIORITY_DNAT })),
    ("postrouting", Some(Hook { kind: "nat", number: NF_INET_POST_ROUTING, priority: PRIORITY_SNAT })),
    ("forward", Some(Hook { kind: "filter", number: NF_INET_FORWARD, priority: PRIORITY_FILTER })),
];

/// Replaces the whole table by what is desired, in one commit.
pub(crate) fn replace(table: &str, desired: &Desired) -> Batch {
    let mut batch = Batch::new(NFPROTO_IPV4, table);
    let comment = format!("made by droste for {table}; put right again when changed");
    batch.add_table(&comment);
    batch.delete_table();
    batch.add_table(&comment);
    SETS.iter().for_each(|set| batch.add_set(set));
    CHAINS.iter().for_each(|(name, hook)| batch.add_chain(name, *hook));
    for (chain, rule) in rules() {
        batch.append_rule(chain, &rule);
    }
    for (set, elements) in contents(desired) {
        batch.add_elements(set, &elements);
    }
    batch
}

/// What each set contains, sorted.
pub(crate) fn contents(desired: &Desired) -> [(&'static str, Vec<Element>); 6] {
    let mut all = SETS.map(|set| (set.name, Vec::new()));
    for bridge in desired.bridges.values() {
        for (set, element) in bridge_elements(bridge) {
            push(&mut all, set, element);
        }
    }
    for port in &desired.ports {
        let (set, element) = port_element(port);
        push(&mut all, set, element);
    }
    all.iter_mut().for_each(|(_, elements)| join_neighbours(elements));
    all
}

/// Sorts elements, and joins an interval to one that begins where it ends.
fn join_neighbours(elements: &mut Vec<Element>) {
    elements.sort();
    let ends: BTreeSet<_> = elements.iter().filter(|e| e.end).map(|e| e.key.clone()).collect();
    let starts: BTreeSet<_> = elements.iter().filter(|e| !e.end).map(|e| e.key.clone()).collect();
    elements.retain(|e| !(ends.contains(&e.key) && starts.contains(&e.key)));
}

fn push(all: &mut [(&'static str, Vec<Element>); 6], set: &str, element: Element) {
    if let Some((_, elements)) = all.iter_mut().find(|(name, _)| *name == set) {
        elements.push(element);
    }
}

/// The elements that a bridge needs.
fn bridge_elements(bridge: &Bridge) -> Vec<(&'static str, Element)> {
    let name = interface_name(&bridge.name);
    let mut all = vec![(BRIDGES.name, Element::key(name.clone()))];
    if bridge.masquerade {
        all.push((MASQUERADE.name, Element::key(name.clone())));
    }
    if bridge.icc {
        all.push((PEERS.name, Element::key([name.clone(), name].concat())));
    }
    all.push((SUBNETS.name, Element::key(bridge.subnet.network().octets().to_vec())));
    // The end is the first address after it; a subnet at the very end of all addresses has none.
    if let Some(end) = u32::from(bridge.subnet.broadcast()).checked_add(1) {
        let end = Element { end: true, ..Element::key(end.to_be_bytes().to_vec()) };
        all.push((SUBNETS.name, end));
    }
    all
}

/// The element that a published port needs. Each field of a key fills whole words.
pub(crate) fn port_element(port: &Publication) -> (&'static str, Element) {
    let mut key = port.host_ip.map(|ip| ip.octets().to_vec()).unwrap_or_default();
    key.extend_from_slice(&[protocol_number(port.protocol), 0, 0, 0]);
    key.extend_from_slice(&port_word(port.host_port));
    let mut target = port.target.ip().octets().to_vec();
    target.extend_from_slice(&port_word(port.target.port()));
    let set = if port.host_ip.is_some() { PORTS_AT.name } else { PORTS.name };
    (set, Element { key, data: Some(target), end: false })
}

/// Whether a set is one of those that publishing changes.
pub(crate) fn is_port_map(set: &str) -> bool {
    set == PORTS.name || set == PORTS_AT.name
}

fn port_word(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

fn interface_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

/// The rules with their chains, in order.
pub(crate) fn rules() -> Vec<(&'static str, Rule)> {
    let mut all = guard_rules();
    all.extend(publish_rules());
    all.extend(postrouting_rules());
    all.extend(forward_rules());
    all.into_iter()
        .map(|(chain, comment, expressions)| (chain, Rule { expressions, comment: format!("droste: {comment}") }))
        .collect()
}

type Draft = (&'static str, &'static str, Vec<Expr>);

fn guard_rules() -> Vec<Draft> {
    let mut to = not_from_loopback();
    to.extend(loopback_at(16));
    to.push(Expr::DROP);
    let mut from = not_from_loopback();
    from.extend(loopback_at(12));
    from.push(Expr::DROP);
    vec![
        ("guard", "nothing from outside reaches loopback", to),
        ("guard", "nothing from outside claims to be loopback", from),
    ]
}

fn publish_rules() -> Vec<Draft> {
    let local = || vec![Expr::DestinationType, equals(2_u32.to_ne_bytes().to_vec()), Expr::jump("publish")];
    let at = vec![
        Expr::Payload { base: 1, offset: 16, length: 4, register: NFT_REG_1 },
        Expr::Protocol { register: NFT_REG32_01 },
        Expr::Payload { base: 2, offset: 2, length: 2, register: NFT_REG32_02 },
        Expr::Map { map: PORTS_AT.name },
        Expr::DestinationNat,
    ];
    let any = vec![
        Expr::Protocol { register: NFT_REG_1 },
        Expr::Payload { base: 2, offset: 2, length: 2, register: NFT_REG32_01 },
        Expr::Map { map: PORTS.name },
        Expr::DestinationNat,
    ];
    vec![
        ("publish", "ports published at one address", at),
        ("publish", "ports published at every address", any),
        ("prerouting", "published ports, from elsewhere", local()),
        ("output", "published ports, from here", local()),
    ]
}

fn postrouting_rules() -> Vec<Draft> {
    let out = [input_in(&MASQUERADE, false), output_in(&BRIDGES, true), vec![Expr::Masquerade]];
    let mut local = loopback_at(12);
    local.extend(output_in(&BRIDGES, false));
    local.push(Expr::Masquerade);
    let mut hairpin = with_status(STATUS_DST_NAT);
    hairpin.push(Expr::Payload { base: 1, offset: 12, length: 4, register: NFT_REG_1 });
    hairpin.push(Expr::InSet { set: SUBNETS.name, negate: false });
    hairpin.extend(output_in(&BRIDGES, false));
    hairpin.push(Expr::Masquerade);
    vec![
        ("postrouting", "containers to elsewhere", out.concat()),
        ("postrouting", "loopback to published ports", local),
        ("postrouting", "containers to published ports", hairpin),
    ]
}

fn forward_rules() -> Vec<Draft> {
    let into = || output_in(&BRIDGES, false);
    let replies = [into(), with_state(STATE_ESTABLISHED | STATE_RELATED), vec![Expr::ACCEPT]].concat();
    let published = [into(), with_status(STATUS_DST_NAT), vec![Expr::ACCEPT]].concat();
    let peers = vec![
        Expr::Interface { input: true, register: NFT_REG_1 },
        Expr::Interface { input: false, register: NFT_REG_2 },
        Expr::InSet { set: PEERS.name, negate: false },
        Expr::ACCEPT,
    ];
    vec![
        ("forward", "replies", replies),
        ("forward", "published ports", published),
        ("forward", "containers of one bridge", peers),
        ("forward", "nothing else enters a bridge", [into(), vec![Expr::DROP]].concat()),
    ]
}

const NFT_REG_2: u32 = 2;
const STATE_ESTABLISHED: u32 = 2;
const STATE_RELATED: u32 = 4;
const STATUS_DST_NAT: u32 = 1 << 5;

fn not_from_loopback() -> Vec<Expr> {
    let name = interface_name("lo");
    vec![Expr::Interface { input: true, register: NFT_REG_1 }, Expr::Compare { equal: false, bytes: name }]
}

/// The IPv4 address at an offset of the header begins with 127.
fn loopback_at(offset: u32) -> Vec<Expr> {
    vec![Expr::Payload { base: 1, offset, length: 1, register: NFT_REG_1 }, equals(vec![127])]
}

fn input_in(set: &Set, negate: bool) -> Vec<Expr> {
    vec![Expr::Interface { input: true, register: NFT_REG_1 }, Expr::InSet { set: set.name, negate }]
}

fn output_in(set: &Set, negate: bool) -> Vec<Expr> {
    vec![Expr::Interface { input: false, register: NFT_REG_1 }, Expr::InSet { set: set.name, negate }]
}

fn with_state(bits: u32) -> Vec<Expr> {
    vec![Expr::CtState, Expr::Mask(bits), differs_from_zero()]
}

fn with_status(bits: u32) -> Vec<Expr> {
    vec![Expr::CtStatus, Expr::Mask(bits), differs_from_zero()]
}

fn differs_from_zero() -> Expr {
    Expr::Compare { equal: false, bytes: vec![0; 4] }
}

fn equals(bytes: Vec<u8>) -> Expr {
    Expr::Compare { equal: true, bytes }
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

    #[test]
    fn neighbouring_subnets_are_one_interval() {
        let mut desired = Desired::default();
        for (name, subnet) in
            [("a", "172.17.0.0/16"), ("b", "172.18.0.0/16"), ("c", "10.0.0.0/8"), ("d", "192.0.0.0/2")]
        {
            desired.bridges.insert(name.to_owned(), Bridge::new(name, subnet.parse().unwrap()));
        }
        let subnets = contents(&desired).into_iter().find(|(set, _)| *set == "subnets").unwrap().1;
        let shown: Vec<_> = subnets.iter().map(|e| (e.key[0], e.key[1], e.end)).collect();
        let expected = [(10, 0, false), (11, 0, true), (172, 17, false), (172, 19, true), (192, 0, false)];
        assert_eq!(shown, expected, "and the last one is open");
    }

    #[test]
    fn keys_fill_whole_words() {
        let port = Publication {
            protocol: Protocol::Udp,
            host_ip: Some(Ipv4Addr::new(1, 2, 3, 4)),
            host_port: 0x1234,
            target: "172.17.0.2:80".parse().unwrap(),
        };
        let (set, element) = port_element(&port);
        assert_eq!((set, element.key), ("ports_at", vec![1, 2, 3, 4, 17, 0, 0, 0, 0x12, 0x34, 0, 0]));
        assert_eq!(element.data, Some(vec![172, 17, 0, 2, 0, 80, 0, 0]));
        let (set, element) = port_element(&Publication { host_ip: None, ..port });
        assert_eq!((set, element.key.len()), ("ports", 8));
    }
}
