//! Where a registry's name leads: scheme, host, port, and what may be wrong with its certificate.

use std::net::IpAddr;

use super::RegistrySettings;

const HUB: &str = "docker.io";
const HUB_HOST: &str = "registry-1.docker.io";

/// A place to send requests to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) https: bool,
    pub(super) host: String,
    pub(super) port: u16,
    /// Path before `/v2/`; empty for nearly all.
    pub(super) prefix: String,
    /// Any certificate will do.
    pub(super) any_certificate: bool,
    pub(super) mirror: bool,
}

/// A registry setting that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {setting} {value:?}: {reason}")]
pub struct InvalidSetting {
    /// Which setting.
    pub setting: &'static str,
    /// Its value.
    pub value: String,
    /// What is wrong.
    pub reason: &'static str,
}

impl Endpoint {
    /// Reads an absolute URL; gives the path and query as well.
    pub(super) fn parse_url(url: &str) -> Option<(Self, String)> {
        let (https, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return None,
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (host, port) = split_port(authority, if https { 443 } else { 80 })?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let endpoint = Self { https, host, port, prefix: String::new(), any_certificate: false, mirror: false };
        Some((endpoint, path))
    }

    /// Whether who answers here has proven by a certificate to be this registry.
    pub(super) fn is_proven(&self) -> bool {
        self.https && !self.any_certificate
    }

    /// Host and port as they stand in URLs and in `Host`.
    pub(super) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.https, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    pub(super) fn url(&self, path: &str) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.authority())
    }
}

pub(super) fn split_port(authority: &str, default: u16) -> Option<(String, u16)> {
    if authority.is_empty() || authority.contains('@') {
        return None;
    }
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        let port = rest.strip_prefix(':').map_or(Some(default), |port| port.parse().ok())?;
        return Some((host.to_owned(), port));
    }
    match authority.split_once(':') {
        Some((host, port)) => Some((host.to_owned(), port.parse().ok()?)),
        None => Some((authority.to_owned(), default)),
    }
}

/// The registry that `docker login SERVER` means.
pub(super) fn domain_of_server(server: &str) -> String {
    let bare = server.trim_start_matches("https://").trim_start_matches("http://");
    let host = bare.split('/').next().unwrap_or_default();
    match host {
        "" | "index.docker.io" | "registry-1.docker.io" => HUB.to_owned(),
        host => host.to_owned(),
    }
}

/// The places to try for a registry, in order.
pub(super) fn endpoints(
    settings: &RegistrySettings,
    domain: &str,
    with_mirrors: bool,
) -> Result<Vec<Endpoint>, InvalidSetting> {
    let mut found = Vec::new();
    if domain == HUB && with_mirrors {
        for mirror in &settings.mirrors {
            found.push(mirror_endpoint(settings, mirror)?);
        }
    }
    let authority = if domain == HUB { HUB_HOST } else { domain };
    let invalid = || InvalidSetting { setting: "registry", value: domain.to_owned(), reason: "no host and port" };
    let (host, port) = split_port(authority, 443).ok_or_else(invalid)?;
    let insecure = is_insecure(settings, authority, &host);
    let endpoint = |https, port| Endpoint {
        https,
        host: host.clone(),
        port,
        prefix: String::new(),
        any_certificate: insecure,
        mirror: false,
    };
    found.push(endpoint(true, port));
    if insecure {
        let (_, port) = split_port(authority, 80).ok_or_else(invalid)?;
        found.push(endpoint(false, port));
    }
    Ok(found)
}

fn mirror_endpoint(settings: &RegistrySettings, mirror: &str) -> Result<Endpoint, InvalidSetting> {
    let invalid = |reason| InvalidSetting { setting: "registry mirror", value: mirror.to_owned(), reason };
    let (endpoint, path) = Endpoint::parse_url(mirror).ok_or_else(|| invalid("not an http or https URL"))?;
    if path.contains('?') {
        return Err(invalid("a URL with a query"));
    }
    let any_certificate = is_insecure(settings, &endpoint.authority(), &endpoint.host);
    let prefix = path.trim_end_matches('/').to_owned();
    Ok(Endpoint { prefix, any_certificate, mirror: true, ..endpoint })
}

fn is_insecure(settings: &RegistrySettings, authority: &str, host: &str) -> bool {
    let address = host.parse::<IpAddr>().ok();
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    settings
        .insecure
        .iter()
        .any(|item| item == authority || item == host || address.is_some_and(|address| in_range(item, address)))
}

/// Whether an address is in a range such as `10.0.0.0/8`.
pub(super) fn in_range(range: &str, address: IpAddr) -> bool {
    let Some((base, bits)) = range.split_once('/') else { return false };
    let (Ok(base), Ok(bits)) = (base.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    match (base, address) {
        (IpAddr::V4(base), IpAddr::V4(address)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            u32::from(base) & mask == u32::from(address) & mask
        }
        (IpAddr::V6(base), IpAddr::V6(address)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            u128::from(base) & mask == u128::from(address) & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(settings: &RegistrySettings, domain: &str) -> Vec<String> {
        endpoints(settings, domain, true).unwrap().iter().map(|endpoint| endpoint.url(&endpoint.prefix)).collect()
    }

    #[test]
    fn mirrors_come_first_and_only_for_the_hub() {
        let mirrors = vec!["https://m.example/hub/".to_owned()];
        let settings = RegistrySettings { mirrors, ..RegistrySettings::default() };
        assert_eq!(urls(&settings, "docker.io"), ["https://m.example/hub", "https://registry-1.docker.io"]);
        assert_eq!(urls(&settings, "r.example"), ["https://r.example"]);
    }

    #[test]
    fn only_insecure_registries_fall_back_to_http() {
        let insecure = vec!["r.example:5000".to_owned(), "10.1.0.0/16".to_owned()];
        let settings = RegistrySettings { insecure, ..RegistrySettings::default() };
        assert_eq!(urls(&settings, "r.example:5000"), ["https://r.example:5000", "http://r.example:5000"]);
        assert_eq!(urls(&settings, "10.1.2.3"), ["https://10.1.2.3", "http://10.1.2.3"]);
        assert_eq!(urls(&settings, "10.2.2.3"), ["https://10.2.2.3"]);
        assert_eq!(urls(&settings, "r.example"), ["https://r.example"]);
        assert_eq!(urls(&settings, "localhost:5000"), ["https://localhost:5000", "http://localhost:5000"]);
        assert_eq!(urls(&settings, "[::1]:5000").len(), 2);
    }

    #[test]
    fn servers_of_logins_are_domains() {
        for (server, domain) in [
            ("", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("r.example:5000", "r.example:5000"),
            ("https://r.example/v2/", "r.example"),
        ] {
            assert_eq!(domain_of_server(server), domain);
        }
    }
}
