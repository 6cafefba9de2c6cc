//! The rule in a sandbox that leads port 53 of 127.0.0.11 to the resolver's own ports.
//!
//! It has a table of its own: a sandbox may be a host too, whose table comes and goes with its networks.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;

use super::DNS_ADDRESS;
use crate::error::{NetworkError, Result};
use crate::flows;
use crate::ipam::Family;
use crate::netlink::Socket;
use crate::netlink::uapi::*;
use crate::nft::{self, Batch, Expr, Hook, Rule};

const TABLE: &str = "droste_dns";
const CHAIN: &str = "output";
const PORT: u16 = 53;
const PRIORITY_DNAT: i32 = -100;
const UDP: u8 = 17;
const TCP: u8 = 6;

/// Leads queries to these sockets, in the calling thread's namespace, and no more to an earlier daemon's.
pub(super) fn lead(udp: io::Result<SocketAddr>, tcp: io::Result<SocketAddr>) -> Result<()> {
    let work = || {
        let (udp, tcp) = (udp?.port(), tcp?.port());
        let mut socket = Socket::filter()?;
        let again = !nft::rules(&mut socket, NFPROTO_IPV4, TABLE, None)?.is_empty();
        socket.transaction(batch(udp, tcp, again).finish()).map_err(|refused| refused.source)?;
        if again {
            // Who goes on asking from one port would go on reaching the earlier socket.
            flows::forget_udp(&mut socket, &BTreeSet::from([(Family::V4, PORT)]))?;
        }
        Ok(())
    };
    work().map_err(|source| NetworkError::Resolver { operation: "lead port 53 to it", source })
}

fn batch(udp: u16, tcp: u16, again: bool) -> Batch {
    let comment = "made by droste for the resolver at 127.0.0.11";
    let mut batch = Batch::new(NFPROTO_IPV4, TABLE);
    batch.add_table(comment);
    // Deleting makes the kernel wait for every packet that is under way: some ten milliseconds.
    if again {
        batch.delete_table();
        batch.add_table(comment);
    }
    batch.add_chain(CHAIN, Some(Hook { kind: "nat", number: NF_INET_LOCAL_OUT, priority: PRIORITY_DNAT }));
    batch.append_rule(CHAIN, &rule(UDP, udp));
    batch.append_rule(CHAIN, &rule(TCP, tcp));
    batch
}

fn rule(protocol: u8, port: u16) -> Rule {
    let address = DNS_ADDRESS.octets().to_vec();
    let expressions = vec![
        Expr::Payload { base: 1, offset: 16, length: 4, register: NFT_REG_1 },
        Expr::Compare { equal: true, bytes: address.clone() },
        Expr::Protocol { register: NFT_REG_1 },
        Expr::Compare { equal: true, bytes: vec![protocol] },
        Expr::Payload { base: 2, offset: 2, length: 2, register: NFT_REG_1 },
        Expr::Compare { equal: true, bytes: PORT.to_be_bytes().to_vec() },
        Expr::Immediate { register: NFT_REG_1, bytes: address },
        Expr::Immediate { register: NFT_REG32_00 + 1, bytes: port.to_be_bytes().to_vec() },
        Expr::DestinationNat { protocol: NFPROTO_IPV4, port: NFT_REG32_00 + 1 },
    ];
    Rule { expressions, comment: "droste: the resolver".to_owned() }
}
