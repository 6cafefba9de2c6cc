//! Giving sandboxes interfaces, and taking them away: before their first process or while they run.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use ipnet::IpNet;

use crate::bridge::check_ifname;
use crate::endpoint::{Attached, Endpoint, Gateway, Uplink};
use crate::error::{NetworkError, Result};
use crate::link::{self, Child, Kind, Link, Pair};
use crate::namespace::{Namespace, write_sysctl};
use crate::netlink::Socket;

/// What stands for the interface's name in the settings of an endpoint.
const NAME_IN_SYSCTL: &str = "IFNAME";

/// Makes an endpoint's interface. `isolated`: its bridge's containers do not speak to one another.
pub(crate) fn attach(host: &Namespace, sandbox: &Namespace, endpoint: &Endpoint, isolated: bool) -> Result<Attached> {
    endpoint.name.check()?;
    let names: Vec<String> = sandbox.with_route(link::links)?.into_iter().map(|l| l.name).collect();
    let ifname = endpoint.name.choose(&names);
    host.with_route(|socket| match &endpoint.uplink {
        Uplink::Bridge { bridge, host_ifname } => {
            create_pair(socket, sandbox, endpoint, &ifname, (bridge, host_ifname), isolated)
        }
        Uplink::Macvlan { parent, mode } => {
            create_child(socket, sandbox, endpoint, &ifname, parent, Kind::Macvlan(*mode))
        }
        Uplink::Ipvlan { parent, mode, flag } => {
            create_child(socket, sandbox, endpoint, &ifname, parent, Kind::Ipvlan(*mode, *flag))
        }
    })?;
    let made = configure(sandbox, endpoint, &ifname).and_then(|link| {
        open_port(host, sandbox, endpoint, &link)?;
        Ok(link)
    });
    if made.is_err() {
        // The reason of the failure matters more than that of a failed removal.
        let _ = remove(host, sandbox, &ifname, endpoint.uplink.host_ifname());
    }
    let link = made?;
    Ok(Attached {
        ifname,
        host_ifname: endpoint.uplink.host_ifname().map(str::to_owned),
        mac: link.mac,
        addresses: endpoint.addresses.iter().map(IpNet::addr).collect(),
    })
}

/// Removes an endpoint's interface; one that is gone is as good.
pub(crate) fn remove(host: &Namespace, sandbox: &Namespace, ifname: &str, host_ifname: Option<&str>) -> Result<()> {
    if let Some(name) = host_ifname {
        return host.with_route(|socket| link::delete(socket, name));
    }
    // Inside, the name may have been given to something else meanwhile.
    sandbox.with_route(|socket| match link::find_link(socket, ifname)? {
        Some(found) if matches!(found.kind.as_str(), "macvlan" | "ipvlan") => link::delete(socket, ifname),
        _ => Ok(()),
    })
}

/// Makes these a sandbox's only default routes, each through the interface of that name.
pub fn set_default_routes(sandbox: &Namespace, routes: &[(String, Gateway)]) -> Result<()> {
    sandbox.with_route(|socket| {
        let mut wanted = Vec::with_capacity(routes.len());
        for (name, gateway) in routes {
            wanted.push((find(socket, name)?.index, *gateway));
        }
        link::replace_default_routes(socket, &wanted)
    })
}

impl Uplink {
    /// The name of the host's end, if there is one.
    pub fn host_ifname(&self) -> Option<&str> {
        match self {
            Uplink::Bridge { host_ifname, .. } => Some(host_ifname),
            Uplink::Macvlan { .. } | Uplink::Ipvlan { .. } => None,
        }
    }
}

fn create_pair(
    socket: &mut Socket,
    sandbox: &Namespace,
    endpoint: &Endpoint,
    ifname: &str,
    (bridge, host_ifname): (&str, &str),
    isolated: bool,
) -> Result<()> {
    check_ifname(host_ifname)?;
    let index = link::index_of(socket, bridge)?.ok_or_else(|| NetworkError::NoBridge(bridge.to_owned()))?;
    let pair = Pair {
        name: host_ifname,
        bridge: index,
        mtu: endpoint.mtu,
        isolated,
        peer_name: ifname,
        peer_mac: endpoint.mac,
        peer_namespace: sandbox.as_fd().as_raw_fd(),
    };
    link::create_pair(socket, &pair)
}

fn create_child(
    socket: &mut Socket,
    sandbox: &Namespace,
    endpoint: &Endpoint,
    ifname: &str,
    parent: &str,
    kind: Kind,
) -> Result<()> {
    let index = link::index_of(socket, parent)?.ok_or_else(|| NetworkError::NoParent(parent.to_owned()))?;
    let namespace = sandbox.as_fd().as_raw_fd();
    let child = Child { name: ifname, parent: index, kind, mtu: endpoint.mtu, mac: endpoint.mac, namespace };
    link::create_child(socket, &child)
}

/// Sets up the sandbox's end.
fn configure(sandbox: &Namespace, endpoint: &Endpoint, ifname: &str) -> Result<Link> {
    sandbox.run_in(|| write_settings(endpoint, ifname))??;
    sandbox.with_route(|socket| {
        let link = find(socket, ifname)?;
        link::bring_up(socket, ifname, link.index, &endpoint.addresses, &endpoint.gateways)?;
        Ok(link)
    })
}

/// Sees to it that the bridge takes the sandbox's packets from the first one on, and that neighbours hear of an address
/// that they may know from somebody else.
fn open_port(host: &Namespace, sandbox: &Namespace, endpoint: &Endpoint, link: &Link) -> Result<()> {
    let Some(port) = endpoint.uplink.host_ifname() else { return Ok(()) };
    host.with_route(|socket| link::await_carrier(socket, port))?;
    if !endpoint.must_announce() {
        return Ok(());
    }
    sandbox.with_route(|socket| link::announce(socket, link))
}

/// Writes an interface's settings; the thread is in the sandbox.
fn write_settings(endpoint: &Endpoint, ifname: &str) -> Result<()> {
    let off = if endpoint.has_ipv6() { "0" } else { "1" };
    match write_sysctl(&format!("net/ipv6/conf/{ifname}/disable_ipv6"), off) {
        // A kernel without IPv6.
        Err(NetworkError::Sysctl { source, .. }) if source.kind() == io::ErrorKind::NotFound && off == "1" => {}
        other => other?,
    }
    if endpoint.must_announce() {
        write_sysctl(&format!("net/ipv4/conf/{ifname}/arp_notify"), "1")?;
        if endpoint.has_ipv6() {
            write_sysctl(&format!("net/ipv6/conf/{ifname}/ndisc_notify"), "1")?;
        }
    }
    for (key, value) in &endpoint.sysctls {
        write_sysctl(&setting(key, ifname)?, value)?;
    }
    Ok(())
}

/// The path of an endpoint's setting: it must be one of the interface.
fn setting(key: &str, ifname: &str) -> Result<String> {
    let path = key.replace('.', "/");
    let parts: Vec<&str> = path.split('/').collect();
    let sound = parts.first() == Some(&"net") && parts.iter().filter(|part| **part == NAME_IN_SYSCTL).count() == 1;
    if !sound {
        return Err(NetworkError::SysctlName(key.to_owned()));
    }
    let parts: Vec<&str> = parts.into_iter().map(|part| if part == NAME_IN_SYSCTL { ifname } else { part }).collect();
    Ok(parts.join("/"))
}

fn find(socket: &mut Socket, name: &str) -> Result<Link> {
    link::find_link(socket, name)?.ok_or_else(|| NetworkError::Link {
        link: name.to_owned(),
        operation: "find it in its sandbox",
        source: io::ErrorKind::NotFound.into(),
    })
}

/// The addresses whose flows end with an endpoint.
pub(crate) fn addresses_of(attached: &Attached) -> &[IpAddr] {
    &attached.addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_of_the_interface() {
        assert_eq!(setting("net.ipv4.conf.IFNAME.log_martians", "eth1").unwrap(), "net/ipv4/conf/eth1/log_martians");
        assert_eq!(setting("net/ipv6/conf/IFNAME/accept_ra", "a.b").unwrap(), "net/ipv6/conf/a.b/accept_ra");
        for wrong in ["net.ipv4.ip_forward", "kernel.IFNAME", "net.IFNAME.IFNAME", "", "net.ipv4.conf.IFNAMEx.y"] {
            assert!(setting(wrong, "eth0").is_err(), "{wrong}");
        }
    }
}
