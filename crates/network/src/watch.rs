//! Hearing of changes to a host's firewall, whoever makes them.
//!
//! Nothing is read of what the kernel tells but that there was a change: `HostNetwork::verify` finds out what it means.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

use crate::error::{NetworkError, Result};
use crate::namespace::Namespace;

/// The group of nf_tables' changes (`NFNLGRP_NFTABLES`, 7) in a mask.
const CHANGES: u32 = 1 << 6;

/// A socket that is readable when rules of a namespace have changed. It does not block.
pub fn watch_rules(namespace: &Namespace) -> Result<OwnedFd> {
    let socket = namespace.within(listen)?;
    socket.map_err(|source| NetworkError::Netlink { family: "nf_tables", source })
}

/// Takes from such a socket all that is there, so that it is readable again after the next change.
pub fn forget_changes(watch: impl AsFd) {
    let mut buffer = [0; 4096];
    loop {
        match rustix::net::recv(&watch, &mut buffer[..], RecvFlags::empty()) {
            // That some was lost for want of room tells of a change as well.
            Ok(_) | Err(Errno::NOBUFS | Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// The calling thread is in the namespace.
fn listen() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::NETFILTER))?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, CHANGES))?;
    Ok(socket)
}
