//! Forgetting flows that were tracked before a published port changed.
//!
//! A client that goes on sending datagrams from one port keeps its flow alive, and with it the decision where
//! the flow leads: past a port that was published since, or to a container that is gone. TCP needs no such
//! help: its flows end by themselves.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use crate::ipam::Family;
use crate::netlink::uapi::*;
use crate::netlink::{Message, Socket, find};

/// Forgets the flows of UDP to these ports of the namespace.
pub(crate) fn forget_udp(socket: &mut Socket, ports: &BTreeSet<(Family, u16)>) -> io::Result<()> {
    for (family, port) in ports {
        let is_stale = |tuple: &[u8], _: &[u8]| destination_port(tuple) == Some(*port);
        forget(socket, *family, flows_to(*family, *port), is_stale)?;
    }
    Ok(())
}

/// Forgets the flows of UDP to or from these addresses.
pub(crate) fn forget_addresses(socket: &mut Socket, addresses: &[IpAddr]) -> io::Result<()> {
    for family in [Family::V4, Family::V6] {
        let gone: Vec<Vec<u8>> = addresses.iter().filter(|a| Family::of(**a) == family).map(octets).collect();
        if gone.is_empty() {
            continue;
        }
        let is_stale = |orig: &[u8], reply: &[u8]| [orig, reply].iter().any(|tuple| touches(tuple, family, &gone));
        forget(socket, family, request(family, IPCTNL_MSG_CT_GET), is_stale)?;
    }
    Ok(())
}

/// Forgets the flows of UDP that a listing has and that are stale by their two tuples.
fn forget(
    socket: &mut Socket,
    family: Family,
    listing: Message,
    is_stale: impl Fn(&[u8], &[u8]) -> bool,
) -> io::Result<()> {
    let replies = match socket.dump(listing) {
        Ok(replies) => replies,
        // A kernel without ctnetlink cannot be asked.
        Err(error) if matches!(error.raw_os_error(), Some(EINVAL | EOPNOTSUPP)) => return Ok(()),
        Err(error) => return Err(error),
    };
    let flows = replies.iter().filter_map(|reply| reply.payload.get(4..));
    let stale: Vec<Message> = flows.filter_map(|flow| deletion(flow, family, &is_stale)).collect();
    match socket.batch(stale) {
        // It ended meanwhile.
        Err(refused) if refused.source.kind() != io::ErrorKind::NotFound => Err(refused.source),
        _ => Ok(()),
    }
}

const EINVAL: i32 = 22;
const EOPNOTSUPP: i32 = 95;
const UDP: u8 = 17;

/// A listing of the flows to a port; kernels that do not filter list more.
fn flows_to(family: Family, port: u16) -> Message {
    let mut request = request(family, IPCTNL_MSG_CT_GET);
    request.nest(CTA_TUPLE_ORIG, |m| {
        m.nest(CTA_TUPLE_PROTO, |m| {
            m.attr(CTA_PROTO_NUM, &[UDP]).attr(CTA_PROTO_DST_PORT, &port.to_be_bytes());
        });
    });
    request.nest(CTA_FILTER, |m| {
        m.u32(CTA_FILTER_ORIG_FLAGS, CTA_FILTER_F_PROTO_NUM | CTA_FILTER_F_PROTO_DST_PORT);
    });
    request
}

/// The deletion of a listed flow, if it is a stale one of UDP.
fn deletion(flow: &[u8], family: Family, is_stale: impl Fn(&[u8], &[u8]) -> bool) -> Option<Message> {
    let tuple = find(flow, CTA_TUPLE_ORIG)?;
    let is_udp = find(find(tuple, CTA_TUPLE_PROTO)?, CTA_PROTO_NUM)? == [UDP];
    if !is_udp || !is_stale(tuple, find(flow, CTA_TUPLE_REPLY)?) {
        return None;
    }
    let mut request = request(family, IPCTNL_MSG_CT_DELETE);
    request.nest(CTA_TUPLE_ORIG, |m| {
        m.raw(tuple);
    });
    request.attr(CTA_ID, find(flow, CTA_ID)?);
    Some(request)
}

fn destination_port(tuple: &[u8]) -> Option<u16> {
    let port = find(find(tuple, CTA_TUPLE_PROTO)?, CTA_PROTO_DST_PORT)?;
    Some(u16::from_be_bytes(port.try_into().ok()?))
}

/// Whether a tuple's source or destination is one of the addresses.
fn touches(tuple: &[u8], family: Family, addresses: &[Vec<u8>]) -> bool {
    let kinds = match family {
        Family::V4 => [CTA_IP_V4_SRC, CTA_IP_V4_DST],
        Family::V6 => [CTA_IP_V6_SRC, CTA_IP_V6_DST],
    };
    let ips = find(tuple, CTA_TUPLE_IP).unwrap_or(&[]);
    kinds.iter().filter_map(|kind| find(ips, *kind)).any(|ip| addresses.iter().any(|a| a == ip))
}

fn octets(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn request(family: Family, kind: u16) -> Message {
    let family = match family {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    };
    Message::new((NFNL_SUBSYS_CTNETLINK << 8) | kind, 0, &[family, 0, 0, 0])
}
