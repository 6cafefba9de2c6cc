//! Making and removing links.

use super::{NO_DEVICE, batch, link_error, link_header, link_request};
use crate::endpoint::{IpvlanFlag, IpvlanMode, MacvlanMode};
use crate::error::Result;
use crate::mac::MacAddr;
use crate::netlink::uapi::*;
use crate::netlink::{Message, Socket};

/// A veth pair: one end a port of a bridge here, the other in a sandbox.
pub(crate) struct Pair<'a> {
    pub(crate) name: &'a str,
    pub(crate) bridge: u32,
    pub(crate) mtu: u32,
    pub(crate) isolated: bool,
    pub(crate) peer_name: &'a str,
    pub(crate) peer_mac: Option<MacAddr>,
    pub(crate) peer_namespace: i32,
}

/// A link of a sandbox that hangs on one here.
pub(crate) struct Child<'a> {
    pub(crate) name: &'a str,
    pub(crate) parent: u32,
    pub(crate) kind: Kind,
    pub(crate) mtu: u32,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) namespace: i32,
}

/// What such a link is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Macvlan(MacvlanMode),
    Ipvlan(IpvlanMode, IpvlanFlag),
}

/// Makes a bridge, down.
pub(crate) fn create_bridge(socket: &mut Socket, name: &str, mac: MacAddr) -> Result<()> {
    create_link(socket, name, "bridge", Some(mac), None)
}

/// Makes a link that stands alone, or a VLAN (`lower`, number) of another one, down.
pub(crate) fn create_link(
    socket: &mut Socket,
    name: &str,
    kind: &str,
    mac: Option<MacAddr>,
    vlan: Option<(u32, u16)>,
) -> Result<()> {
    let mut request = link_request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, 0);
    request.text(IFLA_IFNAME, name);
    if let Some(mac) = mac {
        request.attr(IFLA_ADDRESS, &mac.octets());
    }
    if let Some((lower, _)) = vlan {
        request.u32(IFLA_LINK, lower);
    }
    request.nest(IFLA_LINKINFO, |m| {
        m.text(IFLA_INFO_KIND, kind);
        if let Some((_, number)) = vlan {
            m.nest(IFLA_INFO_DATA, |m| {
                m.attr(IFLA_VLAN_ID, &number.to_ne_bytes());
            });
        }
    });
    batch(socket, vec![request], name, "make it")
}

/// Marks a link with a remark, sets its MTU unless that is 0, and sets it up.
pub(crate) fn mark(socket: &mut Socket, index: u32, name: &str, remark: &str, mtu: u32) -> Result<()> {
    let mut change = link_request(RTM_NEWLINK, 0, index, IFF_UP);
    change.text(IFLA_IFALIAS, remark);
    if mtu > 0 {
        change.u32(IFLA_MTU, mtu);
    }
    batch(socket, vec![change], name, "configure it")
}

/// Makes a veth pair: this end up and a port of the bridge, its peer down in the sandbox.
pub(crate) fn create_pair(socket: &mut Socket, pair: &Pair<'_>) -> Result<()> {
    let mut request = link_request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, IFF_UP);
    request.text(IFLA_IFNAME, pair.name).u32(IFLA_MASTER, pair.bridge);
    if pair.mtu > 0 {
        request.u32(IFLA_MTU, pair.mtu);
    }
    request.nest(IFLA_LINKINFO, |m| {
        m.text(IFLA_INFO_KIND, "veth");
        m.nest(IFLA_INFO_DATA, |m| {
            m.nest(VETH_INFO_PEER, |m| {
                m.raw(&link_header(0, 0));
                m.text(IFLA_IFNAME, pair.peer_name);
                if pair.mtu > 0 {
                    m.u32(IFLA_MTU, pair.mtu);
                }
                if let Some(mac) = pair.peer_mac {
                    m.attr(IFLA_ADDRESS, &mac.octets());
                }
                m.attr(IFLA_NET_NS_FD, &pair.peer_namespace.to_ne_bytes());
            });
        });
    });
    batch(socket, vec![request, port_settings(pair)], pair.name, "make the pair")
}

/// Lets the bridge send a packet out of the port that it came in by: where br_netfilter is at work, a container
/// reaches its own published port that way. Isolated ports reach the bridge, not one another.
fn port_settings(pair: &Pair<'_>) -> Message {
    let mut request = link_request(RTM_NEWLINK, 0, 0, 0);
    request.text(IFLA_IFNAME, pair.name);
    request.nest(IFLA_LINKINFO, |m| {
        m.text(IFLA_INFO_SLAVE_KIND, "bridge");
        m.nest(IFLA_INFO_SLAVE_DATA, |m| {
            m.attr(IFLA_BRPORT_MODE, &[1]).attr(IFLA_BRPORT_ISOLATED, &[u8::from(pair.isolated)]);
        });
    });
    request
}

/// Makes a link in a sandbox that hangs on one here, down.
pub(crate) fn create_child(socket: &mut Socket, child: &Child<'_>) -> Result<()> {
    let mut request = link_request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, 0);
    request.text(IFLA_IFNAME, child.name).u32(IFLA_LINK, child.parent);
    request.attr(IFLA_NET_NS_FD, &child.namespace.to_ne_bytes());
    if child.mtu > 0 {
        request.u32(IFLA_MTU, child.mtu);
    }
    if let (Some(mac), Kind::Macvlan(_)) = (child.mac, child.kind) {
        request.attr(IFLA_ADDRESS, &mac.octets());
    }
    request.nest(IFLA_LINKINFO, |m| encode_kind(m, child.kind));
    batch(socket, vec![request], child.name, "make it")
}

fn encode_kind(message: &mut Message, kind: Kind) {
    match kind {
        Kind::Macvlan(mode) => {
            message.text(IFLA_INFO_KIND, "macvlan");
            message.nest(IFLA_INFO_DATA, |m| {
                m.u32(IFLA_MACVLAN_MODE, macvlan_number(mode));
            });
        }
        Kind::Ipvlan(mode, flag) => {
            message.text(IFLA_INFO_KIND, "ipvlan");
            message.nest(IFLA_INFO_DATA, |m| {
                m.attr(IFLA_IPVLAN_MODE, &ipvlan_number(mode).to_ne_bytes());
                m.attr(IFLA_IPVLAN_FLAGS, &ipvlan_flag_number(flag).to_ne_bytes());
            });
        }
    }
}

/// `MACVLAN_MODE_*`.
fn macvlan_number(mode: MacvlanMode) -> u32 {
    match mode {
        MacvlanMode::Private => 1,
        MacvlanMode::Vepa => 2,
        MacvlanMode::Bridge => 4,
        MacvlanMode::Passthru => 8,
    }
}

/// `IPVLAN_MODE_*`.
fn ipvlan_number(mode: IpvlanMode) -> u16 {
    match mode {
        IpvlanMode::L2 => 0,
        IpvlanMode::L3 => 1,
        IpvlanMode::L3s => 2,
    }
}

/// `IPVLAN_F_*`.
fn ipvlan_flag_number(flag: IpvlanFlag) -> u16 {
    match flag {
        IpvlanFlag::Bridge => 0,
        IpvlanFlag::Private => 1,
        IpvlanFlag::Vepa => 2,
    }
}

/// Removes a link; one that is gone is as good.
pub(crate) fn delete(socket: &mut Socket, name: &str) -> Result<()> {
    let mut request = link_request(RTM_DELLINK, 0, 0, 0);
    request.text(IFLA_IFNAME, name);
    end(socket, request, name, "remove it")
}

/// Does what ends a link or its use; one that is gone is as good.
pub(super) fn end(socket: &mut Socket, request: Message, name: &str, operation: &'static str) -> Result<()> {
    match socket.batch(vec![request]) {
        Err(refused) if refused.source.raw_os_error() != Some(NO_DEVICE) => {
            Err(link_error(name, operation, refused.source))
        }
        _ => Ok(()),
    }
}
