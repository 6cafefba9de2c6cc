//! What a namespace has: links, addresses, routes, and so the subnets that are in use and what is left of ours.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::bridge::HOST_PREFIX;
use crate::error::{NetworkError, Result};
use crate::host::Wanted;
use crate::ipam::{self, Family};
use crate::link::{self, Link, LinkAddress, Route};
use crate::namespace::Namespace;
use crate::netlink::Socket;
use crate::parent;

/// The links of a namespace, `lo` among them, with their counters.
pub fn links(namespace: &Namespace) -> Result<Vec<Link>> {
    namespace.with_route(link::links)
}

/// The interfaces of a sandbox with their counters, as `docker stats` shows them: all but `lo`.
pub fn interface_stats(sandbox: &Namespace) -> Result<Vec<Link>> {
    let mut all = links(sandbox)?;
    all.retain(|link| link.name != "lo");
    Ok(all)
}

/// The addresses of a namespace.
pub fn addresses(namespace: &Namespace) -> Result<Vec<LinkAddress>> {
    namespace.with_route(link::addresses)
}

/// The routes of a namespace, of both families.
pub fn routes(namespace: &Namespace) -> Result<Vec<Route>> {
    namespace.with_route(|socket| {
        let mut all = link::routes(socket, Family::V4)?;
        all.extend(link::routes(socket, Family::V6)?);
        Ok(all)
    })
}

/// The gateway of a namespace's default route of a family.
pub fn default_gateway(namespace: &Namespace, family: Family) -> Result<Option<IpAddr>> {
    let routes = namespace.with_route(|socket| link::routes(socket, family))?;
    Ok(routes.iter().find(|r| r.destination.prefix_len() == 0).and_then(|r| r.gateway))
}

/// The subnets in use, except those of one link.
pub(crate) fn used_subnets(socket: &mut Socket, except: Option<&str>) -> Result<Vec<IpNet>> {
    let own = match except {
        Some(name) => link::index_of(socket, name)?,
        None => None,
    };
    let mut all = BTreeSet::new();
    for found in link::addresses(socket)? {
        if own != Some(found.index) {
            all.insert(found.address.trunc());
        }
    }
    for family in [Family::V4, Family::V6] {
        for route in link::routes(socket, family)? {
            let foreign = own.is_none() || route.link != own;
            if foreign && route.destination.prefix_len() > 0 {
                all.insert(route.destination.trunc());
            }
        }
    }
    Ok(all.into_iter().filter(|net| !is_everywhere(*net)).collect())
}

/// Whether a subnet is on every link, or of groups: link-local and multicast IPv6.
pub(crate) fn is_everywhere(net: IpNet) -> bool {
    matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local() || net.addr().is_multicast())
}

pub(crate) fn refuse_overlap(used: &[IpNet], subnet: IpNet) -> Result<()> {
    match used.iter().copied().find(|taken| ipam::overlap(*taken, subnet)) {
        Some(taken) => Err(NetworkError::Overlap { subnet, taken }),
        None => Ok(()),
    }
}

/// The links of ours that are not wanted: ends of endpoints first, then bridges and parents.
pub(crate) fn leftovers(links: &[Link], mark: &str, wanted: &Wanted) -> Vec<String> {
    let bridges: Vec<&Link> = links.iter().filter(|l| l.kind == "bridge" && l.alias == mark).collect();
    let is_orphan = |l: &Link| l.kind == "veth" && l.master.is_none() && l.name.len() == HOST_PREFIX.len() + 12;
    let used = |l: &&Link| wanted.bridges.iter().any(|w| w.name == l.name);
    let is_port =
        |l: &Link| bridges.iter().copied().chain(links.iter().filter(used)).any(|b| Some(b.index) == l.master);
    let ours = |l: &&Link| l.name.starts_with(HOST_PREFIX) && (is_port(l) || is_orphan(l));
    let ends = links.iter().filter(ours).filter(|l| !wanted.host_ifnames.contains(&l.name));
    let is_wanted =
        |l: &Link| wanted.bridges.iter().any(|w| w.name == l.name) || wanted.parents.iter().any(|w| w.name == l.name);
    let marked = links.iter().filter(|l| parent::is_ours(l, mark) || (l.kind == "bridge" && l.alias == mark));
    ends.chain(marked.filter(|l| !is_wanted(l))).map(|l| l.name.clone()).collect()
}
