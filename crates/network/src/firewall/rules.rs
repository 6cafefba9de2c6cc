//! The rules that every host's table has.
//!
//! - `guard` drops packets for or from 127.0.0.0/8 that arrive from outside of `lo`, before routing:
//!   published ports of loopback need `route_localnet` on bridges (CVE-2020-8558).
//! - `prerouting` and `output` lead packets for an address of this host to `publish`, which looks the
//!   destination up in `ports_at` (one address) and `ports` (any address).
//! - `postrouting` masks the source of what leaves bridges that masquerade (with an address of their own, if they have
//!   one in `sources`), of loopback's packets to a
//!   container, and of a container's packets to a published port (the reply must come back this way).
//! - `forward` keeps internal bridges to themselves, and lets into the others: replies, published ports, and
//!   their own containers if `icc`. All else is dropped: other bridges' containers, and outsiders that route
//!   to a container's address. What concerns no bridge is left alone, unless this host forwards for our sake only.

use super::{BRIDGES, CLOSED, INTERNAL, PEERS, Sets, TRUSTED, interface_name};
use crate::ipam::Family;
use crate::netlink::uapi::*;
use crate::nft::{Expr, Hook, Rule, Set};

const PRIORITY_RAW: i32 = -300;
const PRIORITY_DNAT: i32 = -100;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SNAT: i32 = 100;

/// The chains with their hooks; one without is jumped to.
pub(super) const CHAINS: [(&str, Option<Hook>); 6] = [
    ("publish", None),
    ("guard", Some(Hook { kind: "filter", number: NF_INET_PRE_ROUTING, priority: PRIORITY_RAW })),
    ("prerouting", Some(Hook { kind: "nat", number: NF_INET_PRE_ROUTING, priority: PRIORITY_DNAT })),
    ("output", Some(Hook { kind: "nat", number: NF_INET_LOCAL_OUT, priority: PRIORITY_DNAT })),
    ("postrouting", Some(Hook { kind: "nat", number: NF_INET_POST_ROUTING, priority: PRIORITY_SNAT })),
    ("forward", Some(Hook { kind: "filter", number: NF_INET_FORWARD, priority: PRIORITY_FILTER })),
];

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

const BOTH: [Family; 2] = [Family::V4, Family::V6];

fn guard_rules() -> Vec<Draft> {
    let from_outside = || vec![Expr::Interface { input: true, register: NFT_REG_1 }, differs(interface_name("lo"))];
    let at = |offset| [from_outside(), of(Family::V4), loopback_at(offset), vec![Expr::DROP]].concat();
    vec![
        ("guard", "nothing from outside reaches loopback", at(16)),
        ("guard", "nothing from outside claims to be loopback", at(12)),
    ]
}

fn publish_rules() -> Vec<Draft> {
    let local = || vec![Expr::DestinationType, equals(2_u32.to_ne_bytes().to_vec()), Expr::jump("publish")];
    let mut six = [0; 16];
    six[15] = 1;
    let loopback = [of(Family::V6), vec![address(Family::V6, false), equals(six.to_vec()), Expr::RETURN]].concat();
    let mut all = vec![("publish", "no packet of ::1 leaves loopback: a relay listens there", loopback)];
    for family in BOTH {
        let (sets, nat) =
            (Sets::of(family), Expr::DestinationNat { protocol: nfproto(family), port: after_address(family) });
        let mut at = of(family);
        at.push(address(family, false));
        at.extend(protocol_and_port(after_address(family)));
        at.extend([Expr::Map { map: sets.ports_at.name }, nat.clone()]);
        let mut any = of(family);
        any.extend(protocol_and_port(NFT_REG32_00));
        any.extend([Expr::Map { map: sets.ports.name }, nat]);
        all.push(("publish", "ports published at one address", at));
        all.push(("publish", "ports published at every address", any));
    }
    all.push(("prerouting", "published ports, from elsewhere", local()));
    all.push(("output", "published ports, from here", local()));
    all
}

fn postrouting_rules() -> Vec<Draft> {
    let mut all = Vec::new();
    for family in BOTH {
        let sets = Sets::of(family);
        let mapped = vec![
            Expr::Interface { input: true, register: NFT_REG_1 },
            Expr::Map { map: sets.sources.name },
            Expr::SourceNat { protocol: nfproto(family) },
        ];
        let named = [of(family), not_to_bridges(), mapped].concat();
        let out = [of(family), input_in(&sets.masquerade), not_to_bridges(), vec![Expr::Masquerade]].concat();
        all.push(("postrouting", "containers to elsewhere, from one address", named));
        all.push(("postrouting", "containers to elsewhere", out));
    }
    let local = [of(Family::V4), loopback_at(12), into_bridges(), vec![Expr::Masquerade]].concat();
    all.push(("postrouting", "loopback to published ports", local));
    for family in BOTH {
        let from = vec![address(family, true), Expr::InSet { set: Sets::of(family).subnets.name, negate: false }];
        let translated = with(Expr::CtStatus, STATUS_DST_NAT);
        let hairpin = [translated, of(family), from, into_bridges(), vec![Expr::Masquerade]].concat();
        all.push(("postrouting", "containers to published ports", hairpin));
    }
    all
}

fn forward_rules() -> Vec<Draft> {
    let from_internal = [input_in(&INTERNAL), vec![Expr::DROP]].concat();
    let to_internal = [output_in(&INTERNAL, false), vec![Expr::DROP]].concat();
    let known = with(Expr::CtState, STATE_ESTABLISHED | STATE_RELATED);
    let replies = [into_bridges(), known, vec![Expr::ACCEPT]].concat();
    let published = [into_bridges(), with(Expr::CtStatus, STATUS_DST_NAT), vec![Expr::ACCEPT]].concat();
    let mut all = vec![
        ("forward", "containers of one bridge", [pair_in(&PEERS), vec![Expr::ACCEPT]].concat()),
        ("forward", "nothing leaves an internal bridge", from_internal),
        ("forward", "nothing enters an internal bridge", to_internal),
        ("forward", "replies", replies),
        ("forward", "published ports", published),
    ];
    for family in BOTH {
        let sets = Sets::of(family);
        let unprotected = [of(family), output_in(&sets.unprotected, false), vec![Expr::ACCEPT]].concat();
        let port_in = |set: &Set| {
            let mut all = vec![address(family, false)];
            all.extend(protocol_and_port(after_address(family)));
            all.extend([Expr::InSet { set: set.name, negate: false }, Expr::ACCEPT]);
            all
        };
        let trusted = [of(family), pair_in(&TRUSTED), port_in(&sets.targets)].concat();
        let echo = vec![Expr::Protocol { register: NFT_REG_1 }, equals(vec![icmp(family)]), Expr::ACCEPT];
        all.push(("forward", "bridges that are open", unprotected));
        all.push(("forward", "ports that are routed", [of(family), port_in(&sets.open)].concat()));
        all.push(("forward", "published ports, from trusted interfaces", trusted));
        all.push((
            "forward",
            "diagnosis of what is routed",
            [of(family), output_in(&sets.routed, false), echo].concat(),
        ));
    }
    let closed = vec![Expr::Family { register: NFT_REG_1 }, Expr::InSet { set: CLOSED.name, negate: false }];
    let passing = [closed, not_from_bridges(), not_to_bridges(), vec![Expr::DROP]].concat();
    all.push(("forward", "nothing else enters a bridge", [into_bridges(), vec![Expr::DROP]].concat()));
    all.push(("forward", "this host is nobody else's router", passing));
    all
}

const NFT_REG_2: u32 = 2;
const STATE_ESTABLISHED: u32 = 2;
const STATE_RELATED: u32 = 4;
const STATUS_DST_NAT: u32 = 1 << 5;

/// The packet is of a family.
fn of(family: Family) -> Vec<Expr> {
    vec![Expr::Family { register: NFT_REG_1 }, equals(vec![nfproto(family)])]
}

fn nfproto(family: Family) -> u8 {
    match family {
        Family::V4 => NFPROTO_IPV4,
        Family::V6 => NFPROTO_IPV6,
    }
}

fn icmp(family: Family) -> u8 {
    match family {
        Family::V4 => 1,
        Family::V6 => 58,
    }
}

/// Loads the source or destination address.
fn address(family: Family, source: bool) -> Expr {
    let (offset, length) = match (family, source) {
        (Family::V4, true) => (12, 4),
        (Family::V4, false) => (16, 4),
        (Family::V6, true) => (8, 16),
        (Family::V6, false) => (24, 16),
    };
    Expr::Payload { base: 1, offset, length, register: NFT_REG_1 }
}

/// The word after an address in register 1.
fn after_address(family: Family) -> u32 {
    match family {
        Family::V4 => NFT_REG32_00 + 1,
        Family::V6 => NFT_REG32_00 + 4,
    }
}

fn protocol_and_port(register: u32) -> [Expr; 2] {
    [Expr::Protocol { register }, Expr::Payload { base: 2, offset: 2, length: 2, register: register + 1 }]
}

/// The IPv4 address at an offset of the header begins with 127.
fn loopback_at(offset: u32) -> Vec<Expr> {
    vec![Expr::Payload { base: 1, offset, length: 1, register: NFT_REG_1 }, equals(vec![127])]
}

fn input_in(set: &Set) -> Vec<Expr> {
    vec![Expr::Interface { input: true, register: NFT_REG_1 }, Expr::InSet { set: set.name, negate: false }]
}

fn not_from_bridges() -> Vec<Expr> {
    vec![Expr::Interface { input: true, register: NFT_REG_1 }, Expr::InSet { set: BRIDGES.name, negate: true }]
}

fn output_in(set: &Set, negate: bool) -> Vec<Expr> {
    vec![Expr::Interface { input: false, register: NFT_REG_1 }, Expr::InSet { set: set.name, negate }]
}

fn into_bridges() -> Vec<Expr> {
    output_in(&BRIDGES, false)
}

fn not_to_bridges() -> Vec<Expr> {
    output_in(&BRIDGES, true)
}

fn pair_in(set: &Set) -> Vec<Expr> {
    vec![
        Expr::Interface { input: true, register: NFT_REG_1 },
        Expr::Interface { input: false, register: NFT_REG_2 },
        Expr::InSet { set: set.name, negate: false },
    ]
}

fn with(what: Expr, bits: u32) -> Vec<Expr> {
    vec![what, Expr::Mask(bits), differs(vec![0; 4])]
}

fn differs(bytes: Vec<u8>) -> Expr {
    Expr::Compare { equal: false, bytes }
}

fn equals(bytes: Vec<u8>) -> Expr {
    Expr::Compare { equal: true, bytes }
}
