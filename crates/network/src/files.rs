//! `/etc/hosts` and `/etc/resolv.conf` of a container, as text.
//!
//! Pure: the host's files come in as text, and what the container's files say goes out.

use std::fmt::Write;
use std::net::IpAddr;

use crate::dns::{DNS_ADDRESS, Origin, Upstream};

/// Names that every container's `/etc/hosts` begins with.
const LOCAL_NAMES: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::\tip6-localnet\n\
    ff00::\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// Name servers for a container whose host names only itself.
const FALLBACK_SERVERS: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

/// An extra line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraHost {
    /// The name, or several with spaces between.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
}

/// An `--add-host` value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidExtraHost {
    /// No `NAME:ADDRESS`.
    #[error("bad format for add-host: {0:?}")]
    Format(String),
    /// No address.
    #[error("invalid IP address in add-host: {0:?}")]
    Address(String),
    /// `host-gateway` on a network where no address of the host is known.
    #[error("unable to derive the IP value for host-gateway")]
    NoGateway,
}

impl ExtraHost {
    /// Reads `NAME:ADDRESS` or `NAME=ADDRESS`; the address may be `host-gateway`.
    pub fn parse(text: &str, gateway: Option<IpAddr>) -> Result<Self, InvalidExtraHost> {
        let (name, address) = text
            .split_once(['=', ':'])
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| InvalidExtraHost::Format(text.to_owned()))?;
        let address = match address {
            "host-gateway" => gateway.ok_or(InvalidExtraHost::NoGateway)?,
            other => other
                .trim_start_matches('[')
                .trim_end_matches(']')
                .parse()
                .map_err(|_| InvalidExtraHost::Address(other.to_owned()))?,
        };
        Ok(Self { name: name.to_owned(), address })
    }
}

/// `/etc/hosts` of a container with a network of its own: extra hosts, then its own addresses.
///
/// The full name comes first; if it has a domain, its first part follows.
pub fn hosts(addresses: &[IpAddr], hostname: &str, domainname: &str, extra: &[ExtraHost]) -> String {
    let mut names = hostname.to_owned();
    if !domainname.is_empty() {
        let _ = write!(names, ".{domainname}");
    }
    if let Some((first, _)) = names.clone().split_once('.') {
        let _ = write!(names, " {first}");
    }
    let mut text = LOCAL_NAMES.to_owned();
    push_extra(&mut text, extra);
    for address in addresses {
        let _ = writeln!(text, "{address}\t{names}");
    }
    text
}

/// `/etc/hosts` of a container in its host's namespace: the host's, and extra hosts.
pub fn host_mode_hosts(host_file: &str, extra: &[ExtraHost]) -> String {
    let mut text = if host_file.is_empty() { LOCAL_NAMES.to_owned() } else { host_file.to_owned() };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    push_extra(&mut text, extra);
    text
}

fn push_extra(text: &mut String, extra: &[ExtraHost]) {
    for host in extra {
        let _ = writeln!(text, "{}\t{}", host.address, host.name);
    }
}

/// What a container asks for in its `/etc/resolv.conf`; an empty list takes the host's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsOptions {
    /// Name servers.
    pub servers: Vec<String>,
    /// Search domains; `.` alone for none.
    pub search: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

/// The text of a `/etc/resolv.conf`, taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Name servers, in order.
    pub servers: Vec<String>,
    /// Search domains.
    pub search: Vec<String>,
    /// Options.
    pub options: Vec<String>,
    /// Lines of other kinds.
    pub other: Vec<String>,
}

impl ResolvConf {
    /// Reads a file. The last `search` or `domain` line counts; options of all lines do.
    pub fn parse(text: &str) -> Self {
        let mut all = Self::default();
        for line in text.lines() {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            match words.first().map(String::as_str) {
                Some("nameserver") => all.servers.extend(words.into_iter().skip(1).take(1)),
                Some("search" | "domain") => all.search = words[1..].to_vec(),
                Some("options") => all.options.extend_from_slice(&words[1..]),
                None => {}
                Some(word) if word.starts_with(['#', ';']) => {}
                Some(_) => all.other.push(line.trim().to_owned()),
            }
        }
        all
    }

    /// Whether its only name server is systemd-resolved's stub: then `/run/systemd/resolve/resolv.conf` says
    /// which servers there really are.
    pub fn is_systemd_stub(&self) -> bool {
        self.servers.len() == 1 && self.servers[0] == "127.0.0.53"
    }

    /// Whether it names only a container's own name server, which answers nobody else.
    pub fn is_embedded(&self) -> bool {
        self.servers == [DNS_ADDRESS.to_string()]
    }

    /// The file for a container with a network of its own: name servers on the host's loopback are out of its
    /// reach and left out, and so are link-local ones; if none is left, public ones stand in.
    pub fn for_bridge(&self, asked: &DnsOptions) -> Self {
        let mut conf = self.for_host(asked);
        if asked.servers.is_empty() {
            conf.servers.retain(|server| is_reachable(server));
            if conf.servers.is_empty() {
                conf.servers = FALLBACK_SERVERS.map(str::to_owned).to_vec();
            }
        }
        conf
    }

    /// The file for a container in its host's namespace.
    pub fn for_host(&self, asked: &DnsOptions) -> Self {
        let pick = |asked: &[String], own: &[String]| if asked.is_empty() { own } else { asked }.to_vec();
        let mut search = pick(&asked.search, &self.search);
        if search == ["."] {
            search.clear();
        }
        Self {
            servers: pick(&asked.servers, &self.servers),
            search,
            options: pick(&asked.options, &self.options),
            other: self.other.clone(),
        }
    }

    /// The file for a container with a resolver of its own, and which servers that one asks: those that the container
    /// names, from its own namespace, or else the host's, from the host's.
    pub fn for_resolver(&self, asked: &DnsOptions) -> (String, Vec<Upstream>) {
        let conf = self.for_host(asked);
        let origin = if asked.servers.is_empty() { Origin::Host } else { Origin::Sandbox };
        let mut upstreams: Vec<Upstream> = conf.servers.iter().filter_map(|text| upstream(text, origin)).collect();
        if upstreams.is_empty() {
            upstreams = FALLBACK_SERVERS.iter().filter_map(|text| upstream(text, origin)).collect();
        }
        let is_ndots = |option: &String| option.starts_with("ndots:");
        let ndots = match (asked.options.iter().any(is_ndots), conf.options.iter().any(is_ndots)) {
            (true, _) => "override",
            (false, true) => "host",
            (false, false) => "internal",
        };
        let mut options = conf.options.clone();
        if ndots == "internal" {
            options.push("ndots:0".to_owned());
        }
        let lists = [("nameservers", &asked.servers), ("search", &asked.search), ("options", &asked.options)];
        let overrides: Vec<&str> = lists.iter().filter(|(_, list)| !list.is_empty()).map(|(word, _)| *word).collect();
        let shown: Vec<String> = upstreams.iter().map(shown).collect();
        let inner = Self { servers: vec![DNS_ADDRESS.to_string()], options, ..conf };
        let text = format!(
            "{}\n# Based on host file: '/etc/resolv.conf' (internal resolver)\n# ExtServers: [{}]\n# Overrides: [{}]\n\
             # Option ndots from: {ndots}\n",
            inner.render(),
            shown.join(" "),
            overrides.join(" ")
        );
        (text, upstreams)
    }

    /// The file's text.
    pub fn render(&self) -> String {
        let mut text = "# Generated by Droste. Changes made here stay.\n\n".to_owned();
        for server in &self.servers {
            let _ = writeln!(text, "nameserver {server}");
        }
        for (word, list) in [("search", &self.search), ("options", &self.options)] {
            if !list.is_empty() {
                let _ = writeln!(text, "{word} {}", list.join(" "));
            }
        }
        for line in &self.other {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

/// A server by its text, which may name the link it is on (`fe80::1%3`): a number, since the host's names are its own.
fn upstream(text: &str, origin: Origin) -> Option<Upstream> {
    let (address, zone) = text.split_once('%').unwrap_or((text, "0"));
    let (server, scope) = (address.parse().ok()?, zone.parse().ok()?);
    Some(Upstream { server, scope, origin })
}

/// A server as Docker's files show it.
fn shown(upstream: &Upstream) -> String {
    match upstream.origin {
        Origin::Host => format!("host({})", upstream.server),
        Origin::Sandbox => upstream.server.to_string(),
    }
}

/// Whether a name server of the host's is one for a container on an IPv4 bridge.
fn is_reachable(server: &str) -> bool {
    match server.parse() {
        Ok(IpAddr::V4(address)) => !address.is_loopback(),
        // IPv6 servers are out of reach of an IPv4 bridge, and a zone index names the host's interface.
        Ok(IpAddr::V6(_)) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    #[test]
    fn hosts_as_docker_writes_them() {
        let gateway = Some("172.17.0.1".parse().unwrap());
        let extra =
            ["x:1.2.3.4", "y:host-gateway", "z=::1", "w:[fe80::2]"].map(|t| ExtraHost::parse(t, gateway).unwrap());
        let text = hosts(&["172.17.0.5".parse().unwrap()], "hh", "dd.ee", &extra);
        let tail = "1.2.3.4\tx\n172.17.0.1\ty\n::1\tz\nfe80::2\tw\n172.17.0.5\thh.dd.ee hh\n";
        assert_eq!(text, format!("{LOCAL_NAMES}{tail}"));
        assert!(
            hosts(&["172.17.0.2".parse().unwrap()], "768f950f9d68", "", &[]).ends_with("172.17.0.2\t768f950f9d68\n")
        );
        assert!(hosts(&["172.17.0.2".parse().unwrap()], "a.b.c", "", &[]).ends_with("172.17.0.2\ta.b.c a\n"));
        assert!(hosts(&["172.17.0.2".parse().unwrap()], "a.b.c", "d.e", &[]).ends_with("172.17.0.2\ta.b.c.d.e a\n"));
        assert_eq!(hosts(&[], "h", "", &[]), LOCAL_NAMES);
    }

    #[test]
    fn host_mode_keeps_the_hosts_own() {
        let extra = [ExtraHost::parse("h:1.2.3.4", None).unwrap()];
        assert_eq!(host_mode_hosts("127.0.0.1 me", &extra), "127.0.0.1 me\n1.2.3.4\th\n");
        assert_eq!(host_mode_hosts("", &[]), LOCAL_NAMES);
    }

    #[test]
    fn bad_extra_hosts_are_refused() {
        assert!(matches!(ExtraHost::parse("nothing", None), Err(InvalidExtraHost::Format(_))));
        assert!(matches!(ExtraHost::parse(":1.2.3.4", None), Err(InvalidExtraHost::Format(_))));
        assert!(matches!(ExtraHost::parse("a:b", None), Err(InvalidExtraHost::Address(_))));
        assert!(matches!(ExtraHost::parse("a:host-gateway", None), Err(InvalidExtraHost::NoGateway)));
    }

    #[test]
    fn loopback_servers_are_left_out() {
        let host = ResolvConf::parse(
            "# c\nnameserver 127.0.0.53\nnameserver 10.0.0.2\nnameserver fe80::1%eth0\nsearch a b\noptions edns0\n",
        );
        let conf = host.for_bridge(&DnsOptions::default());
        assert_eq!(conf.servers, list(&["10.0.0.2"]));
        assert_eq!((conf.search, conf.options), (list(&["a", "b"]), list(&["edns0"])));
        assert_eq!(host.for_host(&DnsOptions::default()).servers.len(), 3);
    }

    #[test]
    fn a_container_with_a_resolver_asks_it() {
        let host = ResolvConf::parse("nameserver 127.0.0.53\nnameserver fe80::1%eth0\nsearch corp\noptions edns0\n");
        let (text, upstreams) = host.for_resolver(&DnsOptions::default());
        let tail = "nameserver 127.0.0.11\nsearch corp\noptions edns0 ndots:0\n\n\
            # Based on host file: '/etc/resolv.conf' (internal resolver)\n# ExtServers: [host(127.0.0.53)]\n\
            # Overrides: []\n# Option ndots from: internal\n";
        assert!(text.ends_with(tail), "{text}");
        let loopback = Upstream { server: "127.0.0.53".parse().unwrap(), scope: 0, origin: Origin::Host };
        assert_eq!(upstreams, [loopback]);
        let asked = DnsOptions { servers: list(&["127.0.0.5"]), search: list(&["x.y"]), options: list(&["ndots:3"]) };
        let (text, upstreams) = host.for_resolver(&asked);
        let tail = "nameserver 127.0.0.11\nsearch x.y\noptions ndots:3\n\n\
            # Based on host file: '/etc/resolv.conf' (internal resolver)\n# ExtServers: [127.0.0.5]\n\
            # Overrides: [nameservers search options]\n# Option ndots from: override\n";
        assert!(text.ends_with(tail), "{text}");
        assert_eq!(upstreams[0].origin, Origin::Sandbox);
        assert_eq!(ResolvConf::default().for_resolver(&DnsOptions::default()).1.len(), 2, "public ones stand in");
    }

    #[test]
    fn public_servers_stand_in() {
        let host = ResolvConf::parse("nameserver 127.0.0.53\noptions edns0 trust-ad\n");
        assert!(host.is_systemd_stub());
        assert_eq!(host.for_bridge(&DnsOptions::default()).servers, list(&["8.8.8.8", "8.8.4.4"]));
        assert_eq!(ResolvConf::default().for_bridge(&DnsOptions::default()).servers.len(), 2);
    }

    #[test]
    fn what_is_asked_for_wins() {
        let host = ResolvConf::parse("nameserver 10.0.0.2\nsearch a\ndomain b\nsortlist 1.2.3.4\n");
        assert_eq!(host.search, list(&["b"]));
        let asked = DnsOptions { servers: list(&["127.0.0.9"]), search: list(&["."]), options: list(&["ndots:2"]) };
        let conf = host.for_bridge(&asked);
        assert_eq!(
            conf.render(),
            "# Generated by Droste. Changes made here stay.\n\nnameserver 127.0.0.9\noptions ndots:2\nsortlist 1.2.3.4\n"
        );
    }
}
