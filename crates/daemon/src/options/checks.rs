//! Options whose words must make sense before anything starts, as dockerd checks them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::OptionError;

fn wrong(flag: &str, value: &str, reason: impl Into<String>) -> OptionError {
    OptionError::value(&format!("--{flag}"), value, reason)
}

/// Name servers of containers are addresses.
pub(super) fn dns(servers: Vec<String>) -> Result<Vec<String>, OptionError> {
    match servers.iter().find(|server| server.parse::<IpAddr>().is_err()) {
        Some(server) => Err(wrong("dns", server, "expected an IP address")),
        None => Ok(servers),
    }
}

/// Labels are `KEY=VALUE`, and a key has one value.
pub(super) fn labels(labels: Vec<String>) -> Result<Vec<String>, OptionError> {
    let mut known = BTreeMap::new();
    for label in &labels {
        let (key, value) = label.split_once('=').unwrap_or_default();
        if key.is_empty() {
            return Err(wrong("label", label, "expected KEY=VALUE"));
        }
        if let Some(other) = known.insert(key, value).filter(|other| *other != value) {
            return Err(wrong("label", label, format!("in conflict with {key}={other}")));
        }
    }
    Ok(labels)
}

/// Mirrors are addresses with a scheme, and with nothing after their path.
pub(super) fn mirrors(mirrors: Vec<String>) -> Result<Vec<String>, OptionError> {
    for mirror in &mirrors {
        let refuse = |reason: &str| wrong("registry-mirror", mirror, reason);
        let rest = ["https://", "http://"].iter().find_map(|scheme| mirror.strip_prefix(scheme));
        let rest = rest.ok_or_else(|| refuse("must use either 'https://' or 'http://'"))?;
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if host.is_empty() {
            return Err(refuse("it names no host"));
        }
        if rest.contains(['?', '#']) {
            return Err(refuse("query or fragment at end of the URI"));
        }
        if host.contains('@') {
            // The password stays out of the message.
            return Err(wrong("registry-mirror", "***", "username/password not allowed in URI"));
        }
    }
    Ok(mirrors)
}

/// A number that may not be negative; none or zero is the default.
pub(super) fn number(flag: &str, text: Option<&str>) -> Result<Option<u32>, OptionError> {
    let read = |text: &str| text.parse().map_err(|_| wrong(flag, text, "expected a number from 0"));
    Ok(text.map(read).transpose()?.filter(|number| *number != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Check = fn(Vec<String>) -> Result<Vec<String>, OptionError>;

    #[test]
    fn what_makes_no_sense_is_refused() {
        let check = |check: Check, words: &[&str]| {
            check(words.iter().map(|word| (*word).to_owned()).collect()).map_err(|error| error.to_string())
        };
        for (good, words) in [
            (dns as Check, &["1.1.1.1", "fd00::1"][..]),
            (labels, &["a=b", "c=", "d=e=f", "a=b"]),
            (mirrors, &["https://m.example", "http://127.0.0.1:5000/hub/"]),
        ] {
            assert!(check(good, words).is_ok(), "{words:?}");
        }
        for (bad, words, reason) in [
            (dns as Check, &["1.1.1.1", "x"][..], "invalid argument \"x\" for --dns: expected an IP address"),
            (labels, &["a"], "invalid argument \"a\" for --label: expected KEY=VALUE"),
            (labels, &["=a"], "invalid argument \"=a\" for --label: expected KEY=VALUE"),
            (labels, &["a=1", "a=2"], "invalid argument \"a=2\" for --label: in conflict with a=1"),
            (mirrors, &["m.example"], "must use either 'https://' or 'http://'"),
            (mirrors, &["https://"], "it names no host"),
            (mirrors, &["https://m/?a"], "query or fragment at end of the URI"),
            (mirrors, &["https://me:secret@m"], "invalid argument \"***\" for --registry-mirror: username/password"),
        ] {
            let error = check(bad, words).unwrap_err();
            assert!(error.contains(reason) && !error.contains("secret"), "{words:?}: {error}");
        }
    }

    #[test]
    fn numbers_are_not_negative() {
        assert_eq!((number("mtu", None), number("mtu", Some("0"))), (Ok(None), Ok(None)));
        assert_eq!(number("mtu", Some("1400")), Ok(Some(1400)));
        let error = number("mtu", Some("-1")).unwrap_err().to_string();
        assert_eq!(error, "invalid argument \"-1\" for --mtu: expected a number from 0");
    }
}
