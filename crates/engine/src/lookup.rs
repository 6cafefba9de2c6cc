//! What names mean on a host. All of it is for a thread that is in the host's namespaces and root.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use droste_runtime::read_small;

/// Who is asked for addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolver {
    /// The C library, with all that the machine's administrator taught it.
    Machine,
    /// The host's own files and name servers and nothing more: the C library would load modules that they name.
    Host,
}

impl Resolver {
    /// The one for a host of that level.
    pub(crate) fn at(level: usize) -> Self {
        if level == 0 { Self::Machine } else { Self::Host }
    }

    /// The addresses of a name.
    pub(crate) fn look_up(self, name: &str) -> io::Result<Vec<IpAddr>> {
        if self == Self::Machine {
            return Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect());
        }
        let text = |path| read_small(path).unwrap_or_default();
        droste_network::look_up(name, &text("/etc/hosts"), &text("/etc/resolv.conf"))
    }

    /// The first address of a name.
    pub(crate) fn first(self, name: &str) -> io::Result<IpAddr> {
        self.look_up(name)?.into_iter().next().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The addresses of `HOST:PORT`.
    pub(crate) fn at_port(self, place: &str) -> io::Result<Vec<SocketAddr>> {
        let (name, port) = place.rsplit_once(':').ok_or(io::ErrorKind::InvalidInput)?;
        let port: u16 = port.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(self.look_up(name)?.into_iter().map(|address| (address, port).into()).collect())
    }
}
