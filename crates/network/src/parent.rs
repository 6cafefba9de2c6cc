//! Interfaces of a host that sandboxes' interfaces hang on: macvlan and ipvlan.
//!
//! One that the host has is used as it is. A VLAN of one is made if it is missing, and so is one that leads nowhere
//! for a network without a parent; both are marked as ours and removed with their network.

use std::io;

use crate::bridge::check_ifname;
use crate::error::{NetworkError, Result};
use crate::link::{self, Link};
use crate::netlink::Socket;

/// An interface that others hang on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Its name.
    pub name: String,
    /// Whether it leads nowhere: its network is internal.
    pub dummy: bool,
}

impl Parent {
    /// The parent that a network asks for by name; without one a dummy of the network's own.
    pub fn of(name: Option<&str>, network_id: &str) -> Result<Self> {
        match name.filter(|name| !name.is_empty()) {
            Some(name) => check_ifname(name).map(|()| Self { name: name.to_owned(), dummy: false }),
            None => {
                let id: String = network_id.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
                Ok(Self { name: format!("dm-{id}"), dummy: true })
            }
        }
    }

    /// The link and the number of a name such as `eth0.10`.
    fn vlan(&self) -> Option<(&str, u16)> {
        let (link, number) = self.name.rsplit_once('.')?;
        let number = number.parse().ok().filter(|n| (1..=4094).contains(n))?;
        Some((link, number)).filter(|(link, _)| !link.is_empty())
    }
}

/// Makes a parent, unless it is there.
pub(crate) fn ensure(socket: &mut Socket, parent: &Parent, remark: &str) -> Result<()> {
    check_ifname(&parent.name)?;
    if link::find_link(socket, &parent.name)?.is_some() {
        return Ok(());
    }
    if parent.dummy {
        make_dummy(socket, &parent.name)?;
    } else {
        let missing = || NetworkError::NoParent(parent.name.clone());
        let (lower, number) = parent.vlan().ok_or_else(missing)?;
        let lower = link::index_of(socket, lower)?.ok_or_else(missing)?;
        link::create_link(socket, &parent.name, "vlan", None, Some((lower, number)))?;
    }
    let index = link::index_of(socket, &parent.name)?.ok_or_else(|| NetworkError::NoParent(parent.name.clone()))?;
    link::mark(socket, index, &parent.name, remark, 0)
}

/// Makes a link that leads nowhere. Where the kernel has no such kind, a pair with nobody at its other end is one.
fn make_dummy(socket: &mut Socket, name: &str) -> Result<()> {
    match link::create_link(socket, name, "dummy", None, None) {
        Err(NetworkError::Link { source, .. }) if source.kind() == io::ErrorKind::Unsupported => {}
        other => return other,
    }
    link::create_link(socket, name, "veth", None, None)?;
    // Without its other end up, it would be as if it were unplugged.
    match link::find_link(socket, name)?.and_then(|made| made.lower) {
        Some(peer) => link::bring_up(socket, name, peer, &[], &[]),
        None => Err(NetworkError::NoParent(name.to_owned())),
    }
}

/// Removes a parent that was made by us; others stay.
pub(crate) fn remove(socket: &mut Socket, parent: &Parent, remark: &str) -> Result<()> {
    match link::find_link(socket, &parent.name)? {
        Some(found) if is_ours(&found, remark) => link::delete(socket, &parent.name),
        _ => Ok(()),
    }
}

/// Whether a link is such a parent of ours.
pub(crate) fn is_ours(link: &Link, remark: &str) -> bool {
    link.alias == remark && (matches!(link.kind.as_str(), "dummy" | "vlan") || link.name.starts_with("dm-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_by_name() {
        let of = |name| Parent::of(name, "0123456789abcdef").unwrap();
        assert_eq!(of(Some("eth0.10")).vlan(), Some(("eth0", 10)));
        for name in ["eth0", "eth0.0", "eth0.4095", ".10", "eth0.x"] {
            assert_eq!(of(Some(name)).vlan(), None, "{name}");
        }
        assert_eq!(of(Some("")), Parent { name: "dm-0123456789ab".to_owned(), dummy: true });
        assert!(Parent::of(Some("a/b"), "").is_err());
    }
}
