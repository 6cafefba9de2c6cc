//! Links, addresses and routes through rtnetlink: listing them. `make` makes links, `address` gives them addresses
//! and routes, `port` knows what is a port of a bridge.
//!
//! Every function acts through the socket that it is given, so in that socket's namespace.

mod address;
mod make;
mod port;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::error::{NetworkError, Result};
use crate::ipam::Family;
use crate::mac::MacAddr;
use crate::netlink::uapi::*;
use crate::netlink::{Message, Rejection, Socket, find, text, u32_of};

pub(crate) use address::{
    add_addresses, announce, bring_up, ensure_only_addresses, remove_addresses, replace_default_routes,
};
pub(crate) use make::{Child, Kind, Pair, create_bridge, create_child, create_link, create_pair, delete, mark};
pub(crate) use port::{await_carrier, unplug};

/// A link of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// The number of the bridge that it is a port of.
    pub master: Option<u32>,
    /// The number of the link that it hangs on: a parent here, or the other end of a pair there.
    pub lower: Option<u32>,
    /// `bridge`, `veth`, …; empty for a device of the machine.
    pub kind: String,
    /// The remark set on it; empty if there is none.
    pub alias: String,
    /// Its hardware address.
    pub mac: Option<MacAddr>,
    /// The longest packet that it carries.
    pub mtu: u32,
    /// Whether it is set up.
    pub up: bool,
    /// What went through it.
    pub stats: LinkStats,
}

/// Counters of a link, as `docker stats` shows them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the kernel's and Docker's")]
pub struct LinkStats {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
}

/// An address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkAddress {
    /// The link's number.
    pub index: u32,
    /// The address with its prefix length.
    pub address: IpNet,
}

/// A route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where it leads; `0.0.0.0/0` and `::/0` are the default routes.
    pub destination: IpNet,
    /// The next hop.
    pub gateway: Option<IpAddr>,
    /// The number of the link that it leaves by.
    pub link: Option<u32>,
    /// The routing table's number.
    pub table: u32,
}

/// Sets `lo` up; it is link 1 of every namespace.
pub(crate) fn raise_loopback(socket: &mut Socket) -> Result<()> {
    batch(socket, vec![set_up(1)], "lo", "set it up")
}

/// The number of a link by name.
pub(crate) fn index_of(socket: &mut Socket, name: &str) -> Result<Option<u32>> {
    Ok(find_link(socket, name)?.map(|link| link.index))
}

/// A link by name.
pub(crate) fn find_link(socket: &mut Socket, name: &str) -> Result<Option<Link>> {
    let mut request = link_request(RTM_GETLINK, 0, 0, 0);
    request.text(IFLA_IFNAME, name);
    match socket.ask(request) {
        Ok(reply) => Ok(link_of(&reply.payload)),
        Err(error) if error.raw_os_error() == Some(NO_DEVICE) => Ok(None),
        Err(source) => Err(link_error(name, "find it", source)),
    }
}

/// All links.
pub(crate) fn links(socket: &mut Socket) -> Result<Vec<Link>> {
    let replies = socket.dump(link_request(RTM_GETLINK, 0, 0, 0)).map_err(listing("links"))?;
    Ok(replies.iter().filter(|r| r.kind == RTM_NEWLINK).filter_map(|r| link_of(&r.payload)).collect())
}

/// All addresses.
pub(crate) fn addresses(socket: &mut Socket) -> Result<Vec<LinkAddress>> {
    let request = Message::new(RTM_GETADDR, 0, &[AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0]);
    let replies = socket.dump(request).map_err(listing("addresses"))?;
    Ok(replies.iter().filter(|r| r.kind == RTM_NEWADDR).filter_map(|r| address_of(&r.payload)).collect())
}

/// All unicast routes of a family, of every table but the local one.
pub(crate) fn routes(socket: &mut Socket, family: Family) -> Result<Vec<Route>> {
    let request = Message::new(RTM_GETROUTE, 0, &route_header(number(family), 0, 0));
    let replies = socket.dump(request).map_err(listing("routes"))?;
    Ok(replies.iter().filter(|r| r.kind == RTM_NEWROUTE).filter_map(|r| route_of(&r.payload)).collect())
}

/// `ENODEV`, for which `io::ErrorKind` has no word.
const NO_DEVICE: i32 = 19;

/// Sends changes at once; the first that is refused is the error.
fn batch(socket: &mut Socket, requests: Vec<Message>, name: &str, operation: &'static str) -> Result<()> {
    match socket.batch(requests) {
        Err(Rejection { source, .. }) => Err(link_error(name, operation, source)),
        Ok(()) => Ok(()),
    }
}

/// Sends changes at once; those that are refused as done before are as good.
fn batch_unless(socket: &mut Socket, requests: Vec<Message>, errno: i32, link: &str, what: &'static str) -> Result<()> {
    for request in requests {
        match socket.batch(vec![request]) {
            Err(refused) if refused.source.raw_os_error() != Some(errno) => {
                return Err(link_error(link, what, refused.source));
            }
            _ => {}
        }
    }
    Ok(())
}

fn set_up(index: u32) -> Message {
    link_request(RTM_NEWLINK, 0, index, IFF_UP)
}

/// `AF_INET` or `AF_INET6`.
fn number(family: Family) -> u8 {
    match family {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    }
}

/// `struct ifinfomsg`; of the flags only "up" is ever set.
fn link_header(index: u32, flags: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&flags.to_ne_bytes());
    header
}

/// `struct rtmsg`.
fn route_header(family: u8, table: u8, kind: u8) -> [u8; 12] {
    [family, 0, 0, 0, table, RTPROT_BOOT, RT_SCOPE_UNIVERSE, kind, 0, 0, 0, 0]
}

fn link_request(kind: u16, flags: u16, index: u32, link_flags: u32) -> Message {
    Message::new(kind, flags, &link_header(index, link_flags))
}

fn link_of(payload: &[u8]) -> Option<Link> {
    let attrs = payload.get(16..)?;
    let info = find(attrs, IFLA_LINKINFO).unwrap_or(&[]);
    Some(Link {
        index: u32_of(payload.get(4..)?)?,
        name: text(find(attrs, IFLA_IFNAME)?),
        master: find(attrs, IFLA_MASTER).and_then(u32_of),
        lower: find(attrs, IFLA_LINK).and_then(u32_of),
        kind: find(info, IFLA_INFO_KIND).map(text).unwrap_or_default(),
        alias: find(attrs, IFLA_IFALIAS).map(text).unwrap_or_default(),
        mac: find(attrs, IFLA_ADDRESS).and_then(|m| m.try_into().ok()).map(MacAddr::new),
        mtu: find(attrs, IFLA_MTU).and_then(u32_of)?,
        up: u32_of(payload.get(8..)?)? & IFF_UP != 0,
        stats: find(attrs, IFLA_STATS64).map(stats_of).unwrap_or_default(),
    })
}

/// `struct rtnl_link_stats64`.
fn stats_of(bytes: &[u8]) -> LinkStats {
    let counter = |i: usize| {
        let word = bytes.get(i * 8..i * 8 + 8).and_then(|b| b.try_into().ok());
        word.map_or(0, u64::from_ne_bytes)
    };
    LinkStats {
        rx_packets: counter(0),
        tx_packets: counter(1),
        rx_bytes: counter(2),
        tx_bytes: counter(3),
        rx_errors: counter(4),
        tx_errors: counter(5),
        rx_dropped: counter(6),
        tx_dropped: counter(7),
    }
}

fn address_of(payload: &[u8]) -> Option<LinkAddress> {
    let attrs = payload.get(8..)?;
    let value = find(attrs, IFA_LOCAL).or_else(|| find(attrs, IFA_ADDRESS))?;
    let address = IpNet::new(ip_of(value)?, *payload.get(1)?).ok()?;
    Some(LinkAddress { index: u32_of(payload.get(4..)?)?, address })
}

fn route_of(payload: &[u8]) -> Option<Route> {
    let attrs = payload.get(12..)?;
    let table = find(attrs, RTA_TABLE).and_then(u32_of).unwrap_or(u32::from(payload[4]));
    if payload[7] != RTN_UNICAST || table == u32::from(RT_TABLE_LOCAL) {
        return None;
    }
    let any: IpAddr = match payload[0] {
        AF_INET => Ipv4Addr::UNSPECIFIED.into(),
        _ => Ipv6Addr::UNSPECIFIED.into(),
    };
    Some(Route {
        destination: IpNet::new(find(attrs, RTA_DST).and_then(ip_of).unwrap_or(any), payload[1]).ok()?,
        gateway: find(attrs, RTA_GATEWAY).and_then(ip_of),
        link: find(attrs, RTA_OIF).and_then(u32_of),
        table,
    })
}

fn ip_of(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from).map(IpAddr::V4);
    let v6 = || <[u8; 16]>::try_from(bytes).ok().map(Ipv6Addr::from).map(IpAddr::V6);
    v4().or_else(v6)
}

fn link_error(link: &str, operation: &'static str, source: io::Error) -> NetworkError {
    NetworkError::Link { link: link.to_owned(), operation, source }
}

fn listing(what: &'static str) -> impl Fn(io::Error) -> NetworkError {
    move |source| NetworkError::List { what, source }
}
