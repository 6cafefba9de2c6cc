//! Which proxy a connection goes through, by the rules that Go's programs and so dockerd have.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::endpoint::{Endpoint, InvalidSetting, in_range, split_port};

/// Proxies as `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` name them; empty for none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For addresses that begin with `http://`.
    pub http: String,
    /// For addresses that begin with `https://`.
    pub https: String,
    /// Names, address ranges and ports that are reached without a proxy, with commas between them.
    pub no: String,
}

impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = self.masked();
        f.debug_struct("Proxies").field("http", &shown.http).field("https", &shown.https).field("no", &self.no).finish()
    }
}

/// A proxy to connect to.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    pub(super) https: bool,
    pub(super) host: String,
    pub(super) port: u16,
    /// `Proxy-Authorization`.
    pub(super) authorization: Option<String>,
}

impl Proxy {
    /// The proxy itself as a place to connect to.
    pub(super) fn endpoint(&self) -> Endpoint {
        let (https, host, port) = (self.https, self.host.clone(), self.port);
        Endpoint { https, host, port, prefix: String::new(), any_certificate: false, mirror: false }
    }
}

impl Proxies {
    /// The proxies with user and password made unreadable, as `docker info` shows them.
    pub fn masked(&self) -> Self {
        self.with_user("xxxxx:xxxxx@")
    }

    /// The proxies as a host below may use them: without user and password, which it could read on the way, and without
    /// those on a loopback address, which is not its own.
    pub fn for_host_below(&self) -> Self {
        let reachable = |text: String| match parse(&text) {
            Ok(proxy) if !is_loopback(&proxy.host) => text,
            _ => String::new(),
        };
        let bare = self.with_user("");
        Self { http: reachable(bare.http), https: reachable(bare.https), no: bare.no }
    }

    fn with_user(&self, user: &str) -> Self {
        let changed = |text: &str| {
            let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let Some(at) = rest[..end].rfind('@') else { return text.to_owned() };
            let joint = if scheme.is_empty() { "" } else { "://" };
            format!("{scheme}{joint}{user}{}", &rest[at + 1..])
        };
        Self { http: changed(&self.http), https: changed(&self.https), no: self.no.clone() }
    }

    /// Checks what can be checked before anybody connects.
    pub fn check(&self) -> Result<(), InvalidSetting> {
        for text in [&self.http, &self.https] {
            if !text.is_empty() {
                parse(text)?;
            }
        }
        Ok(())
    }

    /// The proxy for an address, if it is to be reached through one.
    pub(super) fn choose(&self, endpoint: &Endpoint) -> Result<Option<Proxy>, InvalidSetting> {
        let text = if endpoint.https { &self.https } else { &self.http };
        if text.is_empty() || is_loopback(&endpoint.host) || self.excludes(&endpoint.host, endpoint.port) {
            return Ok(None);
        }
        parse(text).map(Some)
    }

    fn excludes(&self, host: &str, port: u16) -> bool {
        let host = host.to_lowercase();
        self.no.split(',').map(|item| item.trim().to_lowercase()).any(|item| excludes(&item, &host, port))
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether one item of `NO_PROXY` fits: `*`, a range, an address or a name, the latter two with or without a port.
fn excludes(item: &str, host: &str, port: u16) -> bool {
    if item.is_empty() {
        return false;
    }
    if item == "*" {
        return true;
    }
    let address = host.parse::<IpAddr>().ok();
    if item.contains('/') {
        return address.is_some_and(|address| in_range(item, address));
    }
    if let Ok(own) = item.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return address == Some(own);
    }
    let Some((name, own_port)) = split_port(item, port) else { return false };
    if own_port != port {
        return false;
    }
    if let Ok(own) = name.parse::<IpAddr>() {
        return address == Some(own);
    }
    let name = name.strip_prefix('*').unwrap_or(&name);
    match name.strip_prefix('.') {
        // Names below it, and not itself.
        Some(_) => host.ends_with(name),
        None => host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')),
    }
}

fn parse(text: &str) -> Result<Proxy, InvalidSetting> {
    // The value may hold a password.
    let invalid = |reason| {
        let shown = Proxies { http: text.to_owned(), ..Proxies::default() }.masked().http;
        InvalidSetting { setting: "proxy", value: shown, reason }
    };
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let https = match scheme {
        "http" => false,
        "https" => true,
        _ => return Err(invalid("only http and https proxies are supported")),
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let (user, place) = authority.rsplit_once('@').map_or((None, authority), |(user, place)| (Some(user), place));
    let (host, port) = split_port(place, if https { 443 } else { 80 }).ok_or_else(|| invalid("no host and port"))?;
    if host.is_empty() {
        return Err(invalid("no host and port"));
    }
    let authorization = user.map(|user| {
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        format!("Basic {}", STANDARD.encode([&unescape(name), &b":"[..], &unescape(password)].concat()))
    });
    Ok(Proxy { https, host, port, authorization })
}

/// Resolves `%41` and its like.
fn unescape(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((byte, tail)) = rest.split_first() {
        let code = tail.get(..2).filter(|_| *byte == b'%').and_then(|code| std::str::from_utf8(code).ok());
        let (value, after) = match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(value) => (value, &tail[2..]),
            None => (*byte, tail),
        };
        out.push(value);
        rest = after;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> Endpoint {
        Endpoint::parse_url(url).unwrap().0
    }

    fn proxies(no: &str) -> Proxies {
        Proxies { http: "http://plain:3128".into(), https: "me:p%40ss@secure:3129".into(), no: no.into() }
    }

    fn goes_through(no: &str, url: &str) -> bool {
        proxies(no).choose(&endpoint(url)).unwrap().is_some()
    }

    #[test]
    fn each_scheme_has_its_own() {
        let plain = proxies("").choose(&endpoint("http://r.example/v2/")).unwrap().unwrap();
        assert_eq!((plain.host.as_str(), plain.port, plain.authorization), ("plain", 3128, None));
        let secure = proxies("").choose(&endpoint("https://r.example/v2/")).unwrap().unwrap();
        assert_eq!((secure.host.as_str(), secure.port, secure.https), ("secure", 3129, false));
        assert_eq!(secure.authorization.unwrap(), format!("Basic {}", STANDARD.encode("me:p@ss")));
        assert!(Proxies::default().choose(&endpoint("https://r.example")).unwrap().is_none());
    }

    #[test]
    fn some_places_are_reached_without() {
        for (no, url, through) in [
            ("", "http://localhost:5000", false),
            ("", "http://127.3.0.1:5000", false),
            ("", "https://[::1]:5000", false),
            ("*", "https://r.example", false),
            ("other.example,r.example", "https://r.example", false),
            (" R.Example ", "https://r.example", false),
            ("example", "https://r.example", false),
            ("xample", "https://r.example", true),
            (".example", "https://r.example", false),
            (".r.example", "https://r.example", true),
            ("*.example", "https://r.example", false),
            ("r.example:443", "https://r.example", false),
            ("r.example:5000", "https://r.example", true),
            ("10.0.0.0/8", "https://10.1.2.3", false),
            ("10.0.0.0/8", "https://11.1.2.3", true),
            ("10.1.2.3", "http://10.1.2.3:5000", false),
            ("10.1.2.3:80", "http://10.1.2.3:5000", true),
            ("", "http://10.1.2.3:5000", true),
        ] {
            assert_eq!(goes_through(no, url), through, "{no:?} {url}");
        }
    }

    #[test]
    fn passwords_are_masked_and_do_not_go_below() {
        let shown = proxies("a").masked();
        assert_eq!(shown.https, "xxxxx:xxxxx@secure:3129");
        assert_eq!(shown.http, "http://plain:3128");
        assert!(!format!("{:?}", proxies("")).contains("p%40ss"));
        let below = Proxies { http: "http://127.0.0.1:3128".into(), ..proxies("a") }.for_host_below();
        assert_eq!((below.http.as_str(), below.https.as_str(), below.no.as_str()), ("", "secure:3129", "a"));
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_its_password() {
        for text in ["socks5://me:secret@p:1", "http://", "http://p:port", "ftp://p"] {
            let error = Proxies { http: text.into(), ..Proxies::default() }.check().unwrap_err().to_string();
            assert!(error.starts_with("invalid proxy") && !error.contains("secret"), "{error}");
        }
    }
}
