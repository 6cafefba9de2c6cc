//! Forgetting flows that were tracked before a published port changed.
//!
//! A client that goes on sending datagrams from one port keeps its flow alive, and with it the decision where
//! the flow leads: past a port that was published since, or to a container that is gone. TCP needs no such
//! help: its flows end by themselves.

use std::collections::BTreeSet;
use std::io;

use crate::netlink::uapi::*;
use crate::netlink::{Message, Socket, find};

/// Forgets the flows of UDP to these ports of the namespace.
pub(crate) fn forget_udp(socket: &mut Socket, ports: &BTreeSet<u16>) -> io::Result<()> {
    for port in ports {
        let replies = match socket.dump(flows_to(*port)) {
            Ok(replies) => replies,
            // A kernel without ctnetlink cannot be asked.
            Err(error) if matches!(error.raw_os_error(), Some(EINVAL | EOPNOTSUPP)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let stale: Vec<Message> = replies.iter().filter_map(|r| deletion(r.payload.get(4..)?, *port)).collect();
        match socket.batch(stale) {
            // It ended meanwhile.
            Err(refused) if refused.source.kind() != io::ErrorKind::NotFound => return Err(refused.source),
            _ => {}
        }
    }
    Ok(())
}

const EINVAL: i32 = 22;
const EOPNOTSUPP: i32 = 95;
const UDP: u8 = 17;

/// A listing of the flows to a port; kernels that do not filter list more.
fn flows_to(port: u16) -> Message {
    let mut request = request(IPCTNL_MSG_CT_GET);
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

/// The deletion of a listed flow, if it is one of UDP to the port.
fn deletion(flow: &[u8], port: u16) -> Option<Message> {
    let tuple = find(flow, CTA_TUPLE_ORIG)?;
    let proto = find(tuple, CTA_TUPLE_PROTO)?;
    let is_udp = find(proto, CTA_PROTO_NUM)? == [UDP];
    if !is_udp || find(proto, CTA_PROTO_DST_PORT)? != port.to_be_bytes() {
        return None;
    }
    let mut request = request(IPCTNL_MSG_CT_DELETE);
    request.nest(CTA_TUPLE_ORIG, |m| {
        m.raw(tuple);
    });
    request.attr(CTA_ID, find(flow, CTA_ID)?);
    Some(request)
}

fn request(kind: u16) -> Message {
    Message::new((NFNL_SUBSYS_CTNETLINK << 8) | kind, 0, &[NFPROTO_IPV4, 0, 0, 0])
}
