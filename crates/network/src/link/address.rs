//! Giving links addresses and routes.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Link, Route, addresses, batch, batch_unless, link_request, number, route_header, routes, set_up};
use crate::endpoint::Gateway;
use crate::error::Result;
use crate::ipam::Family;
use crate::netlink::uapi::*;
use crate::netlink::{Message, Socket};

/// `EEXIST`: the address is there already.
const EXISTS: i32 = 17;
/// `EADDRNOTAVAIL`: the address is not there.
const NO_ADDRESS: i32 = 99;

/// Sets a link up with addresses and default routes.
pub(crate) fn bring_up(
    socket: &mut Socket,
    name: &str,
    index: u32,
    addresses: &[IpNet],
    gateways: &[Gateway],
) -> Result<()> {
    // Addresses come first, so that the kernel announces them when the link is up, if it is told to.
    let mut requests: Vec<Message> = addresses.iter().map(|address| add_address(index, *address)).collect();
    requests.push(set_up(index));
    requests.extend(gateways.iter().map(|gateway| default_route(RTM_NEWROUTE, index, *gateway)));
    batch(socket, requests, name, "set it up")
}

/// Has the kernel announce a link's addresses again, as it does when a hardware address changes: to the same one here.
pub(crate) fn announce(socket: &mut Socket, link: &Link) -> Result<()> {
    let Some(mac) = link.mac else { return Ok(()) };
    let mut request = link_request(RTM_NEWLINK, 0, link.index, 0);
    request.attr(IFLA_ADDRESS, &mac.octets());
    batch(socket, vec![request], &link.name, "announce its addresses")
}

/// Gives a link these addresses, and takes others from it that are not link-local.
pub(crate) fn ensure_only_addresses(socket: &mut Socket, link: &Link, wanted: &[IpNet]) -> Result<()> {
    let found = addresses(socket)?.into_iter().filter(|a| a.index == link.index).map(|a| a.address);
    let (kept, stale): (Vec<_>, Vec<_>) = found.partition(|a| wanted.contains(a) || is_automatic(a.addr()));
    let removals = stale.into_iter().map(|old| address_request(RTM_DELADDR, 0, link.index, old)).collect();
    batch(socket, removals, &link.name, "remove an address")?;
    let missing: Vec<_> = wanted.iter().copied().filter(|address| !kept.contains(address)).collect();
    add_addresses(socket, link, &missing)
}

/// Takes addresses from a link; those that it does not have are as good as taken.
pub(crate) fn remove_addresses(socket: &mut Socket, link: &Link, unwanted: &[IpNet]) -> Result<()> {
    let removals = unwanted.iter().map(|address| address_request(RTM_DELADDR, 0, link.index, *address)).collect();
    batch_unless(socket, removals, NO_ADDRESS, &link.name, "remove an address")
}

/// Gives a link further addresses.
pub(crate) fn add_addresses(socket: &mut Socket, link: &Link, wanted: &[IpNet]) -> Result<()> {
    let additions = wanted.iter().map(|address| add_address(link.index, *address)).collect();
    batch_unless(socket, additions, EXISTS, &link.name, "add its address")
}

/// Makes these the namespace's only default routes, each through the link of that number.
pub(crate) fn replace_default_routes(socket: &mut Socket, wanted: &[(u32, Gateway)]) -> Result<()> {
    for family in [Family::V4, Family::V6] {
        let fresh: Vec<_> = wanted.iter().copied().filter(|(_, gateway)| gateway.family() == family).collect();
        let stale: Vec<_> = default_routes(socket, family)?
            .into_iter()
            .filter(|route| !fresh.iter().any(|(link, gateway)| is_same(route, *link, *gateway)))
            .collect();
        let removals = stale.iter().map(|route| removal(route, family)).collect();
        batch(socket, removals, "the default route", "remove it")?;
        let additions = fresh.iter().map(|(link, gateway)| default_route(RTM_NEWROUTE, *link, *gateway)).collect();
        batch_unless(socket, additions, EXISTS, "the default route", "add it")?;
    }
    Ok(())
}

fn default_routes(socket: &mut Socket, family: Family) -> Result<Vec<Route>> {
    let mut all = routes(socket, family)?;
    all.retain(|route| route.destination.prefix_len() == 0 && route.table == u32::from(RT_TABLE_MAIN));
    Ok(all)
}

fn is_same(route: &Route, link: u32, gateway: Gateway) -> bool {
    route.link == Some(link) && route.gateway == gateway.router()
}

fn removal(route: &Route, family: Family) -> Message {
    let mut header = route_header(number(family), RT_TABLE_MAIN, 0);
    // Nothing about how it was made, and any scope.
    header[5] = 0;
    header[6] = RT_SCOPE_NOWHERE;
    let mut request = Message::new(RTM_DELROUTE, 0, &header);
    if let Some(link) = route.link {
        request.u32(RTA_OIF, link);
    }
    if let Some(gateway) = route.gateway {
        request.attr(RTA_GATEWAY, &octets(gateway));
    }
    request
}

/// Addresses that the kernel gives by itself.
fn is_automatic(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

fn add_address(index: u32, address: IpNet) -> Message {
    let mut request = address_request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, index, address);
    match address {
        IpNet::V4(address) if address.prefix_len() < 31 => {
            request.attr(IFA_BROADCAST, &address.broadcast().octets());
        }
        IpNet::V4(_) => {}
        // Who gives addresses knows that they are free: the kernel need not ask around for a second.
        IpNet::V6(_) => {
            request.u32(IFA_FLAGS, IFA_F_NODAD);
        }
    }
    request
}

/// `struct ifaddrmsg` and the address.
fn address_request(kind: u16, flags: u16, index: u32, address: IpNet) -> Message {
    let family = number(Family::of(address.addr()));
    let mut header = vec![family, address.prefix_len(), 0, RT_SCOPE_UNIVERSE];
    header.extend_from_slice(&index.to_ne_bytes());
    let mut request = Message::new(kind, flags, &header);
    let octets = octets(address.addr());
    request.attr(IFA_LOCAL, &octets);
    request.attr(IFA_ADDRESS, &octets);
    request
}

fn default_route(kind: u16, index: u32, gateway: Gateway) -> Message {
    let mut header = route_header(number(gateway.family()), RT_TABLE_MAIN, RTN_UNICAST);
    if gateway == Gateway::Link(Family::V4) {
        header[6] = RT_SCOPE_LINK;
    }
    let mut request = Message::new(kind, NLM_F_CREATE | NLM_F_EXCL, &header);
    if let Some(router) = gateway.router() {
        request.attr(RTA_GATEWAY, &octets(router));
    }
    request.u32(RTA_OIF, index);
    request
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
