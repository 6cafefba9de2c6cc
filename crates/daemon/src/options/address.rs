//! Where to listen.

use std::path::PathBuf;

/// An address of `--host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// Host and port.
    Tcp(String, u16),
    /// A socket from the service manager: all, or the one with this number or name.
    Fd(String),
}

impl Address {
    /// Reads `unix://PATH`, `tcp://HOST[:PORT]`, `fd://[N]`, or `HOST:PORT`.
    pub(super) fn parse(text: &str, tls: bool) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix://") {
            let path = if path.is_empty() { "/run/droste/droste.sock" } else { path };
            return match path.starts_with('/') {
                true => Ok(Self::Unix(path.into())),
                false => Err("the path of a Unix socket must be absolute".to_owned()),
            };
        }
        if let Some(which) = text.strip_prefix("fd://") {
            return Ok(Self::Fd(which.to_owned()));
        }
        if let Some(address) = text.strip_prefix("tcp://") {
            return tcp(address, tls);
        }
        match text.contains("://") {
            true => Err("expected unix://PATH, tcp://HOST:PORT or fd://".to_owned()),
            false => tcp(text, tls),
        }
    }
}

fn tcp(address: &str, tls: bool) -> Result<Address, String> {
    let default = if tls { 2376 } else { 2375 };
    let address = address.trim_end_matches('/');
    let is_host = |host: &str| host.ends_with(']') || !host.contains(':');
    let (host, port) = match address.rsplit_once(':').filter(|(host, _)| is_host(host)) {
        Some((host, port)) => (host, port.parse().map_err(|_| format!("{port:?} is no port"))?),
        None => (address, default),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    // Docker's default for an address without a host.
    let host = if address.is_empty() {
        "127.0.0.1"
    } else if host.is_empty() {
        "0.0.0.0"
    } else {
        host
    };
    if host.contains('/') || host.contains('@') {
        return Err(format!("{host:?} is no host"));
    }
    Ok(Address::Tcp(host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let tcp = |host: &str, port| Ok(Address::Tcp(host.to_owned(), port));
        assert_eq!(Address::parse("unix:///a", false), Ok(Address::Unix("/a".into())));
        assert_eq!(Address::parse("tcp://", false), tcp("127.0.0.1", 2375));
        assert_eq!(Address::parse("tcp://:1", false), tcp("0.0.0.0", 1));
        assert_eq!(Address::parse("tcp://h.example", true), tcp("h.example", 2376));
        assert_eq!(Address::parse("tcp://[::1]:7", false), tcp("::1", 7));
        assert_eq!(Address::parse("tcp://[::1]", false), tcp("::1", 2375));
        assert_eq!(Address::parse("10.0.0.1:7", false), tcp("10.0.0.1", 7));
        assert_eq!(Address::parse("fd://", false), Ok(Address::Fd(String::new())));
        for wrong in ["unix://a", "http://a", "tcp://a:x", "tcp://a/b"] {
            assert!(Address::parse(wrong, false).is_err(), "{wrong}");
        }
    }
}
