//! Links, addresses and routes through rtnetlink.
//!
//! Every function acts through the socket that it is given, so in that socket's namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::error::{NetworkError, Result};
use crate::mac::MacAddr;
use crate::netlink::uapi::*;
use crate::netlink::{Message, Rejection, Socket, find, text, u32_of};

/// A link of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// The number of the bridge that it is a port of.
    pub master: Option<u32>,
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

/// An IPv4 route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where it leads; `0.0.0.0/0` is the default route.
    pub destination: Ipv4Net,
    /// The next hop.
    pub gateway: Option<Ipv4Addr>,
    /// The number of the link that it leaves by.
    pub link: Option<u32>,
    /// The routing table's number.
    pub table: u32,
}

/// A veth pair: one end a port of a bridge here, the other in a sandbox.
pub(crate) struct Pair<'a> {
    pub(crate) name: &'a str,
    pub(crate) bridge: u32,
    pub(crate) mtu: u32,
    pub(crate) isolated: bool,
    pub(crate) peer_name: &'a str,
    pub(crate) peer_mac: MacAddr,
    pub(crate) peer_namespace: i32,
}

/// Sets `lo` up; it is link 1 of every namespace.
pub(crate) fn raise_loopback(socket: &mut Socket) -> Result<()> {
    batch(socket, vec![set_up(1)], "lo", "set it up")
}

/// The number of a link by name.
pub(crate) fn index_of(socket: &mut Socket, name: &str) -> Result<Option<u32>> {
    let mut request = link_request(RTM_GETLINK, 0, 0, 0);
    request.text(IFLA_IFNAME, name);
    match socket.ask(request) {
        Ok(reply) => Ok(link_of(&reply.payload).map(|l| l.index)),
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

/// All unicast IPv4 routes, of every table but the local one.
pub(crate) fn routes(socket: &mut Socket) -> Result<Vec<Route>> {
    let request = Message::new(RTM_GETROUTE, 0, &route_header(AF_INET, 0, 0));
    let replies = socket.dump(request).map_err(listing("routes"))?;
    Ok(replies.iter().filter(|r| r.kind == RTM_NEWROUTE).filter_map(|r| route_of(&r.payload)).collect())
}

/// Makes a bridge, down.
pub(crate) fn create_bridge(socket: &mut Socket, name: &str, mac: MacAddr) -> Result<()> {
    let mut request = link_request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, 0);
    request.text(IFLA_IFNAME, name).attr(IFLA_ADDRESS, &mac.octets());
    request.nest(IFLA_LINKINFO, |m| {
        m.text(IFLA_INFO_KIND, "bridge");
    });
    batch(socket, vec![request], name, "make the bridge")
}

/// Marks a bridge with a remark, sets its MTU, and sets it up.
pub(crate) fn configure_bridge(socket: &mut Socket, link: &Link, remark: &str, mtu: u32) -> Result<()> {
    let mut change = link_request(RTM_NEWLINK, 0, link.index, IFF_UP);
    change.text(IFLA_IFALIAS, remark).u32(IFLA_MTU, mtu);
    batch(socket, vec![change], &link.name, "configure the bridge")
}

/// Makes a veth pair: this end up and a port of the bridge, its peer down in the sandbox.
pub(crate) fn create_pair(socket: &mut Socket, pair: &Pair<'_>) -> Result<()> {
    let mut request = link_request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, IFF_UP);
    request.text(IFLA_IFNAME, pair.name).u32(IFLA_MTU, pair.mtu).u32(IFLA_MASTER, pair.bridge);
    request.nest(IFLA_LINKINFO, |m| {
        m.text(IFLA_INFO_KIND, "veth");
        m.nest(IFLA_INFO_DATA, |m| {
            m.nest(VETH_INFO_PEER, |m| {
                m.raw(&link_header(0, 0));
                m.text(IFLA_IFNAME, pair.peer_name).u32(IFLA_MTU, pair.mtu);
                m.attr(IFLA_ADDRESS, &pair.peer_mac.octets());
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

/// Sets a link up with an address and, if there is one, a default route.
pub(crate) fn bring_up(
    socket: &mut Socket,
    name: &str,
    index: u32,
    address: Ipv4Net,
    gateway: Option<Ipv4Addr>,
) -> Result<()> {
    let mut requests = vec![set_up(index), add_address(index, address)];
    requests.extend(gateway.map(|gateway| default_route(index, gateway)));
    batch(socket, requests, name, "set it up")
}

/// Removes a link; one that is gone is as good.
pub(crate) fn delete(socket: &mut Socket, name: &str) -> Result<()> {
    let mut request = link_request(RTM_DELLINK, 0, 0, 0);
    request.text(IFLA_IFNAME, name);
    end(socket, request, name, "remove it")
}

/// Silences a port of a bridge, which forgets what is behind it; one that is gone is as good.
///
/// This goes by the bridge family: a change of the link as such would make the bridge enable the port again.
pub(crate) fn unplug(socket: &mut Socket, name: &str) -> Result<()> {
    let Some(index) = index_of(socket, name)? else {
        return Ok(());
    };
    let mut header = link_header(index, 0);
    header[0] = AF_BRIDGE;
    let mut request = Message::new(RTM_SETLINK, 0, &header);
    request.nest(IFLA_PROTINFO, |m| {
        m.attr(IFLA_BRPORT_STATE, &[BR_STATE_DISABLED]).attr(IFLA_BRPORT_FLUSH, &[]);
    });
    end(socket, request, name, "silence it")
}

fn end(socket: &mut Socket, request: Message, name: &str, operation: &'static str) -> Result<()> {
    match socket.batch(vec![request]) {
        Err(refused) if refused.source.raw_os_error() != Some(NO_DEVICE) => {
            Err(link_error(name, operation, refused.source))
        }
        _ => Ok(()),
    }
}

/// `ENODEV`, for which `io::ErrorKind` has no word.
const NO_DEVICE: i32 = 19;
/// `EEXIST`: the address is there already.
const EXISTS: i32 = 17;

fn batch(socket: &mut Socket, requests: Vec<Message>, name: &str, operation: &'static str) -> Result<()> {
    match socket.batch(requests) {
        Err(Rejection { source, .. }) => Err(link_error(name, operation, source)),
        Ok(()) => Ok(()),
    }
}

/// Gives a link an IPv4 address, and takes others from it.
pub(crate) fn ensure_only_address(socket: &mut Socket, link: &Link, address: Ipv4Net) -> Result<()> {
    let stale = addresses(socket)?.into_iter().filter(|a| a.index == link.index);
    let stale = stale.filter_map(|a| match a.address {
        IpNet::V4(old) if old != address => Some(address_request(RTM_DELADDR, 0, link.index, old)),
        _ => None,
    });
    batch(socket, stale.collect(), &link.name, "remove an address")?;
    ensure_address(socket, link, address)
}

/// Adds an address to a link, unless it has it.
fn ensure_address(socket: &mut Socket, link: &Link, address: Ipv4Net) -> Result<()> {
    match socket.batch(vec![add_address(link.index, address)]) {
        Err(refused) if refused.source.raw_os_error() != Some(EXISTS) => {
            Err(link_error(&link.name, "add its address", refused.source))
        }
        _ => Ok(()),
    }
}

fn set_up(index: u32) -> Message {
    link_request(RTM_NEWLINK, 0, index, IFF_UP)
}

fn add_address(index: u32, address: Ipv4Net) -> Message {
    let mut request = address_request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, index, address);
    if address.prefix_len() < 31 {
        request.attr(IFA_BROADCAST, &address.broadcast().octets());
    }
    request
}

/// `struct ifaddrmsg` and the address.
fn address_request(kind: u16, flags: u16, index: u32, address: Ipv4Net) -> Message {
    let mut header = vec![AF_INET, address.prefix_len(), 0, RT_SCOPE_UNIVERSE];
    header.extend_from_slice(&index.to_ne_bytes());
    let mut request = Message::new(kind, flags, &header);
    request.attr(IFA_LOCAL, &address.addr().octets());
    request.attr(IFA_ADDRESS, &address.addr().octets());
    request
}

fn default_route(index: u32, gateway: Ipv4Addr) -> Message {
    let header = route_header(AF_INET, RT_TABLE_MAIN, RTN_UNICAST);
    let mut request = Message::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &header);
    request.attr(RTA_GATEWAY, &gateway.octets()).u32(RTA_OIF, index);
    request
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
    let destination = find(attrs, RTA_DST).and_then(v4_of).unwrap_or(Ipv4Addr::UNSPECIFIED);
    Some(Route {
        destination: Ipv4Net::new(destination, payload[1]).ok()?,
        gateway: find(attrs, RTA_GATEWAY).and_then(v4_of),
        link: find(attrs, RTA_OIF).and_then(u32_of),
        table,
    })
}

fn v4_of(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}

fn ip_of(bytes: &[u8]) -> Option<IpAddr> {
    let v6 = || <[u8; 16]>::try_from(bytes).ok().map(Ipv6Addr::from).map(IpAddr::V6);
    v4_of(bytes).map(IpAddr::V4).or_else(v6)
}

fn link_error(link: &str, operation: &'static str, source: io::Error) -> NetworkError {
    NetworkError::Link { link: link.to_owned(), operation, source }
}

fn listing(what: &'static str) -> impl Fn(io::Error) -> NetworkError {
    move |source| NetworkError::List { what, source }
}
