//! Forwarding: the kernel's switches that make a namespace a router, and how they are made safe.
//!
//! A host forwards packets between its bridges and the rest, so `ip_forward` has to be on, and that is for all of
//! its interfaces. Where we switch it on ourselves, nobody has decided that this host is a router: then packets
//! that concern no bridge of ours stay refused, by an element of `closed` in the table (Docker sets the policy of its
//! own `FORWARD` chain for that). Where it was on before, they are nobody's business here.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use crate::bridge::Bridge;
use crate::error::{NetworkError, Result};
use crate::ipam::Family;
use crate::namespace::{Namespace, write_sysctl};

const SWITCH_4: &str = "net/ipv4/ip_forward";
const SWITCH_6: &str = "net/ipv6/conf/all/forwarding";

/// Lets the kernel forward a bridge's packets, and lead loopback's packets to it. Tells for which families forwarding
/// was off until now.
pub(crate) fn open(namespace: &Namespace, bridge: &Bridge) -> Result<BTreeSet<Family>> {
    namespace.run_in(|| {
        let mut switched = BTreeSet::new();
        if bridge.subnet(Family::V4).is_some() {
            if switch_on(SWITCH_4)? {
                switched.insert(Family::V4);
            }
            write_sysctl(&format!("net/ipv4/conf/{}/route_localnet", bridge.name), "1")?;
        }
        if bridge.subnet(Family::V6).is_some() && !bridge.internal {
            keep_router_advertisements()?;
            if switch_on(SWITCH_6)? {
                switched.insert(Family::V6);
            }
        }
        Ok(switched)
    })?
}

/// Gives a bridge IPv6 only if a subnet of it is: else the host would be reached at its link-local address.
pub(crate) fn settle_ipv6(namespace: &Namespace, bridge: &Bridge) -> Result<()> {
    let off = if bridge.subnet(Family::V6).is_some() { "0" } else { "1" };
    let path = format!("net/ipv6/conf/{}/disable_ipv6", bridge.name);
    namespace.run_in(|| match write_sysctl(&path, off) {
        // A kernel without IPv6.
        Err(NetworkError::Sysctl { source, .. }) if source.kind() == io::ErrorKind::NotFound && off == "1" => Ok(()),
        other => other,
    })?
}

/// Switches a setting on; whether it was off.
fn switch_on(key: &str) -> Result<bool> {
    let path = format!("/proc/sys/{key}");
    let before = fs::read_to_string(&path).map_err(|source| NetworkError::List { what: "sysctls", source })?;
    if before.trim_end() != "0" {
        return Ok(false);
    }
    write_sysctl(key, "1")?;
    Ok(true)
}

/// Interfaces that take their routes from advertisements stop doing so when the host becomes a router (1), unless
/// they are told to go on (2).
fn keep_router_advertisements() -> Result<()> {
    let list = |source| NetworkError::List { what: "sysctls", source };
    for entry in fs::read_dir("/proc/sys/net/ipv6/conf").map_err(list)? {
        let name = entry.map_err(list)?.file_name().to_string_lossy().into_owned();
        let read = |key: &str| fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{name}/{key}")).unwrap_or_default();
        if read("accept_ra").trim_end() == "1" && read("forwarding").trim_end() == "0" && name != "lo" {
            write_sysctl(&format!("net/ipv6/conf/{name}/accept_ra"), "2")?;
        }
    }
    Ok(())
}
